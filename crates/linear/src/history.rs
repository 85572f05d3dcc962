//! What clients asked and were told, and when. Written by whoever runs the clients: a simulator with its own
//! time, or a test of real processes that reads a clock.

use std::collections::BTreeMap;
use std::fmt;

/// An operation of a history. Ids are given in the order of the calls of [`History::invoke`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OpId(usize);

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// What a client asked, and what it was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation<I, O> {
    /// Who asked.
    pub client: u64,
    /// What.
    pub input: I,
    /// When: the operation has not taken effect before.
    pub called: u64,
    /// What it was told. Without an answer nobody knows whether the operation takes effect, and when.
    pub answer: Option<Answer<O>>,
}

impl<I, O> Operation<I, O> {
    /// What the client was told, if it was.
    pub fn output(&self) -> Option<&O> {
        self.answer.as_ref().map(|answer| &answer.output)
    }

    /// When the client was told: the operation has taken effect by then.
    pub fn returned(&self) -> Option<u64> {
        self.answer.as_ref().map(|answer| answer.at)
    }
}

/// What a client was told, and when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer<O> {
    /// What.
    pub output: O,
    /// When.
    pub at: u64,
}

/// What all clients asked and were told.
///
/// Times are numbers on any one scale that never runs backwards. The operations may be recorded in any order, so
/// clients with books of their own can be copied in one after the other. Where an answer and another client's
/// call have the same time, either may have been first; one client's own are taken in the order recorded.
///
/// An operation that is neither [completed](History::complete) nor [withdrawn](History::withdraw) is of unknown
/// outcome, and a client that has given up on one may go on with the next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History<I, O> {
    operations: BTreeMap<OpId, Operation<I, O>>,
    /// Also counts what was withdrawn, so that no id is given twice.
    next_id: usize,
}

impl<I, O> Default for History<I, O> {
    fn default() -> Self {
        Self::new()
    }
}

impl<I, O> History<I, O> {
    /// A history in which nothing was asked.
    pub fn new() -> Self {
        Self { operations: BTreeMap::new(), next_id: 0 }
    }

    /// `client` asks for `input`. To be read from the clock before the request leaves.
    pub fn invoke(&mut self, client: u64, input: I, at: u64) -> OpId {
        let id = OpId(self.next_id);
        self.next_id += 1;
        self.operations.insert(id, Operation { client, input, called: at, answer: None });
        id
    }

    /// The client of `id` is told `output`. To be read from the clock when the answer has come.
    pub fn complete(&mut self, id: OpId, output: O, at: u64) {
        let operation = self.operations.get_mut(&id).expect("only an operation that was invoked is answered");
        assert!(operation.answer.is_none(), "{id} is answered once");
        assert!(operation.called <= at, "{id} is answered at {at}, before its call at {}", operation.called);
        operation.answer = Some(Answer { output, at });
    }

    /// `id` has certainly not taken effect, and never will: it is as if it had not been asked.
    pub fn withdraw(&mut self, id: OpId) {
        let operation = self.operations.remove(&id).expect("only an operation that was invoked is withdrawn");
        assert!(operation.answer.is_none(), "{id} was answered, so it has happened");
    }

    /// The operations, in the order in which they were recorded.
    pub fn operations(&self) -> impl Iterator<Item = (OpId, &Operation<I, O>)> {
        self.operations.iter().map(|(&id, operation)| (id, operation))
    }

    /// One operation, which was invoked here and not withdrawn.
    pub fn operation(&self, id: OpId) -> &Operation<I, O> {
        self.operations.get(&id).expect("an operation of this history")
    }
}

#[cfg(test)]
mod tests;

//! What clients are told (SOURCES L1, M3, M4): acknowledged writes are present, nothing is executed twice or
//! after it was said to be certainly not done, and every answer is linearizable (Herlihy and Wing, 1990).
//!
//! To check a history for linearizability is hard in general, because nobody says in which order things
//! happened. Here the log says: an operation happens at the index of its entry, a read at the applied index
//! of the state it was answered from. What is left to check is that this order contains real time (an
//! operation that begins after another was answered comes behind it), and that every answer is the one that
//! the model gives at that index.

use std::collections::BTreeMap;

use bytes::Bytes;
use tenure_raft::{NodeId, Payload};
use tenure_replica::Failure;
use tenure_store::{Command, Event, Rejection, Response, Snapshot};

use super::addresses::Addresses;
use super::model::Model;
use super::{Verdict, Violation, require};
use crate::outcome::{Change, Outcome, Pair, change_of, outcome_of, view_of};

pub(crate) use crate::action::{Action, OperationId};

const ACKNOWLEDGED: &str = "acknowledged writes are present";
const ONCE: &str = "nothing is executed twice or after a refusal";
const LINEARIZABLE: &str = "linearizability";
/// Before the store's bytes, an entry says who waits for it (see `tenure_replica`).
const ORIGIN_BYTES: usize = 24;

/// What a client may still hope for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// It was sent, and may be executed.
    Open,
    /// The client was told that it is certainly not done.
    Refused,
}

#[derive(Debug)]
struct Operation {
    action: Action,
    /// The latest index that any answer had shown when this operation began.
    floor: u64,
    stage: Stage,
    executed: Option<(u64, Outcome)>,
}

/// What a client is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Done {
        /// Where in the log's order it happened, if that is known.
        index: Option<u64>,
        /// The store's revision then.
        revision: i64,
        /// What the key was then, if it was about one key.
        pair: Option<Pair>,
    },
    /// Certainly not done.
    NotDone,
    /// Done or not.
    Unknown,
}

/// Every operation of a run.
#[derive(Debug)]
pub(crate) struct Operations {
    each: Vec<Operation>,
    by_command: BTreeMap<Bytes, OperationId>,
    model: Model,
    /// The latest index that any answer has shown.
    shown: u64,
    value_bytes: usize,
    /// Which compaction was told that it has forgotten history up to where.
    compacted: BTreeMap<i64, OperationId>,
    /// Where the members are reached.
    pub(crate) addresses: Addresses,
}

impl Operations {
    pub(crate) fn new(value_bytes: usize) -> Operations {
        Operations {
            each: Vec::new(),
            by_command: BTreeMap::new(),
            model: Model::new(),
            shown: 0,
            value_bytes,
            compacted: BTreeMap::new(),
            addresses: Addresses::default(),
        }
    }

    // ---- Clients ------------------------------------------------------------------------------------

    /// A client begins an operation; if it is a write, this is the command.
    pub(crate) fn begin(&mut self, action: Action) -> (OperationId, Option<Command>) {
        let id = OperationId(self.each.len() as u32);
        let command = action.to_command(id, self.value_bytes);
        if let Some(command) = command.as_ref().filter(|_| action.is_unique()) {
            let mut bytes = Vec::with_capacity(64);
            command.encode(&mut bytes);
            self.by_command.insert(bytes.into(), id);
        }
        let (floor, stage) = (self.shown, Stage::Open);
        self.each.push(Operation { action, floor, stage, executed: None });
        (id, command)
    }

    /// A client sends again what was certainly not done.
    pub(crate) fn again(&mut self, id: OperationId) -> Option<Command> {
        let operation = &mut self.each[id.0 as usize];
        operation.stage = Stage::Open;
        operation.action.to_command(id, self.value_bytes)
    }

    /// The request never reached a member.
    pub(crate) fn not_delivered(&mut self, id: OperationId) {
        self.each[id.0 as usize].stage = Stage::Refused;
    }

    /// A client has received an answer: whatever begins from now on comes behind it.
    pub(crate) fn on_received(&mut self, id: OperationId, answer: Answer) {
        if let Answer::Done { index: Some(index), .. } = answer
            && self.each[id.0 as usize].action.is_linearizable()
        {
            self.shown = self.shown.max(index);
        }
    }

    /// What an operation asks for.
    pub(crate) fn action(&self, id: OperationId) -> Action {
        self.each[id.0 as usize].action
    }

    // ---- The log ------------------------------------------------------------------------------------

    /// The entry at the next index is committed.
    pub(crate) fn on_committed(&mut self, index: u64, payload: &Payload) -> Verdict {
        assert_eq!(index, self.model.last_index() + 1, "the log is executed in order");
        let Payload::Command(bytes) = payload else {
            self.model.skip();
            return Ok(());
        };
        let command = bytes.get(ORIGIN_BYTES..).unwrap_or_default();
        match self.by_command.get(command) {
            Some(&id) => self.execute(index, id),
            None => self.execute_other(index, &bytes.slice(ORIGIN_BYTES.min(bytes.len())..)),
        }
    }

    fn execute(&mut self, index: u64, id: OperationId) -> Verdict {
        let operation = &mut self.each[id.0 as usize];
        require(ONCE, operation.executed.is_none(), || {
            let (before, _) = operation.executed.expect("the rule was broken");
            format!("{id} ({:?}) is executed at {before} and again at {index}", operation.action)
        })?;
        require(ONCE, operation.stage == Stage::Open, || {
            format!("{id} ({:?}) is executed at {index}, after it was certainly not done", operation.action)
        })?;
        operation.executed = Some((index, self.model.execute(operation.action, id)));
        Ok(())
    }

    /// Commands that are not told apart: compactions, and what members say of themselves.
    fn execute_other(&mut self, index: u64, command: &Bytes) -> Verdict {
        match Command::decode(command) {
            Ok(Command::Compact { revision, .. }) => {
                self.model.compact(revision);
                Ok(())
            }
            Ok(Command::SetPeerUrls { id, peer_urls }) => {
                self.addresses.on_written(index, id, peer_urls);
                self.model.skip();
                Ok(())
            }
            Ok(Command::PublishMember(member)) => {
                self.addresses.on_published(index, member.id, member.peer_urls);
                self.model.skip();
                Ok(())
            }
            Ok(Command::Put(_) | Command::DeleteRange(_) | Command::Txn(_)) | Err(_) => {
                let cause = format!("{index} holds a command that nobody sent: {}", command.escape_ascii());
                Err(Violation { judge: ACKNOWLEDGED, cause })
            }
        }
    }

    // ---- Answers ------------------------------------------------------------------------------------

    /// A member answers a write.
    pub(crate) fn on_write_answered(
        &mut self,
        id: OperationId,
        result: &Result<Response, Rejection>,
        revision: i64,
    ) -> Verdict<Answer> {
        let operation = &self.each[id.0 as usize];
        if let Action::Compact { revision: wanted } = operation.action {
            let fits = matches!(result, Ok(Response::Compact) | Err(Rejection::Compacted));
            // Either answer says that what is older is forgotten, by this compaction or by one before it.
            let is_forgotten = self.model.compact_revision() >= wanted;
            // Only one of them is told that it was the one.
            let is_first = result.is_err()
                || (self.model.was_compacted_at(wanted) && *self.compacted.entry(wanted).or_insert(id) == id);
            require(ACKNOWLEDGED, fits && is_forgotten && is_first && revision >= wanted, || {
                format!(
                    "{id} ({:?}) is answered {result:?} at revision {revision}; compacted is {}",
                    operation.action,
                    self.model.compact_revision()
                )
            })?;
            return Ok(Answer::Done { index: None, revision, pair: None });
        }
        require(ACKNOWLEDGED, operation.executed.is_some(), || {
            format!("{id} ({:?}) is acknowledged and not committed", operation.action)
        })?;
        let (index, expected) = operation.executed.expect("just checked");
        let told = outcome_of(operation.action, result, revision);
        require(LINEARIZABLE, told == Some(expected) && revision == expected.revision(), || {
            format!("{id} ({:?}) at {index} is answered {result:?}, not {expected:?}", operation.action)
        })?;
        check_real_time(id, operation, index)?;
        let pair = operation.action.key().and_then(|key| self.model.pair_at(key, index));
        Ok(Answer::Done { index: Some(index), revision, pair })
    }

    /// A member answers a read from this state.
    pub(crate) fn on_read_answered(&mut self, id: OperationId, state: &Snapshot) -> Verdict<Answer> {
        let operation = &self.each[id.0 as usize];
        let action = operation.action;
        let index = state.applied_index();
        require(LINEARIZABLE, index <= self.model.last_index(), || {
            format!("{id} ({action:?}) is answered at {index}, which is not committed")
        })?;
        let range = action.to_range().expect("reads have a range");
        let told = state.range(&range).map(|response| view_of(&response));
        let expected = self.model.view(action, index).map(Some);
        require(LINEARIZABLE, told == expected, || {
            format!("{id} ({action:?}) at {index} is answered {told:?}, not {expected:?}")
        })?;
        if action.is_linearizable() {
            check_real_time(id, operation, index)?;
        }
        let revision = state.revision();
        let pair = expected.ok().flatten().and_then(|seen| seen.pairs.first().copied()).map(|(_, pair)| pair);
        Ok(Answer::Done { index: Some(index), revision, pair })
    }

    /// A member did not answer.
    pub(crate) fn on_failed(&mut self, id: OperationId, failure: Failure) -> Verdict<Answer> {
        let operation = &mut self.each[id.0 as usize];
        if !failure.is_certainly_not_done() {
            return Ok(Answer::Unknown);
        }
        require(ONCE, operation.executed.is_none(), || {
            let (index, _) = operation.executed.expect("the rule was broken");
            format!("{id} ({:?}) was executed at {index}, and fails with {failure:?}", operation.action)
        })?;
        operation.stage = Stage::Refused;
        Ok(Answer::NotDone)
    }

    /// How many operations there were, and how many writes were executed.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let executed = self.each.iter().filter(|operation| operation.executed.is_some()).count();
        (self.each.len(), executed)
    }

    /// Compares all keys of a member's state, and all changes that it still knows, with the model.
    pub(crate) fn check_state(&self, member: NodeId, state: &Snapshot) -> Verdict {
        let range = Action::GetAll.to_range().expect("reads have a range");
        let told = state.range(&range).map(|response| view_of(&response));
        let expected = self.model.view(Action::GetAll, state.applied_index()).map(Some);
        require(ACKNOWLEDGED, told == expected, || {
            format!("{member} holds {told:?} at {}, not {expected:?}", state.applied_index())
        })?;
        let since = state.compact_revision().max(1);
        let told = state.changes(since + 1).ok().and_then(changes_of);
        let expected = Some(self.model.changes_behind(since, state.applied_index()));
        require(ACKNOWLEDGED, told == expected, || {
            format!("{member} says that what happened since {since} is {told:?}, not {expected:?}")
        })
    }
}

/// What a history tells, by revision and key; none if it tells what nobody asked for, or not one after the other.
fn changes_of(events: impl Iterator<Item = Event>) -> Option<Vec<Change>> {
    let mut changes = events.map(|event| change_of(&event)).collect::<Option<Vec<_>>>()?;
    let is_in_order = changes.is_sorted_by_key(|&(revision, ..)| revision);
    // Within a revision they come in the order of the operations, which the model does not know.
    changes.sort_by_key(|&(revision, key, _)| (revision, key));
    is_in_order.then_some(changes)
}

/// Linearizability's one demand beyond a sequential order: it contains real time.
fn check_real_time(id: OperationId, operation: &Operation, index: u64) -> Verdict {
    require(LINEARIZABLE, index >= operation.floor, || {
        format!(
            "{id} ({:?}) happens at {index}, and began when {} had been shown",
            operation.action, operation.floor
        )
    })
}

#[cfg(test)]
mod tests {
    use tenure_store::Store;

    use super::*;

    /// A store and the judge, side by side.
    struct Fixture {
        operations: Operations,
        store: Store,
        index: u64,
    }

    impl Fixture {
        fn new() -> Fixture {
            Fixture { operations: Operations::new(8), store: Store::new(), index: 0 }
        }

        fn commit(&mut self, command: &Command) -> (Verdict, tenure_store::Applied) {
            let mut bytes = vec![0; ORIGIN_BYTES];
            command.encode(&mut bytes);
            self.index += 1;
            let verdict = self.operations.on_committed(self.index, &Payload::Command(bytes.into()));
            (verdict, self.store.apply(self.index, command))
        }

        fn put(&mut self) -> (OperationId, Command) {
            let (id, command) = self.operations.begin(Action::Put { key: 0 });
            (id, command.unwrap())
        }

        /// A write, from call to answer.
        fn done(&mut self) {
            let (id, command) = self.put();
            let (verdict, applied) = self.commit(&command);
            verdict.unwrap();
            let answer = self.operations.on_write_answered(id, &applied.result, applied.revision).unwrap();
            self.operations.on_received(id, answer);
        }
    }

    fn judge<T: std::fmt::Debug>(verdict: Verdict<T>) -> &'static str {
        verdict.unwrap_err().judge
    }

    #[test]
    fn an_acknowledgement_of_what_is_not_committed_is_seen() {
        let mut fixture = Fixture::new();
        let (id, command) = fixture.put();
        let answer = fixture.store.apply(1, &command);
        assert_eq!(
            judge(fixture.operations.on_write_answered(id, &answer.result, answer.revision)),
            ACKNOWLEDGED
        );
    }

    #[test]
    fn a_second_execution_is_seen() {
        let mut fixture = Fixture::new();
        let (_, command) = fixture.put();
        fixture.commit(&command).0.unwrap();
        assert_eq!(judge(fixture.commit(&command).0), ONCE);
    }

    #[test]
    fn an_execution_after_a_refusal_and_a_refusal_after_an_execution_are_seen() {
        let mut fixture = Fixture::new();
        let (id, command) = fixture.put();
        let refused = fixture.operations.on_failed(id, Failure::NoLeader);
        assert_eq!(refused, Ok(Answer::NotDone));
        assert_eq!(judge(fixture.commit(&command).0), ONCE);

        let mut fixture = Fixture::new();
        let (id, command) = fixture.put();
        fixture.commit(&command).0.unwrap();
        assert_eq!(fixture.operations.on_failed(id, Failure::TimedOut), Ok(Answer::Unknown));
        assert_eq!(judge(fixture.operations.on_failed(id, Failure::LeaderChanged)), ONCE);
    }

    #[test]
    fn another_clients_answer_is_seen() {
        let mut fixture = Fixture::new();
        let ((one, first), (_, second)) = (fixture.put(), fixture.put());
        fixture.commit(&first).0.unwrap();
        let (_, other) = fixture.commit(&second);
        assert_eq!(
            judge(fixture.operations.on_write_answered(one, &other.result, other.revision)),
            LINEARIZABLE
        );
    }

    #[test]
    fn a_stale_read_is_seen_and_one_that_began_before_is_none() {
        let mut fixture = Fixture::new();
        fixture.done();
        let before = fixture.store.snapshot();
        let (early, _) = fixture.operations.begin(Action::Get { key: 0 });
        fixture.done();
        let (late, _) = fixture.operations.begin(Action::Get { key: 0 });
        let (allowed, _) = fixture.operations.begin(Action::GetStale { key: 0 });
        fixture.operations.on_read_answered(early, &before).unwrap();
        fixture.operations.on_read_answered(allowed, &before).unwrap();
        assert_eq!(judge(fixture.operations.on_read_answered(late, &before)), LINEARIZABLE);
    }

    #[test]
    fn a_state_that_the_log_does_not_give_is_seen() {
        let mut fixture = Fixture::new();
        fixture.done();
        let mut other = Store::new();
        let command = Action::Put { key: 1 }.to_command(OperationId(0), 8).unwrap();
        let _ = other.apply(1, &command);
        let (id, _) = fixture.operations.begin(Action::GetAll);
        assert_eq!(judge(fixture.operations.on_read_answered(id, &other.snapshot())), LINEARIZABLE);
        let member = NodeId::new(1).unwrap();
        assert_eq!(judge(fixture.operations.check_state(member, &other.snapshot())), ACKNOWLEDGED);
    }

    #[test]
    fn a_compaction_that_is_acknowledged_and_not_committed_is_seen() {
        let mut fixture = Fixture::new();
        fixture.done();
        let (id, command) = fixture.operations.begin(Action::Compact { revision: 2 });
        let told = Ok(Response::Compact);
        assert_eq!(judge(fixture.operations.on_write_answered(id, &told, 2)), ACKNOWLEDGED);
        fixture.commit(&command.unwrap()).0.unwrap();
        assert!(fixture.operations.on_write_answered(id, &told, 2).is_ok());
        let (again, _) = fixture.operations.begin(Action::Compact { revision: 2 });
        assert_eq!(judge(fixture.operations.on_write_answered(again, &told, 2)), ACKNOWLEDGED);
    }

    #[test]
    fn a_command_that_nobody_sent_is_seen() {
        let mut fixture = Fixture::new();
        let command = Action::Put { key: 1 }.to_command(OperationId(9), 8).unwrap();
        assert_eq!(judge(fixture.commit(&command).0), ACKNOWLEDGED);
    }
}

//! The search for an order, in one partition: depth first, by Wing and Gong's rule, remembering what was tried.
//!
//! - *The next operation* of an order is one that was called before any other that is still without a place
//!   was answered (J. Wing and C. Gong, *Testing and verifying concurrent objects*, 1993). Those without an
//!   answer come last: most of them are not needed, and those that are left at the end have never happened.
//! - *What was tried* is a configuration: the operations that have a place, and the state they led to. However
//!   one came to it, the rest is the same (G. Lowe, *Testing for linearizability*, 2017).
//! - *Fewer unknown operations are better.* A configuration is passed over if one was visited with the same answered
//!   operations and state that had used a subset of its unanswered ones: it can do all that this one can.
//! - *Equal unknown operations* are interchangeable, so the one that was called first is used first.
//! - *A read that fits is done at once.* An answered operation that changes no state can stand in front of every
//!   order from here, since those behind it see what they saw; nothing else has to be tried. (A write that
//!   changes nothing here may be needed where it does.) An unanswered one that changes nothing is not tried.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::bitset::BitSet;
use crate::{HistoryOf, Model, OpId, Operation};

/// How a search has ended.
pub(crate) enum Outcome {
    /// With an order of all answered operations, and of those unanswered that were needed.
    Found(Vec<OpId>),
    /// Without: there is no such order.
    Exhausted {
        /// The order that gave a place to the most answered operations.
        longest: Vec<OpId>,
        /// The first that would have to be next, by the time it was answered, and cannot.
        stuck: OpId,
    },
    /// It was given up.
    BudgetSpent,
}

/// An operation, as the search needs it. It goes by its position in [`Search::entries`].
struct Entry<'h, M: Model> {
    id: OpId,
    operation: &'h Operation<M::Input, M::Output>,
    /// What its client was told of at the very time of this call: it is before, though times do not say so.
    follows: Option<usize>,
    /// Of an unanswered operation, the last of these with the same input that was called earlier.
    twin: Option<usize>,
}

/// Besides the answered operations, what has been given a place, and the state that all this has led to.
struct Choice<S> {
    /// Positions of unanswered operations, counted from the first of them.
    unanswered: BitSet,
    /// Those placed since the last answered one, in order.
    run: Vec<usize>,
    state: Rc<S>,
}

/// A set of answered operations that have a place, which was the last of them, and what may be next.
struct Frame<S> {
    placed: Option<usize>,
    answered: BitSet,
    /// The first answer among the operations without a place, and whose: what is called later is not next.
    deadline: Option<(u64, usize)>,
    /// The first is tried, and adds those with one more unanswered operation: so fewer come before more.
    choices: VecDeque<Choice<S>>,
    /// The next entry to try.
    cursor: usize,
}

pub(crate) struct Search<'h, M: Model> {
    model: &'h M,
    /// Those with an answer, by their calls; then those without, by their calls.
    entries: Vec<Entry<'h, M>>,
    answered_count: usize,
    /// The configurations that were visited: by answered operations and state, which unanswered ones had been
    /// used. No set has another as a subset.
    visited: BTreeMap<(BitSet, Rc<M::State>), Vec<BitSet>>,
    /// Applications of the model, and comparisons of sets, which are work as well.
    steps: u64,
    /// The longest order so far that could not be continued, how many answered operations it has, and what was
    /// stuck there.
    longest: Option<(usize, Vec<OpId>, OpId)>,
}

impl<'h, M: Model> Search<'h, M> {
    pub(crate) fn new(model: &'h M, history: &'h HistoryOf<M>, ids: &[OpId]) -> Self {
        let entry = |&id| Entry { id, operation: history.operation(id), follows: None, twin: None };
        let mut entries: Vec<Entry<'h, M>> = ids.iter().map(entry).collect();
        entries.sort_by_key(|entry| (entry.operation.answer.is_none(), entry.operation.called, entry.id));
        let answered_count = entries.iter().filter(|entry| entry.operation.answer.is_some()).count();
        link_clients(&mut entries);
        link_twins(&mut entries[answered_count..]);
        Self { model, entries, answered_count, visited: BTreeMap::new(), steps: 0, longest: None }
    }

    /// Searches, for at most `max_steps`.
    pub(crate) fn run(mut self, max_steps: u64) -> Outcome {
        let state = Rc::new(self.model.initial());
        let start = Choice { unanswered: BitSet::default(), run: Vec::new(), state };
        let mut path = vec![self.frame(None, BitSet::default(), start)];
        while let Some(frame) = path.last_mut() {
            if frame.deadline.is_none() {
                return Outcome::Found(self.order(&path));
            }
            let Some(position) = self.next_candidate(frame) else {
                frame.choices.pop_front();
                frame.cursor = frame.answered.first_absent();
                if frame.choices.is_empty() {
                    self.note_dead_end(&path);
                    path.pop();
                }
                continue;
            };
            if self.steps >= max_steps {
                return Outcome::BudgetSpent;
            }
            self.steps += 1;
            let next = self.place(frame, position);
            path.extend(next);
        }
        let (_, longest, stuck) = self.longest.take().expect("a search in vain has met a dead end");
        Outcome::Exhausted { longest, stuck }
    }

    fn frame(&self, placed: Option<usize>, answered: BitSet, choice: Choice<M::State>) -> Frame<M::State> {
        let (cursor, deadline) = (answered.first_absent(), self.deadline(&answered));
        Frame { placed, answered, deadline, choices: VecDeque::from([choice]), cursor }
    }

    /// The operations that have a place at the end of `path`.
    fn order(&self, path: &[Frame<M::State>]) -> Vec<OpId> {
        let run =
            |frame: &Frame<M::State>| frame.choices.front().map_or(Vec::new(), |choice| choice.run.clone());
        let positions = path.iter().flat_map(|frame| frame.placed.into_iter().chain(run(frame)));
        positions.map(|position| self.entries[position].id).collect()
    }

    /// The first answer among the operations that are not in `placed`. Those called after it cannot have an
    /// earlier one, so only a few neighbours are looked at.
    fn deadline(&self, placed: &BitSet) -> Option<(u64, usize)> {
        let mut first = None;
        let rest = placed.first_absent()..self.answered_count;
        for position in rest.filter(|&position| !placed.contains(position)) {
            let operation = self.entries[position].operation;
            if first.is_some_and(|(at, _)| operation.called > at) {
                break;
            }
            first = operation.returned().map(|at| (at, position)).into_iter().chain(first).min();
        }
        first
    }

    /// The next operation to try as the next of the order.
    fn next_candidate(&self, frame: &mut Frame<M::State>) -> Option<usize> {
        let (deadline, _) = frame.deadline?;
        let (answered, unanswered) = (&frame.answered, &frame.choices.front()?.unanswered);
        while let Some(entry) = self.entries.get(frame.cursor) {
            let position = frame.cursor;
            frame.cursor += 1;
            if entry.operation.called > deadline {
                // So are all behind it of its kind.
                let is_answered = position < self.answered_count;
                frame.cursor = if is_answered { self.answered_count } else { self.entries.len() };
                continue;
            }
            let is_placed = match position.checked_sub(self.answered_count) {
                None => answered.contains(position),
                Some(position) => unanswered.contains(position),
            };
            let comes_too_early = entry.follows.is_some_and(|before| !answered.contains(before))
                || entry.twin.is_some_and(|before| !unanswered.contains(before));
            if !is_placed && !comes_too_early {
                return Some(position);
            }
        }
        None
    }

    /// Makes `position` the next, if the model allows it and it is of use: a frame behind this one for an answered
    /// operation, another choice in this one for an unanswered.
    fn place(&mut self, frame: &mut Frame<M::State>, position: usize) -> Option<Frame<M::State>> {
        let Choice { unanswered, run, state } = frame.choices.front()?;
        let operation = self.entries[position].operation;
        let (input, output) = (&operation.input, operation.output());
        let next_state = self.model.step(state, input, output)?;
        let (is_read, changes_nothing) = (self.model.is_read_only(input, output), next_state == **state);
        assert!(changes_nothing || !is_read, "what the model calls read-only changes no state");
        let state = if changes_nothing { Rc::clone(state) } else { Rc::new(next_state) };
        let mut unanswered = unanswered.clone();
        let Some(number) = position.checked_sub(self.answered_count) else {
            if is_read {
                frame.cursor = self.entries.len();
            }
            let mut answered = frame.answered.clone();
            answered.insert(position);
            let is_new = self.is_new(&answered, &unanswered, &state);
            let choice = Choice { unanswered, run: Vec::new(), state };
            return is_new.then(|| self.frame(Some(position), answered, choice));
        };
        unanswered.insert(number);
        if !changes_nothing && self.is_new(&frame.answered, &unanswered, &state) {
            let run = run.iter().copied().chain([position]).collect();
            frame.choices.push_back(Choice { unanswered, run, state });
        }
        None
    }

    /// Nothing more can be tried at the end of `path`. Only if it is the longest so far is it copied.
    fn note_dead_end(&mut self, path: &[Frame<M::State>]) {
        let Some(Frame { answered, deadline: Some((_, stuck)), .. }) = path.last() else { return };
        if self.longest.as_ref().is_none_or(|(longest, _, _)| *longest < answered.len()) {
            self.longest = Some((answered.len(), self.order(path), self.entries[*stuck].id));
        }
    }

    /// Adds a configuration to the visited, unless there is one that can do at least as much.
    fn is_new(&mut self, answered: &BitSet, unanswered: &BitSet, state: &Rc<M::State>) -> bool {
        let used = self.visited.entry((answered.clone(), Rc::clone(state))).or_default();
        self.steps += used.len() as u64;
        if used.iter().any(|used| used.is_subset(unanswered)) {
            return false;
        }
        used.retain(|used| !unanswered.is_subset(used));
        used.push(unanswered.clone());
        true
    }
}

/// Finds for each operation what its client was last told, if that was at the time of its call.
fn link_clients<M: Model>(entries: &mut [Entry<'_, M>]) {
    let mut recorded: Vec<usize> = (0..entries.len()).collect();
    recorded.sort_by_key(|&position| entries[position].id);
    let mut told: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
    for position in recorded {
        let Operation { client, called, .. } = *entries[position].operation;
        entries[position].follows =
            told.get(&client).filter(|(at, _)| *at == called).map(|&(_, before)| before);
        told.extend(entries[position].operation.returned().map(|at| (client, (at, position))));
    }
}

/// Finds for each unanswered operation the one that is to be used before it. Two with the same call are no twins,
/// since one of them may have to stand behind an answer of its client.
fn link_twins<M: Model>(unanswered: &mut [Entry<'_, M>]) {
    for position in 0..unanswered.len() {
        let Operation { called, ref input, .. } = *unanswered[position].operation;
        let is_twin =
            |entry: &Entry<'_, M>| entry.operation.called < called && entry.operation.input == *input;
        unanswered[position].twin = unanswered[..position].iter().rposition(is_twin);
    }
}

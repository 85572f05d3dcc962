//! Linearizability of each group (Herlihy and Wing 1990), by the checker of `tenure-linear` and a store of three keys
//! that is as simple as can be.
//!
//! An answer names its revision, so the model asks that they grow; and it may not know the revision of a write whose
//! answer was lost, unless somebody has seen what it wrote.

use std::collections::BTreeMap;

use tenure_linear::{History, Model, Verdict, check, picture};

use super::Violation;
use crate::history::{Answer, Ask, Guard, KEYS, Operation, Outcome, Pair, Seen};

const JUDGE: &str = "linearizability";
/// Many times what a group needs that is in order.
const MAX_STEPS: u64 = 20_000_000;

/// A pair, as far as it is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Known {
    writer: u64,
    create_revision: Option<i64>,
    mod_revision: Option<i64>,
    version: i64,
}

/// The keys of a group, and the last revision that is known to have changed one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
struct State {
    revision: i64,
    keys: [Option<Known>; KEYS as usize],
}

/// What was asked, and by which operation, if that leaves its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Input {
    group: u32,
    ask: Ask,
    writer: Option<u64>,
    /// Of a write without an answer: the revision at which others have seen what it wrote.
    seen_at: Option<i64>,
}

struct Group;

impl Model for Group {
    type State = State;
    type Input = Input;
    type Output = Answer;
    type Key = u32;

    fn initial(&self) -> State {
        State::default()
    }

    fn step(&self, state: &State, input: &Input, output: Option<&Answer>) -> Option<State> {
        let writes = state.is_changed_by(input.ask);
        let Some(answer) = output else {
            return if writes { state.change(input, input.seen_at) } else { Some(*state) };
        };
        let is_possible = answer.wrote == writes
            && state.revision <= answer.revision
            && answer.seen.iter().all(|seen| state.shows(*seen));
        match (is_possible, writes) {
            (false, _) => None,
            (true, false) => Some(*state),
            (true, true) => state.change(input, Some(answer.revision)),
        }
    }

    fn is_read_only(&self, input: &Input, output: Option<&Answer>) -> bool {
        !input.ask.is_write() || output.is_some_and(|answer| !answer.wrote)
    }

    fn partition(&self, input: &Input) -> Option<u32> {
        Some(input.group)
    }

    fn describe(&self, input: &Input, output: Option<&Answer>) -> String {
        let name = input.writer.map(|writer| format!("op {writer} ")).unwrap_or_default();
        let Some(Answer { revision, wrote, seen }) = output else {
            return format!("{name}{:?} → ?", input.ask);
        };
        let show = |seen: &Seen| {
            let pair = seen.pair.map_or("absent".to_owned(), |pair| pair.to_string());
            format!(", {}: {pair}", seen.key)
        };
        let seen: String = seen.iter().map(show).collect();
        let verb = if *wrote { "wrote" } else { "read" };
        format!("{name}{:?} → {verb} @{revision}{seen}", input.ask)
    }
}

impl State {
    fn key(&self, key: u8) -> Option<Known> {
        self.keys[usize::from(key)]
    }

    /// Whether what is there can be what was shown.
    fn shows(&self, seen: Seen) -> bool {
        let is_same = |known: Option<i64>, shown| known.is_none_or(|known| known == shown);
        match (self.key(seen.key), seen.pair) {
            (None, None) => true,
            (None, Some(_)) | (Some(_), None) => false,
            (Some(known), Some(Pair { writer, create_revision, mod_revision, version })) => {
                known.writer == writer
                    && known.version == version
                    && is_same(known.create_revision, create_revision)
                    && is_same(known.mod_revision, mod_revision)
            }
        }
    }

    fn is_changed_by(&self, ask: Ask) -> bool {
        match ask {
            Ask::Get(_) => false,
            Ask::Put(_) => true,
            Ask::Delete(scope) => scope.keys().any(|key| self.key(key).is_some()),
            Ask::Swap { key, guard: Guard::Writer(id), .. } => {
                self.key(key).is_some_and(|known| known.writer == id)
            }
            // Whose revision nobody knows was seen by nobody, and so by nobody who asks for it.
            Ask::Swap { key, guard: Guard::ModRevision(revision), .. } => match self.key(key) {
                None => revision == 0,
                Some(known) => known.mod_revision == Some(revision),
            },
        }
    }

    /// After a write that changes something, at this revision if it is known; none if that cannot be.
    fn change(&self, input: &Input, revision: Option<i64>) -> Option<State> {
        if revision.is_some_and(|revision| revision <= self.revision) {
            return None;
        }
        let mut next = State { revision: revision.unwrap_or(self.revision), ..*self };
        for key in (0..KEYS).filter(|&key| input.ask.changes(key)) {
            let before = self.key(key);
            let put = |writer| Known {
                writer,
                create_revision: before.map_or(revision, |before| before.create_revision),
                mod_revision: revision,
                version: before.map_or(1, |before| before.version + 1),
            };
            next.keys[usize::from(key)] = input.writer.map(put);
        }
        Some(next)
    }
}

/// At which revision somebody has seen what an operation wrote.
fn seen_writes(operations: &[Operation]) -> BTreeMap<u64, i64> {
    let seen = operations.iter().filter_map(Operation::answer).flat_map(|answer| &answer.seen);
    seen.filter_map(|seen| seen.pair).map(|pair| (pair.writer, pair.mod_revision)).collect()
}

fn history(operations: &[Operation]) -> History<Input, Answer> {
    let seen_writes = seen_writes(operations);
    let mut history = History::new();
    for operation in operations.iter().filter(|operation| operation.is_linearizable) {
        let &Operation { id, asker, group, ask, called_us, ref outcome, .. } = operation;
        let names_itself = matches!(ask, Ask::Put(_) | Ask::Swap { .. });
        let input =
            Input { group, ask, writer: names_itself.then_some(id), seen_at: seen_writes.get(&id).copied() };
        // What nobody was told of a read constrains nothing, and who was refused has done nothing.
        match outcome {
            Outcome::Refused => {}
            Outcome::Unknown if !ask.is_write() => {}
            Outcome::Unknown => {
                history.invoke(asker.client, input, called_us);
            }
            Outcome::Answered { answer, at_us } => {
                let entry = history.invoke(asker.client, input, called_us);
                history.complete(entry, answer.clone(), *at_us);
            }
        }
    }
    history
}

pub(super) fn judge(operations: &[Operation]) -> Result<(), Violation> {
    let history = history(operations);
    match check(&Group, &history, MAX_STEPS) {
        Verdict::Linearizable { .. } => Ok(()),
        Verdict::Violation(violation) => Err(Violation {
            judge: JUDGE,
            what: violation.explain(&Group, &history),
            picture: Some(picture(&Group, &history, &violation)),
        }),
        spent @ Verdict::BudgetSpent { .. } => Err(Violation::new(JUDGE, spent.to_string())),
    }
}

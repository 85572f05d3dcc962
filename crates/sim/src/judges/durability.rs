//! Persistence (paper figure 2, "persistent state on all servers"; SOURCES P1): what was reported durable is
//! there after any crash, and nothing that was never written is.
//!
//! The judge keeps a shadow of each member's log as of the last write that completed, in terms and the hard
//! state only: which entry stands where is the log matching judge's business. When a member comes back it
//! must hold exactly the shadow, or the shadow with the one write that was under way when it crashed: a
//! write is recovered whole or not at all.
//!
//! The shadows are also what the judges of commitment and of externalization ask.

use std::collections::{BTreeMap, VecDeque};

use tenure_raft::{EntryId, HardState, Index, NodeId, Payload, Term};
use tenure_replica::LogJob;

use super::{Verdict, require};

const JUDGE: &str = "durability";

/// The durable part of one member's log.
#[derive(Clone, Default, Debug)]
pub(crate) struct Shadow {
    hard_state: HardState,
    start: EntryId,
    terms: VecDeque<Term>,
}

/// What was found on a disk.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) hard_state: HardState,
    pub(crate) start: EntryId,
    /// Each entry, what it carries, and the one before it.
    pub(crate) entries: Vec<(EntryId, Payload, EntryId)>,
}

/// A change of the log that is under way.
#[derive(Clone, Debug)]
enum Change {
    Write { hard_state: Option<HardState>, ids: Vec<EntryId> },
    Compact { through: EntryId },
    Reset { start: EntryId },
}

/// The shadows of all members.
#[derive(Default, Debug)]
pub(crate) struct Durability {
    /// And what is under way: one job (which may change nothing), or one that waits for room and a compaction that has
    /// overtaken it.
    members: BTreeMap<NodeId, (Shadow, Vec<Option<Change>>)>,
    /// The disk of who was never seen.
    nothing: Shadow,
}

impl Shadow {
    pub(crate) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The entry that the log follows.
    pub(crate) fn start(&self) -> EntryId {
        self.start
    }

    /// The last entry of the log.
    pub(crate) fn last(&self) -> EntryId {
        let index = Index(self.start.index.0 + self.terms.len() as u64);
        EntryId { term: self.terms.back().copied().unwrap_or(self.start.term), index }
    }

    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.start.index {
            return Some(self.start.term);
        }
        let place = index.0.checked_sub(self.start.index.0 + 1)?;
        self.terms.get(place as usize).copied()
    }

    /// Whether the entry is on the disk, in the log or in the checkpoint that took its place.
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        id.index < self.start.index || self.term_at(id.index) == Some(id.term)
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { hard_state, ids } => {
                self.hard_state = hard_state.unwrap_or(self.hard_state);
                let Some(first) = ids.first() else { return };
                self.terms.truncate(first.index.0.saturating_sub(self.start.index.0 + 1) as usize);
                self.terms.extend(ids.iter().map(|id| id.term));
            }
            // A snapshot may have been installed since it was asked for.
            Change::Compact { through } if through.index <= self.start.index => {}
            Change::Compact { through } => {
                let dropped = through.index.0.saturating_sub(self.start.index.0) as usize;
                self.terms.drain(..dropped.min(self.terms.len()));
                self.start = *through;
            }
            Change::Reset { start } => {
                self.terms.clear();
                self.start = *start;
            }
        }
    }

    /// A checkpoint of another member, whose last entry is not in this log, takes the place of all of it.
    fn give_way_to(&mut self, checkpoint: EntryId) {
        if checkpoint.index > self.start.index && self.term_at(checkpoint.index) != Some(checkpoint.term) {
            self.apply(&Change::Reset { start: checkpoint });
        }
    }

    /// Whether the same entries were found, apart from those that were compacted: a compaction need not
    /// survive.
    fn is_in(&self, recovered: &Recovered) -> bool {
        let found_last = recovered.entries.last().map_or(recovered.start, |(id, _, _)| *id);
        let above = self.start.index.max(recovered.start.index);
        let mut found = recovered.entries.iter().filter(|(id, _, _)| id.index > above);
        self.hard_state == recovered.hard_state
            && self.last() == found_last
            && found.all(|(id, _, _)| self.term_at(id.index) == Some(id.term))
    }
}

impl Durability {
    /// What is on a member's disk.
    pub(crate) fn shadow(&self, member: NodeId) -> &Shadow {
        self.members.get(&member).map_or(&self.nothing, |(shadow, _)| shadow)
    }

    /// A job of the log begins.
    pub(crate) fn begin(&mut self, member: NodeId, job: &LogJob) {
        let (_, under_way) = self.members.entry(member).or_default();
        let is_compaction = matches!(job, LogJob::Compact { .. });
        let is_next = under_way.is_empty() || is_compaction && under_way.len() == 1;
        assert!(is_next, "a worker does one job at a time");
        under_way.push(match job {
            LogJob::Write { hard_state, entries, .. } => {
                let ids = entries.iter().map(|entry| entry.id).collect();
                Some(Change::Write { hard_state: *hard_state, ids })
            }
            LogJob::Compact { through } => Some(Change::Compact { through: *through }),
            LogJob::Reset { start } => Some(Change::Reset { start: *start }),
            LogJob::Read { .. } | LogJob::GiveUpSpares => None,
        });
    }

    /// The job is reported done.
    pub(crate) fn finish(&mut self, member: NodeId) {
        let (shadow, under_way) = self.members.entry(member).or_default();
        if let Some(Some(change)) = under_way.pop() {
            shadow.apply(&change);
        }
    }

    /// A member came back with this log, and with a checkpoint that ends at `checkpoint`.
    pub(crate) fn on_recovered(
        &mut self,
        member: NodeId,
        recovered: &Recovered,
        checkpoint: EntryId,
    ) -> Verdict {
        let (shadow, under_way) = self.members.entry(member).or_default();
        let mut without = shadow.clone();
        let mut with = shadow.clone();
        for change in under_way.drain(..).flatten() {
            with.apply(&change);
        }
        without.give_way_to(checkpoint);
        with.give_way_to(checkpoint);
        require(JUDGE, without.is_in(recovered) || with.is_in(recovered), || {
            let found_last = recovered.entries.last().map_or(recovered.start, |(id, _, _)| *id);
            format!(
                "{member} had made durable {} and a log to {}, perhaps {} and {}, and comes back with {} and {found_last}",
                without.hard_state,
                without.last(),
                with.hard_state,
                with.last(),
                recovered.hard_state,
            )
        })?;
        *shadow = Shadow {
            hard_state: recovered.hard_state,
            start: recovered.start,
            terms: recovered.entries.iter().map(|(id, _, _)| id.term).collect(),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tenure_raft::{Entry, WriteToken};

    use super::*;

    fn id(index: u64, term: u64) -> EntryId {
        EntryId::new(Index(index), Term(term))
    }

    fn member() -> NodeId {
        NodeId::new(1).unwrap()
    }

    fn write(durability: &mut Durability, term: u64, ids: &[EntryId]) {
        let entries = ids.iter().map(|&id| Entry { id, payload: Payload::Empty }).collect();
        let hard_state = Some(HardState { current_term: Term(term), voted_for: None });
        let token = WriteToken { attempt: 1, last: EntryId::ZERO };
        durability.begin(member(), &LogJob::Write { hard_state, entries, token });
    }

    fn found(term: u64, ids: &[EntryId]) -> Recovered {
        let hard_state = HardState { current_term: Term(term), voted_for: None };
        let entries = ids.iter().map(|&id| (id, Payload::Empty, EntryId::ZERO)).collect();
        Recovered { hard_state, start: EntryId::ZERO, entries }
    }

    #[test]
    fn what_was_durable_must_come_back_and_what_was_under_way_may() {
        let after_crash = |recovered: Recovered| {
            let mut durability = Durability::default();
            write(&mut durability, 2, &[id(1, 1), id(2, 2)]);
            durability.finish(member());
            write(&mut durability, 3, &[id(2, 3), id(3, 3)]);
            durability.on_recovered(member(), &recovered, EntryId::ZERO)
        };
        after_crash(found(2, &[id(1, 1), id(2, 2)])).unwrap();
        after_crash(found(3, &[id(1, 1), id(2, 3), id(3, 3)])).unwrap();
        for lost in [
            found(2, &[id(1, 1)]),
            found(1, &[id(1, 1), id(2, 2)]),
            found(3, &[id(1, 1), id(2, 3)]),
            found(3, &[id(1, 1), id(2, 2)]),
            found(2, &[id(1, 1), id(2, 2), id(3, 2)]),
        ] {
            assert_eq!(after_crash(lost).unwrap_err().judge, JUDGE);
        }
    }

    #[test]
    fn a_log_gives_way_only_to_a_checkpoint_that_it_does_not_contain() {
        let restart_with = |checkpoint: EntryId| {
            let mut durability = Durability::default();
            write(&mut durability, 3, &[id(1, 1), id(2, 2), id(3, 2)]);
            durability.finish(member());
            let recovered = Recovered { start: checkpoint, ..found(3, &[]) };
            durability.on_recovered(member(), &recovered, checkpoint)
        };
        restart_with(id(9, 3)).unwrap();
        restart_with(id(2, 3)).unwrap();
        assert!(restart_with(id(2, 2)).is_err(), "entry 3 was thrown away (paper §7)");
    }
}

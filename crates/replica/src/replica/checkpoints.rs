//! Checkpoints, taken and installed, and what the log is told: to write, to forget what a checkpoint covers, and to
//! begin anew behind one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tenure_raft::{EntryId, Index, NodeId, Snapshot};
use tenure_store::Store;

use super::{Install, Replica};
use crate::Options;
use crate::checkpointing::Due;
use crate::job::{CheckpointJob, Failure, Job, LogJob, Reply};
use crate::log_weight::LogWeight;

/// The pieces of checkpoints that are being read for followers: one for each at a time. Whoever leads again and again
/// while its disk stands still asks anew each time, and only the last of these questions is worth an answer.
#[derive(Default, Debug)]
pub(super) struct Loads {
    /// For whom one is being read, and what is to be read then.
    reading: BTreeMap<NodeId, Option<CheckpointJob>>,
}

impl Loads {
    /// A piece is wanted for this follower; the job, if it can begin.
    pub(super) fn begin(&mut self, to: NodeId, job: CheckpointJob) -> Option<CheckpointJob> {
        match self.reading.entry(to) {
            Entry::Vacant(vacant) => {
                vacant.insert(None);
                Some(job)
            }
            Entry::Occupied(mut occupied) => {
                occupied.insert(Some(job));
                None
            }
        }
    }

    /// A piece was read for this follower; the next job.
    pub(super) fn end(&mut self, to: NodeId) -> Option<CheckpointJob> {
        let next = self.reading.remove(&to)?;
        next.and_then(|job| self.begin(to, job))
    }
}

impl Replica {
    pub(super) fn checkpoint_if_due(&mut self) {
        let due = Due {
            is_held: self.node.snapshots_sent().next().is_some() && !self.room.is_short(),
            is_urgent: self.room.is_urgent(self.now),
            is_short: self.room.is_short(),
            now: self.now,
        };
        if self.install.is_none() && self.checkpoint.is_due(&self.store, due, &self.options) {
            if due.is_urgent {
                self.room.on_urgent(self.now, &self.options);
            }
            self.take_checkpoint();
        }
        self.let_go_of_log();
    }

    /// Starts a checkpoint of the applied state.
    fn take_checkpoint(&mut self) {
        let log = self.node.log();
        let applied = log.last_applied();
        let Some(term) = log.term_at(applied) else { return };
        let snapshot = Snapshot {
            last_included: EntryId::new(applied, term),
            configuration: log.configuration_at(applied).clone(),
        };
        self.checkpoint.begin(&self.store);
        let state = Box::new(self.store.snapshot());
        let sent = self.node.snapshots_sent().collect();
        self.jobs.push_back(Job::Checkpoint(CheckpointJob::Take { snapshot, state, sent }));
    }

    /// What was kept of the log for a follower goes when that needs it no more.
    fn let_go_of_log(&mut self) {
        let covered = self.node.log().snapshot().last_included.index.0;
        let usual = self.usual_start(covered);
        let is_needed = self.node.oldest_needed_index().is_some_and(|needed| needed.0 <= usual);
        if self.is_log_held && !is_needed {
            self.compact_log(covered);
        }
    }

    /// Where the log begins behind a checkpoint up to `covered` when no follower is far behind: right there, if the disk
    /// is short of room.
    fn usual_start(&self, covered: u64) -> u64 {
        if self.room.is_short() {
            return covered;
        }
        let Options { catch_up_entries, catch_up_bytes, .. } = self.options;
        covered.saturating_sub(catch_up_entries).max(self.log_weight.start_of(covered, catch_up_bytes))
    }

    /// A checkpoint covers the log up to `covered`; a part before it stays for followers that are a little behind,
    /// and what one that is further behind needs, within a bound.
    pub(super) fn compact_log(&mut self, covered: u64) {
        let usual = self.usual_start(covered);
        let needed = self.node.oldest_needed_index().map_or(usual, |needed| needed.previous().0.min(usual));
        let is_short = self.room.is_short();
        let most_bytes = if is_short { 0 } else { self.options.held_log_bytes(self.store.size_bytes()) };
        let through = Index(self.log_weight.start_of(covered, most_bytes).max(needed));
        self.is_log_held = through.0 < usual;
        let log = self.node.log();
        if through <= log.start().index {
            return;
        }
        let Some(term) = log.term_at(through) else { return };
        self.node.compact_log(through);
        self.log_weight.forget_through(through.0);
        let through = EntryId::new(through, term);
        self.jobs.push_back(Job::Log(LogJob::Compact { through }));
    }

    pub(super) fn give_log_work(&mut self) {
        if let Some(write) = self.log.next_write(self.options.max_write_bytes) {
            self.jobs.push_back(Job::Log(write));
            return;
        }
        // The log is reset behind all writes: an earlier one must not follow it.
        if self.log.is_idle() && matches!(self.install, Some(Install::WaitsForLog { .. })) {
            let Some(Install::WaitsForLog { snapshot, store }) = self.install.take() else { return };
            let start = snapshot.last_included;
            self.install = Some(Install::ResetsLog { snapshot, store });
            self.jobs.push_back(Job::Log(LogJob::Reset { start }));
        }
    }

    pub(super) fn finish_install(&mut self, snapshot: &Snapshot, store: Store) {
        let last_included = snapshot.last_included;
        assert!(!self.is_applying, "a snapshot is installed while nothing is being executed");
        self.replace_store(store);
        self.checkpoint.install(&self.store);
        self.log_weight = LogWeight::new(last_included.index.0, self.options.log_mark_bytes());
        self.is_log_held = false;
        self.roster_version += 1;
        self.node.on_snapshot_installed(self.now, last_included);
        for request in self.writes.on_snapshot_installed(last_included.term) {
            self.reply(request, Reply::Failed(Failure::TimedOutLeaderFailed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_piece_is_read_for_each_follower_and_the_last_that_was_asked_for_is_next() {
        let [one, other] = [1, 2].map(|number| NodeId::new(number).unwrap());
        let load = |to, offset| CheckpointJob::Load {
            to,
            last_included: EntryId::default(),
            above: Index(0),
            offset,
            max_bytes: 9,
        };
        let offset = |job: Option<CheckpointJob>| match job {
            Some(CheckpointJob::Load { offset, .. }) => Some(offset),
            _ => None,
        };
        let mut loads = Loads::default();
        assert_eq!(offset(loads.begin(one, load(one, 1))), Some(1));
        assert_eq!(offset(loads.begin(other, load(other, 2))), Some(2));
        assert_eq!(offset(loads.begin(one, load(one, 3))), None);
        assert_eq!(offset(loads.begin(one, load(one, 4))), None);
        assert_eq!(offset(loads.end(one)), Some(4));
        assert_eq!(offset(loads.end(other)), None);
        assert_eq!(offset(loads.end(one)), None);
        assert_eq!(offset(loads.begin(one, load(one, 5))), Some(5));
    }
}

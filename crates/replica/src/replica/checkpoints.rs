//! Checkpoints, taken and installed, and what the log is told: to write, to forget what a checkpoint covers, and to
//! begin anew behind one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tenure_raft::{EntryId, Index, NodeId, Snapshot};
use tenure_store::Store;

use super::{Install, Replica};
use crate::job::{CheckpointJob, Failure, Job, LogJob, Reply};

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
        let is_held = self.is_log_needed();
        if self.install.is_none() && self.checkpoint.is_due(&self.store, is_held, &self.options) {
            self.take_checkpoint();
        }
    }

    /// Whether a follower that answers needs entries that would go with a checkpoint taken now.
    fn is_log_needed(&self) -> bool {
        let kept_from = self.store.applied_index().saturating_sub(self.options.catch_up_entries);
        self.node.oldest_needed_index().is_some_and(|needed| needed.0 <= kept_from)
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
        let state = self.store.snapshot();
        self.jobs.push_back(Job::Checkpoint(CheckpointJob::Take { snapshot, state }));
    }

    /// A checkpoint covers the log up to `covered`; a part before it stays for followers that are a little
    /// behind.
    pub(super) fn compact_log(&mut self, covered: u64) {
        let through = Index(covered.saturating_sub(self.options.catch_up_entries));
        let log = self.node.log();
        if through <= log.start().index {
            return;
        }
        let Some(term) = log.term_at(through) else { return };
        self.node.compact_log(through);
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

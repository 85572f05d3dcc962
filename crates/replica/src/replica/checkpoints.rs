//! Checkpoints, taken and installed, and what the log is told: to write, to forget what a checkpoint covers, and to begin
//! anew behind one.

use tenure_raft::{EntryId, Snapshot};
use tenure_store::Store;

use super::{Install, Replica};
use crate::job::{CheckpointJob, Failure, Job, LogJob, Reply};

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
        let through = tenure_raft::Index(covered.saturating_sub(self.options.catch_up_entries));
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
        self.store = store;
        self.checkpoint.install(&self.store);
        self.roster_version += 1;
        self.node.on_snapshot_installed(self.now, last_included);
        for request in self.writes.on_snapshot_installed(last_included.term) {
            self.reply(request, Reply::Failed(Failure::TimedOutLeaderFailed));
        }
    }
}

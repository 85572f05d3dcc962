//! Committed entries on their way into the state, and the answers that come of them.

use tenure_raft::{Configuration, Entry, Index, NodeId, Payload, Time};
use tenure_store::{Applied, Store};

use super::Replica;
use crate::apply::{ApplyDone, ApplyJob, Executable, Outcome};
use crate::job::{Job, Reply};

impl Replica {
    /// Executes entries, until one comes that takes long: that goes to the worker, with those behind it.
    pub(super) fn apply(&mut self, entries: Vec<Entry>) {
        assert!(!self.is_applying, "one batch at a time is given out to be applied");
        let mut last_applied = None;
        let mut left = entries.into_iter();
        while let Some(entry) = left.next() {
            let executable = self.parse(&entry);
            if executable.is_heavy(&self.store, self.options.max_inline_keys) {
                let behind = left.map(|entry| self.parse(&entry));
                let entries: Vec<Executable> = std::iter::once(executable).chain(behind).collect();
                self.is_applying = true;
                let store = Box::new(self.store.fork());
                self.jobs.push_back(Job::Apply(ApplyJob { store, entries }));
                break;
            }
            last_applied = Some(entry.id.index);
            let outcome = executable.execute(&mut self.store);
            self.jobs.extend(self.store.take_garbage().map(Job::Discard));
            self.on_executed(outcome);
        }
        if let Some(index) = last_applied {
            self.node.on_applied(self.now, index);
        }
    }

    fn parse(&self, entry: &Entry) -> Executable {
        let removed = || match &entry.payload {
            Payload::Configuration(configuration) => self.removed_by(entry.id.index, configuration),
            Payload::Empty | Payload::Command(_) => Vec::new(),
        };
        Executable::parse(entry, removed, |origin| self.writes.awaits(origin))
    }

    /// The worker has executed what it was given.
    pub fn on_apply_done(&mut self, now: Time, done: ApplyDone) {
        self.observe(now);
        assert!(self.is_applying, "the worker executes what it was given");
        self.is_applying = false;
        let ApplyDone { store, outcomes, garbage } = done;
        self.replace_store(*store);
        self.store.forget_buried(self.buried_through);
        self.jobs.extend(garbage.into_iter().map(Job::Discard));
        let last = outcomes.last().map(|outcome| outcome.id.index);
        for outcome in outcomes {
            self.on_executed(outcome);
        }
        self.node.on_applied(self.now, last.expect("a job has entries"));
    }

    /// Another state takes the place of this one, which is freed elsewhere.
    pub(super) fn replace_store(&mut self, store: Store) {
        let before = std::mem::replace(&mut self.store, store);
        self.jobs.push_back(Job::Discard(before.into_garbage()));
    }

    /// No part of a checkpoint will reach back behind `revision`.
    pub(super) fn forget_buried(&mut self, revision: i64) {
        self.buried_through = revision;
        self.store.forget_buried(revision);
    }

    fn on_executed(&mut self, outcome: Outcome) {
        let Outcome { id, size_bytes, origin, applied, changes_roster, compacted } = outcome;
        self.checkpoint.on_applied(size_bytes);
        self.log_weight.add(id.index.0, size_bytes as u64);
        self.roster_version += u64::from(changes_roster);
        if let Some((before, revision)) = compacted
            && id.index.0 > self.recovered_through
        {
            self.jobs.push_back(Job::Compacted { before, revision });
        }
        let request = self.writes.on_applied(self.now, id.term, origin);
        // Whoever has given up meanwhile hears nothing.
        if let (Some(request), Some(applied)) = (request, applied) {
            let raft_term = self.node.current_term().0;
            let Applied { result, revision, changes: _ } = applied;
            self.reply(request, Reply::Applied { result, revision, raft_term });
        }
    }

    /// Who is no member any more with the configuration at `index`. While it is joint, only learners have left.
    fn removed_by(&self, index: Index, configuration: &Configuration) -> Vec<u64> {
        let before = self.node.log().configuration_at(index.previous()).members();
        before.filter(|&id| !configuration.is_member(id)).map(NodeId::as_u64).collect()
    }
}

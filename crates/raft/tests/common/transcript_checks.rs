//! What must hold for the cluster as a whole (paper figure 3), judged from outside: by what the servers
//! have said and by what is on their disks, not by what they believe.

use std::collections::BTreeMap;

use tenure_raft::quorum::quorum_value;
use tenure_raft::{
    AppendReply, Configuration, Entry, Envelope, Index, Message, NodeId, Quorum, SnapshotReply, Term,
};

use super::disk::{Disk, Machine};

/// Everything that must never be contradicted later, across crashes.
#[derive(Default)]
pub(crate) struct History {
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(NodeId, Term), NodeId>,
    committed: BTreeMap<Index, Entry>,
}

impl History {
    /// Election Safety: at most one leader a term. Leader Completeness: it has all that was ever committed.
    pub(crate) fn on_leader(&mut self, id: NodeId, term: Term, log: &Disk) {
        let first = *self.leaders.entry(term).or_insert(id);
        assert_eq!(first, id, "Election Safety: term {term} has two leaders");
        for entry in self.committed.values() {
            assert!(log.holds(entry), "Leader Completeness: {id} leads term {term} without {entry}");
        }
    }

    /// What is committed stays, and is on the disks of a quorum of the configuration by which a leader has
    /// `counted`.
    pub(crate) fn on_commit(
        &mut self,
        log: &Disk,
        commit: Index,
        counted: Option<&Configuration>,
        disks: &BTreeMap<NodeId, &Disk>,
    ) {
        for entry in log.entries.iter().filter(|entry| entry.id.index <= commit) {
            let first = self.committed.entry(entry.id.index).or_insert_with(|| entry.clone());
            assert_eq!(first, entry, "a committed entry never changes");
        }
        let (Some(entry), Some(configuration)) = (log.entry(commit), counted) else { return };
        let durable = quorum_value(configuration, Quorum::Commit, |id| {
            disks.get(&id).is_some_and(|disk| disk.holds(entry))
        });
        assert!(durable, "{entry} is committed without being on the disks of a quorum");
    }

    /// State Machine Safety: what is executed at an index is what was committed there.
    pub(crate) fn on_apply(&self, id: NodeId, entry: &Entry) {
        let committed = self.committed.get(&entry.id.index);
        assert_eq!(committed, Some(entry), "State Machine Safety: {id} executes something else");
    }

    /// The state that executing the log up to `through` leads to.
    pub(crate) fn state_at(&self, through: Index) -> Machine {
        let mut machine = Machine::default();
        self.committed.range(..=through).for_each(|(_, entry)| machine.apply(entry));
        machine
    }

    /// Nothing is said that the sender's disk does not yet bear out (paper figure 2), and no second vote is
    /// given in a term, not even after a crash (paper §5.2).
    pub(crate) fn on_message(&mut self, envelope: &Envelope, disk: &Disk) {
        let Envelope { from, to, term, message } = envelope;
        let durable_term = disk.hard_state.current_term;
        assert!(*term <= durable_term, "{envelope}: its term is not yet on disk");
        match message {
            Message::RequestVoteReply { granted: true } => {
                let vote = *self.votes.entry((*from, *term)).or_insert(*to);
                assert_eq!(vote, *to, "{envelope}: the second vote of a term");
                let lost = durable_term == *term && disk.hard_state.voted_for != Some(*to);
                assert!(!lost, "{envelope}: the vote is not yet on disk");
            }
            Message::AppendEntriesReply(AppendReply::Accepted { match_index })
            | Message::InstallSnapshotReply { reply: SnapshotReply::Installed { match_index }, .. } => {
                assert!(*match_index <= disk.last().index, "{envelope}: not yet on disk");
            }
            Message::RequestVote { .. } => {
                let vote = *self.votes.entry((*from, *term)).or_insert(*from);
                assert_eq!(vote, *from, "{envelope}: a candidate that gave its vote to another");
            }
            Message::PreVote { .. }
            | Message::PreVoteReply { .. }
            | Message::RequestVoteReply { granted: false }
            | Message::AppendEntries { .. }
            | Message::AppendEntriesReply(AppendReply::Rejected { .. })
            | Message::Heartbeat { .. }
            | Message::HeartbeatReply { .. }
            | Message::CommitNotice { .. }
            | Message::InstallSnapshot { .. }
            | Message::InstallSnapshotReply {
                reply: SnapshotReply::Received { .. } | SnapshotReply::Missing { .. },
                ..
            }
            | Message::TimeoutNow
            | Message::ReadIndex { .. }
            | Message::ReadIndexReply { .. } => {}
        }
    }
}

/// Log Matching: two logs with an entry of the same index and term are identical up to there.
pub(crate) fn check_log_matching(logs: &[Disk]) {
    for (position, one) in logs.iter().enumerate() {
        for other in &logs[position + 1..] {
            let agree = |entry: &&Entry| other.entry(entry.id.index).is_some_and(|it| it.id == entry.id);
            let Some(last_shared) = one.entries.iter().rev().find(agree) else { continue };
            for entry in one.entries.iter().filter(|entry| entry.id.index <= last_shared.id.index) {
                let same = other.entry(entry.id.index).is_none_or(|it| it == entry);
                assert!(same || entry.id.index <= other.log_start.index, "Log Matching: {entry} differs");
            }
        }
    }
}

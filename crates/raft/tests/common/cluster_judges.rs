//! The judges: they see everything that ever happened on all servers, across their crashes, and panic as
//! soon as one of Raft's properties (paper figure 3) is broken.

use std::collections::BTreeMap;

use tenure_raft::quorum::quorum_value;
use tenure_raft::{
    AppendReply, Configuration, Entry, EntryId, Envelope, Index, Message, NodeId, Payload, Quorum, Term,
};

use super::disk::Image;

/// What has been seen so far.
#[derive(Default)]
pub(crate) struct Judges {
    leaders: BTreeMap<Term, NodeId>,
    votes: BTreeMap<(Term, NodeId), NodeId>,
    terms: BTreeMap<NodeId, Term>,
    /// Every entry that was ever given out to be written, with the one before it.
    written: BTreeMap<EntryId, (EntryId, Payload)>,
    /// Every entry that any server ever held for committed.
    pub(crate) committed: BTreeMap<Index, EntryId>,
    /// Every entry that any machine ever executed.
    pub(crate) applied: BTreeMap<Index, Entry>,
}

impl Judges {
    /// Election Safety: "at most one leader can be elected in a given term". Leader Completeness: it has
    /// every entry that was committed before.
    pub(crate) fn on_leader(&mut self, id: NodeId, term: Term, holds: impl Fn(EntryId) -> bool) {
        let first = *self.leaders.entry(term).or_insert(id);
        assert_eq!(first, id, "election safety: two leaders in term {term}");
        for &entry in self.committed.values().filter(|entry| entry.term < term) {
            assert!(holds(entry), "leader completeness: {id} leads term {term} without {entry}");
        }
    }

    /// Who led a term, if anybody did.
    pub(crate) fn leader_of(&self, term: Term) -> Option<NodeId> {
        self.leaders.get(&term).copied()
    }

    /// How many terms had a leader.
    pub(crate) fn leaders(&self) -> usize {
        self.leaders.len()
    }

    /// How many terms one of these led.
    pub(crate) fn leaders_among(&self, those: &[NodeId]) -> usize {
        self.leaders.values().filter(|id| those.contains(id)).count()
    }

    /// A term that was durable is never gone back from, a crash between or not.
    pub(crate) fn on_durable_term(&mut self, id: NodeId, term: Term) {
        let latest = self.terms.entry(id).or_default();
        assert!(*latest <= term, "{id} went back from term {latest} to {term}");
        *latest = term;
    }

    /// Log Matching: an index and a term name one entry, and one history before it.
    pub(crate) fn on_write(&mut self, before: Option<EntryId>, entries: &[Entry]) {
        let mut before = before;
        for entry in entries {
            if let Some(before) = before {
                let history = (before, entry.payload.clone());
                let first = self.written.entry(entry.id).or_insert_with(|| history.clone());
                assert_eq!(*first, history, "log matching: two histories of {}", entry.id);
            }
            before = Some(entry.id);
        }
    }

    /// A message leaves: what it says must be durable (SOURCES P1, E2).
    pub(crate) fn on_send(&mut self, envelope: &Envelope, durable: &Image) {
        let Envelope { from, to, term, message } = envelope;
        let hard_state = durable.hard_state;
        assert!(hard_state.current_term >= *term, "{envelope} leaves before its term is durable");
        match message {
            Message::RequestVoteReply { granted: true } => {
                assert!(
                    hard_state.current_term > *term || hard_state.voted_for == Some(*to),
                    "{envelope} leaves before the vote is durable"
                );
                self.on_vote(*term, *from, *to);
            }
            Message::RequestVote { .. } => self.on_vote(*term, *from, *from),
            Message::AppendEntries { .. } | Message::Heartbeat { .. } | Message::CommitNotice { .. } => {
                assert_eq!(self.leader_of(*term), Some(*from), "only the leader of a term sends {message}");
            }
            Message::AppendEntriesReply(AppendReply::Accepted { match_index }) => {
                let covered = durable.snapshot.last_included.index >= *match_index;
                assert!(
                    covered || durable.entry(*match_index).is_some() || *match_index == Index(0),
                    "{envelope} leaves before its entries are durable"
                );
            }
            Message::PreVote { .. }
            | Message::PreVoteReply { .. }
            | Message::RequestVoteReply { granted: false }
            | Message::AppendEntriesReply(AppendReply::Rejected { .. })
            | Message::HeartbeatReply { .. }
            | Message::InstallSnapshot { .. }
            | Message::InstallSnapshotReply { .. }
            | Message::TimeoutNow
            | Message::ReadIndex { .. }
            | Message::ReadIndexReply { .. } => {}
        }
    }

    fn on_vote(&mut self, term: Term, voter: NodeId, candidate: NodeId) {
        let first = *self.votes.entry((term, voter)).or_insert(candidate);
        assert_eq!(first, candidate, "{voter} voted twice in term {term}");
    }

    /// A server holds `entry` for committed: a quorum has it on disk at this moment, and nobody ever held
    /// another for committed at its index.
    pub(crate) fn on_commit(
        &mut self,
        entry: EntryId,
        configuration: &Configuration,
        disks: &BTreeMap<NodeId, &Image>,
    ) {
        if let Some(first) = self.committed.insert(entry.index, entry) {
            assert_eq!(first, entry, "a committed entry never changes");
            return;
        }
        let durable = quorum_value(configuration, Quorum::Commit, |id| {
            disks.get(&id).is_some_and(|image| image.holds(entry))
        });
        assert!(durable, "{entry} was committed before a quorum of {configuration} had it on disk");
    }

    /// State Machine Safety: no two machines execute different commands at one index.
    pub(crate) fn on_apply(&mut self, id: NodeId, entry: &Entry) {
        assert_eq!(
            self.committed.get(&entry.id.index),
            Some(&entry.id),
            "{id} executes what nobody has committed"
        );
        let first = self.applied.entry(entry.id.index).or_insert_with(|| entry.clone());
        assert_eq!(first, entry, "state machine safety: two commands at one index");
    }

    /// The machine that `last_included` must have led to, from what was executed.
    pub(crate) fn executed_up_to(&self, last_included: Index) -> impl Iterator<Item = &Entry> {
        self.applied.range(..=last_included).map(|(_, entry)| entry)
    }
}

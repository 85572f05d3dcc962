//! What a server has promised to keep, it keeps (paper §5.3, §7): an entry that is committed never leaves a disk
//! that held it, but for a checkpoint that contains it; and what a follower has acknowledged to a leader stays as
//! long as it follows that leader, who has counted it and may commit it at any moment.
//!
//! A log is cut off where it conflicts with the log of a later leader, and that has all that is committed. So
//! whoever cuts off more, be it for an append or for a snapshot, breaks a promise, whether it costs an entry this
//! time or not.

use std::collections::BTreeMap;

use tenure_raft::{EntryId, Envelope, Index, NodeId, Term};

use super::committed::Committed;
use super::durability::Shadow;
use super::externalization::acknowledged;
use super::{Verdict, require};

const JUDGE: &str = "what was promised is kept";

/// What each member has promised.
#[derive(Default, Debug)]
pub(crate) struct Kept {
    /// To the leader of which term, and up to where.
    acknowledged: BTreeMap<NodeId, (Term, EntryId)>,
}

/// A disk before a change of its log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    committed: Option<EntryId>,
}

impl Kept {
    /// A member answers a leader.
    pub(crate) fn on_send(&mut self, disk: &Shadow, envelope: &Envelope) {
        let Some(index) = acknowledged(envelope) else { return };
        let Some(term) = disk.term_at(index) else { return };
        let (leads, id) = self.acknowledged.entry(envelope.from).or_default();
        if envelope.term > *leads || (envelope.term == *leads && index > id.index) {
            (*leads, *id) = (envelope.term, EntryId { index, term });
        }
    }

    /// The log is about to be changed.
    pub(crate) fn before(committed: &Committed, disk: &Shadow) -> Before {
        let end = committed.last_index().min(disk.last().index);
        let known = (disk.start().index.0..=end.0).rev().map(|index| committed.id_at(Index(index)));
        Before { committed: known.flatten().find(|&id| disk.holds(id)) }
    }

    /// The log was changed.
    pub(crate) fn on_changed(&self, member: NodeId, before: Before, disk: &Shadow) -> Verdict {
        let lost = before.committed.filter(|&id| !disk.holds(id));
        require(JUDGE, lost.is_none(), || {
            format!("{member} had the committed {} on its disk, and has it no more", lost.unwrap_or_default())
        })?;
        let Some(&(term, id)) = self.acknowledged.get(&member) else { return Ok(()) };
        require(JUDGE, disk.hard_state().current_term > term || disk.holds(id), || {
            format!("{member} has acknowledged {id} to the leader of term {term}, and has it no more")
        })
    }
}

#[cfg(test)]
mod tests {
    use tenure_raft::{AppendReply, Entry, HardState, Message, Payload, WriteToken};
    use tenure_replica::LogJob;

    use super::super::durability::Durability;
    use super::*;

    fn id(index: u64, term: u64) -> EntryId {
        EntryId::new(Index(index), Term(term))
    }

    fn member() -> NodeId {
        NodeId::new(1).unwrap()
    }

    fn write(term: u64, ids: &[EntryId]) -> LogJob {
        let entries = ids.iter().map(|&id| Entry { id, payload: Payload::Empty }).collect();
        let hard_state = Some(HardState { current_term: Term(term), voted_for: None });
        LogJob::Write { hard_state, entries, token: WriteToken { attempt: 1, last: EntryId::ZERO } }
    }

    /// Whether a log of 1@1 to 4@2 may be changed so, with 1@1 and 2@1 committed and 3@2 acknowledged in term 2.
    fn may(job: &LogJob) -> bool {
        let mut durability = Durability::default();
        durability.begin(member(), &write(2, &[id(1, 1), id(2, 1), id(3, 2), id(4, 2)]));
        durability.finish(member());
        let committed = Committed::of_terms(&[1, 1], Term(2));
        let mut kept = Kept::default();
        let accepted = Message::AppendEntriesReply(AppendReply::Accepted { match_index: Index(3) });
        let to = NodeId::new(2).unwrap();
        let envelope = Envelope { from: member(), to, term: Term(2), message: accepted };
        kept.on_send(durability.shadow(member()), &envelope);
        let before = Kept::before(&committed, durability.shadow(member()));
        durability.begin(member(), job);
        durability.finish(member());
        kept.on_changed(member(), before, durability.shadow(member())).is_ok()
    }

    #[test]
    fn who_drops_what_is_committed_or_acknowledged_is_seen() {
        assert!(may(&write(2, &[id(4, 2), id(5, 2)])));
        assert!(may(&write(3, &[id(3, 3)])), "another leader may take back what is not committed");
        assert!(!may(&write(3, &[id(2, 3)])), "not what is");
        assert!(!may(&write(2, &[id(2, 1)])), "nor may the one that has counted it");
        assert!(may(&LogJob::Reset { start: id(5, 2) }) && !may(&LogJob::Reset { start: id(2, 1) }));
    }
}

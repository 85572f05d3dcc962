//! A log is cut off only where it conflicts (paper §5.3: "if an existing entry conflicts with a new one, delete the
//! existing entry and all that follow it"; §7): what agrees with the leader's log stays on the disk, whatever makes
//! the follower change its log, an append or a snapshot.
//!
//! The leader may have counted it and commit it at any moment, and all that is committed is in its log (§5.4.3). So
//! whoever cuts off more breaks a promise, whether it costs an entry this time or not. (Not so across terms: what one
//! leader has a follower cut off, the next one may yet commit with others.)

use tenure_raft::{EntryId, Index, Node, NodeId, Term};

use super::durability::Shadow;
use super::{Verdict, require};

const JUDGE: &str = "cut off only where it conflicts";

/// Checks that a snapshot which is to take the place of a member's log holds what the log does not: otherwise the log
/// is kept, with what follows (paper §7).
pub(crate) fn check_needed(node: &Node, last_included: EntryId) -> Verdict {
    require(JUDGE, !node.log().matches(last_included), || {
        format!("{} has {last_included} in its log, and installs a snapshot that ends there", node.id())
    })
}

/// A disk before a change of its log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    term: Term,
    /// The last entry in which it agrees with the leader of that term.
    agreed: Option<EntryId>,
}

impl Before {
    /// The log is about to be changed, in a term whose leader nobody knows.
    pub(crate) fn leaderless(disk: &Shadow) -> Before {
        Before { term: disk.hard_state().current_term, agreed: None }
    }

    /// The log is about to be changed. `in_leaders_log` says of which term the entry at an index is that the leader
    /// of the disk's term has.
    pub(crate) fn of(disk: &Shadow, in_leaders_log: impl Fn(Index) -> Option<Term>) -> Before {
        let term = disk.hard_state().current_term;
        let held = (disk.start().index.0 + 1..=disk.last().index.0).rev().map(Index);
        let mut held = held.filter_map(|index| disk.term_at(index).map(|term| EntryId { index, term }));
        Before { term, agreed: held.find(|id| in_leaders_log(id.index) == Some(id.term)) }
    }

    /// The log was changed.
    pub(crate) fn check(self, member: NodeId, disk: &Shadow) -> Verdict {
        let Some(agreed) = self.agreed.filter(|_| disk.hard_state().current_term == self.term) else {
            return Ok(());
        };
        require(JUDGE, disk.holds(agreed), || {
            format!(
                "{member} and the leader of term {} both had {agreed}, and {member} has it no more",
                self.term
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use tenure_raft::{Entry, HardState, Options, Payload, Restored, Snapshot, Time, WriteToken};
    use tenure_replica::LogJob;

    use super::super::durability::Durability;
    use super::*;

    fn id(index: u64, term: u64) -> EntryId {
        EntryId::new(Index(index), Term(term))
    }

    fn write(term: u64, ids: &[EntryId]) -> LogJob {
        let entries = ids.iter().map(|&id| Entry { id, payload: Payload::Empty }).collect();
        let hard_state = Some(HardState { current_term: Term(term), voted_for: None });
        LogJob::Write { hard_state, entries, token: WriteToken { attempt: 1, last: EntryId::ZERO } }
    }

    /// Whether a log of 1@1 to 4@2 may be changed so in term 3, whose leader has 1@1, 2@2 and then its own.
    fn may(job: &LogJob) -> bool {
        let member = NodeId::new(1).unwrap();
        let mut durability = Durability::default();
        durability.begin(member, &write(3, &[id(1, 1), id(2, 2), id(3, 2), id(4, 2)]));
        durability.finish(member);
        let leaders = |index: Index| Some(Term([0, 1, 2].get(index.0 as usize).copied().unwrap_or(3)));
        let before = Before::of(durability.shadow(member), leaders);
        durability.begin(member, job);
        durability.finish(member);
        before.check(member, durability.shadow(member)).is_ok()
    }

    #[test]
    fn who_installs_what_its_log_has_is_seen() {
        let restored = Restored {
            hard_state: HardState { current_term: Term(3), voted_for: None },
            snapshot: Snapshot::default(),
            log_start: EntryId::ZERO,
            unread: Vec::new(),
            entries: [id(1, 1), id(2, 2)].map(|id| Entry { id, payload: Payload::Empty }).to_vec(),
        };
        let node = Node::new(NodeId::new(1).unwrap(), Options::default(), 1, restored, Time(0));
        check_needed(&node, id(2, 3)).unwrap();
        check_needed(&node, id(3, 3)).unwrap();
        assert_eq!(check_needed(&node, id(1, 1)).unwrap_err().judge, JUDGE);
    }

    #[test]
    fn who_drops_what_its_leader_has_is_seen() {
        assert!(may(&write(3, &[id(3, 3)])));
        assert!(!may(&write(3, &[id(2, 3)])) && !may(&write(3, &[id(1, 1)])));
        assert!(may(&write(4, &[id(2, 3)])), "another term, another leader");
        assert!(may(&LogJob::Reset { start: id(5, 3) }) && !may(&LogJob::Reset { start: id(1, 1) }));
    }
}

//! How far two logs are known to agree (paper §5.3, figure 2).
//!
//! - A leader's `matchIndex` is the "index of highest log entry known to be replicated on server": the entry must
//!   be on that server's disk, as long as that is in the leader's term.
//! - A follower commits, and acknowledges, no more than its leader has shown it: `min(leaderCommit, index of last
//!   new entry)`. What lies behind that in its log may be a former leader's.
//! - A message of an earlier term changes nothing (§5.1: "if a server receives a request with a stale term number,
//!   it rejects the request").
//! - Who hears of a later term is in it (§5.1: "if one server's current term is smaller than the other's, then it
//!   updates its current term to the larger value"), but for who is asked for its vote while it hears a leader
//!   (thesis §4.2.3).
//!
//! All can be broken for long before an entry is lost; the judge sees it at once.

use std::collections::BTreeMap;

use tenure_raft::{AppendReply, EntryId, Envelope, HardState, Index, Message, Node, NodeId, RoleKind, Term};

use super::durability::Durability;
use super::{Verdict, require};

const KNOWN: &str = "a leader knows what it counts";
const SHOWN: &str = "no more than the leader has shown";
const STALE: &str = "an earlier term is over";
const LATER: &str = "who hears of a later term is in it";
/// So far at a time a stranger's word moves a member (docs/adr/0013-strangers.md).
const STRANGERS_STEP: u64 = 1 << 20;

/// What the leader of a term has shown to a follower.
#[derive(Default, Debug)]
struct Shown {
    through: Index,
    /// Appends that arrived before what they hang on: `(prev, last)`.
    early: Vec<(Index, Index)>,
}

/// What all followers were shown.
#[derive(Default, Debug)]
pub(crate) struct Agreement {
    shown: BTreeMap<(NodeId, Term), Shown>,
}

/// A node before a message arrives.
#[derive(Debug)]
pub(crate) struct Before {
    hard_state: HardState,
    commit_index: Index,
    last: EntryId,
    role: RoleKind,
    matches: Vec<(NodeId, Index)>,
}

impl Before {
    pub(crate) fn of(node: &Node) -> Before {
        Before {
            hard_state: node.status().hard_state,
            commit_index: node.log().commit_index(),
            last: node.log().last(),
            role: node.role(),
            matches: node.match_indexes().collect(),
        }
    }

    /// Whether the node has neither gone to another term nor voted.
    pub(crate) fn has_vote_of(&self, node: &Node) -> bool {
        node.status().hard_state == self.hard_state
    }

    /// Whether the node is what it was; or leads no more, as the time may have shown it.
    fn is_as_before(&self, node: &Node) -> bool {
        let same_role = node.role() == self.role && node.match_indexes().eq(self.matches.iter().copied());
        let stepped_down = self.role == RoleKind::Leader && node.role() == RoleKind::Follower;
        (same_role || stepped_down)
            && node.status().hard_state == self.hard_state
            && node.log().commit_index() == self.commit_index
            && node.log().last() == self.last
    }
}

/// Checks what a leader believes of the others' logs.
pub(crate) fn check_known(node: &Node, disks: &Durability) -> Verdict {
    let log = node.log();
    for (follower, index) in node.match_indexes() {
        let Some(term) = log.term_at(index).filter(|_| index.0 > 0) else { continue };
        let entry = EntryId { index, term };
        // Who has another leader may have let go of it.
        let disk = disks.shadow(follower);
        let follows = disk.hard_state().current_term == node.current_term();
        require(KNOWN, !follows || disk.holds(entry), || {
            format!("{} counts {entry} on {follower}, on whose disk it is not", node.id())
        })?;
    }
    Ok(())
}

impl Agreement {
    /// The member starts anew, and was shown nothing.
    pub(crate) fn on_started(&mut self, member: NodeId) {
        self.shown.retain(|(id, _), _| *id != member);
    }

    /// A message is about to arrive.
    pub(crate) fn on_arrival(&mut self, node: &Node, envelope: &Envelope) {
        if envelope.term < node.current_term() {
            return;
        }
        let log = node.log();
        let shown = self.shown.entry((node.id(), envelope.term)).or_default();
        // What is committed stands in every later leader's log (§5.4.3).
        shown.through = shown.through.max(log.commit_index());
        match &envelope.message {
            Message::AppendEntries { slice, .. } => {
                let (prev, last) = (slice.prev(), slice.last().index);
                if log.matches(prev) || prev.index <= shown.through {
                    shown.through = shown.through.max(last);
                } else {
                    shown.early.push((prev.index, last));
                }
                shown.take_early();
            }
            // The leader says that it knows the follower's log to agree so far.
            Message::Heartbeat { commit_index, .. } | Message::CommitNotice { commit_index } => {
                shown.through = shown.through.max(*commit_index);
            }
            // What a snapshot holds is committed.
            Message::InstallSnapshot { snapshot, .. } if log.matches(snapshot.last_included) => {
                shown.through = shown.through.max(snapshot.last_included.index);
            }
            _ => {}
        }
    }

    /// A message of `term` has arrived, of who `is_known` to the receiver as a member or not; `may_be_unheard` says whether
    /// it was one that asks for a vote, or for the promise of one, or for an election, which do not move everybody.
    pub(crate) fn on_arrived(
        &self,
        before: &Before,
        node: &Node,
        term: Term,
        is_known: bool,
        may_be_unheard: bool,
    ) -> Verdict {
        let most = if is_known { term } else { Term(before.hard_state.current_term.0 + STRANGERS_STEP) };
        require(LATER, may_be_unheard || node.current_term() >= term.min(most), || {
            format!("{} hears of term {term}, and stays in {}", node.id(), node.current_term())
        })?;
        if term < before.hard_state.current_term {
            require(STALE, before.is_as_before(node), || {
                format!("{} is moved by a message of term {term}, in {}", node.id(), node.current_term())
            })?;
        }
        let commit = node.log().commit_index();
        let through =
            self.shown.get(&(node.id(), node.current_term())).map_or(Index(0), |shown| shown.through);
        let is_news = commit > before.commit_index && node.role() != RoleKind::Leader;
        require(SHOWN, !is_news || commit <= through, || {
            format!(
                "{} commits up to {commit}, and the leader has shown it the log up to {through}",
                node.id()
            )
        })
    }

    /// A follower answers its leader.
    pub(crate) fn on_send(&self, envelope: &Envelope) -> Verdict {
        let Message::AppendEntriesReply(AppendReply::Accepted { match_index: index }) = envelope.message
        else {
            return Ok(());
        };
        let shown = self.shown.get(&(envelope.from, envelope.term));
        let through = shown.map_or(Index(0), |shown| shown.through);
        require(SHOWN, index <= through, || {
            format!("it was shown the log up to {through}, and sends {envelope}")
        })
    }
}

impl Shown {
    fn take_early(&mut self) {
        self.early.sort_unstable();
        for &(prev, last) in &self.early {
            if prev <= self.through {
                self.through = self.through.max(last);
            }
        }
        let through = self.through;
        self.early.retain(|(prev, _)| *prev > through);
    }
}

#[cfg(test)]
mod tests {
    use tenure_raft::{
        Configuration, Effect, Entry, LogSlice, Options, Payload, Restored, Snapshot, Time, WriteToken,
    };
    use tenure_replica::LogJob;

    use super::*;

    fn id(index: u64, term: u64) -> EntryId {
        EntryId::new(Index(index), Term(term))
    }

    fn member(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
    }

    /// n2 in term 3, with a log of 1@1 and 2@1.
    fn follower() -> Node {
        let configuration = Configuration::of_voters([1, 2, 3].map(member));
        let restored = Restored {
            hard_state: HardState { current_term: Term(3), voted_for: None },
            snapshot: Snapshot { configuration, ..Snapshot::default() },
            log_start: EntryId::ZERO,
            unread: Vec::new(),
            entries: [id(1, 1), id(2, 1)].map(|id| Entry { id, payload: Payload::Empty }).to_vec(),
        };
        Node::new(member(2), Options::default(), 1, restored, Time(0))
    }

    fn append(prev: EntryId, ids: &[EntryId], leader_commit: u64) -> Envelope {
        let entries = ids.iter().map(|&id| Entry { id, payload: Payload::Empty }).collect();
        let slice = LogSlice::parse(prev, entries).unwrap();
        let message = Message::AppendEntries { slice, leader_commit: Index(leader_commit) };
        Envelope { from: member(1), to: member(2), term: Term(3), message }
    }

    fn accepted(match_index: u64) -> Envelope {
        let message = Message::AppendEntriesReply(AppendReply::Accepted { match_index: Index(match_index) });
        Envelope { from: member(2), to: member(1), term: Term(3), message }
    }

    #[test]
    fn who_acknowledges_what_lies_behind_what_it_was_shown_is_seen() {
        let (mut agreement, node) = (Agreement::default(), follower());
        agreement.on_arrival(&node, &append(EntryId::ZERO, &[id(1, 1)], 0));
        agreement.on_send(&accepted(1)).unwrap();
        assert_eq!(agreement.on_send(&accepted(2)).unwrap_err().judge, SHOWN);
        // What came early counts when what it hangs on has come.
        agreement.on_arrival(&node, &append(id(4, 3), &[id(5, 3)], 0));
        assert!(agreement.on_send(&accepted(5)).is_err());
        agreement.on_arrival(&node, &append(id(1, 1), &[id(2, 3), id(3, 3), id(4, 3)], 0));
        agreement.on_send(&accepted(5)).unwrap();
        agreement.on_started(member(2));
        assert!(agreement.on_send(&accepted(1)).is_err(), "whoever starts anew was shown nothing");
    }

    #[test]
    fn who_commits_more_than_it_was_shown_is_seen() {
        let (mut agreement, mut node) = (Agreement::default(), follower());
        let before = Before::of(&node);
        let envelope = append(EntryId::ZERO, &[id(1, 1), id(2, 1)], 2);
        node.step(Time(1), envelope.clone());
        assert_eq!(agreement.on_arrived(&before, &node, Term(3), true, false).unwrap_err().judge, SHOWN);
        agreement.on_arrival(&follower(), &envelope);
        agreement.on_arrived(&before, &node, Term(3), true, false).unwrap();
    }

    #[test]
    fn who_is_moved_by_an_earlier_term_is_seen() {
        let (agreement, mut node) = (Agreement::default(), follower());
        let before = Before::of(&node);
        agreement.on_arrived(&before, &node, Term(2), true, false).unwrap();
        node.on_time(Time(u64::MAX / 2));
        assert_eq!(agreement.on_arrived(&before, &node, Term(2), true, false).unwrap_err().judge, STALE);
    }

    #[test]
    fn who_does_not_learn_of_a_later_term_is_seen() {
        let (agreement, node) = (Agreement::default(), follower());
        let before = Before::of(&node);
        agreement.on_arrived(&before, &node, Term(4), true, true).unwrap();
        assert_eq!(agreement.on_arrived(&before, &node, Term(4), true, false).unwrap_err().judge, LATER);
        let far = Term(1 << 40);
        assert_eq!(agreement.on_arrived(&before, &node, far, false, false).unwrap_err().judge, LATER);
    }

    #[test]
    fn a_leader_that_counts_what_is_on_no_disk_is_seen() {
        let mut node = follower();
        let step = |node: &mut Node, from: u64, term: u64, message: Message| {
            node.step(
                Time(u64::MAX / 2),
                Envelope { from: member(from), to: member(2), term: Term(term), message },
            );
        };
        node.on_time(Time(u64::MAX / 2));
        step(&mut node, 1, 3, Message::PreVoteReply { proposed_term: Term(4), granted: true });
        while let Some(effect) = node.poll_effect() {
            if let Effect::Persist { token, .. } = effect {
                node.on_persisted(Time(u64::MAX / 2), token);
            }
        }
        step(&mut node, 1, 4, Message::RequestVoteReply { granted: true });
        assert_eq!(node.role(), RoleKind::Leader);
        let mut disks = Durability::default();
        let hard_state = Some(HardState { current_term: Term(4), voted_for: Some(member(2)) });
        let token = WriteToken { attempt: 1, last: EntryId::ZERO };
        disks.begin(member(1), &LogJob::Write { hard_state, entries: Vec::new(), token });
        disks.finish(member(1));
        check_known(&node, &disks).unwrap();
        step(&mut node, 1, 4, Message::AppendEntriesReply(AppendReply::Accepted { match_index: Index(2) }));
        assert_eq!(check_known(&node, &disks).unwrap_err().judge, KNOWN);
    }
}

//! No message ahead of its write (paper figure 2: "updated on stable storage before responding to RPCs";
//! SOURCES P1): whatever a message says about its sender must be on the sender's disk when it leaves.
//!
//! A leader may send entries that it has not flushed; its own term and vote must be. An accepted append
//! must also be *true*: the follower's durable log agrees with the leader's up to the index that it names,
//! not merely as far as it is long; whether that leader still lives or not.

use tenure_raft::{AppendReply, Envelope, Index, Message, SnapshotReply, Term};

use super::durability::Shadow;
use super::{Verdict, require};

const JUDGE: &str = "no message ahead of its write";

/// Checks a message against its sender's disk, and against the log of the leader that it answers: `in_leaders_log`
/// says of which term its entry at an index is, if that is known.
pub(crate) fn check(
    disk: &Shadow,
    envelope: &Envelope,
    in_leaders_log: impl Fn(Index) -> Option<Term>,
) -> Verdict {
    let hard_state = disk.hard_state();
    require(JUDGE, hard_state.current_term >= envelope.term, || {
        format!("on disk is {hard_state}, and it sends {envelope}")
    })?;
    let vote = match &envelope.message {
        Message::RequestVoteReply { granted: true } => Some(envelope.to),
        Message::RequestVote { .. } => Some(envelope.from),
        _ => None,
    };
    let voted = vote.is_none() || hard_state.current_term > envelope.term || hard_state.voted_for == vote;
    require(JUDGE, voted, || format!("on disk is {hard_state}, and it sends {envelope}"))?;
    let Some(acknowledged) = acknowledged(envelope) else { return Ok(()) };
    require(JUDGE, disk.last().index >= acknowledged, || {
        format!("on disk is the log to {}, and it sends {envelope}", disk.last())
    })?;
    let there = in_leaders_log(acknowledged);
    let here = disk.term_at(acknowledged);
    let agrees = there.is_none() || here.is_none() || here == there;
    require(JUDGE, agrees, || {
        let (here, there) = (here.unwrap_or_default(), there.unwrap_or_default());
        format!(
            "on disk is {acknowledged}@{here}, the leader has {acknowledged}@{there}, and it sends {envelope}"
        )
    })
}

/// How far the sender says that its log agrees with the leader's, if it says so.
pub(crate) fn acknowledged(envelope: &Envelope) -> Option<Index> {
    match &envelope.message {
        Message::AppendEntriesReply(AppendReply::Accepted { match_index })
        | Message::InstallSnapshotReply { reply: SnapshotReply::Installed { match_index }, .. } => {
            Some(*match_index)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tenure_raft::{Entry, EntryId, HardState, NodeId, Payload, WriteToken};
    use tenure_replica::LogJob;

    use super::super::durability::Durability;
    use super::*;

    fn id(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
    }

    /// Whether n1 may say this with term 3, a vote for n2 and a log to 1@2 on its disk.
    fn may_send(term: u64, to: u64, message: Message) -> bool {
        may_send_to_leader_with(Term(2), term, to, message)
    }

    /// The same, and the leader's log has an entry of `in_leaders_log` at 1.
    fn may_send_to_leader_with(in_leaders_log: Term, term: u64, to: u64, message: Message) -> bool {
        let mut durability = Durability::default();
        let hard_state = Some(HardState { current_term: Term(3), voted_for: Some(id(2)) });
        let entry = Entry { id: EntryId::new(Index(1), Term(2)), payload: Payload::Empty };
        let token = WriteToken { attempt: 1, last: entry.id };
        durability.begin(id(1), &LogJob::Write { hard_state, entries: vec![entry], token });
        durability.finish(id(1));
        let envelope = Envelope { from: id(1), to: id(to), term: Term(term), message };
        check(durability.shadow(id(1)), &envelope, |_| Some(in_leaders_log)).is_ok()
    }

    #[test]
    fn votes_terms_and_acknowledgements_that_are_not_on_disk_are_seen() {
        let granted = || Message::RequestVoteReply { granted: true };
        assert!(may_send(3, 2, granted()) && !may_send(3, 3, granted()) && !may_send(4, 2, granted()));
        assert!(may_send(2, 3, granted()), "an older term is over anyway");
        assert!(may_send(3, 3, Message::RequestVoteReply { granted: false }));
        assert!(!may_send(4, 3, Message::RequestVoteReply { granted: false }), "it names a term");
        let accepted =
            |index| Message::AppendEntriesReply(AppendReply::Accepted { match_index: Index(index) });
        assert!(may_send(3, 2, accepted(1)) && !may_send(3, 2, accepted(2)));
        assert!(!may_send_to_leader_with(Term(1), 3, 2, accepted(1)), "another entry stands there");
        let last = EntryId::ZERO;
        assert!(
            !may_send(3, 2, Message::RequestVote { last, leadership_transfer: false }),
            "not its own vote"
        );
    }
}

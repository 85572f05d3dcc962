//! What members say to each other: Raft's messages, and what a follower passes on to the leader.

use bytes::Bytes;
use tenure_raft::{Envelope, Index, Message, NodeId, Term};

use crate::job::RequestId;
use crate::member_changes::{ChangeAnswer, MemberChange};

/// A message between two members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerMessage {
    /// Consensus.
    Raft(Envelope),
    /// Writes for the leader.
    Forward(Forward),
    /// Writes that the leader did not take.
    ForwardRefused(ForwardRefused),
    /// Whether the leader has what was sent to it.
    ForwardQuestion(ForwardQuestion),
    /// What of that it lacks.
    ForwardLacked(ForwardLacked),
    /// A change of the members, for the leader.
    ChangeMembers(ChangeMembers),
    /// What became of it.
    MembersChanged(MembersChanged),
    /// Whether the sender's disk is short of room. Said when that changes, and again and again while it is so.
    Room {
        /// Whether it is.
        is_short: bool,
    },
    /// What each member has of the log.
    Acknowledged(Acknowledged),
}

/// Said by a leader to all members now and then: whoever comes back with less was put back to an older copy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acknowledged {
    /// The leader's term.
    pub term: Term,
    /// Up to where they have the log durably, as far as the leader knows.
    pub members: Vec<(NodeId, Index)>,
}

/// Writes that clients gave to a follower, on their way to the leader.
///
/// They are meant for the leader *of `term`* and nobody else. So once an entry of a later term is applied,
/// the sender knows that those it has not seen applied never will be, and may try again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forward {
    /// The term whose leader they are for.
    pub term: Term,
    /// Which start of the sender.
    pub boot: u64,
    /// All attempts below this one are over: the leader need not remember them, and takes none again.
    pub oldest_attempt: u64,
    /// The commands with their origins, ascending by attempt.
    pub commands: Vec<Bytes>,
}

/// Attempts that the receiver did not take, and never will in that term.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForwardRefused {
    /// The term they were for.
    pub term: Term,
    /// Which start of the sender they came from.
    pub boot: u64,
    /// Which attempts.
    pub attempts: Vec<u64>,
    /// Why.
    pub why: ForwardRefusal,
}

/// Why a forwarded write was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForwardRefusal {
    /// The receiver does not lead that term (any more), or is handing its leadership over.
    NotLeader,
    /// The leader has too much to commit.
    Overloaded,
    /// Too few members have room for it on their disks.
    NoSpace,
    /// The leader cannot read the command, or the command breaks a rule that the sender does not know of: the two are
    /// of different versions.
    Unsupported,
}

/// A question to the leader of a term: which of these attempts did not arrive? It travels behind them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForwardQuestion {
    /// The term that they were for.
    pub term: Term,
    /// Which start of the sender.
    pub boot: u64,
    /// All attempts before this one are over.
    pub oldest_attempt: u64,
    /// The attempts, ascending.
    pub attempts: Vec<u64>,
}

/// The answer to a [`ForwardQuestion`], if any did not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForwardLacked {
    /// The term that they were for.
    pub term: Term,
    /// Which start of the receiver.
    pub boot: u64,
    /// What is to be sent once more.
    pub attempts: Vec<u64>,
}

/// A change of the members that a client wants of the sender. Whoever does not lead says nothing to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangeMembers {
    /// Which start of the sender.
    pub boot: u64,
    /// The sender's number for it.
    pub number: RequestId,
    /// What shall be.
    pub change: MemberChange,
    /// Even if those that answer would be no quorum any more.
    pub force: bool,
}

/// The answer to a [`ChangeMembers`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MembersChanged {
    /// Which start of the receiver.
    pub boot: u64,
    /// The receiver's number for the change.
    pub number: RequestId,
    /// What became of it.
    pub answer: ChangeAnswer,
}

impl PeerMessage {
    /// About what it takes on the wire and in memory.
    pub fn size_bytes(&self) -> usize {
        const FRAME_BYTES: usize = 64;
        let body_bytes = match self {
            PeerMessage::Raft(envelope) => match &envelope.message {
                Message::AppendEntries { slice, .. } => slice.size_bytes(),
                Message::InstallSnapshot { chunk, .. } => chunk.data.len(),
                Message::PreVote { .. }
                | Message::PreVoteReply { .. }
                | Message::RequestVote { .. }
                | Message::RequestVoteReply { .. }
                | Message::AppendEntriesReply(_)
                | Message::Heartbeat { .. }
                | Message::HeartbeatReply { .. }
                | Message::CommitNotice { .. }
                | Message::InstallSnapshotReply { .. }
                | Message::TimeoutNow
                | Message::ReadIndex { .. }
                | Message::ReadIndexReply { .. } => 0,
            },
            PeerMessage::Forward(forward) => forward.commands.iter().map(Bytes::len).sum(),
            PeerMessage::ForwardRefused(ForwardRefused { attempts, .. })
            | PeerMessage::ForwardQuestion(ForwardQuestion { attempts, .. })
            | PeerMessage::ForwardLacked(ForwardLacked { attempts, .. }) => attempts.len() * size_of::<u64>(),
            PeerMessage::Acknowledged(Acknowledged { members, .. }) => members.len() * 2 * size_of::<u64>(),
            PeerMessage::ChangeMembers(_) | PeerMessage::MembersChanged(_) | PeerMessage::Room { .. } => 0,
        };
        FRAME_BYTES + body_bytes
    }

    /// Whether it answers what its receiver has sent as a leader: such a message shows who is alive, and is to be
    /// heard before a leader concludes that nobody answers.
    pub fn is_answer(&self) -> bool {
        matches!(self, PeerMessage::Raft(envelope) if envelope.message.is_answer_to_leader())
    }

    /// Whether it may wait behind other large messages; the rest travels in a lane of its own.
    pub fn is_bulk(&self) -> bool {
        match self {
            PeerMessage::Raft(envelope) => envelope.message.is_bulk(),
            // A question that overtook what it asks after would find it missing.
            PeerMessage::Forward(_) | PeerMessage::ForwardQuestion(_) => true,
            PeerMessage::ForwardRefused(_)
            | PeerMessage::ForwardLacked(_)
            | PeerMessage::ChangeMembers(_)
            | PeerMessage::MembersChanged(_)
            | PeerMessage::Room { .. }
            | PeerMessage::Acknowledged(_) => false,
        }
    }
}

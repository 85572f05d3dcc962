//! What members say to each other: Raft's messages, and what a follower passes on to the leader.

use bytes::Bytes;
use tenure_raft::{Envelope, Term};

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
    /// A change of the members, for the leader.
    ChangeMembers(ChangeMembers),
    /// What became of it.
    MembersChanged(MembersChanged),
    /// Whether the sender's disk is short of room. Said when that changes, and again and again while it is so.
    Room {
        /// Whether it is.
        is_short: bool,
    },
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
    /// Whether it may wait behind other large messages; the rest travels in a lane of its own.
    pub fn is_bulk(&self) -> bool {
        match self {
            PeerMessage::Raft(envelope) => envelope.message.is_bulk(),
            PeerMessage::Room { .. } => false,
            PeerMessage::Forward(_)
            | PeerMessage::ForwardRefused(_)
            | PeerMessage::ChangeMembers(_)
            | PeerMessage::MembersChanged(_) => true,
        }
    }
}

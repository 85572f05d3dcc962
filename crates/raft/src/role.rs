//! The four roles, each with the data that only it has (paper figure 4, with the pre-candidate of thesis
//! §9.6).

use std::collections::{BTreeMap, BTreeSet};

use crate::early::EarlyAppends;
use crate::progress::Progress;
use crate::read_index::LeaderReads;
use crate::{Index, NodeId, ReadId, Time};

/// What a server is at the moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Follower(Follower),
    PreCandidate(Campaign),
    Candidate(Campaign),
    Leader(Leader),
}

/// The roles without their data, to show.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RoleKind {
    /// Takes entries from a leader.
    Follower,
    /// Asks whether an election could be won.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Won its term.
    Leader,
}

impl std::fmt::Display for RoleKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            RoleKind::Follower => "follower",
            RoleKind::PreCandidate => "pre-candidate",
            RoleKind::Candidate => "candidate",
            RoleKind::Leader => "leader",
        })
    }
}

/// A follower's data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Follower {
    /// Who leads this term, once it has been heard (SOURCES E4).
    pub(crate) leader_id: Option<NodeId>,
    /// When the leader was last heard; none once the connection to it broke.
    pub(crate) heard_at: Option<Time>,
    pub(crate) election_deadline: Time,
    /// The highest commit index that the leader of this term has named. An append that came early may have
    /// named it: what it said holds for the entries that fill the hole, too.
    pub(crate) leader_commit: Index,
    /// Appends that arrived before their predecessors.
    pub(crate) early: EarlyAppends,
    /// Reads that the leader has been asked about.
    pub(crate) reads: BTreeSet<ReadId>,
}

impl Follower {
    /// One that follows nobody yet, or that has just heard `leader_id`. Its election deadline is still to
    /// be drawn.
    pub(crate) fn new(now: Time, leader_id: Option<NodeId>) -> Follower {
        Follower {
            leader_id,
            heard_at: leader_id.map(|_| now),
            election_deadline: now,
            leader_commit: Index(0),
            early: EarlyAppends::default(),
            reads: BTreeSet::new(),
        }
    }
}

/// A candidate's or pre-candidate's data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Campaign {
    /// The answers so far, one a server.
    pub(crate) votes: BTreeMap<NodeId, bool>,
    pub(crate) began: Time,
    pub(crate) deadline: Time,
    /// How many candidacies in a row have come to nothing.
    pub(crate) failed: u32,
}

/// A leader's data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Leader {
    /// Every other member.
    pub(crate) progress: BTreeMap<NodeId, Progress>,
    pub(crate) heartbeat_deadline: Time,
    /// The blank entry that began the term: reads wait until it is committed.
    pub(crate) first_index_of_term: Index,
    pub(crate) uncommitted_bytes: usize,
    pub(crate) reads: LeaderReads,
    pub(crate) transfer: Option<Transfer>,
}

/// Leadership on its way to another server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Transfer {
    pub(crate) target: NodeId,
    pub(crate) deadline: Time,
    /// TimeoutNow has been sent.
    pub(crate) sent: bool,
}

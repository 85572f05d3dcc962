//! What servers say to each other: one variant a kind, each with only its own fields.
//!
//! Every message travels in an [`Envelope`] that names the sender's current term (paper §5.1; SOURCES T2).
//! Departures from the paper's messages, with their reasons, are listed in docs/protocol.md: Heartbeat is
//! a message of its own, replies are enums, PreVote, ReadIndex and TimeoutNow come from the dissertation.

use std::fmt;

use crate::types::Above;
use crate::{EntryId, Index, LogSlice, NodeId, Snapshot, SnapshotChunk, Term};

/// A message with its way and the term its sender was in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// Who says it.
    pub from: NodeId,
    /// To whom.
    pub to: NodeId,
    /// The sender's current term. In a PreVote too: the term it proposes stands in the body.
    pub term: Term,
    /// What it says.
    pub message: Message,
}

/// Numbers a leader's rounds of heartbeats within its term. An answer to round `r` proves that the sender
/// still followed this leader after round `r` began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Round(pub u64);

/// Names a linearizable read. Never used twice by a server, across its restarts too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReadId(pub u64);

/// The kinds of messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// "Would you vote for me?", before the term is raised (thesis §9.6).
    PreVote {
        /// The term the sender would campaign in.
        proposed_term: Term,
        /// Its last entry.
        last: EntryId,
    },
    /// The answer to PreVote. A refusal teaches the voter's term by its envelope.
    PreVoteReply {
        /// The term that was proposed.
        proposed_term: Term,
        /// Whether the voter would.
        granted: bool,
    },
    /// RequestVote (paper §5.2).
    RequestVote {
        /// The candidate's last entry.
        last: EntryId,
        /// Set when the leader itself asked for this election (thesis §3.10): voters do not refuse
        /// because they heard a leader lately.
        leadership_transfer: bool,
    },
    /// The answer to RequestVote.
    RequestVoteReply {
        /// Whether the vote was granted.
        granted: bool,
    },
    /// AppendEntries (paper §5.3).
    AppendEntries {
        /// The entries and the one they hang on.
        slice: LogSlice,
        /// The leader's commit index.
        leader_commit: Index,
    },
    /// The answer to AppendEntries.
    AppendEntriesReply(AppendReply),
    /// "I lead", in a lane that no large append delays.
    Heartbeat {
        /// As far as the receiver is known to hold the leader's log *and* the log is committed.
        commit_index: Index,
        /// The leader's latest round.
        round: Round,
    },
    /// The answer to a heartbeat.
    HeartbeatReply {
        /// The round of the heartbeat.
        round: Round,
    },
    /// "This much is committed", when there are no entries to say it with. Never answered: it may be lost, for
    /// the next append or heartbeat says the same.
    CommitNotice {
        /// As in a heartbeat: no further than the receiver is known to hold the leader's log.
        commit_index: Index,
    },
    /// A chunk of a snapshot (paper §7).
    InstallSnapshot {
        /// What the snapshot stands for.
        snapshot: Snapshot,
        /// The chunk. Without any data (and not the last) it only asks how far the receiver has come.
        chunk: SnapshotChunk,
    },
    /// The answer to InstallSnapshot.
    InstallSnapshotReply {
        /// Which snapshot is meant.
        last_included: EntryId,
        /// How far it has come.
        reply: SnapshotReply,
    },
    /// "Campaign now": leadership is handed over (thesis §3.10).
    TimeoutNow,
    /// A follower asks from which index on a read is up to date (thesis §6.4).
    ReadIndex {
        /// The follower's read.
        read: ReadId,
    },
    /// The answer to ReadIndex.
    ReadIndexReply {
        /// The follower's read.
        read: ReadId,
        /// The index, or none when the receiver does not lead.
        index: Option<Index>,
    },
}

/// The two answers to AppendEntries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppendReply {
    /// The follower's log agrees with the leader's up to here, durably.
    Accepted {
        /// The last index verified by this append (not the follower's last index).
        match_index: Index,
    },
    /// The follower lacks `prev`.
    Rejected {
        /// The entry that it lacks.
        prev: EntryId,
        /// The last entry of the follower that could agree with the leader's log: not after `prev`, of no
        /// later term. One answer skips a whole term (paper §5.3, SOURCES R4).
        hint: EntryId,
    },
}

/// How a snapshot transfer stands at the receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotReply {
    /// Everything up to here is kept.
    Received {
        /// In bytes.
        next_offset: u64,
        /// Of what lies above this index.
        above: Index,
    },
    /// A chunk came that does not go on from what came before: the next should begin here.
    Missing {
        /// In bytes.
        next_offset: u64,
        /// Of what lies above this index.
        above: Index,
    },
    /// The receiver's log agrees with the leader's up to here, durably.
    Installed {
        /// At least the snapshot's last index.
        match_index: Index,
    },
}

impl Message {
    /// Whether a server may answer this: a reply is never answered, so two servers cannot talk for ever. Nor
    /// is a notice.
    pub fn is_request(&self) -> bool {
        match self {
            Message::PreVote { .. }
            | Message::RequestVote { .. }
            | Message::AppendEntries { .. }
            | Message::Heartbeat { .. }
            | Message::InstallSnapshot { .. }
            | Message::TimeoutNow
            | Message::ReadIndex { .. } => true,
            Message::CommitNotice { .. }
            | Message::PreVoteReply { .. }
            | Message::RequestVoteReply { .. }
            | Message::AppendEntriesReply(_)
            | Message::HeartbeatReply { .. }
            | Message::InstallSnapshotReply { .. }
            | Message::ReadIndexReply { .. } => false,
        }
    }

    /// Whether a follower says this to its leader in answer: it shows that the follower lives.
    pub fn is_answer_to_leader(&self) -> bool {
        matches!(
            self,
            Message::AppendEntriesReply(_)
                | Message::HeartbeatReply { .. }
                | Message::InstallSnapshotReply { .. }
        )
    }

    /// Whether only the leader of the envelope's term can have sent this (SOURCES T3).
    pub fn is_from_leader(&self) -> bool {
        matches!(
            self,
            Message::AppendEntries { .. }
                | Message::Heartbeat { .. }
                | Message::CommitNotice { .. }
                | Message::InstallSnapshot { .. }
                | Message::TimeoutNow
        )
    }

    /// Whether it may wait behind large appends and snapshots; all others travel in a lane of their own.
    pub fn is_bulk(&self) -> bool {
        matches!(
            self,
            Message::AppendEntries { .. } | Message::CommitNotice { .. } | Message::InstallSnapshot { .. }
        )
    }
}

impl fmt::Display for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} → {} {}", self.from, self.term, self.to, self.message)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::PreVote { proposed_term, last } => {
                write!(f, "PreVote for {proposed_term} last {last}")
            }
            Message::PreVoteReply { proposed_term, granted } => {
                write!(f, "PreVoteReply for {proposed_term} {}", verdict(*granted))
            }
            Message::RequestVote { last, leadership_transfer } => {
                let transfer = if *leadership_transfer { " transfer" } else { "" };
                write!(f, "RequestVote last {last}{transfer}")
            }
            Message::RequestVoteReply { granted } => write!(f, "RequestVoteReply {}", verdict(*granted)),
            Message::AppendEntries { slice, leader_commit } => {
                write!(f, "AppendEntries {slice} commit {leader_commit}")
            }
            Message::AppendEntriesReply(reply) => write!(f, "AppendEntriesReply {reply}"),
            Message::Heartbeat { commit_index, round } => {
                write!(f, "Heartbeat commit {commit_index} round {}", round.0)
            }
            Message::HeartbeatReply { round } => write!(f, "HeartbeatReply round {}", round.0),
            Message::CommitNotice { commit_index } => write!(f, "CommitNotice {commit_index}"),
            Message::InstallSnapshot { snapshot, chunk } => {
                let Snapshot { last_included, configuration } = snapshot;
                write!(f, "InstallSnapshot {last_included} {configuration}{chunk}")
            }
            Message::InstallSnapshotReply { last_included, reply } => {
                write!(f, "InstallSnapshotReply {last_included} {reply}")
            }
            Message::TimeoutNow => write!(f, "TimeoutNow"),
            Message::ReadIndex { read } => write!(f, "ReadIndex r{}", read.0),
            Message::ReadIndexReply { read, index: Some(index) } => {
                write!(f, "ReadIndexReply r{} at {index}", read.0)
            }
            Message::ReadIndexReply { read, index: None } => {
                write!(f, "ReadIndexReply r{} refused", read.0)
            }
        }
    }
}

impl fmt::Display for AppendReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppendReply::Accepted { match_index } => write!(f, "accepted {match_index}"),
            AppendReply::Rejected { prev, hint } => write!(f, "rejected {prev} hint {hint}"),
        }
    }
}

impl fmt::Display for SnapshotReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotReply::Received { next_offset, above } => {
                write!(f, "received{} to {next_offset}", Above(*above))
            }
            SnapshotReply::Missing { next_offset, above } => {
                write!(f, "missing{} from {next_offset}", Above(*above))
            }
            SnapshotReply::Installed { match_index } => write!(f, "installed {match_index}"),
        }
    }
}

fn verdict(granted: bool) -> &'static str {
    if granted { "granted" } else { "refused" }
}

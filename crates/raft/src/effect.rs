//! What the core asks of its surroundings, as plain values.
//!
//! After every input the caller drains [`Node::poll_effect`](crate::Node::poll_effect) and carries the
//! effects out. The order in which things must be on disk is data: what may leave only after a write rides
//! inside the effect that asks for the write.

use std::fmt;

use crate::types::Above;
use crate::{
    Configuration, Entry, EntryId, Envelope, HardState, Index, NodeId, ReadId, Snapshot, SnapshotChunk, Term,
};

/// Names one attempt to write, so that its completion cannot vouch for anything written later at the same
/// indexes. Tokens grow; writes complete in the order they were asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WriteToken {
    /// Counts the attempts of this node since it started.
    pub attempt: u64,
    /// The last entry of the log when the write was asked for.
    pub last: EntryId,
}

impl fmt::Display for WriteToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}", self.attempt)
    }
}

/// Something for the caller to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Write durably, then send `then_send`, then call [`Node::on_persisted`](crate::Node::on_persisted)
    /// with the token. In order; several may be merged into one write, of which the last token is
    /// reported. An entry at an index that was written before replaces it and all that followed.
    Persist {
        /// The term and the vote, if they changed.
        hard_state: Option<HardState>,
        /// Entries that follow each other.
        entries: Vec<Entry>,
        /// What to report.
        token: WriteToken,
        /// Messages that depend on this write or an earlier one (SOURCES P1, E2).
        then_send: Vec<Envelope>,
    },
    /// Send now: nothing that it depends on waits for a disk.
    Send(Envelope),
    /// These entries are committed and durable here: apply them in order, then call
    /// [`Node::on_applied`](crate::Node::on_applied).
    Apply(Vec<Entry>),
    /// The read may be served once `index` is applied.
    ReadReady {
        /// As [`Node::read_index`](crate::Node::read_index) returned it.
        read: ReadId,
        /// The index the state must have reached.
        index: Index,
    },
    /// The read was not confirmed; it has no effect, so it can be asked again.
    ReadFailed {
        /// As [`Node::read_index`](crate::Node::read_index) returned it.
        read: ReadId,
    },
    /// Read entries that are no longer in memory and call
    /// [`Node::on_entries_loaded`](crate::Node::on_entries_loaded).
    LoadEntries {
        /// The follower they are for.
        to: NodeId,
        /// The first index.
        first: Index,
        /// The last index wanted.
        last: Index,
        /// Stop after this many bytes, but load one entry at least.
        max_bytes: usize,
    },
    /// Read a chunk of a snapshot and call
    /// [`Node::on_snapshot_chunk_loaded`](crate::Node::on_snapshot_chunk_loaded), or, if the snapshot is gone,
    /// [`Node::on_snapshot_unavailable`](crate::Node::on_snapshot_unavailable). Until then nothing more is asked
    /// for on behalf of this follower.
    LoadSnapshotChunk {
        /// The follower it is for.
        to: NodeId,
        /// Which snapshot.
        last_included: EntryId,
        /// Only what lies above this index is to be sent. A caller whose snapshots are whole pays no heed to it, here
        /// and where they arrive.
        above: Index,
        /// Where in that the chunk begins, in bytes.
        offset: u64,
        /// How long it may be.
        max_bytes: usize,
    },
    /// Keep a chunk that arrived and call
    /// [`Node::on_snapshot_chunk_stored`](crate::Node::on_snapshot_chunk_stored), for each in order. At offset 0 the
    /// transfer begins anew: what was kept of another is of no use.
    StoreSnapshotChunk {
        /// Which snapshot.
        snapshot: Snapshot,
        /// The chunk.
        chunk: SnapshotChunk,
    },
    /// The snapshot is complete: make it durable, let it replace the state and the whole log, then call
    /// [`Node::on_snapshot_installed`](crate::Node::on_snapshot_installed). No entry is applied meanwhile.
    InstallSnapshot(Snapshot),
    /// Something happened that logs, metrics and pictures may show.
    Event(Event),
}

/// Why a leader gave up its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepDownReason {
    /// A message named a higher term.
    HigherTerm,
    /// No quorum has answered for an election timeout (SOURCES E9).
    LostQuorum,
    /// The leader's own disk has not finished a write for too long.
    DiskStalled,
    /// A change that is committed has left it without a vote (SOURCES C4).
    Removed,
}

/// What happened. Not needed to run the protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Follows `leader_id`, or nobody yet, in this term.
    BecameFollower {
        /// The term.
        term: Term,
        /// Whom it follows.
        leader_id: Option<NodeId>,
    },
    /// Asks whether an election could be won.
    BecamePreCandidate {
        /// The term it would campaign in.
        proposed_term: Term,
    },
    /// Campaigns.
    BecameCandidate {
        /// The term it campaigns in.
        term: Term,
    },
    /// Won the term.
    BecameLeader {
        /// The term.
        term: Term,
        /// The last entry of its log at that moment.
        last: EntryId,
    },
    /// No longer leads.
    SteppedDown {
        /// The term it led.
        term: Term,
        /// Why.
        reason: StepDownReason,
    },
    /// Gave its vote of this term.
    VoteGranted {
        /// The term.
        term: Term,
        /// To whom.
        candidate: NodeId,
    },
    /// Refused a vote or a pre-vote.
    VoteRefused {
        /// Whom.
        candidate: NodeId,
        /// Why.
        why: VoteRefusal,
    },
    /// An append found no place in the log.
    AppendRejected {
        /// The entry that is missing here.
        prev: EntryId,
    },
    /// Entries that were never committed gave way to the leader's.
    Truncated {
        /// The first index that was cut off.
        first: Index,
        /// The last entry before the cut.
        last: EntryId,
    },
    /// More of the log is committed.
    CommitAdvanced {
        /// The last committed entry.
        commit: EntryId,
    },
    /// Another configuration came into force: it was appended, or came with a snapshot, or a later one was cut
    /// off.
    ConfigurationChanged {
        /// The one in force now.
        configuration: Configuration,
    },
    /// A snapshot took the place of the log.
    SnapshotInstalled {
        /// The last entry that it replaces.
        last_included: EntryId,
    },
    /// A snapshot arrived whole, and is none: a disk or a network has changed it. It will be sent anew.
    SnapshotDamaged {
        /// The last entry that it should have replaced.
        last_included: EntryId,
        /// Who sent it.
        leader: NodeId,
    },
    /// Leadership is being handed over.
    TransferStarted {
        /// To whom.
        target: NodeId,
    },
    /// The target did not take over in time.
    TransferAborted {
        /// Who did not.
        target: NodeId,
    },
}

/// Why a vote was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VoteRefusal {
    /// A leader was heard less than an election timeout ago (thesis §4.2.3).
    LeaderAlive,
    /// The vote of this term is given (paper §5.2).
    AlreadyVoted,
    /// The candidate's log is less up to date (paper §5.4.1).
    LogBehind,
    /// The proposed term is not newer than ours.
    TermBehind,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Effect::Persist { hard_state, entries, token, then_send } => {
                write!(f, "Persist {token}")?;
                if let Some(hard_state) = hard_state {
                    write!(f, " {hard_state}")?;
                }
                write_entries(f, entries)?;
                for envelope in then_send {
                    write!(f, "\n  then {envelope}")?;
                }
                Ok(())
            }
            Effect::Send(envelope) => write!(f, "Send {envelope}"),
            Effect::Apply(entries) => {
                write!(f, "Apply")?;
                write_entries(f, entries)
            }
            Effect::ReadReady { read, index } => write!(f, "ReadReady r{} at {index}", read.0),
            Effect::ReadFailed { read } => write!(f, "ReadFailed r{}", read.0),
            Effect::LoadEntries { to, first, last, .. } => {
                write!(f, "LoadEntries {first}..={last} for {to}")
            }
            Effect::LoadSnapshotChunk { to, last_included, above, offset, .. } => {
                write!(f, "LoadSnapshotChunk {last_included}{} at {offset} for {to}", Above(*above))
            }
            Effect::StoreSnapshotChunk { snapshot, chunk } => {
                write!(f, "StoreSnapshotChunk {}{chunk}", snapshot.last_included)
            }
            Effect::InstallSnapshot(Snapshot { last_included, configuration }) => {
                write!(f, "InstallSnapshot {last_included} {configuration}")
            }
            Effect::Event(event) => write!(f, "{event}"),
        }
    }
}

fn write_entries(f: &mut fmt::Formatter<'_>, entries: &[Entry]) -> fmt::Result {
    if entries.is_empty() {
        return Ok(());
    }
    write!(f, " [")?;
    for (position, entry) in entries.iter().enumerate() {
        let space = if position == 0 { "" } else { " " };
        write!(f, "{space}{entry}")?;
    }
    write!(f, "]")
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::BecameFollower { term, leader_id: Some(leader) } => {
                write!(f, "follows {leader} in term {term}")
            }
            Event::BecameFollower { term, leader_id: None } => write!(f, "follower in term {term}"),
            Event::BecamePreCandidate { proposed_term } => {
                write!(f, "pre-candidate for term {proposed_term}")
            }
            Event::BecameCandidate { term } => write!(f, "candidate in term {term}"),
            Event::BecameLeader { term, last } => write!(f, "leader of term {term}, last {last}"),
            Event::SteppedDown { term, reason } => {
                let why = match reason {
                    StepDownReason::HigherTerm => "a higher term",
                    StepDownReason::LostQuorum => "no quorum answers",
                    StepDownReason::DiskStalled => "its disk stalls",
                    StepDownReason::Removed => "it has no vote any more",
                };
                write!(f, "steps down in term {term}: {why}")
            }
            Event::VoteGranted { term, candidate } => write!(f, "votes for {candidate} in term {term}"),
            Event::VoteRefused { candidate, why } => {
                let why = match why {
                    VoteRefusal::LeaderAlive => "a leader was heard lately",
                    VoteRefusal::AlreadyVoted => "the vote is given",
                    VoteRefusal::LogBehind => "its log is behind",
                    VoteRefusal::TermBehind => "its term is behind",
                };
                write!(f, "refuses {candidate}: {why}")
            }
            Event::AppendRejected { prev } => write!(f, "lacks {prev}"),
            Event::Truncated { first, last } => write!(f, "cuts off from {first}, last {last}"),
            Event::CommitAdvanced { commit } => write!(f, "commit {commit}"),
            Event::ConfigurationChanged { configuration } => write!(f, "goes by {configuration}"),
            Event::SnapshotInstalled { last_included } => write!(f, "snapshot {last_included} installed"),
            Event::SnapshotDamaged { last_included, leader } => {
                write!(f, "snapshot {last_included} of {leader} is damaged")
            }
            Event::TransferStarted { target } => write!(f, "hands over to {target}"),
            Event::TransferAborted { target } => write!(f, "{target} did not take over"),
        }
    }
}

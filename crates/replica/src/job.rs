//! What a member asks its surroundings to do, and how they answer.
//!
//! There are two workers with a disk each (see [`LogWorker`](crate::LogWorker) and
//! [`CheckpointWorker`](crate::CheckpointWorker)); each does its jobs in order and answers each. Whether
//! they run on threads or in simulated time is not known here.

use tenure_raft::{Entry, EntryId, Event, HardState, Index, NodeId, Snapshot, SnapshotChunk, WriteToken};
use tenure_store::{Garbage, Rejection, Response, Store};

use crate::apply::ApplyJob;
use crate::member_changes::ChangeRefusal;
use crate::message::PeerMessage;

/// Names a client's request at the member that took it. The caller counts them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// Something to do.
#[derive(Debug)]
pub enum Job {
    /// Send a message. It may be lost; it must not block.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: PeerMessage,
    },
    /// For the worker of the log.
    Log(LogJob),
    /// For the worker of the checkpoints.
    Checkpoint(CheckpointJob),
    /// For the worker that executes what would take long. There is one at a time.
    Apply(ApplyJob),
    /// To be dropped where nobody waits: it takes a while to free.
    Discard(Garbage),
    /// A request is answered.
    Reply {
        /// Which.
        request: RequestId,
        /// How.
        reply: Reply,
    },
    /// Something happened that logs and metrics may show.
    Event(Event),
    /// The history was compacted. etcd hashes what a compaction finds, which takes long and is no part of the state:
    /// whoever wants that hash makes it of this.
    Compacted {
        /// The state before.
        before: tenure_store::Snapshot,
        /// Up to here.
        revision: i64,
    },
}

/// Work on the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogJob {
    /// Write and sync.
    Write {
        /// The term and vote, if they changed.
        hard_state: Option<HardState>,
        /// Entries that follow each other.
        entries: Vec<Entry>,
        /// What to report.
        token: WriteToken,
    },
    /// Read entries for a follower that is far behind.
    Read {
        /// For whom.
        to: NodeId,
        /// The first index.
        first: Index,
        /// The last index wanted.
        last: Index,
        /// Stop after this many bytes, but read one entry at least.
        max_bytes: usize,
    },
    /// Entries up to here are no longer needed.
    Compact {
        /// The last of them.
        through: EntryId,
    },
    /// A snapshot took the place of the whole log.
    Reset {
        /// Its last entry.
        start: EntryId,
    },
    /// Give up room that is not needed for the next segment: others need it.
    GiveUpSpares,
}

/// What the log's worker has done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogDone {
    /// Everything up to this write is durable.
    Written(WriteToken),
    /// Entries that were asked for; none if they are gone.
    Read {
        /// For whom.
        to: NodeId,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// The log was compacted.
    Compacted,
    /// What could be given up was.
    GaveUpSpares,
    /// Said without being asked, when it changes: whether the disk has no room for the next segment.
    Room {
        /// Whether that is so.
        is_lacking: bool,
    },
    /// The log begins after this entry now.
    Reset {
        /// The entry.
        start: EntryId,
    },
}

/// Work on checkpoints.
#[derive(Debug)]
pub enum CheckpointJob {
    /// Write the state down.
    Take {
        /// What it stands for.
        snapshot: Snapshot,
        /// The state at that index.
        state: Box<tenure_store::Snapshot>,
        /// Checkpoints that are on their way to followers, and are to be kept.
        sent: Vec<EntryId>,
    },
    /// Read a piece of a checkpoint for a follower.
    Load {
        /// For whom.
        to: NodeId,
        /// Which checkpoint.
        last_included: EntryId,
        /// Its files that hold nothing above this index are left out.
        above: Index,
        /// Where in the others the piece begins, in bytes.
        offset: u64,
        /// How long it may be.
        max_bytes: usize,
    },
    /// Keep a piece of a checkpoint that arrives.
    Store {
        /// What it stands for.
        snapshot: Snapshot,
        /// The piece; at 0 a new checkpoint begins.
        chunk: SnapshotChunk,
    },
    /// All of the checkpoint has arrived that this member lacked: check it, make it durable, read its state.
    Install {
        /// What it stands for.
        snapshot: Snapshot,
        /// The state that it is put on, unless it is whole.
        state: Box<Store>,
    },
    /// Keep room for the next checkpoint.
    Reserve {
        /// For how much.
        bytes: u64,
    },
}

/// What the checkpoints' worker has done.
#[derive(Debug)]
pub enum CheckpointDone {
    /// The checkpoint is durable.
    Taken {
        /// Its last entry.
        last_included: EntryId,
        /// The revision that the first of its files ends with: no later one reaches back behind it, but a whole one.
        base_revision: i64,
        /// How many files it has; those before the last are shared with earlier checkpoints.
        segments: usize,
        /// How long the one is that was written for it.
        written_bytes: u64,
    },
    /// There was no room for the checkpoint; nothing is left of it.
    NotTaken {
        /// Its last entry.
        last_included: EntryId,
        /// What was attempted, and what the system said.
        why: String,
    },
    /// A piece for a follower.
    Loaded {
        /// For whom.
        to: NodeId,
        /// What the checkpoint stands for.
        snapshot: Snapshot,
        /// The piece.
        chunk: SnapshotChunk,
    },
    /// The checkpoint that was asked for is gone, or cannot be read now.
    Unavailable {
        /// For whom.
        to: NodeId,
        /// Which.
        last_included: EntryId,
        /// Why it can be read no more, if that is so: the next checkpoint will be written whole.
        unreadable: Option<String>,
    },
    /// A piece is kept.
    Stored {
        /// Of which checkpoint.
        last_included: EntryId,
    },
    /// There was no room for the piece, or for what is to be made of all of them; nothing is left of any.
    NotKept {
        /// Of which checkpoint.
        last_included: EntryId,
        /// What was attempted, and what the system said.
        why: String,
    },
    /// The checkpoint is durable, and this is its state.
    Installed {
        /// Which.
        last_included: EntryId,
        /// The state.
        store: Box<Store>,
    },
    /// What arrived was no whole checkpoint.
    Damaged {
        /// Which.
        last_included: EntryId,
    },
    /// What arrived goes on from our own checkpoint, which has too many parts already, or one that cannot be read.
    CannotFollow {
        /// Which.
        last_included: EntryId,
    },
    /// The disk keeps so much room for the next checkpoint; less than was asked for, if there was no more.
    Reserved {
        /// How much.
        bytes: u64,
    },
}

/// How a request ended.
#[derive(Debug)]
pub enum Reply {
    /// The write was executed. The rejection, too, is what all members decided.
    Applied {
        /// What came of it.
        result: Result<Response, Rejection>,
        /// The store's revision after it.
        revision: i64,
        /// This member's term.
        raft_term: u64,
    },
    /// Read from this; it is up to date.
    Read {
        /// The state.
        state: tenure_store::Snapshot,
        /// This member's term.
        raft_term: u64,
    },
    /// The members are as was asked for, and this member has applied it.
    Changed {
        /// This member's term.
        raft_term: u64,
    },
    /// The members stay as they were.
    Refused(ChangeRefusal),
    /// It was not answered.
    Failed(Failure),
}

/// Why a request was not answered. Two kinds that are never mixed: clients repeat a write when it was
/// certainly not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Certainly not done: nobody led.
    NoLeader,
    /// Certainly not done: the leader that had it was replaced before it was committed.
    LeaderChanged,
    /// Certainly not done: too much was under way.
    TooManyRequests,
    /// Certainly not done: it was too large.
    TooLarge,
    /// Certainly not done: too few members have room for it on their disks.
    NoSpace,
    /// Certainly not done: the leader is of another version, and cannot execute it.
    Unsupported,
    /// It is not known whether it was done, or will be.
    TimedOut,
    /// It is not known: the leader that had it is gone, and nothing is known of it.
    TimedOutLeaderFailed,
}

impl Failure {
    /// Whether the request has certainly had no effect, and never will.
    pub fn is_certainly_not_done(self) -> bool {
        match self {
            Failure::NoLeader
            | Failure::LeaderChanged
            | Failure::TooManyRequests
            | Failure::TooLarge
            | Failure::NoSpace
            | Failure::Unsupported => true,
            Failure::TimedOut | Failure::TimedOutLeaderFailed => false,
        }
    }
}

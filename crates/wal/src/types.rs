//! The values that go into the log and come out of it.

use std::num::NonZeroU64;
use std::path::PathBuf;

use bytes::Bytes;

/// What Raft persists beside the entries (paper, figure 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardState {
    /// The latest term this member has seen.
    pub current_term: u64,
    /// Whom it voted for in that term.
    pub voted_for: Option<NonZeroU64>,
}

/// One entry of the Raft log, opaque but for its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the log, from 1.
    pub index: u64,
    /// The term of the leader that made it.
    pub term: u64,
    /// What the caller's data is; not interpreted here.
    pub kind: u8,
    /// The caller's data.
    pub data: Bytes,
}

/// The place and the term of an entry; (0, 0) stands before the first one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The place in the log.
    pub index: u64,
    /// The term of the entry at that place.
    pub term: u64,
}

/// Entries that follow each other, were written together and have one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first of them.
    pub first: Position,
    /// The last of them.
    pub last_index: u64,
    /// What was written with them, in bytes.
    pub bytes: u64,
}

/// What was in the log when it was opened. All of it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The newest hard state, if one was ever written.
    pub hard_state: Option<HardState>,
    /// The entry before the first one kept.
    pub start: Position,
    /// The entries that were asked for, contiguous; all of them if they begin at `start.index + 1`.
    pub entries: Vec<Record>,
    /// Traces of a write that was never acknowledged, and was cut off.
    pub torn_tail: Option<TornTail>,
}

/// An incomplete write at the end of the log, of which at least one record header could be made out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The file.
    pub segment: PathBuf,
    /// Where the log was cut.
    pub offset: u64,
    /// How far the traces reach beyond that.
    pub bytes_cut: u64,
}

/// How a log is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The size of a segment. A batch that needs more gets a segment of its own size.
    pub segment_bytes: u64,
    /// How many segments that are no longer needed are kept for reuse.
    pub max_spares: usize,
    /// A number that outsiders cannot guess, mixed into every checksum of a log that is created now.
    /// Without it a client could write a value that looks like a record, and a torn write of that value
    /// could pass for damage. A log that exists keeps the number that it was created with.
    pub salt: u64,
}

impl Default for Options {
    /// Segments of 64 MiB, two spares, salt 0 (which is for tests: a server should draw one).
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, max_spares: 2, salt: 0 }
    }
}

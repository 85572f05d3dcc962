//! The words of the paper as types: terms, indexes, entries, slices of a log.
//!
//! Nothing here decides anything. Newtypes keep a term from being used as an index, and `Option` stands
//! where the paper uses zero for "none", except for [`EntryId::ZERO`], the position before the first entry
//! (the paper's `prevLogIndex = 0`).

use std::fmt;
use std::num::NonZeroU64;

use bytes::Bytes;

use crate::Configuration;

/// A point on the caller's clock, in microseconds. Any monotonic scale will do: only differences matter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Time(pub u64);

impl Time {
    /// A deadline that never comes.
    pub const NEVER: Time = Time(u64::MAX);

    /// The point `duration_us` later.
    #[must_use]
    pub fn after(self, duration_us: u64) -> Time {
        Time(self.0.saturating_add(duration_us))
    }

    /// Microseconds since `earlier`, zero if that lies in the future.
    pub fn since_us(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A term: the logical clock that numbers leaders (paper §5.1). Term 0 is before the first election.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Term(pub u64);

impl Term {
    /// No cluster counts this far; a message that claims to is not believed, so that the next term always
    /// exists.
    pub const LIMIT: Term = Term(1 << 62);

    /// The term after this one.
    #[must_use]
    pub fn next(self) -> Term {
        Term(self.0 + 1)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A position in the log. The first entry has index 1 (paper figure 2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Index(pub u64);

impl Index {
    /// No log gets this far; a snapshot that claims to is not believed, so that the next index always
    /// exists.
    pub const LIMIT: Index = Index(1 << 62);

    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }

    /// The position before this one; the first has none and answers itself at zero.
    #[must_use]
    pub fn previous(self) -> Index {
        Index(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The identity of a server. Never zero, so that `Option<NodeId>` costs nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub NonZeroU64);

impl NodeId {
    /// A node id, or none for zero.
    pub fn new(id: u64) -> Option<NodeId> {
        NonZeroU64::new(id).map(NodeId)
    }

    /// The plain number.
    pub fn as_u64(self) -> u64 {
        self.0.get()
    }
}

/// In hexadecimal, as etcd and its tools show members.
impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{:x}", self.0)
    }
}

/// Which entry stands where: the pair that the Log Matching Property speaks of (paper §5.3).
///
/// Ordered by term, then index, so that "at least as up to date" (paper §5.4.1) is `>=`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct EntryId {
    /// The term of the leader that made the entry.
    pub term: Term,
    /// Its position.
    pub index: Index,
}

impl EntryId {
    /// The position before the first entry of every log.
    pub const ZERO: EntryId = EntryId { term: Term(0), index: Index(0) };

    /// The entry at `index` made in `term`.
    pub fn new(index: Index, term: Term) -> EntryId {
        EntryId { term, index }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// What an entry carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Payload {
    /// The blank entry at the start of a term (paper §8).
    Empty,
    /// A command of the state machine, opaque to consensus.
    Command(Bytes),
    /// A configuration, in force from the moment it is appended (paper §6).
    Configuration(Configuration),
}

/// One entry of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its place and term.
    pub id: EntryId,
    /// What it carries.
    pub payload: Payload,
}

impl Entry {
    /// What the entry counts against bounds in bytes: its payload and a fixed overhead for its frame.
    pub fn size_bytes(&self) -> usize {
        const OVERHEAD_BYTES: usize = 32;
        OVERHEAD_BYTES
            + match &self.payload {
                Payload::Empty => 0,
                Payload::Command(command) => command.len(),
                Payload::Configuration(configuration) => configuration.members().count() * 16,
            }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.payload {
            Payload::Empty => write!(f, "{}", self.id),
            Payload::Command(command) => write!(f, "{}={}", self.id, command.escape_ascii()),
            Payload::Configuration(configuration) => write!(f, "{}={configuration}", self.id),
        }
    }
}

/// Why a run of entries is no [`LogSlice`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SliceError {
    /// An index does not follow the one before it.
    #[error("entry {found} does not follow {before}")]
    Gap {
        /// The entry before.
        before: EntryId,
        /// The entry that should have followed it.
        found: EntryId,
    },
    /// A term is smaller than the one before it: terms in a log only grow.
    #[error("entry {found} is of an older term than {before}")]
    TermRegression {
        /// The entry before.
        before: EntryId,
        /// The entry of the older term.
        found: EntryId,
    },
}

/// A piece of a log and the entry it hangs on: what AppendEntries carries.
///
/// Contiguous, with terms that never decrease: [`LogSlice::parse`] is the only way to make one, so what
/// comes from the network has been checked before the core sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogSlice {
    prev: EntryId,
    entries: Vec<Entry>,
}

impl LogSlice {
    /// Checks that `entries` follow `prev` without a hole.
    pub fn parse(prev: EntryId, entries: Vec<Entry>) -> Result<LogSlice, SliceError> {
        let mut before = prev;
        for entry in &entries {
            let found = entry.id;
            if before.index.0.checked_add(1) != Some(found.index.0) {
                return Err(SliceError::Gap { before, found });
            }
            if found.term < before.term {
                return Err(SliceError::TermRegression { before, found });
            }
            before = found;
        }
        Ok(LogSlice { prev, entries })
    }

    /// The entry before the first of the slice (`prevLogIndex`, `prevLogTerm`).
    pub fn prev(&self) -> EntryId {
        self.prev
    }

    /// The entries, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries, taken out.
    pub fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// The last entry of the slice, or `prev` when it is empty: what the receiver's log ends to match at.
    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(self.prev, |entry| entry.id)
    }

    /// Whether it carries no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The size that counts against the window.
    pub fn size_bytes(&self) -> usize {
        self.entries.iter().map(Entry::size_bytes).sum()
    }

    /// Drops what lies at or below `floor`, an entry that no leader's log can lack. None if the slice names
    /// another entry in its place: then no leader made it.
    pub(crate) fn above(mut self, floor: EntryId) -> Option<LogSlice> {
        let Some(dropped) = floor.index.0.checked_sub(self.prev.index.0) else { return Some(self) };
        let at_floor = match dropped.checked_sub(1) {
            Some(position) => self.entries.get(position as usize).map(|entry| entry.id),
            None => Some(self.prev),
        };
        if at_floor.is_some_and(|id| id != floor) {
            return None;
        }
        self.entries.drain(..self.entries.len().min(dropped as usize));
        self.prev = floor;
        Some(self)
    }
}

impl fmt::Display for LogSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [", self.prev)?;
        for (position, entry) in self.entries.iter().enumerate() {
            let space = if position == 0 { "" } else { " " };
            write!(f, "{space}{entry}")?;
        }
        write!(f, "]")
    }
}

/// What must survive a crash beside the log (paper figure 2, persistent state).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HardState {
    /// The latest term this server has seen.
    pub current_term: Term,
    /// Whom it voted for in that term.
    pub voted_for: Option<NodeId>,
}

impl fmt::Display for HardState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.voted_for {
            Some(candidate) => write!(f, "term {} voted {candidate}", self.current_term),
            None => write!(f, "term {}", self.current_term),
        }
    }
}

/// What a snapshot stands for: the log up to `last_included`, and the configuration in force there
/// (paper §7).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Snapshot {
    /// The last entry that the snapshot replaces.
    pub last_included: EntryId,
    /// The latest configuration as of that entry.
    pub configuration: Configuration,
}

/// A piece of a snapshot (paper §7, figure 13).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SnapshotChunk {
    /// Only what lies above this index is sent: the receiver has a snapshot of its own up to there. Zero: all of it.
    pub above: Index,
    /// Where in what is sent the chunk lies, in bytes.
    pub offset: u64,
    /// The bytes.
    pub data: Bytes,
    /// Whether it is the last.
    pub done: bool,
}

impl SnapshotChunk {
    /// Whether it brings nothing, and only asks how far the receiver has come.
    pub fn is_question(&self) -> bool {
        self.data.is_empty() && !self.done
    }

    /// Where the next one begins.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.data.len() as u64)
    }
}

impl fmt::Display for SnapshotChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.done { " done" } else { "" };
        write!(f, "{} at {} +{}{end}", Above(self.above), self.offset, self.data.len())
    }
}

/// The index above which a snapshot is sent, if that is not all of it.
pub(crate) struct Above(pub(crate) Index);

impl fmt::Display for Above {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == Index(0) { Ok(()) } else { write!(f, " above {}", self.0) }
    }
}

//! One change of one key, which is never changed itself.
//!
//! The map of present keys, the history and any number of snapshots share a record; only a compaction
//! makes it go.

use std::sync::Arc;

use bytes::Bytes;

use crate::KeyValue;
use crate::state_hash;

/// The place of a change in the order of all changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision {
    /// The revision as clients see it: one for each command that changes anything.
    pub main: i64,
    /// The place of the change within its command.
    pub sub: u32,
}

/// Where a key's change before this one lies, and what it takes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Previous {
    pub(crate) revision: Revision,
    /// Bytes that the predecessor has held since it was superseded; 0 for a tombstone, which holds its
    /// bytes from the start. Kept here so that a compaction can subtract them without looking it up.
    pub(crate) superseded_bytes: u64,
    /// How many changes of the key come before.
    count: u64,
    /// The newest of them whose own count is a multiple of [`MILESTONE_CHANGES`]: a way to skip many at once.
    pub(crate) milestone: Option<Revision>,
}

/// A read of the past goes back from milestone to milestone and then change by change, so that a key which
/// changes all the time does not make it slow.
const MILESTONE_CHANGES: u64 = 128;

/// A put, or the tombstone that a delete leaves.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) revision: Revision,
    pub(crate) key: Bytes,
    pub(crate) change: Change,
    /// The key's change before this one, if this member has it; the record may be gone by compaction. Not
    /// part of the state that members compare: it is nothing but a way to find what they all have.
    pub(crate) previous: Option<Previous>,
    /// Covers `revision`, `key` and `change`; see [`crate::StateHash`].
    pub(crate) hash: u64,
}

/// What happened to the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Put { create_revision: i64, version: i64, lease: i64, value: Bytes },
    Delete,
}

/// What a record costs beside its key and value: the record, its counters, its places in map and history.
pub(crate) const RECORD_OVERHEAD_BYTES: u64 = 256;

impl Record {
    pub(crate) fn new(
        revision: Revision,
        key: Bytes,
        change: Change,
        previous: Option<Previous>,
    ) -> Arc<Self> {
        let hash = state_hash::of_record(revision, &key, &change);
        Arc::new(Self { revision, key, change, previous, hash })
    }

    /// What the key's next change has to remember of this one.
    pub(crate) fn as_previous(&self) -> Previous {
        let count = self.previous.map_or(0, |previous| previous.count + 1);
        let milestone = if count.is_multiple_of(MILESTONE_CHANGES) {
            Some(self.revision)
        } else {
            self.previous.and_then(|previous| previous.milestone)
        };
        let superseded_bytes = if self.is_tombstone() { 0 } else { self.size_bytes() };
        Previous { revision: self.revision, superseded_bytes, count, milestone }
    }

    pub(crate) fn hash_from_scratch(&self) -> u64 {
        state_hash::of_record(self.revision, &self.key, &self.change)
    }

    pub(crate) fn is_tombstone(&self) -> bool {
        match self.change {
            Change::Put { .. } => false,
            Change::Delete => true,
        }
    }

    /// About what the record takes in memory.
    pub(crate) fn size_bytes(&self) -> u64 {
        let value_bytes = match &self.change {
            Change::Put { value, .. } => value.len(),
            Change::Delete => 0,
        };
        (self.key.len() + value_bytes) as u64 + RECORD_OVERHEAD_BYTES
    }

    /// How many bytes of key and value an answer shows of it.
    pub(crate) fn pair_bytes(&self, keys_only: bool) -> usize {
        match &self.change {
            Change::Put { value, .. } if !keys_only => self.key.len() + value.len(),
            Change::Put { .. } | Change::Delete => self.key.len(),
        }
    }

    /// The pair that a put made; `None` for a tombstone.
    pub(crate) fn key_value(&self) -> Option<KeyValue> {
        match &self.change {
            Change::Put { create_revision, version, lease, value } => Some(KeyValue {
                key: self.key.clone(),
                create_revision: *create_revision,
                mod_revision: self.revision.main,
                version: *version,
                value: value.clone(),
                lease: *lease,
            }),
            Change::Delete => None,
        }
    }
}

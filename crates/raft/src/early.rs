//! Appends that arrived before the ones they follow.
//!
//! Raft refuses them, "simplicity bought with speed" (SOURCES R8). With several appends under way a
//! reordered one would then cost a round trip and everything behind it. A follower keeps them instead, up
//! to a bound, until the hole before them is filled. They are believed only as far as the log then matches
//! the entry that they hang on, so an early append can do no more than the same one in time.

use std::collections::BTreeMap;

use crate::{Index, LogSlice};

/// Early appends of one leader's term, by the index they hang on.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct EarlyAppends {
    slices: BTreeMap<Index, LogSlice>,
    bytes: usize,
}

impl EarlyAppends {
    /// How much is kept.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The same, summed up anew.
    pub(crate) fn sum_bytes(&self) -> usize {
        self.slices.values().map(LogSlice::size_bytes).sum()
    }

    /// Keeps a slice if there is room.
    pub(crate) fn keep(&mut self, slice: LogSlice, max_bytes: usize) {
        let bytes = slice.size_bytes();
        if slice.is_empty() || self.bytes + bytes > max_bytes {
            return;
        }
        if let Some(replaced) = self.slices.insert(slice.prev().index, slice) {
            self.bytes -= replaced.size_bytes();
        }
        self.bytes += bytes;
    }

    /// The next slice that hangs on an entry at or below `last_index`.
    pub(crate) fn take_up_to(&mut self, last_index: Index) -> Option<LogSlice> {
        let (&prev, _) = self.slices.first_key_value()?;
        if prev > last_index {
            return None;
        }
        let slice = self.slices.remove(&prev)?;
        self.bytes -= slice.size_bytes();
        Some(slice)
    }
}

#[cfg(test)]
mod tests;

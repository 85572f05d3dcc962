//! What became of proposals: three outcomes, never mixed.
//!
//! A proposal is *committed* when its entry is applied. It is *certainly not committed* when an entry of
//! another term is committed at its index. Everything else is *unknown*: that the leader stepped down, or
//! that the entry was cut off from its own log, proves nothing, since another server may still hold the
//! entry, win an election and commit it. The transcript `a_truncated_entry_comes_back_and_commits` plays
//! that case.

use std::collections::BTreeMap;

use crate::{EntryId, Index};

/// How a proposal ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Its entry is committed, and being applied.
    Committed,
    /// Another entry is committed in its place: it will never be executed.
    NotCommitted,
    /// A snapshot covers its index, and does not say what was there.
    Unknown,
}

/// Proposals whose end is not known yet, each with what the caller remembers of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pending<T> {
    proposals: BTreeMap<EntryIdByIndex, T>,
}

/// Ordered by index first: fates are decided in log order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct EntryIdByIndex {
    index: Index,
    term: crate::Term,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Pending { proposals: BTreeMap::new() }
    }
}

impl<T> Pending<T> {
    /// Waits for the entry that [`propose`](crate::Node::propose) named.
    pub fn insert(&mut self, id: EntryId, proposal: T) {
        self.proposals.insert(EntryIdByIndex { index: id.index, term: id.term }, proposal);
    }

    /// The committed entry `id` is applied: the ends that this decides, in order. Entries must be reported
    /// in order, each that is applied.
    pub fn on_applied(&mut self, id: EntryId) -> Vec<(Fate, T)> {
        let mut ends = Vec::new();
        while let Some(entry) = self.proposals.first_entry()
            && entry.key().index <= id.index
        {
            let fate = if entry.key().index < id.index {
                Fate::Unknown
            } else if entry.key().term == id.term {
                Fate::Committed
            } else {
                Fate::NotCommitted
            };
            ends.push((fate, entry.remove()));
        }
        ends
    }

    /// A snapshot up to `last_included` took the place of the log.
    pub fn on_snapshot_installed(&mut self, last_included: Index) -> Vec<T> {
        let mut ends = Vec::new();
        while let Some(entry) = self.proposals.first_entry()
            && entry.key().index <= last_included
        {
            ends.push(entry.remove());
        }
        ends
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.proposals.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.proposals.is_empty()
    }
}

//! A server's disk: what is durable, and the writes under way in their order. A crash takes the second.

use std::collections::VecDeque;

use bytes::Bytes;
use tenure_raft::{
    Configuration, Entry, EntryId, Envelope, HardState, Index, Payload, Restored, Snapshot, Term, WriteToken,
};

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: Snapshot,
    pub(crate) snapshot_data: Bytes,
    pub(crate) log_start: EntryId,
    pub(crate) entries: Vec<Entry>,
}

impl Image {
    /// The disk of a server of a new cluster.
    pub(crate) fn new(configuration: Configuration) -> Image {
        Image { snapshot: Snapshot { configuration, ..Snapshot::default() }, ..Image::default() }
    }

    /// Blank-free log written as the paper draws them: the terms of its entries, from index 1 on. The
    /// command at an index says which entry it is, so that equal ids have equal commands.
    pub(crate) fn with_terms(mut self, terms: &[u64]) -> Image {
        self.entries = entries_of(EntryId::ZERO, terms);
        self.hard_state.current_term = Term(terms.last().copied().unwrap_or(0));
        self
    }

    /// Sets the term, in which it has not voted.
    pub(crate) fn in_term(mut self, term: u64) -> Image {
        self.hard_state = HardState { current_term: Term(term), voted_for: None };
        self
    }

    /// What the server finds when it starts.
    pub(crate) fn restored(&self) -> Restored {
        Restored {
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            log_start: self.log_start,
            unread: Vec::new(),
            entries: self.entries.clone(),
        }
    }

    /// The entry at `index`, if it is not compacted and was written.
    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        let position = index.0.checked_sub(self.log_start.index.0 + 1)?;
        self.entries.get(position as usize)
    }

    /// Whether the entry would be there after a crash, as itself or in the snapshot.
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        id.index <= self.snapshot.last_included.index
            || self.entry(id.index).is_some_and(|entry| entry.id == id)
    }

    /// The terms of the entries from `log_start` on.
    pub(crate) fn terms(&self) -> Vec<u64> {
        self.entries.iter().map(|entry| entry.id.term.0).collect()
    }

    fn write(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else { return };
        assert!(first.id.index > self.log_start.index, "what is compacted is not written again");
        let kept = (first.id.index.0 - self.log_start.index.0 - 1) as usize;
        assert!(kept <= self.entries.len(), "writes leave no hole");
        self.entries.truncate(kept);
        self.entries.extend(entries);
    }

    /// Keeps a snapshot and forgets the log up to it.
    pub(crate) fn take_snapshot(&mut self, snapshot: Snapshot, data: Bytes) {
        let covered = (snapshot.last_included.index.0 - self.log_start.index.0) as usize;
        self.entries.drain(..covered.min(self.entries.len()));
        self.log_start = snapshot.last_included;
        self.snapshot = snapshot;
        self.snapshot_data = data;
    }
}

/// Entries with these terms after `prev`, each with a command of its own.
pub(crate) fn entries_of(prev: EntryId, terms: &[u64]) -> Vec<Entry> {
    let first = prev.index.0 + 1;
    let entry = |(position, &term): (usize, &u64)| {
        let index = first + position as u64;
        let command = Bytes::from(format!("put at{index} term{term}"));
        Entry { id: EntryId::new(Index(index), Term(term)), payload: Payload::Command(command) }
    };
    terms.iter().enumerate().map(entry).collect()
}

/// A write under way.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Log { hard_state: Option<HardState>, entries: Vec<Entry>, token: WriteToken, then_send: Vec<Envelope> },
    Install { snapshot: Snapshot, data: Bytes },
}

/// One server's disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) durable: Image,
    pub(crate) under_way: VecDeque<Write>,
}

impl Disk {
    /// The oldest write under way becomes durable.
    pub(crate) fn complete_one(&mut self) -> Option<Write> {
        let write = self.under_way.pop_front()?;
        match write.clone() {
            Write::Log { hard_state, entries, .. } => {
                self.durable.hard_state = hard_state.unwrap_or(self.durable.hard_state);
                self.durable.write(entries);
            }
            Write::Install { snapshot, data } => {
                self.durable.entries.clear();
                self.durable.log_start = snapshot.last_included;
                self.durable.snapshot = snapshot;
                self.durable.snapshot_data = data;
            }
        }
        Some(write)
    }

    /// Power is lost. Of the writes under way, the first `survivors` reached the disk without anybody
    /// having been told.
    pub(crate) fn crash(&mut self, survivors: usize) {
        for _ in 0..survivors {
            self.complete_one();
        }
        self.under_way.clear();
    }
}

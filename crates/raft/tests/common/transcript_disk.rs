//! What a server of the rig keeps across a crash, and what it would lose.
//!
//! A [`Disk`] is what has been made durable. A [`Write`] is on its way there: a crash forgets it. The state
//! machine is a list of commands, and a snapshot is that list as text in which every command names the
//! server that made the snapshot, so that a mixture of two snapshots does not pass for one.

use bytes::Bytes;
use tenure_raft::{
    Entry, EntryId, Envelope, HardState, Index, NodeId, Payload, Restored, Snapshot, Time, WriteToken,
};

/// What survives.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: Snapshot,
    /// The state that the snapshot stands for, as text.
    pub(crate) snapshot_data: Bytes,
    pub(crate) log_start: EntryId,
    pub(crate) entries: Vec<Entry>,
}

impl Disk {
    /// What a starting node is told.
    pub(crate) fn restored(&self) -> Restored {
        Restored {
            hard_state: self.hard_state,
            snapshot: self.snapshot.clone(),
            log_start: self.log_start,
            unread: Vec::new(),
            entries: self.entries.clone(),
        }
    }

    /// The last entry, or the one before the first.
    pub(crate) fn last(&self) -> EntryId {
        self.entries.last().map_or(self.log_start, |entry| entry.id)
    }

    /// The entry at an index, if the log has it.
    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        let position = index.0.checked_sub(self.log_start.index.0 + 1)?;
        self.entries.get(position as usize)
    }

    /// The entries from `first` to `last`, at most `max_bytes` of them but one at least.
    pub(crate) fn slice(&self, first: Index, last: Index, max_bytes: usize) -> Vec<Entry> {
        let mut bytes = 0;
        let mut slice: Vec<Entry> = Vec::new();
        for entry in self.entries.iter().filter(|entry| (first..=last).contains(&entry.id.index)) {
            bytes += entry.size_bytes();
            if bytes > max_bytes && !slice.is_empty() {
                break;
            }
            slice.push(entry.clone());
        }
        slice
    }

    /// Whether the entry, or a snapshot of it, is here.
    pub(crate) fn holds(&self, entry: &Entry) -> bool {
        entry.id.index <= self.snapshot.last_included.index || self.entry(entry.id.index) == Some(entry)
    }

    /// Carries out a write.
    pub(crate) fn write(&mut self, write: &Write) {
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
        if let Some(first) = write.entries.first() {
            let kept = first.id.index.0 - self.log_start.index.0 - 1;
            assert!(kept as usize <= self.entries.len(), "a write leaves no hole in the log");
            self.entries.truncate(kept as usize);
            self.entries.extend(write.entries.iter().cloned());
        }
    }

    /// Drops the log up to `through`.
    pub(crate) fn compact(&mut self, through: Index) {
        if let Some(entry) = self.entry(through) {
            self.log_start = entry.id;
            self.entries.retain(|entry| entry.id.index > through);
        }
    }

    /// A snapshot takes the place of everything but the term and the vote.
    pub(crate) fn install(&mut self, snapshot: Snapshot, data: Bytes) {
        self.log_start = snapshot.last_included;
        self.entries.clear();
        self.snapshot = snapshot;
        self.snapshot_data = data;
    }
}

/// A write on its way to the disk: what an [`Effect::Persist`](tenure_raft::Effect::Persist) asks for.
#[derive(Clone)]
pub(crate) struct Write {
    pub(crate) hard_state: Option<HardState>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) token: WriteToken,
    pub(crate) then_send: Vec<Envelope>,
    /// When a slow disk will have done it.
    pub(crate) due: Time,
    /// It is on the disk and its messages have left, but the server has not heard of it.
    pub(crate) done: bool,
}

/// A state machine that remembers what it was told.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Machine {
    pub(crate) commands: Vec<String>,
}

impl Machine {
    /// Executes an entry.
    pub(crate) fn apply(&mut self, entry: &Entry) {
        if let Payload::Command(command) = &entry.payload {
            self.commands.push(command.escape_ascii().to_string());
        }
    }

    /// The state as `maker` writes it down.
    pub(crate) fn to_snapshot(&self, maker: NodeId) -> Bytes {
        let parts: Vec<String> = self.commands.iter().map(|command| format!("{command}/{maker}")).collect();
        parts.join(" ").into()
    }

    /// The state that a snapshot stands for.
    pub(crate) fn of_snapshot(data: &Bytes) -> Machine {
        let text = String::from_utf8(data.to_vec()).expect("a snapshot is text");
        let parts: Vec<(&str, &str)> = text
            .split_whitespace()
            .map(|part| part.rsplit_once('/').expect("every command names the snapshot's maker"))
            .collect();
        let one_maker = parts.windows(2).all(|pair| pair[0].1 == pair[1].1);
        assert!(one_maker, "a snapshot is made by one server: {text}");
        Machine { commands: parts.into_iter().map(|(command, _)| command.to_string()).collect() }
    }
}

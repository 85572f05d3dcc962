//! The log as the core sees it: what is where, in which term, how far it is durable and committed.
//!
//! ```text
//!   start │ first ……… applied ……… commit ……… persisted ……… handed ……… last
//!         │ compacted below        (persisted and commit may stand either way round)
//! ```
//!
//! The bytes of old entries are not kept: behind a bound they are dropped once applied and durable, and
//! read back by an effect when a slow follower needs them. What is kept of the whole log is its *terms*,
//! as runs: a log holds few terms, so the consistency check and fast backup never need a disk.
//!
//! The configuration is part of the log's state: appended with its entry, rolled back with it, carried by
//! the snapshot (paper §6: "a server always uses the latest configuration in its log").

use std::collections::VecDeque;

use crate::{Configuration, Entry, EntryId, Index, LogSlice, Payload, Snapshot, Term};

/// Entries that begin at `first` and share a term.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct TermRun {
    first: Index,
    term: Term,
}

/// What appending a slice did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Splice {
    /// The entry that the slice hangs on is not in this log.
    Missing,
    /// The log now agrees with the slice up to its end.
    Done {
        /// The first index that had to give way to the leader's entry, if any.
        truncated: Option<Index>,
        /// Whether another configuration is in force now.
        reconfigured: bool,
    },
}

/// The log of one server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RaftLog {
    /// The entry before the first: the last one compacted away.
    start: EntryId,
    terms: Vec<TermRun>,
    last_index: Index,
    /// The newest entries, contiguous up to `last_index`.
    recent: VecDeque<Entry>,
    recent_bytes: usize,
    /// Up to here entries were given out to be written.
    handed_index: Index,
    /// Up to here they are durable.
    pub(crate) persisted_index: Index,
    pub(crate) commit_index: Index,
    /// Up to here entries were given out to be applied.
    pub(crate) applying_index: Index,
    pub(crate) last_applied: Index,
    /// The newest snapshot that the caller holds.
    pub(crate) snapshot: Snapshot,
    /// Configurations above the snapshot, by the index they were appended at, ascending.
    configurations: Vec<(Index, Configuration)>,
}

impl RaftLog {
    /// The log after a restart: `snapshot` is applied. What follows the entry `start` is durable: first, up to the
    /// snapshot at the most, what begins in its terms with the entries `unread`, then `entries`.
    ///
    /// # Panics
    /// When the pieces do not fit: the caller's recovery is broken.
    pub(crate) fn restore(
        snapshot: Snapshot,
        start: EntryId,
        unread: &[EntryId],
        entries: Vec<Entry>,
    ) -> RaftLog {
        let snapshot_index = snapshot.last_included.index;
        assert!(start.index <= snapshot_index, "the log must reach back to the snapshot");
        let mut log = RaftLog {
            start,
            terms: Vec::new(),
            last_index: start.index,
            recent: VecDeque::new(),
            recent_bytes: 0,
            handed_index: start.index,
            persisted_index: start.index,
            commit_index: snapshot_index,
            applying_index: snapshot_index,
            last_applied: snapshot_index,
            snapshot,
            configurations: Vec::new(),
        };
        if let Some(first) = unread.first() {
            assert_eq!(first.index, start.index.next(), "the log has no hole behind its start");
            log.terms =
                unread.iter().map(|&EntryId { term, index }| TermRun { first: index, term }).collect();
            log.last_index = entries.first().map_or(snapshot_index, |entry| entry.id.index.previous());
            let last_unread = unread.last().map_or(start.index, |last| last.index);
            assert!(last_unread <= log.last_index, "what is not read comes before what is");
            assert!(log.last_index <= snapshot_index, "all that is to be applied has been read");
        }
        for entry in entries {
            log.append(entry);
        }
        assert!(log.matches(log.snapshot.last_included), "the log must contain the snapshot's last entry");
        log.handed_index = log.last_index;
        log.persisted_index = log.last_index;
        log
    }

    /// The first index whose entry has not been compacted away.
    pub fn first_index(&self) -> Index {
        self.start.index.next()
    }

    /// The last entry before [`RaftLog::first_index`].
    pub fn start(&self) -> EntryId {
        self.start
    }

    /// The last index.
    pub fn last_index(&self) -> Index {
        self.last_index
    }

    /// The last entry, or the one before the first when the log is empty.
    pub fn last(&self) -> EntryId {
        EntryId { term: self.terms.last().map_or(self.start.term, |run| run.term), index: self.last_index }
    }

    /// Up to here the log is durable on this server.
    pub fn persisted_index(&self) -> Index {
        self.persisted_index
    }

    /// Up to here the log is known to be committed.
    pub fn commit_index(&self) -> Index {
        self.commit_index
    }

    /// Up to here the state machine has executed the log.
    pub fn last_applied(&self) -> Index {
        self.last_applied
    }

    /// The newest snapshot that the caller reported.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// How many bytes of entries are held in memory.
    pub fn recent_bytes(&self) -> usize {
        self.recent_bytes
    }

    /// The term of the entry at `index`; none below [`RaftLog::start`] and above the end.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.start.index {
            return Some(self.start.term);
        }
        if index < self.start.index || index > self.last_index {
            return None;
        }
        let following = self.terms.partition_point(|run| run.first <= index);
        Some(self.terms[following - 1].term)
    }

    /// The entry id at an index that the log must have.
    pub(crate) fn id_at(&self, index: Index) -> EntryId {
        let term = self.term_at(index).expect("an index between the log's start and its end");
        EntryId { term, index }
    }

    /// Whether the entry is in this log, with the same term: then all before it agree as well (the Log
    /// Matching Property, paper §5.3).
    pub fn matches(&self, id: EntryId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// The last entry that is not after `id` in index *or* in term: the last that two logs can share when
    /// one of them holds `id`. None if it lies below the start, where nothing is known any more.
    pub(crate) fn last_not_after(&self, id: EntryId) -> Option<EntryId> {
        let index = id.index.min(self.last_index);
        if index < self.start.index {
            return None;
        }
        if self.term_at(index).is_some_and(|term| term <= id.term) {
            return Some(self.id_at(index));
        }
        // The runs from here on are of later terms; each is skipped whole.
        let later = self.terms.partition_point(|run| run.term <= id.term);
        let before = self.terms.get(later).map_or(self.start.index, |run| run.first.previous());
        (before > self.start.index || self.start.term <= id.term).then(|| self.id_at(before))
    }

    /// The configuration in force: the newest in the log, committed or not.
    pub fn configuration(&self) -> &Configuration {
        self.configurations.last().map_or(&self.snapshot.configuration, |(_, configuration)| configuration)
    }

    /// The entry that brought the configuration in force; what a snapshot brought counts as its last entry.
    pub fn configuration_index(&self) -> Index {
        self.configurations.last().map_or(self.snapshot.last_included.index, |(at, _)| *at)
    }

    /// The configuration that was in force at `index`, which must not lie below the snapshot.
    pub fn configuration_at(&self, index: Index) -> &Configuration {
        let following = self.configurations.partition_point(|(at, _)| *at <= index);
        match following.checked_sub(1) {
            Some(position) => &self.configurations[position].1,
            None => &self.snapshot.configuration,
        }
    }

    /// The newest configuration that is known to be committed, and those after it.
    pub(crate) fn configurations_in_question(&self) -> impl Iterator<Item = &Configuration> {
        let following = self.configurations.partition_point(|(at, _)| *at <= self.commit_index);
        let later = self.configurations[following..].iter().map(|(_, configuration)| configuration);
        std::iter::once(self.configuration_at(self.commit_index)).chain(later)
    }

    /// Adds an entry at the end.
    pub(crate) fn append(&mut self, entry: Entry) {
        assert_eq!(entry.id.index, self.last_index.next(), "entries are appended without a hole");
        assert!(entry.id.term >= self.last().term, "terms in a log never decrease");
        if self.terms.last().is_none_or(|run| run.term < entry.id.term) {
            self.terms.push(TermRun { first: entry.id.index, term: entry.id.term });
        }
        if let Payload::Configuration(configuration) = &entry.payload
            && entry.id.index > self.snapshot.last_included.index
        {
            self.configurations.push((entry.id.index, configuration.clone()));
        }
        self.last_index = entry.id.index;
        self.recent_bytes += entry.size_bytes();
        self.recent.push_back(entry);
    }

    /// Makes the log agree with a leader's slice. Entries that are there already stay, and so does what
    /// follows them: an old or doubled message must not cut off what a later one brought (paper figure 2,
    /// AppendEntries 3: only a *conflicting* entry deletes).
    pub(crate) fn splice(&mut self, slice: LogSlice) -> Splice {
        if !self.matches(slice.prev()) {
            return Splice::Missing;
        }
        let mut truncated = None;
        let mut reconfigured = false;
        for entry in slice.into_entries() {
            if self.matches(entry.id) {
                continue;
            }
            if entry.id.index <= self.last_index {
                truncated = Some(entry.id.index);
                reconfigured |= self.configuration_index() >= entry.id.index;
                self.truncate_from(entry.id.index);
            }
            reconfigured |= matches!(entry.payload, Payload::Configuration(_));
            self.append(entry);
        }
        Splice::Done { truncated, reconfigured }
    }

    fn truncate_from(&mut self, first: Index) {
        assert!(first > self.commit_index, "a committed entry is never deleted (paper §5.4.3)");
        let last = first.previous();
        while let Some(entry) = self.recent.pop_back_if(|entry| entry.id.index >= first) {
            self.recent_bytes -= entry.size_bytes();
        }
        self.terms.retain(|run| run.first < first);
        self.configurations.retain(|(at, _)| *at < first);
        self.last_index = last;
        self.handed_index = self.handed_index.min(last);
        self.persisted_index = self.persisted_index.min(last);
    }

    /// Entries that were appended and not yet given out to be written; they are given out by this call.
    pub(crate) fn hand_to_disk(&mut self) -> Vec<Entry> {
        let entries = self.recent_from(self.handed_index.next()).cloned().collect();
        self.handed_index = self.last_index;
        entries
    }

    /// Whether there is anything for [`RaftLog::hand_to_disk`].
    pub(crate) fn has_unwritten(&self) -> bool {
        self.handed_index < self.last_index
    }

    /// Committed and durable entries that were not yet given out to be applied, at most `max_bytes` (but
    /// one at least); they are given out by this call.
    ///
    /// Applied ≤ persisted is our choice: no state is ever built on what this server could still forget.
    pub(crate) fn hand_to_apply(&mut self, max_bytes: usize) -> Vec<Entry> {
        let end = self.commit_index.min(self.persisted_index);
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in self.recent_from(self.applying_index.next()) {
            if entry.id.index > end || (bytes > 0 && bytes + entry.size_bytes() > max_bytes) {
                break;
            }
            bytes += entry.size_bytes();
            entries.push(entry.clone());
        }
        if let Some(entry) = entries.last() {
            self.applying_index = entry.id.index;
        }
        entries
    }

    /// Entries from `first` on that are in memory, at most `max_bytes` (but one at least). None if they
    /// have been dropped from memory.
    pub(crate) fn recent_slice(&self, first: Index, max_bytes: usize) -> Option<Vec<Entry>> {
        if first <= self.last_index && self.recent.front().is_none_or(|entry| entry.id.index > first) {
            return None;
        }
        let mut bytes = 0;
        let mut entries = Vec::new();
        for entry in self.recent_from(first) {
            if bytes > 0 && bytes + entry.size_bytes() > max_bytes {
                break;
            }
            bytes += entry.size_bytes();
            entries.push(entry.clone());
        }
        Some(entries)
    }

    /// The bytes of the entries in memory from `first` to `last`.
    pub(crate) fn bytes_between(&self, first: Index, last: Index) -> usize {
        self.recent_from(first).take_while(|entry| entry.id.index <= last).map(Entry::size_bytes).sum()
    }

    fn recent_from(&self, first: Index) -> impl Iterator<Item = &Entry> {
        let skip = match self.recent.front() {
            Some(entry) => first.0.saturating_sub(entry.id.index.0) as usize,
            None => 0,
        };
        self.recent.range(skip.min(self.recent.len())..)
    }

    /// Moves the commit index forward.
    pub(crate) fn commit_to(&mut self, index: Index) {
        assert!(index >= self.commit_index, "the commit index never decreases (paper figure 2)");
        assert!(index <= self.last_index, "only entries that exist are committed");
        self.commit_index = index;
    }

    /// Drops from memory what is applied and durable, oldest first, down to `max_bytes`.
    pub(crate) fn shrink(&mut self, max_bytes: usize) {
        let droppable = self.last_applied.min(self.persisted_index);
        while self.recent_bytes > max_bytes
            && let Some(entry) = self.recent.pop_front_if(|entry| entry.id.index <= droppable)
        {
            self.recent_bytes -= entry.size_bytes();
        }
    }

    /// Takes note of a snapshot of the state at an applied index.
    pub(crate) fn record_snapshot(&mut self, last_included: Index) {
        assert!(last_included <= self.last_applied, "a snapshot holds applied entries");
        assert!(last_included >= self.snapshot.last_included.index, "snapshots move forward");
        let configuration = self.configuration_at(last_included).clone();
        self.configurations.retain(|(at, _)| *at > last_included);
        self.snapshot = Snapshot { last_included: self.id_at(last_included), configuration };
    }

    /// Forgets the entries up to `through`, which the snapshot covers.
    pub(crate) fn compact(&mut self, through: Index) {
        assert!(through <= self.snapshot.last_included.index, "only what a snapshot holds is compacted");
        if through <= self.start.index {
            return;
        }
        let start = self.id_at(through);
        while let Some(entry) = self.recent.pop_front_if(|entry| entry.id.index <= through) {
            self.recent_bytes -= entry.size_bytes();
        }
        let following = self.terms.partition_point(|run| run.first <= through);
        self.terms.drain(..following - 1);
        self.terms[0].first = through.next();
        if through == self.last_index || self.terms.get(1).is_some_and(|run| run.first == through.next()) {
            self.terms.remove(0);
        }
        self.start = start;
    }

    /// A snapshot takes the place of the whole log.
    pub(crate) fn reset_to(&mut self, snapshot: Snapshot) {
        let start = snapshot.last_included;
        assert!(start.index > self.commit_index, "an installed snapshot is ahead of what is committed here");
        *self = RaftLog::restore(snapshot, start, &[], Vec::new());
    }
}

#[cfg(test)]
mod tests;

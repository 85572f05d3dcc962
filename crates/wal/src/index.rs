//! Where in the files each entry of the log stands: a list of spans, one for each run of entries that
//! share a record and a term.
//!
//! It also says what the log is after an append, a truncation, a compaction or a reset, for the living
//! log and for recovery alike, and so is the one place where those rules stand.

use std::collections::VecDeque;

use crate::types::{Position, Record};

/// The place of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) length: u32,
}

/// Entries that follow each other in one record and have one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first_index: u64,
    pub(crate) last_index: u64,
    pub(crate) term: u64,
    pub(crate) place: Place,
}

/// The log as positions: `start`, then the spans, without holes.
#[derive(Clone, Debug)]
pub(crate) struct LogIndex {
    start: Position,
    spans: VecDeque<Span>,
}

impl LogIndex {
    pub(crate) fn new(start: Position) -> Self {
        Self { start, spans: VecDeque::new() }
    }

    pub(crate) fn start(&self) -> Position {
        self.start
    }

    pub(crate) fn last(&self) -> Position {
        self.spans.back().map_or(self.start, |span| Position { index: span.last_index, term: span.term })
    }

    /// The term at this index, from `start` to the last entry.
    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.start.index {
            return Some(self.start.term);
        }
        self.spans_from(index).next().filter(|span| span.first_index <= index).map(|span| span.term)
    }

    /// The spans that reach `index` or lie after it.
    pub(crate) fn spans_from(&self, index: u64) -> impl Iterator<Item = &Span> {
        let skipped = self.spans.partition_point(|span| span.last_index < index);
        self.spans.range(skipped..)
    }

    /// The oldest segment that holds an entry of the log.
    pub(crate) fn oldest_segment(&self) -> Option<u64> {
        self.spans.front().map(|span| span.place.segment)
    }

    /// Puts `entries` after `previous`, in place of whatever stood there.
    pub(crate) fn append(&mut self, previous: Position, entries: &[Record], place: Place) {
        assert_eq!(self.term_at(previous.index), Some(previous.term), "entries follow an entry of the log");
        self.truncate_after(previous.index);
        for (entry, expected_index) in entries.iter().zip(previous.index + 1..) {
            assert_eq!(entry.index, expected_index, "the log has no holes");
            match self.spans.back_mut() {
                Some(span) if span.place == place && span.term == entry.term => span.last_index = entry.index,
                Some(_) | None => self.spans.push_back(Span {
                    first_index: entry.index,
                    last_index: entry.index,
                    term: entry.term,
                    place,
                }),
            }
        }
    }

    fn truncate_after(&mut self, index: u64) {
        while self.spans.back().is_some_and(|span| span.first_index > index) {
            self.spans.pop_back();
        }
        if let Some(span) = self.spans.back_mut() {
            span.last_index = span.last_index.min(index);
        }
    }

    /// Forgets the entries up to `through`, which is an entry of the log.
    pub(crate) fn compact(&mut self, through: Position) {
        assert_eq!(
            self.term_at(through.index),
            Some(through.term),
            "the log is compacted through one of its entries"
        );
        while self.spans.front().is_some_and(|span| span.last_index <= through.index) {
            self.spans.pop_front();
        }
        if let Some(span) = self.spans.front_mut() {
            span.first_index = span.first_index.max(through.index + 1);
        }
        self.start = through;
    }

    /// Forgets all entries, and goes on after `start`.
    pub(crate) fn reset(&mut self, start: Position) {
        *self = Self::new(start);
    }
}

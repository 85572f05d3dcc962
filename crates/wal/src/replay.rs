//! What a sequence of records means: the log that they leave behind, and the rules that each must keep to
//! follow the one before.
//!
//! Records come here with their headers checked. A record that breaks a rule was written by a faulty
//! program or is not the one that was written; either way the log is not used.

use bytes::Bytes;

use crate::format::{BatchHeader, BatchKind, Seed, SegmentHeader};
use crate::index::{LogIndex, Place};
use crate::types::{HardState, Position, Record};

/// The log as far as it has been read.
pub(crate) struct Replay {
    pub(crate) index: LogIndex,
    pub(crate) hard_state: Option<HardState>,
    /// Only those behind this index are held.
    held_behind: u64,
    entries: Vec<Record>,
    epoch: u64,
    /// The checksum of the last record, or of the segment header if there is none in this segment.
    pub(crate) chain: u32,
    /// The largest synced offset that a record of this segment has named.
    pub(crate) synced_offset: u64,
    /// Whether a record has said where the log begins. Until then `index.start` is only the end of what the
    /// segments that are gone held, and some of that may have been truncated later.
    start_is_known: bool,
}

/// Why a record is not taken.
pub(crate) enum Rejected {
    /// It does not follow: the records end here.
    NotNext,
    /// It follows, but cannot have been written by us.
    Impossible(&'static str),
}

impl Replay {
    /// Begins with the oldest segment.
    pub(crate) fn new(header: &SegmentHeader, checksum: u32, held_behind: u64) -> Self {
        Self {
            index: LogIndex::new(header.last),
            hard_state: header.hard_state,
            held_behind,
            entries: Vec::new(),
            epoch: header.epoch,
            chain: checksum,
            synced_offset: 0,
            start_is_known: false,
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The header that a segment of `len_bytes` must have after one with `header` that ends at `end_offset`.
    pub(crate) fn header_of_next(
        &self,
        header: &SegmentHeader,
        end_offset: u64,
        len_bytes: u64,
    ) -> SegmentHeader {
        SegmentHeader {
            salt: header.salt,
            sequence: header.sequence + 1,
            len_bytes,
            epoch: self.epoch,
            previous_end: end_offset,
            chain: self.chain,
            last: self.index.last(),
            hard_state: self.hard_state,
        }
    }

    /// Goes on in the next segment, whose header has this checksum.
    pub(crate) fn enter_segment(&mut self, checksum: u32) {
        self.chain = checksum;
        self.synced_offset = 0;
    }

    /// Takes one more record.
    pub(crate) fn apply(
        &mut self,
        header: &BatchHeader,
        checksum: u32,
        body: Bytes,
        seed: Seed,
    ) -> Result<(), Rejected> {
        let opens = u64::from(header.kind == BatchKind::Open);
        if self.epoch.checked_add(opens) != Some(header.epoch) {
            return Err(Rejected::NotNext);
        }
        let Some(entries) = header.parse_body(body, seed) else { return Err(Rejected::NotNext) };
        // In one epoch every place is written once. So this is not a left-over, and the record before
        // it is not the one that was there when this one was written.
        if header.chain != self.chain {
            return Err(Rejected::Impossible("the record does not continue the one before it"));
        }
        if header.synced_offset > header.offset {
            return Err(Rejected::Impossible("the record claims that itself had been synced"));
        }
        self.check_terms(header, &entries).map_err(Rejected::Impossible)?;
        self.change_log(header, entries).map_err(Rejected::Impossible)?;
        self.hard_state = header.hard_state;
        self.epoch = header.epoch;
        self.chain = checksum;
        self.synced_offset = self.synced_offset.max(header.synced_offset);
        Ok(())
    }

    fn check_terms(&self, header: &BatchHeader, entries: &[Record]) -> Result<(), &'static str> {
        if let Some(old) = self.hard_state {
            check_succession(old, header.hard_state)?;
        }
        check_entry_terms(header.hard_state, header.position, entries)
    }

    fn change_log(&mut self, header: &BatchHeader, entries: Vec<Record>) -> Result<(), &'static str> {
        let position = header.position;
        if header.kind != BatchKind::Append && !entries.is_empty() {
            return Err("only an append has entries");
        }
        match header.kind {
            BatchKind::Open if position == self.index.last() => Ok(()),
            BatchKind::Open => Err("the log was opened with another last entry"),
            BatchKind::Append => self.append(header, entries),
            BatchKind::Compact => self.compact(position),
            BatchKind::Reset => {
                self.index.reset(position);
                self.entries.clear();
                self.start_is_known = true;
                Ok(())
            }
            // Where there is a next segment, its header tells where this one ends, and nobody looks here.
            BatchKind::Full => Err("the segment that follows this one is missing"),
        }
    }

    fn append(&mut self, header: &BatchHeader, entries: Vec<Record>) -> Result<(), &'static str> {
        let previous = header.position;
        if previous.index < self.index.start().index && !self.start_is_known {
            // It overwrites entries of segments that are gone, and what those held before it with them.
            self.index.reset(previous);
            self.entries.clear();
        }
        if self.index.term_at(previous.index) != Some(previous.term) {
            return Err("the entries do not follow an entry of the log");
        }
        let place = Place { segment: header.segment, offset: header.offset, length: header.length };
        self.index.append(previous, &entries, place);
        if let Some(first) = self.entries.first() {
            let kept = (previous.index + 1).saturating_sub(first.index);
            self.entries.truncate(kept as usize);
        }
        self.entries.extend(entries.into_iter().filter(|entry| entry.index > self.held_behind));
        Ok(())
    }

    fn compact(&mut self, through: Position) -> Result<(), &'static str> {
        if through.index < self.index.start().index && !self.start_is_known {
            return Ok(());
        }
        if self.index.term_at(through.index) != Some(through.term) {
            return Err("the log was compacted through an entry that it does not hold");
        }
        self.index.compact(through);
        self.start_is_known = true;
        Ok(())
    }

    /// Takes out the entries of the log.
    pub(crate) fn take_entries(&mut self) -> Vec<Record> {
        let first_index = self.index.start().index + 1;
        let mut entries = std::mem::take(&mut self.entries);
        entries.drain(..entries.partition_point(|entry| entry.index < first_index));
        entries
    }
}

/// Terms only grow, and a vote is given once a term (paper, figure 2).
pub(crate) fn check_succession(old: HardState, new: Option<HardState>) -> Result<(), &'static str> {
    let Some(new) = new else { return Err("the hard state vanishes") };
    if new.current_term < old.current_term {
        return Err("the term goes backwards");
    }
    if new.current_term == old.current_term && old.voted_for.is_some() && new.voted_for != old.voted_for {
        return Err("the vote changes within a term");
    }
    Ok(())
}

/// Terms do not fall along the log, and no entry is of a term that the hard state has not reached: a
/// member that had such an entry and forgot its term could follow a leader of the past.
pub(crate) fn check_entry_terms(
    hard_state: Option<HardState>,
    previous: Position,
    entries: &[Record],
) -> Result<(), &'static str> {
    let mut term = previous.term;
    for entry in entries {
        if entry.term < term {
            return Err("the terms of the entries go backwards");
        }
        term = entry.term;
    }
    if hard_state.map_or(0, |state| state.current_term) < term {
        return Err("an entry is of a later term than the hard state");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::format::{BATCH_HEADER_BYTES, BatchBuffer};

    const HARD_STATE: HardState = HardState { current_term: 5, voted_for: NonZeroU64::new(1) };

    fn seed() -> Seed {
        Seed::new(0)
    }

    fn entry(index: u64, term: u64) -> Record {
        Record { index, term, kind: 0, data: Bytes::new() }
    }

    /// A log in term 5 that starts after 10@3 and holds 11@3, 12@4 and 13@5.
    fn replay() -> Replay {
        let last = Position { index: 10, term: 3 };
        let header = SegmentHeader {
            salt: 0,
            sequence: 1,
            len_bytes: 8192,
            epoch: 1,
            previous_end: 0,
            chain: 0,
            last,
            hard_state: Some(HARD_STATE),
        };
        let mut replay = Replay::new(&header, 0, 0);
        let entries = [entry(11, 3), entry(12, 4), entry(13, 5)];
        assert_eq!(apply(&mut replay, BatchKind::Append, last, &entries, |_| ()), Ok(()));
        assert_eq!(apply(&mut replay, BatchKind::Compact, last, &[], |_| ()), Ok(()));
        replay
    }

    /// Applies a sound record that `spoil` has changed before it was written.
    fn apply(
        replay: &mut Replay,
        kind: BatchKind,
        position: Position,
        entries: &[Record],
        spoil: impl FnOnce(&mut BatchHeader),
    ) -> Result<(), &'static str> {
        let mut header = BatchHeader {
            kind,
            chain: replay.chain,
            segment: 1,
            offset: 4096,
            epoch: replay.epoch + u64::from(kind == BatchKind::Open),
            synced_offset: 4096,
            hard_state: replay.hard_state,
            position,
            entry_count: 0,
            length: 0,
            body_checksum: 0,
        };
        spoil(&mut header);
        let mut buffer = BatchBuffer::default();
        let (bytes, _) = buffer.encode(header, entries, seed());
        let (header, checksum) = BatchHeader::parse(bytes, seed(), 1, 4096).expect("the header is sound");
        let body = Bytes::copy_from_slice(&bytes[BATCH_HEADER_BYTES..]);
        replay.apply(&header, checksum, body, seed()).map_err(|rejected| match rejected {
            Rejected::NotNext => "not next",
            Rejected::Impossible(why) => why,
        })
    }

    #[test]
    fn a_record_that_breaks_a_rule_is_refused() {
        type Case = (BatchKind, (u64, u64), &'static [(u64, u64)], fn(&mut BatchHeader), &'static str);
        let cases: [Case; 16] = [
            (BatchKind::Append, (13, 5), &[(14, 5)], |header| header.epoch = 2, "not next"),
            (BatchKind::Open, (13, 5), &[], |header| header.epoch = 1, "not next"),
            (BatchKind::Open, (13, 5), &[], |header| header.epoch = u64::MAX, "not next"),
            (
                BatchKind::Append,
                (13, 5),
                &[],
                |header| header.chain ^= 1,
                "the record does not continue the one before it",
            ),
            (
                BatchKind::Append,
                (13, 5),
                &[],
                |header| header.synced_offset = 4104,
                "the record claims that itself had been synced",
            ),
            (BatchKind::Append, (13, 5), &[], |header| header.hard_state = None, "the hard state vanishes"),
            (BatchKind::Append, (13, 5), &[], |header| term(header, 4, 1), "the term goes backwards"),
            (BatchKind::Append, (13, 5), &[], |header| term(header, 5, 2), "the vote changes within a term"),
            (
                BatchKind::Append,
                (13, 5),
                &[(14, 5), (15, 4)],
                |_| (),
                "the terms of the entries go backwards",
            ),
            (
                BatchKind::Append,
                (13, 5),
                &[(14, 6)],
                |_| (),
                "an entry is of a later term than the hard state",
            ),
            (BatchKind::Append, (14, 5), &[(15, 5)], |_| (), "the entries do not follow an entry of the log"),
            (BatchKind::Append, (9, 3), &[(10, 3)], |_| (), "the entries do not follow an entry of the log"),
            (
                BatchKind::Compact,
                (12, 3),
                &[],
                |_| (),
                "the log was compacted through an entry that it does not hold",
            ),
            (BatchKind::Reset, (20, 5), &[(21, 5)], |_| (), "only an append has entries"),
            (BatchKind::Open, (12, 4), &[], |_| (), "the log was opened with another last entry"),
            (BatchKind::Full, (13, 5), &[], |_| (), "the segment that follows this one is missing"),
        ];
        for (kind, (index, term), entries, spoil, why) in cases {
            let entries: Vec<_> = entries.iter().map(|(index, term)| entry(*index, *term)).collect();
            let mut replay = replay();
            assert_eq!(apply(&mut replay, kind, Position { index, term }, &entries, spoil), Err(why));
        }
    }

    fn term(header: &mut BatchHeader, current_term: u64, vote: u64) {
        header.hard_state = Some(HardState { current_term, voted_for: NonZeroU64::new(vote) });
    }
}

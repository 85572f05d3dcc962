//! The log of one member: what may be done with it, and in which order the disk sees it.

use std::io;

use bytes::Bytes;

use crate::disk::{Disk, DiskFile, read_exact_at};
use crate::error::WalError;
use crate::format::{
    BATCH_HEADER_BYTES, BatchBuffer, BatchHeader, BatchKind, MAX_BATCH_BYTES, SEGMENT_HEADER_BYTES, Seed,
    SegmentHeader, batch_length,
};
use crate::index::{LogIndex, Place};
use crate::recovery::{Found, recover};
use crate::replay::{check_entry_terms, check_succession};
use crate::segments::Segments;
use crate::types::{HardState, Options, Position, Record, Recovered, Run};

/// How much is written again at once when the log is opened.
const REWRITE_CHUNK_BYTES: u64 = 1 << 20;

/// A durable log of entries, and of the hard state beside them.
///
/// All that is appended becomes durable with the next [`sync`](Self::sync), and nothing before that; a
/// batch is recovered whole or not at all, and after a crash the batches that remain are the oldest ones,
/// without gaps. After a failed write or sync every call returns [`WalError::Poisoned`].
pub struct Wal<D: Disk> {
    segments: Segments<D>,
    index: LogIndex,
    hard_state: Option<HardState>,
    salt: u64,
    seed: Seed,
    /// Grows with each opening of the log, so that what an earlier one left behind cannot be taken for ours.
    epoch: u64,
    tail: Tail,
    buffer: BatchBuffer,
    poisoned: bool,
    appended_bytes: u64,
    synced_bytes: u64,
}

/// The end of the newest segment's records.
struct Tail {
    segment: u64,
    /// Where the next record goes.
    offset: u64,
    /// Everything in this segment below here is synced.
    synced_offset: u64,
    /// The synced offset that the last record names.
    named_offset: u64,
    /// The one that the last synced record names: whatever befalls what stands below it, it will be noticed.
    vouched_offset: u64,
    /// The checksum of the last record, or of the segment header.
    chain: u32,
}

impl<D: Disk> Wal<D> {
    /// Whether there is a log on this disk. Spares alone are none: as long as there is a log it has a segment.
    pub fn exists(disk: &D) -> Result<bool, WalError> {
        Segments::any(disk)
    }

    /// Gives back the room of all spares of a log that is not open, that of the next segment too. Answers whether there
    /// were any.
    pub fn remove_spares(disk: &D) -> Result<bool, WalError> {
        Segments::remove_spares(disk)
    }

    /// Opens the log on this disk, or creates one if there is none. All that is returned is durable.
    pub fn open(disk: D, options: Options) -> Result<(Self, Recovered), WalError> {
        Self::open_behind(disk, options, 0)
    }

    /// The same, but of the entries only those behind `index` are returned, and held in memory: the others are only
    /// checked.
    pub fn open_behind(disk: D, options: Options, index: u64) -> Result<(Self, Recovered), WalError> {
        let mut segments = Segments::open(disk, &options)?;
        if segments.newest().is_none() {
            segments.begin(first_segment(options.salt), 0)?;
        }
        let Found { mut replay, salt, end_offset, torn_tail } = recover(&segments, index)?;
        let newest = segments.newest().expect("a segment was found or begun");
        let recovered = Recovered {
            hard_state: replay.hard_state,
            start: replay.index.start(),
            entries: replay.take_entries(),
            torn_tail,
        };
        let tail = Tail {
            segment: newest,
            offset: end_offset,
            synced_offset: replay.synced_offset.max(SEGMENT_HEADER_BYTES as u64),
            named_offset: replay.synced_offset,
            vouched_offset: 0,
            chain: replay.chain,
        };
        let mut wal = Self {
            segments,
            hard_state: replay.hard_state,
            salt,
            seed: Seed::new(salt),
            epoch: replay.epoch(),
            index: replay.index,
            tail,
            buffer: BatchBuffer::default(),
            poisoned: false,
            appended_bytes: 0,
            synced_bytes: 0,
        };
        wal.make_recovered_durable()?;
        Ok((wal, recovered))
    }

    /// After a crash of the process alone, the page cache shows what the next loss of power would take; and
    /// after a failed sync even a further sync would not help, for the system believes those pages clean. So
    /// what no record vouches for is written once more and synced before anybody relies on it. Then a record
    /// is added that vouches for all of it, and that begins a new epoch, in which nothing that may stand
    /// behind the end of the records can ever be read again.
    fn make_recovered_durable(&mut self) -> Result<(), WalError> {
        self.segments.sync_directory()?;
        self.rewrite_tail()
            .map_err(|source| self.segments.segment_io("rewrite", self.tail.segment, source))?;
        self.sync_tail()?;
        let last = self.index.last();
        self.write_record(BatchKind::Open, last, self.hard_state, &[])?;
        self.sync_tail()?;
        self.retire_unneeded()
    }

    fn rewrite_tail(&mut self) -> io::Result<()> {
        let end = self.tail.offset;
        let file = &mut self.segments.segment_mut(self.tail.segment).file;
        let mut offset = self.tail.synced_offset;
        let mut chunk = Vec::new();
        while offset < end {
            chunk.resize((end - offset).min(REWRITE_CHUNK_BYTES) as usize, 0);
            read_exact_at(file, offset, &mut chunk)?;
            file.write_at(offset, &chunk)?;
            offset += chunk.len() as u64;
        }
        Ok(())
    }

    /// Writes one batch: a new hard state, if there is one, and entries, which replace whatever stood at
    /// their index and after it. Durable only after the next [`sync`](Self::sync).
    ///
    /// It is a bug, and panics, if the entries leave a hole, overwrite what has been compacted, have a
    /// later term than the hard state or falling terms, or if the hard state goes back.
    pub fn append(&mut self, hard_state: Option<HardState>, entries: &[Record]) -> Result<(), WalError> {
        self.guarded(|wal| wal.try_append(hard_state, entries))
    }

    fn try_append(&mut self, hard_state: Option<HardState>, entries: &[Record]) -> Result<(), WalError> {
        if hard_state.is_none() && entries.is_empty() {
            return Ok(());
        }
        let bytes = batch_length(entries);
        if bytes > MAX_BATCH_BYTES {
            return Err(WalError::BatchTooLarge { bytes, limit_bytes: MAX_BATCH_BYTES });
        }
        let follows = |pair: &[Record]| pair[1].index == pair[0].index + 1;
        assert!(entries.windows(2).all(follows), "the entries of a batch follow each other");
        let hard_state = hard_state.or(self.hard_state);
        let previous = entries.first().map_or(self.index.last(), |first| self.position_before(first.index));
        self.write_record(BatchKind::Append, previous, hard_state, entries)
    }

    fn position_before(&self, first_index: u64) -> Position {
        let index = first_index.checked_sub(1).expect("the first entry of a log has index 1");
        assert!(index >= self.index.start().index, "entries that were compacted are not overwritten");
        let term = self.index.term_at(index).expect("the log has no holes");
        Position { index, term }
    }

    /// Makes everything appended so far durable: one `fdatasync`, or none if nothing is new.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.guarded(Self::sync_tail)
    }

    fn sync_tail(&mut self) -> Result<(), WalError> {
        if self.tail.synced_offset < self.tail.offset {
            let synced = self.segments.segment_mut(self.tail.segment).file.sync();
            synced.map_err(|source| self.segments.segment_io("sync", self.tail.segment, source))?;
            self.tail.synced_offset = self.tail.offset;
            self.tail.vouched_offset = self.tail.named_offset;
            self.synced_bytes = self.appended_bytes;
        }
        Ok(())
    }

    /// The entries from `first_index` to `last_index`, both included, as many as fit into `max_bytes` of
    /// data, but one at least. They are read from the disk and checked again.
    pub fn read(&self, first_index: u64, last_index: u64, max_bytes: usize) -> Result<Vec<Record>, WalError> {
        if self.poisoned {
            return Err(WalError::Poisoned);
        }
        if first_index < self.first_index() || last_index > self.last().index || first_index > last_index {
            return Err(WalError::NotInLog {
                first_index: self.first_index(),
                last_index: self.last().index,
            });
        }
        let mut entries = Vec::new();
        let mut bytes_left = max_bytes;
        for span in self.index.spans_from(first_index) {
            if span.first_index > last_index {
                break;
            }
            let wanted = span.first_index.max(first_index)..=span.last_index.min(last_index);
            for entry in self.read_record(span.place)? {
                if !wanted.contains(&entry.index) {
                    continue;
                }
                if entry.data.len() > bytes_left && !entries.is_empty() {
                    return Ok(entries);
                }
                bytes_left = bytes_left.saturating_sub(entry.data.len());
                entries.push(entry);
            }
        }
        assert!(!entries.is_empty(), "every span lies in the record that it names");
        Ok(entries)
    }

    fn read_record(&self, place: Place) -> Result<Vec<Record>, WalError> {
        let segment = self.segments.segment(place.segment);
        let mut bytes = vec![0; place.length as usize];
        read_exact_at(&segment.file, place.offset, &mut bytes)
            .map_err(|source| self.segments.segment_io("read", place.segment, source))?;
        let header = BatchHeader::parse(&bytes, self.seed, place.segment, place.offset);
        let entries = header.and_then(|(header, _)| {
            header.parse_body(Bytes::from(bytes).slice(BATCH_HEADER_BYTES..), self.seed)
        });
        entries.ok_or_else(|| {
            self.segments.corrupt(place.segment, place.offset, "the record is not the one that was written")
        })
    }

    /// Forgets the entries up to `through`, which must be an entry of the log, and reuses the segments that
    /// are no longer needed for it.
    pub fn compact(&mut self, through: Position) -> Result<(), WalError> {
        self.guarded(|wal| wal.try_compact(through))
    }

    fn try_compact(&mut self, through: Position) -> Result<(), WalError> {
        if through.index <= self.index.start().index {
            return Ok(());
        }
        assert_eq!(
            self.index.term_at(through.index),
            Some(through.term),
            "the log is compacted through one of its entries"
        );
        self.write_record(BatchKind::Compact, through, self.hard_state, &[])?;
        self.retire_unneeded()
    }

    /// Forgets all entries and goes on after `start`, which a snapshot stands for. The hard state stays.
    /// Durable when this returns.
    pub fn reset(&mut self, start: Position) -> Result<(), WalError> {
        self.guarded(|wal| wal.try_reset(start))
    }

    fn try_reset(&mut self, start: Position) -> Result<(), WalError> {
        assert!(start.index >= self.index.start().index, "a snapshot does not lead back behind an older one");
        self.write_record(BatchKind::Reset, start, self.hard_state, &[])?;
        self.sync_tail()?;
        self.retire_unneeded()
    }

    /// Does up to `max_bytes` of the work that the next segment will need, and says whether all is done that
    /// can be. To be called when the disk is idle: without it the append that begins a segment does the work.
    /// A disk without room for it is no error here: that append may find room again.
    pub fn prepare(&mut self, max_bytes: u64) -> Result<bool, WalError> {
        self.guarded(|wal| wal.segments.prepare(max_bytes))
    }

    /// Whether there was no room for the next segment when it was last tried: when this one is full, appends will be
    /// refused with [`WalError::NoSpace`].
    pub fn lacks_room(&self) -> bool {
        self.segments.lacks_room()
    }

    /// Has [`prepare`](Self::prepare) try again what it found no room for: something may have changed.
    pub fn try_again(&mut self) {
        self.segments.try_again();
    }

    /// Gives back room that the log does not need for its next segment.
    pub fn give_up_spares(&mut self) -> Result<(), WalError> {
        self.guarded(|wal| wal.segments.give_up_spares())
    }

    /// Ends in good order: syncs, and adds an empty record that vouches for all others, so that any
    /// damage that comes to them before the log is opened again will be noticed.
    pub fn close(mut self) -> Result<(), WalError> {
        self.sync()?;
        let (last, hard_state) = (self.index.last(), self.hard_state);
        match self.guarded(|wal| wal.write_record(BatchKind::Append, last, hard_state, &[])) {
            Ok(()) => self.sync(),
            // All is durable; the record would only vouch for it.
            Err(WalError::NoSpace { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The last entry, or the start if there is none.
    pub fn last(&self) -> Position {
        self.index.last()
    }

    /// The index of the first entry, or of the next one if there is none.
    pub fn first_index(&self) -> u64 {
        self.index.start().index + 1
    }

    /// The entry before the first one.
    pub fn start(&self) -> Position {
        self.index.start()
    }

    /// The term of an entry of the log, or of the one before the first.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        self.index.term_at(index)
    }

    /// What the log holds up to the entry at `last_index`, from its first on: runs of entries that were written
    /// together and have one term.
    pub fn runs(&self, last_index: u64) -> impl Iterator<Item = Run> + '_ {
        let spans = self.index.spans_from(0).take_while(move |span| span.first_index <= last_index);
        spans.map(move |span| Run {
            first: Position { index: span.first_index, term: span.term },
            last_index: span.last_index.min(last_index),
            bytes: u64::from(span.place.length),
        })
    }

    /// The newest hard state.
    pub fn hard_state(&self) -> Option<HardState> {
        self.hard_state
    }

    /// How much the log takes on the disk, spares included.
    pub fn size_bytes(&self) -> u64 {
        self.segments.size_bytes()
    }

    /// How many bytes of records were written since the log was opened.
    pub fn appended_bytes(&self) -> u64 {
        self.appended_bytes
    }

    /// How many of [`appended_bytes`](Self::appended_bytes) are durable.
    pub fn synced_bytes(&self) -> u64 {
        self.synced_bytes
    }

    /// How many bytes of the newest segment, from its first on, a durable record says had been synced: should any of
    /// them be lost, the next opening notices it (ADR 4).
    pub fn vouched_bytes(&self) -> u64 {
        self.tail.vouched_offset
    }

    /// Writes one record at the tail, and then changes what is known of the log accordingly. The only way
    /// in which the log ever changes.
    fn write_record(
        &mut self,
        kind: BatchKind,
        position: Position,
        hard_state: Option<HardState>,
        entries: &[Record],
    ) -> Result<(), WalError> {
        if let Some(old) = self.hard_state {
            check_succession(old, hard_state)
                .unwrap_or_else(|rule| panic!("broken rule of the hard state: {rule}"));
        }
        check_entry_terms(hard_state, position, entries)
            .unwrap_or_else(|rule| panic!("broken rule of terms: {rule}"));
        // Room is left for the record that says that the segment is full; and for one that says what is no longer
        // needed, so that a log that has no room for another segment can still give room.
        let reserved_headers = match kind {
            BatchKind::Compact | BatchKind::Reset => 1,
            BatchKind::Open | BatchKind::Append | BatchKind::Full => 2,
        };
        let length = batch_length(entries) + reserved_headers * BATCH_HEADER_BYTES as u64;
        if self.tail.offset + length > self.segments.segment(self.tail.segment).len_bytes {
            self.begin_segment(length)?;
        }
        let epoch = self.epoch + u64::from(kind == BatchKind::Open);
        let (place, checksum) = self.write_at_tail(kind, epoch, position, hard_state, entries)?;
        self.epoch = epoch;
        self.hard_state = hard_state;
        self.tail.chain = checksum;
        self.tail.named_offset = self.tail.synced_offset;
        self.tail.offset += u64::from(place.length);
        self.appended_bytes += u64::from(place.length);
        match kind {
            BatchKind::Open => {}
            BatchKind::Full => unreachable!("written by begin_segment alone"),
            BatchKind::Append => self.index.append(position, entries, place),
            BatchKind::Compact => self.index.compact(position),
            BatchKind::Reset => self.index.reset(position),
        }
        Ok(())
    }

    fn write_at_tail(
        &mut self,
        kind: BatchKind,
        epoch: u64,
        position: Position,
        hard_state: Option<HardState>,
        entries: &[Record],
    ) -> Result<(Place, u32), WalError> {
        let Tail { segment, offset, synced_offset, chain, .. } = self.tail;
        let header = BatchHeader {
            kind,
            chain,
            segment,
            offset,
            epoch,
            synced_offset,
            hard_state,
            position,
            // These three the buffer fills in.
            entry_count: 0,
            length: 0,
            body_checksum: 0,
        };
        let (bytes, checksum) = self.buffer.encode(header, entries, self.seed);
        let written = self.segments.segment_mut(segment).file.write_at(offset, bytes);
        let length = bytes.len() as u32;
        written.map_err(|source| self.segments.segment_io("write", segment, source))?;
        Ok((Place { segment, offset, length }, checksum))
    }

    /// Goes on in a new segment. The old one is synced first: that the new one exists vouches for all of it.
    fn begin_segment(&mut self, needed_bytes: u64) -> Result<(), WalError> {
        self.sync_tail()?;
        let header = SegmentHeader {
            salt: self.salt,
            sequence: self.tail.segment + 1,
            len_bytes: 0,
            epoch: self.epoch,
            previous_end: self.tail.offset,
            chain: self.tail.chain,
            last: self.index.last(),
            hard_state: self.hard_state,
        };
        let checksum = self.segments.begin(header, needed_bytes)?;
        // Should the new segment ever be taken away, this tells that it was there. It need not be synced:
        // after a loss of power the new segment is there.
        self.write_at_tail(BatchKind::Full, self.epoch, header.last, self.hard_state, &[])?;
        let offset = SEGMENT_HEADER_BYTES as u64;
        self.tail = Tail {
            segment: header.sequence,
            offset,
            synced_offset: offset,
            named_offset: 0,
            vouched_offset: 0,
            chain: checksum,
        };
        Ok(())
    }

    /// Takes out of use the segments before the first one that holds an entry of the log.
    fn retire_unneeded(&mut self) -> Result<(), WalError> {
        let first_needed = self.index.oldest_segment().unwrap_or(self.tail.segment);
        while self.segments.oldest().is_some_and(|oldest| oldest < first_needed) {
            // What makes a segment unneeded (a compaction, or an entry overwritten) must not be less
            // durable than its removal.
            self.sync_tail()?;
            self.segments.retire_oldest()?;
        }
        Ok(())
    }

    /// Runs a change, and lets no other follow it if it leaves the disk in an unknown state. A failed sync
    /// is not tried again: the next one would report success without having written what this one lost.
    fn guarded<T>(&mut self, change: impl FnOnce(&mut Self) -> Result<T, WalError>) -> Result<T, WalError> {
        if self.poisoned {
            return Err(WalError::Poisoned);
        }
        let result = change(self);
        self.poisoned = matches!(&result, Err(error) if error.is_final());
        result
    }
}

fn first_segment(salt: u64) -> SegmentHeader {
    SegmentHeader {
        salt,
        sequence: 1,
        len_bytes: 0,
        epoch: 0,
        previous_end: 0,
        chain: 0,
        last: Position::default(),
        hard_state: None,
    }
}

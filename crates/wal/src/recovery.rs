//! Reading the log back: which records are believed, and what is a torn tail and what is damage.
//!
//! The records of a segment are read one after the other, each of which must carry on the checksum of the
//! one before it. Where that ends in the newest segment, something was either never completely written or
//! was damaged later. What decides is whether anything behind that point bears witness that everything up
//! to it had been synced (ADR 4). Nothing is changed on the disk here.

use std::io;

use bytes::Bytes;

use crate::disk::{Disk, DiskFile};
use crate::error::WalError;
use crate::format::{ALIGNMENT_BYTES, BATCH_HEADER_BYTES, BatchHeader, SEGMENT_HEADER_BYTES, Seed};
use crate::reader::SegmentReader;
use crate::replay::{Rejected, Replay, check_entry_terms};
use crate::segments::Segments;
use crate::types::TornTail;

/// The log as it was found.
pub(crate) struct Found {
    pub(crate) replay: Replay,
    pub(crate) salt: u64,
    /// Where the records of the newest segment end.
    pub(crate) end_offset: u64,
    pub(crate) torn_tail: Option<TornTail>,
}

/// Reads all segments, of which there is at least one. Holds the entries behind an index in memory.
pub(crate) fn recover<D: Disk>(segments: &Segments<D>, held_behind: u64) -> Result<Found, WalError> {
    let oldest = segments.oldest().expect("there is a segment");
    let newest = segments.newest().expect("there is a segment");
    check_none_missing(segments)?;
    let (mut header, checksum) = segments.header(oldest)?;
    // Every other header is compared with what was read before it; with this one reading begins.
    check_entry_terms(header.hard_state, header.last, &[]).map_err(|why| segments.corrupt(oldest, 0, why))?;
    let (salt, seed) = (header.salt, Seed::new(header.salt));
    let mut replay = Replay::new(&header, checksum, held_behind);
    for sequence in oldest..newest {
        let segment = segments.segment(sequence);
        let mut reader = SegmentReader::new(&segment.file, segment.len_bytes);
        let (next, checksum) = segments.header(sequence + 1)?;
        let end = Some(next.previous_end);
        let end_offset = replay_segment(segments, &mut reader, sequence, seed, &mut replay, end)?;
        if next != replay.header_of_next(&header, end_offset, next.len_bytes) {
            let why = "its header does not continue the segment before it";
            return Err(segments.corrupt(sequence + 1, 0, why));
        }
        header = next;
        replay.enter_segment(checksum);
    }
    let segment = segments.segment(newest);
    let mut reader = SegmentReader::new(&segment.file, segment.len_bytes);
    let end_offset = replay_segment(segments, &mut reader, newest, seed, &mut replay, None)?;
    let torn_tail = judge_end(segments, &mut reader, newest, seed, replay.epoch(), end_offset)?;
    Ok(Found { replay, salt, end_offset, torn_tail })
}

fn check_none_missing<D: Disk>(segments: &Segments<D>) -> Result<(), WalError> {
    let mut sequences = segments.sequences();
    let mut previous = sequences.next();
    for sequence in sequences {
        let expected = previous.map(|previous| previous + 1);
        if Some(sequence) != expected {
            return Err(segments.corrupt(expected.unwrap_or_default(), 0, "the file is missing"));
        }
        previous = Some(sequence);
    }
    Ok(())
}

/// Replays records up to `end`, which the next segment names, or else as far as they go. Returns where they
/// end.
fn replay_segment<D: Disk>(
    segments: &Segments<D>,
    reader: &mut SegmentReader<'_, D::File>,
    sequence: u64,
    seed: Seed,
    replay: &mut Replay,
    end: Option<u64>,
) -> Result<u64, WalError> {
    let mut offset = SEGMENT_HEADER_BYTES as u64;
    while end.is_none_or(|end| offset < end) {
        let record = read_record(reader, sequence, offset, seed)
            .map_err(|source| segments.segment_io("read", sequence, source))?;
        let Some((header, checksum, body)) = record else { break };
        match replay.apply(&header, checksum, body, seed) {
            Ok(()) => offset = header.end(),
            Err(Rejected::NotNext) => break,
            Err(Rejected::Impossible(why)) => return Err(segments.corrupt(sequence, offset, why)),
        }
    }
    match end {
        Some(end) if end != offset => {
            let why =
                format!("the segment after it was begun when this one had been synced up to byte {end}");
            Err(segments.corrupt(sequence, offset, why))
        }
        Some(_) | None => Ok(offset),
    }
}

/// The record at `offset` as far as its header holds; its body is unchecked.
fn read_record<F: DiskFile>(
    reader: &mut SegmentReader<'_, F>,
    sequence: u64,
    offset: u64,
    seed: Seed,
) -> io::Result<Option<(BatchHeader, u32, Bytes)>> {
    let Some(bytes) = reader.bytes(offset, BATCH_HEADER_BYTES)? else { return Ok(None) };
    let Some((header, checksum)) = BatchHeader::parse(bytes, seed, sequence, offset) else { return Ok(None) };
    let body_offset = offset + BATCH_HEADER_BYTES as u64;
    let body = reader.bytes(body_offset, header.length as usize - BATCH_HEADER_BYTES)?;
    Ok(body.map(|body| (header, checksum, Bytes::copy_from_slice(body))))
}

/// Decides what the end of the records in the newest segment is: damage, a torn tail, or just the end.
fn judge_end<D: Disk>(
    segments: &Segments<D>,
    reader: &mut SegmentReader<'_, D::File>,
    sequence: u64,
    seed: Seed,
    epoch: u64,
    end_offset: u64,
) -> Result<Option<TornTail>, WalError> {
    let traces = Traces::find(reader, sequence, seed, epoch, end_offset)
        .map_err(|source| segments.segment_io("read", sequence, source))?;
    match traces.witness {
        Some(witness) if witness.synced_offset > end_offset => {
            let why = format!(
                "a record at byte {} says that everything below byte {} had been synced",
                witness.offset, witness.synced_offset
            );
            Err(segments.corrupt(sequence, end_offset, why))
        }
        Some(_) | None => Ok((traces.end > end_offset).then(|| TornTail {
            segment: segments.segment_path(sequence),
            offset: end_offset,
            bytes_cut: traces.end - end_offset,
        })),
    }
}

/// What stands behind the end of the records.
struct Traces {
    /// The header that claims the most.
    witness: Option<BatchHeader>,
    /// How far headers of the current epoch reach.
    end: u64,
}

impl Traces {
    /// Looks at every place where a record could begin, from `from` to the end of the segment. A header is
    /// believed if its checksum holds and it names this segment and this very offset: its body and its
    /// chain may be torn, and it may be of an older epoch, but what it says had been synced had been, and
    /// synced bytes are never written again.
    fn find<F: DiskFile>(
        reader: &mut SegmentReader<'_, F>,
        sequence: u64,
        seed: Seed,
        epoch: u64,
        from: u64,
    ) -> io::Result<Self> {
        let mut traces = Self { witness: None, end: from };
        let mut offset = from;
        while let Some(bytes) = reader.bytes(offset, BATCH_HEADER_BYTES)? {
            if let Some((header, _)) = BatchHeader::parse(bytes, seed, sequence, offset) {
                traces.add(header, epoch);
            } else if BatchHeader::is_trace(bytes, sequence, offset, epoch) {
                traces.end = traces.end.max(offset + BATCH_HEADER_BYTES as u64);
            }
            offset += ALIGNMENT_BYTES as u64;
        }
        traces.end = traces.end.min(reader.len_bytes());
        Ok(traces)
    }

    fn add(&mut self, header: BatchHeader, epoch: u64) {
        if header.epoch >= epoch {
            self.end = self.end.max(header.end());
        }
        if self.witness.is_none_or(|witness| header.synced_offset > witness.synced_offset) {
            self.witness = Some(header);
        }
    }
}

//! The bytes on the disk: segment headers and batch records (`docs/log-format.md` has the same as tables).
//!
//! Everything read is parsed here and checked before it is believed; a length is compared with the space
//! that there is before anything is allocated for it. All numbers are little-endian. What a sequence of
//! valid records means is not known here (`replay`).

use std::num::NonZeroU64;

use bytes::{Buf, Bytes};

use crate::types::{HardState, Position, Record};

/// The newest format this program reads, and the one it writes.
pub const FORMAT_VERSION: u32 = 1;
/// The largest batch that one record may hold, headers included.
pub const MAX_BATCH_BYTES: u64 = 64 << 20;

/// A whole block, so that the header shares no sector (of up to 4096 bytes) with records written later.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 4096;
pub(crate) const BATCH_HEADER_BYTES: usize = 88;
pub(crate) const ENTRY_HEADER_BYTES: usize = 16;
/// Records begin at multiples of this, so that a search for them need not try every byte.
pub(crate) const ALIGNMENT_BYTES: usize = 8;

/// No index and no epoch on the disk is larger, so that one may be added to any.
const MAX_COUNT: u64 = u64::MAX >> 1;

const MAGIC: [u8; 8] = *b"TenurLog";
const HAS_HARD_STATE: u8 = 1;

const _: () = assert!(BATCH_HEADER_BYTES.is_multiple_of(ALIGNMENT_BYTES));
const _: () = assert!(SEGMENT_HEADER_BYTES.is_multiple_of(ALIGNMENT_BYTES));
const _: () = assert!(MAX_BATCH_BYTES <= u32::MAX as u64, "a batch's length is stored in 32 bits");

/// What every checksum of a log starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn new(salt: u64) -> Self {
        Self(crc32c::crc32c(&salt.to_le_bytes()))
    }

    fn checksum(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, bytes)
    }
}

/// The first block of a segment: where the log stood when the segment was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) salt: u64,
    pub(crate) sequence: u64,
    /// The length of the file, which it never changes while it is a segment.
    pub(crate) len_bytes: u64,
    pub(crate) epoch: u64,
    /// Where the records of the segment before this one end; all of them were synced before this was written.
    pub(crate) previous_end: u64,
    /// The checksum of the last record (or else of the header) of the segment before this one.
    pub(crate) chain: u32,
    /// The last entry of the log when this segment was begun.
    pub(crate) last: Position,
    pub(crate) hard_state: Option<HardState>,
}

/// Why a segment header cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// It is not what was written.
    Damaged(&'static str),
    /// It is of a format that is not known here.
    Version(u32),
}

impl SegmentHeader {
    /// The whole block, and its checksum.
    pub(crate) fn encode(&self) -> (Vec<u8>, u32) {
        let mut block = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        block.extend_from_slice(&MAGIC);
        block.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        block.extend_from_slice(&self.chain.to_le_bytes());
        for number in [self.salt, self.sequence, self.len_bytes, self.epoch, self.previous_end] {
            block.extend_from_slice(&number.to_le_bytes());
        }
        block.extend_from_slice(&self.last.index.to_le_bytes());
        block.extend_from_slice(&self.last.term.to_le_bytes());
        put_hard_state(&mut block, self.hard_state);
        block.extend_from_slice(&u64::from(hard_state_flag(self.hard_state)).to_le_bytes());
        block.resize(SEGMENT_HEADER_BYTES - 4, 0);
        let checksum = Seed::new(self.salt).checksum(&block);
        block.extend_from_slice(&checksum.to_le_bytes());
        (block, checksum)
    }

    /// The header in this block, and its checksum, which the first record of the segment carries on.
    pub(crate) fn parse(block: &[u8; SEGMENT_HEADER_BYTES]) -> Result<(Self, u32), BadHeader> {
        let mut rest = &block[..];
        if rest.copy_to_bytes(MAGIC.len()) != MAGIC[..] {
            return Err(BadHeader::Damaged("the file does not begin like a log segment"));
        }
        let version = rest.get_u32_le();
        if version != FORMAT_VERSION {
            return Err(BadHeader::Version(version));
        }
        let chain = rest.get_u32_le();
        let salt = rest.get_u64_le();
        let checksum = u32_at(block, SEGMENT_HEADER_BYTES - 4);
        if Seed::new(salt).checksum(&block[..SEGMENT_HEADER_BYTES - 4]) != checksum {
            return Err(BadHeader::Damaged("the checksum of the segment header does not fit"));
        }
        let (sequence, len_bytes) = (rest.get_u64_le(), rest.get_u64_le());
        let (epoch, previous_end) = (rest.get_u64_le(), rest.get_u64_le());
        let last = Position { index: rest.get_u64_le(), term: rest.get_u64_le() };
        if last.index > MAX_COUNT || epoch > MAX_COUNT {
            return Err(BadHeader::Damaged("a number in the segment header is beyond all bounds"));
        }
        let (current_term, voted_for) = (rest.get_u64_le(), rest.get_u64_le());
        let has_hard_state = rest.get_u64_le() == u64::from(HAS_HARD_STATE);
        let hard_state = parse_hard_state(has_hard_state, current_term, voted_for);
        Ok((Self { salt, sequence, len_bytes, epoch, previous_end, chain, last, hard_state }, checksum))
    }
}

/// What a record does to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum BatchKind {
    /// The log was opened: a new epoch begins after `position`, which is the last entry.
    Open = 1,
    /// Entries follow `position`; whatever stood after it is gone.
    Append = 2,
    /// Entries up to `position` are no longer needed.
    Compact = 3,
    /// All entries are gone, and the log goes on after `position`.
    Reset = 4,
    /// Not a part of the log: the segment is full, and another one follows.
    Full = 5,
}

impl BatchKind {
    fn parse(byte: u8) -> Option<Self> {
        let all = [Self::Open, Self::Append, Self::Compact, Self::Reset, Self::Full];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// The head of a record, with a checksum of its own, so that it can bear witness even if its body is torn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) kind: BatchKind,
    /// The checksum of the record before this one, or of the segment header.
    pub(crate) chain: u32,
    /// The sequence number of the segment.
    pub(crate) segment: u64,
    /// Where in the segment this record begins.
    pub(crate) offset: u64,
    pub(crate) epoch: u64,
    /// All of this segment below here was known to be synced when this record was written.
    pub(crate) synced_offset: u64,
    /// The hard state after this record.
    pub(crate) hard_state: Option<HardState>,
    pub(crate) position: Position,
    pub(crate) entry_count: u32,
    /// The whole record, with header and padding.
    pub(crate) length: u32,
    pub(crate) body_checksum: u32,
}

impl BatchHeader {
    fn encode_into(&self, bytes: &mut Vec<u8>, seed: Seed) {
        let start = bytes.len();
        bytes.extend_from_slice(&self.body_checksum.to_le_bytes());
        bytes.extend_from_slice(&self.chain.to_le_bytes());
        bytes.extend_from_slice(&self.length.to_le_bytes());
        bytes.extend_from_slice(&[self.kind as u8, hard_state_flag(self.hard_state), 0, 0]);
        for number in [self.segment, self.offset, self.epoch, self.synced_offset] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        put_hard_state(bytes, self.hard_state);
        bytes.extend_from_slice(&self.position.index.to_le_bytes());
        bytes.extend_from_slice(&self.position.term.to_le_bytes());
        bytes.extend_from_slice(&self.entry_count.to_le_bytes());
        let checksum = seed.checksum(&bytes[start..]);
        bytes.extend_from_slice(&checksum.to_le_bytes());
    }

    /// The header at the start of `bytes` (at least `BATCH_HEADER_BYTES` of them), which were read at
    /// `offset` of `segment`, and its checksum. `None` if it is not a header that was written there.
    pub(crate) fn parse(bytes: &[u8], seed: Seed, segment: u64, offset: u64) -> Option<(Self, u32)> {
        // The address first: it is the cheap half of the test, and fails for nearly everything that
        // is not a record of this place, such as the old content of a recycled file.
        if u64_at(bytes, 16) != segment || u64_at(bytes, 24) != offset {
            return None;
        }
        let checksum = u32_at(bytes, BATCH_HEADER_BYTES - 4);
        if seed.checksum(&bytes[..BATCH_HEADER_BYTES - 4]) != checksum {
            return None;
        }
        let length = u32_at(bytes, 8);
        let well_formed = length as usize >= BATCH_HEADER_BYTES
            && (length as usize).is_multiple_of(ALIGNMENT_BYTES)
            && u64::from(length) <= MAX_BATCH_BYTES
            && u64_at(bytes, 64) <= MAX_COUNT;
        if !well_formed {
            return None;
        }
        let header = Self {
            body_checksum: u32_at(bytes, 0),
            chain: u32_at(bytes, 4),
            length,
            kind: BatchKind::parse(bytes[12])?,
            segment,
            offset,
            epoch: u64_at(bytes, 32),
            synced_offset: u64_at(bytes, 40),
            hard_state: parse_hard_state(bytes[13] == HAS_HARD_STATE, u64_at(bytes, 48), u64_at(bytes, 56)),
            position: Position { index: u64_at(bytes, 64), term: u64_at(bytes, 72) },
            entry_count: u32_at(bytes, 80),
        };
        Some((header, checksum))
    }

    /// Whether these bytes look like a header of this place of which some sectors are missing.
    pub(crate) fn is_trace(bytes: &[u8], segment: u64, offset: u64, epoch: u64) -> bool {
        u64_at(bytes, 16) == segment && u64_at(bytes, 24) == offset && u64_at(bytes, 32) == epoch
    }

    /// Where the next record begins.
    pub(crate) fn end(&self) -> u64 {
        self.offset + u64::from(self.length)
    }

    /// The entries in the body of this record; `None` if it is not the body that was written.
    pub(crate) fn parse_body(&self, mut body: Bytes, seed: Seed) -> Option<Vec<Record>> {
        if seed.checksum(&body) != self.body_checksum {
            return None;
        }
        let count = self.entry_count as usize;
        if count > body.len() / ENTRY_HEADER_BYTES {
            return None;
        }
        let mut entries = Vec::with_capacity(count);
        for place in 1..=u64::from(self.entry_count) {
            if body.len() < ENTRY_HEADER_BYTES {
                return None;
            }
            let term = body.get_u64_le();
            let length = body.get_u32_le() as usize;
            let kind = body.get_u8();
            body.advance(3);
            if length > body.len() {
                return None;
            }
            let index = self.position.index.checked_add(place)?;
            entries.push(Record { index, term, kind, data: body.split_to(length) });
        }
        (body.len() < ALIGNMENT_BYTES).then_some(entries)
    }
}

/// How long the record of these entries will be.
pub(crate) fn batch_length(entries: &[Record]) -> u64 {
    let entries: u64 = entries.iter().map(|entry| ENTRY_HEADER_BYTES as u64 + entry.data.len() as u64).sum();
    (BATCH_HEADER_BYTES as u64 + entries).next_multiple_of(ALIGNMENT_BYTES as u64)
}

/// A buffer in which one record after the other is built, so that an append allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct BatchBuffer {
    bytes: Vec<u8>,
    header: Vec<u8>,
}

/// A buffer that one huge batch has blown up is given back.
const KEPT_BUFFER_BYTES: usize = 4 << 20;

impl BatchBuffer {
    /// Builds the record of `entries` with this header, whose counts, length and body checksum are
    /// filled in. Returns its bytes and its checksum.
    pub(crate) fn encode(&mut self, header: BatchHeader, entries: &[Record], seed: Seed) -> (&[u8], u32) {
        let length = batch_length(entries);
        assert!(length <= MAX_BATCH_BYTES, "a batch is no longer than its length field can say");
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BUFFER_BYTES.max(length as usize));
        self.bytes.resize(BATCH_HEADER_BYTES, 0);
        for entry in entries {
            self.bytes.extend_from_slice(&entry.term.to_le_bytes());
            self.bytes.extend_from_slice(&(entry.data.len() as u32).to_le_bytes());
            self.bytes.extend_from_slice(&[entry.kind, 0, 0, 0]);
            self.bytes.extend_from_slice(&entry.data);
        }
        self.bytes.resize(length as usize, 0);
        let header = BatchHeader {
            entry_count: entries.len() as u32,
            length: length as u32,
            body_checksum: seed.checksum(&self.bytes[BATCH_HEADER_BYTES..]),
            ..header
        };
        self.header.clear();
        header.encode_into(&mut self.header, seed);
        self.bytes[..BATCH_HEADER_BYTES].copy_from_slice(&self.header);
        (&self.bytes, u32_at(&self.header, BATCH_HEADER_BYTES - 4))
    }
}

fn hard_state_flag(hard_state: Option<HardState>) -> u8 {
    if hard_state.is_some() { HAS_HARD_STATE } else { 0 }
}

fn put_hard_state(bytes: &mut Vec<u8>, hard_state: Option<HardState>) {
    let current_term = hard_state.map_or(0, |state| state.current_term);
    let voted_for = hard_state.and_then(|state| state.voted_for).map_or(0, NonZeroU64::get);
    bytes.extend_from_slice(&current_term.to_le_bytes());
    bytes.extend_from_slice(&voted_for.to_le_bytes());
}

fn parse_hard_state(present: bool, current_term: u64, voted_for: u64) -> Option<HardState> {
    present.then(|| HardState { current_term, voted_for: NonZeroU64::new(voted_for) })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    (&bytes[at..at + 4]).get_u32_le()
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    (&bytes[at..at + 8]).get_u64_le()
}

//! The small file that makes segments a checkpoint: what they stand for, and how to know them again.
//!
//! ```text
//! offset  size  what (integers little endian)
//!      0     8  "TENUREMF"
//!      8     4  format version
//!     12     8  index of the last entry included
//!     20     8  its term
//!     28     4  number of segments, from 1
//!     32  36 n  the segments in the order of their parts, the one that was written for this checkpoint last
//!               0  8  index, and
//!               8  8  term, of the checkpoint that it was written for: its name
//!              16  8  the revision that it ends with
//!              24  8  its length in bytes
//!              32  4  CRC32C of it
//!      …     …  the configuration in force there
//!  end-4     4  CRC32C of all bytes before
//! ```

use tenure_raft::{EntryId, Index, Snapshot, Term};

use crate::record::{decode_configuration, encode_configuration};
use crate::segments::{MAX_SEGMENTS, Segment};

const MAGIC: &[u8; 8] = b"TENUREMF";
const FORMAT_VERSION: u32 = 2;
const HEAD_BYTES: usize = 32;
const SEGMENT_BYTES: usize = 36;

/// What a manifest says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Manifest {
    pub(crate) snapshot: Snapshot,
    /// Never empty.
    pub(crate) segments: Vec<Segment>,
}

/// Why bytes are no manifest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    /// They are not as they were written.
    #[error("its checksum is wrong")]
    Damaged,
    /// They were written by another version.
    #[error("its format version {0} is not known to this version of Tenure")]
    UnknownVersion(u32),
    /// What they say cannot be.
    #[error("it contradicts itself")]
    Invalid,
}

impl Manifest {
    /// The segments that somebody lacks who has a checkpoint up to `above`. The last one says in any case what the
    /// state is.
    pub(crate) fn segments_above(&self, above: Index) -> &[Segment] {
        let held = self.segments.partition_point(|segment| segment.last_included.index <= above);
        &self.segments[held.min(self.segments.len() - 1)..]
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES + self.segments.len() * SEGMENT_BYTES + 64);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        put_entry_id(self.snapshot.last_included, &mut out);
        out.extend_from_slice(&(self.segments.len() as u32).to_le_bytes());
        for segment in &self.segments {
            put_entry_id(segment.last_included, &mut out);
            out.extend_from_slice(&segment.revision.to_le_bytes());
            out.extend_from_slice(&segment.len_bytes.to_le_bytes());
            out.extend_from_slice(&segment.crc.to_le_bytes());
        }
        out.extend_from_slice(&encode_configuration(&self.snapshot.configuration));
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let (body, checksum) = bytes.split_last_chunk().ok_or(ManifestError::Damaged)?;
        if crc32c::crc32c(body).to_le_bytes() != *checksum {
            return Err(ManifestError::Damaged);
        }
        let (head, rest) = body.split_first_chunk::<HEAD_BYTES>().ok_or(ManifestError::Invalid)?;
        if &head[..8] != MAGIC {
            return Err(ManifestError::Invalid);
        }
        match half(head, 8) {
            FORMAT_VERSION => {}
            other => return Err(ManifestError::UnknownVersion(other)),
        }
        let last_included = entry_id(head, 12);
        let count = half(head, 28) as usize;
        let split = rest.split_at_checked(count.saturating_mul(SEGMENT_BYTES));
        let (listed, configuration) = split.ok_or(ManifestError::Invalid)?;
        let segments: Vec<Segment> = listed.chunks_exact(SEGMENT_BYTES).map(segment_of).collect();
        let configuration = decode_configuration(configuration).map_err(|_| ManifestError::Invalid)?;
        let names_itself = segments.last().is_some_and(|last| last.last_included == last_included);
        if !names_itself || count > MAX_SEGMENTS || !segments.is_sorted_by(follows) {
            return Err(ManifestError::Invalid);
        }
        Ok(Manifest { snapshot: Snapshot { last_included, configuration }, segments })
    }
}

fn follows(segment: &Segment, next: &Segment) -> bool {
    segment.last_included.index < next.last_included.index && segment.revision <= next.revision
}

fn put_entry_id(id: EntryId, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.index.0.to_le_bytes());
    out.extend_from_slice(&id.term.0.to_le_bytes());
}

fn segment_of(bytes: &[u8]) -> Segment {
    Segment {
        last_included: entry_id(bytes, 0),
        revision: word(bytes, 16) as i64,
        len_bytes: word(bytes, 24),
        crc: half(bytes, 32),
    }
}

fn entry_id(bytes: &[u8], at: usize) -> EntryId {
    EntryId::new(Index(word(bytes, at)), Term(word(bytes, at + 8)))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[cfg(test)]
mod tests;

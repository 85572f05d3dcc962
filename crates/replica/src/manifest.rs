//! The small file that makes a segment a checkpoint: what it stands for, and how to know it again.
//!
//! ```text
//! offset  size  what (integers little endian)
//!      0     8  "TENUREMF"
//!      8     4  format version
//!     12     8  index of the last entry included
//!     20     8  its term
//!     28     8  length of the segment in bytes
//!     36     4  CRC32C of the segment
//!     40     …  the configuration in force there
//!  end-4     4  CRC32C of all bytes before
//! ```

use tenure_raft::{EntryId, Index, Snapshot, Term};

use crate::record::{decode_configuration, encode_configuration};

const MAGIC: &[u8; 8] = b"TENUREMF";
const FORMAT_VERSION: u32 = 1;
const HEAD_BYTES: usize = 40;

/// What a manifest says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Manifest {
    pub(crate) snapshot: Snapshot,
    pub(crate) segment_bytes: u64,
    pub(crate) segment_crc: u32,
}

impl Manifest {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let EntryId { index, term } = self.snapshot.last_included;
        let mut out = Vec::with_capacity(HEAD_BYTES + 64);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&index.0.to_le_bytes());
        out.extend_from_slice(&term.0.to_le_bytes());
        out.extend_from_slice(&self.segment_bytes.to_le_bytes());
        out.extend_from_slice(&self.segment_crc.to_le_bytes());
        out.extend_from_slice(&encode_configuration(&self.snapshot.configuration));
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// None if the bytes are not a whole manifest of this version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Manifest> {
        let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if body.len() < HEAD_BYTES || crc32c::crc32c(body).to_le_bytes() != checksum {
            return None;
        }
        let word = |at: usize| u64::from_le_bytes(body[at..at + 8].try_into().expect("eight bytes"));
        let half = |at: usize| u32::from_le_bytes(body[at..at + 4].try_into().expect("four bytes"));
        if &body[..8] != MAGIC || half(8) != FORMAT_VERSION {
            return None;
        }
        let last_included = EntryId::new(Index(word(12)), Term(word(20)));
        let configuration = decode_configuration(&body[HEAD_BYTES..]).ok()?;
        let snapshot = Snapshot { last_included, configuration };
        Some(Manifest { snapshot, segment_bytes: word(28), segment_crc: half(36) })
    }
}

#[cfg(test)]
mod tests;

//! Blocks: a bounded payload, its length, and a checksum that binds both to the block's place.

use super::reader::CheckpointError;

/// The most bytes that a block carries, its head not counted.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024 - HEAD_BYTES;

/// Kind, length and checksum.
pub(super) const HEAD_BYTES: usize = 1 + 4 + 4;

/// What a block carries. A part is one header, any number of body blocks, one footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Header,
    Body,
    Footer,
}

impl Kind {
    fn to_byte(self) -> u8 {
        match self {
            Self::Header => 1,
            Self::Body => 2,
            Self::Footer => 3,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Header),
            2 => Some(Self::Body),
            3 => Some(Self::Footer),
            _ => None,
        }
    }
}

/// The head of a block, taken from its bytes but not yet believed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) length: usize,
    crc: u32,
}

impl Head {
    /// Parses the head of block number `number`.
    pub(super) fn parse(bytes: [u8; HEAD_BYTES], number: u64) -> Result<Self, CheckpointError> {
        let [kind, l0, l1, l2, l3, c0, c1, c2, c3] = bytes;
        let kind =
            Kind::from_byte(kind).ok_or(CheckpointError::Damaged { block: number, why: "unknown kind" })?;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > MAX_PAYLOAD_BYTES {
            return Err(CheckpointError::Damaged { block: number, why: "too long" });
        }
        Ok(Self { kind, length, crc: u32::from_le_bytes([c0, c1, c2, c3]) })
    }

    /// Whether the payload is the one that was written, at this place.
    pub(super) fn check(&self, number: u64, payload: &[u8]) -> Result<(), CheckpointError> {
        if self.crc == checksum(self.kind, number, payload) {
            Ok(())
        } else {
            Err(CheckpointError::Damaged { block: number, why: "wrong checksum" })
        }
    }
}

/// The bytes of a block.
pub(super) fn encode(kind: Kind, number: u64, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() <= MAX_PAYLOAD_BYTES, "a block's payload is bounded");
    let mut bytes = Vec::with_capacity(HEAD_BYTES + payload.len());
    bytes.push(kind.to_byte());
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&checksum(kind, number, payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Covers the number too, so that no block can stand in for another.
fn checksum(kind: Kind, number: u64, payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&number.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &[kind.to_byte()]);
    let crc = crc32c::crc32c_append(crc, &(payload.len() as u32).to_le_bytes());
    crc32c::crc32c_append(crc, payload)
}

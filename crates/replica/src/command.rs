//! A client's write as it stands in the log: who waits for it, and what it does.
//!
//! The origin lets the member that took the request recognise it when it is applied, whoever led when it
//! was proposed: no answer has to come back from the leader.
//!
//! ```text
//! offset  size  what
//!      0     8  member id of the origin, little endian
//!      8     8  its boot
//!     16     8  the attempt, counted by the origin
//!     24     …  the store's command
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tenure_raft::NodeId;
use tenure_store::Command;

const ORIGIN_BYTES: usize = 24;

/// One attempt of a member to have a command executed. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Origin {
    /// The member that took the request.
    pub member: NodeId,
    /// Which start of the member.
    pub boot: u64,
    /// Which attempt of that start.
    pub attempt: u64,
}

/// Writes the command with its origin.
pub(crate) fn encode(origin: Origin, command: &Command) -> Bytes {
    let mut out = Vec::with_capacity(256);
    put_origin(&mut out, origin);
    command.encode(&mut out);
    out.into()
}

/// The same command, as another attempt. Copies it only if somebody else still holds the bytes.
pub(crate) fn with_origin(command: Bytes, origin: Origin) -> Bytes {
    let mut bytes = command.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    let mut head = Vec::with_capacity(ORIGIN_BYTES);
    put_origin(&mut head, origin);
    bytes[..ORIGIN_BYTES].copy_from_slice(&head);
    bytes.freeze()
}

fn put_origin(out: &mut Vec<u8>, origin: Origin) {
    out.put_u64_le(origin.member.as_u64());
    out.put_u64_le(origin.boot);
    out.put_u64_le(origin.attempt);
}

/// Reads a command and its origin; none if the bytes are not one that this version knows.
pub(crate) fn decode(bytes: &Bytes) -> Option<(Origin, Command)> {
    let origin = decode_origin(bytes)?;
    let command = Command::decode(&bytes.slice(ORIGIN_BYTES..)).ok()?;
    Some((origin, command))
}

/// Reads only who waits for it.
pub(crate) fn decode_origin(bytes: &Bytes) -> Option<Origin> {
    let mut input = bytes.get(..ORIGIN_BYTES)?;
    let member = NodeId::new(input.get_u64_le())?;
    Some(Origin { member, boot: input.get_u64_le(), attempt: input.get_u64_le() })
}

#[cfg(test)]
mod tests;

//! Frames out of a stream of bytes.

use bytes::{Buf, Bytes, BytesMut};

use super::{MAX_FRAME_BYTES, MAX_HANDSHAKE_BYTES};

/// The length before each frame.
pub(super) const LENGTH_BYTES: usize = size_of::<u32>();

/// A frame that is longer than allowed: the other side is no member, or broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {found_bytes} bytes, where at most {limit_bytes} are allowed")]
pub struct FrameTooLarge {
    /// What it has, or claims to have.
    pub found_bytes: usize,
    /// What is allowed.
    pub limit_bytes: usize,
}

/// Cuts what a socket gives into frames.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    limit_bytes: usize,
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameDecoder {
    /// For a new connection: only a handshake, or the answer to one, is short enough.
    pub fn new() -> Self {
        Self { buffer: BytesMut::new(), limit_bytes: MAX_HANDSHAKE_BYTES }
    }

    /// The handshake went well: from now on frames may be as long as messages are.
    pub fn accept_messages(&mut self) {
        self.limit_bytes = MAX_FRAME_BYTES;
    }

    /// The handshake went well, but the other side is nobody that is known: from now on frames may be so long.
    pub fn accept_up_to(&mut self, limit_bytes: usize) {
        self.limit_bytes = limit_bytes.min(MAX_FRAME_BYTES);
    }

    /// Takes bytes that were received.
    pub fn push(&mut self, received: &[u8]) {
        self.buffer.extend_from_slice(received);
    }

    /// Where a socket may put what it receives, after what is there.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole frame, without its length. It is a copy of its own size: its
    /// entries stay in memory for long, and must not keep all that was read with them. After an error the
    /// connection is of no more use.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameTooLarge> {
        let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        // Before anything is set aside for it.
        if length > self.limit_bytes {
            return Err(FrameTooLarge { found_bytes: length, limit_bytes: self.limit_bytes });
        }
        if self.buffer.len() - LENGTH_BYTES < length {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        let frame = Bytes::copy_from_slice(&self.buffer[..length]);
        self.buffer.advance(length);
        Ok(Some(frame))
    }
}

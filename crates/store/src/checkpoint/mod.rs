//! Checkpoints: the state as a stream of bytes, and back.
//!
//! A [`Writer`] turns a snapshot into blocks, a [`Reader`] checks every byte of them and makes a store. Where
//! the bytes are kept, under which name, and when they are synced is the caller's business. The format is
//! described byte by byte in `docs/checkpoint-format.md`.
//!
//! A checkpoint is a sequence of **parts**. The first holds the whole state as it was at some revision; each further
//! one what is new since the part before it, so that a state that is large and changes slowly is not written again
//! and again. Within a part, records stand in the order of their revisions: first what the compaction has left of
//! the time before it, then the history. Which parts are put together, and which are written anew, is the caller's
//! choice; whatever the cut, the reader makes the same state of them.
//!
//! What a writer makes is worth something only if a reader takes it: a [`Verifier`] says so of a part while that is
//! written.

mod block;
pub(crate) mod part;
mod reader;
mod restoring;
mod verifier;
mod writer;

pub use block::MAX_PAYLOAD_BYTES;
pub use reader::{CheckpointError, Reader};
pub use verifier::Verifier;
pub use writer::Writer;

/// The first bytes of a part.
const MAGIC: &[u8; 8] = b"TENURECP";

/// The version of the format.
const FORMAT_VERSION: u8 = 3;

/// What the items of the body are told apart by.
const ITEM_MEMBER: u8 = 1;
const ITEM_PUT: u8 = 2;
const ITEM_DELETE: u8 = 3;
const ITEM_REMOVED_MEMBER: u8 = 4;

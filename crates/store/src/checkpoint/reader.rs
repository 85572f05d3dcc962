//! From blocks back to a store, believing nothing.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use super::block::{HEAD_BYTES, Head, Kind};
use super::restoring::{Counters, Restoring};
use super::{FORMAT_VERSION, ITEM_DELETE, ITEM_MEMBER, ITEM_PUT, ITEM_REMOVED_MEMBER, MAGIC};
use crate::codec::take_member;
use crate::record::{Change, Revision};
use crate::state::State;
use crate::wire::{DecodeError, Reader as WireReader};
use crate::{Member, StateHash, Store};

/// No revision, version or index of a checkpoint is larger, so that one may be added to any.
pub(super) const MAX_COUNT: i64 = i64::MAX >> 1;

/// Why bytes are no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// A block is not as it was written.
    #[error("checkpoint block {block} is damaged: {why}")]
    Damaged {
        /// The block's place in its part, from 0.
        block: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The blocks are as they were written, but what they say cannot be.
    #[error("the checkpoint contradicts itself: {why}")]
    Invalid {
        /// What is wrong.
        why: &'static str,
    },
    /// An item of the body cannot be read.
    #[error("an item of the checkpoint cannot be read: {0}")]
    Item(DecodeError),
    /// The format is of a later version than this program knows.
    #[error("checkpoint format version {0} is not known to this version of Tenure")]
    UnknownVersion(u8),
    /// The bytes end in the midst of a part.
    #[error("the checkpoint ends in the midst of a part")]
    Truncated,
}

impl From<DecodeError> for CheckpointError {
    fn from(error: DecodeError) -> CheckpointError {
        CheckpointError::Item(error)
    }
}

/// Takes the bytes of a checkpoint, one part behind the other, in pieces of any size. Sets aside no memory that the
/// bytes received do not fill. Each part turns the state that the parts before it gave into the next one, which must
/// have the hash that the part says; what is dead by then goes as a compaction would have it go. A part may begin with
/// what the parts before it hold already, since another member may have written it: that is passed over.
#[derive(Default)]
pub struct Reader {
    /// Bytes of a block that has not come whole.
    incoming: BytesMut,
    /// Bytes of an item that has not come whole.
    items: BytesMut,
    /// Its number within its part.
    next_block: u64,
    /// Of the part's blocks so far.
    part_crc: u32,
    /// There is one once the first header has come.
    restoring: Option<Restoring>,
    /// What the parts are to be put on, if the first does not hold everything.
    base: Option<State>,
    /// What an earlier piece was refused for.
    failure: Option<CheckpointError>,
}

impl Reader {
    /// A reader that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A reader of parts that go on from a state, of which they may say again what it holds already. If the first
    /// holds everything, the state is of no use.
    pub fn onto(store: Store) -> Self {
        Self { base: Some(store.into_state()), ..Self::default() }
    }

    /// Whether what has come stands for itself, and not on the state that it was to go on from.
    pub fn is_whole(&self) -> bool {
        self.restoring.as_ref().is_some_and(|restoring| restoring.is_whole)
    }

    /// Takes the next bytes. After an error, every call answers that error.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let outcome = self.take(bytes);
        self.failure = outcome.clone().err();
        outcome
    }

    /// The store, if whole parts have come. Whether they are all that there should be, the caller knows from the
    /// applied index.
    pub fn finish(self) -> Result<Store, CheckpointError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        match self.restoring {
            Some(restoring) if self.next_block == 0 && self.incoming.is_empty() => {
                Ok(Store::from_state(restoring.state))
            }
            Some(_) | None => Err(CheckpointError::Truncated),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.incoming.extend_from_slice(bytes);
        while let Some(head) = self.incoming.first_chunk::<HEAD_BYTES>() {
            let head = Head::parse(*head, self.next_block)?;
            if self.incoming.len() < HEAD_BYTES + head.length {
                return Ok(());
            }
            let block = self.incoming.split_to(HEAD_BYTES + head.length).freeze();
            head.check(self.next_block, &block[HEAD_BYTES..])?;
            self.on_block(head.kind, &block)?;
        }
        Ok(())
    }

    fn on_block(&mut self, kind: Kind, block: &Bytes) -> Result<(), CheckpointError> {
        let payload = &block[HEAD_BYTES..];
        match (kind, self.next_block) {
            (Kind::Header, 0) => self.on_header(payload)?,
            (Kind::Body, 1..) => self.on_body(payload)?,
            (Kind::Footer, 1..) => {
                self.on_footer(payload)?;
                (self.part_crc, self.next_block) = (0, 0);
                return Ok(());
            }
            (Kind::Header, 1..) | (Kind::Body | Kind::Footer, 0) => {
                return Err(CheckpointError::Damaged {
                    block: self.next_block,
                    why: "not the kind due here",
                });
            }
        }
        self.part_crc = crc32c::crc32c_append(self.part_crc, block);
        self.next_block += 1;
        Ok(())
    }

    fn on_header(&mut self, payload: &[u8]) -> Result<(), CheckpointError> {
        let counters = parse_header(payload)?;
        let base = self.base.take().filter(|_| counters.since > 0);
        let restoring = match (&mut self.restoring, base) {
            (Some(restoring), _) => restoring,
            (None, Some(base)) => self.restoring.insert(Restoring::onto(base)),
            (None, None) => {
                require(counters.since == 0, "its first part is missing")?;
                self.restoring = Some(Restoring::first_part(counters));
                return Ok(());
            }
        };
        restoring.next_part(counters)
    }

    fn on_body(&mut self, payload: &[u8]) -> Result<(), CheckpointError> {
        self.items.extend_from_slice(payload);
        let restoring = self.restoring.as_mut().expect("a header is the first block");
        let mut reader = WireReader::copying(&self.items);
        let mut taken = 0;
        loop {
            match take_item(&mut reader) {
                Ok(Item::Member(member)) => restoring.on_member(member)?,
                Ok(Item::RemovedMember(id)) => restoring.on_removed_member(id)?,
                Ok(Item::Record { revision, key, change }) => restoring.on_record(revision, key, change)?,
                // The rest of the item, or the next one, comes with the next block.
                Err(DecodeError::Truncated(_)) => break,
                Err(error) => return Err(error.into()),
            }
            taken = self.items.len() - reader.remaining();
        }
        self.items.advance(taken);
        Ok(())
    }

    fn on_footer(&mut self, payload: &[u8]) -> Result<(), CheckpointError> {
        require(self.items.is_empty(), "an item is cut off")?;
        let restoring = self.restoring.as_ref().expect("a header is the first block");
        let Sums { record_count, member_count, state_hash, part_crc } = parse_footer(payload)?;
        require(record_count == restoring.record_count, "records are missing")?;
        require(member_count == restoring.member_count, "members are missing")?;
        require(part_crc == self.part_crc, "blocks are not those that were written")?;
        let is_as_it_says = restoring.is_passed_over() || state_hash == restoring.state.state_hash();
        require(is_as_it_says, "its state has another hash than it says")
    }
}

/// Reads a header's payload.
pub(super) fn parse_header(payload: &[u8]) -> Result<Counters, CheckpointError> {
    let Some(rest) = payload.strip_prefix(MAGIC) else {
        return Err(CheckpointError::Invalid { why: "it does not begin like a checkpoint" });
    };
    let mut reader = WireReader::copying(rest);
    match reader.byte("format version")? {
        FORMAT_VERSION => {}
        other => return Err(CheckpointError::UnknownVersion(other)),
    }
    let (since, applied_index) = (reader.signed()?, reader.varint()?);
    let (revision, compact_revision) = (reader.signed()?, reader.signed()?);
    reader.finish()?;
    let is_possible = (1..=MAX_COUNT).contains(&revision) && (-1..=revision).contains(&compact_revision);
    require(is_possible, "its revisions are impossible")?;
    require(applied_index <= MAX_COUNT as u64, "its index is impossible")?;
    Ok(Counters { since, revision, compact_revision, applied_index })
}

/// What a footer says.
pub(super) struct Sums {
    pub(super) record_count: u64,
    pub(super) member_count: u64,
    pub(super) state_hash: StateHash,
    pub(super) part_crc: u32,
}

/// Reads a footer's payload.
pub(super) fn parse_footer(payload: &[u8]) -> Result<Sums, CheckpointError> {
    let mut reader = WireReader::copying(payload);
    let (record_count, member_count) = (reader.varint()?, reader.varint()?);
    let state_hash = StateHash(u64::from_le_bytes(reader.array("state hash")?));
    let part_crc = u32::from_le_bytes(reader.array("checksum")?);
    reader.finish()?;
    Ok(Sums { record_count, member_count, state_hash, part_crc })
}

pub(super) enum Item {
    Member(Member),
    RemovedMember(u64),
    Record { revision: Revision, key: Bytes, change: Change },
}

/// Reads one item of a body.
pub(super) fn take_item(reader: &mut WireReader<'_>) -> Result<Item, DecodeError> {
    match reader.byte("item")? {
        ITEM_MEMBER => take_member(reader).map(Item::Member),
        ITEM_REMOVED_MEMBER => reader.varint().map(Item::RemovedMember),
        ITEM_PUT => {
            let (revision, key) = (take_revision(reader)?, reader.bytes()?);
            let (create_revision, version, lease) = (reader.signed()?, reader.signed()?, reader.signed()?);
            let value = reader.bytes()?;
            Ok(Item::Record { revision, key, change: Change::Put { create_revision, version, lease, value } })
        }
        ITEM_DELETE => {
            let (revision, key) = (take_revision(reader)?, reader.bytes()?);
            Ok(Item::Record { revision, key, change: Change::Delete })
        }
        other => Err(DecodeError::UnknownTag("item", other)),
    }
}

fn take_revision(reader: &mut WireReader<'_>) -> Result<Revision, DecodeError> {
    let main = reader.signed()?;
    let sub = u32::try_from(reader.varint()?).map_err(|_| DecodeError::NumberTooLarge)?;
    Ok(Revision { main, sub })
}

pub(super) fn require(is_so: bool, otherwise: &'static str) -> Result<(), CheckpointError> {
    if is_so { Ok(()) } else { Err(CheckpointError::Invalid { why: otherwise }) }
}

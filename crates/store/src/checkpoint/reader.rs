//! From blocks back to a store, believing nothing.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use super::block::{HEAD_BYTES, Head, Kind};
use super::{FORMAT_VERSION, ITEM_DELETE, ITEM_MEMBER, ITEM_PUT, ITEM_REMOVED_MEMBER, MAGIC};
use crate::codec::take_member;
use crate::members::MAX_REMOVED_MEMBERS;
use crate::record::{Change, Record, Revision};
use crate::state::State;
use crate::wire::{DecodeError, Reader as WireReader};
use crate::{Member, StateHash, Store};

/// No revision, version or index of a checkpoint is larger, so that one may be added to any.
const MAX_COUNT: i64 = i64::MAX >> 1;

/// Why bytes are no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// A block is not as it was written.
    #[error("checkpoint block {block} is damaged: {why}")]
    Damaged {
        /// The block's place in the checkpoint, from 0.
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
    Item(#[from] DecodeError),
    /// The format is of a later version than this program knows.
    #[error("checkpoint format version {0} is not known to this version of Tenure")]
    UnknownVersion(u8),
    /// The bytes end before the footer.
    #[error("the checkpoint ends before its footer")]
    Truncated,
    /// Bytes come after the footer.
    #[error("bytes follow the checkpoint's footer")]
    TrailingBytes,
}

/// Takes the bytes of a checkpoint in pieces of any size. Sets aside no memory that the bytes received do
/// not fill.
#[derive(Default)]
pub struct Reader {
    /// Bytes of a block that has not come whole.
    incoming: BytesMut,
    /// Bytes of an item that has not come whole.
    items: BytesMut,
    next_block: u64,
    stream_crc: u32,
    /// There is one once the header has come.
    restoring: Option<Restoring>,
    is_complete: bool,
    /// What an earlier piece was refused for.
    failure: Option<CheckpointError>,
}

impl Reader {
    /// A reader that has seen nothing.
    pub fn new() -> Self {
        Self::default()
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

    /// The store, if the whole checkpoint has come.
    pub fn finish(self) -> Result<Store, CheckpointError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        match self.restoring {
            Some(restoring) if self.is_complete => Ok(Store::from_state(restoring.state)),
            Some(_) | None => Err(CheckpointError::Truncated),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.incoming.extend_from_slice(bytes);
        while let Some(head) = self.incoming.first_chunk::<HEAD_BYTES>() {
            if self.is_complete {
                break;
            }
            let head = Head::parse(*head, self.next_block)?;
            if self.incoming.len() < HEAD_BYTES + head.length {
                return Ok(());
            }
            let block = self.incoming.split_to(HEAD_BYTES + head.length).freeze();
            head.check(self.next_block, &block[HEAD_BYTES..])?;
            self.on_block(head.kind, &block)?;
        }
        if self.is_complete && !self.incoming.is_empty() {
            return Err(CheckpointError::TrailingBytes);
        }
        Ok(())
    }

    fn on_block(&mut self, kind: Kind, block: &Bytes) -> Result<(), CheckpointError> {
        let payload = &block[HEAD_BYTES..];
        match (kind, self.next_block) {
            (Kind::Header, 0) => self.on_header(payload)?,
            (Kind::Body, 1..) => self.on_body(payload)?,
            (Kind::Footer, 1..) => self.on_footer(payload)?,
            (Kind::Header, 1..) | (Kind::Body | Kind::Footer, 0) => {
                return Err(CheckpointError::Damaged {
                    block: self.next_block,
                    why: "not the kind due here",
                });
            }
        }
        self.stream_crc = crc32c::crc32c_append(self.stream_crc, block);
        self.next_block += 1;
        Ok(())
    }

    fn on_header(&mut self, payload: &[u8]) -> Result<(), CheckpointError> {
        let Some(rest) = payload.strip_prefix(MAGIC) else {
            return Err(CheckpointError::Invalid { why: "it does not begin like a checkpoint" });
        };
        let mut reader = WireReader::copying(rest);
        match reader.byte("format version")? {
            FORMAT_VERSION => {}
            other => return Err(CheckpointError::UnknownVersion(other)),
        }
        let applied_index = reader.varint()?;
        let (revision, compact_revision) = (reader.signed()?, reader.signed()?);
        reader.finish()?;
        let is_possible = (1..=MAX_COUNT).contains(&revision) && (-1..=revision).contains(&compact_revision);
        require(is_possible, "its revisions are impossible")?;
        require(applied_index <= MAX_COUNT as u64, "its index is impossible")?;
        self.restoring = Some(Restoring::new(revision, compact_revision, applied_index));
        Ok(())
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
        let mut reader = WireReader::copying(payload);
        let (record_count, member_count) = (reader.varint()?, reader.varint()?);
        let state_hash = StateHash(u64::from_le_bytes(reader.array("state hash")?));
        let stream_crc = u32::from_le_bytes(reader.array("checksum")?);
        reader.finish()?;
        require(record_count == restoring.record_count, "records are missing")?;
        require(member_count == restoring.member_count, "members are missing")?;
        require(stream_crc == self.stream_crc, "blocks are not those that were written")?;
        require(state_hash == restoring.state.state_hash(), "its state has another hash than it says")?;
        self.is_complete = true;
        Ok(())
    }
}

enum Item {
    Member(Member),
    RemovedMember(u64),
    Record { revision: Revision, key: Bytes, change: Change },
}

fn take_item(reader: &mut WireReader<'_>) -> Result<Item, DecodeError> {
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

/// The state being put together, and what its parts must agree with.
struct Restoring {
    state: State,
    last_revision: Revision,
    record_count: u64,
    member_count: u64,
}

impl Restoring {
    fn new(revision: i64, compact_revision: i64, applied_index: u64) -> Self {
        Self {
            state: State::restoring(revision, compact_revision, applied_index),
            // The first revision that is ever written is 2: 1 is the empty store.
            last_revision: Revision { main: 1, sub: u32::MAX },
            record_count: 0,
            member_count: 0,
        }
    }

    fn on_member(&mut self, member: Member) -> Result<(), CheckpointError> {
        require(self.record_count == 0, "a member stands among the records")?;
        let last = self.state.members().next_back();
        require(last.is_none_or(|last| last.id < member.id), "members are out of order")?;
        require(self.state.removed_members().is_empty(), "a member stands among the removed ones")?;
        self.state.set_member(member);
        self.member_count += 1;
        Ok(())
    }

    fn on_removed_member(&mut self, id: u64) -> Result<(), CheckpointError> {
        require(self.record_count == 0, "a removed member stands among the records")?;
        let removed = self.state.removed_members();
        require(removed.len() < MAX_REMOVED_MEMBERS, "more removed members than are remembered")?;
        let is_new = !removed.contains(&id) && self.state.member(id).is_none();
        require(is_new, "a removed member stands twice, or is a member")?;
        self.state.remove_member(id);
        Ok(())
    }

    fn on_record(&mut self, revision: Revision, key: Bytes, change: Change) -> Result<(), CheckpointError> {
        require(self.last_revision < revision, "records are out of order")?;
        require(revision.sub < u32::MAX, "a revision has more changes than can be counted")?;
        require(revision.main <= self.state.revision(), "a record lies above the latest revision")?;
        require(!key.is_empty(), "a key is empty")?;
        self.check_change(revision, &key, &change)?;
        let previous = self.state.previous_of(&key);
        self.state.append(Record::new(revision, key, change, previous));
        self.last_revision = revision;
        self.record_count += 1;
        Ok(())
    }

    /// Whether the change can follow the key's last one. Up to the compact revision that one is forgotten.
    fn check_change(&self, revision: Revision, key: &[u8], change: &Change) -> Result<(), CheckpointError> {
        let compact_revision = self.state.compact_revision();
        let old = self.state.latest(key).and_then(|record| record.key_value());
        if let Some(old) = &old
            && revision.main <= compact_revision
        {
            // Only within the compact revision itself may a key have two.
            let is_kept = old.mod_revision == compact_revision;
            require(is_kept, "a superseded record was compacted")?;
        }
        match change {
            Change::Delete if revision.main < compact_revision => require(false, "a tombstone was compacted"),
            Change::Delete if revision.main == compact_revision => Ok(()),
            Change::Delete => require(old.is_some(), "a key is deleted that does not exist"),
            Change::Put { create_revision, version, .. } if revision.main <= compact_revision => {
                let is_possible =
                    (2..=revision.main).contains(create_revision) && (1..=MAX_COUNT).contains(version);
                require(is_possible, "a pair has impossible revisions")
            }
            Change::Put { create_revision, version, .. } => {
                let (created, last_version) =
                    old.map_or((revision.main, 0), |old| (old.create_revision, old.version));
                let follows = *create_revision == created && last_version.checked_add(1) == Some(*version);
                require(follows, "a pair does not follow from the one before it")
            }
        }
    }
}

fn require(is_so: bool, otherwise: &'static str) -> Result<(), CheckpointError> {
    if is_so { Ok(()) } else { Err(CheckpointError::Invalid { why: otherwise }) }
}

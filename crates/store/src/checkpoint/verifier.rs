//! Reads a part back while it is written: what a writer made that no reader would take must never count.
//!
//! A reader makes a second state of what it reads, which would take twice the memory. This one has the state already:
//! it asks of each record what the reader asks, and that it is the one that the state has at that place. What one
//! part has against another, it cannot see.

use bytes::{Buf, Bytes, BytesMut};

use super::block::{HEAD_BYTES, Head, Kind};
use super::reader::{CheckpointError, Item, Sums, parse_footer, parse_header, require, take_item};
use super::restoring::Place;
use crate::record::{Change, Revision};
use crate::wire::{DecodeError, Reader as WireReader};
use crate::{KeyValue, Member, Snapshot};

/// Takes the blocks of one part, each whole, and compares them with the state that they are to hold.
pub struct Verifier {
    snapshot: Snapshot,
    since: i64,
    next_block: u64,
    part_crc: u32,
    /// Bytes of an item that goes on in the next block.
    items: BytesMut,
    last_revision: Revision,
    record_count: u64,
    member_count: u64,
    removed_count: usize,
    is_done: bool,
}

impl Verifier {
    /// For a part that turns the state at the revision `since`, 0 for none, into the one that `snapshot` shows.
    pub fn new(snapshot: Snapshot, since: i64) -> Self {
        Self {
            snapshot,
            since,
            next_block: 0,
            part_crc: 0,
            items: BytesMut::new(),
            last_revision: Place::before_first(since),
            record_count: 0,
            member_count: 0,
            removed_count: 0,
            is_done: false,
        }
    }

    /// Takes the next block. An error says what a reader would have against it.
    pub fn push(&mut self, block: &[u8]) -> Result<(), CheckpointError> {
        require(!self.is_done, "it goes on behind its end")?;
        let head = *block.first_chunk::<HEAD_BYTES>().ok_or(CheckpointError::Truncated)?;
        let head = Head::parse(head, self.next_block)?;
        let payload = &block[HEAD_BYTES..];
        require(payload.len() == head.length, "a block has another length than it says")?;
        head.check(self.next_block, payload)?;
        match (head.kind, self.next_block) {
            (Kind::Header, 0) => self.on_header(payload)?,
            (Kind::Body, 1..) => self.on_body(payload)?,
            (Kind::Footer, 1..) => return self.on_footer(payload),
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

    /// Whether the part has come to its end.
    pub fn finish(self) -> Result<(), CheckpointError> {
        if self.is_done { Ok(()) } else { Err(CheckpointError::Truncated) }
    }

    fn on_header(&mut self, payload: &[u8]) -> Result<(), CheckpointError> {
        let counters = parse_header(payload)?;
        let is_the_states = counters.since == self.since
            && counters.revision == self.snapshot.revision()
            && counters.compact_revision == self.snapshot.compact_revision()
            && counters.applied_index == self.snapshot.applied_index();
        require(is_the_states, "its header is another state's")
    }

    fn on_body(&mut self, payload: &[u8]) -> Result<(), CheckpointError> {
        self.items.extend_from_slice(payload);
        let mut items = std::mem::take(&mut self.items);
        let mut reader = WireReader::copying(&items);
        let mut taken = 0;
        loop {
            match take_item(&mut reader) {
                Ok(Item::Member(member)) => self.on_member(&member)?,
                Ok(Item::RemovedMember(id)) => self.on_removed_member(id)?,
                Ok(Item::Record { revision, key, change }) => self.on_record(revision, &key, &change)?,
                // The rest of the item, or the next one, comes with the next block.
                Err(DecodeError::Truncated(_)) => break,
                Err(error) => return Err(error.into()),
            }
            taken = items.len() - reader.remaining();
        }
        items.advance(taken);
        self.items = items;
        Ok(())
    }

    fn on_member(&mut self, member: &Member) -> Result<(), CheckpointError> {
        require(self.record_count == 0 && self.removed_count == 0, "a member stands among other items")?;
        let expected = self.snapshot.members().nth(self.member_count as usize);
        require(expected == Some(member), "a member is not as the state has it")?;
        self.member_count += 1;
        Ok(())
    }

    fn on_removed_member(&mut self, id: u64) -> Result<(), CheckpointError> {
        require(self.record_count == 0, "a removed member stands among the records")?;
        let removed = self.snapshot.removed_members();
        require(removed.get(self.removed_count) == Some(&id), "a removed member is not the state's")?;
        let is_new =
            !removed[..self.removed_count].contains(&id) && self.snapshot.state().member(id).is_none();
        require(is_new, "a removed member stands twice, or is a member")?;
        self.removed_count += 1;
        Ok(())
    }

    fn on_record(&mut self, revision: Revision, key: &Bytes, change: &Change) -> Result<(), CheckpointError> {
        let compact_revision = self.snapshot.compact_revision();
        let place = Place {
            since: self.since,
            revision: self.snapshot.revision(),
            compact_revision,
            last_revision: self.last_revision,
        };
        let mut old = None;
        // Of a delete below the compact revision only its place is still known.
        if *change != Change::Delete || revision.main >= compact_revision {
            old = self.predecessor(revision, key, change)?;
        }
        place.check(revision, key, change, old.as_ref())?;
        self.last_revision = revision;
        self.record_count += 1;
        Ok(())
    }

    /// What the key was before the state's record at `revision`, which must be this one.
    fn predecessor(
        &self,
        revision: Revision,
        key: &Bytes,
        change: &Change,
    ) -> Result<Option<KeyValue>, CheckpointError> {
        let state = self.snapshot.state();
        let latest = state.latest(key).filter(|latest| latest.revision == revision);
        let record = latest.or_else(|| state.find(revision));
        let record = record.filter(|record| record.key == *key && record.change == *change);
        let record = record.ok_or(CheckpointError::Invalid { why: "a record is not as the state has it" })?;
        let previous = record.previous.and_then(|previous| state.find(previous.revision));
        Ok(previous.and_then(|previous| previous.key_value()))
    }

    fn on_footer(&mut self, payload: &[u8]) -> Result<(), CheckpointError> {
        require(self.items.is_empty(), "an item is cut off")?;
        let Sums { record_count, member_count, state_hash, part_crc } = parse_footer(payload)?;
        require(record_count == self.record_count, "records are missing")?;
        let is_complete = self.member_count == self.snapshot.members().count() as u64
            && self.removed_count == self.snapshot.removed_members().len();
        require(member_count == self.member_count && is_complete, "members are missing")?;
        require(part_crc == self.part_crc, "blocks are not those that were written")?;
        require(state_hash == self.snapshot.state_hash(), "its state has another hash than it says")?;
        self.is_done = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! From a snapshot to blocks, one at a time.

use std::sync::Arc;
use std::vec;

use bytes::Bytes;

use super::block::{self, Kind, MAX_PAYLOAD_BYTES};
use super::{FORMAT_VERSION, ITEM_DELETE, ITEM_MEMBER, ITEM_PUT, ITEM_REMOVED_MEMBER, MAGIC, part};
use crate::Snapshot;
use crate::codec::put_member;
use crate::record::{Change, Record, Revision};
use crate::wire::{put_bytes, put_signed, put_varint};

/// The blocks of a part of a checkpoint, made as they are asked for. Holds the snapshot, and at most one block and
/// one pair beside it, and pointers to what lies below the compact revision.
pub struct Writer {
    snapshot: Snapshot,
    /// The part holds what lies above this revision; all, if it is 0.
    since: i64,
    stage: Stage,
    /// Encoded items that have not left in a block.
    pending: Vec<u8>,
    next_block: u64,
    record_count: u64,
    stream_crc: u32,
}

enum Stage {
    Header,
    /// The records below the compact revision, sorted; they are collected once, by reference.
    BelowCompaction(vec::IntoIter<Arc<Record>>),
    /// The history, from this revision on.
    History(Revision),
    Footer,
    Done,
}

impl Writer {
    /// Writes all that `snapshot` shows: a checkpoint of one part.
    pub fn new(snapshot: Snapshot) -> Self {
        Self::of(snapshot, 0)
    }

    /// Writes the part that turns the state at the revision `since` into the one that `snapshot` shows. It is to
    /// stand behind parts that end with that revision and an earlier applied index.
    pub fn part(snapshot: Snapshot, since: i64) -> Self {
        assert!(snapshot.can_build_on(since), "a part is written where nothing below it is missing");
        Self::of(snapshot, since)
    }

    fn of(snapshot: Snapshot, since: i64) -> Self {
        Self {
            snapshot,
            since,
            stage: Stage::Header,
            pending: Vec::new(),
            next_block: 0,
            record_count: 0,
            stream_crc: 0,
        }
    }

    fn block(&mut self, kind: Kind, payload: &[u8]) -> Bytes {
        let bytes = block::encode(kind, self.next_block, payload);
        self.next_block += 1;
        self.stream_crc = crc32c::crc32c_append(self.stream_crc, &bytes);
        bytes.into()
    }

    fn header(&mut self) -> Bytes {
        let mut payload = Vec::new();
        payload.extend_from_slice(MAGIC);
        payload.push(FORMAT_VERSION);
        put_signed(self.since, &mut payload);
        put_varint(self.snapshot.applied_index(), &mut payload);
        put_signed(self.snapshot.revision(), &mut payload);
        put_signed(self.snapshot.compact_revision(), &mut payload);
        self.block(Kind::Header, &payload)
    }

    fn encode_members(&mut self) {
        for member in self.snapshot.members() {
            self.pending.push(ITEM_MEMBER);
            put_member(member, &mut self.pending);
        }
        for &id in self.snapshot.removed_members() {
            self.pending.push(ITEM_REMOVED_MEMBER);
            put_varint(id, &mut self.pending);
        }
    }

    /// Encodes records until a block is full or there are no more.
    fn fill(&mut self) {
        while self.pending.len() < MAX_PAYLOAD_BYTES {
            let Some(record) = self.next_record() else { return };
            encode_record(&record, &mut self.pending);
            self.record_count += 1;
        }
    }

    fn next_record(&mut self) -> Option<Arc<Record>> {
        let start = match &mut self.stage {
            Stage::BelowCompaction(records) => {
                if let Some(record) = records.next() {
                    return Some(record);
                }
                part::history_start(self.snapshot.state(), self.since)
            }
            Stage::History(next) => *next,
            Stage::Header | Stage::Footer | Stage::Done => return None,
        };
        let record = self.snapshot.state().first_change_from(start).cloned();
        self.stage = match &record {
            Some(record) => Stage::History(Revision { sub: record.revision.sub + 1, ..record.revision }),
            None => Stage::Footer,
        };
        record
    }

    fn body(&mut self) -> Bytes {
        let length = self.pending.len().min(MAX_PAYLOAD_BYTES);
        let rest = self.pending.split_off(length);
        let payload = std::mem::replace(&mut self.pending, rest);
        self.block(Kind::Body, &payload)
    }

    fn footer(&mut self) -> Bytes {
        let mut payload = Vec::new();
        put_varint(self.record_count, &mut payload);
        put_varint(self.snapshot.members().count() as u64, &mut payload);
        payload.extend_from_slice(&self.snapshot.state_hash().0.to_le_bytes());
        payload.extend_from_slice(&self.stream_crc.to_le_bytes());
        self.block(Kind::Footer, &payload)
    }
}

impl Iterator for Writer {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Stage::Header = self.stage {
            self.encode_members();
            let below = part::below_compaction(self.snapshot.state(), self.since);
            self.stage = Stage::BelowCompaction(below.into_iter());
            return Some(self.header());
        }
        self.fill();
        if !self.pending.is_empty() {
            return Some(self.body());
        }
        match self.stage {
            Stage::Done => None,
            Stage::Header | Stage::BelowCompaction(_) | Stage::History(_) | Stage::Footer => {
                self.stage = Stage::Done;
                Some(self.footer())
            }
        }
    }
}

fn encode_record(record: &Record, out: &mut Vec<u8>) {
    let kind = if record.is_tombstone() { ITEM_DELETE } else { ITEM_PUT };
    out.push(kind);
    put_signed(record.revision.main, out);
    put_varint(u64::from(record.revision.sub), out);
    put_bytes(&record.key, out);
    match &record.change {
        Change::Put { create_revision, version, lease, value } => {
            put_signed(*create_revision, out);
            put_signed(*version, out);
            put_signed(*lease, out);
            put_bytes(value, out);
        }
        Change::Delete => {}
    }
}

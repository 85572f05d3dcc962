//! etcd's HashKV, bit for bit, so that the same history on etcd and here can be shown to be the same.
//!
//! It is a CRC-32C over what etcd's backend file would hold: the name of the bucket, then for every record
//! in order of revision its 17-byte place (18 for a tombstone) and its pair as protobuf. What is computed
//! is what etcd computes when all its compactions have been carried out. One pair is in ours that is not in
//! etcd's: one that was deleted and put again in the compact revision itself, which etcd loses.
//!
//! A running etcd also hashes what each compaction finds before it removes anything, and answers for the exact
//! revisions of the last ten with that: see [`at_compaction`]. Such a hash is no part of the state; who keeps it,
//! and for how long, is not known here.

use std::collections::BTreeSet;

use crate::interval::Interval;
use crate::record::{Record, Revision};
use crate::state::State;
use crate::{KeyValue, Rejection};

/// The answer to a HashKV request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashKv {
    /// CRC-32C of all records up to `hash_revision`.
    pub hash: u32,
    /// The oldest readable revision when it was computed; -1 before the first compaction. Two hashes can be
    /// compared only if these are equal.
    pub compact_revision: i64,
    /// The revision up to which it was computed.
    pub hash_revision: i64,
}

/// The name of the bucket in etcd's file that holds the keys.
const KEY_BUCKET: &[u8] = b"key";

pub(crate) fn hash_kv(state: &State, revision: i64) -> Result<HashKv, Rejection> {
    let compact_revision = state.compact_revision();
    if revision > 0 && revision < compact_revision {
        return Err(Rejection::Compacted);
    }
    if revision > state.revision() {
        return Err(Rejection::FutureRevision);
    }
    let hash_revision = if revision == 0 { state.revision() } else { revision };
    let finds_one = finds_a_pair(state, hash_revision);
    let hash = hash_records(state, hash_revision, finds_one);
    Ok(HashKv { hash, compact_revision, hash_revision })
}

/// The hash that a compaction at `revision` makes of the state before it.
pub(crate) fn at_compaction(before: &State, revision: i64) -> HashKv {
    // A compaction keeps the deletes of its own revision, which a question for a hash does not.
    let has_tombstone = || {
        before
            .changes_from(revision)
            .take_while(|record| record.revision.main == revision)
            .any(|record| record.is_tombstone())
    };
    let finds_one = finds_a_pair(before, revision) || has_tombstone();
    let hash = hash_records(before, revision, finds_one);
    HashKv { hash, compact_revision: before.compact_revision(), hash_revision: revision }
}

fn hash_records(state: &State, revision: i64, finds_one: bool) -> u32 {
    let compact_revision = state.compact_revision();
    let superseded = superseded_at(state, revision, finds_one);
    let mut below: Vec<_> = state.records_below_compaction(0).collect();
    below.sort_unstable_by_key(|record| record.revision);
    let records = below.into_iter().chain(state.changes_from(compact_revision));
    let mut crc = crc32c::crc32c(KEY_BUCKET);
    let mut buffer = Vec::new();
    for record in records.take_while(|record| record.revision.main <= revision) {
        // etcd leaves out a tombstone at the compact revision because older versions of it remove that one,
        if record.revision.main == compact_revision && record.is_tombstone() {
            continue;
        }
        // and, up to there, whatever has been superseded since.
        if record.revision.main <= compact_revision && superseded.contains(&record.revision) {
            continue;
        }
        encode_record(record, &mut buffer);
        crc = crc32c::crc32c_append(crc, &buffer);
    }
    crc
}

/// The records up to the compact revision that a later change up to `revision` has superseded. If etcd finds
/// nothing to keep at `revision`, it takes that for "never compacted", and leaves out only what is not there:
/// what another change of the compact revision itself has superseded, which the compaction removed.
fn superseded_at(state: &State, revision: i64, finds_one: bool) -> BTreeSet<Revision> {
    let compact_revision = state.compact_revision();
    if revision < compact_revision {
        return BTreeSet::new();
    }
    let until = if finds_one { revision } else { compact_revision };
    state
        .changes_from(compact_revision)
        .take_while(|record| record.revision.main <= until)
        .filter_map(|record| record.previous)
        .map(|previous| previous.revision)
        .filter(|superseded| superseded.main <= compact_revision)
        .collect()
}

/// Whether etcd finds anything to keep at `revision`.
fn finds_a_pair(state: &State, revision: i64) -> bool {
    // A negative revision is hashed as a time before everything.
    revision >= state.compact_revision()
        && state.iter_at(&Interval::From(b""), revision).any(|record| is_found(record, revision))
}

/// Whether etcd finds this pair, the key's newest at `revision`, when it asks what to keep. One that was deleted
/// and put again in that very revision it does not find: it looks no further than the delete.
fn is_found(record: &Record, revision: i64) -> bool {
    let follows_a_delete_in = |main| record.previous.is_some_and(|previous| previous.revision.main == main);
    record.revision.main < revision || !follows_a_delete_in(revision)
}

/// What etcd stores for a record: the place as key, the pair as value.
fn encode_record(record: &Record, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&record.revision.main.to_be_bytes());
    out.push(b'_');
    out.extend_from_slice(&u64::from(record.revision.sub).to_be_bytes());
    if let Some(kv) = record.key_value() {
        encode_key_value(&kv, out);
    } else {
        out.push(b't');
        encode_key_value(&KeyValue { key: record.key.clone(), ..KeyValue::default() }, out);
    }
}

/// `mvccpb.KeyValue` in protobuf: fields in the order of their numbers, zero values left out.
fn encode_key_value(kv: &KeyValue, out: &mut Vec<u8>) {
    encode_bytes_field(1, &kv.key, out);
    encode_int_field(2, kv.create_revision, out);
    encode_int_field(3, kv.mod_revision, out);
    encode_int_field(4, kv.version, out);
    encode_bytes_field(5, &kv.value, out);
    encode_int_field(6, kv.lease, out);
}

const WIRE_VARINT: u8 = 0;
const WIRE_LENGTH_DELIMITED: u8 = 2;

fn encode_int_field(number: u8, value: i64, out: &mut Vec<u8>) {
    if value != 0 {
        out.push(number << 3 | WIRE_VARINT);
        crate::wire::put_varint(value as u64, out);
    }
}

fn encode_bytes_field(number: u8, value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() {
        out.push(number << 3 | WIRE_LENGTH_DELIMITED);
        crate::wire::put_varint(value.len() as u64, out);
        out.extend_from_slice(value);
    }
}

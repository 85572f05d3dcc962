//! What a part of a checkpoint contains, and about how much that is.

use std::sync::Arc;

use bytes::Bytes;

use crate::record::{Change, RECORD_OVERHEAD_BYTES, Record, Revision};
use crate::state::State;

/// What a record takes in a part beside its key and value, about.
pub(crate) const RECORD_BYTES: u64 = 16;

/// The records of a part above `since` that lie below the compact revision, in order: puts that are still seen,
/// and deletes that are not, of keys that an earlier part may hold.
pub(super) fn below_compaction(state: &State, since: i64) -> Vec<Arc<Record>> {
    let deletes = deletes_below_compaction(state, since)
        .map(|(&place, key)| Record::new(place, key.clone(), Change::Delete, None));
    let mut records: Vec<_> = state.records_below_compaction(since).cloned().chain(deletes).collect();
    records.sort_unstable_by_key(|record| record.revision);
    records
}

/// The whole state, at `since` 0, has nothing before it that had to be deleted.
fn deletes_below_compaction(state: &State, since: i64) -> impl Iterator<Item = (&Revision, &Bytes)> {
    (since > 0).then(|| state.buried().after(since)).into_iter().flatten()
}

/// Where the history of a part above `since` begins.
pub(super) fn history_start(state: &State, since: i64) -> Revision {
    Revision { main: state.compact_revision().max(since + 1), sub: 0 }
}

/// About how many bytes the records of a part above `since` take.
pub(crate) fn size_bytes(state: &State, since: i64) -> u64 {
    let history = state.changes_from(history_start(state, since).main);
    let records = state.records_below_compaction(since).chain(history);
    let records = records.map(|record| match &record.change {
        Change::Put { value, .. } => encoded_bytes(&record.key, value),
        Change::Delete => encoded_bytes(&record.key, b""),
    });
    let deletes = deletes_below_compaction(state, since).map(|(_, key)| encoded_bytes(key, b""));
    records.chain(deletes).sum()
}

/// About how many bytes a checkpoint of one part takes; rather more than less.
pub(crate) fn whole_bytes(state: &State) -> u64 {
    let needless_bytes = RECORD_OVERHEAD_BYTES - RECORD_BYTES;
    state.size_bytes() - needless_bytes * state.key_count() as u64
}

fn encoded_bytes(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64 + RECORD_BYTES
}

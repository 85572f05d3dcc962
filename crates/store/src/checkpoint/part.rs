//! What a part of a checkpoint contains, and about how much that is.

use std::sync::Arc;

use crate::record::{Change, Record, Revision};
use crate::state::State;

/// What a record takes in a part beside its key and value, about.
pub(crate) const RECORD_BYTES: u64 = 16;

/// The records of a part above `since` that lie below the compact revision, in order: puts that are still seen,
/// and deletes that are not, of keys that an earlier part may hold. The whole state, at `since` 0, has nothing
/// before it that had to be deleted.
pub(super) fn below_compaction(state: &State, since: i64) -> Vec<Arc<Record>> {
    let mut records = state.records_below_compaction(since);
    if since > 0 {
        let buried = state.buried().after(since);
        records.extend(buried.map(|(&place, key)| Record::new(place, key.clone(), Change::Delete, None)));
        records.sort_unstable_by_key(|record| record.revision);
    }
    records
}

/// Where the history of a part above `since` begins.
pub(super) fn history_start(state: &State, since: i64) -> Revision {
    Revision { main: state.compact_revision().max(since + 1), sub: 0 }
}

/// About how many bytes the records of a part above `since` take.
pub(crate) fn size_bytes(state: &State, since: i64) -> u64 {
    let below = below_compaction(state, since);
    let history = state.changes_from(history_start(state, since).main);
    below.iter().chain(history).map(encoded_bytes).sum()
}

fn encoded_bytes(record: &Arc<Record>) -> u64 {
    let value_bytes = match &record.change {
        Change::Put { value, .. } => value.len(),
        Change::Delete => 0,
    };
    (record.key.len() + value_bytes) as u64 + RECORD_BYTES
}

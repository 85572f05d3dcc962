//! Writing under one new revision.

use bytes::Bytes;

use crate::interval::Interval;
use crate::range::Extent;
use crate::record::{Change, Record, Revision};
use crate::state::State;
use crate::{
    DeleteRangeRequest, DeleteRangeResponse, KeyValue, PutRequest, PutResponse, RangeRequest, RangeResponse,
    Rejection, range,
};

/// The changes of one command, all in the revision after the present one. They show in the state at once;
/// whoever makes a writer checks beforehand all that could fail.
pub(crate) struct Writer<'a> {
    state: &'a mut State,
    changes: u32,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(state: &'a mut State) -> Self {
        Self { state, changes: 0 }
    }

    /// The latest revision, as a read or a response within the command sees it.
    pub(crate) fn revision(&self) -> i64 {
        self.state.revision() + i64::from(self.changes > 0)
    }

    /// Makes the changes the latest revision; without changes there is no new one. Answers their number.
    pub(crate) fn finish(self) -> u32 {
        if self.changes > 0 {
            self.state.advance_revision();
        }
        self.changes
    }

    pub(crate) fn range(&self, request: &RangeRequest) -> RangeResponse {
        let response = range::range(self.state, self.revision(), request, Extent::Whole);
        response.expect("revisions were checked before any write")
    }

    /// The request must have passed [`check_put`].
    pub(crate) fn put(&mut self, request: &PutRequest) -> PutResponse {
        let next = self.next_revision();
        let previous = self.state.previous_of(&request.key);
        let old = self.state.latest(&request.key).cloned();
        let old_kv = old.as_ref().and_then(|record| record.key_value());
        let (create_revision, version) =
            old_kv.as_ref().map_or((next.main, 1), |kv| (kv.create_revision, kv.version + 1));
        let kept = |keep: bool| if keep { old_kv.as_ref() } else { None };
        // Own memory: a slice of the entry would pin the whole buffer that it arrived in.
        let value = kept(request.ignore_value)
            .map_or_else(|| Bytes::copy_from_slice(&request.value), |kv| kv.value.clone());
        let lease = kept(request.ignore_lease).map_or(request.lease, |kv| kv.lease);
        let key = old.as_ref().map_or_else(|| Bytes::copy_from_slice(&request.key), |old| old.key.clone());

        let change = Change::Put { create_revision, version, lease, value };
        self.state.append(Record::new(next, key, change, previous));
        self.changes += 1;
        PutResponse { revision: self.revision(), prev_kv: old_kv.filter(|_| request.prev_kv) }
    }

    pub(crate) fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let interval = Interval::parse(&request.key, &request.range_end);
        let doomed: Vec<_> = self.state.iter_latest(&interval).cloned().collect();
        for record in &doomed {
            let next = self.next_revision();
            let previous = self.state.previous_of(&record.key);
            self.state.append(Record::new(next, record.key.clone(), Change::Delete, previous));
            self.changes += 1;
        }
        let prev_kvs: Vec<KeyValue> = if request.prev_kv {
            doomed.iter().filter_map(|record| record.key_value()).collect()
        } else {
            Vec::new()
        };
        DeleteRangeResponse { revision: self.revision(), deleted: doomed.len() as i64, prev_kvs }
    }

    fn next_revision(&self) -> Revision {
        Revision { main: self.state.revision() + 1, sub: self.changes }
    }
}

/// What of a put depends on the state, in etcd's order.
pub(crate) fn check_put(state: &State, request: &PutRequest) -> Result<(), Rejection> {
    // No lease exists yet.
    if request.lease != 0 {
        return Err(Rejection::LeaseNotFound);
    }
    if (request.ignore_value || request.ignore_lease) && state.latest(&request.key).is_none() {
        return Err(Rejection::KeyNotFound);
    }
    Ok(())
}

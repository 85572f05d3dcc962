//! Writing under one new revision.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;

use crate::garbage::Garbage;
use crate::interval::Interval;
use crate::later::Later;
use crate::range::Extent;
use crate::record::{Change, Record, Revision};
use crate::state::State;
use crate::{
    Budget, DeleteRangeRequest, DeleteRangeResponse, KeyValue, PutRequest, PutResponse, RangeRequest,
    RangeResponse, Rejection, ResponseOp, range,
};

/// What is made of the answers to reads. The changes are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// All of them, at once.
    All,
    /// Small ones; the others are put off.
    Small,
    /// None: nobody waits.
    None,
}

/// What is read at once, all together, within a transaction whose large reads are put off.
const SMALL: Budget = Budget { keys: 1024, bytes: 256 << 10 };

/// The changes of one command, all in the revision after the present one. They show in the state at once;
/// whoever makes a writer checks beforehand all that could fail.
pub(crate) struct Writer<'a> {
    state: &'a mut State,
    changes: u32,
    answers: Answers,
    /// What is left of [`SMALL`].
    small: Budget,
    /// The state as it is, if somebody has kept it already.
    kept: Option<Arc<State>>,
    garbage: Vec<Box<dyn Any + Send>>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(state: &'a mut State, answers: Answers) -> Self {
        Self { state, changes: 0, answers, small: SMALL, kept: None, garbage: Vec::new() }
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

    /// What the changes have left to be freed.
    pub(crate) fn take_garbage(&mut self) -> Option<Garbage> {
        let garbage = std::mem::take(&mut self.garbage);
        (!garbage.is_empty()).then(|| Garbage::new(garbage))
    }

    pub(crate) fn range(&mut self, request: &RangeRequest) -> ResponseOp {
        let budget = match self.answers {
            Answers::All => Budget::UNLIMITED,
            Answers::Small => self.small,
            Answers::None => return ResponseOp::Range(RangeResponse::default()),
        };
        let selection = range::select(self.state, self.revision(), request, Extent::Whole, budget);
        let selection = selection.expect("revisions were checked before any write");
        let Some(selection) = selection else {
            // Who asks for much once does so again, and each attempt would take what is left.
            self.small = Budget { keys: 0, bytes: 0 };
            return ResponseOp::Later(self.later(request));
        };
        let response = selection.into_response();
        self.small.keys = self.small.keys.saturating_sub(response.count as usize);
        self.small.bytes = self.small.bytes.saturating_sub(response.size_bytes());
        ResponseOp::Range(response)
    }

    fn later(&mut self, request: &RangeRequest) -> Later {
        let state = self.kept.get_or_insert_with(|| Arc::new(self.state.clone())).clone();
        Later::new(state, self.revision(), request.clone())
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
        self.kept = None;
        self.state.append(Record::new(next, key, change, previous));
        self.changes += 1;
        PutResponse { revision: self.revision(), prev_kv: old_kv.filter(|_| request.prev_kv) }
    }

    pub(crate) fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let interval = Interval::parse(&request.key, &request.range_end);
        let doomed: Vec<_> = self.state.iter_latest(&interval).cloned().collect();
        self.kept = None;
        if let Some(taken_out) = self.state.take_out(&doomed) {
            self.garbage.push(Box::new(taken_out));
        }
        for record in &doomed {
            let previous = Some(record.as_previous());
            let tombstone = Record::new(self.next_revision(), record.key.clone(), Change::Delete, previous);
            self.state.bury(Some(record), tombstone);
            self.changes += 1;
        }
        let prev_kvs: Vec<KeyValue> = if request.prev_kv && self.answers != Answers::None {
            doomed.iter().filter_map(|record| record.key_value()).collect()
        } else {
            Vec::new()
        };
        let deleted = doomed.len() as i64;
        // Most deletes are of a few keys.
        if doomed.len() > SMALL.keys {
            self.garbage.push(Box::new(doomed));
        }
        DeleteRangeResponse { revision: self.revision(), deleted, prev_kvs }
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

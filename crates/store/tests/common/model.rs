//! The store again, as dumb as can be: a list of everything that ever happened, searched from the front.
//!
//! It knows nothing of blocks, chains or sums, and forgets nothing: a compaction is a number.

use std::collections::BTreeSet;

use bytes::Bytes;
use tenure_store::{
    Command, Compare, DeleteRangeRequest, DeleteRangeResponse, KeyValue, Operand, PutRequest, PutResponse,
    RangeRequest, RangeResponse, Rejection, Relation, RequestOp, Response, ResponseOp, SortOrder, SortTarget,
    TxnRequest, TxnResponse,
};

#[derive(Clone)]
pub(crate) struct Model {
    /// Every pair put, and for every delete a pair of version 0.
    pub(crate) changes: Vec<KeyValue>,
    pub(crate) revision: i64,
    pub(crate) compact_revision: i64,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self { changes: Vec::new(), revision: 1, compact_revision: -1 }
    }

    fn keys(&self) -> BTreeSet<Bytes> {
        self.changes.iter().map(|change| change.key.clone()).collect()
    }

    fn at(&self, key: &Bytes, revision: i64) -> Option<KeyValue> {
        let newest =
            self.changes.iter().rfind(|change| change.key == *key && change.mod_revision <= revision);
        newest.filter(|change| change.version > 0).cloned()
    }

    fn select(&self, key: &Bytes, range_end: &Bytes, revision: i64) -> Vec<KeyValue> {
        let is_in = |candidate: &Bytes| match range_end.as_ref() {
            b"" => candidate == key,
            b"\0" => candidate >= key,
            end => candidate >= key && candidate.as_ref() < end,
        };
        self.keys().iter().filter(|key| is_in(key)).filter_map(|key| self.at(key, revision)).collect()
    }

    pub(crate) fn apply(&mut self, command: &Command) -> Result<Response, Rejection> {
        let mut next = self.clone();
        let response = match command {
            Command::Put(request) => {
                self.check_op(&RequestOp::Put(request.clone()))?;
                Response::Put(next.put(self.revision, request))
            }
            Command::DeleteRange(request) => Response::DeleteRange(next.delete(self.revision, request)),
            Command::Txn(request) => {
                self.check_txn(request)?;
                let responses = next.run(self, request);
                let succeeded = self.succeeds(request);
                Response::Txn(TxnResponse { revision: next.latest(), succeeded, responses })
            }
            Command::Compact { revision, .. } if *revision <= self.compact_revision => {
                return Err(Rejection::Compacted);
            }
            Command::Compact { revision, .. } if *revision > self.revision => {
                return Err(Rejection::FutureRevision);
            }
            Command::Compact { revision, .. } => {
                next.compact_revision = *revision;
                Response::Compact
            }
            Command::PublishMember(_) => Response::PublishMember,
            Command::SetPeerUrls { .. } => Response::SetPeerUrls,
        };
        next.revision = next.latest();
        *self = next;
        Ok(response)
    }

    /// The revision that a reader in the middle of a command sees.
    fn latest(&self) -> i64 {
        self.changes.last().map_or(1, |change| change.mod_revision).max(self.revision)
    }

    fn put(&mut self, before: i64, request: &PutRequest) -> PutResponse {
        let old = self.at(&request.key, i64::MAX);
        let kept = |keep: bool| if keep { old.clone() } else { None };
        self.changes.push(KeyValue {
            key: request.key.clone(),
            create_revision: old.as_ref().map_or(before + 1, |old| old.create_revision),
            mod_revision: before + 1,
            version: old.as_ref().map_or(0, |old| old.version) + 1,
            value: kept(request.ignore_value).map_or(request.value.clone(), |old| old.value),
            lease: request.lease,
        });
        PutResponse { revision: before + 1, prev_kv: old.filter(|_| request.prev_kv) }
    }

    fn delete(&mut self, before: i64, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let prev_kvs = self.select(&request.key, &request.range_end, i64::MAX);
        for pair in &prev_kvs {
            let tombstone =
                KeyValue { key: pair.key.clone(), mod_revision: before + 1, ..KeyValue::default() };
            self.changes.push(tombstone);
        }
        DeleteRangeResponse {
            revision: self.latest(),
            deleted: prev_kvs.len() as i64,
            prev_kvs: if request.prev_kv { prev_kvs } else { Vec::new() },
        }
    }

    fn branch<'a>(&self, request: &'a TxnRequest) -> &'a [RequestOp] {
        if self.succeeds(request) { &request.success } else { &request.failure }
    }

    fn succeeds(&self, request: &TxnRequest) -> bool {
        request.compare.iter().all(|compare| self.holds(compare))
    }

    fn holds(&self, compare: &Compare) -> bool {
        let mut pairs = self.select(&compare.key, &compare.range_end, i64::MAX);
        if pairs.is_empty() {
            if let Operand::Value(_) = compare.operand {
                return false;
            }
            pairs.push(KeyValue::default());
        }
        pairs.iter().all(|pair| {
            let ordering = match &compare.operand {
                Operand::Version(given) => pair.version.cmp(given),
                Operand::CreateRevision(given) => pair.create_revision.cmp(given),
                Operand::ModRevision(given) => pair.mod_revision.cmp(given),
                Operand::Value(given) => pair.value.cmp(given),
                Operand::Lease(given) => pair.lease.cmp(given),
                Operand::Unknown => 0.cmp(&0),
            } as i8;
            match compare.relation {
                Relation::Equal => ordering == 0,
                Relation::Greater => ordering == 1,
                Relation::Less => ordering == -1,
                Relation::NotEqual => ordering != 0,
                Relation::Unknown => true,
            }
        })
    }

    /// An operation that is unset is found while the path is chosen, before any other fault.
    fn check_txn(&self, request: &TxnRequest) -> Result<(), Rejection> {
        if self.has_unset(request) {
            return Err(Rejection::KeyNotFound);
        }
        self.branch(request).iter().try_for_each(|op| self.check_op(op))
    }

    fn has_unset(&self, request: &TxnRequest) -> bool {
        self.branch(request).iter().any(|op| match op {
            RequestOp::Unset => true,
            RequestOp::Txn(inner) => self.has_unset(inner),
            RequestOp::Range(_) | RequestOp::Put(_) | RequestOp::DeleteRange(_) => false,
        })
    }

    fn check_op(&self, op: &RequestOp) -> Result<(), Rejection> {
        match op {
            RequestOp::Put(put) if put.lease != 0 => Err(Rejection::LeaseNotFound),
            RequestOp::Put(put) if put.ignore_value || put.ignore_lease => {
                self.at(&put.key, i64::MAX).map(|_| ()).ok_or(Rejection::KeyNotFound)
            }
            RequestOp::Range(range) if range.revision > self.revision => Err(Rejection::FutureRevision),
            RequestOp::Range(range) if range.revision != 0 && range.revision < self.compact_revision => {
                Err(Rejection::Compacted)
            }
            RequestOp::Txn(inner) => self.branch(inner).iter().try_for_each(|op| self.check_op(op)),
            RequestOp::Put(_) | RequestOp::Range(_) | RequestOp::DeleteRange(_) | RequestOp::Unset => Ok(()),
        }
    }

    /// `before` decides the branches; `self` changes.
    fn run(&mut self, before: &Self, request: &TxnRequest) -> Vec<ResponseOp> {
        let run_op = |op: &RequestOp| match op {
            RequestOp::Range(range) => ResponseOp::Range(self.range(range).expect("checked")),
            RequestOp::Put(put) => ResponseOp::Put(self.put(before.revision, put)),
            RequestOp::DeleteRange(delete) => ResponseOp::DeleteRange(self.delete(before.revision, delete)),
            RequestOp::Txn(inner) => {
                let responses = self.run(before, inner);
                ResponseOp::Txn(TxnResponse { revision: 0, succeeded: before.succeeds(inner), responses })
            }
            RequestOp::Unset => unreachable!("checked"),
        };
        before.branch(request).iter().map(run_op).collect()
    }

    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Rejection> {
        let latest = self.latest();
        if request.revision > latest {
            return Err(Rejection::FutureRevision);
        }
        if request.revision > 0 && request.revision < self.compact_revision {
            return Err(Rejection::Compacted);
        }
        let at = if request.revision <= 0 { latest } else { request.revision };
        let mut kvs = self.select(&request.key, &request.range_end, at);
        let count = kvs.len() as i64;
        if request.count_only {
            return Ok(RangeResponse { revision: latest, count, ..RangeResponse::default() });
        }
        let limit = if request.limit > 0 { request.limit as usize } else { usize::MAX };
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        if request.sort_order == SortOrder::None && filters == [0; 4] {
            kvs.truncate(limit.saturating_add(1));
        }
        kvs.retain(|kv| filters[0] == 0 || kv.mod_revision >= filters[0]);
        kvs.retain(|kv| filters[1] == 0 || kv.mod_revision <= filters[1]);
        kvs.retain(|kv| filters[2] == 0 || kv.create_revision >= filters[2]);
        kvs.retain(|kv| filters[3] == 0 || kv.create_revision <= filters[3]);
        let ascending = |a: &KeyValue, b: &KeyValue| match request.sort_target {
            SortTarget::Key | SortTarget::Unknown => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        let descends = request.sort_order == SortOrder::Descend;
        kvs.sort_by(|a, b| if descends { ascending(b, a) } else { ascending(a, b) });
        let more = kvs.len() > limit;
        kvs.truncate(limit);
        if request.keys_only {
            for kv in &mut kvs {
                kv.value = Bytes::new();
            }
        }
        Ok(RangeResponse { revision: latest, kvs, more, count })
    }
}

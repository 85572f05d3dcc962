//! From what a client sent to what the store understands.
//!
//! Nothing is refused here: what the API does not define (an unknown enum number, an operation that is none)
//! stays visible, so that the store's checks can answer in etcd's order. Keys and values stay slices of the
//! buffer they came in.

use bytes::Bytes;
use tenure_store as store;

use crate::ApiError;
use crate::pb::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request;

impl From<pb::PutRequest> for store::PutRequest {
    fn from(request: pb::PutRequest) -> Self {
        let pb::PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease } = request;
        Self { key, value, lease, prev_kv, ignore_value, ignore_lease }
    }
}

impl From<pb::DeleteRangeRequest> for store::DeleteRangeRequest {
    fn from(request: pb::DeleteRangeRequest) -> Self {
        let pb::DeleteRangeRequest { key, range_end, prev_kv } = request;
        Self { key, range_end, prev_kv }
    }
}

impl From<pb::RangeRequest> for store::RangeRequest {
    fn from(request: pb::RangeRequest) -> Self {
        Self {
            sort_order: sort_order(request.sort_order),
            sort_target: sort_target(request.sort_target),
            key: request.key,
            range_end: request.range_end,
            limit: request.limit,
            revision: request.revision,
            serializable: request.serializable,
            keys_only: request.keys_only,
            count_only: request.count_only,
            min_mod_revision: request.min_mod_revision,
            max_mod_revision: request.max_mod_revision,
            min_create_revision: request.min_create_revision,
            max_create_revision: request.max_create_revision,
        }
    }
}

impl From<pb::TxnRequest> for store::TxnRequest {
    fn from(request: pb::TxnRequest) -> Self {
        Self {
            compare: request.compare.into_iter().map(Into::into).collect(),
            success: request.success.into_iter().map(Into::into).collect(),
            failure: request.failure.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<pb::RequestOp> for store::RequestOp {
    // Nesting is bounded: prost decodes no message deeper than 100 levels, which is 50 transactions.
    fn from(operation: pb::RequestOp) -> Self {
        match operation.request {
            Some(Request::RequestRange(range)) => Self::Range(range.into()),
            Some(Request::RequestPut(put)) => Self::Put(put.into()),
            Some(Request::RequestDeleteRange(delete)) => Self::DeleteRange(delete.into()),
            Some(Request::RequestTxn(txn)) => Self::Txn(txn.into()),
            None => Self::Unset,
        }
    }
}

impl From<pb::Compare> for store::Compare {
    fn from(compare: pb::Compare) -> Self {
        let pb::Compare { result, target, key, range_end, target_union } = compare;
        Self { key, range_end, relation: relation(result), operand: operand(target, target_union) }
    }
}

impl From<pb::CompactionRequest> for store::Command {
    fn from(request: pb::CompactionRequest) -> Self {
        let pb::CompactionRequest { revision, physical } = request;
        Self::Compact { revision, physical }
    }
}

fn sort_order(number: i32) -> store::SortOrder {
    match SortOrder::try_from(number) {
        Ok(SortOrder::None) => store::SortOrder::None,
        Ok(SortOrder::Ascend) => store::SortOrder::Ascend,
        Ok(SortOrder::Descend) => store::SortOrder::Descend,
        Err(_) => store::SortOrder::Unknown,
    }
}

fn sort_target(number: i32) -> store::SortTarget {
    match SortTarget::try_from(number) {
        Ok(SortTarget::Key) => store::SortTarget::Key,
        Ok(SortTarget::Version) => store::SortTarget::Version,
        Ok(SortTarget::Create) => store::SortTarget::Create,
        Ok(SortTarget::Mod) => store::SortTarget::Mod,
        Ok(SortTarget::Value) => store::SortTarget::Value,
        Err(_) => store::SortTarget::Unknown,
    }
}

fn relation(number: i32) -> store::Relation {
    match CompareResult::try_from(number) {
        Ok(CompareResult::Equal) => store::Relation::Equal,
        Ok(CompareResult::Greater) => store::Relation::Greater,
        Ok(CompareResult::Less) => store::Relation::Less,
        Ok(CompareResult::NotEqual) => store::Relation::NotEqual,
        Err(_) => store::Relation::Unknown,
    }
}

/// Target and union may disagree: then the given side reads as zero (etcd's `GetVersion()` and so on).
fn operand(target: i32, union: Option<TargetUnion>) -> store::Operand {
    match CompareTarget::try_from(target) {
        Ok(CompareTarget::Version) => store::Operand::Version(match union {
            Some(TargetUnion::Version(version)) => version,
            _ => 0,
        }),
        Ok(CompareTarget::Create) => store::Operand::CreateRevision(match union {
            Some(TargetUnion::CreateRevision(revision)) => revision,
            _ => 0,
        }),
        Ok(CompareTarget::Mod) => store::Operand::ModRevision(match union {
            Some(TargetUnion::ModRevision(revision)) => revision,
            _ => 0,
        }),
        Ok(CompareTarget::Value) => store::Operand::Value(match union {
            Some(TargetUnion::Value(value)) => value,
            _ => Bytes::new(),
        }),
        Ok(CompareTarget::Lease) => store::Operand::Lease(match union {
            Some(TargetUnion::Lease(lease)) => lease,
            _ => 0,
        }),
        Err(_) => store::Operand::Unknown,
    }
}

/// What a streamed range may not ask for, after what no range may (etcd 3.7.3, `v3rpc/key.go`).
pub fn check_range_stream(request: &store::RangeRequest) -> Result<(), ApiError> {
    store::check_range(request)?;
    let is_default_order = match request.sort_order {
        store::SortOrder::None => true,
        store::SortOrder::Ascend => request.sort_target == store::SortTarget::Key,
        store::SortOrder::Descend | store::SortOrder::Unknown => false,
    };
    if !is_default_order {
        return Err(ApiError::RangeStreamSortOrder);
    }
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if bounds != [0; 4] {
        return Err(ApiError::RangeStreamRevisionFilter);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::{Limits, Rejection};

    #[test]
    fn enum_numbers_that_etcd_does_not_define_stay_visible() {
        let range = |sort_order, sort_target| {
            let request = pb::RangeRequest { key: "k".into(), sort_order, sort_target, ..Default::default() };
            store::check_range(&request.into())
        };
        assert_eq!(range(2, 4), Ok(()));
        assert_eq!(range(3, 0), Err(Rejection::InvalidSortOption));
        assert_eq!(range(0, 5), Err(Rejection::InvalidSortOption));
        assert_eq!(range(-1, 0), Err(Rejection::InvalidSortOption));
        assert_eq!(relation(4), store::Relation::Unknown);
        assert_eq!(operand(5, None), store::Operand::Unknown);
    }

    #[test]
    fn an_empty_key_comes_before_a_wrong_sort_option() {
        let request = pb::RangeRequest { sort_order: 9, ..Default::default() };
        assert_eq!(store::check_range(&request.into()), Err(Rejection::EmptyKey));
    }

    #[test]
    fn an_operand_of_another_target_reads_as_zero() {
        let modified = CompareTarget::Mod.into();
        assert_eq!(operand(modified, Some(TargetUnion::ModRevision(7))), store::Operand::ModRevision(7));
        assert_eq!(operand(modified, Some(TargetUnion::Version(7))), store::Operand::ModRevision(0));
        assert_eq!(operand(modified, None), store::Operand::ModRevision(0));
        let value = CompareTarget::Value.into();
        assert_eq!(operand(value, Some(TargetUnion::Lease(7))), store::Operand::Value(Bytes::new()));
    }

    #[test]
    fn an_operation_that_is_none_is_refused_as_a_key_not_found() {
        let nothing = pb::RequestOp { request: None };
        let request = pb::TxnRequest { success: vec![nothing], ..Default::default() };
        let refused = store::check_txn(&request.into(), &Limits::default()).map_err(ApiError::from);
        assert_eq!(refused, Err(ApiError::KeyNotFound));
    }

    #[test]
    fn a_transaction_keeps_its_shape() {
        let put = pb::PutRequest { key: "k".into(), value: "v".into(), lease: 7, ..Default::default() };
        let put = pb::RequestOp { request: Some(Request::RequestPut(put)) };
        let delete = pb::DeleteRangeRequest { key: "a".into(), range_end: "b".into(), prev_kv: true };
        let delete = pb::RequestOp { request: Some(Request::RequestDeleteRange(delete)) };
        let inner = pb::TxnRequest { failure: vec![delete], ..Default::default() };
        let inner = pb::RequestOp { request: Some(Request::RequestTxn(inner)) };
        let compare = pb::Compare {
            result: CompareResult::Less.into(),
            target: CompareTarget::Create.into(),
            key: "c".into(),
            range_end: "d".into(),
            target_union: Some(TargetUnion::CreateRevision(9)),
        };
        let request = pb::TxnRequest { compare: vec![compare], success: vec![put, inner], failure: vec![] };

        let put = store::PutRequest { key: "k".into(), value: "v".into(), lease: 7, ..Default::default() };
        let delete = store::DeleteRangeRequest { key: "a".into(), range_end: "b".into(), prev_kv: true };
        let inner =
            store::TxnRequest { failure: vec![store::RequestOp::DeleteRange(delete)], ..Default::default() };
        let compare = store::Compare {
            key: "c".into(),
            range_end: "d".into(),
            relation: store::Relation::Less,
            operand: store::Operand::CreateRevision(9),
        };
        let expected = store::TxnRequest {
            compare: vec![compare],
            success: vec![store::RequestOp::Put(put), store::RequestOp::Txn(inner)],
            failure: vec![],
        };
        assert_eq!(store::TxnRequest::from(request), expected);
    }

    #[test]
    fn a_streamed_range_has_no_order_and_no_bounds_of_its_own() {
        let key = || store::RangeRequest { key: "k".into(), ..Default::default() };
        let ascending = store::RangeRequest { sort_order: store::SortOrder::Ascend, ..key() };
        let descending = store::RangeRequest { sort_order: store::SortOrder::Descend, ..key() };
        let by_value = store::RangeRequest { sort_target: store::SortTarget::Value, ..ascending.clone() };
        let bounded = store::RangeRequest { max_create_revision: 5, ..key() };
        assert_eq!(check_range_stream(&key()), Ok(()));
        assert_eq!(check_range_stream(&ascending), Ok(()));
        assert_eq!(check_range_stream(&descending), Err(ApiError::RangeStreamSortOrder));
        assert_eq!(check_range_stream(&by_value), Err(ApiError::RangeStreamSortOrder));
        assert_eq!(check_range_stream(&bounded), Err(ApiError::RangeStreamRevisionFilter));
        assert_eq!(check_range_stream(&store::RangeRequest::default()), Err(ApiError::EmptyKey));
    }
}

//! The checks that need no state, made before a request is proposed or read, in etcd's order.
//!
//! `apply` makes them again, without limits, which may differ between members: a command in the log may come from a
//! member that has a bug, and what it does must be the same everywhere, and something that a checkpoint can hold.

use crate::overlap;
use crate::{
    Command, DeleteRangeRequest, PutRequest, RangeRequest, Rejection, RequestOp, SortOrder, SortTarget,
    TxnRequest,
};

/// What an operator may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most comparisons, or operations in one branch, of a transaction; those of a transaction within
    /// count on top of the ones around it.
    pub max_txn_ops: usize,
}

impl Limits {
    /// No limits: what is wrong with a command whoever looks at it.
    pub const NONE: Limits = Limits { max_txn_ops: usize::MAX };
}

impl Default for Limits {
    /// etcd's `--max-txn-ops`.
    fn default() -> Self {
        Self { max_txn_ops: 128 }
    }
}

/// How deep transactions may be nested, the outermost being 1. Bounds the recursion here and when an entry is
/// decoded; a deeper one is refused like one with too many operations.
pub const MAX_TXN_DEPTH: usize = 64;

/// Checks a command before it is proposed.
pub fn check(command: &Command, limits: &Limits) -> Result<(), Rejection> {
    match command {
        Command::Put(request) => check_put(request),
        Command::DeleteRange(request) => check_delete_range(request),
        Command::Txn(request) => check_txn(request, limits),
        // Their revision is compared when they are applied.
        Command::Compact { .. } | Command::PublishMember(_) | Command::SetPeerUrls { .. } => Ok(()),
    }
}

/// Checks a read before it is done.
pub fn check_range(request: &RangeRequest) -> Result<(), Rejection> {
    check_key(&request.key)?;
    match request.sort_order {
        SortOrder::None | SortOrder::Ascend | SortOrder::Descend => {}
        SortOrder::Unknown => return Err(Rejection::InvalidSortOption),
    }
    match request.sort_target {
        SortTarget::Key | SortTarget::Version | SortTarget::Create | SortTarget::Mod | SortTarget::Value => {
            Ok(())
        }
        SortTarget::Unknown => Err(Rejection::InvalidSortOption),
    }
}

/// Checks a put.
pub fn check_put(request: &PutRequest) -> Result<(), Rejection> {
    check_key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Rejection::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Rejection::LeaseProvided);
    }
    Ok(())
}

/// Checks a delete.
pub fn check_delete_range(request: &DeleteRangeRequest) -> Result<(), Rejection> {
    check_key(&request.key)
}

/// Checks a transaction: its size and every operation of both branches, then that none changes a key twice.
pub fn check_txn(request: &TxnRequest, limits: &Limits) -> Result<(), Rejection> {
    check_txn_ops(request, limits.max_txn_ops, MAX_TXN_DEPTH)?;
    overlap::check(request)
}

fn check_key(key: &[u8]) -> Result<(), Rejection> {
    if key.is_empty() { Err(Rejection::EmptyKey) } else { Ok(()) }
}

fn check_txn_ops(request: &TxnRequest, max_ops: usize, max_depth: usize) -> Result<(), Rejection> {
    let ops = request.compare.len().max(request.success.len()).max(request.failure.len());
    if ops > max_ops || max_depth == 0 {
        return Err(Rejection::TooManyOps);
    }
    request.compare.iter().try_for_each(|compare| check_key(&compare.key))?;
    let mut both = request.success.iter().chain(&request.failure);
    both.try_for_each(|op| check_op(op, max_ops - ops, max_depth - 1))
}

fn check_op(op: &RequestOp, max_ops: usize, max_depth: usize) -> Result<(), Rejection> {
    match op {
        RequestOp::Range(request) => check_range(request),
        RequestOp::Put(request) => check_put(request),
        RequestOp::DeleteRange(request) => check_delete_range(request),
        RequestOp::Txn(request) => check_txn_ops(request, max_ops, max_depth),
        // etcd's answer, whose text clients know.
        RequestOp::Unset => Err(Rejection::KeyNotFound),
    }
}

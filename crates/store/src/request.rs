//! What a client may ask of the store, as plain Rust types, and [`Command`], the part of it that goes
//! through the log.
//!
//! The fields and their meaning are those of etcd's v3 API. Protobuf is not known here; whoever converts
//! keeps malformed parts (`Unset`, `Unknown`) visible, so that [`crate::check()`] can answer them in etcd's
//! order.

use bytes::Bytes;

/// An entry of the log, from the store's point of view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Writes one key.
    Put(PutRequest),
    /// Deletes the keys of a range.
    DeleteRange(DeleteRangeRequest),
    /// Compares, then runs one of two lists of operations, atomically.
    Txn(TxnRequest),
    /// Forgets history below a revision.
    Compact {
        /// The oldest revision that stays readable.
        revision: i64,
        /// Whether the client waits for the space to be free. Removal is always done when the command is
        /// applied, so this changes nothing here; it is kept because etcd's API has it.
        physical: bool,
    },
    /// Makes a member's name and addresses for clients known to all. Where the other members reach it is taken
    /// from here only if it is not known: it is changed by [`Command::SetPeerUrls`]. The first directory that
    /// is named stays.
    PublishMember(Member),
    /// Makes known where the other members reach a member, which may be about to join.
    SetPeerUrls {
        /// The member's id.
        id: u64,
        /// Where it is reached.
        peer_urls: Vec<String>,
    },
}

/// A member of the cluster as all members know it. What part it has in decisions is not said here: that is in
/// Raft's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// The member's id.
    pub id: u64,
    /// The random id of the data directory that the member published from; `None` until it has published.
    pub directory_id: Option<u64>,
    /// The human name; empty until the member has published it.
    pub name: String,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
}

/// Writes one key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutRequest {
    /// The key; must not be empty.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The lease to attach the key to; 0 is none. (No lease exists yet, so any other is not found.)
    pub lease: i64,
    /// Whether the answer carries the pair as it was before.
    pub prev_kv: bool,
    /// Keep the present value; the key must exist.
    pub ignore_value: bool,
    /// Keep the present lease; the key must exist.
    pub ignore_lease: bool,
}

/// Deletes the keys of a range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteRangeRequest {
    /// The key, or the first key of the range; must not be empty.
    pub key: Bytes,
    /// The end of the range; see [`RangeRequest::range_end`].
    pub range_end: Bytes,
    /// Whether the answer carries the pairs as they were before.
    pub prev_kv: bool,
}

/// Reads the keys of a range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeRequest {
    /// The key, or the first key of the range; must not be empty.
    pub key: Bytes,
    /// Empty: exactly `key`. One zero byte: all keys from `key` on. Otherwise the first key after the range.
    pub range_end: Bytes,
    /// The most pairs to answer; 0 or less is no limit.
    pub limit: i64,
    /// The revision to read at; 0 or less is the latest.
    pub revision: i64,
    /// The direction of sorting.
    pub sort_order: SortOrder,
    /// What to sort by.
    pub sort_target: SortTarget,
    /// Whether an answer from local, possibly stale state will do. Decided above the store; kept because a
    /// transaction of such reads alone needs no round of messages.
    pub serializable: bool,
    /// Leave the values empty.
    pub keys_only: bool,
    /// Answer only the count.
    pub count_only: bool,
    /// Leave out pairs last modified before this revision; 0 is off. So with the next three.
    pub min_mod_revision: i64,
    /// Leave out pairs last modified after this revision.
    pub max_mod_revision: i64,
    /// Leave out pairs created before this revision.
    pub min_create_revision: i64,
    /// Leave out pairs created after this revision.
    pub max_create_revision: i64,
}

/// The direction in which a range is sorted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// As stored, which is ascending by key.
    #[default]
    None,
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
    /// A number that etcd's API does not define; refused by [`crate::check()`].
    Unknown,
}

/// What a range is sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SortTarget {
    /// The key.
    #[default]
    Key,
    /// The number of changes since creation.
    Version,
    /// The revision of creation.
    Create,
    /// The revision of the last change.
    Mod,
    /// The value.
    Value,
    /// A number that etcd's API does not define; refused by [`crate::check()`].
    Unknown,
}

/// If all comparisons hold, `success` is run, otherwise `failure`; one revision for all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TxnRequest {
    /// A conjunction; the empty one holds.
    pub compare: Vec<Compare>,
    /// What to do if it holds.
    pub success: Vec<RequestOp>,
    /// What to do if not.
    pub failure: Vec<RequestOp>,
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestOp {
    /// A read, which sees the transaction's earlier writes.
    Range(RangeRequest),
    /// A put.
    Put(PutRequest),
    /// A delete.
    DeleteRange(DeleteRangeRequest),
    /// A transaction within; its comparisons see the state before all writes of the outermost.
    Txn(TxnRequest),
    /// An operation whose union is unset; refused by [`crate::check()`].
    Unset,
}

/// One comparison: every key of the range stands in `relation` to the operand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// The key, or the first key of the range; must not be empty.
    pub key: Bytes,
    /// The end of the range; see [`RangeRequest::range_end`].
    pub range_end: Bytes,
    /// How the stored side must stand to the given one.
    pub relation: Relation,
    /// Which field of the stored pair, and the given side.
    pub operand: Operand,
}

/// The relation of the stored side (left) to the given side (right).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// Both are equal.
    Equal,
    /// The stored side is greater.
    Greater,
    /// The stored side is less.
    Less,
    /// The two differ.
    NotEqual,
    /// A number that etcd's API does not define; it holds for whatever is compared, as in etcd.
    Unknown,
}

/// What is compared, and with what.
///
/// etcd's message names the field and carries the given side in a union of its own. Where the two
/// disagree the given side reads as 0 or empty; whoever converts the message does that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    /// The number of changes since creation; 0 if the key is missing.
    Version(i64),
    /// The revision of creation; 0 if the key is missing.
    CreateRevision(i64),
    /// The revision of the last change; 0 if the key is missing.
    ModRevision(i64),
    /// The value. A missing key has none, so that no comparison with it holds.
    Value(Bytes),
    /// The lease; 0 if there is none.
    Lease(i64),
    /// A field that etcd's API does not define; the two sides count as equal, as in etcd.
    Unknown,
}

impl TxnRequest {
    /// Whether both branches only read. Such a transaction need not go through the log. As in etcd, a
    /// transaction within counts as a write.
    pub fn is_read_only(&self) -> bool {
        self.ops().all(|op| matches!(op, RequestOp::Range(_)))
    }

    /// Whether it may be answered from local state: every operation is a serializable read, and there is one.
    ///
    /// etcd also serves a transaction of comparisons alone from local state, since it has no operation that
    /// asks for more; we do not, because the client did not ask for a stale answer.
    pub fn is_serializable(&self) -> bool {
        let mut ops = self.ops().peekable();
        ops.peek().is_some()
            && ops.all(|op| matches!(op, RequestOp::Range(RangeRequest { serializable: true, .. })))
    }

    fn ops(&self) -> impl Iterator<Item = &RequestOp> {
        self.success.iter().chain(&self.failure)
    }
}

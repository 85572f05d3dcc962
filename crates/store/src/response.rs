//! What the store answers: responses, and refusals, which are answers too.
//!
//! A [`Rejection`] of an applied command is a replicated outcome: every member that applies the entry
//! refuses it alike and changes nothing. Cluster id, member id and term of etcd's headers are not known
//! here; the revision is.

use bytes::Bytes;
use thiserror::Error;

use crate::Later;

/// A key, its value and its revisions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The revision in which the key was last created.
    pub create_revision: i64,
    /// The revision of its last change.
    pub mod_revision: i64,
    /// The number of puts since it was created, that one included.
    pub version: i64,
    /// The value.
    pub value: Bytes,
    /// The lease that it is attached to; 0 is none.
    pub lease: i64,
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// To a put.
    Put(PutResponse),
    /// To a delete.
    DeleteRange(DeleteRangeResponse),
    /// To a transaction.
    Txn(TxnResponse),
    /// To a compaction.
    Compact,
    /// To the publication of a member.
    PublishMember,
    /// To a member's new addresses.
    SetPeerUrls,
}

/// The answer to a put.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutResponse {
    /// The revision of the write; goes into the header.
    pub revision: i64,
    /// The pair as it was before, if asked for and if there was one.
    pub prev_kv: Option<KeyValue>,
}

/// The answer to a delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteRangeResponse {
    /// The store's revision after it; goes into the header. Deleting nothing makes no new one.
    pub revision: i64,
    /// How many keys were deleted.
    pub deleted: i64,
    /// The pairs as they were before, if asked for.
    pub prev_kvs: Vec<KeyValue>,
}

/// The answer to a read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// The store's latest revision, whichever was read; goes into the header.
    pub revision: i64,
    /// The pairs.
    pub kvs: Vec<KeyValue>,
    /// Whether `limit` cut pairs off.
    pub more: bool,
    /// How many keys the range has at the revision read, whatever the limit and the filters.
    pub count: i64,
}

/// The answer to a transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TxnResponse {
    /// The store's revision after it; goes into the header. In a transaction within another it is 0, as in
    /// etcd.
    pub revision: i64,
    /// Whether the comparisons held.
    pub succeeded: bool,
    /// An answer to each operation of the branch taken.
    pub responses: Vec<ResponseOp>,
}

/// The answer to one operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseOp {
    /// To a read.
    Range(RangeResponse),
    /// To a read that is still to be done: see [`crate::Store::apply_lazily`].
    Later(Later),
    /// To a put.
    Put(PutResponse),
    /// To a delete.
    DeleteRange(DeleteRangeResponse),
    /// To a transaction within.
    Txn(TxnResponse),
}

impl Response {
    /// The answer with all reads done that were put off.
    #[must_use]
    pub fn settled(self) -> Response {
        match self {
            Response::Txn(response) => Response::Txn(response.settled()),
            Response::Put(_)
            | Response::DeleteRange(_)
            | Response::Compact
            | Response::PublishMember
            | Response::SetPeerUrls => self,
        }
    }
}

fn pairs_bytes(pairs: &[KeyValue]) -> usize {
    pairs.iter().map(|pair| pair.key.len() + pair.value.len() + size_of::<KeyValue>()).sum()
}

impl PutResponse {
    /// About what it takes in memory.
    pub fn size_bytes(&self) -> usize {
        pairs_bytes(self.prev_kv.as_slice())
    }
}

impl DeleteRangeResponse {
    /// About what it takes in memory.
    pub fn size_bytes(&self) -> usize {
        pairs_bytes(&self.prev_kvs)
    }
}

impl RangeResponse {
    /// About what it takes in memory.
    pub fn size_bytes(&self) -> usize {
        pairs_bytes(&self.kvs)
    }
}

impl TxnResponse {
    fn settled(mut self) -> TxnResponse {
        self.responses = self.responses.into_iter().map(ResponseOp::settled).collect();
        self
    }

    /// About what it takes in memory; the most there is, if something is still to be read.
    pub fn size_bytes(&self) -> usize {
        self.responses.iter().map(ResponseOp::size_bytes).fold(0, usize::saturating_add)
    }
}

impl ResponseOp {
    fn settled(self) -> ResponseOp {
        match self {
            ResponseOp::Later(later) => ResponseOp::Range(later.select().into_response()),
            ResponseOp::Txn(response) => ResponseOp::Txn(response.settled()),
            ResponseOp::Range(_) | ResponseOp::Put(_) | ResponseOp::DeleteRange(_) => self,
        }
    }

    fn size_bytes(&self) -> usize {
        match self {
            ResponseOp::Range(response) => response.size_bytes(),
            ResponseOp::Later(_) => usize::MAX,
            ResponseOp::Put(response) => response.size_bytes(),
            ResponseOp::DeleteRange(response) => response.size_bytes(),
            ResponseOp::Txn(response) => response.size_bytes(),
        }
    }
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Applied {
    /// The answer, the same on all members.
    pub result: Result<Response, Rejection>,
    /// The store's revision after the command.
    pub revision: i64,
    /// How many keys the command changed, all in `revision`; [`crate::Snapshot::changes`] reads them.
    pub changes: u32,
}

/// What became of a command whose answer nobody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Unheard {
    /// Whether it was done, the same on all members.
    pub result: Result<(), Rejection>,
    /// The store's revision after the command.
    pub revision: i64,
    /// How many keys the command changed.
    pub changes: u32,
}

/// Why a request is refused. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Rejection {
    /// A key is empty.
    #[error("a key is empty")]
    EmptyKey,
    /// The value or the lease of a missing key should be kept, or an operation of a transaction is unset.
    #[error("the key does not exist")]
    KeyNotFound,
    /// A value is given although the present one should be kept.
    #[error("a value is given although the present one is to be kept")]
    ValueProvided,
    /// A lease is given although the present one should be kept.
    #[error("a lease is given although the present one is to be kept")]
    LeaseProvided,
    /// The lease does not exist.
    #[error("the lease does not exist")]
    LeaseNotFound,
    /// A transaction has more operations, is nested deeper, or compares more keys than allowed.
    #[error("the transaction has too many operations")]
    TooManyOps,
    /// A transaction may change one key twice.
    #[error("the transaction may change a key twice")]
    DuplicateKey,
    /// The revision is below the compaction, or, for a compaction, not above it.
    #[error("the revision has been compacted")]
    Compacted,
    /// The revision has not been reached yet.
    #[error("the revision lies in the future")]
    FutureRevision,
    /// A sort order or a sort target is unknown.
    #[error("the sort option is unknown")]
    InvalidSortOption,
    /// The member was removed from the cluster, for good.
    #[error("the member was removed")]
    MemberRemoved,
}

//! The state machine of Tenure: a multi-version key-value store with revisions, transactions and
//! compaction, as etcd's v3 API has them.
//!
//! [`Store::apply`] is a function of the state and the entry: members that apply the same entries in the
//! same order have the same state, down to [`Store::state_hash`]. Reads are done on a [`Snapshot`], which
//! costs next to nothing to take and never stops `apply`.
//!
//! A snapshot that is alive makes the next writes copy what they touch (`docs/adr/0003-in-memory-map.md`), so
//! take one when a reader waits rather than after every batch. A compaction is done at once, in one walk over
//! the history; what it leaves to be freed is [`Store::take_garbage`]'s, to be dropped on another thread.
//!
//! What it does *not* know: Raft, disks, clocks, threads, protobuf, the network. It lives in memory; it is
//! durable through the log and through [`checkpoint`]s, whose bytes it makes and reads and whose files are
//! the caller's. Watches, leases and users are not built yet.
//!
//! Reading order: [`request`], [`response`] and [`check()`] (what can be asked and answered), `record`,
//! `history`, `buried` and `state` (what is kept), `range`, `selection`, `later`, `write` and `txn` (what is done),
//! `store` and `snapshot` (how it is reached), `codec`, `checkpoint` and `hash_kv` (what leaves as bytes).
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod request;
pub mod response;

mod check;
mod overlap;

mod buried;
mod history;
mod interval;
mod invariants;
mod later;
mod members;
mod record;
mod selection;
mod state;
mod state_hash;

mod range;
mod txn;
mod write;

mod snapshot;
mod store;

pub mod checkpoint;
mod codec;
mod garbage;
mod hash_kv;
mod weight;
mod wire;

pub use check::{Limits, MAX_TXN_DEPTH, check, check_delete_range, check_put, check_range, check_txn};
pub use garbage::Garbage;
pub use hash_kv::HashKv;
pub use later::Later;
pub use members::MAX_REMOVED_MEMBERS;
pub use record::Revision;
pub use request::{
    Command, Compare, DeleteRangeRequest, Member, Operand, PutRequest, RangeRequest, Relation, RequestOp,
    SortOrder, SortTarget, TxnRequest,
};
pub use response::{
    Applied, DeleteRangeResponse, KeyValue, PutResponse, RangeResponse, Rejection, Response, ResponseOp,
    TxnResponse, Unheard,
};
pub use selection::{Budget, Pairs, Selection};
pub use snapshot::{Event, EventKind, Snapshot};
pub use state_hash::StateHash;
pub use store::Store;
pub use txn::MAX_COMPARED_KEYS;
pub use wire::DecodeError;

//! One member of a Tenure cluster: Raft, the log and the store put together, still without waiting.
//!
//! A [`Replica`] decides what to do and gives it out as [`Job`]s: send this, write that, take a
//! checkpoint, answer this request. Others do them, on threads or in simulated time, and report back. The
//! server and the simulator drive the very same code.
//!
//! It keeps the books that neither Raft nor the store know: which client waits for which entry, what may
//! be said of a write whose leader was lost, when a read may be served, when a checkpoint is due and what
//! of the log it makes superfluous, and who a data directory belongs to.
//!
//! What this crate does not know: sockets, threads, clocks, protobuf, gRPC, etcd's errors.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod apply;
mod beginning;
mod checkpoint_files;
mod checkpoint_worker;
mod checkpointing;
mod client_reads;
mod client_writes;
mod command;
pub mod first_configuration;
mod forwards;
pub mod identity;
mod job;
mod lane;
mod log_queue;
mod log_weight;
mod log_worker;
mod manifest;
mod member_changes;
mod message;
mod options;
pub mod peers;
pub mod record;
mod recovery;
mod replica;
mod room;
mod segments;
mod sending;
mod small_files;

pub use apply::{ApplyDone, ApplyJob};
pub use beginning::Beginning;
pub use checkpoint_worker::{CheckpointFault, CheckpointWorker};
pub use command::Origin;
pub use identity::{Identity, IdentityError};
pub use job::{CheckpointDone, CheckpointJob, Failure, Job, LogDone, LogJob, Reply, RequestId};
pub use lane::{Lane, LaneBounds};
pub use log_worker::{Begun, LogWorker};
pub use member_changes::{ChangeAnswer, ChangeRefusal, MemberChange};
pub use message::{
    Acknowledged, ChangeMembers, Forward, ForwardLacked, ForwardQuestion, ForwardRefusal, ForwardRefused,
    MembersChanged, PeerMessage,
};
pub use options::Options;
pub use recovery::{RecoveryError, Start, Started, prepare_log, start};
pub use replica::{Loss, Replica, ReplicaStatus};
pub use small_files::{ROOM_FILE, clear_leftovers, keep_room};

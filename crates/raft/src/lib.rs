//! Raft, without clock, socket, disk or thread.
//!
//! A [`Node`] is one server of a cluster, as a value. Its inputs are method calls; time is an argument of
//! each, randomness a seed of the constructor. Its outputs are [`Effect`]s, drained with
//! [`Node::poll_effect`] after every input: write this and then send that, send this, apply these. The
//! caller carries them out, as fast or as slowly as its world allows, and reports back.
//!
//! What this crate does not know: how messages travel and how they are encoded, what a disk is, what a
//! command means, what a snapshot contains, what time it is.
//!
//! It follows "In Search of an Understandable Consensus Algorithm (Extended Version)" (cited as *paper*)
//! and Ongaro's dissertation (*thesis*), in their words; `docs/protocol.md` lists where it departs.
//!
//! # Driving a node
//!
//! ```
//! use tenure_raft::{Configuration, Effect, Node, NodeId, Options, Restored, Snapshot, Time};
//!
//! let id = NodeId::new(1).unwrap();
//! let configuration = Configuration::of_voters([id]);
//! let snapshot = Snapshot { configuration, ..Snapshot::default() };
//! let restored = Restored { snapshot, ..Restored::default() };
//! let mut node = Node::new(id, Options::default(), 7, restored, Time(0));
//!
//! // A cluster of one elects itself when its election timeout has passed and its vote is on disk.
//! let mut now = node.next_deadline();
//! node.on_time(now);
//! let mut applied = Vec::new();
//! for round in 0..10 {
//!     if round == 5 {
//!         node.propose(now, "hello".into()).unwrap();
//!     }
//!     while let Some(effect) = node.poll_effect() {
//!         match effect {
//!             Effect::Persist { token, .. } => node.on_persisted(now, token),
//!             Effect::Apply(entries) => {
//!                 node.on_applied(now, entries.last().unwrap().id.index);
//!                 applied.extend(entries);
//!             }
//!             _ => {}
//!         }
//!     }
//!     now = now.after(1_000);
//! }
//! assert_eq!(applied.len(), 2, "the blank entry of the term, and the command");
//! ```
//!
//! `examples/counter.rs` is a whole cluster in under a hundred lines: a replicated counter of three servers
//! in one process, that loses its leader and gets it back.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod configuration;
mod early;
mod effect;
mod election;
mod flow;
pub mod invariants;
mod log;
mod membership;
mod message;
mod node;
mod options;
mod progress;
mod proposals;
pub mod quorum;
mod random;
mod read_index;
mod replication;
mod role;
mod snapshot;
mod snapshot_stream;
mod transfer;
mod types;
mod writes;

pub use configuration::{Configuration, InvalidConfiguration, Learner, Quorum, Quorums, Voters};
pub use effect::{Effect, Event, StepDownReason, VoteRefusal, WriteToken};
pub use log::RaftLog;
pub use membership::ChangeError;
pub use message::{AppendReply, Envelope, Message, ReadId, Round, SnapshotReply};
pub use node::{Node, ProposeError, Restored, Status};
pub use options::{Options, OptionsError};
pub use proposals::{Fate, Pending};
pub use read_index::ReadError;
pub use role::RoleKind;
pub use transfer::TransferError;
pub use types::{
    Entry, EntryId, HardState, Index, LogSlice, NodeId, Payload, SliceError, Snapshot, SnapshotChunk, Term,
    Time,
};

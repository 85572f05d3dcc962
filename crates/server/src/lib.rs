//! The shell of a member: the only crate that reads a clock, opens sockets and starts threads.
//!
//! It runs what a [`Replica`](tenure_replica::Replica) gives out and decides nothing: what may be said of a
//! write, when a read may be served, whom to forward to is all decided below, where it is simulated.
//!
//! ```text
//!  clients ── gRPC, HTTP ──▶ Handle ──▶ ┌──────┐ ──▶ log thread ────────── disk
//!                                       │ core │ ──▶ checkpoint thread ─── disk
//!  peers ◀── sender per peer and lane ◀─┤ task │
//!  peers ─── receiver per connection ──▶└──────┘
//! ```
//!
//! What this crate does not know: how entries are replicated, what a command does, what a file contains.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod client_port;
mod clock;
mod cluster;
mod compaction_hashes;
mod config;
mod core;
mod deadline;
mod descriptors;
mod events;
mod exposition;
mod founders;
mod gate;
mod grpc;
mod handle;
mod health;
mod heavy;
mod http;
mod input;
mod joining;
mod kv;
mod large;
mod maintenance;
mod metrics;
mod opening;
mod oversize;
mod peer;
mod pins;
mod range_chunks;
mod readiness;
mod requests;
mod roster;
mod seldom;
mod serve;
mod url;
mod version;
mod workers;

pub use config::{Config, ConfigError};
pub use readiness::{OnPhase, Phase};
pub use serve::{ServeError, serve};
pub use url::{Url, UrlError};
pub use version::{API_VERSION, VERSION};

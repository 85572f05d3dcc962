//! What Tenure says on the wire: the etcd v3 API to its clients, and its own protocol between the members.
//!
//! - [`pb`]: the generated messages and gRPC services of etcd v3;
//! - [`error`]: the one table of errors, with etcd's exact codes and texts.
//!
//! This crate does *not* know: sockets, tasks, clocks, who leads, what a request means. It only translates,
//! and refuses what cannot be translated.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod error;
pub mod pb;

pub use error::ApiError;

//! What Tenure says on the wire: the etcd v3 API to its clients, and its own protocol between the members.
//!
//! - [`pb`]: the generated messages and gRPC services of etcd v3;
//! - [`request`]: from a client's messages to the store's requests;
//! - [`response`]: from the store's answers to a client's messages;
//! - [`peer`]: what the members say to each other, in frames;
//! - [`error`]: the one table of errors, with etcd's exact codes and texts.
//!
//! This crate does *not* know: sockets, tasks, clocks, who leads, what a request means. It only translates,
//! and refuses what cannot be translated.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod pb;

pub mod request;
pub mod response;

pub mod peer;

pub mod error;
pub mod pieces;

pub use error::ApiError;
pub use pieces::Pieces;
pub use request::check_range_stream;
pub use response::Responder;

//! Messages that are longer than gRPC takes: refused by their length, before anything is decoded, in etcd's words.
//!
//! What is short on the wire can be long in memory (an empty operation of a transaction is two bytes there, and
//! a hundred and fifty here), so the limit has to hold before the message is taken apart. There only the
//! library can refuse, and it has words of its own.

use axum::response::Response;
use tonic::{Code, Status};

/// Above the limit of a request, this much is let in and answered with etcd's own error.
const TRANSPORT_SLACK_BYTES: usize = 512 << 10;
/// How the library begins and goes on when a message is too long.
const FOUND: &str = "Error, decoded message length too large: found ";
const LIMIT: &str = " bytes, the limit is: ";

/// How it begins and goes on when one becomes too long as it is unpacked.
const UNPACKED: &str = "Error decompressing: size limit, of ";
const EXCEEDED: &str = " bytes, exceeded while decompressing message";

/// The longest message that gRPC takes.
pub(crate) fn max_message_bytes(max_request_bytes: usize) -> usize {
    max_request_bytes + TRANSPORT_SLACK_BYTES
}

/// The answer as it is, unless it is the library's to a message that is too long.
pub(crate) async fn in_etcds_words(response: Response) -> Response {
    // Only what was refused before it was read has its status in the headers.
    let status = Status::from_header_map(response.headers());
    match status.as_ref().and_then(too_long) {
        Some(status) => status.into_http(),
        None => response,
    }
}

fn too_long(status: &Status) -> Option<Status> {
    let unpacked = status.message().strip_prefix(UNPACKED).and_then(|rest| rest.strip_suffix(EXCEEDED));
    if let Some(limit) = unpacked {
        let text = format!("grpc: received message after decompression larger than max {limit}");
        return Some(Status::resource_exhausted(text));
    }
    let rest = status.message().strip_prefix(FOUND).filter(|_| status.code() == Code::OutOfRange)?;
    let (found, limit) = rest.strip_suffix(" bytes")?.split_once(LIMIT)?;
    Some(Status::resource_exhausted(format!("grpc: received message larger than max ({found} vs. {limit})")))
}

//! One HTTP/2 connection that many clients share, and a unary gRPC call on it: a request whose body is five
//! bytes and a message, and an answer whose trailers say how it went.
//!
//! Source: the gRPC document "gRPC over HTTP2".

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use prost::Message;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

/// Compressed or not, and the length.
const PREFIX_BYTES: usize = 5;
/// So wide that no answer waits for a window.
const WINDOW_BYTES: u32 = 1 << 30;

/// Which method is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rpc {
    Put,
    Range,
    Status,
}

impl Rpc {
    fn path(self) -> &'static str {
        match self {
            Rpc::Put => "/etcdserverpb.KV/Put",
            Rpc::Range => "/etcdserverpb.KV/Range",
            Rpc::Status => "/etcdserverpb.Maintenance/Status",
        }
    }
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The server said no.
    Refused(String),
    /// The connection is of no more use.
    Broken(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Refused(text) => f.write_str(text),
            CallError::Broken(text) => write!(f, "the connection broke: {text}"),
        }
    }
}

impl From<h2::Error> for CallError {
    fn from(error: h2::Error) -> CallError {
        // A stream may be reset alone; a connection that is left has an I/O error or says goodbye.
        let text = error.to_string();
        if error.is_reset() { CallError::Refused(text) } else { CallError::Broken(text) }
    }
}

/// A connection to one endpoint.
pub(crate) struct Connection {
    authority: String,
    requests: SendRequest<Bytes>,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Connects to `host:port` or `http://host:port`.
    pub(crate) async fn open(endpoint: &str) -> Result<Connection, String> {
        let authority = endpoint.strip_prefix("http://").unwrap_or(endpoint).trim_end_matches('/').to_owned();
        if authority.contains("://") {
            return Err(format!("{endpoint}: only http:// is supported"));
        }
        let failed = |error: &dyn fmt::Display| format!("cannot connect to {endpoint}: {error}");
        let stream = TcpStream::connect(&authority).await.map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(|error| failed(&error))?;
        // Each call sees for itself when the connection breaks.
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Connection { authority, requests, driver })
    }

    /// What every call of a method says first.
    pub(crate) fn head(&self, rpc: Rpc) -> Result<Head, String> {
        let uri = format!("http://{}{}", self.authority, rpc.path());
        let uri: Uri = uri.parse().map_err(|error| format!("{uri}: {error}"))?;
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(HeaderName::from_static("te"), HeaderValue::from_static("trailers"));
        Ok(Head { uri, headers })
    }

    /// Sends a frame made by [`frame`] and gives back the message of the answer.
    pub(crate) async fn call(&self, head: &Head, frame: Bytes) -> Result<Bytes, CallError> {
        let mut requests = self.requests.clone().ready().await?;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = head.uri.clone();
        *request.headers_mut() = head.headers.clone();
        let (response, mut body) = requests.send_request(request, false)?;
        body.send_data(frame, true)?;
        let (head, mut body) = response.await?.into_parts();
        let mut message = Bytes::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            message = join(message, chunk);
        }
        // An error may come with the headers alone.
        match body.trailers().await? {
            Some(trailers) => check_status(&trailers)?,
            None => check_status(&head.headers)?,
        }
        message.advance(PREFIX_BYTES.min(message.len()));
        Ok(message)
    }
}

/// The part of a request that is the same each time.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    uri: Uri,
    headers: HeaderMap,
}

/// The body of a call: the message behind its prefix.
pub(crate) fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(length as u32);
    message.encode(&mut frame).expect("the buffer has room for the message");
    frame.freeze()
}

/// Nearly always an answer comes in one piece, which is not copied.
fn join(head: Bytes, tail: Bytes) -> Bytes {
    if head.is_empty() {
        return tail;
    }
    let mut joined = BytesMut::from(head);
    joined.extend_from_slice(&tail);
    joined.freeze()
}

/// The text of a `grpc-message`, which spells what is no plain letter as `%` and two digits; what is no such spelling
/// stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let spelled = (byte == b'%').then(|| after.get(..2)).flatten();
        let spelled = spelled.and_then(|digits| std::str::from_utf8(digits).ok());
        let value = spelled.filter(|digits| !digits.starts_with('+'));
        if let Some(Ok(value)) = value.map(|digits| u8::from_str_radix(digits, 16)) {
            bytes.push(value);
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn check_status(headers: &HeaderMap) -> Result<(), CallError> {
    let text = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    match text("grpc-status").as_deref() {
        Some("0") => Ok(()),
        None => Err(CallError::Refused("an answer without grpc-status: not a gRPC server?".to_owned())),
        Some(code) => {
            let message = percent_decoded(&text("grpc-message").unwrap_or_default());
            Err(CallError::Refused(format!("{message} (gRPC status {code})")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_spelled_out() {
        for (text, expected) in [
            ("etcdserver:%20server%20stopped", "etcdserver: server stopped"),
            ("%C3%A9", "é"),
            ("100%", "100%"),
            ("%2", "%2"),
            ("%+1%zz", "%+1%zz"),
            ("%25", "%"),
        ] {
            assert_eq!(percent_decoded(text), expected);
        }
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", HeaderValue::from_static("14"));
        headers.insert("grpc-message", HeaderValue::from_static("etcdserver:%20no%20leader"));
        let refused = CallError::Refused("etcdserver: no leader (gRPC status 14)".to_owned());
        assert_eq!(check_status(&headers), Err(refused));
    }
}

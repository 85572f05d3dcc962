//! What the library below our services does otherwise than grpc-go, which clients of etcd know: how it names a method
//! that is not there, and when an answer is compressed.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Status};

/// What requests may be compressed with.
pub(crate) const ENCODING: CompressionEncoding = CompressionEncoding::Gzip;

const GRPC_ENCODING: &str = "grpc-encoding";
const GRPC_ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// Around all services: a request may be compressed, its answer then is, too; and a method that a service does not
/// have is named.
pub(crate) async fn as_grpc_go<F>(mut request: Request, next: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    if let Err(status) = answer_as_asked(request.headers_mut()) {
        return status.into_http();
    }
    let path = request.uri().path().to_owned();
    let response = next(request).await;
    // A handler that is there says what it cannot do.
    let status = Status::from_header_map(response.headers());
    let is_nameless = |status: Status| status.code() == Code::Unimplemented && status.message().is_empty();
    if status.is_some_and(is_nameless) { unknown_method(&path).into_http() } else { response }
}

/// Has an answer compressed if the request is. grpc-go goes by that alone; the library goes by what the client could
/// read, and would spend the member's time on clients that never asked for it.
fn answer_as_asked(headers: &mut HeaderMap) -> Result<(), Status> {
    let encoding = headers.get(GRPC_ENCODING).map(HeaderValue::as_bytes);
    match encoding {
        None | Some(b"" | b"identity") => {
            headers.remove(GRPC_ACCEPT_ENCODING);
            Ok(())
        }
        Some(b"gzip") => {
            headers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
            Ok(())
        }
        Some(other) => {
            let other = String::from_utf8_lossy(other);
            Err(Status::unimplemented(format!(
                "grpc: Decompressor is not installed for grpc-encoding {other:?}"
            )))
        }
    }
}

/// Says which service is not there.
pub(crate) fn unknown_service(path: &str) -> Status {
    match service_and_method(path) {
        Some((service, _)) => Status::unimplemented(format!("unknown service {service}")),
        None => Status::unimplemented(format!("malformed method name: {path:?}")),
    }
}

/// Says which method a service that is there does not have.
fn unknown_method(path: &str) -> Status {
    match service_and_method(path) {
        // Ours is the service up to the first slash, grpc-go's the one up to the last.
        Some((service, method)) if !service.contains('/') => {
            Status::unimplemented(format!("unknown method {method} for service {service}"))
        }
        Some(_) | None => unknown_service(path),
    }
}

fn service_and_method(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix('/')?.rsplit_once('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named_as_grpc_go_names_it() {
        for (path, of_service, of_method) in [
            (
                "/etcdserverpb.KV/Nope",
                "unknown service etcdserverpb.KV",
                "unknown method Nope for service etcdserverpb.KV",
            ),
            ("/a.B/c/D", "unknown service a.B/c", "unknown service a.B/c"),
            ("/", "malformed method name: \"/\"", "malformed method name: \"/\""),
            ("/a.B", "malformed method name: \"/a.B\"", "malformed method name: \"/a.B\""),
            ("/a.B/", "unknown service a.B", "unknown method  for service a.B"),
        ] {
            for (status, text) in [(unknown_service(path), of_service), (unknown_method(path), of_method)] {
                assert_eq!((status.code(), status.message()), (Code::Unimplemented, text));
            }
        }
    }

    #[test]
    fn an_answer_is_compressed_exactly_if_the_request_is() {
        let accepted = |encoding: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static("deflate,gzip"));
            if let Some(encoding) = encoding {
                headers.insert(GRPC_ENCODING, HeaderValue::from_static(encoding));
            }
            answer_as_asked(&mut headers).map(|()| headers.remove(GRPC_ACCEPT_ENCODING))
        };
        assert_eq!(accepted(None).expect("taken"), None);
        assert_eq!(accepted(Some("identity")).expect("taken"), None);
        assert_eq!(accepted(Some("gzip")).expect("taken"), Some(HeaderValue::from_static("gzip")));
        let refused = accepted(Some("snappy")).expect_err("not known");
        let text = "grpc: Decompressor is not installed for grpc-encoding \"snappy\"";
        assert_eq!((refused.code(), refused.message()), (Code::Unimplemented, text));
    }
}

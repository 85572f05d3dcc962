//! A client's own time limit: a request whose time has passed waits no longer. Nobody reads its answer any more, and
//! what it holds would be held until the member's own limits.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use http_body::Frame;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::Status;

const GRPC_TIMEOUT: &str = "grpc-timeout";
/// The most digits that there may be.
const MAX_DIGITS: usize = 8;

/// Around all services: keeps to the limit that a request names.
pub(crate) async fn kept<F>(request: Request, next: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    let Some(text) = request.headers().get(GRPC_TIMEOUT) else { return next(request).await };
    let Some(timeout) = parse(text) else {
        return Status::internal(format!("malformed grpc-timeout: {text:?}")).into_http();
    };
    let Some(until) = Instant::now().checked_add(timeout) else { return next(request).await };
    match timeout_at(until, next(request)).await {
        Ok(response) => response.map(|body| Body::new(Limited { body, until, alarm: None, is_over: false })),
        Err(_) => expired().into_http(),
    }
}

/// What a server made with Go says when the time of a request has passed.
fn expired() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}

/// At most eight digits and a unit.
fn parse(text: &HeaderValue) -> Option<Duration> {
    let text = text.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_hours(number)),
        "M" => Some(Duration::from_mins(number)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// The body of an answer, which ends when the time has passed: with that status, if it is not complete.
struct Limited {
    body: Body,
    until: Instant,
    /// Set when the body is waited for, which an answer that is there at once never is.
    alarm: Option<Pin<Box<Sleep>>>,
    is_over: bool,
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let until = self.until;
        match Pin::new(&mut self.body).poll_frame(cx) {
            // An endless one that always has more would never be waited for.
            Poll::Ready(Some(Ok(frame))) if frame.is_data() && Instant::now() >= until => {}
            ready @ Poll::Ready(_) => return ready,
            Poll::Pending => {
                let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(until)));
                if alarm.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        }
        self.is_over = true;
        // What is left of it is not made any more.
        self.body = Body::empty();
        let mut trailers = HeaderMap::new();
        expired().add_header(&mut trailers).expect("the status fits into headers");
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::middleware::{Next, from_fn};
    use axum::routing::any;
    use tonic::Code;
    use tonic::codegen::Service;

    use super::*;

    #[test]
    fn a_timeout_is_read_as_the_protocol_has_it() {
        let parse = |text: &'static str| parse(&HeaderValue::from_static(text));
        assert_eq!(parse("7H"), Some(Duration::from_hours(7)));
        assert_eq!(parse("2M"), Some(Duration::from_mins(2)));
        assert_eq!(parse("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(parse("50m"), Some(Duration::from_millis(50)));
        assert_eq!(parse("0u"), Some(Duration::ZERO));
        assert_eq!(parse("3n"), Some(Duration::from_nanos(3)));
        for text in ["", "5", "S", "123456789S", "-1S", "1.5S", "5s", "5 S"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    async fn answer(to: Router, path: &str) -> Response {
        let request = Request::builder().uri(path).header(GRPC_TIMEOUT, "50m").body(Body::empty());
        to.clone().call(request.expect("a request")).await.expect("it cannot fail")
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_no_longer_than_its_client() {
        let router = Router::new()
            .route("/never", any(std::future::pending::<()>))
            .route("/begins", any(async || Body::new(NeverEnds)))
            .route("/at_once", any(async || "done"))
            .layer(from_fn(async |request, next: Next| kept(request, |request| next.run(request)).await));
        let response = answer(router.clone(), "/never").await;
        let status = Status::from_header_map(response.headers()).expect("a status");
        assert_eq!((status.code(), status.message()), (Code::DeadlineExceeded, "context deadline exceeded"));

        let mut body = answer(router.clone(), "/begins").await.into_body();
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let trailers = frame.expect("a frame").expect("no error").into_trailers().expect("trailers");
        assert_eq!(Status::from_header_map(&trailers).expect("a status").code(), Code::DeadlineExceeded);
        assert!(std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.is_none());

        let mut body = answer(router, "/at_once").await.into_body();
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        assert_eq!(frame.expect("a frame").expect("no error").into_data().expect("data"), "done");
    }

    struct NeverEnds;

    impl HttpBody for NeverEnds {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            Poll::Pending
        }
    }
}

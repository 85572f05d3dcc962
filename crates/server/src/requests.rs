//! Requests that are arriving and under way: what they may take in memory, and how long the pieces of one may take.
//!
//! The library reads a message piece by piece into memory until it is whole, and a client may send all but the last byte
//! of as many as it likes. So what has been read is counted, for each connection and for all together, until the request
//! has been answered; what would exceed either bound is refused, as are requests that stop coming. (To wait instead, with
//! the bytes unread in the connection's window, would stop those requests of the connection that are nearly whole.)

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::response::Response;
use http_body::Frame;
use tenure_api::ApiError;
use tokio::time::{Sleep, sleep};
use tonic::Status;

/// What all requests together may take.
const MAX_BYTES: usize = 512 << 20;
/// What those of one connection may take.
const MAX_CONNECTION_BYTES: usize = 256 << 20;
/// What a request counts for beside its messages: its headers, its task.
const REQUEST_BYTES: usize = 4 << 10;
/// A message of which no more comes for this long is given up.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// A message's compression, and its length: four bytes, the highest first.
const PREFIX_BYTES: usize = 5;
/// What gzip makes of a byte at the most.
const MAX_EXPANSION: usize = 1032;

/// A number of bytes, of which some are taken.
#[derive(Debug)]
struct Budget {
    limit_bytes: usize,
    taken_bytes: AtomicUsize,
}

impl Budget {
    fn new(limit_bytes: usize) -> Budget {
        Budget { limit_bytes, taken_bytes: AtomicUsize::new(0) }
    }

    /// Takes so many more; false if there are not as many.
    fn take(&self, bytes: usize) -> bool {
        let more = |taken: usize| taken.checked_add(bytes).filter(|&taken| taken <= self.limit_bytes);
        self.taken_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.taken_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What all clients' requests may take.
#[derive(Clone, Debug)]
pub(crate) struct RequestBudget {
    all: Arc<Budget>,
    /// The longest message: longer ones are refused when their length is known.
    max_message_bytes: usize,
}

impl RequestBudget {
    pub(crate) fn new(max_message_bytes: usize) -> RequestBudget {
        RequestBudget { all: Arc::new(Budget::new(MAX_BYTES)), max_message_bytes }
    }

    /// What the requests of a new connection may take.
    pub(crate) fn of_connection(&self) -> ConnectionBudget {
        let own = Arc::new(Budget::new(MAX_CONNECTION_BYTES));
        ConnectionBudget { own, of_all: self.clone() }
    }
}

/// What the requests of one connection may take.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionBudget {
    own: Arc<Budget>,
    of_all: RequestBudget,
}

/// What one request has taken; given back with it.
#[derive(Debug)]
struct Taken {
    from: ConnectionBudget,
    bytes: AtomicUsize,
}

impl Taken {
    /// A request begins.
    fn begin(from: ConnectionBudget) -> Result<Arc<Taken>, ApiError> {
        let taken = Taken { from, bytes: AtomicUsize::new(0) };
        taken.take(REQUEST_BYTES)?;
        Ok(Arc::new(taken))
    }

    fn take(&self, bytes: usize) -> Result<(), ApiError> {
        let ConnectionBudget { own, of_all } = &self.from;
        if !own.take(bytes) {
            return Err(ApiError::TooManyRequests);
        }
        if !of_all.all.take(bytes) {
            own.give_back(bytes);
            return Err(ApiError::TooManyRequests);
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The messages before the one that begins now have been handled.
    fn begin_message(&self) {
        let before = self.bytes.swap(REQUEST_BYTES, Ordering::Relaxed) - REQUEST_BYTES;
        self.give_back(before);
    }

    fn give_back(&self, bytes: usize) {
        self.from.own.give_back(bytes);
        self.from.of_all.all.give_back(bytes);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.give_back(bytes);
    }
}

/// Around all services: counts what requests take, and gives up those that stop coming.
pub(crate) async fn bounded<F>(request: Request, next: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    let budget = request.extensions().get::<ConnectionBudget>().expect("each connection has its own").clone();
    // Held until there is an answer: until then the request is in memory in one form or another.
    let taken = match Taken::begin(budget) {
        Ok(taken) => taken,
        Err(error) => return Status::from(error).into_http(),
    };
    let request = request.map(|body| Body::new(Counted::new(body, taken.clone())));
    let response = next(request).await;
    drop(taken);
    response
}

/// How far the message has come that is arriving.
#[derive(Default)]
struct Message {
    prefix: [u8; PREFIX_BYTES],
    prefix_bytes: usize,
    missing_bytes: usize,
}

/// The body of a request.
struct Counted {
    body: Body,
    taken: Arc<Taken>,
    message: Message,
    /// Whether a message has begun to arrive.
    has_begun: bool,
    /// Rings when nothing has come for too long in the middle of a message, or before the first.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Counted {
    fn new(body: Body, taken: Arc<Taken>) -> Counted {
        Counted { body, taken, message: Message::default(), has_begun: false, alarm: None }
    }

    fn count(&mut self, mut data: &[u8]) -> Result<(), ApiError> {
        self.alarm = None;
        self.has_begun |= !data.is_empty();
        let Message { prefix, prefix_bytes, missing_bytes } = &mut self.message;
        while !data.is_empty() {
            if *prefix_bytes == PREFIX_BYTES {
                let bytes = data.len().min(*missing_bytes);
                self.taken.take(bytes)?;
                *missing_bytes -= bytes;
                data = &data[bytes..];
            } else {
                if *prefix_bytes == 0 {
                    self.taken.begin_message();
                }
                let bytes = data.len().min(PREFIX_BYTES - *prefix_bytes);
                prefix[*prefix_bytes..*prefix_bytes + bytes].copy_from_slice(&data[..bytes]);
                *prefix_bytes += bytes;
                data = &data[bytes..];
                if *prefix_bytes < PREFIX_BYTES {
                    continue;
                }
                let [compression, length @ ..] = *prefix;
                *missing_bytes = u32::from_be_bytes(length) as usize;
                if compression != 0 {
                    // As much as it may become, up to the longest that is taken.
                    let expanded = missing_bytes.saturating_mul(MAX_EXPANSION);
                    self.taken.take(expanded.min(self.taken.from.of_all.max_message_bytes))?;
                }
            }
            if *prefix_bytes == PREFIX_BYTES && *missing_bytes == 0 {
                *prefix_bytes = 0;
            }
        }
        Ok(())
    }

    fn is_amid_a_message(&self) -> bool {
        self.message.prefix_bytes > 0
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let counted = frame.data_ref().map_or(Ok(()), |data| self.count(data));
                Poll::Ready(Some(counted.map(|()| frame).map_err(Status::from)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(Status::from_error(Box::new(error))))),
            Poll::Ready(None) => Poll::Ready(None),
            // Between two messages a stream may rest as long as it likes.
            Poll::Pending if self.has_begun && !self.is_amid_a_message() => Poll::Pending,
            Poll::Pending => {
                let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(MAX_PAUSE)));
                let too_late =
                    || Some(Err(Status::deadline_exceeded("the rest of the request did not come in time")));
                alarm.as_mut().poll(cx).map(|()| too_late())
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    const MAX_MESSAGE_BYTES: usize = 2 << 20;

    fn connections() -> (RequestBudget, ConnectionBudget, ConnectionBudget) {
        let all = RequestBudget::new(MAX_MESSAGE_BYTES);
        (all.clone(), all.of_connection(), all.of_connection())
    }

    fn body(connection: &ConnectionBudget) -> Counted {
        Counted::new(Body::empty(), Taken::begin(connection.clone()).expect("room for a request"))
    }

    fn prefix(is_compressed: bool, length: u32) -> Vec<u8> {
        [&[u8::from(is_compressed)][..], &length.to_be_bytes()].concat()
    }

    fn taken_bytes(budget: &RequestBudget) -> usize {
        budget.all.taken_bytes.load(Ordering::Relaxed)
    }

    #[test]
    fn half_sent_requests_are_bounded_for_each_connection_and_for_all() {
        let (all, one, other) = connections();
        let third = all.of_connection();
        let half_sent = vec![7; 1_900_000];
        let fill = |connection: &ConnectionBudget| {
            let mut bodies = Vec::new();
            loop {
                let mut body = body(connection);
                body.count(&prefix(false, 1_900_001)).expect("a prefix is nothing");
                match body.count(&half_sent) {
                    Ok(()) => bodies.push(body),
                    Err(error) => break (bodies, error),
                }
            }
        };
        let (of_one, error) = fill(&one);
        assert_eq!((of_one.len(), error), (140, ApiError::TooManyRequests));
        assert!(taken_bytes(&all) <= MAX_CONNECTION_BYTES);
        // A whole connection of half-sent requests leaves room for others; two leave little.
        let (of_other, _) = fill(&other);
        assert_eq!(of_other.len(), 140);
        assert!(fill(&third).0.len() <= 1, "the bound for all");
        drop((of_one, of_other));
        assert_eq!(taken_bytes(&all), 0, "all is given back");
    }

    #[test]
    fn messages_are_told_apart_however_they_are_cut() {
        let (all, connection, _) = connections();
        let stream = [prefix(false, 3), vec![1; 3], prefix(false, 0), prefix(false, 9), vec![2; 9]].concat();
        for piece_bytes in 1..=stream.len() {
            let mut body = body(&connection);
            for piece in stream.chunks(piece_bytes) {
                body.count(piece).expect("there is room");
            }
            assert!(!body.is_amid_a_message());
            assert_eq!(taken_bytes(&all), REQUEST_BYTES + 9, "what was handled is not counted");
            body.count(&[0]).expect("there is room");
            assert!(body.is_amid_a_message());
        }
        assert_eq!(taken_bytes(&all), 0);
    }

    #[test]
    fn what_is_compressed_counts_for_what_it_may_become() {
        let (all, connection, _) = connections();
        let mut body = body(&connection);
        body.count(&prefix(true, 100)).expect("there is room");
        assert_eq!(taken_bytes(&all), REQUEST_BYTES + 100 * MAX_EXPANSION);
        let mut longer = self::body(&connection);
        drop(body);
        longer.count(&prefix(true, 100_000)).expect("there is room");
        assert_eq!(taken_bytes(&all), REQUEST_BYTES + MAX_MESSAGE_BYTES, "longer ones are not taken");
    }

    /// A body that brings these pieces, and then nothing more.
    struct Pieces(Vec<Vec<u8>>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            self.0.pop().map_or(Poll::Pending, |piece| Poll::Ready(Some(Ok(Frame::data(piece.into())))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_stops_coming_is_given_up_and_a_stream_that_rests_is_not() {
        let (_, connection, _) = connections();
        let of = |pieces| {
            let taken = Taken::begin(connection.clone()).expect("room for a request");
            Counted::new(Body::new(Pieces(pieces)), taken)
        };
        let mut stopped = of(vec![vec![1; 3], prefix(false, 4)]);
        let mut next = async || std::future::poll_fn(|cx| Pin::new(&mut stopped).poll_frame(cx)).await;
        assert!(next().await.expect("the prefix").is_ok());
        assert!(next().await.expect("most of it").is_ok());
        let status = next().await.expect("an end").expect_err("it did not come");
        assert_eq!(status.code(), Code::DeadlineExceeded);

        let mut empty = of(Vec::new());
        let end = std::future::poll_fn(|cx| Pin::new(&mut empty).poll_frame(cx)).await;
        assert_eq!(end.expect("an end").expect_err("nothing came").code(), Code::DeadlineExceeded);

        let mut resting = of(vec![prefix(false, 0)]);
        let mut next = async || std::future::poll_fn(|cx| Pin::new(&mut resting).poll_frame(cx)).await;
        assert!(next().await.expect("a message").is_ok());
        assert!(tokio::time::timeout(MAX_PAUSE * 100, next()).await.is_err(), "it waits on");
    }
}

//! Large answers: a message that goes out in pieces, as fast as its client takes them.
//!
//! tonic encodes a message as a whole. So a handler gives back an empty message with a [`Large`] beside it (an extension
//! of the response), and the layer [`unfold`] puts the pieces in its place: the same bytes, under HTTP/2's flow control,
//! each piece encoded on a thread for heavy reads when the one before has left.
//!
//! A client that does not take what it has asked for keeps what it would still be shown from being freed. So the rest
//! is dropped when nothing was taken for a while; the client finds its stream reset when it goes on.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tenure_api::Pieces;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::heavy::{Heavy, Turn};

/// How large a piece is: much more than a packet, much less than a memory.
const PIECE_BYTES: usize = 128 << 10;
/// Who takes nothing for so long is not served any more.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// An answer in pieces, on its way to where it is sent.
#[derive(Clone)]
pub(crate) struct Large(Arc<Mutex<Option<LargeBody>>>);

impl Large {
    /// To be sent by `heavy`, in the turn of whoever asked.
    pub(crate) fn new(heavy: &Arc<Heavy>, pieces: Pieces, turn: Turn) -> Large {
        let body = LargeBody::new(heavy.clone(), pieces, turn, STALL_TIMEOUT);
        Large(Arc::new(Mutex::new(Some(body))))
    }

    /// The answer of a handler, for [`unfold`].
    pub(crate) fn respond<T: Default>(self) -> tonic::Response<T> {
        let mut response = tonic::Response::new(T::default());
        response.extensions_mut().insert(self);
        response
    }
}

/// Puts a large answer in the place of the empty one that stands for it.
pub(crate) async fn unfold(mut response: Response) -> Response {
    if let Some(large) = response.extensions_mut().remove::<Large>()
        && let Some(body) = large.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    {
        *response.body_mut() = Body::new(body);
    }
    response
}

/// What is still to be sent.
struct Rest {
    pieces: Pieces,
    _turn: Turn,
}

/// The rest, unless it is being encoded or was dropped, and when the client last took something.
struct Slot {
    rest: Option<Rest>,
    taken: Instant,
}

impl Slot {
    fn lock(slot: &Mutex<Slot>) -> std::sync::MutexGuard<'_, Slot> {
        slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What comes next.
enum Next {
    /// gRPC's prefix, which says how long the message is.
    Prefix,
    Piece,
    /// It is being encoded.
    Encoded(oneshot::Receiver<(Rest, Option<Bytes>)>),
    Trailers,
    Nothing,
}

struct LargeBody {
    heavy: Arc<Heavy>,
    slot: Arc<Mutex<Slot>>,
    next: Next,
    message_bytes: usize,
}

impl LargeBody {
    fn new(heavy: Arc<Heavy>, pieces: Pieces, turn: Turn, stall_timeout: Duration) -> LargeBody {
        let message_bytes = pieces.len();
        let rest = Some(Rest { pieces, _turn: turn });
        let slot = Arc::new(Mutex::new(Slot { rest, taken: Instant::now() }));
        tokio::spawn(watch(heavy.clone(), Arc::downgrade(&slot), stall_timeout));
        LargeBody { heavy, slot, next: Next::Prefix, message_bytes }
    }

    /// Has the next piece encoded, if the rest is still there.
    fn encode(&mut self) -> Result<Next, Status> {
        let mut slot = Slot::lock(&self.slot);
        let Some(mut rest) = slot.rest.take() else {
            return Err(Status::new(Code::DeadlineExceeded, "the answer was not read in time"));
        };
        drop(slot);
        Ok(Next::Encoded(self.heavy.run(move || {
            let piece = rest.pieces.next_piece(PIECE_BYTES);
            (rest, piece)
        })))
    }
}

impl http_body::Body for LargeBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            match &mut self.next {
                Next::Prefix => {
                    self.next = Next::Piece;
                    return Poll::Ready(Some(Ok(Frame::data(prefix(self.message_bytes)))));
                }
                Next::Piece => match self.encode() {
                    Ok(next) => self.next = next,
                    Err(status) => {
                        self.next = Next::Nothing;
                        return Poll::Ready(Some(Err(status)));
                    }
                },
                Next::Encoded(encoded) => {
                    let Ok((rest, piece)) = ready!(Pin::new(encoded).poll(context)) else {
                        self.next = Next::Nothing;
                        return Poll::Ready(Some(Err(Status::unavailable("the member stops"))));
                    };
                    let Some(piece) = piece else {
                        self.next = Next::Trailers;
                        continue;
                    };
                    let mut slot = Slot::lock(&self.slot);
                    (slot.rest, slot.taken) = (Some(rest), Instant::now());
                    drop(slot);
                    self.next = Next::Piece;
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Next::Trailers => {
                    self.next = Next::Nothing;
                    return Poll::Ready(Some(Ok(Frame::trailers(ok_trailers()))));
                }
                Next::Nothing => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.next, Next::Nothing)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for LargeBody {
    fn drop(&mut self) {
        if let Some(rest) = Slot::lock(&self.slot).rest.take() {
            self.heavy.discard(rest);
        }
    }
}

/// Drops the rest when nothing is taken of it for `timeout`; ends when it is sent, or not wanted any more.
async fn watch(heavy: Arc<Heavy>, slot: Weak<Mutex<Slot>>, timeout: Duration) {
    loop {
        let Some(deadline) = slot.upgrade().map(|slot| Slot::lock(&slot).taken + timeout) else { return };
        tokio::time::sleep_until(deadline).await;
        let Some(slot) = slot.upgrade() else { return };
        let mut slot = Slot::lock(&slot);
        if slot.taken + timeout > Instant::now() {
            continue;
        }
        if let Some(rest) = slot.rest.take() {
            tracing::info!(bytes = rest.pieces.len(), "an answer is given up that its client does not read");
            heavy.discard(rest);
            return;
        }
        // It is being encoded, so somebody takes it.
        slot.taken = Instant::now();
    }
}

/// Not compressed, and so long.
fn prefix(message_bytes: usize) -> Bytes {
    let mut prefix = BytesMut::with_capacity(5);
    prefix.put_u8(0);
    prefix.put_u32(u32::try_from(message_bytes).expect("no longer message is made"));
    prefix.freeze()
}

fn ok_trailers() -> axum::http::HeaderMap {
    let mut trailers = MetadataMap::new().into_headers();
    Status::new(Code::Ok, "").add_header(&mut trailers).expect("an empty text is a header");
    trailers
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http_body::Body as _;
    use prost::Message;
    use tenure_api::Responder;
    use tenure_store::{Command, PutRequest, RangeRequest, Selection, Store};

    use super::*;

    const RESPONDER: Responder = Responder { cluster_id: 1, member_id: 2, raft_term: 3 };
    const SOON: Duration = Duration::from_millis(50);

    /// A megabyte.
    fn selection() -> Selection {
        let mut store = Store::new();
        for number in 1..=1_000 {
            let key = format!("{number:08}").into();
            let put = PutRequest { key, value: vec![7; 1_000].into(), ..PutRequest::default() };
            assert!(store.apply(number, &Command::Put(put)).result.is_ok());
        }
        let all = RangeRequest { key: "0".into(), range_end: "1".into(), ..RangeRequest::default() };
        store.snapshot().select(&all).expect("the latest revision")
    }

    async fn body(heavy: &Arc<Heavy>, stall_timeout: Duration) -> LargeBody {
        let turn = heavy.turn_to_answer().await.expect("it is free");
        let pieces = Pieces::range(RESPONDER, selection()).expect("it is short enough");
        LargeBody::new(heavy.clone(), pieces, turn, stall_timeout)
    }

    async fn frame(body: &mut LargeBody) -> Option<Result<Frame<Bytes>, Status>> {
        poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
    }

    #[tokio::test]
    async fn the_frames_are_a_message_of_grpc_and_its_end() {
        let heavy = Heavy::start().expect("threads");
        let mut body = body(&heavy, STALL_TIMEOUT).await;
        let (mut data, mut frames, mut trailers) = (Vec::new(), 0, None);
        while let Some(next) = frame(&mut body).await {
            match next.expect("no error").into_data() {
                Ok(piece) => {
                    assert!(piece.len() < 2 * PIECE_BYTES);
                    data.extend_from_slice(&piece);
                    frames += 1;
                }
                Err(last) => trailers = last.into_trailers().ok(),
            }
        }
        let message = RESPONDER.range(selection().into_response()).encode_to_vec();
        let length = u32::try_from(message.len()).expect("a megabyte").to_be_bytes();
        assert_eq!(data[..5], [&[0], &length[..]].concat());
        assert!(data[5..] == message, "the same bytes as in one piece");
        assert!(frames > 5);
        assert_eq!(
            trailers.expect("an end").get("grpc-status").map(axum::http::HeaderValue::as_bytes),
            Some(&b"0"[..])
        );
        assert!(body.is_end_stream());
    }

    #[tokio::test]
    async fn the_rest_of_an_answer_that_is_not_read_is_dropped_and_its_turn_given_back() {
        let heavy = Heavy::start().expect("threads");
        let free = heavy.free_turns_to_answer();
        let mut body = body(&heavy, SOON).await;
        assert!(frame(&mut body).await.is_some_and(|prefix| prefix.is_ok()));
        assert!(frame(&mut body).await.is_some_and(|piece| piece.is_ok()));
        assert_eq!(heavy.free_turns_to_answer(), free - 1);
        while heavy.free_turns_to_answer() < free {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let late = frame(&mut body).await.expect("an end").map(drop).map_err(|status| status.code());
        assert_eq!(late, Err(Code::DeadlineExceeded));
        assert!(frame(&mut body).await.is_none());
    }

    #[tokio::test]
    async fn who_goes_away_gives_its_turn_back() {
        let heavy = Heavy::start().expect("threads");
        let free = heavy.free_turns_to_answer();
        let mut body = body(&heavy, STALL_TIMEOUT).await;
        assert!(frame(&mut body).await.is_some_and(|prefix| prefix.is_ok()));
        drop(body);
        while heavy.free_turns_to_answer() < free {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

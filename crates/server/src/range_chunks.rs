//! A range in chunks, for a stream: all of one revision, as etcd cuts them.
//!
//! What is selected is cut into chunks, and each is made when the one before is on its way. A client that takes none for
//! a while is told that it waits in vain: what it has still to be shown is kept from being freed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tenure_api::Responder;
use tenure_api::pb::etcdserverpb as pb;
use tenure_store::{KeyValue, RangeResponse, Selection};
use tokio::sync::mpsc;
use tonic::Status;
use tonic::codegen::tokio_stream::Stream;

use crate::heavy::{Heavy, Turn};
use crate::large::STALL_TIMEOUT;

/// As etcd: ten keys first, then as many as make a chunk of about the largest request.
const FIRST_CHUNK_KEYS: usize = 10;
/// However large requests may be.
const MAX_CHUNK_BYTES: usize = 2 << 20;

/// What is left of a range.
pub(crate) struct RangeChunks {
    left: Selection,
    responder: Responder,
    chunk_keys: usize,
    max_chunk_bytes: usize,
    is_over: bool,
}

impl RangeChunks {
    /// What was selected, in chunks.
    pub(crate) fn new(selection: Selection, responder: Responder, max_chunk_bytes: usize) -> RangeChunks {
        RangeChunks {
            left: selection,
            responder,
            chunk_keys: FIRST_CHUNK_KEYS,
            max_chunk_bytes: max_chunk_bytes.min(MAX_CHUNK_BYTES),
            is_over: false,
        }
    }

    /// The next chunk. The last one of all has the header, the count and `more`.
    pub(crate) fn next_chunk(&mut self) -> Option<pb::RangeStreamResponse> {
        if self.is_over {
            return None;
        }
        let kvs: Vec<KeyValue> = self.left.pairs.by_ref().take(self.chunk_keys).collect();
        self.adapt(&kvs);
        self.is_over = self.left.pairs.len() == 0;
        let more = self.is_over && self.left.more;
        let count = if self.is_over { self.left.count } else { 0 };
        let revision = self.left.revision;
        let mut response = self.responder.range(RangeResponse { revision, kvs, more, count });
        if !self.is_over {
            response.header = None;
        }
        Some(pb::RangeStreamResponse { range_response: Some(response) })
    }

    fn adapt(&mut self, kvs: &[KeyValue]) {
        let bytes: usize = kvs.iter().map(|pair| pair.key.len() + pair.value.len()).sum();
        if bytes < self.max_chunk_bytes / 2 {
            self.chunk_keys = self.chunk_keys.saturating_mul(2);
        } else if bytes > self.max_chunk_bytes {
            self.chunk_keys = (self.chunk_keys / 2).max(1);
        }
    }

    /// Sends them, in the turn of whoever asked for many.
    pub(crate) fn send(self, heavy: &Arc<Heavy>, turn: Option<Turn>) -> ChunkStream {
        // One that is on its way, and room for the last word.
        let (sender, chunks) = mpsc::channel(2);
        tokio::spawn(send(self, heavy.clone(), turn, sender, STALL_TIMEOUT));
        ChunkStream { chunks }
    }
}

type Chunk = Result<pb::RangeStreamResponse, Status>;

/// The chunks as they are made.
pub(crate) struct ChunkStream {
    chunks: mpsc::Receiver<Chunk>,
}

impl Stream for ChunkStream {
    type Item = Chunk;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Chunk>> {
        self.chunks.poll_recv(context)
    }
}

async fn send(
    mut chunks: RangeChunks,
    heavy: Arc<Heavy>,
    turn: Option<Turn>,
    sender: mpsc::Sender<Chunk>,
    stall_timeout: Duration,
) {
    let Ok(last_word) = sender.clone().reserve_owned().await else { return };
    loop {
        let chunk;
        if turn.is_some() {
            let made = heavy.run(move || {
                let chunk = chunks.next_chunk();
                (chunks, chunk)
            });
            let Ok((rest, next)) = made.await else { return };
            (chunks, chunk) = (rest, next);
        } else {
            chunk = chunks.next_chunk();
        }
        let Some(chunk) = chunk else { return };
        match tokio::time::timeout(stall_timeout, sender.send(Ok(chunk))).await {
            Ok(Ok(())) => {}
            // Whoever asked is gone.
            Ok(Err(_)) => return heavy.discard((chunks, turn)),
            Err(_) => {
                tracing::info!("a stream of a range is given up that its client does not read");
                let why = format!("the answer was not read for {} s", stall_timeout.as_secs());
                last_word.send(Err(Status::deadline_exceeded(why)));
                return heavy.discard((chunks, turn));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tenure_store::{Command, PutRequest, RangeRequest, Snapshot, Store};

    use super::*;

    const RESPONDER: Responder = Responder { cluster_id: 1, member_id: 2, raft_term: 3 };

    /// `keys` keys with values of 100 bytes.
    fn state(keys: u64) -> Snapshot {
        let mut store = Store::new();
        for number in 1..=keys {
            let key = format!("{number:08}").into();
            let put = PutRequest { key, value: vec![7; 100].into(), ..PutRequest::default() };
            assert!(store.apply(number, &Command::Put(put)).result.is_ok());
        }
        store.snapshot()
    }

    fn all() -> RangeRequest {
        RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..RangeRequest::default() }
    }

    fn chunks_of(state: &Snapshot, request: &RangeRequest) -> RangeChunks {
        RangeChunks::new(state.select(request).expect("the revision is there"), RESPONDER, 10_000)
    }

    fn chunks(state: &Snapshot, request: &RangeRequest) -> Vec<pb::RangeResponse> {
        let mut chunks = chunks_of(state, request);
        std::iter::from_fn(|| chunks.next_chunk()).filter_map(|chunk| chunk.range_response).collect()
    }

    #[test]
    fn the_chunks_put_together_are_the_range() {
        let state = state(1_000);
        for limit in [0, 1, 9, 10, 11, 500, 999, 1_000, 1_001] {
            let request = RangeRequest { limit, ..all() };
            let whole = RESPONDER.range(state.range(&request).expect("a range"));
            let given = chunks(&state, &request);
            let last = given.last().expect("a chunk at least");
            assert_eq!((last.more, last.count), (whole.more, whole.count), "limit {limit}");
            assert_eq!(last.header, whole.header);
            assert!(given[..given.len() - 1].iter().all(|chunk| chunk.header.is_none() && !chunk.more));
            let kvs: Vec<_> = given.into_iter().flat_map(|chunk| chunk.kvs).collect();
            assert_eq!(kvs, whole.kvs, "limit {limit}");
        }
    }

    #[test]
    fn chunks_begin_small_and_stay_about_as_large_as_a_request() {
        let given = chunks(&state(1_000), &all());
        assert_eq!(given[0].kvs.len(), FIRST_CHUNK_KEYS);
        assert!(given.iter().all(|chunk| chunk.kvs.len() <= 160), "twice what fits at the most");
        assert!(given.len() < 20);
    }

    #[test]
    fn a_count_and_a_range_of_nothing_are_one_chunk() {
        let given = chunks(&state(30), &RangeRequest { count_only: true, ..all() });
        assert_eq!((given.len(), given[0].count, given[0].kvs.len()), (1, 30, 0));
        let given = chunks(&state(30), &RangeRequest { key: "x".into(), ..RangeRequest::default() });
        assert_eq!((given.len(), given[0].count, given[0].more), (1, 0, false));
        assert!(given[0].header.is_some());
    }

    /// Whoever does not read is told so, and nothing is kept for it any more.
    #[tokio::test]
    async fn a_stream_that_is_not_read_ends_with_an_error_and_gives_its_turn_back() {
        let heavy = Heavy::start().expect("threads");
        let turn = heavy.turn_to_answer().await.expect("it is free");
        let before = heavy.free_turns_to_answer();
        let (sender, mut received) = mpsc::channel(2);
        let chunks = chunks_of(&state(1_000), &all());
        send(chunks, heavy.clone(), Some(turn), sender, Duration::from_millis(50)).await;
        assert!(received.recv().await.is_some_and(|chunk| chunk.is_ok()));
        let last = received.recv().await.expect("a last word");
        assert_eq!(last.map(drop).map_err(|status| status.code()), Err(tonic::Code::DeadlineExceeded));
        assert!(received.recv().await.is_none());
        // It is dropped on another thread, and there are as many turns as before then.
        let take_all = async {
            let mut turns = Vec::new();
            for _ in 0..=before {
                turns.push(heavy.turn_to_answer().await.expect("it comes back"));
            }
        };
        tokio::time::timeout(Duration::from_secs(10), take_all).await.expect("the turn is given back");
    }
}

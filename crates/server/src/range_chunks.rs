//! A range in chunks, for a stream: all of one revision, as etcd cuts them.
//!
//! The store is read a page at a time, so that no task holds much of a large range, and the page is cut into
//! chunks. The keys are counted once, with the first page: that alone goes to the end of the range.

use std::collections::VecDeque;

use bytes::Bytes;
use tenure_api::Responder;
use tenure_api::pb::etcdserverpb as pb;
use tenure_store::{KeyValue, RangeRequest, RangeResponse, Rejection, Snapshot};

/// How many keys are read at a time.
const PAGE_KEYS: i64 = 1 << 16;
/// As etcd: ten keys first, then as many as make a chunk of about the largest request.
const FIRST_CHUNK_KEYS: usize = 10;

/// What is left of a range. Between two pages it gives nothing.
pub(crate) struct RangeChunks {
    state: Snapshot,
    /// From the next key to be read on.
    request: RangeRequest,
    /// How many keys the client still wants to be read; none for all.
    left: Option<i64>,
    /// Read, and not yet given out.
    page: VecDeque<KeyValue>,
    /// Of the whole range, as the first page found it.
    count: Option<i64>,
    /// Whether the range goes on behind the page.
    has_more: bool,
    responder: Responder,
    chunk_keys: usize,
    max_chunk_bytes: usize,
    is_over: bool,
}

impl RangeChunks {
    /// The range as it is in `state`; the first page is still to be read.
    pub(crate) fn new(
        state: Snapshot,
        mut request: RangeRequest,
        responder: Responder,
        max_chunk_bytes: usize,
    ) -> RangeChunks {
        if request.revision <= 0 {
            request.revision = state.revision();
        }
        let left = (request.limit > 0).then_some(request.limit);
        RangeChunks {
            state,
            request,
            left,
            page: VecDeque::new(),
            count: None,
            has_more: false,
            responder,
            chunk_keys: FIRST_CHUNK_KEYS,
            max_chunk_bytes,
            is_over: false,
        }
    }

    /// Whether everything was given out.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Reads the next page.
    pub(crate) fn read_page(&mut self) -> Result<(), Rejection> {
        self.request.limit = self.left.unwrap_or(PAGE_KEYS).min(PAGE_KEYS);
        let (kvs, more) = if self.count.is_some() {
            self.state.page(&self.request)?
        } else {
            let RangeResponse { kvs, more, count, .. } = self.state.range(&self.request)?;
            self.count = Some(count);
            (kvs, more)
        };
        self.has_more = more;
        if let Some(left) = &mut self.left {
            *left -= kvs.len() as i64;
        }
        if let Some(last) = kvs.last() {
            // The next key in order is the last one with a zero byte.
            self.request.key = Bytes::from([&last.key[..], &[0]].concat());
        }
        self.page = kvs.into();
        Ok(())
    }

    /// The next chunk of the page that was read. The last one of all has the header, the count and `more`.
    pub(crate) fn next(&mut self) -> Option<pb::RangeStreamResponse> {
        let is_last_page = !self.has_more || self.left == Some(0);
        if self.is_over || (self.page.is_empty() && !is_last_page) {
            return None;
        }
        let kvs: Vec<KeyValue> = self.page.drain(..self.chunk_keys.min(self.page.len())).collect();
        self.adapt(&kvs);
        self.is_over = is_last_page && self.page.is_empty();
        let more = self.is_over && self.has_more;
        let count = if self.is_over { self.count.unwrap_or_default() } else { 0 };
        let revision = self.state.revision();
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
}

#[cfg(test)]
mod tests {
    use tenure_store::{Command, PutRequest, Store};

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

    /// All chunks, and how many pages they came from.
    fn chunks(state: &Snapshot, request: RangeRequest) -> (Vec<pb::RangeResponse>, usize) {
        let mut chunks = RangeChunks::new(state.clone(), request, RESPONDER, 10_000);
        let (mut given, mut pages) = (Vec::new(), 0);
        while !chunks.is_over() {
            chunks.read_page().expect("the revision is there");
            pages += 1;
            while let Some(chunk) = chunks.next() {
                given.extend(chunk.range_response);
            }
        }
        (given, pages)
    }

    #[test]
    fn the_chunks_put_together_are_the_range() {
        let state = state(1_000);
        for limit in [0, 1, 9, 10, 11, 500, 999, 1_000, 1_001] {
            let request = RangeRequest { limit, ..all() };
            let whole = RESPONDER.range(state.range(&request).expect("a range"));
            let (given, _) = chunks(&state, request);
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
        let (given, _) = chunks(&state(1_000), all());
        assert_eq!(given[0].kvs.len(), FIRST_CHUNK_KEYS);
        assert!(given.iter().all(|chunk| chunk.kvs.len() <= 160), "twice what fits at the most");
        assert!(given.len() < 20);
    }

    #[test]
    fn a_range_of_several_pages_is_whole() {
        let keys = PAGE_KEYS as u64 + 100;
        let (given, pages) = chunks(&state(keys), RangeRequest { keys_only: true, ..all() });
        assert_eq!(pages, 2);
        assert_eq!(given.iter().map(|chunk| chunk.kvs.len() as u64).sum::<u64>(), keys);
        assert_eq!(given.last().map(|last| last.count), Some(keys as i64));
    }

    #[test]
    fn a_count_and_a_range_of_nothing_are_one_chunk() {
        let (given, _) = chunks(&state(30), RangeRequest { count_only: true, ..all() });
        assert_eq!((given.len(), given[0].count, given[0].kvs.len()), (1, 30, 0));
        let (given, _) = chunks(&state(30), RangeRequest { key: "x".into(), ..RangeRequest::default() });
        assert_eq!((given.len(), given[0].count, given[0].more), (1, 0, false));
        assert!(given[0].header.is_some());
    }

    #[test]
    fn a_revision_that_is_not_there_is_an_error_of_the_first_page() {
        let request = RangeRequest { revision: 100, ..all() };
        let mut chunks = RangeChunks::new(state(3), request, RESPONDER, 10_000);
        assert_eq!(chunks.read_page(), Err(Rejection::FutureRevision));
    }
}

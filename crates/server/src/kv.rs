//! The KV service. Each call is four steps: check, ask, map the error, fill in the header.

use bytes::Bytes;
use prost::Message;
use tenure_api::pb::etcdserverpb as pb;
use tenure_api::pb::etcdserverpb::kv_server::Kv;
use tenure_api::{ApiError, Responder, check_range_stream};
use tenure_store::{
    Command, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, Rejection, RequestOp, Snapshot,
    TxnRequest,
};
use tonic::codegen::tokio_stream;
use tonic::{Request, Response, Status};

use crate::handle::{Executed, Handle};

/// The KV service.
#[derive(Clone)]
pub(crate) struct KvService {
    pub(crate) handle: Handle,
}

/// Above the limit of a request, this much is let in and answered with etcd's own error.
const TRANSPORT_SLACK_BYTES: usize = 512 << 10;
/// A range that may walk over more keys than this is read on a thread of its own. A limit does not help: all
/// keys of a range are counted.
const MAX_INLINE_KEYS: usize = 1024;

impl KvService {
    /// What etcd's transport checks, before anybody looks at the request. Returns its size.
    fn receive(&self, request: &impl Message) -> Result<usize, Status> {
        let size_bytes = request.encoded_len();
        let transport_bytes = self.handle.shared.max_request_bytes + TRANSPORT_SLACK_BYTES;
        if size_bytes <= transport_bytes {
            return Ok(size_bytes);
        }
        let message = format!("grpc: received message larger than max ({size_bytes} vs. {transport_bytes})");
        Err(Status::resource_exhausted(message))
    }

    /// Checks a write of that size, has it executed, and gives back what came of it.
    async fn execute(
        &self,
        command: Command,
        size_bytes: usize,
    ) -> Result<(tenure_store::Response, Header), Status> {
        tenure_store::check(&command, &self.handle.shared.limits).map_err(ApiError::from)?;
        if size_bytes > self.handle.shared.max_request_bytes {
            return Err(ApiError::RequestTooLarge.into());
        }
        let Executed { result, revision, responder } = self.handle.write(command).await?;
        let response = result.map_err(ApiError::from)?;
        Ok((response, Header { revision, responder }))
    }

    /// The state that a read may be done on.
    async fn state(&self, is_serializable: bool) -> Result<(Snapshot, Responder), ApiError> {
        if is_serializable {
            let (state, status) = self.handle.state().await?;
            Ok((state, self.handle.responder(status.raft.hard_state.current_term.0)))
        } else {
            self.handle.read().await
        }
    }
}

/// What stands in the header of an answer to a write.
struct Header {
    revision: i64,
    responder: Responder,
}

#[tonic::async_trait]
impl Kv for KvService {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        self.handle.admit(&request)?;
        let request = request.into_inner();
        self.receive(&request)?;
        let is_serializable = request.serializable;
        let request = RangeRequest::from(request);
        tenure_store::check_range(&request).map_err(ApiError::from)?;
        let (state, responder) = self.state(is_serializable).await?;
        // In the past there may be any number of keys that are gone by now.
        let is_small =
            request.range_end.is_empty() || (state.key_count() <= MAX_INLINE_KEYS && request.revision <= 0);
        let response = off_thread(is_small, move || state.range(&request)).await?;
        Ok(Response::new(responder.range(response)))
    }

    type RangeStreamStream = tokio_stream::Iter<RangeChunks>;

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        self.handle.admit(&request)?;
        let request = request.into_inner();
        self.receive(&request)?;
        let is_serializable = request.serializable;
        let request = RangeRequest::from(request);
        check_range_stream(&request)?;
        let (state, responder) = self.state(is_serializable).await?;
        let max_chunk_bytes = self.handle.shared.max_request_bytes;
        let chunks = RangeChunks::new(state, request, responder, max_chunk_bytes)?;
        Ok(Response::new(tokio_stream::iter(chunks)))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        self.handle.admit(&request)?;
        let request = request.into_inner();
        let size_bytes = self.receive(&request)?;
        let (response, header) = self.execute(Command::Put(PutRequest::from(request)), size_bytes).await?;
        let tenure_store::Response::Put(response) = response else { return Err(wrong_answer()) };
        Ok(Response::new(header.responder.put(response)))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        self.handle.admit(&request)?;
        let request = request.into_inner();
        let size_bytes = self.receive(&request)?;
        let command = Command::DeleteRange(DeleteRangeRequest::from(request));
        let (response, header) = self.execute(command, size_bytes).await?;
        let tenure_store::Response::DeleteRange(response) = response else { return Err(wrong_answer()) };
        Ok(Response::new(header.responder.delete_range(response)))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        self.handle.admit(&request)?;
        let request = request.into_inner();
        let size_bytes = self.receive(&request)?;
        let request = TxnRequest::from(request);
        if request.is_read_only() {
            return self.read_txn(request).await;
        }
        let (response, header) = self.execute(Command::Txn(request), size_bytes).await?;
        let tenure_store::Response::Txn(response) = response else { return Err(wrong_answer()) };
        Ok(Response::new(header.responder.txn(response)))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        self.handle.admit(&request)?;
        let (_, header) = self.execute(Command::from(request.into_inner()), 0).await?;
        Ok(Response::new(header.responder.compaction(header.revision)))
    }
}

impl KvService {
    /// A transaction that only reads does not go through the log.
    async fn read_txn(&self, request: TxnRequest) -> Result<Response<pb::TxnResponse>, Status> {
        tenure_store::check_txn(&request, &self.handle.shared.limits).map_err(ApiError::from)?;
        let (state, responder) = self.state(request.is_serializable()).await?;
        let ranges = request.success.iter().chain(&request.failure);
        let is_small = ranges.into_iter().all(|operation| match operation {
            RequestOp::Range(range) => range.range_end.is_empty(),
            _ => false,
        });
        let response = off_thread(is_small, move || state.read_txn(&request)).await?;
        Ok(Response::new(responder.txn(response)))
    }
}

/// A read of many keys must not hold up the heartbeats.
async fn off_thread<T: Send + 'static>(
    is_small: bool,
    read: impl FnOnce() -> Result<T, Rejection> + Send + 'static,
) -> Result<T, ApiError> {
    if is_small {
        return read().map_err(ApiError::from);
    }
    // The runtime stops only with the member.
    let result = tokio::task::spawn_blocking(read).await.map_err(|_| ApiError::Stopped)?;
    result.map_err(ApiError::from)
}

fn wrong_answer() -> Status {
    Status::internal("the store answered another request")
}

/// A range in pieces, all of the same revision. The last one has the header, the count and `more`.
pub(crate) struct RangeChunks {
    state: Snapshot,
    /// What is left: from the next key on.
    request: RangeRequest,
    /// How many keys the client still wants; negative for all.
    left: i64,
    count: i64,
    responder: Responder,
    chunk_keys: i64,
    max_chunk_bytes: usize,
    is_over: bool,
}

/// As etcd: ten keys first, then as many as make a chunk of about the largest request.
const FIRST_CHUNK_KEYS: i64 = 10;

impl RangeChunks {
    fn new(
        state: Snapshot,
        mut request: RangeRequest,
        responder: Responder,
        max_chunk_bytes: usize,
    ) -> Result<RangeChunks, ApiError> {
        if request.revision <= 0 {
            request.revision = state.revision();
        }
        let counting = RangeRequest { count_only: true, ..request.clone() };
        let count = state.range(&counting)?.count;
        let left = if request.limit > 0 { request.limit } else { -1 };
        let chunk_keys = FIRST_CHUNK_KEYS;
        Ok(RangeChunks {
            state,
            request,
            left,
            count,
            responder,
            chunk_keys,
            max_chunk_bytes,
            is_over: false,
        })
    }

    fn next_chunk(&mut self) -> Result<pb::RangeStreamResponse, ApiError> {
        let wanted = if self.left < 0 { self.chunk_keys } else { self.chunk_keys.min(self.left) };
        self.request.limit = wanted;
        let mut response = self.state.range(&self.request)?;
        let taken = response.kvs.len() as i64;
        self.left -= if self.left < 0 { 0 } else { taken };
        let is_last = self.request.count_only || !response.more || self.left == 0;
        let has_more = response.more;
        if let (false, Some(last)) = (is_last, response.kvs.last()) {
            // The next key in order is the last one with a zero byte.
            let mut next = last.key.to_vec();
            next.push(0);
            self.request.key = Bytes::from(next);
        }
        self.adapt(&response);
        self.is_over = is_last;
        response.more = is_last && has_more;
        response.count = if is_last { self.count } else { 0 };
        let mut range_response = self.responder.range(response);
        if !is_last {
            range_response.header = None;
        }
        Ok(pb::RangeStreamResponse { range_response: Some(range_response) })
    }

    fn adapt(&mut self, response: &RangeResponse) {
        let bytes: usize = response.kvs.iter().map(|pair| pair.key.len() + pair.value.len()).sum();
        if bytes < self.max_chunk_bytes / 2 {
            self.chunk_keys = self.chunk_keys.saturating_mul(2);
        } else if bytes > self.max_chunk_bytes {
            self.chunk_keys = (self.chunk_keys / 2).max(1);
        }
    }
}

impl Iterator for RangeChunks {
    type Item = Result<pb::RangeStreamResponse, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let chunk = self.next_chunk();
        self.is_over |= chunk.is_err();
        Some(chunk.map_err(Status::from))
    }
}

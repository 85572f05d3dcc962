//! The KV service. Each call is four steps: check, ask, map the error, fill in the header.

use prost::Message;
use tenure_api::pb::etcdserverpb as pb;
use tenure_api::pb::etcdserverpb::kv_server::Kv;
use tenure_api::{ApiError, Responder, check_range_stream};
use tenure_store::{
    Command, DeleteRangeRequest, PutRequest, RangeRequest, Rejection, RequestOp, Snapshot, TxnRequest,
};
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::handle::{Executed, Handle};
use crate::range_chunks::RangeChunks;

/// The KV service.
#[derive(Clone)]
pub(crate) struct KvService {
    pub(crate) handle: Handle,
}

/// A range that may walk over more keys than this is read on a thread of its own. A limit does not help: all
/// keys of a range are counted.
const MAX_INLINE_KEYS: usize = 1024;

impl KvService {
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
        if request.get_ref().serializable {
            self.handle.admit_at_learner(&request)?;
        } else {
            self.handle.admit(&request)?;
        }
        let request = request.into_inner();
        let is_serializable = request.serializable;
        let request = RangeRequest::from(request);
        tenure_store::check_range(&request).map_err(ApiError::from)?;
        let (state, responder) = self.state(is_serializable).await?;
        let is_small = is_small_range(&state, &request);
        let response = off_thread(is_small, move || state.range(&request)).await?;
        Ok(Response::new(responder.range(response)))
    }

    type RangeStreamStream = ReceiverStream<Result<pb::RangeStreamResponse, Status>>;

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        self.handle.admit(&request)?;
        let request = request.into_inner();
        let is_serializable = request.serializable;
        let request = RangeRequest::from(request);
        check_range_stream(&request)?;
        let (state, responder) = self.state(is_serializable).await?;
        let is_small = is_small_range(&state, &request);
        let mut chunks = RangeChunks::new(state, request, responder, self.handle.shared.max_request_bytes);
        let read_on =
            move |mut chunks: RangeChunks| off_thread(is_small, move || chunks.read_page().map(|()| chunks));
        // What is wrong with the request shows at once, as an error of the call.
        chunks = read_on(chunks).await?;
        let (sender, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                while let Some(chunk) = chunks.next() {
                    if sender.send(Ok(chunk)).await.is_err() {
                        return;
                    }
                }
                if chunks.is_over() {
                    return;
                }
                match read_on(chunks).await {
                    Ok(read) => chunks = read,
                    Err(error) => {
                        // Whoever asked may be gone.
                        let _ = sender.send(Err(error.into())).await;
                        return;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        self.handle.admit(&request)?;
        let request = request.into_inner();
        let size_bytes = request.encoded_len();
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
        let size_bytes = request.encoded_len();
        let command = Command::DeleteRange(DeleteRangeRequest::from(request));
        let (response, header) = self.execute(command, size_bytes).await?;
        let tenure_store::Response::DeleteRange(response) = response else { return Err(wrong_answer()) };
        Ok(Response::new(header.responder.delete_range(response)))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        self.handle.admit(&request)?;
        let request = request.into_inner();
        let size_bytes = request.encoded_len();
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

fn is_small_range(state: &Snapshot, request: &RangeRequest) -> bool {
    // In the past there may be any number of keys that are gone by now.
    request.range_end.is_empty() || (state.key_count() <= MAX_INLINE_KEYS && request.revision <= 0)
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

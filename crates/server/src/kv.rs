//! The KV service. Each call is four steps: check, ask, map the error, fill in the header.

use prost::Message;
use tenure_api::pb::etcdserverpb as pb;
use tenure_api::pb::etcdserverpb::kv_server::Kv;
use tenure_api::pieces::TooLong;
use tenure_api::{ApiError, Pieces, Responder, check_range_stream};
use tenure_store::{Budget, Command, DeleteRangeRequest, PutRequest, RangeRequest, Snapshot, TxnRequest};
use tonic::{Request, Response, Status};

use crate::handle::{Executed, Handle};
use crate::heavy::Turn;
use crate::large::Large;
use crate::range_chunks::{ChunkStream, RangeChunks};

/// The KV service.
#[derive(Clone)]
pub(crate) struct KvService {
    pub(crate) handle: Handle,
}

/// What is read and sent at once. What takes more waits for its turn, is read on a thread for heavy reads, and goes out
/// in pieces. A limit of the request does not help: all keys of a range are counted.
const AT_ONCE: Budget = Budget { keys: 1024, bytes: 256 << 10 };

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
        if let Some(selection) = state.select_within(&request, AT_ONCE).map_err(ApiError::from)? {
            return Ok(Response::new(responder.selection(selection)));
        }
        // In a box: there are many of the small ones at a time, and they need not have room for this.
        Box::pin(self.range_at_length(request, is_serializable, state, responder)).await
    }

    type RangeStreamStream = ChunkStream;

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        self.handle.admit(&request)?;
        let request = request.into_inner();
        let is_serializable = request.serializable;
        let request = RangeRequest::from(request);
        check_range_stream(&request)?;
        let max_chunk_bytes = self.handle.shared.max_request_bytes;
        let heavy = &self.handle.shared.heavy;
        let (state, responder) = self.state(is_serializable).await?;
        // What is wrong with the request shows at once, as an error of the call.
        if let Some(selection) = state.select_within(&request, AT_ONCE).map_err(ApiError::from)? {
            let chunks = RangeChunks::new(selection, responder, max_chunk_bytes);
            return Ok(Response::new(chunks.send(heavy, None)));
        }
        let Turns { read, answer, state, responder } = self.turns(is_serializable, state, responder).await?;
        let selection = heavy.run(move || {
            let (_read, state) = (read, state);
            state.select(&request).map_err(ApiError::from)
        });
        let selection = selection.await.map_err(|_| ApiError::Stopped)??;
        let chunks = RangeChunks::new(selection, responder, max_chunk_bytes);
        Ok(Response::new(chunks.send(heavy, Some(answer))))
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
        if response.size_bytes() <= AT_ONCE.bytes {
            return Ok(Response::new(header.responder.delete_range(response)));
        }
        Box::pin(self.answer_at_length(move || Pieces::delete_range(header.responder, response))).await
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
        if response.size_bytes() <= AT_ONCE.bytes {
            return Ok(Response::new(header.responder.txn(response)));
        }
        Box::pin(self.answer_at_length(move || Pieces::txn(header.responder, response))).await
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
        let is_serializable = request.is_serializable();
        let (state, responder) = self.state(is_serializable).await?;
        let response = state.read_txn_lazily(&request, AT_ONCE.keys).map_err(ApiError::from)?;
        if let Some(response) = response.filter(|response| response.size_bytes() <= AT_ONCE.bytes) {
            return Ok(Response::new(responder.txn(response)));
        }
        Box::pin(self.read_txn_at_length(request, state, responder)).await
    }

    /// A range that takes much.
    async fn range_at_length(
        &self,
        request: RangeRequest,
        is_serializable: bool,
        state: Snapshot,
        responder: Responder,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        let heavy = &self.handle.shared.heavy;
        let Turns { read, answer, state, responder } = self.turns(is_serializable, state, responder).await?;
        let pieces = heavy.run(move || {
            let (_read, selection) = (read, state.select(&request).map_err(ApiError::from)?);
            Pieces::range(responder, selection).map_err(too_long)
        });
        let pieces = pieces.await.map_err(|_| ApiError::Stopped)??;
        Ok(Large::new(heavy, pieces, answer).respond())
    }

    /// A transaction that reads, and compares or shows much.
    async fn read_txn_at_length(
        &self,
        request: TxnRequest,
        state: Snapshot,
        responder: Responder,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        let heavy = &self.handle.shared.heavy;
        let is_serializable = request.is_serializable();
        let Turns { read, answer, state, responder } = self.turns(is_serializable, state, responder).await?;
        let pieces = heavy.run(move || {
            let (_read, response) =
                (read, state.read_txn_lazily(&request, usize::MAX).map_err(ApiError::from)?);
            let response = response.expect("without a limit nothing is given up");
            Pieces::txn(responder, response).map_err(too_long)
        });
        let pieces = pieces.await.map_err(|_| ApiError::Stopped)??;
        Ok(Large::new(heavy, pieces, answer).respond())
    }

    /// Waits for the turns to read much and to send a large answer. Whoever waits holds nothing: the state is asked for
    /// again.
    async fn turns(
        &self,
        is_serializable: bool,
        state: Snapshot,
        responder: Responder,
    ) -> Result<Turns, ApiError> {
        let heavy = &self.handle.shared.heavy;
        if let Some(answer) = heavy.free_turn_to_answer()
            && let Some(read) = heavy.free_turn_to_read()
        {
            return Ok(Turns { read, answer, state, responder });
        }
        heavy.discard(state);
        let (answer, read) = (heavy.turn_to_answer().await?, heavy.turn_to_read().await?);
        let (state, responder) = self.state(is_serializable).await?;
        Ok(Turns { read, answer, state, responder })
    }

    /// Gives the large answer to what was executed.
    async fn answer_at_length<T: Default>(
        &self,
        pieces: impl FnOnce() -> Result<Pieces, TooLong> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let heavy = &self.handle.shared.heavy;
        let (read, answer) = heavy.turns_for_a_write().await?;
        let pieces = heavy.run(move || {
            let (_read, pieces) = (read, pieces());
            pieces
        });
        let pieces = pieces.await.map_err(|_| ApiError::Stopped)?.map_err(too_long)?;
        Ok(Large::new(heavy, pieces, answer).respond())
    }
}

/// What a heavy read needs: whose turn it is, and what is read.
struct Turns {
    read: Turn,
    answer: Turn,
    state: Snapshot,
    responder: Responder,
}

/// gRPC's own error at etcd, which sends no longer messages either.
fn too_long(error: TooLong) -> Status {
    Status::resource_exhausted(format!("grpc: {error}"))
}

fn wrong_answer() -> Status {
    Status::internal("the store answered another request")
}

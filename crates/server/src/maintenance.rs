//! The Maintenance service: status, hashes, moving the leader.

use std::time::Duration;

use tenure_api::ApiError;
use tenure_api::pb::etcdserverpb as pb;
use tenure_api::pb::etcdserverpb::maintenance_server::Maintenance;
use tenure_raft::{NodeId, TransferError};
use tonic::codegen::tokio_stream;
use tonic::{Request, Response, Status};

use crate::handle::Handle;
use crate::version::{API_VERSION, STORAGE_VERSION};

/// What etcd reports when no quota is set.
const DEFAULT_QUOTA_BYTES: i64 = 2 << 30;
/// etcd's text for a member without a leader.
const NO_LEADER: &str = "etcdserver: no leader";

/// The Maintenance service.
#[derive(Clone)]
pub(crate) struct MaintenanceService {
    pub(crate) handle: Handle,
    /// After this a transfer has failed: the leader has called it off.
    pub(crate) transfer_timeout: Duration,
}

fn not_yet(what: &str) -> Status {
    Status::unimplemented(format!("{what} is not supported yet"))
}

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        self.handle.admit_at_learner(&request)?;
        let (state, status) = self.handle.state().await?;
        let raft_term = status.raft.hard_state.current_term.0;
        // A size of nothing does not occur at etcd: its etcdctl divides by it.
        let size_bytes = status.store_bytes.max(1) as i64;
        let mut errors =
            if status.raft.leader_id.is_none() { vec![NO_LEADER.to_owned()] } else { Vec::new() };
        // etcd's text, which is that of a message of protobuf in Go.
        errors.extend(status.short.iter().map(|id| format!("memberID:{}  alarm:NOSPACE", id.as_u64())));
        Ok(Response::new(pb::StatusResponse {
            header: Some(self.handle.responder(raft_term).header(state.revision())),
            version: API_VERSION.to_owned(),
            db_size: size_bytes,
            db_size_in_use: size_bytes,
            leader: status.raft.leader_id.map_or(0, NodeId::as_u64),
            raft_index: status.raft.commit_index.0,
            raft_term,
            raft_applied_index: status.raft.last_applied.0,
            errors,
            // As the list of the members has it. (What is served goes by the configuration in force.)
            is_learner: !status.configuration.is_voter(self.handle.shared.identity.member_id),
            storage_version: STORAGE_VERSION.to_owned(),
            db_size_quota: DEFAULT_QUOTA_BYTES,
            downgrade_info: Some(pb::DowngradeInfo::default()),
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        self.handle.admit(&request)?;
        let revision = request.get_ref().revision;
        // Whoever waits holds no state.
        let heavy = &self.handle.shared.heavy;
        let turn = heavy.turn_to_hash().await?;
        let (state, status) = self.handle.state().await?;
        let responder = self.handle.responder(status.raft.hard_state.current_term.0);
        let store_revision = state.revision();
        if let Some(hash) = self.handle.shared.compaction_hashes.at(revision).await {
            return Ok(Response::new(responder.hash_kv(store_revision, hash)));
        }
        let hash = heavy.run(move || {
            let (_turn, state) = (turn, state);
            state.hash_kv(revision)
        });
        let hash = hash.await.map_err(|_| ApiError::Stopped)?.map_err(ApiError::from)?;
        Ok(Response::new(responder.hash_kv(store_revision, hash)))
    }

    /// etcd hashes its file, for tests only; here it is the state, equal on all members at equal applied
    /// index.
    async fn hash(&self, request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        self.handle.admit(&request)?;
        let (state, _) = self.handle.state().await?;
        let header = Some(self.handle.responder_now().header(state.revision()));
        Ok(Response::new(pb::HashResponse { header, hash: state.state_hash().0 as u32 }))
    }

    /// There is nothing to defragment.
    async fn defragment(
        &self,
        request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        self.handle.admit(&request)?;
        Ok(Response::new(pb::DefragmentResponse { header: None }))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        self.handle.admit(&request)?;
        let mut leadership = self.handle.shared.leadership.clone();
        if !leadership.borrow().is_leader {
            return Err(ApiError::NotLeader.into());
        }
        let target = NodeId::new(request.get_ref().target_id).ok_or(ApiError::BadLeaderTransferee)?;
        match self.handle.transfer(Some(target)).await? {
            Ok(()) => {}
            Err(TransferError::NotLeader { .. }) => return Err(ApiError::NotLeader.into()),
            Err(TransferError::NotAVoter { .. }) => return Err(ApiError::BadLeaderTransferee.into()),
        }
        let moved = leadership.wait_for(|leadership| leadership.leader_id == Some(target));
        match tokio::time::timeout(self.transfer_timeout, moved).await {
            Ok(Ok(_)) => Ok(Response::new(pb::MoveLeaderResponse { header: None })),
            Ok(Err(_)) => Err(ApiError::Stopped.into()),
            Err(_) => Err(ApiError::TimeoutLeaderTransfer.into()),
        }
    }

    /// The one alarm says whose disk is short of room. It comes and goes with that: nobody raises it or takes it back.
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        self.handle.admit(&request)?;
        if request.get_ref().action() == pb::alarm_request::AlarmAction::Activate {
            return Err(not_yet("raising an alarm"));
        }
        let (state, status) = self.handle.state().await?;
        let header = Some(self.handle.responder_now().header(state.revision()));
        let request = request.get_ref();
        let is_listed = request.action() == pb::alarm_request::AlarmAction::Get
            && matches!(request.alarm(), pb::AlarmType::None | pb::AlarmType::Nospace);
        let short = status.short.iter().filter(|_| is_listed);
        let alarms = short
            .map(|id| pb::AlarmMember { member_id: id.as_u64(), alarm: pb::AlarmType::Nospace.into() })
            .collect();
        Ok(Response::new(pb::AlarmResponse { header, alarms }))
    }

    type SnapshotStream = tokio_stream::Empty<Result<pb::SnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        _: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(not_yet("saving a snapshot"))
    }

    async fn downgrade(
        &self,
        _: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        Err(not_yet("downgrading"))
    }
}

//! How the services reach the core: one message there, one answer back.

use std::collections::BTreeMap;
use std::sync::Arc;

use tenure_api::error::refused_change;
use tenure_api::{ApiError, Responder};
use tenure_raft::{NodeId, TransferError};
use tenure_replica::{Identity, MemberChange, ReplicaStatus, Reply};
use tenure_store::{Command, Limits, Member, Rejection, Response, Snapshot};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Request, Status};

use crate::compaction_hashes::CompactionHashes;
use crate::core::Leadership;
use crate::heavy::Heavy;
use crate::input::Asked;
use crate::metrics::Metrics;

/// What every service needs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    requests: mpsc::Sender<Asked>,
}

/// What does not change, and what everyone may look at.
pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) limits: Limits,
    pub(crate) max_request_bytes: usize,
    /// The members that were known at the start.
    pub(crate) first_members: BTreeMap<u64, Member>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) metrics: Metrics,
    pub(crate) heavy: Arc<Heavy>,
    pub(crate) compaction_hashes: Arc<CompactionHashes>,
}

/// A write that was executed.
pub(crate) struct Executed {
    pub(crate) result: Result<Response, Rejection>,
    pub(crate) revision: i64,
    pub(crate) responder: Responder,
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>, requests: mpsc::Sender<Asked>) -> Handle {
        Handle { shared, requests }
    }

    /// Has the cluster execute a command.
    pub(crate) async fn write(&self, command: Command) -> Result<Executed, ApiError> {
        match self.ask(|reply| Asked::Write { command, reply }).await? {
            Reply::Applied { result, revision, raft_term } => {
                Ok(Executed { result, revision, responder: self.responder(raft_term) })
            }
            Reply::Failed(failure) => Err(failure.into()),
            Reply::Read { .. } | Reply::Changed { .. } | Reply::Refused(_) => {
                panic!("a write is answered as a write")
            }
        }
    }

    /// A state that has everything that was done before this call.
    pub(crate) async fn read(&self) -> Result<(Snapshot, Responder), ApiError> {
        match self.ask(|reply| Asked::Read { reply }).await? {
            Reply::Read { state, raft_term } => Ok((state, self.responder(raft_term))),
            Reply::Failed(failure) => Err(failure.into()),
            Reply::Applied { .. } | Reply::Changed { .. } | Reply::Refused(_) => {
                panic!("a read is answered as a read")
            }
        }
    }

    /// Has the cluster change its members.
    pub(crate) async fn change_members(
        &self,
        change: MemberChange,
        force: bool,
    ) -> Result<Responder, Status> {
        match self.ask(|reply| Asked::ChangeMembers { change, force, reply }).await? {
            Reply::Changed { raft_term } => Ok(self.responder(raft_term)),
            Reply::Refused(why) => Err(refused_change(&why)),
            Reply::Failed(failure) => Err(ApiError::from(failure).into()),
            Reply::Applied { .. } | Reply::Read { .. } => panic!("a change is answered as a change"),
        }
    }

    /// This member's state as it is, and where it stands.
    pub(crate) async fn state(&self) -> Result<(Snapshot, ReplicaStatus), ApiError> {
        self.ask(|reply| Asked::State { reply }).await
    }

    /// Begins to hand leadership over.
    pub(crate) async fn transfer(
        &self,
        target: Option<NodeId>,
    ) -> Result<Result<(), TransferError>, ApiError> {
        self.ask(|reply| Asked::Transfer { target, reply }).await
    }

    /// Headers of answers at a term.
    pub(crate) fn responder(&self, raft_term: u64) -> Responder {
        let Identity { cluster_id, member_id, .. } = self.shared.identity;
        Responder { cluster_id, member_id: member_id.as_u64(), raft_term }
    }

    /// Headers of answers now.
    pub(crate) fn responder_now(&self) -> Responder {
        let raft_term = self.shared.leadership.borrow().raft_term;
        self.responder(raft_term)
    }

    /// What etcd checks before every call: that this member is no learner, that the client's metadata can be
    /// read, and that there is a leader if it wants one.
    pub(crate) fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        if self.shared.leadership.borrow().is_learner {
            return Err(ApiError::NotSupportedForLearner.into());
        }
        self.admit_at_learner(request)
    }

    /// The same for the few calls that a learner answers, too.
    pub(crate) fn admit_at_learner<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let metadata = request.metadata();
        if let Some(version) = metadata.get("client-api-version")
            && std::str::from_utf8(version.as_bytes()).is_err()
        {
            return Err(ApiError::InvalidClientApiVersion.into());
        }
        let wants_leader = metadata.get("hasleader").is_some_and(|value| value.as_bytes() == b"true");
        if wants_leader && self.shared.leadership.borrow().leader_id.is_none() {
            return Err(ApiError::NoLeader.into());
        }
        Ok(())
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Asked) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| ApiError::Stopped)?;
        answer.await.map_err(|_| ApiError::Stopped)
    }
}

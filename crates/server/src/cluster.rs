//! The members as clients see them: those the cluster began with, and what each has published since.

use std::collections::BTreeMap;

use tenure_api::pb::etcdserverpb as pb;
use tenure_api::pb::etcdserverpb::cluster_server::Cluster;
use tenure_raft::NodeId;
use tenure_store::{Member, Snapshot};
use tonic::{Request, Response, Status};

use crate::config::Config;
use crate::handle::Handle;
use crate::url::Url;

/// The members that the cluster began with.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    first: BTreeMap<u64, Member>,
}

impl Members {
    pub(crate) fn new(config: &Config) -> Members {
        let first = config.first_members().into_iter().map(|(id, name)| {
            let peer_urls = config.initial_cluster[&name].iter().map(Url::to_string).collect();
            let id = id.as_u64();
            let client_urls = Vec::new();
            let member = Member { id, directory_id: None, name, peer_urls, client_urls, is_learner: false };
            (id, member)
        });
        Members { first: first.collect() }
    }

    /// All members, by id.
    pub(crate) fn list(&self, state: &Snapshot) -> Vec<Member> {
        let mut members = self.first.clone();
        members.extend(state.members().map(|member| (member.id, member.clone())));
        members.into_values().collect()
    }
}

/// What this member publishes of itself.
pub(crate) fn own_member(config: &Config, id: NodeId, directory_id: u64) -> Member {
    let texts = |urls: &[Url]| urls.iter().map(Url::to_string).collect();
    Member {
        id: id.as_u64(),
        directory_id: Some(directory_id),
        name: config.name.clone(),
        peer_urls: texts(&config.initial_advertise_peer_urls),
        client_urls: texts(&config.advertise_client_urls),
        is_learner: false,
    }
}

/// The Cluster service.
#[derive(Clone)]
pub(crate) struct ClusterService {
    pub(crate) handle: Handle,
}

fn not_yet() -> Status {
    Status::unimplemented("changing the members is not supported yet")
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        self.handle.admit(&request)?;
        let (state, responder) = if request.get_ref().linearizable {
            self.handle.read().await?
        } else {
            let (state, status) = self.handle.state().await?;
            (state, self.handle.responder(status.raft.hard_state.current_term.0))
        };
        let members = self.handle.shared.members.list(&state);
        Ok(Response::new(responder.member_list(&members)))
    }

    async fn member_add(
        &self,
        _: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        Err(not_yet())
    }

    async fn member_remove(
        &self,
        _: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        Err(not_yet())
    }

    async fn member_update(
        &self,
        _: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        Err(not_yet())
    }

    async fn member_promote(
        &self,
        _: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        Err(not_yet())
    }
}

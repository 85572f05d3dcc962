//! The members as clients see them, and the requests to change them.
//!
//! The configuration says who is a member and who votes; names and addresses are in the state, or, as long as
//! nobody has written them there, in the flags.

use std::collections::BTreeMap;

use tenure_api::pb::etcdserverpb as pb;
use tenure_api::pb::etcdserverpb::cluster_server::Cluster;
use tenure_api::{ApiError, response};
use tenure_raft::{Configuration, Learner, NodeId};
use tenure_replica::{MemberChange, ReplicaStatus};
use tenure_store::{Member, Snapshot};
use tonic::{Request, Response, Status};

use crate::config::Config;
use crate::handle::Handle;
use crate::url::Url;

/// All members of a configuration, by id, with what is known of each.
fn list(first: &BTreeMap<u64, Member>, configuration: &Configuration, state: &Snapshot) -> Vec<pb::Member> {
    let known: BTreeMap<u64, &Member> = state.members().map(|member| (member.id, member)).collect();
    let member = |id: NodeId| {
        let told = first.get(&id.as_u64());
        let mut member = known.get(&id.as_u64()).copied().or(told).cloned().unwrap_or_default();
        member.id = id.as_u64();
        // Who has not started yet is known by the name that it will have.
        if let Some(told) = told.filter(|_| member.name.is_empty()) {
            member.name.clone_from(&told.name);
        }
        response::member(&member, !configuration.is_voter(id))
    };
    configuration.members().map(member).collect()
}

/// What this member publishes of itself.
pub(crate) fn own_member(config: &Config, id: NodeId, directory_id: u64, peer_urls: Vec<String>) -> Member {
    Member {
        id: id.as_u64(),
        directory_id: Some(directory_id),
        name: config.name.clone(),
        peer_urls,
        client_urls: config.advertise_client_urls.iter().map(Url::to_string).collect(),
    }
}

/// The Cluster service.
#[derive(Clone)]
pub(crate) struct ClusterService {
    pub(crate) handle: Handle,
}

/// Our own words to a request that etcd's has no field for, in its metadata.
const FORCE: &str = "tenure-force";
const VOTES: &str = "tenure-votes";
const REPLACES: &str = "tenure-replaces";

/// What the metadata of a change says.
struct Extras {
    force: bool,
    votes: Option<u32>,
    replaces: Option<NodeId>,
}

impl Extras {
    fn of<T>(request: &Request<T>) -> Result<Extras, Status> {
        let text = |name| request.metadata().get(name).map(|value| value.to_str().unwrap_or_default());
        let invalid = |name, what| Status::invalid_argument(format!("{name} must be {what}"));
        let votes = text(VOTES).map(|votes| votes.parse().ok().filter(|&votes| votes > 0));
        let replaces = text(REPLACES).map(|id| u64::from_str_radix(id, 16).ok().and_then(NodeId::new));
        Ok(Extras {
            force: text(FORCE) == Some("true"),
            votes: votes.map(|votes| votes.ok_or_else(|| invalid(VOTES, "a number of votes"))).transpose()?,
            replaces: replaces
                .map(|id| id.ok_or_else(|| invalid(REPLACES, "a member's id in hexadecimal digits")))
                .transpose()?,
        })
    }
}

/// Checked and sorted, as etcd does.
fn peer_urls(texts: &[String]) -> Result<Vec<String>, ApiError> {
    let urls = texts.iter().map(|text| text.parse::<Url>()).collect::<Result<Vec<_>, _>>();
    let urls = urls.ok().filter(|urls| !urls.is_empty()).ok_or(ApiError::MemberBadUrls)?;
    let mut texts: Vec<String> = urls.iter().map(Url::to_string).collect();
    texts.sort();
    Ok(texts)
}

fn node_id(id: u64) -> Result<NodeId, ApiError> {
    NodeId::new(id).ok_or(ApiError::MemberNotFound)
}

impl ClusterService {
    async fn change(
        &self,
        change: MemberChange,
        force: bool,
    ) -> Result<(pb::ResponseHeader, Vec<pb::Member>), Status> {
        let responder = self.handle.change_members(change, force).await?;
        let (state, status) = self.handle.state().await?;
        Ok((responder.cluster_header(), self.members(&state, &status)))
    }

    fn members(&self, state: &Snapshot, status: &ReplicaStatus) -> Vec<pb::Member> {
        list(&self.handle.shared.first_members, &status.configuration, state)
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        self.handle.admit(&request)?;
        if request.get_ref().linearizable {
            self.handle.read().await?;
        }
        let (state, status) = self.handle.state().await?;
        let responder = self.handle.responder(status.raft.hard_state.current_term.0);
        Ok(Response::new(responder.member_list(self.members(&state, &status))))
    }

    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        self.handle.admit(&request)?;
        let Extras { force, votes, .. } = Extras::of(&request)?;
        let pb::MemberAddRequest { peer_urls: texts, is_learner } = request.into_inner();
        let peer_urls = peer_urls(&texts)?;
        // As good as never used before: etcd hashes the time for it.
        let id = node_id(getrandom::u64().map_err(|error| Status::internal(error.to_string()))?)?;
        let learner = if is_learner { Learner::Waits } else { Learner::Joins { votes: votes.unwrap_or(1) } };
        let change = MemberChange::Add { id, peer_urls: peer_urls.clone(), learner };
        let (header, members) = self.change(change, force).await?;
        let member = pb::Member { id: id.as_u64(), peer_urls, is_learner, ..pb::Member::default() };
        Ok(Response::new(pb::MemberAddResponse { header: Some(header), member: Some(member), members }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        self.handle.admit(&request)?;
        let Extras { force, .. } = Extras::of(&request)?;
        let id = node_id(request.get_ref().id)?;
        let (header, members) = self.change(MemberChange::Remove { id }, force).await?;
        Ok(Response::new(pb::MemberRemoveResponse { header: Some(header), members }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        self.handle.admit(&request)?;
        let pb::MemberUpdateRequest { id, peer_urls: texts } = request.into_inner();
        // etcd takes any text here; who is reached nowhere is lost to the others.
        let change = MemberChange::Update { id: node_id(id)?, peer_urls: peer_urls(&texts)? };
        let (header, members) = self.change(change, false).await?;
        Ok(Response::new(pb::MemberUpdateResponse { header: Some(header), members }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        self.handle.admit(&request)?;
        let Extras { force, votes, replaces } = Extras::of(&request)?;
        let change = MemberChange::Promote { id: node_id(request.get_ref().id)?, votes, replaces };
        let (header, members) = self.change(change, force).await?;
        Ok(Response::new(pb::MemberPromoteResponse { header: Some(header), members }))
    }
}

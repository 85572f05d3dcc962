//! `status`, `members`, `hash`: questions to each endpoint, or to the cluster as a whole.

use tenure_api::pb::etcdserverpb::cluster_client::ClusterClient;
use tenure_api::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use tenure_api::pb::etcdserverpb::{
    HashKvRequest, HashKvResponse, MemberListRequest, MemberListResponse, StatusRequest, StatusResponse,
};

use super::connection::{self, Kind};
use super::operations::Consistency;
use super::options::Options;
use super::output::ClusterPrinter;
use super::{Failure, exit, print};

/// Arguments of `status`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct StatusArguments {
    /// Ask all members of the cluster instead of the endpoints
    #[arg(long)]
    cluster: bool,
}

/// Arguments of `hash`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct HashArguments {
    /// Ask all members of the cluster instead of the endpoints
    #[arg(long)]
    cluster: bool,
    /// Hash the history up to this revision; 0 for all of it
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    rev: i64,
}

/// Arguments of `members`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct MembersArguments {
    /// Read what the cluster agreed on (l), or what the endpoint has, which may be old (s)
    #[arg(long, value_name = "l|s", default_value = "l")]
    consistency: Consistency,
}

/// What one endpoint answered.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) endpoint: String,
    pub(crate) response: T,
}

/// `tenure status`.
pub(crate) async fn status(options: &Options, arguments: &StatusArguments) -> Result<(), Failure> {
    let printer = ClusterPrinter::new(options);
    let mut answers: Vec<Answer<StatusResponse>> = Vec::new();
    let mut last_error = None;
    for endpoint in endpoints(options, arguments.cluster).await? {
        let call = async |channel| MaintenanceClient::new(channel).status(StatusRequest {}).await;
        match connection::request_of(options, &endpoint, call).await {
            Ok(response) => answers.push(Answer { endpoint, response: response.into_inner() }),
            Err(error) => {
                eprintln!("Failed to get the status of endpoint {endpoint} ({error})");
                last_error = Some(error);
            }
        }
    }
    print(&printer.status(&answers))?;
    // Each failure has had its line.
    last_error.map_or(Ok(()), |_| Err(Failure::silent(exit::ERROR)))
}

/// `tenure hash`.
pub(crate) async fn hash(options: &Options, arguments: &HashArguments) -> Result<(), Failure> {
    let printer = ClusterPrinter::new(options);
    let mut answers: Vec<Answer<HashKvResponse>> = Vec::new();
    let mut last_error = None;
    for endpoint in endpoints(options, arguments.cluster).await? {
        let request = HashKvRequest { revision: arguments.rev };
        let call = async |channel| MaintenanceClient::new(channel).hash_kv(request).await;
        match connection::request_of(options, &endpoint, call).await {
            Ok(response) => answers.push(Answer { endpoint, response: response.into_inner() }),
            Err(error) => {
                eprintln!("Failed to get the hash of endpoint {endpoint} ({error})");
                last_error = Some(error);
            }
        }
    }
    print(&printer.hash(&answers))?;
    last_error.map_or(Ok(()), |error| Err(Failure::new(exit::ERROR, error)))
}

/// `tenure members`.
pub(crate) async fn members(options: &Options, arguments: &MembersArguments) -> Result<(), Failure> {
    let printer = ClusterPrinter::new(options);
    let linearizable = arguments.consistency == Consistency::Linearizable;
    print(&printer.members(&member_list(options, linearizable).await?))
}

async fn member_list(options: &Options, linearizable: bool) -> Result<MemberListResponse, Failure> {
    let request = MemberListRequest { linearizable };
    let call = async |channel| ClusterClient::new(channel).member_list(request).await;
    Ok(connection::request(options, Kind::Read, call).await?.into_inner())
}

/// Whom to ask: the endpoints, or with `--cluster` the client addresses of all members.
async fn endpoints(options: &Options, of_cluster: bool) -> Result<Vec<String>, Failure> {
    if !of_cluster {
        return Ok(options.endpoints.clone());
    }
    let members = member_list(options, true).await?.members;
    Ok(members.into_iter().flat_map(|member| member.client_urls).collect())
}

//! `status`, `members`, `hash`: questions to each endpoint, or to the cluster as a whole.

use std::time::{Duration, Instant};

use tenure_api::ApiError;
use tenure_api::pb::etcdserverpb::cluster_client::ClusterClient;
use tenure_api::pb::etcdserverpb::kv_client::KvClient;
use tenure_api::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use tenure_api::pb::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, HashKvRequest, HashKvResponse, MemberListRequest,
    MemberListResponse, RangeRequest, StatusRequest, StatusResponse,
};
use tokio::task::LocalSet;

use super::connection::{self, Kind};
use super::operations::Consistency;
use super::options::Options;
use super::output::{EndpointPrinter, MembersPrinter};
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

/// Arguments of `endpoint health`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct HealthArguments {
    /// Ask all members of the cluster instead of the endpoints
    #[arg(long)]
    cluster: bool,
}

/// How one endpoint is.
#[derive(Debug)]
pub(crate) struct Health {
    pub(crate) endpoint: String,
    /// How long it took to find out.
    pub(crate) took: Duration,
    /// What ails it.
    pub(crate) error: Option<String>,
}

/// What one endpoint answered.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) endpoint: String,
    pub(crate) response: T,
}

/// `tenure endpoint health`: all endpoints are asked at once, since one that is dead takes its time to say nothing.
pub(crate) async fn health(options: &Options, arguments: &HealthArguments) -> Result<(), Failure> {
    let printer = EndpointPrinter::new(options)?;
    let endpoints = endpoints(options, arguments.cluster).await?;
    let tasks = LocalSet::new();
    let ask = |endpoint| {
        let options = options.clone();
        tasks.spawn_local(async move { health_of(&options, endpoint).await })
    };
    let asked: Vec<_> = endpoints.into_iter().map(ask).collect();
    tasks.await;
    let mut answers = Vec::new();
    for answer in asked {
        answers.push(answer.await.map_err(|error| Failure::new(exit::ERROR, error.to_string()))?);
    }
    let (output, errors) = printer.health(&answers);
    print(&output)?;
    eprint!("{}", String::from_utf8_lossy(&errors));
    let is_well = answers.iter().all(|answer| answer.error.is_none());
    if is_well { Ok(()) } else { Err(Failure::new(exit::ERROR, "unhealthy cluster")) }
}

/// An endpoint is well if it can read what was written last, and no alarm is raised.
async fn health_of(options: &Options, endpoint: String) -> Health {
    let began = Instant::now();
    let range = RangeRequest { key: "health".into(), ..RangeRequest::default() };
    let read = async |channel| KvClient::new(channel).range(range.clone()).await;
    let mut error = connection::request_of(options, &endpoint, read).await.err();
    let took = began.elapsed();
    // Who may not read the key was told so by a cluster that agrees on it.
    error = error.filter(|error| *error != ApiError::PermissionDenied.to_string());
    if error.is_none() {
        let list = async |channel| MaintenanceClient::new(channel).alarm(AlarmRequest::default()).await;
        error = match connection::request_of(options, &endpoint, list).await {
            Err(_) => Some("Unable to fetch the alarm list".to_owned()),
            Ok(response) => of_alarms(&response.into_inner().alarms),
        };
    }
    Health { endpoint, took, error }
}

fn of_alarms(alarms: &[AlarmMember]) -> Option<String> {
    let name = |alarm: &AlarmMember| match alarm.alarm() {
        AlarmType::Nospace => "NOSPACE ",
        AlarmType::Corrupt => "CORRUPT ",
        AlarmType::None => "UNKNOWN ",
    };
    (!alarms.is_empty()).then(|| format!("Active Alarm(s): {}", alarms.iter().map(name).collect::<String>()))
}

/// `tenure status`.
pub(crate) async fn status(options: &Options, arguments: &StatusArguments) -> Result<(), Failure> {
    let printer = EndpointPrinter::new(options)?;
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
    let printer = EndpointPrinter::new(options)?;
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
    let printer = MembersPrinter::new(options);
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

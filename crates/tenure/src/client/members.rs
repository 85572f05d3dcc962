//! `member add|remove|update|promote|replace`, `move-leader`: who the members are, and who leads.
//!
//! What etcd's requests have no field for travels as metadata, which another server ignores.

use std::num::IntErrorKind;

use tenure_api::pb::etcdserverpb::cluster_client::ClusterClient;
use tenure_api::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use tenure_api::pb::etcdserverpb::{
    Member, MemberAddRequest, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest,
    MoveLeaderRequest, ResponseHeader, StatusRequest,
};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};

use super::connection::{self, Kind};
use super::options::Options;
use super::output::ChangePrinter;
use super::quote::quote;
use super::{Failure, exit, print};

/// Arguments of `member add`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AddArguments {
    /// The name that the new member will have
    name: String,
    /// Where the others will reach it, separated by commas
    #[arg(long, value_name = "URLS", value_delimiter = ',', required = true)]
    peer_urls: Vec<String>,
    /// Leave it a learner until `member promote`; otherwise it votes as soon as it has caught up
    #[arg(long)]
    learner: bool,
    /// How many votes it gets by itself
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "learner")]
    votes: Option<u32>,
}

/// Arguments of `member remove`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RemoveArguments {
    /// The member, as `member list` names it
    id: String,
    /// Even if those that answer would be no quorum any more
    #[arg(long)]
    force: bool,
}

/// Arguments of `member update`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct UpdateArguments {
    /// The member, as `member list` names it
    id: String,
    /// Where the others reach it now, separated by commas
    #[arg(long, value_name = "URLS", value_delimiter = ',', required = true)]
    peer_urls: Vec<String>,
}

/// Arguments of `member promote`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PromoteArguments {
    /// The learner, as `member list` names it
    id: String,
    /// How many votes it gets
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    votes: Option<u32>,
    /// Even if those that answer would be no quorum any more
    #[arg(long)]
    force: bool,
}

/// Arguments of `member replace`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ReplaceArguments {
    /// The voter that goes
    old: String,
    /// The learner that takes its place and its votes: added with `member add --learner`, started, and caught up
    new: String,
    /// Even if those that answer would be no quorum any more
    #[arg(long)]
    force: bool,
}

/// Arguments of `move-leader`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct MoveLeaderArguments {
    /// The member that is to lead, as `member list` names it
    id: String,
}

/// A member's id, as etcdctl wants and refuses it.
fn parse_id(text: &str) -> Result<u64, Failure> {
    // Rust would take a sign.
    let digits = if text.starts_with('+') { "" } else { text };
    u64::from_str_radix(digits, 16).map_err(|error| {
        let why = match error.kind() {
            IntErrorKind::PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        let why = format!("strconv.ParseUint: parsing {}: {why}", quote(text.as_bytes()));
        Failure::new(exit::BAD_ARGUMENTS, format!("bad member ID arg ({why}), expecting ID in Hex"))
    })
}

/// A request with what etcd has no field for.
fn with_metadata<T>(message: T, extras: &[(&'static str, Option<String>)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in extras {
        let value = value.as_deref().and_then(|value| value.parse::<MetadataValue<Ascii>>().ok());
        if let Some(value) = value {
            request.metadata_mut().insert(*name, value);
        }
    }
    request
}

fn forced(force: bool) -> (&'static str, Option<String>) {
    ("tenure-force", force.then(|| "true".to_owned()))
}

fn votes(votes: Option<u32>) -> (&'static str, Option<String>) {
    ("tenure-votes", votes.map(|votes| votes.to_string()))
}

/// `tenure member add`.
pub(crate) async fn add(options: &Options, arguments: &AddArguments) -> Result<(), Failure> {
    let printer = ChangePrinter::new(options)?;
    let AddArguments { name, peer_urls, learner, .. } = arguments;
    let call = async |channel| {
        let message = MemberAddRequest { peer_urls: peer_urls.clone(), is_learner: *learner };
        ClusterClient::new(channel).member_add(with_metadata(message, &[votes(arguments.votes)])).await
    };
    let response = connection::request(options, Kind::Write, call).await?.into_inner();
    let added = response.member.clone().unwrap_or_default();
    let what = if added.is_learner { "added as learner to" } else { "added to" };
    let mut output = printer.change(what, added.id, response.header, Some(&added), &response.members);
    if printer.is_simple() {
        output.extend(environment(name, &added, &response.members, &peer_urls.join(",")));
    }
    print(&output)
}

/// What the new member is to be started with.
fn environment(name: &str, added: &Member, members: &[Member], peer_urls: &str) -> Vec<u8> {
    let addresses = members.iter().flat_map(|member| {
        let name = if member.id == added.id { name } else { &member.name };
        member.peer_urls.iter().map(move |url| format!("{name}={url}"))
    });
    let cluster = addresses.collect::<Vec<_>>().join(",");
    let [name, cluster, peer_urls] = [name, &cluster, peer_urls].map(|text| quote(text.as_bytes()));
    format!(
        "\nETCD_NAME={name}\nETCD_INITIAL_CLUSTER={cluster}\nETCD_INITIAL_ADVERTISE_PEER_URLS={peer_urls}\n\
         ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n"
    )
    .into_bytes()
}

/// `tenure member remove`.
pub(crate) async fn remove(options: &Options, arguments: &RemoveArguments) -> Result<(), Failure> {
    let printer = ChangePrinter::new(options)?;
    let (id, force) = (parse_id(&arguments.id)?, arguments.force);
    let call = async |channel| {
        let request = with_metadata(MemberRemoveRequest { id }, &[forced(force)]);
        ClusterClient::new(channel).member_remove(request).await
    };
    let response = connection::request(options, Kind::Write, call).await?.into_inner();
    done(printer, "removed from", id, response.header, &response.members)
}

/// `tenure member update`.
pub(crate) async fn update(options: &Options, arguments: &UpdateArguments) -> Result<(), Failure> {
    let printer = ChangePrinter::new(options)?;
    let (id, peer_urls) = (parse_id(&arguments.id)?, &arguments.peer_urls);
    let call = async |channel| {
        let request = MemberUpdateRequest { id, peer_urls: peer_urls.clone() };
        ClusterClient::new(channel).member_update(request).await
    };
    let response = connection::request(options, Kind::Write, call).await?.into_inner();
    done(printer, "updated in", id, response.header, &response.members)
}

/// `tenure member promote`.
pub(crate) async fn promote(options: &Options, arguments: &PromoteArguments) -> Result<(), Failure> {
    let (id, force) = (parse_id(&arguments.id)?, arguments.force);
    promote_with(options, id, "promoted in", &[forced(force), votes(arguments.votes)]).await
}

/// `tenure member replace`.
pub(crate) async fn replace(options: &Options, arguments: &ReplaceArguments) -> Result<(), Failure> {
    let (old, new, force) = (parse_id(&arguments.old)?, parse_id(&arguments.new)?, arguments.force);
    let extras = [forced(force), ("tenure-replaces", Some(format!("{old:x}")))];
    promote_with(options, new, &format!("has taken the place of {old:x} in"), &extras).await
}

async fn promote_with(
    options: &Options,
    id: u64,
    what: &str,
    extras: &[(&'static str, Option<String>)],
) -> Result<(), Failure> {
    let printer = ChangePrinter::new(options)?;
    let call = async |channel| {
        let request = with_metadata(MemberPromoteRequest { id }, extras);
        ClusterClient::new(channel).member_promote(request).await
    };
    let response = connection::request(options, Kind::Write, call).await?.into_inner();
    done(printer, what, id, response.header, &response.members)
}

fn done(
    printer: ChangePrinter,
    what: &str,
    id: u64,
    header: Option<ResponseHeader>,
    members: &[Member],
) -> Result<(), Failure> {
    print(&printer.change(what, id, header, None, members))
}

/// `tenure move-leader`.
pub(crate) async fn move_leader(options: &Options, arguments: &MoveLeaderArguments) -> Result<(), Failure> {
    let printer = ChangePrinter::new(options)?;
    let target_id = parse_id(&arguments.id)?;
    for endpoint in &options.endpoints {
        let call = async |channel| MaintenanceClient::new(channel).status(StatusRequest {}).await;
        let Ok(status) = connection::request_of(options, endpoint, call).await else { continue };
        let status = status.into_inner();
        let leader = status.leader;
        if status.header.unwrap_or_default().member_id != leader {
            continue;
        }
        let request = MoveLeaderRequest { target_id };
        let call = async |channel| MaintenanceClient::new(channel).move_leader(request).await;
        let moved = connection::request_of(options, endpoint, call).await;
        moved.map_err(|error| Failure::new(exit::ERROR, error))?;
        return print(&printer.moved_leader(leader, target_id));
    }
    let message = format!("no leader endpoint given at [{}]", options.endpoints.join(" "));
    Err(Failure::new(exit::BAD_ARGUMENTS, message))
}

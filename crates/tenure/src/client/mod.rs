//! The client commands: `put get del txn compact status members hash member move-leader`, with etcdctl's arguments, output and
//! exit codes.
//!
//! They talk to any server of the etcd v3 API. What they do differently from etcdctl: an endpoint that nobody
//! listens on is named at once instead of after the command's timeout, and errors say what to do next.
//! Not here yet: TLS, users and passwords, leases, watches, locks.

pub(crate) mod arguments;
mod cluster;
mod connection;
pub(crate) mod duration;
mod kv;
mod members;
mod operations;
pub(crate) mod options;
pub(crate) mod output;
mod quote;
mod txn;

use std::fmt;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use options::Options;

use crate::stdout;

/// The exit codes of etcdctl.
pub(crate) mod exit {
    pub(crate) const SUCCESS: u8 = 0;
    /// The command failed.
    pub(crate) const ERROR: u8 = 1;
    /// The transaction on standard input cannot be read.
    pub(crate) const INVALID_INPUT: u8 = 3;
    /// A known option with a value that is not supported.
    pub(crate) const BAD_FEATURE: u8 = 4;
    /// Arguments that do not go together.
    pub(crate) const BAD_ARGUMENTS: u8 = 128;
}

/// The commands, in the order of the help.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Put a key
    Put(WithOptions<operations::PutArguments>),
    /// Get a key or a range of keys
    Get(WithOptions<operations::GetArguments>),
    /// Delete a key or a range of keys
    Del(WithOptions<operations::DelArguments>),
    /// Do several requests as one transaction
    Txn(WithOptions<txn::TxnArguments>),
    /// Drop the history below a revision
    #[command(alias = "compaction")]
    Compact(WithOptions<kv::CompactArguments>),
    /// Show how each endpoint is: who leads, term, index, size
    Status(WithOptions<cluster::StatusArguments>),
    /// List the members of the cluster
    Members(WithOptions<cluster::MembersArguments>),
    /// Hash each endpoint's keys and their history, to compare them
    Hash(WithOptions<cluster::HashArguments>),
    /// Ask each endpoint how it is
    #[command(subcommand)]
    Endpoint(EndpointCommand),
    /// Change the members of the cluster
    #[command(subcommand)]
    Member(MemberCommand),
    /// Have another member lead
    MoveLeader(WithOptions<members::MoveLeaderArguments>),
}

/// `endpoint health`, `endpoint status`, `endpoint hashkv`.
#[derive(Debug, Subcommand)]
pub(crate) enum EndpointCommand {
    /// Whether each endpoint can read what was written last, and no alarm is raised
    Health(WithOptions<cluster::HealthArguments>),
    /// The same as `tenure status`
    Status(WithOptions<cluster::StatusArguments>),
    /// The same as `tenure hash`
    #[command(name = "hashkv")]
    Hash(WithOptions<cluster::HashArguments>),
}

/// `member list|add|remove|update|promote|replace`.
#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// The same as `tenure members`
    List(WithOptions<cluster::MembersArguments>),
    /// Add a member, which joins when it is started with what this prints
    Add(WithOptions<members::AddArguments>),
    /// Remove a member, for good
    Remove(WithOptions<members::RemoveArguments>),
    /// Tell the cluster where a member is reached now
    Update(WithOptions<members::UpdateArguments>),
    /// Give a learner that has caught up a vote
    Promote(WithOptions<members::PromoteArguments>),
    /// Put a learner that has caught up in the place of a voter, in one step
    Replace(WithOptions<members::ReplaceArguments>),
}

/// A command's own arguments, and the options that all client commands have.
#[derive(Debug, Args)]
pub(crate) struct WithOptions<A: Args> {
    #[command(flatten)]
    pub(crate) arguments: A,
    #[command(flatten)]
    pub(crate) options: Options,
}

/// Why a command failed, and with what to exit.
#[derive(Debug)]
pub(crate) struct Failure {
    exit_code: u8,
    message: Option<String>,
}

impl Failure {
    fn new(exit_code: u8, message: impl Into<String>) -> Self {
        Self { exit_code, message: Some(message.into()) }
    }

    /// For a failure that has been told already.
    fn silent(exit_code: u8) -> Self {
        Self { exit_code, message: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message.as_ref().map_or(Ok(()), |message| write!(f, "Error: {message}"))
    }
}

/// Does the command: output to standard output, errors to standard error.
pub(crate) fn main(command: ClientCommand) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::new(exit::ERROR, format!("cannot start: {error}"))),
    };
    match runtime.block_on(run(command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    if failure.message.is_some() {
        eprintln!("{failure}");
    }
    ExitCode::from(failure.exit_code)
}

async fn run(command: ClientCommand) -> Result<(), Failure> {
    match command {
        ClientCommand::Put(put) => kv::put(&put.options, put.arguments).await,
        ClientCommand::Get(get) => kv::get(&get.options, get.arguments).await,
        ClientCommand::Del(del) => kv::del(&del.options, del.arguments).await,
        ClientCommand::Txn(txn) => txn::txn(&txn.options, &txn.arguments).await,
        ClientCommand::Compact(compact) => kv::compact(&compact.options, &compact.arguments).await,
        ClientCommand::Status(status) | ClientCommand::Endpoint(EndpointCommand::Status(status)) => {
            cluster::status(&status.options, &status.arguments).await
        }
        ClientCommand::Endpoint(EndpointCommand::Health(health)) => {
            cluster::health(&health.options, &health.arguments).await
        }
        ClientCommand::Members(members) | ClientCommand::Member(MemberCommand::List(members)) => {
            cluster::members(&members.options, &members.arguments).await
        }
        ClientCommand::Member(MemberCommand::Add(add)) => members::add(&add.options, &add.arguments).await,
        ClientCommand::Member(MemberCommand::Remove(remove)) => {
            members::remove(&remove.options, &remove.arguments).await
        }
        ClientCommand::Member(MemberCommand::Update(update)) => {
            members::update(&update.options, &update.arguments).await
        }
        ClientCommand::Member(MemberCommand::Promote(promote)) => {
            members::promote(&promote.options, &promote.arguments).await
        }
        ClientCommand::Member(MemberCommand::Replace(replace)) => {
            members::replace(&replace.options, &replace.arguments).await
        }
        ClientCommand::MoveLeader(moved) => members::move_leader(&moved.options, &moved.arguments).await,
        ClientCommand::Hash(hash) | ClientCommand::Endpoint(EndpointCommand::Hash(hash)) => {
            cluster::hash(&hash.options, &hash.arguments).await
        }
    }
}

/// Writes a command's output in one go.
fn print(output: &[u8]) -> Result<(), Failure> {
    let cannot = |error| Failure::new(exit::ERROR, format!("cannot write the output: {error}"));
    stdout::write(output).map_err(cannot)
}

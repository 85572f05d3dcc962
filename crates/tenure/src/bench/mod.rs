//! The load generator: `tenure bench put`, `get`, and `cluster`, which compares whole clusters.
//!
//! It speaks the etcd v3 API, so it measures any server of it. A closed loop: each client sends its next
//! request when the last one was answered, so that the rate is what the servers bear, and a latency says how
//! long a caller waits at that rate. (It cannot say how long one waits at a rate chosen from outside.)
//!
//! It shares the machine with the servers, so it has to be cheap: one thread, HTTP/2 without the layers of a
//! gRPC library, requests encoded straight into the frame. What it takes itself is measured and shown.
//!
//! Not here: TLS, watches, leases, transactions, an open loop.

mod cluster;
mod connection;
mod cpu;
mod load;
mod report;
mod workload;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use self::cluster::ClusterArguments;
use self::load::{Load, Measurement};
use self::workload::Operation;
use crate::stdout::tell;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Put random keys of a key space, again and again
    Put(PutArguments),
    /// Get random keys of a key space, after putting them all
    Get(GetArguments),
    /// Compare clusters of three members on this machine: this program, and etcd beside it
    Cluster(ClusterArguments),
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For a person
    Table,
    /// For a program
    Json,
}

/// The arguments of `bench put`.
#[derive(Debug, Args)]
pub(crate) struct PutArguments {
    #[command(flatten)]
    load: LoadArguments,
}

/// The arguments of `bench get`.
#[derive(Debug, Args)]
pub(crate) struct GetArguments {
    /// Let each member answer from what it has, which may be behind
    #[arg(long)]
    serializable: bool,
    #[command(flatten)]
    load: LoadArguments,
}

/// What all loads have.
#[derive(Debug, Args)]
pub(crate) struct LoadArguments {
    /// The servers, separated by commas; clients are spread over all of them
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',', default_value = "127.0.0.1:2379")]
    endpoints: Vec<String>,
    /// How many clients, each with one request under way
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    clients: u32,
    /// How many connections they share, or take in turn if they are fewer; one for each endpoint unless
    /// said otherwise
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: Option<u32>,
    /// The size of a value
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    value_bytes: u32,
    /// How many different keys
    #[arg(long, value_name = "KEYS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    key_space: u32,
    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// How long to run before that, uncounted
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    warm_up_seconds: u32,
    /// The servers' process ids on this machine, to measure their CPU time
    #[arg(long, value_name = "PIDS", value_delimiter = ',')]
    pids: Vec<u32>,
    /// How to print the result
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    write_out: OutputFormat,
}

impl LoadArguments {
    fn load(&self, operation: Operation) -> Load {
        let endpoints: Vec<String> =
            self.endpoints.iter().map(|endpoint| endpoint.trim().to_owned()).collect();
        Load {
            operation,
            clients: self.clients as usize,
            connections: self.connections.map_or(endpoints.len(), |connections| connections as usize),
            endpoints,
            value_bytes: self.value_bytes as usize,
            key_space: self.key_space,
            warm_up: Duration::from_secs(self.warm_up_seconds.into()),
            duration: Duration::from_secs(self.seconds.into()),
            pids: self.pids.clone(),
        }
    }
}

/// Does the command on a runtime of its own: one thread, whatever the machine has.
pub(crate) fn main(command: BenchCommand) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    let done = tokio::task::LocalSet::new().block_on(&runtime, run(command));
    done.map_or_else(|message| fail(&message), |()| ExitCode::SUCCESS)
}

fn fail(message: &str) -> ExitCode {
    eprintln!("Error: {message}");
    ExitCode::FAILURE
}

async fn run(command: BenchCommand) -> Result<(), String> {
    match command {
        BenchCommand::Put(PutArguments { load }) => single(&load, Operation::Put).await,
        BenchCommand::Get(GetArguments { serializable, load }) => {
            load::fill(&load.load(Operation::Put)).await?;
            single(&load, Operation::Get { serializable }).await
        }
        BenchCommand::Cluster(arguments) => cluster::main(&arguments).await,
    }
}

async fn single(arguments: &LoadArguments, operation: Operation) -> Result<(), String> {
    let load = arguments.load(operation);
    let measurement: Measurement = load::run(&load).await?;
    match arguments.write_out {
        OutputFormat::Table => tell(report::text(&load, &measurement).trim_end()),
        OutputFormat::Json => tell(&report::json(&load, &measurement).to_string()),
    }
    if measurement.latency_us.is_empty() { Err("no request was answered".to_owned()) } else { Ok(()) }
}

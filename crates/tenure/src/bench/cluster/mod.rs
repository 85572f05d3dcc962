//! `tenure bench cluster`: clusters of three members on this machine, ours and etcd's in turn, under the
//! same loads and the same blows, so that what is compared was measured in one run.
//!
//! Everything is on loopback, in fresh folders of one disk. Every process that was started is stopped at the
//! end, also after an error or Ctrl-C.

mod compare;
mod gap;
mod members;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use self::compare::{Plan, Results};
use self::members::{Cluster, System};
use super::OutputFormat;
use crate::stdout::tell;

/// The arguments of `bench cluster`.
#[derive(Debug, Args)]
pub(crate) struct ClusterArguments {
    /// An etcd server to compare with; without it only Tenure is measured
    #[arg(long, value_name = "PATH")]
    etcd_binary: Option<PathBuf>,
    /// The Tenure to measure; this program unless said otherwise
    #[arg(long, value_name = "PATH")]
    tenure_binary: Option<PathBuf>,
    /// How often each system is started and measured, in turn
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each load is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// How long each load runs before that, uncounted
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    warm_up_seconds: u32,
    /// How many connections the clients share, spread over the members
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// How often the leader is struck in each way, each time a system is measured
    #[arg(long, value_name = "N", default_value_t = 3)]
    gaps: u32,
    /// Where the members keep their data, in a new folder that is removed at the end
    #[arg(long, value_name = "FOLDER", default_value = "tenure-bench")]
    data: PathBuf,
    /// The first of six ports on loopback
    #[arg(long, value_name = "PORT", default_value_t = 25_400, value_parser = clap::value_parser!(u16).range(20_001..65_500))]
    base_port: u16,
    /// How to print the result
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    write_out: OutputFormat,
}

impl ClusterArguments {
    fn plan(&self) -> Result<Plan, String> {
        let own = || std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"));
        let tenure = self.tenure_binary.clone().map_or_else(own, Ok)?;
        // Better now than when the first system has been measured for minutes.
        for binary in [Some(&tenure), self.etcd_binary.as_ref()].into_iter().flatten() {
            if !binary.is_file() {
                return Err(format!("there is no program at {}", binary.display()));
            }
        }
        let etcd = self.etcd_binary.clone().map(System::Etcd);
        Ok(Plan {
            systems: [Some(System::Tenure(tenure)), etcd].into_iter().flatten().collect(),
            rounds: self.rounds,
            seconds: self.seconds,
            warm_up_seconds: self.warm_up_seconds,
            connections: self.connections as usize,
            gaps: self.gaps,
            base_port: self.base_port,
        })
    }
}

/// Measures and prints.
pub(crate) async fn main(arguments: &ClusterArguments) -> Result<(), String> {
    let plan = arguments.plan()?;
    let folder = arguments.data.join(format!("run-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    let mut running = None;
    let mut results = Results::default();
    let done = tokio::select! {
        done = compare::run(&plan, &folder, &mut running, &mut results) => done,
        interrupted = interrupted() => Err(interrupted),
    };
    // What compare started is ours to stop, however it ended.
    if let Some(cluster) = running.take() {
        Cluster::kill(cluster).await;
    }
    match &done {
        Ok(()) => remove(&arguments.data, &folder),
        Err(_) => eprintln!("the members' logs are in {}", folder.display()),
    }
    match arguments.write_out {
        OutputFormat::Table => tell(table::text(&results).trim_end()),
        OutputFormat::Json => tell(&table::json(&results).to_string()),
    }
    done
}

/// Resolves when someone wants this to end.
async fn interrupted() -> String {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return "cannot listen for signals".to_owned();
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    "interrupted".to_owned()
}

/// The run's folder, and the one around it if nothing else is in it.
fn remove(data: &Path, folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder) {
        eprintln!("cannot remove {}: {error}", folder.display());
    }
    // It may hold what other runs left.
    let _ = fs::remove_dir(data);
}

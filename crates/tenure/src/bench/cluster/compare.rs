//! Measures the systems in turn: A B A B, each time in a fresh folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::super::load::{self, Load, Measurement};
use super::super::workload::Operation;
use super::gap::{self, Blow};
use super::members::{Cluster, MEMBERS, System};

/// The loads: what, and with how many clients.
pub(crate) const LOADS: [(&str, Operation, usize); 4] = [
    ("puts, 1 client", Operation::Put, 1),
    ("puts, 64 clients", Operation::Put, 64),
    ("puts, 256 clients", Operation::Put, 256),
    ("linearizable gets, 256 clients", Operation::Get { serializable: false }, 256),
];
const VALUE_BYTES: usize = 256;
const KEY_SPACE: u32 = 10_000;

/// What is measured, and for how long.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) systems: Vec<System>,
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
    pub(crate) warm_up_seconds: u32,
    pub(crate) connections: usize,
    pub(crate) gaps: u32,
    pub(crate) base_port: u16,
}

/// Everything that was measured, by system.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) systems: Vec<(&'static str, SystemResults)>,
}

/// What was measured of one system.
#[derive(Default)]
pub(crate) struct SystemResults {
    /// For each of [`LOADS`], one of each round.
    pub(crate) loads: [Vec<(Load, Measurement)>; LOADS.len()],
    /// In milliseconds, of all rounds.
    pub(crate) gaps_ms: BTreeMap<Blow, Vec<f64>>,
}

/// Runs the plan. `running` always holds the cluster that runs, so that the caller can stop it.
pub(crate) async fn run(
    plan: &Plan,
    folder: &Path,
    running: &mut Option<Cluster>,
    results: &mut Results,
) -> Result<(), String> {
    results.systems = plan.systems.iter().map(|system| (system.name(), SystemResults::default())).collect();
    for round in 0..plan.rounds {
        for (system, (name, results)) in plan.systems.iter().zip(&mut results.systems) {
            eprintln!("round {} of {}: {name}", round + 1, plan.rounds);
            let folder = folder.join(format!("{name}-{round}"));
            let cluster = running.insert(Cluster::start(system, &folder, plan.base_port)?);
            cluster.ready().await?;
            run_loads(plan, cluster, results).await?;
            run_gaps(plan, cluster, results).await?;
            if let Some(cluster) = running.take() {
                cluster.kill().await;
            }
        }
    }
    Ok(())
}

async fn run_loads(plan: &Plan, cluster: &Cluster, results: &mut SystemResults) -> Result<(), String> {
    for (slot, (name, operation, clients)) in results.loads.iter_mut().zip(LOADS) {
        let load = Load {
            operation,
            endpoints: cluster.endpoints(),
            clients,
            // A single client takes the members in turn.
            connections: plan.connections.min(clients.max(MEMBERS)),
            value_bytes: VALUE_BYTES,
            key_space: KEY_SPACE,
            warm_up: Duration::from_secs(plan.warm_up_seconds.into()),
            duration: Duration::from_secs(plan.seconds.into()),
            pids: cluster.pids(),
        };
        if matches!(operation, Operation::Get { .. }) {
            load::fill(&load).await?;
        }
        let measurement = load::run(&load).await?;
        eprintln!("  {name}: {:.0} /s", measurement.throughput());
        slot.push((load, measurement));
    }
    Ok(())
}

async fn run_gaps(plan: &Plan, cluster: &mut Cluster, results: &mut SystemResults) -> Result<(), String> {
    for _ in 0..plan.gaps {
        for blow in Blow::ALL {
            let gap_ms = gap::measure(cluster, blow).await?.as_secs_f64() * 1e3;
            eprintln!("  gap after {}: {gap_ms:.0} ms", blow.name());
            results.gaps_ms.entry(blow).or_default().push(gap_ms);
        }
    }
    Ok(())
}

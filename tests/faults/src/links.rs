//! Narrow links between three real members, and how soon who was away is level again.
//!
//! Each link carries so many bytes per second, whatever they are. What is measured is held against the ideal: the time in
//! which the link could carry what is missing, beside what is written meanwhile. (crates/raft/tests/links.rs does the same
//! with the core alone, where nothing else takes time.)

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::client::Client;
use crate::cluster::{Cluster, Settings};
use crate::disk::Disk;
use crate::network::Link;
use crate::program;

const USAGE: &str = "tests/faults/links [--rates MIB_PER_S,…] [--data DIR] [-- FLAGS OF SERVE]

  --rates N,…  links of so many MiB/s (1,10,100)
  --data DIR   where the members keep their data (a folder for temporary files)

TENURE names another binary than the one of this tree.";

const MEMBERS: usize = 3;
const START_BOUND: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;
/// How much one put of the load writes.
const PUT_BYTES: usize = 16 << 10;
/// So much of a link the load takes.
const LOAD: f64 = 0.4;
/// How long a follower is away.
const AWAY: Duration = Duration::from_secs(5);
/// As many puts behind, nobody is called late: they are on their way.
const ON_THE_WAY: u64 = 8;
/// A burst: so many puts at once, of so much each.
const BURST_PUTS: u64 = 512;
const BURST_BYTES: usize = 64 << 10;
/// What is measured may take so much longer than the ideal.
const TOLERANCE: f64 = 1.5;
/// And so much, for who looks and who wakes up.
const MOMENT: Duration = Duration::from_millis(500);
/// Beside what a put carries there are its key, its origin, frames.
const OVERHEAD: f64 = 1.1;
/// Nothing takes longer.
const GIVE_UP: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(20);

/// What the command line asks for.
struct Arguments {
    rates: Vec<u64>,
    data: PathBuf,
    flags: Vec<String>,
}

/// Runs it all.
pub(crate) fn main(words: impl Iterator<Item = String>) -> ExitCode {
    program::run(parse(words), USAGE, async |arguments| run(&arguments).await)
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { rates: vec![1, 10, 100], data: std::env::temp_dir(), flags: Vec::new() };
    while let Some(option) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{option} needs a value"));
        match option.as_str() {
            "--rates" => {
                let rate = |word: &str| crate::number(&option, word, 1..=10_000);
                arguments.rates = value()?.split(',').map(rate).collect::<Result<_, _>>()?;
            }
            "--data" => arguments.data = value()?.into(),
            "--" => {
                arguments.flags = words.collect();
                break;
            }
            _ => return Err(format!("there is no option {option}")),
        }
    }
    Ok(arguments)
}

async fn run(arguments: &Arguments) -> Result<bool, String> {
    println!("| link | what | ideal | took | carried of ideal | term | |");
    println!("|---|---|---|---|---|---|---|");
    let mut is_clean = true;
    for &rate in &arguments.rates {
        let play = async |folder: &Path| play(arguments, folder, rate * MIB).await;
        is_clean &= program::in_folder(&arguments.data, "links", play).await?;
    }
    println!("\n{}", if is_clean { "within half as much again as the ideal" } else { "NOT AS IT MUST BE" });
    Ok(is_clean)
}

/// Three members, and narrow links between all of them.
struct Scene {
    cluster: Cluster,
    clients: Vec<Client>,
    leader: usize,
    bytes_per_s: u64,
}

/// What came of a row.
struct Row {
    what: &'static str,
    ideal: Duration,
    took: Duration,
    ideal_bytes: u64,
    carried_bytes: u64,
    terms: (u64, u64),
}

impl Row {
    fn is_good(&self) -> bool {
        let is_in_time = self.took <= self.ideal.mul_f64(TOLERANCE) + MOMENT;
        // As much as a window may be on its way anyhow.
        let is_sent_once = self.carried_bytes as f64 <= self.ideal_bytes as f64 * OVERHEAD + 4.0 * MIB as f64;
        is_in_time && is_sent_once && self.terms.0 == self.terms.1
    }

    fn print(&self, rate: u64) {
        println!(
            "| {} MiB/s | {} | {:.2} s | {:.2} s | {:.2} | {} | {} |",
            rate / MIB,
            self.what,
            self.ideal.as_secs_f64(),
            self.took.as_secs_f64(),
            self.carried_bytes as f64 / self.ideal_bytes.max(1) as f64,
            if self.terms.0 == self.terms.1 { self.terms.0.to_string() } else { format!("{:?}", self.terms) },
            if self.is_good() { "" } else { "TOO MUCH" },
        );
    }
}

async fn play(arguments: &Arguments, folder: &Path, bytes_per_s: u64) -> Result<bool, String> {
    let mut scene = Scene::start(arguments, folder, bytes_per_s).await?;
    let mut is_clean = true;
    let away = scene.follower_away().await?;
    away.print(bytes_per_s);
    let burst = scene.burst().await?;
    burst.print(bytes_per_s);
    is_clean &= away.is_good() && burst.is_good();
    for member in &mut scene.cluster.members {
        if let Some(how) = member.ended().map_err(|error| error.to_string())? {
            println!("{} ended by itself, {how}:\n{}", member.name, member.log_tail());
            return Ok(false);
        }
    }
    Ok(is_clean)
}

impl Scene {
    async fn start(arguments: &Arguments, folder: &Path, bytes_per_s: u64) -> Result<Scene, String> {
        let disk =
            |number| Disk::folder(folder.join(format!("n{number}"))).map_err(|error| error.to_string());
        let disks = (1..=MEMBERS).map(disk).collect::<Result<_, _>>()?;
        let settings = Settings {
            binary: crate::binary(),
            folder: folder.to_owned(),
            // What is missing is sent as a log.
            snapshot_count: 1_000_000,
            snapshot_catchup_entries: 1_000_000,
            has_proxies: true,
            flags: arguments.flags.clone(),
        };
        let mut cluster = Cluster::new(settings, disks).map_err(|error| error.to_string())?;
        for at in 0..MEMBERS {
            cluster.start(at).map_err(|error| error.to_string())?;
        }
        let mut clients = Vec::new();
        for at in 0..MEMBERS {
            cluster.serves(at, START_BOUND).await?;
            let client = Client::connect(cluster.members[at].client_port, GIVE_UP).await;
            clients.push(client.ok_or("a member does not take connections")?);
        }
        for (from, to) in (0..MEMBERS).flat_map(|from| (0..MEMBERS).map(move |to| (from, to))) {
            cluster.network.set(from, to, Link::Narrow { bytes_per_s });
        }
        let leader = leader(&clients).await?;
        Ok(Scene { cluster, clients, leader, bytes_per_s })
    }

    fn follower(&self) -> usize {
        (self.leader + 1) % MEMBERS
    }

    async fn term(&self) -> Result<u64, String> {
        Ok(self.clients[self.leader].status().await.map_err(|status| status.to_string())?.raft_term)
    }

    /// A follower sleeps while the load goes on, and wakes up again.
    async fn follower_away(&mut self) -> Result<Row, String> {
        let before = self.term().await?;
        let follower = self.follower();
        let load = Load::start(&self.clients[self.leader], self.bytes_per_s as f64 * LOAD);
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.cluster.members[follower].signal(Signal::STOP);
        let (written, carried) =
            (load.written_bytes(), self.cluster.network.carried_bytes(self.leader, follower));
        tokio::time::sleep(AWAY).await;
        let missing = load.written_bytes() - written;
        // What the system has taken for who sleeps needs no time any more.
        let ahead = self.cluster.network.carried_bytes(self.leader, follower) - carried;
        let missing = missing.saturating_sub(ahead);
        let carried = carried + ahead;
        let woken = Instant::now();
        self.cluster.members[follower].signal(Signal::CONT);
        let written = load.written_bytes();
        self.await_level(woken).await?;
        let took = woken.elapsed();
        let meanwhile = load.written_bytes() - written;
        let carried_bytes = self.cluster.network.carried_bytes(self.leader, follower) - carried;
        load.end().await;
        let rest = self.bytes_per_s as f64 - meanwhile as f64 / took.as_secs_f64();
        Ok(Row {
            what: "a follower away for 5 s, at 40 % load",
            ideal: Duration::from_secs_f64(missing as f64 / rest.max(1.0)),
            took,
            ideal_bytes: missing + meanwhile,
            carried_bytes,
            terms: (before, self.term().await?),
        })
    }

    /// Until the follower has applied what the leader had committed a moment ago.
    async fn await_level(&self, since: Instant) -> Result<(), String> {
        let applied = async |at: usize| match self.clients[at].status().await {
            Ok(status) => Ok(status.raft_applied_index),
            Err(status) => Err(status.to_string()),
        };
        loop {
            let of_leader = applied(self.leader).await?;
            let of_follower = applied(self.follower()).await?;
            if of_leader <= of_follower + ON_THE_WAY {
                return Ok(());
            }
            if since.elapsed() > GIVE_UP {
                return Err(format!("at {of_follower} of {of_leader} after {GIVE_UP:?}"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Many large puts at once. Whatever becomes of them, a small one is answered as soon as the link has carried them.
    async fn burst(&mut self) -> Result<Row, String> {
        let before = self.term().await?;
        let client = &self.clients[self.leader];
        let carried = self.carried_by_leader();
        let written = Arc::new(AtomicU64::new(0));
        let started = Instant::now();
        let mut puts = JoinSet::new();
        for _ in 0..BURST_PUTS {
            let (client, written) = (client.clone(), written.clone());
            puts.spawn(async move {
                // Who is told "too many requests" has certainly not written.
                let is_certain = |status: &tonic::Status| status.code() == tonic::Code::ResourceExhausted;
                if !client.weigh_down(BURST_BYTES).await.is_err_and(|status| is_certain(&status)) {
                    written.fetch_add(BURST_BYTES as u64, Ordering::Relaxed);
                }
            });
        }
        while puts.join_next().await.is_some() {}
        // On a slow link the burst takes longer than a request may, and what waits behind it is told so.
        while let Err(status) = client.weigh_down(1).await {
            if started.elapsed() > GIVE_UP {
                return Err(format!("after the burst: {status}"));
            }
        }
        // The slower follower is not waited for, but it has the same link.
        self.await_level(started).await?;
        let took = started.elapsed();
        let ideal_bytes = written.load(Ordering::Relaxed);
        Ok(Row {
            what: "512 puts of 64 KiB at once",
            ideal: Duration::from_secs_f64(ideal_bytes as f64 / self.bytes_per_s as f64),
            took,
            ideal_bytes: ideal_bytes * (MEMBERS as u64 - 1),
            carried_bytes: self.carried_by_leader() - carried,
            terms: (before, self.term().await?),
        })
    }

    fn carried_by_leader(&self) -> u64 {
        (0..MEMBERS).map(|to| self.cluster.network.carried_bytes(self.leader, to)).sum()
    }
}

async fn leader(clients: &[Client]) -> Result<usize, String> {
    let mut ids = Vec::new();
    let mut leader_id = 0;
    for client in clients {
        let status = client.status().await.map_err(|status| status.to_string())?;
        ids.push(status.header.map_or(0, |header| header.member_id));
        leader_id = status.leader;
    }
    ids.iter().position(|&id| id == leader_id).ok_or_else(|| "nobody leads".to_owned())
}

/// Puts at a steady rate.
struct Load {
    written_bytes: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Load {
    fn start(client: &Client, bytes_per_s: f64) -> Load {
        let (written_bytes, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(PUT_BYTES as f64 / bytes_per_s));
        // Whatever the members do, so much is asked for.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut tasks = JoinSet::new();
        let (client, written, over) = (client.clone(), written_bytes.clone(), is_over.clone());
        tasks.spawn(async move {
            let mut puts = JoinSet::new();
            while !over.load(Ordering::Relaxed) {
                ticks.tick().await;
                let (client, written) = (client.clone(), written.clone());
                puts.spawn(async move {
                    if client.weigh_down(PUT_BYTES).await.is_ok() {
                        written.fetch_add(PUT_BYTES as u64, Ordering::Relaxed);
                    }
                });
                while puts.try_join_next().is_some() {}
            }
            while puts.join_next().await.is_some() {}
        });
        Load { written_bytes, is_over, tasks }
    }

    fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    async fn end(mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_long_is_sent_twice_or_costs_a_term_is_no_good() {
        let seconds = Duration::from_secs;
        let row = || Row {
            what: "",
            ideal: seconds(2),
            took: seconds(3),
            ideal_bytes: 100 * MIB,
            carried_bytes: 105 * MIB,
            terms: (2, 2),
        };
        assert!(row().is_good());
        assert!(!Row { took: seconds(4), ..row() }.is_good());
        assert!(!Row { carried_bytes: 200 * MIB, ..row() }.is_good());
        assert!(!Row { terms: (2, 3), ..row() }.is_good());
    }
}

//! A follower that is far behind, and how long it takes to be level again while clients go on writing.
//!
//! Twice for each size: first it has nothing, and is sent everything; then it stands still while a tenth of that is
//! written once more, and is sent what it lacks. Times depend on the machine; that it becomes level at all must not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tenure_api::pb::etcdserverpb::PutRequest;
use tenure_api::pb::etcdserverpb::kv_client::KvClient;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tonic::transport::{Channel, Endpoint};

use crate::address::url;
use crate::client::Client;
use crate::cluster::{Cluster, Settings};
use crate::disk::Disk;
use crate::network::Link;
use crate::program;

const USAGE: &str =
    "tests/faults/behind [--mb SIZES] [--rate N] [--delay MS] [--data DIR] [-- FLAGS OF SERVE]

  --mb SIZES   so many megabytes of state, several with commas between them (100,500,2000)
  --rate N     so many puts of 200 bytes a second while the follower catches up (5000)
  --delay MS   so long from one member to the next and back (0)
  --data DIR   where the members keep their data (a folder for temporary files)

TENURE names another binary than the one of this tree.";

const MEMBERS: usize = 3;
const START_BOUND: Duration = Duration::from_mins(1);
/// Who is not level by then never will be.
const LEVEL_BOUND: Duration = Duration::from_mins(5);
const LOOK: Duration = Duration::from_millis(50);
/// What the state is made of.
const VALUE_BYTES: u64 = 4_000;
/// What is put while the follower catches up.
const LOAD_VALUE_BYTES: usize = 200;
const FILLERS: u64 = 256;
const CONNECTIONS: usize = 8;
const PUT_TIMEOUT: Duration = Duration::from_secs(30);

struct Arguments {
    sizes_mb: Vec<u64>,
    rate: u64,
    delay: Duration,
    data: PathBuf,
    flags: Vec<String>,
}

/// Runs it all.
pub(crate) fn main(words: impl Iterator<Item = String>) -> ExitCode {
    program::run(parse(words), USAGE, async |arguments| run(&arguments).await)
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        sizes_mb: vec![100, 500, 2_000],
        rate: 5_000,
        delay: Duration::ZERO,
        data: std::env::temp_dir(),
        flags: Vec::new(),
    };
    while let Some(option) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{option} needs a value"));
        match option.as_str() {
            "--mb" => {
                let sizes = value()?;
                let size = |word| crate::number(&option, word, 1..=100_000);
                arguments.sizes_mb = sizes.split(',').map(size).collect::<Result<_, _>>()?;
            }
            "--rate" => arguments.rate = crate::number(&option, &value()?, 1..=1_000_000)?,
            "--delay" => {
                arguments.delay = Duration::from_millis(crate::number(&option, &value()?, 0..=10_000)?);
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
    println!("| state | lacks | level after | puts a second | leader MiB | follower MiB | snapshots |");
    println!("|---|---|---|---|---|---|---|");
    let mut is_clean = true;
    for &size_mb in &arguments.sizes_mb {
        let play = async |folder: &Path| play(arguments, size_mb, folder).await;
        is_clean &= program::in_folder(&arguments.data, "behind", play).await?;
    }
    Ok(is_clean)
}

async fn play(arguments: &Arguments, size_mb: u64, folder: &Path) -> Result<bool, String> {
    let mut cluster = start(arguments, folder).await?;
    // Two are enough to begin with; the third has never been there.
    let late = MEMBERS - 1;
    let leader = leader(&cluster, late).await?;
    let writer = Writer::connect(cluster.members[leader].client_port).await?;
    let entries = size_mb * 1_000_000 / VALUE_BYTES;
    writer.fill(entries, entries).await?;
    let load = writer.load(arguments.rate);
    cluster.start(late).map_err(|error| error.to_string())?;
    let row = Row { size_mb, leader, late };
    let mut is_clean = row.catch_up(&cluster, "everything", &load).await?;
    cluster.members[late].signal(Signal::STOP);
    writer.fill(entries / 10, entries).await?;
    cluster.members[late].signal(Signal::CONT);
    is_clean &= row.catch_up(&cluster, "a tenth", &load).await?;
    Ok(is_clean)
}

async fn start(arguments: &Arguments, folder: &Path) -> Result<Cluster, String> {
    let disk = |number| Disk::folder(folder.join(format!("n{number}"))).map_err(|error| error.to_string());
    let disks = (1..=MEMBERS).map(disk).collect::<Result<_, _>>()?;
    let has_proxies = arguments.delay > Duration::ZERO;
    let settings = Settings {
        binary: crate::binary(),
        folder: folder.to_owned(),
        snapshot_count: 10_000,
        snapshot_catchup_entries: 5_000,
        has_proxies,
        flags: arguments.flags.clone(),
    };
    let mut cluster = Cluster::new(settings, disks).map_err(|error| error.to_string())?;
    for from in 0..MEMBERS {
        for to in (0..MEMBERS).filter(|&to| has_proxies && to != from) {
            cluster.network.set(from, to, Link::Slow(arguments.delay / 2));
        }
    }
    for at in 0..MEMBERS - 1 {
        cluster.start(at).map_err(|error| error.to_string())?;
    }
    for at in 0..MEMBERS - 1 {
        cluster.serves(at, START_BOUND).await?;
    }
    Ok(cluster)
}

/// Which of the members below `count` leads.
async fn leader(cluster: &Cluster, count: usize) -> Result<usize, String> {
    for at in 0..count {
        let status = applied(cluster, at).await;
        if status.is_some_and(|status| status.leads) {
            return Ok(at);
        }
    }
    Err("nobody leads".to_owned())
}

/// Where a member is.
struct Applied {
    index: u64,
    leads: bool,
}

async fn applied(cluster: &Cluster, at: usize) -> Option<Applied> {
    let client = Client::connect(cluster.members[at].client_port, Duration::from_secs(1)).await?;
    let status = client.status().await.ok()?;
    let leads = status.header.is_some_and(|header| header.member_id == status.leader);
    Some(Applied { index: status.raft_applied_index, leads })
}

/// A line of the table.
struct Row {
    size_mb: u64,
    leader: usize,
    late: usize,
}

impl Row {
    /// Waits until the late member has applied what the leader has, but for what is put in a second, and says how long
    /// that took. Whether it ever did.
    async fn catch_up(&self, cluster: &Cluster, lacks: &str, load: &Load) -> Result<bool, String> {
        let Row { size_mb, leader, late } = *self;
        let (started, puts) = (Instant::now(), load.done());
        let snapshots = snapshots(cluster, late);
        let behind = loop {
            let ahead = applied(cluster, leader).await.map_or(0, |it| it.index);
            let own = applied(cluster, late).await.map_or(0, |it| it.index);
            let behind = ahead.saturating_sub(own);
            if ahead > 0 && behind <= load.rate || started.elapsed() > LEVEL_BOUND {
                break behind;
            }
            tokio::time::sleep(LOOK).await;
        };
        let took = started.elapsed().as_secs_f64();
        let is_level = behind <= load.rate;
        let level = if is_level { format!("{took:.1} s") } else { format!("NEVER: {behind} behind") };
        let rate = (load.done() - puts) as f64 / took;
        let (leader_mib, late_mib) = (peak_mib(cluster, leader), peak_mib(cluster, late));
        let sent = self::snapshots(cluster, late) - snapshots;
        println!("| {size_mb} MB | {lacks} | {level} | {rate:.0} | {leader_mib} | {late_mib} | {sent} |");
        Ok(is_level)
    }
}

/// How many snapshots a member has installed.
fn snapshots(cluster: &Cluster, at: usize) -> usize {
    let log = cluster.members[at].log();
    log.lines().filter(|line| line.contains("snapshot") && line.contains("installed")).count()
}

/// The most that a member has ever had in memory.
fn peak_mib(cluster: &Cluster, at: usize) -> u64 {
    let Some(id) = cluster.members[at].process_id() else { return 0 };
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
}

/// Puts at the leader.
struct Writer {
    connections: Vec<KvClient<Channel>>,
}

impl Writer {
    async fn connect(port: u16) -> Result<Writer, String> {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            let endpoint = Endpoint::from_shared(url(port)).map_err(|error| error.to_string())?;
            let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
            connections.push(KvClient::new(channel));
        }
        Ok(Writer { connections })
    }

    /// Writes `entries` of the keys below `keys`.
    async fn fill(&self, entries: u64, keys: u64) -> Result<(), String> {
        let next = Arc::new(AtomicU64::new(0));
        let mut tasks: JoinSet<Result<(), String>> = JoinSet::new();
        for filler in 0..FILLERS {
            let mut kv = self.connections[filler as usize % CONNECTIONS].clone();
            let next = Arc::clone(&next);
            tasks.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= entries {
                        return Ok(());
                    }
                    // Spread over all of them.
                    let key = format!("state/{:012}", number * 7_919 % keys);
                    let value = vec![b'v'; VALUE_BYTES as usize];
                    put(&mut kv, key, value).await.map_err(|why| format!("a put failed: {why}"))?;
                }
            });
        }
        while let Some(result) = tasks.join_next().await {
            result.map_err(|error| error.to_string())??;
        }
        Ok(())
    }

    /// Puts at a steady rate until it is dropped. What cannot be done in time is left out.
    fn load(&self, rate: u64) -> Load {
        const TURNS_PER_SECOND: u64 = 100;
        let done = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for (connection, kv) in self.connections.iter().enumerate() {
            let (kv, done) = (kv.clone(), Arc::clone(&done));
            tasks.spawn(async move {
                let mut turns = tokio::time::interval(Duration::from_secs(1) / TURNS_PER_SECOND as u32);
                turns.set_missed_tick_behavior(MissedTickBehavior::Burst);
                let mut under_way = JoinSet::new();
                for turn in 0.. {
                    turns.tick().await;
                    let share = rate / CONNECTIONS as u64;
                    let puts = (turn + 1) * share / TURNS_PER_SECOND - turn * share / TURNS_PER_SECOND;
                    for number in 0..puts {
                        let (mut kv, done) = (kv.clone(), Arc::clone(&done));
                        let key = format!("load/{connection}/{}", (turn * 7 + number) % 10_000);
                        under_way.spawn(async move {
                            if put(&mut kv, key, vec![b'l'; LOAD_VALUE_BYTES]).await.is_ok() {
                                done.fetch_add(1, Ordering::Relaxed);
                            }
                        });
                    }
                    while under_way.try_join_next().is_some() {}
                    if under_way.len() as u64 > share {
                        under_way.join_next().await;
                    }
                }
            });
        }
        Load { rate, done, _tasks: tasks }
    }
}

async fn put(kv: &mut KvClient<Channel>, key: String, value: Vec<u8>) -> Result<(), String> {
    let request = PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() };
    let answer = tokio::time::timeout(PUT_TIMEOUT, kv.put(request)).await;
    answer.map_err(|error| error.to_string())?.map(drop).map_err(|status| status.to_string())
}

/// Puts that go on.
struct Load {
    rate: u64,
    done: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Load {
    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

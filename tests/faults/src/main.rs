//! Faults that a real machine can make, against real members of Tenure, with clients whose every answer is judged.
//!
//! What it does and what it judges by is told in docs/faults.md. Exits with 1 if anything was not as it must be.
//! Three other programs share what stands around the members: `faults heavy` asks for much (`tests/faults/heavy`),
//! `faults links` narrows what is between them (`tests/faults/links`), and `faults behind` measures how long a follower
//! takes that is far behind (`tests/faults/behind`).

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod address;
mod attack;
mod behind;
mod client;
mod cluster;
mod disk;
mod finish;
mod garbage;
mod heavy;
mod history;
mod judges;
mod links;
mod load;
mod network;
mod operator;
mod plan;
mod program;
mod random;
mod report;

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use attack::Attack;
use cluster::{Cluster, Settings};
use disk::Disk;
use history::{Operation, Recorder};
use judges::Violation;
use load::{GENERATION, LONGEST_TIMEOUT, Load, generation_at, groups_of};
use plan::{Kind, Plan};
use random::Random;
use report::Tally;

const USAGE: &str = "tests/faults/run [--minutes N] [--seed N] [--members N] [--only WORDS,…]

  --minutes N  for so long, 0.5 for instance (15)
  --seed N     draw the faults from this seed (a fresh one)
  --members N  of so many members (3)
  --only WORDS,…  only faults with one of these in their name, as the report has it

TENURE names another binary than the one of this tree.";
/// How long members may take to serve for the first time.
const START_BOUND: Duration = Duration::from_secs(20);

/// What the command line asks for.
#[derive(Clone, Debug)]
struct Arguments {
    minutes: f64,
    seed: u64,
    members: usize,
    kinds: Vec<Kind>,
    /// Whether what is mounted is seen by nobody else, and goes with this program.
    may_mount: bool,
}

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("heavy") => return heavy::main(std::env::args().skip(2)),
        Some("links") => return links::main(std::env::args().skip(2)),
        Some("behind") => return behind::main(std::env::args().skip(2)),
        _ => {}
    }
    program::run(parse(std::env::args().skip(1)), USAGE, run)
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
    let (seed, kinds) = (now.as_micros() as u64, Kind::ALL.to_vec());
    let mut arguments = Arguments { minutes: 15.0, seed, members: 3, kinds, may_mount: false };
    while let Some(option) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{option} needs a value"));
        match option.as_str() {
            "--minutes" => arguments.minutes = number(&option, &value()?, 0.0..=1e6)?,
            "--seed" => arguments.seed = number(&option, &value()?, 0..=u64::MAX)?,
            "--members" => arguments.members = number(&option, &value()?, 1..=9)?,
            "--only" => {
                let wanted = value()?;
                arguments.kinds.retain(|kind| wanted.split(',').any(|words| kind.name().contains(words)));
                if arguments.kinds.is_empty() {
                    return Err(format!("no fault has any of these in its name: {wanted}"));
                }
            }
            "--may-mount" => arguments.may_mount = true,
            _ => return Err(format!("there is no option {option}")),
        }
    }
    Ok(arguments)
}

fn number<T: FromStr + PartialOrd>(option: &str, word: &str, range: RangeInclusive<T>) -> Result<T, String> {
    let number = word.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("{option} {word}: no number that would do"))
}

/// The binary that the members run.
fn binary() -> PathBuf {
    std::env::var_os("TENURE").map_or_else(|| "target/release/tenure".into(), PathBuf::from)
}

/// Everything that is drawn from the seed before the first fault.
fn set_up(arguments: &Arguments, folder: &Path, random: &mut Random) -> Result<Cluster, String> {
    let binary = binary();
    let snapshot_count = random.pick(&[200, 500, 2_000]);
    // Of the others the disk is a real one, with real syncs.
    let small = random.between(1, 1.max(arguments.members as u64 - 1)) as usize;
    let order = random.shuffled(arguments.members);
    if !arguments.may_mount {
        println!("NO DISK WILL BE FILLED: this machine lets nobody mount a small one (tests/faults/run)");
    }
    let mut disks = Vec::new();
    for at in 0..arguments.members {
        let place = folder.join(format!("n{}", at + 1));
        let is_small = arguments.may_mount && order[..small].contains(&at);
        let disk = if is_small { Disk::small(place.clone()) } else { Disk::folder(place.clone()) };
        disks.push(disk.or_else(|error| {
            eprintln!("cannot mount a small file system: {error}");
            Disk::folder(place).map_err(|error| error.to_string())
        })?);
    }
    let small = disks.iter().filter(|disk| disk.is_small()).count();
    println!(
        "{} members, {small} on a small disk, a checkpoint every {snapshot_count} entries",
        arguments.members
    );
    let snapshot_catchup_entries = snapshot_count / 4;
    let folder = folder.to_owned();
    let (has_proxies, flags) = (true, Vec::new());
    let settings = Settings { binary, folder, snapshot_count, snapshot_catchup_entries, has_proxies, flags };
    Cluster::new(settings, disks).map_err(|error| error.to_string())
}

async fn run(arguments: Arguments) -> Result<bool, String> {
    let Arguments { minutes, seed, .. } = arguments;
    println!("seed {seed}: {minutes} min of faults");
    let folder = std::env::temp_dir().join(format!("tenure-faults-{seed}-{}", std::process::id()));
    fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut random = Random::new(seed);
    let mut cluster = set_up(&arguments, &folder, &mut random)?;
    let (recorder, mut tally) = (Arc::new(Recorder::start()), Tally::default());
    let mut interrupted = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let mut terminated = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let end = tokio::select! {
        end = play(&mut cluster, &recorder, &mut tally, &mut random, &arguments) => end,
        _ = interrupted.recv() => return clean_up(cluster, &folder).and(Err("interrupted".to_owned())),
        _ = terminated.recv() => return clean_up(cluster, &folder).and(Err("terminated".to_owned())),
    };
    let operations = recorder.operations(|_| true);
    tally.count(&operations);
    println!("\n{tally}");
    let missing = tally.missing(&arguments.kinds);
    if !missing.is_empty() {
        println!("NOT SHOWN in this run: {}", missing.join(", "));
    }
    match end {
        Ok(()) => {
            println!("seed {seed}: no violation in {} operations and {minutes} min", operations.len());
            clean_up(cluster, &folder).map(|()| true)
        }
        Err(violation) => {
            println!("seed {seed}: VIOLATION of \"{}\": {}", violation.judge, violation.what);
            keep(&violation, &operations, &mut cluster, &folder).map_err(|error| error.to_string())?;
            println!("the history, the logs and the data are in {}", folder.display());
            println!("the same faults again: tests/faults/run --minutes {minutes} --seed {seed}");
            Ok(false)
        }
    }
}

/// Faults and clients, and then the judges.
async fn play(
    cluster: &mut Cluster,
    recorder: &Arc<Recorder>,
    tally: &mut Tally,
    random: &mut Random,
    arguments: &Arguments,
) -> Result<(), Violation> {
    let process = |what| Violation::new("no process ends by itself", what);
    for at in 0..cluster.members.len() {
        cluster.start(at).map_err(|error| process(error.to_string()))?;
    }
    for at in 0..cluster.members.len() {
        cluster.serves(at, START_BOUND).await.map_err(process)?;
    }
    let until = Instant::now() + Duration::from_secs_f64(arguments.minutes * 60.0);
    let (reports, mut violations) = mpsc::unbounded_channel();
    let ports: Vec<u16> = cluster.members.iter().map(|member| member.client_port).collect();
    let load = Load::start(recorder, &ports, random, &reports);
    let judge = tokio::spawn(judge_as_it_goes(recorder.clone(), reports));
    let places = cluster.members.iter().enumerate().filter(|(_, member)| member.disk.is_small());
    let small_disks = places.map(|(at, _)| at).collect();
    let mut plan = Plan::new(random.split(), ports.len(), small_disks, arguments.kinds.clone());
    let mut attack = Attack::new(cluster, recorder, tally, random.split());
    tokio::select! {
        end = attack.run(&mut plan, until) => end?,
        Some(violation) = violations.recv() => return Err(violation),
    }
    drop(attack);
    judge.abort();
    load.finish().await.map_err(|what| Violation::new("this program", what))?;
    if let Ok(violation) = violations.try_recv() {
        return Err(violation);
    }
    finish::read_everything(recorder, &ports).await?;
    finish::compare(&ports).await?;
    for member in &cluster.members {
        if member.log().contains("panicked at") {
            return Err(process(format!("{} has panicked:\n{}", member.name, member.log_tail())));
        }
    }
    let operations = recorder.operations(|_| true);
    let verdict = tokio::task::spawn_blocking(move || judges::judge(&operations)).await;
    verdict.unwrap_or_else(|error| Err(Violation::new("this program", error.to_string())))
}

/// Judges each generation of keys when nobody asks anything of it any more, so that a violation ends the run.
async fn judge_as_it_goes(recorder: Arc<Recorder>, reports: mpsc::UnboundedSender<Violation>) {
    for generation in 0.. {
        let over_us = (GENERATION * (generation + 1) + LONGEST_TIMEOUT + GENERATION / 2).as_micros() as u64;
        let wait_us = over_us.saturating_sub(recorder.now_us());
        tokio::time::sleep(Duration::from_micros(wait_us)).await;
        assert!(generation_at(recorder.now_us()) > generation, "its time is over");
        let operations = recorder.operations(|group| groups_of(generation).contains(&group));
        let verdict = tokio::task::spawn_blocking(move || judges::judge(&operations)).await;
        if let Ok(Err(violation)) = verdict {
            // Nobody listens any more when it is over.
            let _ = reports.send(violation);
        }
    }
}

/// Writes down what somebody needs who wants to know why.
fn keep(
    violation: &Violation,
    operations: &[Operation],
    cluster: &mut Cluster,
    folder: &Path,
) -> std::io::Result<()> {
    fs::write(folder.join("violation.txt"), format!("{}: {}\n", violation.judge, violation.what))?;
    if let Some(picture) = &violation.picture {
        fs::write(folder.join("violation.html"), picture)?;
    }
    let lines = operations.iter().map(|operation| format!("{operation}\n"));
    fs::write(folder.join("history.txt"), lines.collect::<String>())?;
    for member in &mut cluster.members {
        member.kill();
        member.disk.keep(&folder.join(format!("{}-data", member.name)))?;
    }
    Ok(())
}

/// Ends all processes and removes what they have written.
fn clean_up(cluster: Cluster, folder: &Path) -> Result<(), String> {
    drop(cluster);
    fs::remove_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

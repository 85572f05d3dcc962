//! Requests that cost much, sent to three real members one after the other, and what becomes of everybody else
//! meanwhile: who leads, how long a small put waits, what memory it takes.
//!
//! A changed term is a failure, and so is memory beyond the bound; how long a put waits depends on the machine, and
//! is only shown.

mod requests;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::{Cluster, Settings};
use crate::disk::Disk;
use crate::program;

use requests::{Clients, Outcome};
use watch::{Seen, Watch};

const USAGE: &str = "tests/faults/heavy [--keys N] [--only WORDS,…] [--data DIR] [-- FLAGS OF SERVE]

  --keys N        so many keys of 100 bytes (1000000)
  --only WORDS,…  only rows with one of these in their name; what they need is done as well
  --data DIR      where the members keep their data (a folder for temporary files)

TENURE names another binary than the one of this tree.";

const MEMBERS: usize = 3;
const START_BOUND: Duration = Duration::from_secs(30);
/// The most that there is: large puts are above the default.
const MAX_REQUEST_BYTES: usize = 32 << 20;
/// What a request may take beyond the state at the most: room for answers under way and for one more state, which
/// whoever installs a snapshot needs.
const EXTRA_BYTES: u64 = 512 << 20;

/// What the command line asks for.
struct Arguments {
    keys: u64,
    only: Vec<String>,
    data: PathBuf,
    flags: Vec<String>,
}

/// A row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Row {
    List,
    Lists,
    Counts,
    Hashes,
    ReadCompares,
    WriteCompares,
    Poison,
    Reads,
    Puts,
    Install,
    Overwrite,
    Compact,
    DeleteSome,
    DeleteAll,
    LargePuts,
}

impl Row {
    /// In this order: the later ones take away what the earlier ones need.
    const ALL: [Row; 15] = [
        Row::List,
        Row::Lists,
        Row::Counts,
        Row::Hashes,
        Row::ReadCompares,
        Row::WriteCompares,
        Row::Poison,
        Row::Reads,
        Row::Puts,
        Row::Install,
        Row::Overwrite,
        Row::Compact,
        Row::DeleteSome,
        Row::DeleteAll,
        Row::LargePuts,
    ];

    fn name(self) -> &'static str {
        match self {
            Row::List => "one list of all keys",
            Row::Lists => "eight lists at once",
            Row::Counts => "400 counts at once",
            Row::Hashes => "200 HashKV at once",
            Row::ReadCompares => "read txn, 128 range compares",
            Row::WriteCompares => "write txn, 128 range compares",
            Row::Poison => "write txn, 127 lists",
            Row::Reads => "60,000 reads at once",
            Row::Puts => "60,000 puts at once",
            Row::Install => "a follower installs a snapshot",
            Row::Overwrite => "every key overwritten",
            Row::Compact => "compaction of what was superseded",
            Row::DeleteSome => "a fifth of the keys deleted",
            Row::DeleteAll => "all other keys deleted",
            Row::LargePuts => "puts of 8 to 33 MB",
        }
    }

    async fn run(self, cluster: &mut Cluster, clients: &Clients, keys: u64) -> Result<Outcome, String> {
        match self {
            Row::List => Ok(clients.lists(1).await),
            Row::Lists => Ok(clients.lists(8).await),
            Row::Counts => Ok(clients.counts(400).await),
            Row::Hashes => Ok(clients.hashes(200).await),
            Row::ReadCompares => Ok(clients.compares(keys, false).await),
            Row::WriteCompares => Ok(clients.compares(keys, true).await),
            Row::Poison => Ok(clients.poison(keys).await),
            Row::Reads => Ok(clients.reads(60_000, keys).await),
            Row::Puts => Ok(clients.puts(60_000).await),
            Row::Install => install(cluster, clients).await,
            Row::Overwrite => Ok(clients.fill(keys).await),
            Row::Compact => Ok(clients.compact().await),
            Row::DeleteSome => Ok(clients.delete(&requests::fifth(keys)).await),
            Row::DeleteAll => Ok(clients.delete(&requests::all()).await),
            Row::LargePuts => Ok(clients.large_puts().await),
        }
    }

    /// What `self` needs to have been done before it.
    fn needs(self, other: Row) -> bool {
        self == Row::Compact && other == Row::Overwrite
    }
}

/// Runs it all.
pub(crate) fn main(words: impl Iterator<Item = String>) -> ExitCode {
    program::run(parse(words), USAGE, async |arguments| run(&arguments).await)
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments =
        Arguments { keys: 1_000_000, only: Vec::new(), data: std::env::temp_dir(), flags: Vec::new() };
    while let Some(option) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{option} needs a value"));
        match option.as_str() {
            "--keys" => arguments.keys = crate::number(&option, &value()?, 1_000..=100_000_000)?,
            "--only" => arguments.only = value()?.split(',').map(str::to_owned).collect(),
            "--data" => arguments.data = value()?.into(),
            "--" => {
                arguments.flags = words.collect();
                break;
            }
            _ => return Err(format!("there is no option {option}")),
        }
    }
    if rows(&arguments.only).is_empty() {
        return Err(format!("no row has any of these in its name: {}", arguments.only.join(",")));
    }
    Ok(arguments)
}

/// The rows that are asked for, and those that they need.
fn rows(only: &[String]) -> Vec<Row> {
    let is_wanted =
        |row: &Row| only.is_empty() || only.iter().any(|words| row.name().contains(words.as_str()));
    let wanted: Vec<Row> = Row::ALL.into_iter().filter(is_wanted).collect();
    Row::ALL
        .into_iter()
        .filter(|&row| wanted.iter().any(|&wanted| wanted == row || wanted.needs(row)))
        .collect()
}

async fn run(arguments: &Arguments) -> Result<bool, String> {
    program::in_folder(&arguments.data, "heavy", async |folder| play(arguments, folder).await).await
}

async fn play(arguments: &Arguments, folder: &Path) -> Result<bool, String> {
    let mut cluster = start(arguments, folder).await?;
    let ports: Vec<u16> = cluster.members.iter().map(|member| member.client_port).collect();
    let clients = Clients::connect(&ports).await?;
    let started = Instant::now();
    let filled = clients.fill(arguments.keys).await;
    println!("{} keys of 100 bytes in {:.1} s: {filled}", arguments.keys, started.elapsed().as_secs_f64());
    println!("\n| request | took | answers | term | worst put | puts refused | MiB before | MiB at most |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut is_clean = true;
    for row in rows(&arguments.only) {
        let watch = Watch::start(&cluster, &ports).await?;
        let started = Instant::now();
        let outcome = row.run(&mut cluster, &clients, arguments.keys).await;
        let took = started.elapsed();
        let seen = watch.end(&cluster).await?;
        println!("{}", line(row, took, &outcome, &seen));
        is_clean &= outcome.is_ok() && !seen.term_changed() && !seen.is_over(EXTRA_BYTES);
        for member in &mut cluster.members {
            if let Some(how) = member.ended().map_err(|error| error.to_string())? {
                println!("{} ended by itself, {how}:\n{}", member.name, member.log_tail());
                return Ok(false);
            }
        }
    }
    println!(
        "\n{}",
        if is_clean { "one term for each row, and memory within the bound" } else { "NOT AS IT MUST BE" }
    );
    Ok(is_clean)
}

async fn start(arguments: &Arguments, folder: &Path) -> Result<Cluster, String> {
    let disk = |number| Disk::folder(folder.join(format!("n{number}"))).map_err(|error| error.to_string());
    let disks = (1..=MEMBERS).map(disk).collect::<Result<_, _>>()?;
    let mut flags = vec!["--max-request-bytes".to_owned(), MAX_REQUEST_BYTES.to_string()];
    flags.extend(arguments.flags.iter().cloned());
    let settings = Settings {
        binary: crate::binary(),
        folder: folder.to_owned(),
        snapshot_count: 10_000,
        snapshot_catchup_entries: 5_000,
        has_proxies: false,
        flags,
    };
    let mut cluster = Cluster::new(settings, disks).map_err(|error| error.to_string())?;
    for at in 0..MEMBERS {
        cluster.start(at).map_err(|error| error.to_string())?;
    }
    for at in 0..MEMBERS {
        cluster.serves(at, START_BOUND).await?;
    }
    Ok(cluster)
}

/// A follower is away while the log goes on beyond what is kept for it, and comes back.
async fn install(cluster: &mut Cluster, clients: &Clients) -> Result<Outcome, String> {
    let leader = clients.leader().await?;
    let away = (leader + 1) % MEMBERS;
    cluster.members[away].kill();
    let away_port = cluster.members[away].client_port;
    let outcome = clients.move_the_log_on(away, 20_000).await;
    cluster.start(away).map_err(|error| error.to_string())?;
    cluster.serves(away, Duration::from_mins(2)).await?;
    let log = cluster.members[away].log();
    println!("  (n{} on port {away_port}: {} lines of log)", away + 1, log.lines().count());
    Ok(outcome)
}

fn line(row: Row, took: Duration, outcome: &Result<Outcome, String>, seen: &Seen) -> String {
    let answers = match outcome {
        Ok(outcome) => outcome.to_string(),
        Err(why) => why.clone(),
    };
    let term =
        if seen.term_changed() { format!("{:?} CHANGED", seen.terms) } else { seen.terms.0.to_string() };
    let over = if seen.is_over(EXTRA_BYTES) { " TOO MUCH" } else { "" };
    format!(
        "| {} | {:.2} s | {answers} | {term} | {:.2} s | {} of {} | {} | {}{over} |",
        row.name(),
        took.as_secs_f64(),
        seen.worst_put.as_secs_f64(),
        seen.refused_puts,
        seen.puts,
        seen.before_bytes >> 20,
        seen.peak_bytes >> 20,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_brings_what_it_needs_with_it() {
        let of = |only: &[&str]| rows(&only.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]), Row::ALL);
        assert_eq!(of(&["compaction"]), [Row::Overwrite, Row::Compact]);
        assert_eq!(of(&["HashKV", "one list"]), [Row::List, Row::Hashes]);
        assert!(of(&["nothing of the kind"]).is_empty());
    }
}

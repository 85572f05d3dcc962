//! `tenure sim`: play seeds in the simulated world, one to look at or many to find one that fails.
//!
//! The simulator is one thread and knows no time of day. Here are the threads, one run on each at a time, the
//! seeds that nobody named, the progress bar and the exit code.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use tenure_sim::{Coverage, Detail, Failure, Plan, Report, Setting, Shrunk, run, run_traced, shrink};

use crate::stdout::tell;

/// How often the progress bar moves.
const REDRAW: Duration = Duration::from_millis(200);
/// How many seeds are played if nobody says.
const DEFAULT_SEEDS: u64 = 100;

/// The arguments of `sim`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --seed it plays --seeds of them, from one that differs from call to call, and \
                        stops at the first that fails."
)]
pub(crate) struct SimArguments {
    /// Play this seed
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    #[command(flatten)]
    told: Told,
    /// Play this many seeds, on all cores
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// Begin with this seed instead of a new one
    #[arg(long, value_name = "N")]
    from: Option<u64>,
    /// How many runs go on at the same time; all cores unless said otherwise
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    jobs: Option<u64>,
    /// Go on after a failure, and list them all
    #[arg(long)]
    keep_going: bool,
    /// Go on from the first failure to a smaller run that fails alike
    #[arg(long, conflicts_with_all = ["keep_going", "trace", "short"])]
    shrink: bool,
    #[command(flatten)]
    changes: Changes,
}

/// How much of one run is told.
#[derive(Clone, Copy, Debug, Args)]
struct Told {
    /// Tell everything that happens: every message, every write, every fault
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Tell only what changes somebody's state
    #[arg(long, requires = "seed", conflicts_with = "trace")]
    short: bool,
}

/// What of a seed's plan is replaced.
#[derive(Clone, Debug, Args)]
struct Changes {
    /// The kind of plan that a seed stands for
    #[arg(long, value_enum, default_value_t = Mix::Swarm)]
    mix: Mix,
    /// How many members the cluster has, whatever the seed says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=15))]
    members: Option<u64>,
    /// How many seconds faults happen, whatever the seed says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// Another number of the plan, as --shrink names them; may be repeated
    #[arg(long = "set", value_name = "NAME=N")]
    settings: Vec<Setting>,
}

/// The kinds of plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mix {
    /// Everything drawn from the seed: sizes, rates, which faults there are
    Swarm,
    /// Three members, crashes and partitions, about thirty operations a second
    Typical,
    /// Nothing goes wrong
    Calm,
}

impl Changes {
    fn plan(&self, seed: u64) -> Plan {
        let mut plan = match self.mix {
            Mix::Swarm => Plan::of_seed(seed),
            Mix::Typical => Plan::typical(seed),
            Mix::Calm => Plan::calm(seed),
        };
        if let Some(members) = self.members {
            plan.members = members as usize;
        }
        if let Some(seconds) = self.seconds {
            plan.faults_us = seconds * 1_000_000;
        }
        for setting in &self.settings {
            setting.apply(&mut plan);
        }
        plan
    }

    /// The one command that plays `seed` again.
    fn replay(&self, seed: u64) -> String {
        let mut command = format!("cargo run --release -- sim --seed {seed} --trace");
        match self.mix {
            Mix::Swarm => {}
            Mix::Typical => command += " --mix typical",
            Mix::Calm => command += " --mix calm",
        }
        for (flag, value) in [("members", self.members), ("seconds", self.seconds)] {
            if let Some(value) = value {
                command += &[" --", flag, " ", &value.to_string()].concat();
            }
        }
        for setting in &self.settings {
            command += &[" --set ", &setting.to_string()].concat();
        }
        command
    }
}

/// Runs the command.
pub(crate) fn main(arguments: &SimArguments) -> ExitCode {
    match arguments.seed {
        Some(seed) => play_one(arguments, seed),
        None => play_many(arguments),
    }
}

fn play_one(arguments: &SimArguments, seed: u64) -> ExitCode {
    let plan = arguments.changes.plan(seed);
    tell(&format!("seed {seed}: {}", plan.summary()));
    let began = Instant::now();
    let Told { trace, short } = arguments.told;
    let outcome = if trace || short {
        let detail = if trace { Detail::Full } else { Detail::Short };
        let mut out = std::io::BufWriter::new(std::io::stdout());
        // Whoever closes the pipe (a pager) has seen enough.
        run_traced(plan, detail, Box::new(move |line| drop(writeln!(out, "{line}"))))
    } else {
        run(plan)
    };
    match outcome {
        Ok(report) => {
            print_report(&report, began.elapsed());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            tell(&failure.to_string());
            if !trace {
                tell(&format!("to see it happen: {}", arguments.changes.replay(seed)));
            }
            if arguments.shrink {
                shrink_failure(arguments, failure);
            }
            ExitCode::FAILURE
        }
    }
}

/// Looks for a smaller run that fails alike, and says how to play it.
fn shrink_failure(arguments: &SimArguments, failure: Failure) {
    std::panic::set_hook(Box::new(|_| {}));
    let (seed, mut changes) = (failure.seed, arguments.changes.clone());
    let Shrunk { settings, failure, runs } = shrink(&changes.plan(seed), failure);
    tell(&format!("made smaller in {runs} runs, with {} settings: {failure}", settings.len()));
    changes.settings.extend(settings);
    tell(&format!("to see it happen: {}", changes.replay(seed)));
}

fn print_report(report: &Report, took: Duration) {
    let Report { simulated_us, events, operations, answered, committed, checkpoint_bytes, .. } = report;
    let Report { trace_hash, coverage, .. } = report;
    let seconds = *simulated_us as f64 / 1e6;
    let text = format!(
        "no rule was broken in {seconds:.1} simulated seconds ({:.0} a second): {events} events, {operations} \
         operations, {answered} answered, {committed} entries committed, {checkpoint_bytes} bytes of \
         checkpoints, trace {trace_hash:016x}\n{coverage}",
        seconds / took.as_secs_f64()
    );
    tell(text.trim_end());
}

/// What all runs together have come to.
#[derive(Default)]
struct Totals {
    runs: u64,
    simulated_us: u64,
    operations: u64,
    coverage: Coverage,
    failures: Vec<Failure>,
}

impl Totals {
    fn add(&mut self, outcome: Result<Report, Failure>) {
        self.runs += 1;
        match outcome {
            Ok(report) => {
                self.simulated_us += report.simulated_us;
                self.operations += report.operations;
                self.coverage.add(&report.coverage);
            }
            Err(failure) => self.failures.push(failure),
        }
    }

    fn line(&self, of: u64, took: Duration) -> String {
        let simulated_s = self.simulated_us as f64 / 1e6;
        let took_s = took.as_secs_f64().max(1e-9);
        format!(
            "{}/{of} seeds in {took_s:.0} s, {:.1} a second; {:.0} simulated seconds a second, {:.0} operations \
             in each",
            self.runs,
            self.runs as f64 / took_s,
            simulated_s / took_s,
            self.operations as f64 / simulated_s.max(1e-9),
        )
    }
}

fn play_many(arguments: &SimArguments) -> ExitCode {
    let count = arguments.seeds.unwrap_or(DEFAULT_SEEDS);
    let first = arguments.from.unwrap_or_else(fresh_seed);
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let jobs = arguments.jobs.unwrap_or(cores).min(count.max(1));
    tell(&format!("seeds {first} to {} on {jobs} threads", first.saturating_add(count).saturating_sub(1)));
    // An assertion that fails is told of as the failure of its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    let totals = play_on_threads(arguments, first, count, jobs, began);
    tell(&totals.line(count, began.elapsed()));
    for failure in &totals.failures {
        tell(&format!("{failure}\nto see it happen: {}", arguments.changes.replay(failure.seed)));
    }
    if let Some(failure) = totals.failures.first().filter(|_| arguments.shrink) {
        shrink_failure(arguments, failure.clone());
    }
    if !totals.failures.is_empty() {
        return ExitCode::FAILURE;
    }
    let missing = totals.coverage.missing();
    if !missing.is_empty() {
        tell(&format!("these runs never came to: {missing:?}"));
    }
    ExitCode::SUCCESS
}

fn play_on_threads(arguments: &SimArguments, first: u64, count: u64, jobs: u64, began: Instant) -> Totals {
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (outcomes, received) = channel();
    let mut totals = Totals::default();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (outcomes, changes, shared) = (outcomes.clone(), &arguments.changes, (&next, &stop));
            scope.spawn(move || play_seeds(changes, first, count, shared, &outcomes));
        }
        drop(outcomes);
        let shows_bar = std::io::stderr().is_terminal();
        let mut redraw_at = Instant::now();
        loop {
            match received.recv_timeout(REDRAW) {
                Ok(outcome) => totals.add(outcome),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if !totals.failures.is_empty() && !arguments.keep_going {
                stop.store(true, Ordering::Relaxed);
            }
            if shows_bar && Instant::now() >= redraw_at {
                redraw_at = Instant::now() + REDRAW;
                draw_bar(&totals, count, began.elapsed());
            }
        }
        if shows_bar {
            eprint!("\r\x1b[2K");
        }
    });
    totals
}

/// Plays one seed after the other until there is none left, or a failure stops all.
fn play_seeds(
    changes: &Changes,
    first: u64,
    count: u64,
    (next, stop): (&AtomicU64, &AtomicBool),
    outcomes: &Sender<Result<Report, Failure>>,
) {
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let seed = first.checked_add(number);
        let Some(seed) = seed.filter(|_| number < count) else { return };
        if outcomes.send(run(changes.plan(seed))).is_err() {
            return;
        }
    }
}

fn draw_bar(totals: &Totals, count: u64, took: Duration) {
    const WIDTH: u64 = 24;
    let done = (totals.runs * WIDTH).checked_div(count).unwrap_or(WIDTH).min(WIDTH) as usize;
    let bar = "█".repeat(done) + &"░".repeat(WIDTH as usize - done);
    eprint!("\r\x1b[2K{bar} {}", totals.line(count, took));
    // Nothing depends on the bar.
    let _ = std::io::stderr().flush();
}

/// Another seed at each call, small enough to be typed.
fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_millis() as u64).wrapping_mul(1_000) % 1_000_000_000_000
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        arguments: SimArguments,
    }

    fn parse(words: &str) -> Result<SimArguments, clap::Error> {
        Words::try_parse_from(words.split(' ')).map(|words| words.arguments)
    }

    #[test]
    fn a_replay_names_what_was_changed() {
        let arguments = parse("sim --seeds 5 --members 3 --mix typical").unwrap();
        let replay = arguments.changes.replay(17);
        assert_eq!(replay, "cargo run --release -- sim --seed 17 --trace --mix typical --members 3");
        let again = parse(replay.split_once("-- ").unwrap().1).unwrap();
        assert!(again.told.trace && again.seed == Some(17));
        assert_eq!(again.changes.plan(17).members, 3);
        let set = parse("sim --seed 4 --set clients=1 --set loss-ppm=0").unwrap().changes.replay(4);
        assert_eq!(set, "cargo run --release -- sim --seed 4 --trace --set clients=1 --set loss-ppm=0");
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        for words in [
            "sim --seed 1 --seeds 2",
            "sim --trace",
            "sim --seed 1 --trace --short",
            "sim --members 0",
            "sim --seeds 0",
            "sim --shrink --keep-going",
            "sim --set colour=3",
        ] {
            assert!(parse(words).is_err(), "{words}");
        }
    }

    #[test]
    fn every_seed_is_played_once_on_however_many_threads() {
        let arguments = parse("sim --from 40 --seeds 7 --seconds 5 --mix calm").unwrap();
        let on_three = play_on_threads(&arguments, 40, 7, 3, Instant::now());
        let on_one = play_on_threads(&arguments, 40, 7, 1, Instant::now());
        assert_eq!((on_three.runs, on_three.failures.len()), (7, 0));
        assert_eq!((on_three.operations, on_three.coverage), (on_one.operations, on_one.coverage));
    }
}

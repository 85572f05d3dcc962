//! Plants known faults in a copy of the tree, and proves that the simulator finds each of them.
//!
//! The copy is built once, with every fault behind a switch of its own (docs/adr/0009-planted-faults.md).
//! Exits with 1 if a fault no longer applies or is not caught, or if anything is seen with none switched on.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod fault;
mod hunt;
mod table;
mod tree;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fault::Fault;
use hunt::{Bounds, Outcome, hunt};
use table::Row;
use tree::{Source, VARIABLE};

const USAGE: &str =
    "tests/planted/run [--only NAME…] [--tenth K] [--max-seeds N] [--from N] [--head] [--write] [--list]

  --only NAME…   these faults alone
  --tenth K      every tenth of them, the K-th and so on
  --max-seeds N  give a fault up after so many seeds (10000)
  --from N       begin with this seed (1)
  --head         plant them in what was committed last, not in the files as they are
  --write        put the table into docs/simulation.md (only with all faults)
  --list         say what there is, and do nothing";
const DEFAULT_MAX_SEEDS: u64 = 10_000;
/// With nothing switched on.
const SOUND_SEEDS: u64 = 500;
/// The slowest simulator plays more seeds than that.
const SLOWEST_SEEDS_PER_S: u64 = 10;

/// What the command line asks for.
#[derive(Debug)]
struct Arguments {
    only: Vec<String>,
    tenth: Option<u64>,
    max_seeds: u64,
    from: u64,
    source: Source,
    write: bool,
    list: bool,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|arguments| run(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn parse(words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        only: Vec::new(),
        tenth: None,
        max_seeds: DEFAULT_MAX_SEEDS,
        from: 1,
        source: Source::WorkingTree,
        write: false,
        list: false,
    };
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).ok_or(USAGE);
        match word.as_str() {
            "--tenth" => arguments.tenth = Some(number()? % 10),
            "--max-seeds" => arguments.max_seeds = number()?.max(1),
            "--from" => arguments.from = number()?,
            "--head" => arguments.source = Source::Head,
            "--write" => arguments.write = true,
            "--list" => arguments.list = true,
            "--only" => {
                while let Some(name) = words.next_if(|word| !word.starts_with("--")) {
                    arguments.only.push(name);
                }
            }
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(arguments)
}

fn run(arguments: &Arguments) -> Result<bool, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().map_err(|error| format!("{}: {error}", root.display()))?;
    let faults = fault::read_all(&root.join("tests/planted/faults"))?;
    let chosen = choose(&faults, arguments)?;
    if arguments.list {
        for Fault { chapter, name, what, .. } in &chosen {
            println!("{chapter:<14} {name:<12} {what}");
        }
        println!("{} faults", chosen.len());
        return Ok(true);
    }
    let began = Instant::now();
    // All are planted, also those that are not hunted: that they apply is checked every time.
    let binary = tree::build(&root, &target_dir(&root), arguments.source, &faults)?;
    println!("{} faults planted and built in {} s", faults.len(), began.elapsed().as_secs());
    // Who looks for one fault again and again knows by now.
    let is_sound = !arguments.only.is_empty() || hunt_nothing(&binary, arguments.from);
    let rows: Vec<Row<'_>> = chosen.into_iter().map(|fault| hunt_one(&binary, fault, arguments)).collect();
    let missed = rows.iter().filter(|row| !matches!(row.outcome, Outcome::Caught { .. })).count();
    println!("{} of {} caught, in {} s", rows.len() - missed, rows.len(), began.elapsed().as_secs());
    if arguments.write && rows.len() == faults.len() {
        table::write(&root.join("docs/simulation.md"), &table::markdown(&rows))?;
    }
    Ok(is_sound && missed == 0)
}

fn choose<'a>(faults: &'a [Fault], arguments: &Arguments) -> Result<Vec<&'a Fault>, String> {
    if let Some(name) = arguments.only.iter().find(|name| faults.iter().all(|fault| fault.name != **name)) {
        return Err(format!("there is no fault {name}"));
    }
    let is_chosen = |&(at, fault): &(u64, &Fault)| {
        (arguments.only.is_empty() || arguments.only.contains(&fault.name))
            && arguments.tenth.is_none_or(|tenth| at % 10 == tenth)
    };
    Ok((0..).zip(faults).filter(is_chosen).map(|(_, fault)| fault).collect())
}

fn target_dir(root: &Path) -> PathBuf {
    // Relative to the root, where `tests/planted/run` starts cargo.
    root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

fn bounds(from: u64, max_seeds: u64) -> Bounds {
    Bounds { from, max_seeds, patience: Duration::from_secs(120 + max_seeds / SLOWEST_SEEDS_PER_S) }
}

/// The switches themselves must break nothing.
fn hunt_nothing(binary: &Path, from: u64) -> bool {
    let began = Instant::now();
    let outcome = hunt(binary, None, bounds(from, SOUND_SEEDS));
    let seconds = began.elapsed().as_secs_f64();
    match outcome {
        Outcome::Passed => {
            println!("nothing is seen in {SOUND_SEEDS} seeds with none switched on ({seconds:.1} s)");
        }
        Outcome::Caught { judge, cause, seeds } => {
            println!("WITH NONE SWITCHED ON seed {}: {judge}: {cause}", from + seeds - 1);
            return false;
        }
        Outcome::Broken(why) => {
            println!("WITH NONE SWITCHED ON: {why}");
            return false;
        }
    }
    true
}

/// What the same seed shows with no fault switched on is none of the fault's doing.
fn check_innocence(binary: &Path, from: u64, outcome: Outcome) -> Outcome {
    let Outcome::Caught { seeds, .. } = &outcome else { return outcome };
    let seed = from + seeds - 1;
    match hunt(binary, None, bounds(seed, 1)) {
        Outcome::Passed => outcome,
        Outcome::Caught { judge, .. } => {
            Outcome::Broken(format!("seed {seed} fails without it, too: {judge}"))
        }
        Outcome::Broken(why) => Outcome::Broken(why),
    }
}

fn hunt_one<'a>(binary: &Path, fault: &'a Fault, arguments: &Arguments) -> Row<'a> {
    let began = Instant::now();
    let outcome = hunt(binary, Some(&fault.name), bounds(arguments.from, arguments.max_seeds));
    let took = began.elapsed();
    let outcome = check_innocence(binary, arguments.from, outcome);
    let Fault { name, what, .. } = fault;
    println!("{name:<12} {what}\n{:12} {outcome} ({:.1} s)", "", took.as_secs_f64());
    if let Outcome::Caught { cause, seeds, .. } = &outcome {
        println!("{:12} {}", "", cause.chars().take(160).collect::<String>());
        if !arguments.only.is_empty() {
            let seed = arguments.from + seeds - 1;
            println!("{:12} again: {VARIABLE}={name} {} sim --seed {seed} --short", "", binary.display());
        }
    }
    Row { fault, outcome, took }
}

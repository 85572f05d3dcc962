//! Plays seeds with one fault switched on until a judge sees it.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::tree::VARIABLE;

/// How often it is looked whether the seeds are played.
const LOOK: Duration = Duration::from_millis(20);

/// Which seeds are played, and for how long at the most.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The first seed.
    pub from: u64,
    /// How many.
    pub max_seeds: u64,
    /// A run that does not end is given up.
    pub patience: Duration,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A judge saw it.
    Caught {
        /// Which.
        judge: String,
        /// What it said.
        cause: String,
        /// How many seeds there were up to that one.
        seeds: u64,
    },
    /// No judge saw anything.
    Passed,
    /// The simulator itself came to grief.
    Broken(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Caught { seeds, .. } => write!(f, "{} after {seeds}", self.judge()),
            Outcome::Passed => write!(f, "NOT CAUGHT"),
            Outcome::Broken(why) => write!(f, "BROKEN: {why}"),
        }
    }
}

impl Outcome {
    /// The judge as it stands in the table. What the members assert about themselves is no judge, and is told
    /// apart.
    pub fn judge(&self) -> String {
        match self {
            Outcome::Caught { judge, .. } if judge == "assertion" => "an assertion in the core".into(),
            Outcome::Caught { judge, .. } => judge.clone(),
            Outcome::Passed | Outcome::Broken(_) => "none".into(),
        }
    }
}

/// Plays seeds with the fault `name` on, or with none.
pub fn hunt(binary: &Path, name: Option<&str>, bounds: Bounds) -> Outcome {
    let Bounds { from, max_seeds, patience } = bounds;
    let mut command = Command::new(binary);
    command.args(["sim", "--from", &from.to_string(), "--seeds", &max_seeds.to_string()]);
    command.env_remove(VARIABLE).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(name) = name {
        command.env(VARIABLE, name);
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Outcome::Broken(format!("{}: {error}", binary.display())),
    };
    let ended = wait(&mut child, patience);
    let mut output = String::new();
    if let Some(stdout) = &mut child.stdout {
        // What cannot be read names no failure, and that is told below.
        let _ = stdout.read_to_string(&mut output);
    }
    match ended {
        Err(why) => Outcome::Broken(why),
        Ok(true) => Outcome::Passed,
        Ok(false) => output
            .lines()
            .find_map(|line| parse_failure(line, from))
            .unwrap_or_else(|| Outcome::Broken("the simulator failed and named no seed".into())),
    }
}

/// Waits for the end; whether it was a good one.
fn wait(child: &mut Child, patience: Duration) -> Result<bool, String> {
    let began = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) if began.elapsed() < patience => std::thread::sleep(LOOK),
            Ok(None) => {
                let killed = child.kill().and_then(|()| child.wait());
                return Err(format!(
                    "no end after {} s{}",
                    patience.as_secs(),
                    if killed.is_ok() { "" } else { "!" }
                ));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// `seed 17 fails after 3.141592 s: judge: cause`
fn parse_failure(line: &str, from: u64) -> Option<Outcome> {
    let (seed, rest) = line.strip_prefix("seed ")?.split_once(" fails after ")?;
    let (_, violation) = rest.split_once(" s: ")?;
    let (judge, cause) = violation.split_once(": ")?;
    let seeds = seed.parse::<u64>().ok()?.checked_sub(from)? + 1;
    Some(Outcome::Caught { judge: judge.to_owned(), cause: cause.to_owned(), seeds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_read() {
        let outcome = parse_failure("seed 17 fails after 3.141592 s: log matching: 5@2: twice", 11);
        let Some(Outcome::Caught { judge, cause, seeds }) = outcome else { panic!("{outcome:?}") };
        assert_eq!((judge.as_str(), cause.as_str(), seeds), ("log matching", "5@2: twice", 7));
        assert_eq!(parse_failure("17/100 seeds in 3 s", 1), None);
    }
}

//! What has been run, and what came of it, in numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::history::{Ask, Operation, Outcome};
use crate::plan::Kind;

/// Counts of a run.
#[derive(Default)]
pub(crate) struct Tally {
    faults: BTreeMap<Kind, (u64, Duration)>,
    pub(crate) full_disks_met: u64,
    pub(crate) leaders_moved: Arc<AtomicU64>,
    operations: BTreeMap<&'static str, [u64; 3]>,
}

impl Tally {
    /// A fault has passed, and the longest time without an answered write in its round was this.
    pub(crate) fn on_fault(&mut self, kind: Kind, gap: Duration) {
        let (count, longest) = self.faults.entry(kind).or_default();
        *count += 1;
        *longest = gap.max(*longest);
    }

    /// Counts what clients asked.
    pub(crate) fn count(&mut self, operations: &[Operation]) {
        for operation in operations {
            let name = match operation.ask {
                Ask::Get(_) if operation.is_linearizable => "linearizable reads",
                Ask::Get(_) => "serializable reads",
                Ask::Put(_) => "puts",
                Ask::Delete(_) => "deletes",
                Ask::Swap { .. } => "transactions",
            };
            let column = match operation.outcome {
                Outcome::Answered { .. } => 0,
                Outcome::Refused => 1,
                Outcome::Unknown => 2,
            };
            self.operations.entry(name).or_default()[column] += 1;
        }
    }

    /// Kinds of faults that were wanted and never came.
    pub(crate) fn missing(&self, wanted: &[Kind]) -> Vec<&'static str> {
        wanted.iter().filter(|kind| !self.faults.contains_key(kind)).map(|kind| kind.name()).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<36} {:>6}  longest time without an answered write", "fault", "times")?;
        for (kind, (count, gap)) in &self.faults {
            writeln!(f, "{:<36} {count:>6}  {:>6.1} s", kind.name(), gap.as_secs_f64())?;
        }
        let moved = self.leaders_moved.load(Ordering::Relaxed);
        writeln!(f, "full disks that a member has met: {}; leaders moved: {moved}", self.full_disks_met)?;
        writeln!(f, "{:<36} {:>8} {:>8} {:>8}", "operation", "answered", "refused", "unknown")?;
        for (name, [answered, refused, unknown]) in &self.operations {
            writeln!(f, "{name:<36} {answered:>8} {refused:>8} {unknown:>8}")?;
        }
        Ok(())
    }
}

//! Does the jobs of the log, one after the other.
//!
//! [`LogWorker::begin`] does what can be done without waiting for the disk, [`LogWorker::finish`] waits for
//! it. The server calls both on a thread of its own; the simulator lets time pass between them, and may let
//! the power fail there.

use tenure_raft::Entry;
use tenure_wal::{Disk, Position, Wal, WalError};

use crate::job::{LogDone, LogJob};
use crate::record::{from_record, position, to_record};

/// The log and its worker.
pub struct LogWorker<D: Disk> {
    wal: Wal<D>,
}

/// A job that was begun: what to answer once it is finished.
#[derive(Debug)]
#[must_use]
pub struct Begun {
    done: LogDone,
    needs_sync: bool,
}

impl<D: Disk> LogWorker<D> {
    /// The worker of a log that has been opened.
    pub fn new(wal: Wal<D>) -> LogWorker<D> {
        LogWorker { wal }
    }

    /// Does the job up to the point where the disk must be waited for. An error is final: the member must
    /// stop.
    pub fn begin(&mut self, job: LogJob) -> Result<Begun, WalError> {
        match job {
            LogJob::Write { hard_state, entries, token } => {
                let hard_state = hard_state.map(|state| tenure_wal::HardState {
                    current_term: state.current_term.0,
                    voted_for: state.voted_for.map(|id| id.0),
                });
                let records: Vec<_> = entries.iter().map(to_record).collect();
                // A write of nothing only waits its turn: all before it is durable already.
                let needs_sync = hard_state.is_some() || !records.is_empty();
                if needs_sync {
                    self.wal.append(hard_state, &records)?;
                }
                Ok(Begun { done: LogDone::Written(token), needs_sync })
            }
            LogJob::Read { to, first, last, max_bytes } => {
                let entries = self.read(first.0, last.0, max_bytes)?;
                Ok(Begun { done: LogDone::Read { to, entries }, needs_sync: false })
            }
            LogJob::Compact { through } => {
                self.wal.compact(position(through))?;
                Ok(Begun { done: LogDone::Compacted, needs_sync: false })
            }
            LogJob::Reset { start } => {
                self.wal.reset(position(start))?;
                Ok(Begun { done: LogDone::Reset { start }, needs_sync: false })
            }
        }
    }

    /// Waits until what was begun is durable.
    pub fn finish(&mut self, begun: Begun) -> Result<LogDone, WalError> {
        if begun.needs_sync {
            self.wal.sync()?;
        }
        Ok(begun.done)
    }

    /// Does a job whole.
    pub fn run(&mut self, job: LogJob) -> Result<LogDone, WalError> {
        let begun = self.begin(job)?;
        self.finish(begun)
    }

    /// To be called when there is nothing else to do: prepares the next segment, a bit at a time. Returns
    /// whether that is done.
    pub fn prepare(&mut self, max_bytes: u64) -> Result<bool, WalError> {
        self.wal.prepare(max_bytes)
    }

    /// Ends in good order.
    pub fn close(self) -> Result<(), WalError> {
        self.wal.close()
    }

    /// The log itself, to look at.
    pub fn wal(&self) -> &Wal<D> {
        &self.wal
    }

    fn read(&self, first: u64, last: u64, max_bytes: usize) -> Result<Vec<Entry>, WalError> {
        let Position { index: last_index, .. } = self.wal.last();
        // What was asked for may have been compacted or cut off since.
        if first < self.wal.first_index() || first > last_index {
            return Ok(Vec::new());
        }
        let records = self.wal.read(first, last.min(last_index), max_bytes)?;
        let entries = records.into_iter().map(from_record).collect::<Result<Vec<_>, _>>();
        Ok(entries.expect("what this log keeps was written by to_record"))
    }
}

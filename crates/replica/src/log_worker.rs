//! Does the jobs of the log, one after the other.
//!
//! [`LogWorker::begin`] does what can be done without waiting for the disk, [`LogWorker::finish`] waits for
//! it. The server calls both on a thread of its own; the simulator lets time pass between them, and may let
//! the power fail there.

use tenure_raft::Entry;
use tenure_wal::{Disk, MAX_BATCH_BYTES, Position, Wal, WalError};

use crate::job::{LogDone, LogJob};
use crate::record::{from_record, position, to_record};

/// How much is appended at once (one entry may be larger), well within what the log takes.
const MAX_APPEND_BYTES: usize = 32 << 20;
/// What the log adds to an entry, at the most.
const RECORD_OVERHEAD_BYTES: usize = 64;
const _: () = assert!((MAX_APPEND_BYTES as u64) < MAX_BATCH_BYTES);

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
                // A write of nothing only waits its turn: all before it is durable already.
                let needs_sync = hard_state.is_some() || !entries.is_empty();
                if needs_sync {
                    self.append(hard_state, &entries)?;
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

    /// What a leader has gathered may be more than the log takes at once. The pieces need not be written
    /// together: a part of entries that nobody has acknowledged is a log like any other.
    fn append(
        &mut self,
        mut hard_state: Option<tenure_wal::HardState>,
        entries: &[Entry],
    ) -> Result<(), WalError> {
        let mut entries = entries;
        loop {
            let (piece, rest) = entries.split_at(fitting(entries));
            let records: Vec<_> = piece.iter().map(to_record).collect();
            self.wal.append(hard_state.take(), &records)?;
            if rest.is_empty() {
                return Ok(());
            }
            entries = rest;
        }
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

/// How many of the entries go into one append: one at least, if there is one.
fn fitting(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        bytes += entry.size_bytes() + RECORD_OVERHEAD_BYTES;
        bytes <= MAX_APPEND_BYTES
    };
    entries.iter().take_while(fits).count().max(1).min(entries.len())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tenure_raft::{EntryId, HardState, Index, Payload, Term, WriteToken};
    use tenure_wal::MemoryDisk;

    use super::*;

    fn entry(index: u64, command: &Bytes) -> Entry {
        Entry { id: EntryId::new(Index(index), Term(1)), payload: Payload::Command(command.clone()) }
    }

    #[test]
    fn a_write_of_more_than_the_log_takes_at_once_is_done_in_pieces() {
        let disk = MemoryDisk::new();
        let open = || Wal::open(disk.clone(), tenure_wal::Options::default()).unwrap();
        let mut worker = LogWorker::new(open().0);
        let command = Bytes::from(vec![7; 15 << 20]);
        let entries: Vec<Entry> = (1..=5).map(|index| entry(index, &command)).collect();
        assert!(entries.iter().map(|entry| entry.size_bytes() as u64).sum::<u64>() > MAX_BATCH_BYTES);
        let hard_state = Some(HardState { current_term: Term(1), voted_for: None });
        let token = WriteToken { attempt: 1, last: entries[4].id };
        let done = worker.run(LogJob::Write { hard_state, entries, token }).unwrap();
        assert_eq!(done, LogDone::Written(token));
        drop(worker);
        let (_, recovered) = open();
        assert_eq!(recovered.hard_state.map(|state| state.current_term), Some(1));
        let places: Vec<(u64, usize)> =
            recovered.entries.iter().map(|record| (record.index, record.data.len())).collect();
        assert_eq!(places, (1..=5).map(|index| (index, 15 << 20)).collect::<Vec<_>>());
    }

    #[test]
    fn one_entry_fits_however_large_and_none_of_none() {
        let small = entry(1, &Bytes::from_static(b"x"));
        let large = entry(2, &Bytes::from(vec![7; MAX_APPEND_BYTES]));
        assert_eq!(fitting(&[]), 0);
        assert_eq!(fitting(&[large.clone(), small.clone()]), 1);
        assert_eq!(fitting(&[small.clone(), large]), 1);
        assert_eq!(fitting(&[small.clone(), small]), 2);
    }
}

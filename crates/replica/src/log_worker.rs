//! Does the jobs of the log, one after the other.
//!
//! [`LogWorker::begin`] does what can be done without waiting for the disk, [`LogWorker::finish`] waits for
//! it. The server calls both on a thread of its own; the simulator lets time pass between them, and may let
//! the power fail there.
//!
//! A log that has no room for its next segment does not fail: the job waits until there is some, as it would for a disk
//! that stands still, and everything behind it does. Only a compaction goes ahead of it, which may be what gives the
//! room. (It concerns what is durable and applied, which no write that waits can take back.)

use std::collections::VecDeque;

use tenure_raft::{Entry, EntryId};
use tenure_wal::{Disk, MAX_BATCH_BYTES, Position, Wal, WalError};

use crate::job::{LogDone, LogJob};
use crate::record::{from_record, position, to_record};

/// How much is appended at once (one entry may be larger). For a follower that is behind, the log is read in pieces of
/// about this size, and each record whole: were they much larger, each would be read many times.
const MAX_APPEND_BYTES: usize = 1 << 20;
/// What the log adds to an entry, at the most.
const RECORD_OVERHEAD_BYTES: usize = 64;
const _: () = assert!((MAX_APPEND_BYTES as u64) < MAX_BATCH_BYTES);

/// The log and its worker.
pub struct LogWorker<D: Disk> {
    wal: Wal<D>,
    /// The job, or what is left of it, that waits for room.
    waiting: Option<LogJob>,
    /// A compaction for which there was no room. A later one does as well.
    owed_compaction: Option<EntryId>,
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
        LogWorker { wal, waiting: None, owed_compaction: None }
    }

    /// Does the job up to the point where the disk must be waited for. None if there is no room for it: it waits, and
    /// until [`retry`](Self::retry) begins it no other job may follow but a [`LogJob::Compact`]. An error is final: the
    /// member must stop.
    pub fn begin(&mut self, job: LogJob) -> Result<Option<Begun>, WalError> {
        let is_compaction = matches!(job, LogJob::Compact { .. });
        assert!(self.waiting.is_none() || is_compaction, "jobs of the log are done in order");
        self.pay_compaction()?;
        match self.try_begin(job)? {
            Ok(begun) => Ok(Some(begun)),
            Err(rest) => {
                self.waiting = Some(rest);
                Ok(None)
            }
        }
    }

    /// Of the jobs that were given, in their order, the next one that may begin now.
    pub fn pick(&self, jobs: &mut VecDeque<LogJob>) -> Option<LogJob> {
        if self.waiting.is_none() {
            return jobs.pop_front();
        }
        let compaction = jobs.iter().position(|job| matches!(job, LogJob::Compact { .. }));
        compaction.and_then(|place| jobs.remove(place))
    }

    /// Whether a job waits for room.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Begins the job that waits for room, if there is some now.
    pub fn retry(&mut self) -> Result<Option<Begun>, WalError> {
        match self.waiting.take() {
            Some(job) => self.begin(job),
            None => Ok(None),
        }
    }

    /// The inner error is what could not be begun for want of room.
    fn try_begin(&mut self, job: LogJob) -> Result<Result<Begun, LogJob>, WalError> {
        let begun = |done, needs_sync| Ok(Ok(Begun { done, needs_sync }));
        match job {
            LogJob::Write { hard_state, entries, token } => {
                let written = hard_state.map(|state| tenure_wal::HardState {
                    current_term: state.current_term.0,
                    voted_for: state.voted_for.map(|id| id.0),
                });
                // A write of nothing only waits its turn: all before it is durable already.
                let needs_sync = written.is_some() || !entries.is_empty();
                if needs_sync && let Some(appended) = self.append(written, &entries)? {
                    // The term goes with the first piece.
                    let hard_state = hard_state.filter(|_| appended.is_nothing);
                    let entries = entries[appended.entries..].to_vec();
                    return Ok(Err(LogJob::Write { hard_state, entries, token }));
                }
                begun(LogDone::Written(token), needs_sync)
            }
            LogJob::Read { to, first, last, max_bytes } => {
                let entries = self.read(first.0, last.0, max_bytes)?;
                begun(LogDone::Read { to, entries }, false)
            }
            LogJob::Compact { through } => {
                self.owed_compaction = Some(through);
                self.pay_compaction()?;
                begun(LogDone::Compacted, false)
            }
            LogJob::Reset { start } => match self.wal.reset(position(start)) {
                Ok(()) => {
                    self.owed_compaction = None;
                    begun(LogDone::Reset { start }, false)
                }
                Err(WalError::NoSpace { .. }) => Ok(Err(LogJob::Reset { start })),
                Err(error) => Err(error),
            },
            LogJob::GiveUpSpares => {
                self.wal.give_up_spares()?;
                begun(LogDone::GaveUpSpares, false)
            }
        }
    }

    fn pay_compaction(&mut self) -> Result<(), WalError> {
        if let Some(through) = self.owed_compaction {
            match self.wal.compact(position(through)) {
                Ok(()) => self.owed_compaction = None,
                Err(WalError::NoSpace { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until what was begun is durable.
    pub fn finish(&mut self, begun: Begun) -> Result<LogDone, WalError> {
        if begun.needs_sync {
            self.wal.sync()?;
        }
        Ok(begun.done)
    }

    /// Does a job whole; none if it waits for room.
    pub fn run(&mut self, job: LogJob) -> Result<Option<LogDone>, WalError> {
        let begun = self.begin(job)?;
        begun.map(|begun| self.finish(begun)).transpose()
    }

    /// To be called when there is nothing else to do: prepares the next segment, a bit at a time. Returns
    /// whether that is done.
    pub fn prepare(&mut self, max_bytes: u64) -> Result<bool, WalError> {
        self.wal.prepare(max_bytes)
    }

    /// Whether there was no room for the next segment when it was last tried: what [`LogDone::Room`] is to say.
    pub fn lacks_room(&self) -> bool {
        self.is_waiting() || self.wal.lacks_room()
    }

    /// Has [`prepare`](Self::prepare) try again what it found no room for.
    pub fn try_again(&mut self) {
        self.wal.try_again();
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
    /// together: a part of entries that nobody has acknowledged is a log like any other. Answers what was appended, if
    /// there was no room for all.
    fn append(
        &mut self,
        mut hard_state: Option<tenure_wal::HardState>,
        entries: &[Entry],
    ) -> Result<Option<Appended>, WalError> {
        let mut appended = Appended { is_nothing: true, entries: 0 };
        loop {
            let rest = &entries[appended.entries..];
            let piece = &rest[..fitting(rest)];
            let records: Vec<_> = piece.iter().map(to_record).collect();
            match self.wal.append(hard_state, &records) {
                Ok(()) => hard_state = None,
                Err(WalError::NoSpace { .. }) => return Ok(Some(appended)),
                Err(error) => return Err(error),
            }
            appended = Appended { is_nothing: false, entries: appended.entries + piece.len() };
            if appended.entries == entries.len() {
                return Ok(None);
            }
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

/// What of a write is in the log.
struct Appended {
    is_nothing: bool,
    entries: usize,
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
        assert_eq!(done, Some(LogDone::Written(token)));
        drop(worker);
        let (_, recovered) = open();
        assert_eq!(recovered.hard_state.map(|state| state.current_term), Some(1));
        let places: Vec<(u64, usize)> =
            recovered.entries.iter().map(|record| (record.index, record.data.len())).collect();
        assert_eq!(places, (1..=5).map(|index| (index, 15 << 20)).collect::<Vec<_>>());
    }

    const SMALL: tenure_wal::Options = tenure_wal::Options { segment_bytes: 8192, max_spares: 1, salt: 0 };

    fn write(attempt: u64, entries: Vec<Entry>) -> LogJob {
        let hard_state = (attempt == 1).then_some(HardState { current_term: Term(1), voted_for: None });
        let token = WriteToken { attempt, last: entries.last().expect("there is one").id };
        LogJob::Write { hard_state, entries, token }
    }

    #[test]
    fn a_write_without_room_waits_and_a_compaction_overtakes_it_and_gives_the_room() {
        let disk = MemoryDisk::new();
        let mut worker = LogWorker::new(Wal::open(disk.clone(), SMALL).unwrap().0);
        let command = Bytes::from(vec![7; 1500]);
        for index in 1..=4 {
            assert!(worker.run(write(index, vec![entry(index, &command)])).unwrap().is_some());
        }
        disk.set_capacity_bytes(Some(2 * SMALL.segment_bytes));
        assert!(worker.prepare(u64::MAX).unwrap());
        assert!(worker.lacks_room());
        // Two segments hold two each. The fifth has no room.
        assert_eq!(worker.run(write(5, vec![entry(5, &command), entry(6, &command)])).unwrap(), None);
        assert!(worker.is_waiting());
        assert!(worker.retry().unwrap().is_none(), "nothing has changed");
        let through = EntryId::new(Index(4), Term(1));
        assert_eq!(worker.run(LogJob::Compact { through }).unwrap(), Some(LogDone::Compacted));
        let begun = worker.retry().unwrap().expect("there is room now");
        let LogDone::Written(token) = worker.finish(begun).unwrap() else { panic!("it was a write") };
        assert_eq!((token.attempt, worker.is_waiting()), (5, false));
        drop(worker);
        let (_, recovered) = Wal::open(disk, SMALL).unwrap();
        assert_eq!(recovered.entries.iter().map(|record| record.index).collect::<Vec<_>>(), [5, 6]);
    }

    #[test]
    fn what_was_written_before_the_room_ended_is_not_written_again() {
        let disk = MemoryDisk::new();
        let options = tenure_wal::Options { segment_bytes: 3 << 20, ..SMALL };
        let mut worker = LogWorker::new(Wal::open(disk.clone(), options).unwrap().0);
        disk.set_capacity_bytes(Some(options.segment_bytes));
        let command = Bytes::from(vec![7; 900 << 10]);
        let entries: Vec<Entry> = (1..=6).map(|index| entry(index, &command)).collect();
        assert_eq!(worker.run(write(1, entries)).unwrap(), None);
        let written_bytes = worker.wal().appended_bytes();
        assert_eq!(worker.wal().last().index, 3, "what found room is there");
        disk.set_capacity_bytes(None);
        let begun = worker.retry().unwrap().expect("there is room now");
        assert!(matches!(worker.finish(begun), Ok(LogDone::Written(_))));
        assert_eq!(worker.wal().last().index, 6);
        assert!(worker.wal().appended_bytes() < 2 * written_bytes + (1 << 10));
    }

    #[test]
    fn a_piece_for_a_follower_costs_about_its_own_size_to_read() {
        let disk = MemoryDisk::new();
        let mut worker = LogWorker::new(Wal::open(disk.clone(), tenure_wal::Options::default()).unwrap().0);
        let command = Bytes::from(vec![7; 100 << 10]);
        let entries: Vec<Entry> = (1..=200).map(|index| entry(index, &command)).collect();
        assert!(worker.run(write(1, entries)).unwrap().is_some());
        let before = disk.read_bytes();
        let to = tenure_raft::NodeId::new(2).unwrap();
        let read = LogJob::Read { to, first: Index(101), last: Index(200), max_bytes: 1 << 20 };
        let Some(LogDone::Read { entries, .. }) = worker.run(read).unwrap() else { panic!("it was a read") };
        assert_eq!(entries.len(), 10);
        let bytes = disk.read_bytes() - before;
        assert!(bytes <= 3 << 20, "{bytes} bytes are read for one megabyte");
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

//! The threads that wait for disks: one for the log, one for the checkpoints, one for the pins, each doing its jobs in
//! order.
//!
//! A disk that fails, or a bug, ends its thread; how it ended is reported apart from the inputs of the core,
//! so that nothing that waits there can hide it.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use tenure_replica::{ApplyJob, CheckpointDone, CheckpointJob, CheckpointWorker, LogDone, LogJob, LogWorker};
use tenure_store::Garbage;
use tenure_wal::{RealDisk, WalError};
use tokio::sync::mpsc;

use crate::input::Input;
use crate::metrics::Metrics;
use crate::pins::PinKeeper;

/// The thread without which nothing is safe.
pub(crate) const LOG_THREAD: &str = "log";
/// How much of the next segment is prepared at a time while there is nothing else to do.
const PREPARE_BYTES: u64 = 1 << 20;

/// How often a log without room looks whether there is some: nobody says so.
const ROOM_RETRY: Duration = Duration::from_secs(1);

/// The way to a worker's thread. Dropping it lets the thread finish what it was given and end.
pub(crate) struct Worker<J> {
    jobs: Sender<J>,
}

impl<J> Worker<J> {
    /// Gives the thread a job. What the replica gives out is bounded, so the queue is.
    pub(crate) fn give(&self, job: J) {
        // A thread that ended early has reported why this member must stop.
        let _ = self.jobs.send(job);
    }
}

/// A thread has ended. An error is why this member cannot go on.
pub(crate) struct Ended {
    pub(crate) name: &'static str,
    pub(crate) result: Result<(), String>,
}

/// Starts the log's thread.
pub(crate) fn start_log(
    worker: LogWorker<RealDisk>,
    inputs: mpsc::Sender<Input>,
    metrics: Metrics,
    ends: mpsc::UnboundedSender<Ended>,
) -> io::Result<Worker<LogJob>> {
    let (jobs, queue) = channel();
    let given = VecDeque::new();
    let thread =
        LogThread { worker, queue, given, inputs, metrics, lacks_room: false, tried_at: Instant::now() };
    spawn(LOG_THREAD, ends, move || thread.run().map_err(|error| format!("the log failed: {error}")))?;
    Ok(Worker { jobs })
}

/// What the log's thread works with.
struct LogThread {
    worker: LogWorker<RealDisk>,
    queue: Receiver<LogJob>,
    /// Jobs that were taken from the queue, and wait for one that waits for room.
    given: VecDeque<LogJob>,
    inputs: mpsc::Sender<Input>,
    metrics: Metrics,
    /// What the core was told.
    lacks_room: bool,
    /// When it was last tried to find room.
    tried_at: Instant,
}

impl LogThread {
    fn run(mut self) -> Result<(), WalError> {
        loop {
            let started = Instant::now();
            let (begun, is_write) = match self.worker.pick(&mut self.given) {
                Some(job) => {
                    let is_write = matches!(job, LogJob::Write { .. });
                    (self.worker.begin(job)?, is_write)
                }
                None => (self.worker.retry()?, false),
            };
            if let Some(begun) = begun {
                let done = self.worker.finish(begun)?;
                if is_write {
                    self.metrics.on_fsync(started.elapsed());
                }
                self.tell(done);
            } else if !self.await_jobs()? {
                return self.worker.close();
            }
        }
    }

    /// Waits until there is something to do. While there is not, the next segment is prepared. Answers whether there is,
    /// or ever will be.
    fn await_jobs(&mut self) -> Result<bool, WalError> {
        loop {
            match self.queue.try_recv() {
                Ok(job) => {
                    self.given.push_back(job);
                    return Ok(true);
                }
                Err(TryRecvError::Disconnected) => return Ok(false),
                Err(TryRecvError::Empty) => {}
            }
            if self.worker.lacks_room() && self.tried_at.elapsed() >= ROOM_RETRY {
                self.worker.try_again();
            }
            if !self.worker.prepare(PREPARE_BYTES)? {
                continue;
            }
            let lacks_room = self.worker.lacks_room();
            if lacks_room && self.tried_at.elapsed() >= ROOM_RETRY {
                self.tried_at = Instant::now();
            }
            if lacks_room != self.lacks_room {
                self.lacks_room = lacks_room;
                self.tell(LogDone::Room { is_lacking: lacks_room });
            }
            if !lacks_room {
                return Ok(self.queue.recv().map(|job| self.given.push_back(job)).is_ok());
            }
            return Ok(match self.queue.recv_timeout(ROOM_RETRY) {
                Ok(job) => {
                    self.given.push_back(job);
                    true
                }
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => false,
            });
        }
    }

    fn tell(&self, done: LogDone) {
        // When the core is gone, what it has given out is still done: the log is to be closed whole.
        let _ = self.inputs.blocking_send(Input::LogDone(done));
    }
}

/// Starts the checkpoints' thread.
pub(crate) fn start_checkpoints(
    mut worker: CheckpointWorker<RealDisk>,
    inputs: mpsc::Sender<Input>,
    ends: mpsc::UnboundedSender<Ended>,
) -> io::Result<Worker<CheckpointJob>> {
    let (jobs, queue) = channel();
    let run = move || {
        for job in queue {
            let done = worker.run(job).map_err(|error| error.to_string())?;
            complain(&done);
            if inputs.blocking_send(Input::CheckpointDone(done)).is_err() {
                return Ok(());
            }
        }
        Ok(())
    };
    spawn("checkpoints", ends, run)?;
    Ok(Worker { jobs })
}

/// What came to nothing and stops nobody is told to the operator.
fn complain(done: &CheckpointDone) {
    match done {
        CheckpointDone::NotTaken { why, .. } => {
            tracing::warn!("there is no room for a checkpoint, which is tried again later: {why}");
        }
        CheckpointDone::NotKept { why, .. } => {
            tracing::warn!("there is no room for the state that this member is sent: {why}");
        }
        CheckpointDone::Unavailable { unreadable: Some(why), .. } => {
            tracing::warn!("a checkpoint cannot be read, and will be written anew: {why}");
        }
        CheckpointDone::Taken { .. }
        | CheckpointDone::Loaded { .. }
        | CheckpointDone::Unavailable { unreadable: None, .. }
        | CheckpointDone::Stored { .. }
        | CheckpointDone::Installed { .. }
        | CheckpointDone::Damaged { .. }
        | CheckpointDone::CannotFollow { .. }
        | CheckpointDone::Reserved { .. } => {}
    }
}

/// Starts the thread of the pins, which ends with the gate.
pub(crate) fn start_pins(keeper: PinKeeper, ends: mpsc::UnboundedSender<Ended>) -> io::Result<()> {
    spawn("pins", ends, move || keeper.run())
}

/// Starts the thread that executes entries that take long.
pub(crate) fn start_apply(
    inputs: mpsc::Sender<Input>,
    ends: mpsc::UnboundedSender<Ended>,
) -> io::Result<Worker<ApplyJob>> {
    let (jobs, queue) = channel::<ApplyJob>();
    let run = move || {
        for job in queue {
            if inputs.blocking_send(Input::ApplyDone(job.run())).is_err() {
                return Ok(());
            }
        }
        Ok(())
    };
    spawn("apply", ends, run)?;
    Ok(Worker { jobs })
}

/// Starts the thread that frees what takes long to free.
pub(crate) fn start_garbage(ends: mpsc::UnboundedSender<Ended>) -> io::Result<Worker<Garbage>> {
    let (jobs, queue) = channel::<Garbage>();
    let run = move || {
        queue.into_iter().for_each(drop);
        Ok(())
    };
    spawn("garbage", ends, run)?;
    Ok(Worker { jobs })
}

/// Does `work` on a thread of its own, and reports how it ended.
fn spawn(
    name: &'static str,
    ends: mpsc::UnboundedSender<Ended>,
    work: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> io::Result<()> {
    let report =
        Report { name, ends, result: Err(format!("a bug in this program: the {name} thread panicked")) };
    std::thread::Builder::new().name(name.into()).spawn(move || report.end(work()))?;
    Ok(())
}

/// Reports when it is dropped, which a panic does, too.
struct Report {
    name: &'static str,
    ends: mpsc::UnboundedSender<Ended>,
    result: Result<(), String>,
}

impl Report {
    fn end(mut self, result: Result<(), String>) {
        self.result = result;
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let result = std::mem::replace(&mut self.result, Ok(()));
        // A member that has stopped does not listen any more.
        let _ = self.ends.send(Ended { name: self.name, result });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_reports_how_it_ended_and_a_panic_is_an_end() {
        let (ends, mut ended) = mpsc::unbounded_channel();
        spawn("good", ends.clone(), || Ok(())).expect("a thread");
        let end = ended.recv().await.expect("a report");
        assert_eq!((end.name, end.result), ("good", Ok(())));
        spawn("bad", ends.clone(), || Err("the disk is full".into())).expect("a thread");
        let end = ended.recv().await.expect("a report");
        assert_eq!((end.name, end.result), ("bad", Err("the disk is full".into())));
        spawn("broken", ends, || panic!("as the test wants it")).expect("a thread");
        let end = ended.recv().await.expect("a report");
        assert_eq!(end.result, Err("a bug in this program: the broken thread panicked".into()));
    }
}

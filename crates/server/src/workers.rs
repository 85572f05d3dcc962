//! The threads that wait for disks: one for the log, one for the checkpoints, one for the pins, each doing its jobs in
//! order.
//!
//! A disk that fails, or a bug, ends its thread; how it ended is reported apart from the inputs of the core,
//! so that nothing that waits there can hide it.

use std::io;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Instant;

use tenure_replica::{ApplyJob, CheckpointJob, CheckpointWorker, LogJob, LogWorker};
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
    mut worker: LogWorker<RealDisk>,
    inputs: mpsc::Sender<Input>,
    metrics: Metrics,
    ends: mpsc::UnboundedSender<Ended>,
) -> io::Result<Worker<LogJob>> {
    let (jobs, queue) = channel();
    let run = move || -> Result<(), WalError> {
        while let Some(job) = next_log_job(&queue, &mut worker)? {
            let started = Instant::now();
            let is_write = matches!(job, LogJob::Write { .. });
            let done = worker.run(job)?;
            if is_write {
                metrics.on_fsync(started.elapsed());
            }
            // When the core is gone, what it has given out is still done: the log is to be closed whole.
            let _ = inputs.blocking_send(Input::LogDone(done));
        }
        worker.close()
    };
    spawn(LOG_THREAD, ends, move || run().map_err(|error| format!("the log failed: {error}")))?;
    Ok(Worker { jobs })
}

/// The next job. While there is none, the next segment is prepared; when there will be none, none.
fn next_log_job(
    queue: &Receiver<LogJob>,
    worker: &mut LogWorker<RealDisk>,
) -> Result<Option<LogJob>, WalError> {
    loop {
        match queue.try_recv() {
            Ok(job) => return Ok(Some(job)),
            Err(TryRecvError::Disconnected) => return Ok(None),
            Err(TryRecvError::Empty) => {
                if worker.prepare(PREPARE_BYTES)? {
                    return Ok(queue.recv().ok());
                }
            }
        }
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
            if inputs.blocking_send(Input::CheckpointDone(done)).is_err() {
                return Ok(());
            }
        }
        Ok(())
    };
    spawn("checkpoints", ends, run)?;
    Ok(Worker { jobs })
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

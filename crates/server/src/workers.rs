//! The threads that wait for disks: one for the log, one for the checkpoints, each doing its jobs in order.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use tenure_replica::{CheckpointJob, CheckpointWorker, LogJob, LogWorker};
use tenure_wal::RealDisk;
use tokio::sync::mpsc;

use crate::core::Input;
use crate::metrics::Metrics;

/// How much of the next segment is prepared at a time while there is nothing else to do.
/// A write that comes meanwhile waits for it.
const PREPARE_BYTES: u64 = 256 << 10;

/// The way to a worker's thread. Dropping it lets the thread finish what it was given and end.
pub(crate) struct Worker<J> {
    jobs: Sender<J>,
}

impl<J> Worker<J> {
    /// Gives the thread a job. What the replica gives out is bounded, so the queue is.
    pub(crate) fn give(&self, job: J) {
        // The thread ends early only after it has reported why this member must stop.
        let _ = self.jobs.send(job);
    }
}

/// Starts the log's thread.
pub(crate) fn start_log(
    mut worker: LogWorker<RealDisk>,
    inputs: mpsc::Sender<Input>,
    metrics: Metrics,
) -> std::io::Result<(Worker<LogJob>, JoinHandle<()>)> {
    let (jobs, queue) = channel();
    let run = move || {
        while let Some(job) = next_log_job(&queue, &mut worker) {
            let started = Instant::now();
            let is_write = matches!(job, LogJob::Write { .. });
            let input = match worker.run(job) {
                Ok(done) => Input::LogDone(done),
                Err(error) => Input::Fatal(format!("the log failed: {error}")),
            };
            if is_write {
                metrics.on_fsync(started.elapsed());
            }
            let is_fatal = matches!(input, Input::Fatal(_));
            if inputs.blocking_send(input).is_err() || is_fatal {
                return;
            }
        }
        if let Err(error) = worker.close() {
            tracing::error!(%error, "the log was not closed in good order");
        }
    };
    let thread = std::thread::Builder::new().name("log".into()).spawn(run)?;
    Ok((Worker { jobs }, thread))
}

/// The next job. While there is none, the next segment is prepared.
fn next_log_job(queue: &Receiver<LogJob>, worker: &mut LogWorker<RealDisk>) -> Option<LogJob> {
    loop {
        match queue.try_recv() {
            Ok(job) => return Some(job),
            Err(TryRecvError::Disconnected) => return None,
            // What goes wrong here goes wrong again, and is reported, when the segment is needed.
            Err(TryRecvError::Empty) => match worker.prepare(PREPARE_BYTES) {
                Ok(true) | Err(_) => return queue.recv().ok(),
                Ok(false) => {}
            },
        }
    }
}

/// Starts the checkpoints' thread.
pub(crate) fn start_checkpoints(
    mut worker: CheckpointWorker<RealDisk>,
    inputs: mpsc::Sender<Input>,
) -> std::io::Result<(Worker<CheckpointJob>, JoinHandle<()>)> {
    let (jobs, queue) = channel();
    let run = move || {
        for job in queue {
            let input = match worker.run(job) {
                Ok(done) => Input::CheckpointDone(done),
                Err(error) => Input::Fatal(error.to_string()),
            };
            let is_fatal = matches!(input, Input::Fatal(_));
            if inputs.blocking_send(input).is_err() || is_fatal {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("checkpoints".into()).spawn(run)?;
    Ok((Worker { jobs }, thread))
}

//! `tenure serve`: one member as a process, with etcd's flags.
//!
//! Here is what a process needs around [`tenure_server::serve`]: settings, a log, a runtime and signals. What
//! a member does is below.

pub(crate) mod arguments;
mod etcd_flags;
pub(crate) mod flags;
mod go;
mod log_queue;
mod logging;
pub(crate) mod notify;
mod shutdown;

use std::io;
use std::num::NonZero;
use std::process::ExitCode;
use std::thread;

use anyhow::Context;
use tenure_server::ServeError;
use tokio::runtime::{Builder, Runtime};

pub(crate) use flags::ServeArguments;
use logging::Log;

/// The exit code where the flags, or the variables that stand in for them, cannot work.
pub(crate) const BAD_COMMAND_LINE: u8 = 2;

/// Runs a member until it is told to stop. The exit code says whether it stopped in good order.
pub(crate) fn main(arguments: &ServeArguments) -> ExitCode {
    let log = match logging::start(arguments.log_format, arguments.log_level) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("cannot start the thread of the log: {error}");
            return ExitCode::FAILURE;
        }
    };
    for warning in &arguments.warnings {
        tracing::warn!("{warning}");
    }
    let exit_code = main_logged(arguments, &log);
    log.flush();
    exit_code
}

fn main_logged(arguments: &ServeArguments, log: &Log) -> ExitCode {
    match run(arguments, log) {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error:#}");
            match error.downcast_ref() {
                // As etcd: whoever starts what failed again would do so in vain.
                Some(ServeError::Removed { .. }) => ExitCode::SUCCESS,
                Some(ServeError::Config(_)) => ExitCode::from(BAD_COMMAND_LINE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(arguments: &ServeArguments, log: &Log) -> anyhow::Result<()> {
    let config = match arguments.config() {
        Ok(config) => config,
        Err(why) => return Err(ServeError::from(why).into()),
    };
    let runtime = runtime(arguments.worker_threads).context("cannot start the threads")?;
    let stop_with_stdin = arguments.stop_with_stdin;
    let result = runtime.block_on(async {
        let stop = shutdown::requested(stop_with_stdin, log.clone()).context("cannot listen for signals")?;
        tenure_server::serve(config, stop, notify::systemd()).await.map_err(anyhow::Error::from)
    });
    // What still runs are reads that nobody waits for any more.
    runtime.shutdown_background();
    result
}

/// On two cores a second thread only takes time from the log's; more cores are shared with the other
/// processes of a machine.
fn runtime(worker_threads: Option<u16>) -> io::Result<Runtime> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = worker_threads.map_or(cores / 2, usize::from);
    let mut builder = if threads <= 1 {
        Builder::new_current_thread()
    } else {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads);
        builder
    };
    builder.enable_all().build()
}

#[cfg(test)]
mod tests;

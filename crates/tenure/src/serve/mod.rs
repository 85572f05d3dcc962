//! `tenure serve`: one member as a process, with etcd's flags.
//!
//! Here is what a process needs around [`tenure_server::serve`]: settings, a log, a runtime and signals. What
//! a member does is below.

pub(crate) mod arguments;
pub(crate) mod flags;
mod logging;
mod shutdown;

use std::io;
use std::num::NonZero;
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, bail};
use tenure_server::ServeError;
use tokio::runtime::{Builder, Runtime};

pub(crate) use flags::ServeArguments;

use crate::causes::with_causes;

/// Runs a member until it is told to stop. The exit code says whether it stopped in good order.
pub(crate) fn main(arguments: &ServeArguments) -> ExitCode {
    logging::start(arguments.log_format, arguments.log_level);
    for warning in &arguments.warnings {
        tracing::warn!("{warning}");
    }
    match run(arguments) {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{}", with_causes(&error));
            // As etcd: whoever starts what failed again would do so in vain.
            let is_removed = matches!(error.downcast_ref(), Some(ServeError::Removed { .. }));
            if is_removed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

fn run(arguments: &ServeArguments) -> anyhow::Result<()> {
    let config = match arguments.config() {
        Ok(config) => config,
        Err(why) => bail!(why),
    };
    let runtime = runtime(arguments.worker_threads).context("cannot start the threads")?;
    let stop_with_stdin = arguments.stop_with_stdin;
    let result = runtime.block_on(async {
        let stop = shutdown::requested(stop_with_stdin).context("cannot listen for signals")?;
        tenure_server::serve(config, stop).await.map_err(anyhow::Error::from)
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

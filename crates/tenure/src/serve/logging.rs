//! The log of a server: lines for people, or JSON objects, on standard error.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;

use super::flags::{LogFormat, LogLevel};
use super::log_queue::LogQueue;

/// The log as long as the process runs.
#[derive(Clone)]
pub(crate) struct Log(LogQueue);

impl Log {
    /// Waits a moment for the last lines.
    pub(crate) fn flush(&self) {
        self.0.flush();
    }
}

/// Sends what is worth `level` to standard error from now on.
pub(crate) fn start(format: LogFormat, level: LogLevel) -> io::Result<Log> {
    let queue = LogQueue::start(io::stderr(), |lines| {
        tracing::warn!(lines, "lines of this log were dropped: nobody read standard error");
    })?;
    let level = match level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    // The libraries' own lines tell nothing below a warning.
    let filter = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("tenure", level);
    let registry = Registry::default().with(filter);
    let lines = fmt::layer().with_writer(queue.clone()).with_target(false);
    let started = match format {
        LogFormat::Console => {
            let is_terminal = io::stderr().is_terminal();
            tracing::subscriber::set_global_default(registry.with(lines.with_ansi(is_terminal)))
        }
        LogFormat::Json => tracing::subscriber::set_global_default(
            registry.with(lines.with_ansi(false).json().flatten_event(true).with_current_span(false)),
        ),
    };
    started.expect("the log is started once");
    // The standard library's own hook would wait for standard error.
    panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            tracing::error!("{panic}\n{backtrace}");
        } else {
            tracing::error!("{panic}");
        }
    }));
    Ok(Log(queue))
}

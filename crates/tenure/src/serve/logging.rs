//! The log of a server: lines for people, or JSON objects, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;

use super::flags::{LogFormat, LogLevel};

/// Sends what is worth `level` to standard error from now on.
pub(crate) fn start(format: LogFormat, level: LogLevel) {
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
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let started = match format {
        LogFormat::Console => {
            let is_terminal = std::io::stderr().is_terminal();
            tracing::subscriber::set_global_default(registry.with(lines.with_ansi(is_terminal)))
        }
        LogFormat::Json => tracing::subscriber::set_global_default(
            registry.with(lines.with_ansi(false).json().flatten_event(true).with_current_span(false)),
        ),
    };
    started.expect("the log is started once");
}

//! The whole thing: real processes, real disks, real sockets.
//!
//! Nothing here looks inside: what is tested is what a user sees of the binary. Tests wait for what they
//! need (an answer, a line in a log), never for time to pass; a bound says when to give up.

#![forbid(unsafe_code)]

mod bad_data;
mod bad_requests;
mod bad_start;
mod client;
mod cluster;
mod commands;
mod crowds;
mod dev;
mod garbage;
mod grpc;
mod http;
mod initial_flags;
mod kills;
mod load;
mod members;
mod older_copies;
mod ports;
mod process;
mod readiness;
mod restarts;
mod strangers;

use std::time::{Duration, Instant};

/// How long a test waits before it gives up: far more than anything takes on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(3);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Asks again and again until there is an answer.
async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

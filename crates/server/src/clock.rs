//! The one clock of a member: microseconds since it started, never backwards.

use std::time::{Duration, Instant};

use tenure_raft::Time;

/// Reads the time for everything below, which never does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock { started: Instant::now() }
    }

    pub(crate) fn now(&self) -> Time {
        Time(self.started.elapsed().as_micros() as u64)
    }

    /// When a point on this clock comes; none for [`Time::NEVER`].
    pub(crate) fn instant(&self, time: Time) -> Option<tokio::time::Instant> {
        let instant = self.started.checked_add(Duration::from_micros(time.0));
        instant.filter(|_| time != Time::NEVER).map(tokio::time::Instant::from_std)
    }
}

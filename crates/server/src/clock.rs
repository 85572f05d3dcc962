//! The one clock of a member: microseconds since it started, never backwards. And the alarm of its core.

use std::pin::Pin;
use std::time::{Duration, Instant};

use tenure_raft::Time;
use tokio::time::Sleep;

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

/// Rings when the next deadline comes, or before.
///
/// Deadlines nearly always move later: each append puts off the next election. To register every one of them
/// would cost the runtime two system calls a turn (it wakes itself up to look at its timers anew), so the
/// alarm stays as it is until it has rung or must ring earlier. Who is woken too early waits again.
pub(crate) struct Alarm {
    sleep: Pin<Box<Sleep>>,
}

impl Alarm {
    pub(crate) fn new() -> Alarm {
        Alarm { sleep: Box::pin(tokio::time::sleep(Duration::MAX)) }
    }

    /// Resolves at `instant` at the latest, if there is one.
    pub(crate) async fn ring(&mut self, instant: Option<tokio::time::Instant>) {
        let Some(instant) = instant else { return std::future::pending().await };
        if self.sleep.is_elapsed() || instant < self.sleep.deadline() {
            self.sleep.as_mut().reset(instant);
        }
        self.sleep.as_mut().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alarm_rings_at_the_deadline_or_before() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let start = tokio::time::Instant::now();
            let after = |ms| start + Duration::from_millis(ms);
            let mut alarm = Alarm::new();
            assert!(tokio::time::timeout(Duration::ZERO, alarm.ring(Some(after(60_000)))).await.is_err());
            alarm.ring(Some(after(20))).await;
            assert!(start.elapsed() >= Duration::from_millis(20), "it was put forward, and no further");
            assert!(
                tokio::time::timeout(Duration::ZERO, alarm.ring(Some(after(60_000)))).await.is_err(),
                "once"
            );
            let soon = tokio::time::Instant::now() + Duration::from_secs(1);
            assert!(tokio::time::timeout(Duration::ZERO, alarm.ring(Some(soon))).await.is_err(), "not yet");
            // Put off, it still rings when it would have.
            alarm.ring(Some(after(60_000))).await;
            assert!(tokio::time::Instant::now() >= soon && start.elapsed() < Duration::from_secs(50));
        });
    }
}

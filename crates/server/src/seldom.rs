//! Lines of the log that would be written once for each of thousands of clients: said seldom, with how often.

use std::time::Duration;

use tokio::time::Instant;

/// How long it is silent after a line.
const SILENCE: Duration = Duration::from_mins(1);

/// Says something once a minute at most.
#[derive(Default)]
pub(crate) struct Seldom {
    said_at: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// It has happened again: how often since the last line, if it is time for one.
    pub(crate) fn again(&mut self) -> Option<u64> {
        self.unsaid += 1;
        let now = Instant::now();
        if self.said_at.is_some_and(|said_at| now - said_at < SILENCE) {
            return None;
        }
        self.said_at = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_happens_often_is_said_once_a_minute_with_how_often() {
        let mut seldom = Seldom::default();
        assert_eq!(seldom.again(), Some(1));
        assert_eq!((seldom.again(), seldom.again()), (None, None));
        tokio::time::advance(SILENCE).await;
        assert_eq!(seldom.again(), Some(3));
    }
}

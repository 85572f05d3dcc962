//! A member's own clock: it began at some other time than the world, and runs a little too fast or slow.

use tenure_raft::Time;

const PPM: u64 = 1_000_000;

/// A clock that is wrong by a constant and by a rate, both of which may change while it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// A moment of the world…
    world_us: u64,
    /// …what the clock showed then…
    shown_us: u64,
    /// …and how fast it has run since: a million is right.
    rate_ppm: u64,
}

impl Clock {
    pub(crate) fn new(shown_us: u64, rate_ppm: u64) -> Clock {
        Clock { world_us: 0, shown_us, rate_ppm }
    }

    /// What it shows at a moment of the world.
    pub(crate) fn shows(&self, world_us: u64) -> Time {
        Time(self.shown_us + (world_us - self.world_us) * self.rate_ppm / PPM)
    }

    /// The first moment of the world at which it shows `time`; none for a time that never comes.
    pub(crate) fn when(&self, time: Time) -> Option<u64> {
        if time == Time::NEVER {
            return None;
        }
        let ahead_us = u128::from(time.0.saturating_sub(self.shown_us));
        Some(self.world_us + (ahead_us * u128::from(PPM)).div_ceil(u128::from(self.rate_ppm)) as u64)
    }

    /// From now on it runs at another rate, after a jump ahead. (Monotonic clocks do not jump back.)
    pub(crate) fn change(&mut self, world_us: u64, rate_ppm: u64, jump_us: u64) {
        self.shown_us = self.shows(world_us).0 + jump_us;
        self.world_us = world_us;
        self.rate_ppm = rate_ppm;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_has_come_when_it_is_said_to_come_and_not_before() {
        for rate_ppm in [900_000, 999_999, 1_000_000, 1_000_001, 1_100_000] {
            let mut clock = Clock::new(77, rate_ppm);
            for step in 1..50 {
                let deadline = Time(clock.shows(step * 1_000).0 + step * 37);
                let at_us = clock.when(deadline).unwrap();
                assert!(clock.shows(at_us) >= deadline);
                assert!(at_us == step * 1_000 || clock.shows(at_us - 1) < deadline);
            }
            clock.change(60_000, 1_000_000, 5);
            assert_eq!(clock.when(Time(clock.shows(60_000).0 + 10)), Some(60_010));
            assert_eq!(clock.when(Time::NEVER), None);
        }
    }
}

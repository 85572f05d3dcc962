//! How much may be under way to one follower: a window that is measured, not set.
//!
//! The window is what a link carries in twice its round trip, or in [`QUEUE_US`] if that is longer: enough to
//! keep the link busy while answers travel, and no more than that waits in queues. A fixed window is wrong on
//! one link or the other: too small for a long fast one, minutes of queue on a slow one. The rate is that of
//! answers, so it includes the follower's disk.
//!
//! The estimates are those of BBR (Cardwell et al., "BBR: Congestion-Based Congestion Control", 2016): the
//! highest rate of delivery that was seen lately, and the shortest round trip.

use crate::Time;

/// A link is kept busy for this long at least: a follower answers after its disk has synced, for several
/// appends at once.
const QUEUE_US: u64 = 100_000;
/// The window before anything was measured.
const INITIAL_WINDOW_BYTES: usize = 64 << 20;
/// The smallest window.
const MIN_WINDOW_BYTES: usize = 1 << 20;
/// A window is sent in this many appends at least…
const APPENDS_PER_WINDOW: usize = 8;
/// …but none is made smaller than this.
const MIN_APPEND_BYTES: usize = 64 << 10;
/// A rate counts for one to two periods of so many answers…
const PERIOD_ANSWERS: u32 = 16;
/// …and so much time.
const PERIOD_US: u64 = 1_000_000;
/// A round trip counts for one to two periods of this length.
const ROUND_TRIP_PERIOD_US: u64 = 30_000_000;

/// What was known when an append was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sample {
    sent_at: Time,
    /// What had been delivered, in all.
    delivered_bytes: u64,
    /// When that was last more.
    delivered_at: Time,
}

impl Sample {
    pub(crate) fn sent_at(&self) -> Time {
        self.sent_at
    }
}

/// The highest, or the lowest, of one to two periods.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Lately {
    before: Option<u64>,
    now: Option<u64>,
    since: Time,
    count: u32,
}

impl Lately {
    fn begin_period(&mut self, now: Time) {
        *self = Lately { before: self.now, now: None, since: now, count: 0 };
    }
}

/// What is known of the way to one follower.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Flow {
    delivered_bytes: u64,
    delivered_at: Time,
    /// Bytes a second.
    rate: Lately,
    round_trip_us: Lately,
    /// The window, and not the lack of entries, holds the stream back.
    is_limited: bool,
}

impl Flow {
    /// An append leaves; `is_first` if no other is under way.
    pub(crate) fn sent(&mut self, now: Time, is_first: bool) -> Sample {
        if is_first {
            // The time in which there was nothing to send says nothing of the link.
            self.delivered_at = now;
        }
        Sample { sent_at: now, delivered_bytes: self.delivered_bytes, delivered_at: self.delivered_at }
    }

    /// Whether the window holds back what could be sent.
    pub(crate) fn limited(&mut self, is_limited: bool) {
        self.is_limited = is_limited;
    }

    /// Appends of so many bytes have been answered; `newest` is the last of them.
    pub(crate) fn delivered(&mut self, now: Time, bytes: usize, newest: Sample) {
        self.delivered_bytes += bytes as u64;
        self.delivered_at = now;
        let round_trip_us = now.since_us(newest.sent_at);
        let elapsed_us = now.since_us(newest.delivered_at);
        if elapsed_us == 0 {
            return;
        }
        self.count_round_trip(now, round_trip_us);
        let sample_bytes = self.delivered_bytes - newest.delivered_bytes;
        let rate = u128::from(sample_bytes) * 1_000_000 / u128::from(elapsed_us);
        self.count_rate(now, u64::try_from(rate).unwrap_or(u64::MAX));
    }

    fn count_round_trip(&mut self, now: Time, sample_us: u64) {
        let known = &mut self.round_trip_us;
        // In a stream that the window limits, a round trip is mostly the wait in our own queue.
        if !self.is_limited && now.since_us(known.since) >= ROUND_TRIP_PERIOD_US {
            known.begin_period(now);
        }
        known.now = Some(known.now.map_or(sample_us, |known| known.min(sample_us)));
    }

    fn count_rate(&mut self, now: Time, sample: u64) {
        let known = &mut self.rate;
        // What little there was to send says only that the link carries that much.
        if !self.is_limited && known.now.is_none_or(|known| known >= sample) {
            return;
        }
        if known.count >= PERIOD_ANSWERS && now.since_us(known.since) >= PERIOD_US {
            known.begin_period(now);
        }
        known.count += u32::from(self.is_limited);
        known.now = Some(known.now.map_or(sample, |known| known.max(sample)));
    }

    /// How many bytes may be under way.
    pub(crate) fn window_bytes(&self, max_bytes: usize) -> usize {
        let Some(rate) = self.rate.before.max(self.rate.now) else {
            return INITIAL_WINDOW_BYTES.min(max_bytes);
        };
        let known = self.round_trip_us;
        let round_trip_us = known.before.into_iter().chain(known.now).min().unwrap_or(0);
        let bytes = u128::from(rate) * u128::from(QUEUE_US.max(2 * round_trip_us)) / 1_000_000;
        usize::try_from(bytes).unwrap_or(usize::MAX).max(MIN_WINDOW_BYTES).min(max_bytes)
    }

    /// How large an append may be: several to a window, so that answers come steadily.
    pub(crate) fn append_bytes(&self, max_window_bytes: usize, max_append_bytes: usize) -> usize {
        let share = self.window_bytes(max_window_bytes) / APPENDS_PER_WINDOW;
        share.max(MIN_APPEND_BYTES).min(max_append_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `window`s as they are allowed over a link of a rate and a round trip, in order, and returns the
    /// last window.
    fn window_over(rate_bytes_per_s: u64, round_trip_us: u64, answers: usize) -> usize {
        const MAX_BYTES: usize = 1 << 30;
        let mut flow = Flow::default();
        let mut under_way = std::collections::VecDeque::new();
        let (mut bytes, mut free_at_us, mut now) = (0, 0, Time(1));
        for _ in 0..answers {
            while bytes < flow.window_bytes(MAX_BYTES) {
                let size = flow.append_bytes(MAX_BYTES, 1 << 20);
                let sample = flow.sent(now, under_way.is_empty());
                free_at_us = now.0.max(free_at_us) + size as u64 * 1_000_000 / rate_bytes_per_s;
                under_way.push_back((free_at_us + round_trip_us, size, sample));
                bytes += size;
            }
            flow.limited(true);
            let (at_us, size, sample) = under_way.pop_front().expect("something is under way");
            now = Time(at_us);
            bytes -= size;
            flow.delivered(now, size, sample);
        }
        flow.window_bytes(MAX_BYTES)
    }

    #[test]
    fn a_window_is_what_the_link_carries_in_two_round_trips() {
        for (mib_per_s, round_trip_ms) in [(100, 10), (100, 100), (1_000, 1), (1_000, 200)] {
            let rate = mib_per_s << 20;
            let window = window_over(rate, round_trip_ms * 1_000, 4_000) as u64;
            let wanted = rate * (2 * round_trip_ms).max(QUEUE_US / 1_000) / 1_000;
            let range = wanted * 9 / 10..=wanted * 5 / 4;
            assert!(range.contains(&window), "{mib_per_s} MiB/s, {round_trip_ms} ms: {window} of {wanted}");
        }
    }

    #[test]
    fn a_slow_link_gets_a_small_window() {
        // The first appends were large: each took a second of a round trip.
        assert!(window_over(1 << 20, 1_000, 400) <= 9 * MIN_WINDOW_BYTES / 4);
    }

    #[test]
    fn little_to_send_does_not_narrow_the_window() {
        let mut flow = Flow::default();
        for second in 1..100 {
            let now = Time(second * 1_000_000);
            let sample = flow.sent(now, true);
            flow.delivered(now.after(1_000), 100, sample);
        }
        assert_eq!(flow.window_bytes(1 << 30), INITIAL_WINDOW_BYTES);
    }
}

//! The one source of chance: a small generator that is a value.
//!
//! SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014). Only
//! integers are used, so that a seed means the same on every machine. Each part of the world draws from a
//! generator of its own, split off at the start: one more draw in one part does not change what all others
//! do.

/// A seeded generator.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

/// A probability in millionths.
pub(crate) const CERTAIN_PPM: u32 = 1_000_000;

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A generator of its own.
    pub(crate) fn split(&mut self) -> Random {
        Random(self.next_u64())
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; zero when `bound` is zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product is as good as a remainder and needs no division.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "a range has a number in it");
        low + self.below(high - low + 1)
    }

    /// Whether something of this probability happens.
    pub(crate) fn chance(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.below(u64::from(CERTAIN_PPM)) < u64::from(ppm)
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// The time to the next of events that come `mean` apart: exponentially distributed, to within a few
    /// percent. −ln u is computed as −log₂ u · ln 2, with the logarithm's fraction taken as linear.
    pub(crate) fn exponential(&mut self, mean: u64) -> u64 {
        const LN_2_Q16: u128 = 45_426;
        let drawn = self.next_u64() | 1;
        let zeros = drawn.leading_zeros();
        let fraction_q16 = ((drawn << zeros) << 1) >> 48;
        let minus_log_q16 = (u64::from(zeros + 1) << 16) - fraction_q16;
        ((u128::from(mean) * u128::from(minus_log_q16) * LN_2_Q16) >> 32) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_draws_have_the_mean_asked_for() {
        let mut random = Random::new(1);
        let sum: u64 = (0..100_000).map(|_| random.exponential(1_000)).sum();
        let mean = sum / 100_000;
        assert!((900..1_100).contains(&mean), "the mean is {mean}");
    }

    #[test]
    fn bounds_are_kept() {
        let mut random = Random::new(2);
        let drawn: Vec<u64> = (0..1_000).map(|_| random.between(3, 5)).collect();
        assert!((3..=5).all(|number| drawn.contains(&number)));
        assert!(drawn.iter().all(|number| (3..=5).contains(number)));
        assert!(!random.chance(0) && random.chance(CERTAIN_PPM));
        assert_eq!(random.below(0), 0);
    }
}

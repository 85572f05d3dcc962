//! Numbers that look random and are the same for the same seed.

/// A small generator of numbers that look random (Steele, Lea and Flood, "Fast splittable pseudorandom
/// number generators", OOPSLA 2014).
pub(super) struct SplitMix64(pub(super) u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "one of no outcomes cannot be drawn");
        self.next() % bound
    }
}

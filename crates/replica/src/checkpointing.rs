//! When the next checkpoint is due.
//!
//! Whenever the log has grown by so many entries or bytes, whatever the size of the state: a checkpoint costs in
//! proportion to what has changed since the one before (see [`crate::segments`]).

use tenure_raft::Time;
use tenure_store::Store;

use crate::Options;

/// How long after several failures the next attempt waits: so many times twice as long.
const MOST_DOUBLINGS: u32 = 5;

/// What may bring a checkpoint forward or hold it up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    /// A follower needs what the log would forget: it waits longer.
    pub(crate) is_held: bool,
    /// The log has no room for another segment: it is taken as soon as it brings anything.
    pub(crate) is_urgent: bool,
    /// The disk is short of room, of which a compaction gives some back with the next checkpoint.
    pub(crate) is_short: bool,
    pub(crate) now: Time,
}

/// What was done about checkpoints, and what has been applied since.
#[derive(Debug)]
pub(crate) struct Checkpointing {
    is_running: bool,
    /// Up to here the state is in the newest checkpoint, or in the one being written.
    covered_index: u64,
    bytes_since: u64,
    /// Up to which revision history was compacted in it.
    compact_revision: i64,
    /// What the three were before the checkpoint that is being written.
    before: (u64, u64, i64),
    /// The newest one cannot be read any more: it is written anew as soon as that brings anything.
    is_unreadable: bool,
    /// How many found no room, one after the other; and when there may be another attempt.
    failures: u32,
    not_before: Time,
}

impl Checkpointing {
    /// The state is in a checkpoint.
    pub(crate) fn covered(store: &Store) -> Checkpointing {
        let covered_index = store.applied_index();
        Checkpointing {
            is_running: false,
            covered_index,
            bytes_since: 0,
            compact_revision: store.compact_revision(),
            before: (covered_index, 0, store.compact_revision()),
            is_unreadable: false,
            failures: 0,
            not_before: Time(0),
        }
    }

    /// An entry was applied.
    pub(crate) fn on_applied(&mut self, entry_bytes: usize) {
        self.bytes_since += entry_bytes as u64;
    }

    /// Whether the state is to be written now.
    pub(crate) fn is_due(&self, store: &Store, due: Due, options: &Options) -> bool {
        let entries = store.applied_index() - self.covered_index;
        let delay = if due.is_held { options.max_checkpoint_delay } else { 1 };
        let is_wanted = due.is_urgent
            || due.is_short && store.compact_revision() > self.compact_revision
            || self.is_unreadable
            || entries >= options.checkpoint_entries.saturating_mul(delay)
            || self.bytes_since >= options.checkpoint_bytes.saturating_mul(delay);
        is_wanted && entries > 0 && !self.is_running && self.not_before <= due.now
    }

    /// The state as it is now is being written.
    pub(crate) fn begin(&mut self, store: &Store) {
        self.is_running = true;
        self.before = (self.covered_index, self.bytes_since, self.compact_revision);
        (self.covered_index, self.bytes_since) = (store.applied_index(), 0);
        self.compact_revision = store.compact_revision();
    }

    /// It is written.
    pub(crate) fn finish(&mut self) {
        self.is_running = false;
        self.is_unreadable = false;
        self.on_room();
    }

    /// There was no room for it: it is as due as before, but not at once.
    pub(crate) fn fail(&mut self, now: Time, options: &Options) {
        self.is_running = false;
        let (covered_index, bytes, compact_revision) = self.before;
        (self.covered_index, self.compact_revision) = (covered_index, compact_revision);
        self.bytes_since += bytes;
        self.not_before = now.after(options.room_retry_us << self.failures.min(MOST_DOUBLINGS));
        self.failures += 1;
    }

    /// There is room for one now.
    pub(crate) fn on_room(&mut self) {
        (self.failures, self.not_before) = (0, Time(0));
    }

    /// The newest one cannot be read any more.
    pub(crate) fn on_unreadable(&mut self) {
        self.is_unreadable = true;
    }

    /// A checkpoint that came from elsewhere has taken the state's place.
    pub(crate) fn install(&mut self, store: &Store) {
        *self = Checkpointing { is_running: self.is_running, ..Checkpointing::covered(store) };
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tenure_store::{Command, PutRequest};

    use super::*;

    const NOW: Due = Due { is_held: false, is_urgent: false, is_short: false, now: Time(1) };
    const HELD: Due = Due { is_held: true, ..NOW };

    const VALUE_BYTES: usize = 100_000;

    fn put(store: &mut Store, checkpointing: &mut Checkpointing) {
        let value = Bytes::from(vec![7; VALUE_BYTES]);
        let put = PutRequest { key: Bytes::from_static(b"k"), value, ..PutRequest::default() };
        let applied = store.apply(store.applied_index() + 1, &Command::Put(put));
        assert!(applied.result.is_ok());
        checkpointing.on_applied(VALUE_BYTES);
    }

    #[test]
    fn p3_a_large_state_waits_no_longer_than_a_small_one() {
        let options = Options { checkpoint_entries: 10, ..Options::default() };
        let mut store = Store::new();
        let mut checkpointing = Checkpointing::covered(&store);
        for number in 1..=1000 {
            put(&mut store, &mut checkpointing);
            assert_eq!(checkpointing.is_due(&store, NOW, &options), number % 10 == 0);
            if number % 10 == 0 {
                checkpointing.begin(&store);
                assert!(!checkpointing.is_due(&store, NOW, &options), "one at a time");
                checkpointing.finish();
            }
        }
    }

    #[test]
    fn bytes_alone_make_a_checkpoint_due() {
        let options = Options { checkpoint_bytes: 1_000_000, ..Options::default() };
        let mut store = Store::new();
        let mut checkpointing = Checkpointing::covered(&store);
        for _ in 1..10 {
            put(&mut store, &mut checkpointing);
            assert!(!checkpointing.is_due(&store, NOW, &options));
        }
        put(&mut store, &mut checkpointing);
        assert!(checkpointing.is_due(&store, NOW, &options));
    }

    #[test]
    fn a_checkpoint_waits_for_a_follower_but_not_for_ever() {
        let options = Options { checkpoint_entries: 10, max_checkpoint_delay: 4, ..Options::default() };
        let mut store = Store::new();
        let mut checkpointing = Checkpointing::covered(&store);
        for number in 1..=40 {
            put(&mut store, &mut checkpointing);
            assert_eq!(checkpointing.is_due(&store, NOW, &options), number >= 10);
            assert_eq!(checkpointing.is_due(&store, HELD, &options), number >= 40, "the log stays bounded");
        }
    }

    #[test]
    fn a_checkpoint_without_room_is_due_again_but_not_at_once() {
        let options = Options { checkpoint_entries: 10, ..Options::default() };
        let at = |us| Due { now: Time(us), ..NOW };
        let mut store = Store::new();
        let mut checkpointing = Checkpointing::covered(&store);
        (0..10).for_each(|_| put(&mut store, &mut checkpointing));
        let mut now_us = 0;
        for wait_us in [1, 2, 4, 8, 16, 32, 32].map(|times| times * options.room_retry_us) {
            assert!(checkpointing.is_due(&store, at(now_us), &options));
            checkpointing.begin(&store);
            checkpointing.fail(Time(now_us), &options);
            assert!(!checkpointing.is_due(&store, at(now_us + wait_us - 1), &options));
            now_us += wait_us;
        }
        checkpointing.begin(&store);
        checkpointing.fail(Time(now_us), &options);
        checkpointing.on_room();
        assert!(checkpointing.is_due(&store, at(now_us), &options), "there is room");
        checkpointing.begin(&store);
        checkpointing.finish();
        assert!(!checkpointing.is_due(&store, at(now_us), &options));
    }

    #[test]
    fn what_is_urgent_or_unreadable_is_written_as_soon_as_it_brings_anything() {
        let options = Options::default();
        let urgent = Due { is_urgent: true, ..NOW };
        let mut store = Store::new();
        let mut checkpointing = Checkpointing::covered(&store);
        assert!(!checkpointing.is_due(&store, urgent, &options), "there is nothing to write");
        put(&mut store, &mut checkpointing);
        assert!(checkpointing.is_due(&store, urgent, &options));
        assert!(!checkpointing.is_due(&store, NOW, &options));
        let short = Due { is_short: true, ..NOW };
        assert!(!checkpointing.is_due(&store, short, &options), "it would give nothing back");
        let compaction = Command::Compact { revision: store.revision(), physical: false };
        assert!(store.apply(store.applied_index() + 1, &compaction).result.is_ok());
        assert!(checkpointing.is_due(&store, short, &options));
        checkpointing.begin(&store);
        checkpointing.fail(NOW.now, &options);
        assert!(checkpointing.is_due(&store, Due { now: Time(u64::MAX), ..short }, &options), "as before");
        checkpointing.on_room();
        checkpointing.on_unreadable();
        assert!(checkpointing.is_due(&store, NOW, &options));
    }
}

//! When the next checkpoint is due.
//!
//! Whenever the log has grown by so many entries or bytes, whatever the size of the state: a checkpoint costs in
//! proportion to what has changed since the one before (see [`crate::segments`]).

use tenure_store::Store;

use crate::Options;

/// What was done about checkpoints, and what has been applied since.
#[derive(Debug)]
pub(crate) struct Checkpointing {
    is_running: bool,
    /// Up to here the state is in the newest checkpoint, or in the one being written.
    covered_index: u64,
    bytes_since: u64,
}

impl Checkpointing {
    /// The state is in a checkpoint.
    pub(crate) fn covered(store: &Store) -> Checkpointing {
        Checkpointing { is_running: false, covered_index: store.applied_index(), bytes_since: 0 }
    }

    /// An entry was applied.
    pub(crate) fn on_applied(&mut self, entry_bytes: usize) {
        self.bytes_since += entry_bytes as u64;
    }

    /// Whether the state is to be written now. It waits longer if the log `is_held` by a follower that needs
    /// it.
    pub(crate) fn is_due(&self, store: &Store, is_held: bool, options: &Options) -> bool {
        let entries = store.applied_index() - self.covered_index;
        let delay = if is_held { options.max_checkpoint_delay } else { 1 };
        let is_wanted = entries >= options.checkpoint_entries.saturating_mul(delay)
            || (entries > 0 && self.bytes_since >= options.checkpoint_bytes.saturating_mul(delay));
        is_wanted && !self.is_running
    }

    /// The state as it is now is being written.
    pub(crate) fn begin(&mut self, store: &Store) {
        *self = Checkpointing { is_running: true, ..Checkpointing::covered(store) };
    }

    /// It is written.
    pub(crate) fn finish(&mut self) {
        self.is_running = false;
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
            assert_eq!(checkpointing.is_due(&store, false, &options), number % 10 == 0);
            if number % 10 == 0 {
                checkpointing.begin(&store);
                assert!(!checkpointing.is_due(&store, false, &options), "one at a time");
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
            assert!(!checkpointing.is_due(&store, false, &options));
        }
        put(&mut store, &mut checkpointing);
        assert!(checkpointing.is_due(&store, false, &options));
    }

    #[test]
    fn a_checkpoint_waits_for_a_follower_but_not_for_ever() {
        let options = Options { checkpoint_entries: 10, max_checkpoint_delay: 4, ..Options::default() };
        let mut store = Store::new();
        let mut checkpointing = Checkpointing::covered(&store);
        for number in 1..=40 {
            put(&mut store, &mut checkpointing);
            assert_eq!(checkpointing.is_due(&store, false, &options), number >= 10);
            assert_eq!(checkpointing.is_due(&store, true, &options), number >= 40, "the log stays bounded");
        }
    }
}

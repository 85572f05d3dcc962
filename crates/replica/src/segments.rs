//! The files of a checkpoint, and how far back the next one reaches.
//!
//! A segment is a file with one or more parts of a checkpoint (docs/checkpoint-format.md); a checkpoint is a list of
//! them. The next checkpoint keeps the first few of the last one's and puts one new segment behind them, which holds
//! what has changed above the last that is kept. It is written from memory: no old file is read.
//!
//! The further back it reaches, the more is written again; the less far, the more files there are, and the more of
//! what they hold is dead. So it takes in its predecessor while that is no larger than what is written anyway, as a
//! log-structured merge tree with tiers does (O'Neil et al., "The Log-Structured Merge-Tree", 1996; Bentley and
//! Saxe's logarithmic method of 1980): there are about as many files as the number of checkpoints has binary digits,
//! and no record is written more often than that. When more is dead than alive, all is written anew.

use tenure_raft::EntryId;
use tenure_store::Snapshot;

/// No checkpoint has more files. There are that many only where small ones could not be put together, because the
/// deletes between them are forgotten.
pub(crate) const MAX_SEGMENTS: usize = 32;

/// A file with parts of a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    /// Of the checkpoint that it was written for. It gives the file its name.
    pub(crate) last_included: EntryId,
    /// What the state's revision was there.
    pub(crate) revision: i64,
    pub(crate) len_bytes: u64,
    pub(crate) crc: u32,
}

/// How many of a checkpoint's `segments` the next one keeps, which is to hold `state`. None: it is written whole.
/// `max_dead_bytes` may be dead whatever the size of the state.
pub(crate) fn kept_segments(segments: &[Segment], state: &Snapshot, max_dead_bytes: u64) -> usize {
    let Some(last) = segments.last() else { return 0 };
    if segments.len() == MAX_SEGMENTS || !state.can_build_on(last.revision) {
        return 0;
    }
    let mut written_bytes = state.part_bytes(last.revision);
    let mut kept = segments.len();
    // The first holds the whole state as it was: it goes only when all is written anew.
    while kept > 1
        && segments[kept - 1].len_bytes <= written_bytes
        && state.can_build_on(segments[kept - 2].revision)
    {
        written_bytes += segments[kept - 1].len_bytes;
        kept -= 1;
    }
    let kept_bytes: u64 = segments[..kept].iter().map(|segment| segment.len_bytes).sum();
    let max_bytes = (2 * state.checkpoint_bytes()).saturating_add(max_dead_bytes);
    if kept_bytes + written_bytes > max_bytes { 0 } else { kept }
}

/// The segment that holds the byte at `offset` of them all, and where in it.
pub(crate) fn segment_at(segments: &[Segment], mut offset: u64) -> Option<(&Segment, u64)> {
    for segment in segments {
        if offset < segment.len_bytes {
            return Some((segment, offset));
        }
        offset -= segment.len_bytes;
    }
    None
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tenure_raft::{Index, Term};
    use tenure_store::checkpoint::Writer;
    use tenure_store::{Command, DeleteRangeRequest, PutRequest, Store};

    use super::*;

    /// A state that is large and changes slowly, and the checkpoints taken of it.
    struct Machine {
        store: Store,
        segments: Vec<Segment>,
        written_bytes: u64,
        max_dead_bytes: u64,
    }

    const KEYS: u64 = 10_000;

    impl Machine {
        fn new() -> Machine {
            let (store, segments) = (Store::new(), Vec::new());
            let mut machine = Machine { store, segments, written_bytes: 0, max_dead_bytes: 0 };
            (0..KEYS).for_each(|key| machine.put(key));
            machine.checkpoint();
            machine.written_bytes = 0;
            machine
        }

        fn apply(&mut self, command: &Command) {
            let applied = self.store.apply(self.store.applied_index() + 1, command);
            assert!(applied.result.is_ok());
        }

        fn put(&mut self, key: u64) {
            let (key, value) = (Bytes::from(format!("key {key:08}")), Bytes::from(vec![7; 50]));
            self.apply(&Command::Put(PutRequest { key, value, ..PutRequest::default() }));
        }

        fn compact(&mut self) {
            self.apply(&Command::Compact { revision: self.store.revision(), physical: false });
        }

        fn checkpoint(&mut self) {
            let state = self.store.snapshot();
            let kept = kept_segments(&self.segments, &state, self.max_dead_bytes);
            let writer = match kept.checked_sub(1) {
                None => Writer::new(state),
                Some(last) => Writer::part(state, self.segments[last].revision),
            };
            let len_bytes = writer.map(|block| block.len() as u64).sum();
            self.written_bytes += len_bytes;
            self.segments.truncate(kept);
            self.segments.push(Segment {
                last_included: EntryId::new(Index(self.store.applied_index()), Term(1)),
                revision: self.store.revision(),
                len_bytes,
                crc: 0,
            });
            self.store.forget_buried(self.segments[0].revision);
        }

        fn whole_bytes(&self) -> u64 {
            Writer::new(self.store.snapshot()).map(|block| block.len() as u64).sum()
        }
    }

    #[test]
    fn p3_what_is_written_is_in_proportion_to_what_changed() {
        const CHECKPOINTS: u64 = 64;
        let mut machine = Machine::new();
        for number in 0..CHECKPOINTS {
            (0..KEYS / 100).for_each(|key| machine.put((number * 37 + key * 101) % KEYS));
            machine.compact();
            machine.checkpoint();
            assert!(machine.segments.len() <= 8, "{} files", machine.segments.len());
        }
        let whole_bytes = machine.whole_bytes();
        let changed_bytes = CHECKPOINTS * whole_bytes / 100;
        // Six binary digits, and a whole one once all has changed.
        let most = 8 * changed_bytes + whole_bytes;
        assert!(machine.written_bytes < most, "{} bytes for {changed_bytes}", machine.written_bytes);
        assert!(machine.written_bytes > changed_bytes, "nothing is missing");
    }

    #[test]
    fn what_lies_on_the_disk_is_in_proportion_to_the_state() {
        let mut machine = Machine::new();
        let mut whole = 0;
        for _ in 0..300 {
            (0..KEYS / 100).for_each(|key| machine.put(key));
            machine.compact();
            machine.checkpoint();
            let stored: u64 = machine.segments.iter().map(|segment| segment.len_bytes).sum();
            assert!(stored < 3 * machine.whole_bytes(), "{stored} bytes");
            whole += u64::from(machine.segments.len() == 1);
        }
        // What a hundred keys were is put together again and again: it is never more than a little.
        assert_eq!(whole, 0, "nothing of the rest was ever written again");
    }

    #[test]
    fn a_state_that_shrinks_is_written_anew() {
        let mut machine = Machine::new();
        let (key, range_end) = (Bytes::from_static(b"key"), Bytes::from_static(b"key 00009"));
        machine.apply(&Command::DeleteRange(DeleteRangeRequest { key, range_end, prev_kv: false }));
        machine.checkpoint();
        assert_eq!(machine.segments.len(), 2, "while the history is kept, nothing is dead");
        machine.put(1);
        machine.compact();
        machine.checkpoint();
        assert_eq!(machine.segments.len(), 1);
    }

    #[test]
    fn a_small_state_need_not_be_written_anew_however_much_of_it_is_dead() {
        let mut machine = Machine::new();
        machine.max_dead_bytes = 1 << 20;
        let (key, range_end) = (Bytes::from_static(b"key"), Bytes::from_static(b"key 00009999"));
        machine.apply(&Command::DeleteRange(DeleteRangeRequest { key, range_end, prev_kv: false }));
        machine.checkpoint();
        machine.compact();
        machine.put(1);
        machine.checkpoint();
        assert_eq!(machine.segments.len(), 3);
    }

    #[test]
    fn there_are_never_more_files_than_the_most() {
        let mut machine = Machine::new();
        machine.segments = vec![machine.segments[0].clone(); MAX_SEGMENTS];
        machine.put(1);
        assert_eq!(kept_segments(&machine.segments, &machine.store.snapshot(), u64::MAX), 0);
        machine.segments.pop();
        let kept = kept_segments(&machine.segments, &machine.store.snapshot(), u64::MAX);
        assert_eq!(kept, MAX_SEGMENTS - 1);
    }
}

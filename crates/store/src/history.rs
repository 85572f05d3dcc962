//! All changes since the compaction, in the order of their revisions, in blocks.
//!
//! A clone costs two counters; a compaction drops whole blocks; a reader goes on from any revision. What
//! the records mean is not known here.

use std::sync::Arc;

use imbl::OrdMap;

use crate::record::{Record, Revision};

/// Records in a block. Small, because a write after a snapshot copies the last block's pointers; large
/// enough that the map of blocks stays a hundredth of the records.
const BLOCK_RECORDS: usize = 64;

type Block = Arc<Vec<Arc<Record>>>;

/// An append-only sequence of records, ascending by revision, that can lose its front.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// Full blocks by the revision of their first record.
    sealed: OrdMap<Revision, Block>,
    /// The block being filled; never full.
    tail: Block,
}

impl History {
    pub(crate) fn push(&mut self, record: Arc<Record>) {
        if let Some(last) = self.last() {
            assert!(last.revision < record.revision, "history ascends by revision");
        }
        let tail = Arc::make_mut(&mut self.tail);
        tail.push(record);
        if tail.len() == BLOCK_RECORDS {
            let full = std::mem::take(&mut self.tail);
            self.sealed.insert(full[0].revision, full);
        }
    }

    fn last(&self) -> Option<&Arc<Record>> {
        self.tail.last().or_else(|| self.sealed.get_max().and_then(|(_, block)| block.last()))
    }

    pub(crate) fn get(&self, revision: Revision) -> Option<&Arc<Record>> {
        let block = match self.tail.first() {
            Some(first) if first.revision <= revision => &self.tail,
            Some(_) | None => self.sealed.get_prev(&revision)?.1,
        };
        let at = block.binary_search_by_key(&revision, |record| record.revision).ok()?;
        Some(&block[at])
    }

    /// The first record whose main revision is at least `main`, and those after it.
    pub(crate) fn iter_from(&self, main: i64) -> impl Iterator<Item = &Arc<Record>> {
        let start = Revision { main, sub: 0 };
        // The block that begins before `start` may hold it, or may end before it.
        let first_block = self.sealed.get_prev(&start).map_or(start, |(first, _)| *first);
        self.sealed
            .range(first_block..)
            .map(|(_, block)| block)
            .chain([&self.tail])
            .flat_map(|block| block.iter())
            .skip_while(move |record| record.revision < start)
    }

    /// The first record at or after `start`.
    pub(crate) fn first_from(&self, start: Revision) -> Option<&Arc<Record>> {
        let before = self.sealed.get_prev(&start).map(|(_, block)| block);
        let after = self.sealed.get_next(&start).map(|(_, block)| block);
        before.into_iter().chain(after).chain([&self.tail]).find_map(|block| {
            let at = block.partition_point(|record| record.revision < start);
            block.get(at)
        })
    }

    /// Drops the blocks that end below `main`. Up to a block of records below it may stay.
    pub(crate) fn drop_blocks_below(&mut self, main: i64) {
        while let Some((first, block)) = self.sealed.get_min() {
            let last = block.last().expect("a sealed block is full");
            if last.revision.main >= main {
                return;
            }
            let first = *first;
            self.sealed.remove(&first);
        }
        if self.tail.last().is_some_and(|last| last.revision.main < main) {
            self.tail = Block::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::record::Change;

    /// Several hundred revisions of one to three changes each, some numbers left out.
    fn revisions() -> impl Strategy<Value = Vec<Revision>> {
        proptest::collection::vec((1..3_i64, 1..4_u32), 0..400).prop_map(|steps| {
            let mut main = 1;
            let mut revisions = Vec::new();
            for (step, changes) in steps {
                main += step;
                revisions.extend((0..changes).map(|sub| Revision { main, sub }));
            }
            revisions
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_is_a_sorted_list_that_loses_its_front(
            revisions in revisions(),
            cuts in proptest::collection::vec(0..700_i64, 1..4),
        ) {
            let mut history = History::default();
            for &revision in &revisions {
                history.push(Record::new(revision, Bytes::from_static(b"k"), Change::Delete, None));
            }
            let mut kept_from = 0;
            for cut in cuts {
                history.drop_blocks_below(cut);
                kept_from = kept_from.max(cut);
                let left: Vec<Revision> = history.iter_from(0).map(|record| record.revision).collect();
                prop_assert!(revisions.ends_with(&left), "only the front goes");
                let below = left.iter().take_while(|revision| revision.main < kept_from).count();
                prop_assert!(below < BLOCK_RECORDS, "less than a block stays that could go");
            }
            for main in kept_from..900 {
                let start = Revision { main, sub: 0 };
                let at = revisions.partition_point(|&revision| revision < start);
                let from: Vec<Revision> = history.iter_from(main).map(|record| record.revision).collect();
                prop_assert_eq!(&from, &revisions[at..]);
                prop_assert_eq!(history.first_from(start).map(|record| record.revision), from.first().copied());
                let found = history.get(start).map(|record| record.revision);
                prop_assert_eq!(found, from.first().copied().filter(|&first| first == start));
            }
        }
    }
}

//! Deletes that compactions have dropped, remembered for the next part of a checkpoint.
//!
//! A compaction forgets a delete when no read can see it any more. But a part of a checkpoint that was written
//! before the delete still holds the key, and a part that is written after the compaction is put on top of it:
//!
//! ```text
//!   put k          delete k       compact
//!   ──2──┤ part 1 ├────3──────────────┤ part 2: must say that k is gone
//! ```
//!
//! So part 2 carries the delete, and for that it is remembered here. (A put that was superseded needs nothing of
//! the kind: the put that came after it says more.)
//!
//! This is bookkeeping of one member, which depends on when it took its checkpoints. It is no part of the state that
//! members compare, nor of its hash, and it may be forgotten at any time: then a part reaches less far back, or the
//! next checkpoint is a whole one.

use std::ops::Bound;

use bytes::Bytes;
use imbl::OrdMap;

use crate::record::Revision;

/// So many are kept however few keys there are.
const MIN_LIMIT: usize = 16;

/// The dropped deletes above some revision. A clone costs a counter.
#[derive(Debug, Clone)]
pub(crate) struct Buried {
    complete_above: i64,
    deletes: OrdMap<Revision, Bytes>,
}

impl Buried {
    /// None yet: nothing above `revision` has been dropped.
    pub(crate) fn complete_above(revision: i64) -> Self {
        Self { complete_above: revision, deletes: OrdMap::new() }
    }

    /// A compaction drops this delete.
    pub(crate) fn insert(&mut self, revision: Revision, key: &Bytes) {
        if revision.main > self.complete_above {
            self.deletes.insert(revision, key.clone());
        }
    }

    /// Forgets all if there are more than half as many as present keys: to write the whole state then costs not
    /// much more than what has been dropped of it. `compact_revision` is the one that the state has now.
    pub(crate) fn limit(&mut self, present_keys: usize, compact_revision: i64) {
        if self.deletes.len() > MIN_LIMIT.max(present_keys / 2) {
            // The state itself still holds the deletes from the compact revision on.
            self.forget_through(compact_revision - 1);
        }
    }

    /// Forgets those up to `revision`: no part will reach back behind it.
    pub(crate) fn forget_through(&mut self, revision: i64) {
        if revision > self.complete_above {
            self.complete_above = revision;
            let kept = self.after(revision).map(|(revision, key)| (*revision, key.clone()));
            self.deletes = kept.collect();
        }
    }

    /// Whether all deletes above `since` and below the compact revision are known.
    pub(crate) fn reaches_back_to(&self, since: i64, compact_revision: i64) -> bool {
        since >= self.complete_above.min(compact_revision - 1)
    }

    /// Those above `since`, in order.
    pub(crate) fn after(&self, since: i64) -> impl Iterator<Item = (&Revision, &Bytes)> {
        let start = Revision { main: since, sub: u32::MAX };
        self.deletes.range((Bound::Excluded(start), Bound::Unbounded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delete(main: i64) -> Revision {
        Revision { main, sub: 0 }
    }

    fn revisions(buried: &Buried, since: i64) -> Vec<i64> {
        buried.after(since).map(|(revision, _)| revision.main).collect()
    }

    fn with_deletes(mains: std::ops::Range<i64>) -> Buried {
        let mut buried = Buried::complete_above(-2);
        for main in mains {
            buried.insert(delete(main), &Bytes::from_static(b"k"));
        }
        buried
    }

    #[test]
    fn what_is_forgotten_is_not_claimed() {
        let mut buried = with_deletes(5..10);
        assert!(buried.reaches_back_to(-1, 20));
        buried.forget_through(6);
        assert!(buried.reaches_back_to(6, 20) && !buried.reaches_back_to(5, 20));
        assert_eq!(revisions(&buried, 0), [7, 8, 9]);
        assert_eq!(revisions(&buried, 8), [9]);
        buried.insert(delete(4), &Bytes::from_static(b"k"));
        assert_eq!(revisions(&buried, 0), [7, 8, 9], "nobody reaches back to it");
        assert!(buried.reaches_back_to(3, 4), "deletes from the compact revision on are in the state");
    }

    #[test]
    fn there_are_never_many_more_than_keys() {
        let mut buried = with_deletes(0..16);
        buried.limit(0, 20);
        assert_eq!(buried.deletes.len(), 16, "a few are always kept");
        let mut buried = with_deletes(0..101);
        buried.limit(202, 150);
        assert_eq!(buried.deletes.len(), 101);
        buried.limit(201, 150);
        assert_eq!(buried.deletes.len(), 0);
        assert!(buried.reaches_back_to(149, 200) && !buried.reaches_back_to(148, 200));
    }
}

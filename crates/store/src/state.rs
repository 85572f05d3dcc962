//! The state itself: present keys, deleted keys, history, and what a compaction leaves of it.
//!
//! Every key's changes up to the compact revision C are forgotten but the newest; those after C are all
//! kept. So a record is in one or two of four places:
//!
//! ```text
//!            main < C                 C ≤ main ≤ revision
//!   bases ───────────────┐  history ──────────────────────────────┐
//!   a key's newest       │  every change                          │
//!   before C, if it has  │                                        │
//!   changed after C      │                                        │
//!   ─────────────────────┴────────────────────────────────────────┘
//!   live: each present key's newest record, wherever it lies
//!   dead: each deleted key's tombstone, if it lies at or above C
//! ```
//!
//! A tombstone at C itself stays, so that a watch that starts at C sees the delete (etcd#18089,
//! etcd#19179). All parts are persistent maps: a clone of the whole costs a few counters.

use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;

use crate::buried::Buried;
use crate::history::History;
use crate::interval::Interval;
use crate::record::{Previous, Record, Revision};
use crate::state_hash::{self, Hasher, STATE_DOMAIN, StateHash};
use crate::{Member, Rejection};

/// The revision of an empty store, as in etcd.
const FIRST_REVISION: i64 = 1;

/// The compact revision before any compaction: one that even a compaction at 0 is above, as in etcd.
const NEVER_COMPACTED: i64 = -1;

/// The newest record of each key, a put.
pub(crate) type Live = OrdMap<Bytes, Arc<Record>>;

/// From so many on, a delete may put the map of the others together anew.
const MANY_DOOMED: usize = 1024;

#[derive(Debug, Clone)]
pub(crate) struct State {
    live: Live,
    /// The newest record of each deleted key, a tombstone; none below the compact revision.
    dead: OrdMap<Bytes, Arc<Record>>,
    /// The newest put before the compact revision of each key that has changed after it.
    bases: OrdMap<Revision, Arc<Record>>,
    /// All records from the compact revision on; below it, up to a block that is no longer state.
    history: History,
    /// Deletes that compactions have dropped. Not part of what members compare.
    buried: Buried,
    members: OrdMap<u64, Member>,
    /// The ids of the members that were removed last, in that order.
    removed_members: Arc<Vec<u64>>,
    revision: i64,
    compact_revision: i64,
    applied_index: u64,
    totals: Totals,
}

/// Sums over parts of the state, kept up with every change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Totals {
    live_hash: u64,
    bases_hash: u64,
    /// Over the records from the compact revision on.
    history_hash: u64,
    members_hash: u64,
    live_bytes: u64,
    /// Of the records that are not, or no longer, the newest put of their key.
    superseded_bytes: u64,
}

impl Totals {
    fn forget(&mut self, record: &Record) {
        self.history_hash = self.history_hash.wrapping_sub(record.hash);
        if record.is_tombstone() {
            self.superseded_bytes -= record.size_bytes();
        }
    }

    fn forget_predecessor(&mut self, record: &Record, compact_revision: i64) {
        let Some(previous) = record.previous else { return };
        // At the compact revision itself, what was before it is forgotten already.
        if record.revision.main > compact_revision || previous.revision.main >= compact_revision {
            self.superseded_bytes -= previous.superseded_bytes;
        }
    }

    fn set_bases(&mut self, bases: &OrdMap<Revision, Arc<Record>>) {
        self.bases_hash = bases.values().fold(0, |sum, base| sum.wrapping_add(base.hash));
        self.superseded_bytes += bases.values().map(|base| base.size_bytes()).sum::<u64>();
    }
}

impl State {
    pub(crate) fn new() -> Self {
        Self::restoring(FIRST_REVISION, NEVER_COMPACTED, 0)
    }

    /// The empty state with given counters, to be filled with the records of a checkpoint.
    pub(crate) fn restoring(revision: i64, compact_revision: i64, applied_index: u64) -> Self {
        Self {
            live: OrdMap::new(),
            dead: OrdMap::new(),
            bases: OrdMap::new(),
            history: History::default(),
            buried: Buried::complete_above(compact_revision - 1),
            members: OrdMap::new(),
            removed_members: Arc::default(),
            revision,
            compact_revision,
            applied_index,
            totals: Totals::default(),
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    pub(crate) fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    pub(crate) fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// Entries are applied one after the other, each once (SOURCES M1).
    pub(crate) fn advance_applied_index(&mut self, index: u64) {
        let expected = self.applied_index + 1;
        assert!(index == expected, "entries are applied in order: {index} comes where {expected} should");
        self.applied_index = index;
    }

    /// Makes the changes written under `revision() + 1` the latest.
    pub(crate) fn advance_revision(&mut self) {
        self.revision += 1;
    }

    pub(crate) fn key_count(&self) -> usize {
        self.live.len()
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.totals.live_bytes + self.totals.superseded_bytes
    }

    pub(crate) fn live_bytes(&self) -> u64 {
        self.totals.live_bytes
    }

    pub(crate) fn state_hash(&self) -> StateHash {
        let sums = self.totals;
        let hasher = Hasher::new(STATE_DOMAIN)
            .word(sums.live_hash)
            .word(sums.bases_hash)
            .word(sums.history_hash)
            .word(sums.members_hash.wrapping_add(state_hash::of_removed_members(&self.removed_members)))
            .word(self.revision as u64)
            .word(self.compact_revision as u64);
        StateHash(hasher.finish())
    }
}

/// Two iterators over records, ascending by key and without a key in common, as one.
struct MergeByKey<L: Iterator, R: Iterator> {
    left: Peekable<L>,
    right: Peekable<R>,
}

impl<'a, L, R> Iterator for MergeByKey<L, R>
where
    L: Iterator<Item = &'a Arc<Record>>,
    R: Iterator<Item = &'a Arc<Record>>,
{
    type Item = &'a Arc<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        match (self.left.peek(), self.right.peek()) {
            (Some(left), Some(right)) if right.key < left.key => self.right.next(),
            (Some(_), _) => self.left.next(),
            (None, _) => self.right.next(),
        }
    }
}

/// Reading.
impl State {
    pub(crate) fn latest(&self, key: &[u8]) -> Option<&Arc<Record>> {
        self.live.get(key)
    }

    /// The present keys of the interval, in order.
    pub(crate) fn iter_latest<'a>(
        &'a self,
        interval: &Interval<'_>,
    ) -> impl Iterator<Item = &'a Arc<Record>> {
        self.live.range::<_, [u8]>(interval.bounds()).map(|(_, record)| record)
    }

    /// The keys of the interval that were present at `main`, in order, as they were.
    pub(crate) fn iter_at<'a>(
        &'a self,
        interval: &Interval<'_>,
        main: i64,
    ) -> impl Iterator<Item = &'a Arc<Record>> {
        assert!(main >= self.compact_revision, "no reads below the compact revision");
        let live = self.live.range::<_, [u8]>(interval.bounds()).map(|(_, record)| record);
        let dead = self.dead.range::<_, [u8]>(interval.bounds()).map(|(_, record)| record);
        MergeByKey { left: live.peekable(), right: dead.peekable() }
            .filter_map(move |newest| self.as_of(newest, main))
            .filter(|record| !record.is_tombstone())
    }

    /// Follows a key's changes back to the newest at or before `main`.
    fn as_of<'a>(&'a self, newest: &'a Arc<Record>, main: i64) -> Option<&'a Arc<Record>> {
        let mut record = newest;
        while record.revision.main > main {
            let previous = record.previous?;
            let skip = previous.milestone.filter(|milestone| milestone.main > main);
            record = self.find(skip.unwrap_or(previous.revision))?;
        }
        Some(record)
    }

    /// A superseded record; `None` if a compaction has dropped it.
    pub(crate) fn find(&self, revision: Revision) -> Option<&Arc<Record>> {
        if revision.main >= self.compact_revision {
            self.history.get(revision)
        } else {
            self.bases.get(&revision)
        }
    }

    /// Every change from `main` on, in order. `main` must not be below the compact revision.
    pub(crate) fn changes_from(&self, main: i64) -> impl Iterator<Item = &Arc<Record>> {
        self.history.iter_from(main.max(self.compact_revision))
    }

    /// The first change at or after `start`, which must not be below the compact revision.
    pub(crate) fn first_change_from(&self, start: Revision) -> Option<&Arc<Record>> {
        self.history.first_from(start)
    }

    /// What the compaction has left of the time before it and after `since`: each key's newest put below the
    /// compact revision, unless the key changed again at that revision itself. In no order. Looks at every present
    /// key, unless there is nothing between the two.
    pub(crate) fn records_below_compaction(&self, since: i64) -> impl Iterator<Item = &Arc<Record>> {
        let between = since + 1..self.compact_revision;
        let both = (!between.is_empty()).then(|| self.bases.values().chain(self.live.values()));
        both.into_iter().flatten().filter(move |record| between.contains(&record.revision.main))
    }

    pub(crate) fn buried(&self) -> &Buried {
        &self.buried
    }
}

/// Writing. Changes get the revision after the present one, which [`State::advance_revision`] then makes
/// the latest.
impl State {
    pub(crate) fn append(&mut self, record: Arc<Record>) {
        if record.is_tombstone() {
            let old = self.live.remove(&record.key);
            return self.bury(old.as_ref(), record);
        }
        self.totals.live_bytes += record.size_bytes();
        self.totals.live_hash = self.totals.live_hash.wrapping_add(record.hash);
        match self.live.insert(record.key.clone(), Arc::clone(&record)) {
            Some(old) => self.supersede(&old),
            None => {
                self.dead.remove(&record.key);
            }
        }
        self.remember(record);
    }

    /// Takes present keys away, whose tombstones must follow. What it answers is no more than memory to be freed.
    pub(crate) fn take_out(&mut self, doomed: &[Arc<Record>]) -> Option<Live> {
        let left = self.live.len() - doomed.len();
        if doomed.len() < MANY_DOOMED || doomed.len() < left {
            for record in doomed {
                self.live.remove(&record.key);
            }
            return None;
        }
        // To put together what stays is less work than to take out what goes.
        let mut doomed = doomed.iter().peekable();
        let stays =
            self.live.iter().filter(|(_, live)| doomed.next_if(|next| Arc::ptr_eq(next, live)).is_none());
        let stays: Live = stays.map(|(key, record)| (key.clone(), Arc::clone(record))).collect();
        assert_eq!(stays.len(), left, "what is deleted is present, and in the order of the keys");
        Some(std::mem::replace(&mut self.live, stays))
    }

    /// Appends the tombstone of a key that was taken out.
    pub(crate) fn bury(&mut self, old: Option<&Arc<Record>>, tombstone: Arc<Record>) {
        self.totals.superseded_bytes += tombstone.size_bytes();
        self.dead.insert(tombstone.key.clone(), Arc::clone(&tombstone));
        if let Some(old) = old {
            self.supersede(old);
        }
        self.remember(tombstone);
    }

    fn remember(&mut self, record: Arc<Record>) {
        if record.revision.main >= self.compact_revision {
            self.totals.history_hash = self.totals.history_hash.wrapping_add(record.hash);
            self.history.push(record);
        }
    }

    fn supersede(&mut self, old: &Arc<Record>) {
        self.totals.live_hash = self.totals.live_hash.wrapping_sub(old.hash);
        self.totals.live_bytes -= old.size_bytes();
        self.totals.superseded_bytes += old.size_bytes();
        if old.revision.main < self.compact_revision {
            self.totals.bases_hash = self.totals.bases_hash.wrapping_add(old.hash);
            self.bases.insert(old.revision, Arc::clone(old));
        }
    }

    /// Where the next change of `key` finds the one before it.
    pub(crate) fn previous_of(&self, key: &[u8]) -> Option<Previous> {
        self.live.get(key).or_else(|| self.dead.get(key)).map(|newest| newest.as_previous())
    }
}

/// What is known of the members; the rules are in [`crate::members`].
impl State {
    pub(crate) fn member_records(&self) -> &OrdMap<u64, Member> {
        &self.members
    }

    pub(crate) fn set_member(&mut self, member: Member) {
        self.totals.members_hash = self.totals.members_hash.wrapping_add(state_hash::of_member(&member));
        let old = self.members.insert(member.id, member);
        self.forget_member(old.as_ref());
    }

    pub(crate) fn drop_member(&mut self, id: u64) {
        let old = self.members.remove(&id);
        self.forget_member(old.as_ref());
    }

    fn forget_member(&mut self, old: Option<&Member>) {
        let hash = old.map_or(0, state_hash::of_member);
        self.totals.members_hash = self.totals.members_hash.wrapping_sub(hash);
    }

    pub(crate) fn removed_members(&self) -> &[u64] {
        &self.removed_members
    }

    pub(crate) fn removed_members_mut(&mut self) -> &mut Arc<Vec<u64>> {
        &mut self.removed_members
    }
}

/// Compaction.
impl State {
    /// Forgets what no read at or above `revision` can see.
    ///
    /// All at once, in time proportional to the changes since the last compaction: one walk over them, which
    /// looks up only tombstones that go. The memory is free when the last snapshot that shows it is dropped;
    /// who keeps one over the compaction and drops it elsewhere has the freeing done there.
    pub(crate) fn compact(&mut self, revision: i64) -> Result<(), Rejection> {
        if revision <= self.compact_revision {
            return Err(Rejection::Compacted);
        }
        if revision > self.revision {
            return Err(Rejection::FutureRevision);
        }
        let needed = self.predecessors_across(revision);
        let bases = self.forget_below(revision, needed);
        self.totals.set_bases(&bases);
        self.bases = bases;
        self.compact_revision = revision;
        self.history.drop_blocks_below(revision);
        self.buried.limit(self.live.len(), revision);
        Ok(())
    }

    /// What a read at `revision` needs of the time before it: the predecessor of each first change after it,
    /// in order. All predecessors from before go out of the totals.
    fn predecessors_across(&mut self, revision: i64) -> Vec<Revision> {
        let mut needed = Vec::new();
        for record in self.history.iter_from(revision) {
            let Some(previous) = record.previous.filter(|previous| previous.revision.main < revision) else {
                continue;
            };
            self.totals.forget_predecessor(record, self.compact_revision);
            if record.revision.main > revision {
                needed.push(previous.revision);
            }
        }
        needed.sort_unstable();
        needed
    }

    /// Takes the history below `revision` out of the totals, and its tombstones out of `dead`. Answers the puts
    /// that are still `needed`, which count anew as bases.
    fn forget_below(&mut self, revision: i64, needed: Vec<Revision>) -> OrdMap<Revision, Arc<Record>> {
        let mut needed = needed.into_iter().peekable();
        let mut bases = OrdMap::new();
        let mut keep_if_needed = |record: &Arc<Record>| {
            // A tombstone that went with an earlier compaction is needed no more than one that goes now.
            while needed.next_if(|needed| *needed < record.revision).is_some() {}
            if needed.next_if_eq(&record.revision).is_some() && !record.is_tombstone() {
                bases.insert(record.revision, Arc::clone(record));
            }
        };
        for base in self.bases.values() {
            keep_if_needed(base);
        }
        for record in self.history.iter_from(self.compact_revision) {
            if record.revision.main >= revision {
                break;
            }
            keep_if_needed(record);
            self.totals.forget(record);
            self.totals.forget_predecessor(record, self.compact_revision);
            if record.is_tombstone() {
                self.buried.insert(record.revision, &record.key);
                let is_newest = |newest: &Arc<Record>| newest.revision == record.revision;
                if self.dead.get(&record.key).is_some_and(is_newest) {
                    self.dead.remove(&record.key);
                }
            }
        }
        bases
    }
}

/// Putting a state together from the parts of a checkpoint.
impl State {
    /// Goes on from the state that a part ends with to the counters of the next one, whose records follow. What the
    /// compactions between them drop goes now, and the members, which every part names anew.
    pub(crate) fn restore_next(&mut self, revision: i64, compact_revision: i64, applied_index: u64) {
        assert!(revision >= self.revision, "parts follow each other");
        self.revision = revision;
        self.applied_index = applied_index;
        if compact_revision > self.compact_revision {
            self.compact(compact_revision).expect("a compaction below the revision and above the one before");
        }
        self.members = OrdMap::new();
        self.removed_members = Arc::default();
        self.totals.members_hash = 0;
    }

    /// Drops the pair of a key that changed again by the compact revision: nothing remembers it.
    pub(crate) fn drop_compacted(&mut self, key: &[u8]) {
        let Some(old) = self.live.remove(key) else { return };
        assert!(old.revision.main < self.compact_revision, "history is kept from the compact revision on");
        self.totals.live_hash = self.totals.live_hash.wrapping_sub(old.hash);
        self.totals.live_bytes -= old.size_bytes();
    }

    pub(crate) fn buried_mut(&mut self) -> &mut Buried {
        &mut self.buried
    }
}

/// For the invariants.
impl State {
    pub(crate) fn tombstones(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.dead.values()
    }

    pub(crate) fn bases(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.bases.values()
    }

    /// Panics if the sums kept up with every change are not those of what is there.
    pub(crate) fn check_totals(&self) {
        let hash_sum = |records: &mut dyn Iterator<Item = &Arc<Record>>| {
            records.fold(0_u64, |sum, record| sum.wrapping_add(record.hash_from_scratch()))
        };
        let is_superseded = |record: &&Arc<Record>| {
            self.latest(&record.key).is_none_or(|latest| latest.revision != record.revision)
        };
        let history = || self.changes_from(self.compact_revision);
        let superseded = self.bases.values().chain(history().filter(is_superseded));
        let totals = Totals {
            live_hash: hash_sum(&mut self.live.values()),
            bases_hash: hash_sum(&mut self.bases.values()),
            history_hash: hash_sum(&mut history()),
            members_hash: self.members().map(state_hash::of_member).fold(0, u64::wrapping_add),
            live_bytes: self.live.values().map(|record| record.size_bytes()).sum(),
            superseded_bytes: superseded.map(|record| record.size_bytes()).sum(),
        };
        assert!(totals == self.totals, "the totals are those of the records: {totals:?} {:?}", self.totals);
    }
}

//! What must hold of a state at any time, computed from scratch.

use std::collections::BTreeSet;

use crate::interval::Interval;
use crate::members::MAX_REMOVED_MEMBERS;
use crate::record::Revision;
use crate::state::State;

/// Panics with the rule that `state` breaks. Takes time in proportion to the state.
pub(crate) fn check(state: &State) {
    check_counters(state);
    check_live(state);
    check_dead(state);
    check_bases(state);
    check_members(state);
    state.check_totals();
}

fn check_members(state: &State) {
    let removed = state.removed_members();
    assert!(removed.len() <= MAX_REMOVED_MEMBERS, "the memory of removed members is bounded");
    let distinct: BTreeSet<&u64> = removed.iter().collect();
    assert!(distinct.len() == removed.len(), "a member is removed once");
    assert!(removed.iter().all(|&id| state.member(id).is_none()), "of a removed member nothing is known");
}

fn check_counters(state: &State) {
    assert!(state.revision() >= 1, "an empty store is at revision 1");
    let compact_revision = state.compact_revision();
    assert!((-1..=state.revision()).contains(&compact_revision), "-1 ≤ compact revision ≤ revision");
}

fn check_live(state: &State) {
    for record in state.iter_latest(&Interval::From(b"")) {
        assert!(!record.is_tombstone(), "a present key's newest record is a put");
        assert!(record.revision.main <= state.revision(), "no record lies above the latest revision");
        let kv = record.key_value().expect("a put has a pair");
        assert!((2..=kv.mod_revision).contains(&kv.create_revision), "1 < create revision ≤ mod revision");
        assert!(kv.version >= 1, "a version counts the put that created the key");
    }
}

fn check_dead(state: &State) {
    for tombstone in state.tombstones() {
        assert!(tombstone.is_tombstone(), "a deleted key's newest record is a tombstone");
        assert!(
            tombstone.revision.main >= state.compact_revision(),
            "no tombstone below the compact revision"
        );
        assert!(state.latest(&tombstone.key).is_none(), "a key is present or deleted");
    }
}

/// Below the compact revision there is exactly what reads at it need.
fn check_bases(state: &State) {
    let compact_revision = state.compact_revision();
    let mut needed = BTreeSet::new();
    for record in state.iter_at(&Interval::From(b""), compact_revision.max(1)) {
        let is_latest = state.latest(&record.key).is_some_and(|latest| latest.revision == record.revision);
        if record.revision.main < compact_revision && !is_latest {
            needed.insert(record.revision);
        }
    }
    let bases: BTreeSet<Revision> = state.bases().map(|base| base.revision).collect();
    assert!(bases == needed, "a base is kept for each key changed since the compaction, and only then");
}

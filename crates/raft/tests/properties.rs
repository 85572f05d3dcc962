//! Properties of the small public pieces, against second versions that are too simple to be wrong.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tenure_raft::{
    Entry, EntryId, Fate, Index, LogSlice, Options, OptionsError, Payload, Pending, SliceError, Term,
};

fn id(index: u64, term: u64) -> EntryId {
    EntryId::new(Index(index), Term(term))
}

fn entries(ids: &[(u64, u64)]) -> Vec<Entry> {
    ids.iter().map(|&(index, term)| Entry { id: id(index, term), payload: Payload::Empty }).collect()
}

proptest! {
    /// A slice is made of any run of entries without a hole whose terms never decrease, and of nothing else.
    #[test]
    fn only_a_piece_of_a_log_is_a_slice(
        prev in (0_u64..4, 0_u64..4),
        ids in proptest::collection::vec((0_u64..8, 0_u64..6), 0..5),
    ) {
        let all: Vec<(u64, u64)> = std::iter::once(prev).chain(ids.iter().copied()).collect();
        let is_piece = all.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1 && pair[1].1 >= pair[0].1);
        let parsed = LogSlice::parse(id(prev.0, prev.1), entries(&ids));
        prop_assert_eq!(parsed.is_ok(), is_piece);
        if let Ok(slice) = parsed {
            let &(index, term) = all.last().expect("prev at least");
            prop_assert_eq!(slice.last(), id(index, term));
            prop_assert_eq!(slice.into_entries(), entries(&ids));
        }
    }

    /// Runs that are pieces of a log, so that the property above is not only about refusals.
    #[test]
    fn every_piece_of_a_log_is_a_slice(
        prev in (0_u64..4, 0_u64..4),
        steps in proptest::collection::vec(0_u64..3, 0..8),
        damage in proptest::option::of((0_usize..8, any::<bool>())),
    ) {
        let mut before = prev;
        let mut ids: Vec<(u64, u64)> = Vec::new();
        for step in steps {
            before = (before.0 + 1, before.1 + step);
            ids.push(before);
        }
        let damaged = damage.filter(|&(position, _)| position < ids.len());
        if let Some((position, hole)) = damaged {
            if hole {
                ids[position].0 += 1;
            } else if position > 0 && ids[position - 1].1 > 0 {
                ids[position].1 = ids[position - 1].1 - 1;
            } else {
                ids[position].0 += 7;
            }
        }
        let parsed = LogSlice::parse(id(prev.0, prev.1), entries(&ids));
        prop_assert_eq!(parsed.is_ok(), damaged.is_none(), "{:?}", ids);
    }

    /// M3, M4: each proposal ends once. Its own entry applied: committed. Another at its index: certainly
    /// not. Passed over by a snapshot: unknown. Nothing else ends it.
    #[test]
    fn each_proposal_has_one_fate(
        proposed in proptest::collection::btree_map((1_u64..12, 1_u64..4), Just(()), 0..12),
        history in proptest::collection::vec(1_u64..4, 12),
        snapshot_at in proptest::option::of(0_usize..12),
    ) {
        let mut pending = Pending::default();
        for &(index, term) in proposed.keys() {
            pending.insert(id(index, term), (index, term));
        }
        let mut fates: BTreeMap<(u64, u64), Fate> = BTreeMap::new();
        let mut applied = 0;
        for (position, &term) in history.iter().enumerate() {
            let index = position as u64 + 1;
            if snapshot_at == Some(position) {
                // It covers this entry and the next two.
                for key in pending.on_snapshot_installed(Index(index + 2)) {
                    prop_assert!(fates.insert(key, Fate::Unknown).is_none());
                }
                applied = index + 2;
            }
            if index > applied {
                for (fate, key) in pending.on_applied(id(index, term)) {
                    prop_assert!(fates.insert(key, fate).is_none(), "{:?} ends twice", key);
                }
                applied = index;
            }
            prop_assert_eq!(pending.len(), proposed.keys().filter(|key| key.0 > applied).count());
        }
        for &(index, term) in proposed.keys() {
            let covered = snapshot_at.is_some_and(|at| (at as u64 + 1..=at as u64 + 3).contains(&index));
            let expected = match (covered, history[index as usize - 1] == term) {
                (true, _) => Fate::Unknown,
                (false, true) => Fate::Committed,
                (false, false) => Fate::NotCommitted,
            };
            prop_assert_eq!(fates.get(&(index, term)), Some(&expected), "{}@{}", index, term);
        }
    }
}

/// Whoever does not report an entry leaves the proposals at its index open: they become unknown, not
/// refused.
#[test]
fn a_proposal_that_was_passed_over_is_unknown() {
    let mut pending = Pending::default();
    pending.insert(id(3, 1), "a");
    pending.insert(id(5, 2), "b");
    assert_eq!(pending.on_applied(id(5, 2)), [(Fate::Unknown, "a"), (Fate::Committed, "b")]);
    assert!(pending.is_empty());
}

/// Indexes and terms at the end of their range are told apart, not wrapped around.
#[test]
fn a_slice_at_the_last_index_has_no_successor() {
    let prev = id(u64::MAX, 1);
    let found = id(0, 1);
    let slice = LogSlice::parse(prev, vec![Entry { id: found, payload: Payload::Empty }]);
    assert_eq!(slice, Err(SliceError::Gap { before: prev, found }));
}

/// Bounds of zero would block for ever, and are refused one by one.
#[test]
fn settings_that_cannot_work_are_refused() {
    assert_eq!(Options::default().check(), Ok(()));
    let zero: [fn(&mut Options); 8] = [
        |options| options.max_append_bytes = 0,
        |options| options.max_inflight_messages = 0,
        |options| options.max_inflight_bytes = 0,
        |options| options.max_uncommitted_bytes = 0,
        |options| options.max_command_bytes = 0,
        |options| options.max_apply_bytes = 0,
        |options| options.snapshot_chunk_bytes = 0,
        |options| options.max_waiting_reads = 0,
    ];
    for set in zero {
        let mut options = Options::default();
        set(&mut options);
        assert_eq!(options.check(), Err(OptionsError::ZeroBound));
    }
}

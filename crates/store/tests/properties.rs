//! Random commands on the store and on a dumb second version of it, which must agree; and bytes that must
//! never do harm.

mod common;

use bytes::Bytes;
use common::arbitrary::{command, range};
use common::model::Model;
use common::{checkpoint, restore};
use proptest::collection::vec;
use proptest::prelude::*;
use tenure_store::{Command, Event, EventKind, Limits, RangeRequest, Response, Store, Unheard, check};

/// Applies a command to both, and compares the answers.
fn apply_to_both(store: &mut Store, model: &mut Model, command: &Command) {
    let applied = store.apply(store.applied_index() + 1, command);
    let changes_before = model.changes.len();
    let expected = check(command, &Limits::NONE).and_then(|()| model.apply(command));
    assert_eq!(applied.result, expected, "{command:?}");
    assert_eq!(applied.revision, model.revision);
    assert_eq!(applied.changes as usize, model.changes.len() - changes_before);
    store.check_invariants();
}

/// Everything that can be read: all keys at every revision that is left, and all changes.
fn compare_all(store: &Store, model: &Model) {
    assert_eq!(store.compact_revision(), model.compact_revision);
    let snapshot = store.snapshot();
    for revision in -1..=model.revision + 1 {
        let all = Bytes::from_static(b"\0");
        let request = RangeRequest { key: all.clone(), range_end: all, revision, ..RangeRequest::default() };
        assert_eq!(snapshot.range(&request), model.range(&request), "at revision {revision}");
    }
    let from = model.compact_revision.max(0);
    let events: Vec<Event> = snapshot.changes(from).expect("not compacted").collect();
    let left = model.changes.iter().filter(|change| change.mod_revision >= from);
    let expected: Vec<Event> = left
        .map(|change| Event {
            kind: if change.version == 0 { EventKind::Delete } else { EventKind::Put },
            kv: change.clone(),
        })
        .collect();
    assert_eq!(events, expected);
}

proptest! {
    /// Whoever waits for an answer has the state of those for whom nobody does.
    #[test]
    fn whether_somebody_waits_changes_no_state(commands in vec(command(), 0..60)) {
        let [mut all, mut lazy, mut unheard] = [Store::new(), Store::new(), Store::new()];
        for (index, command) in (1..).zip(&commands) {
            let heard = all.apply(index, command);
            let later = lazy.apply_lazily(index, command);
            prop_assert_eq!(later.result.map(Response::settled), heard.result.clone());
            let Unheard { result, revision, changes } = unheard.apply_unheard(index, command);
            prop_assert_eq!((result, revision, changes), (heard.result.map(drop), heard.revision, heard.changes));
            prop_assert_eq!(lazy.state_hash(), all.state_hash());
            prop_assert_eq!(unheard.state_hash(), all.state_hash());
            unheard.check_invariants();
        }
    }

    #[test]
    fn the_store_agrees_with_a_list_of_everything_that_happened(
        commands in vec(command(), 0..60),
        ranges in vec(range(), 0..20),
    ) {
        let (mut store, mut model) = (Store::new(), Model::new());
        for command in &commands {
            apply_to_both(&mut store, &mut model, command);
        }
        compare_all(&store, &model);
        for range in &ranges {
            prop_assert_eq!(store.snapshot().range(range), model.range(range), "{:?}", range);
        }
    }

    /// SOURCES M1, and P2 for the one that comes back from a checkpoint.
    #[test]
    fn a_replica_restored_from_any_checkpoint_stays_equal(
        commands in vec(command(), 1..60),
        cut in any::<prop::sample::Index>(),
    ) {
        let cut = cut.index(commands.len());
        let mut store = Store::new();
        let mut restored = None;
        for (at, command) in commands.iter().enumerate() {
            if at == cut {
                restored = Some(restore(&checkpoint(&store)).expect("a checkpoint can be read"));
            }
            let applied = store.apply(at as u64 + 1, command);
            if let Some(restored) = &mut restored {
                prop_assert_eq!(restored.apply(at as u64 + 1, command), applied);
                prop_assert_eq!(restored.state_hash(), store.state_hash());
                prop_assert_eq!(restored.size_bytes(), store.size_bytes());
                restored.check_invariants();
            }
        }
        let restored = restored.expect("the cut lies among the commands");
        prop_assert_eq!(checkpoint(&restored), checkpoint(&store));
        let (ours, theirs) = (restored.snapshot(), store.snapshot());
        for revision in 0..=store.revision() {
            prop_assert_eq!(ours.hash_kv(revision), theirs.hash_kv(revision));
        }
    }

    #[test]
    fn a_snapshot_stays_as_it_was(before in vec(command(), 0..30), after in vec(command(), 0..30)) {
        let (mut store, mut model) = (Store::new(), Model::new());
        for command in &before {
            apply_to_both(&mut store, &mut model, command);
        }
        let snapshot = store.snapshot();
        let bytes = checkpoint(&store);
        for command in &after {
            let _ = store.apply(store.applied_index() + 1, command);
        }
        let later: Vec<u8> = tenure_store::checkpoint::Writer::new(snapshot).flatten().collect();
        prop_assert_eq!(later, bytes);
    }

    #[test]
    fn a_command_survives_its_encoding_and_shares_its_memory(command in command()) {
        let mut encoded = Vec::new();
        command.encode(&mut encoded);
        let bytes = Bytes::from(encoded);
        let decoded = Command::decode(&bytes).expect("an encoded command decodes");
        prop_assert_eq!(&decoded, &command);
        if let Command::Put(put) = decoded
            && !put.value.is_empty()
        {
            prop_assert!(bytes.as_ptr_range().contains(&put.value.as_ptr()));
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in vec(any::<u8>(), 0..80)) {
        let _ = Command::decode(&bytes.into());
    }

    #[test]
    fn no_part_of_a_command_is_a_command(command in command(), cut in any::<prop::sample::Index>()) {
        let mut encoded = Vec::new();
        command.encode(&mut encoded);
        let cut = cut.index(encoded.len());
        prop_assert!(Command::decode(&Bytes::copy_from_slice(&encoded[..cut])).is_err());
        encoded.push(0);
        prop_assert!(Command::decode(&encoded.into()).is_err());
    }

    #[test]
    fn a_damaged_command_is_another_command_or_none(
        command in command(),
        at in any::<prop::sample::Index>(),
        flip in 1..=u8::MAX,
    ) {
        let mut encoded = Vec::new();
        command.encode(&mut encoded);
        let at = at.index(encoded.len());
        encoded[at] ^= flip;
        if let Ok(decoded) = Command::decode(&encoded.into()) {
            prop_assert_ne!(decoded, command);
        }
    }
}

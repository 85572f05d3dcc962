//! Entries and configurations as bytes: what was written is read, anything else is an error and no panic.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

fn ids() -> impl Strategy<Value = NodeId> {
    (1..=u64::MAX).prop_map(|id| NodeId::new(id).unwrap())
}

fn voters() -> impl Strategy<Value = Voters> {
    (btree_map(ids(), 1..=u32::MAX, 0..6), any::<bool>()).prop_map(|(votes, has_quorums)| {
        let voters = Voters::weighted(votes);
        let all_votes = voters.total_votes();
        let quorums = Quorums { election_votes: all_votes, commit_votes: 1 };
        voters.with_quorums((has_quorums && all_votes > 0).then_some(quorums))
    })
}

fn learners() -> impl Strategy<Value = Learner> {
    prop_oneof![Just(Learner::Waits), (1..=u32::MAX).prop_map(|votes| Learner::Joins { votes })]
}

fn configurations() -> impl Strategy<Value = Configuration> {
    (voters(), proptest::option::of(voters()), btree_map(ids(), learners(), 0..4))
        .prop_map(|(voters, old_voters, learners)| Configuration { voters, old_voters, learners })
}

fn payloads() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::Empty),
        vec(any::<u8>(), 0..100).prop_map(|bytes| Payload::Command(bytes.into())),
        configurations().prop_map(Payload::Configuration),
    ]
}

proptest! {
    #[test]
    fn what_was_written_is_read(index in 1..u64::MAX, term in 1..=Term::LIMIT.0, payload in payloads()) {
        let entry = Entry { id: EntryId::new(Index(index), Term(term)), payload };
        prop_assert_eq!(from_record(to_record(&entry)), Ok(entry));
    }

    #[test]
    fn arbitrary_bytes_are_read_or_refused(
        index in any::<u64>(),
        term in any::<u64>(),
        kind in 0..5_u8,
        data in vec(any::<u8>(), 0..200),
    ) {
        if let Ok(entry) = from_parts(index, term, kind, data.clone().into()) {
            prop_assert_eq!(entry.id, EntryId::new(Index(index), Term(term)));
        }
    }

    #[test]
    fn a_damaged_configuration_is_read_or_refused(
        configuration in configurations(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encode_configuration(&configuration);
        prop_assert_eq!(decode_configuration(&bytes), Ok(configuration));
        let cut_off = &bytes[..cut.index(bytes.len())];
        prop_assert_eq!(decode_configuration(cut_off), Err(RecordError::Configuration));
        let at = at.index(bytes.len());
        bytes[at] = byte;
        // It need not be noticed here: checksums are around it. It must end, and allocate little.
        let _ = decode_configuration(&bytes);
    }
}

#[test]
fn a_list_that_claims_to_be_long_is_refused_before_it_is_read() {
    for claimed in [MAX_MEMBERS as u32 + 1, u32::MAX] {
        assert_eq!(decode_configuration(&claimed.to_le_bytes()), Err(RecordError::Configuration));
    }
}

#[test]
fn an_entry_has_a_place() {
    for (index, term) in [(0, 1), (1, 0), (u64::MAX, 1), (1, Term::LIMIT.0 + 1)] {
        assert_eq!(from_parts(index, term, KIND_EMPTY, Bytes::new()), Err(RecordError::Place));
    }
    assert_eq!(from_parts(1, 1, 3, Bytes::new()), Err(RecordError::UnknownKind(3)));
}

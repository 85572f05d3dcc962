//! A manifest is read as it was written, or not at all.

use std::collections::BTreeMap;

use tenure_raft::{Configuration, Learner, NodeId, Voters};

use super::*;

fn member(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

fn segment(last_included: EntryId, revision: i64) -> Segment {
    Segment { last_included, revision, len_bytes: 12345, crc: 678 }
}

fn manifest() -> Manifest {
    let configuration = Configuration {
        voters: Voters::weighted([(member(1), 2), (member(2), 1)]),
        old_voters: Some(Voters::weighted([(member(1), 1)])),
        learners: BTreeMap::from([(member(9), Learner::Joins { votes: 2 })]),
    };
    let last_included = EntryId::new(Index(70), Term(3));
    let segments = vec![
        segment(EntryId::new(Index(30), Term(2)), 17),
        segment(EntryId::new(Index(60), Term(3)), 40),
        segment(last_included, 40),
    ];
    Manifest { snapshot: Snapshot { last_included, configuration }, segments }
}

#[test]
fn what_was_written_is_read() {
    assert_eq!(Manifest::decode(&manifest().encode()), Ok(manifest()));
}

#[test]
fn any_flipped_bit_and_any_missing_or_added_byte_is_noticed() {
    let bytes = manifest().encode();
    for offset in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[offset] ^= 1 << bit;
            assert_eq!(Manifest::decode(&damaged), Err(ManifestError::Damaged), "byte {offset}, bit {bit}");
        }
        assert_eq!(Manifest::decode(&bytes[..offset]), Err(ManifestError::Damaged), "{offset} bytes");
    }
    assert_eq!(Manifest::decode(&[&bytes[..], &[0]].concat()), Err(ManifestError::Damaged));
}

fn with_checksum(body: &[u8]) -> Vec<u8> {
    [body, &crc32c::crc32c(body).to_le_bytes()].concat()
}

#[test]
fn bytes_with_a_right_checksum_need_not_make_sense_either() {
    let bytes = manifest().encode();
    for length in 0..bytes.len() {
        let decoded = Manifest::decode(&with_checksum(&bytes[..length]));
        assert_eq!(decoded.is_ok(), length == bytes.len() - 4, "{length} bytes");
    }
}

#[test]
fn another_version_is_refused_by_its_number() {
    let bytes = manifest().encode();
    for version in [1_u32, 3] {
        let mut body = bytes[..bytes.len() - 4].to_vec();
        body[8..12].copy_from_slice(&version.to_le_bytes());
        let refused = Manifest::decode(&with_checksum(&body));
        assert_eq!(refused, Err(ManifestError::UnknownVersion(version)));
    }
}

#[test]
fn segments_that_cannot_follow_each_other_are_refused() {
    let sound = manifest();
    let (first, last) = (sound.segments[0].clone(), sound.segments[2].clone());
    let goes_back = segment(EntryId::new(Index(60), Term(3)), 41);
    let too_many = |index| segment(EntryId::new(Index(index), Term(1)), 1);
    for segments in [
        vec![],
        vec![first.clone()],
        vec![last.clone(), first.clone()],
        vec![first.clone(), first, last.clone()],
        vec![goes_back, last.clone()],
        (30..70).map(too_many).chain([last]).collect(),
    ] {
        let bytes = Manifest { segments, ..sound.clone() }.encode();
        assert_eq!(Manifest::decode(&bytes), Err(ManifestError::Invalid));
    }
    let mut body = sound.encode();
    body.truncate(body.len() - 4);
    body[28..32].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(
        Manifest::decode(&with_checksum(&body)),
        Err(ManifestError::Invalid),
        "a lie about the number"
    );
}

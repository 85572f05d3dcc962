//! A manifest is read as it was written, or not at all.

use std::collections::BTreeMap;

use tenure_raft::{Configuration, Learner, NodeId, Voters};

use super::*;

fn member(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

fn manifest() -> Manifest {
    let configuration = Configuration {
        voters: Voters::weighted([(member(1), 2), (member(2), 1)]),
        old_voters: Some(Voters::weighted([(member(1), 1)])),
        learners: BTreeMap::from([(member(9), Learner::Joins { votes: 2 })]),
    };
    let last_included = EntryId::new(Index(70), Term(3));
    Manifest { snapshot: Snapshot { last_included, configuration }, segment_bytes: 12345, segment_crc: 678 }
}

#[test]
fn what_was_written_is_read() {
    assert_eq!(Manifest::decode(&manifest().encode()), Some(manifest()));
}

#[test]
fn any_flipped_bit_and_any_missing_or_added_byte_is_noticed() {
    let bytes = manifest().encode();
    for offset in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[offset] ^= 1 << bit;
            assert_eq!(Manifest::decode(&damaged), None, "byte {offset}, bit {bit}");
        }
        assert_eq!(Manifest::decode(&bytes[..offset]), None, "{offset} bytes");
    }
    assert_eq!(Manifest::decode(&[&bytes[..], &[0]].concat()), None);
}

#[test]
fn bytes_with_a_right_checksum_need_not_make_sense_either() {
    let bytes = manifest().encode();
    for length in 0..bytes.len() {
        let mut body = bytes[..length].to_vec();
        let checksum = crc32c::crc32c(&body);
        body.extend_from_slice(&checksum.to_le_bytes());
        let decoded = Manifest::decode(&body);
        assert_eq!(decoded.is_some(), length == bytes.len() - 4, "{length} bytes");
    }
}

//! A checkpoint is read back whole or not at all.

mod common;

use bytes::Bytes;
use common::{assert_notices_every_flipped_bit, checkpoint, restore};
use proptest::prelude::*;
use tenure_store::checkpoint::{CheckpointError, MAX_PAYLOAD_BYTES, Reader, Writer};
use tenure_store::{Command, Member, PutRequest, Store};

fn put(key: &str, value: Vec<u8>) -> Command {
    Command::Put(PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.into(),
        ..PutRequest::default()
    })
}

/// A little of everything: members, history, what a compaction leaves, a tombstone at it.
fn small_store() -> Store {
    let commands =
        ["put k=a v=1", "put k=b v=1", "put k=c v=1", "put k=a v=2", "del k=c", "put k=a v=3", "del k=b"];
    let mut store = Store::new();
    for line in
        commands.iter().chain(&["compact rev=6", "member id=5 name=m5 peer=http://p", "put k=d v=long-value"])
    {
        let common::Operation::Command(command) = common::parse::operation(line) else { panic!("{line}") };
        assert!(store.apply(store.applied_index() + 1, &command).result.is_ok());
    }
    store.apply_removal(store.applied_index() + 1, &[7, 6]);
    store
}

/// Many pairs, and values that fill several blocks each.
fn large_store() -> Store {
    let mut store = Store::new();
    for at in 0..3000_u64 {
        let length = if at % 1000 == 0 { 200_000 } else { at as usize % 90 };
        let command = put(&format!("key-{}", at % 1700), vec![at as u8; length]);
        assert!(store.apply(at + 1, &command).result.is_ok());
    }
    let compact = Command::Compact { revision: 1500, physical: false };
    assert!(store.apply(3001, &compact).result.is_ok());
    store
}

#[test]
fn every_flipped_bit_is_noticed() {
    assert_notices_every_flipped_bit(checkpoint(&small_store()));
}

#[test]
fn every_missing_end_is_noticed() {
    let bytes = checkpoint(&small_store());
    for length in 0..bytes.len() {
        assert_eq!(restore(&bytes[..length]).err(), Some(CheckpointError::Truncated), "{length} bytes");
    }
}

#[test]
fn bytes_after_the_end_are_refused() {
    let mut bytes = checkpoint(&small_store());
    bytes.push(0);
    assert_eq!(restore(&bytes).err(), Some(CheckpointError::Truncated));
    bytes.extend([0; 20]);
    let why = "unknown kind";
    assert_eq!(restore(&bytes).err(), Some(CheckpointError::Damaged { block: 0, why }));
}

#[test]
fn a_large_store_comes_back_from_blocks_of_bounded_size() {
    let store = large_store();
    let blocks: Vec<Bytes> = Writer::new(store.snapshot()).collect();
    assert!(blocks.len() > 8, "large values are cut into blocks");
    assert!(blocks.iter().all(|block| block.len() <= 64 * 1024 && block.len() <= MAX_PAYLOAD_BYTES + 9));
    let mut reader = Reader::new();
    for block in &blocks {
        reader.push(block).expect("a block as it was written");
    }
    let restored = reader.finish().expect("all blocks have come");
    restored.check_invariants();
    assert_eq!(restored.state_hash(), store.state_hash());
    assert_eq!(checkpoint(&restored), checkpoint(&store));
}

#[test]
fn a_missing_doubled_or_exchanged_block_is_noticed() {
    let blocks: Vec<Bytes> = Writer::new(large_store().snapshot()).collect();
    let read = |blocks: &[Bytes]| restore(&blocks.concat());
    for at in 0..blocks.len() {
        let mut missing = blocks.clone();
        missing.remove(at);
        assert!(read(&missing).is_err(), "without block {at}");
        let mut doubled = blocks.clone();
        doubled.insert(at, blocks[at].clone());
        assert!(read(&doubled).is_err(), "with block {at} twice");
        if at > 0 {
            let mut exchanged = blocks.clone();
            exchanged.swap(at - 1, at);
            assert!(read(&exchanged).is_err(), "with blocks {} and {at} exchanged", at - 1);
        }
    }
}

#[test]
fn a_block_of_another_checkpoint_is_noticed() {
    let mut store = large_store();
    let ours: Vec<Bytes> = Writer::new(store.snapshot()).collect();
    assert!(store.apply(3002, &put("key-1699", b"changed".to_vec())).result.is_ok());
    let theirs: Vec<Bytes> = Writer::new(store.snapshot()).collect();
    for at in 0..ours.len().min(theirs.len()) {
        if ours[at] != theirs[at] {
            let mut mixed = ours.clone();
            mixed[at] = theirs[at].clone();
            assert!(restore(&mixed.concat()).is_err(), "with block {at} of another");
        }
    }
}

/// Nothing else would tell: the state is the same, and so is its hash.
#[test]
fn a_header_with_another_applied_index_is_noticed() {
    let mut store = small_store();
    let ours: Vec<Bytes> = Writer::new(store.snapshot()).collect();
    store.apply_nothing(store.applied_index() + 1);
    let theirs: Vec<Bytes> = Writer::new(store.snapshot()).collect();
    assert_eq!(ours[1], theirs[1]);
    let mixed = [&theirs[..1], &ours[1..]].concat().concat();
    let why = "blocks are not those that were written";
    assert_eq!(restore(&mixed).err(), Some(CheckpointError::Invalid { why }));
}

#[test]
fn an_empty_store_has_a_checkpoint_too() {
    let restored = restore(&checkpoint(&Store::new())).expect("a checkpoint can be read");
    assert_eq!(restored.revision(), 1);
    assert_eq!(restored.compact_revision(), -1);
    assert_eq!(restored.applied_index(), 0);
    assert_eq!(restored.state_hash(), Store::new().state_hash());
}

#[test]
fn a_length_beyond_the_bound_is_refused_at_once() {
    let mut reader = Reader::new();
    let lie = [1_u8, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    assert!(matches!(reader.push(&lie), Err(CheckpointError::Damaged { block: 0, .. })));
    assert!(reader.push(b"more").is_err(), "an error is final");
    assert!(reader.finish().is_err());
}

/// A block with a checksum that is right.
fn block(kind: u8, number: u64, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    let covered = [&number.to_le_bytes()[..], &[kind], &length, payload].concat();
    [&[kind][..], &length, &crc32c::crc32c(&covered).to_le_bytes(), payload].concat()
}

#[test]
fn another_format_is_refused_by_name() {
    for version in [2, 4] {
        let header = block(1, 0, &[b"TENURECP", &[version][..]].concat());
        assert_eq!(restore(&header).err(), Some(CheckpointError::UnknownVersion(version)));
    }
}

#[test]
fn numbers_that_leave_no_room_for_one_more_are_refused() {
    // As varints: 2^64 - 1 (which is -2^63 as a signed), and 2^63 - 1 as a signed.
    let (max, max_signed) = ([0xff; 9], [[0xfe].as_slice(), &[0xff; 8]].concat());
    let (max, max_signed) = ([&max[..], &[1]].concat(), [&max_signed[..], &[1]].concat());
    let header = |index: &[u8], revision: &[u8], compact_revision: &[u8]| {
        block(1, 0, &[b"TENURECP\x03\x00", index, revision, compact_revision].concat())
    };
    let refusal = |header: Vec<u8>, put: &[u8]| {
        let mut reader = Reader::new();
        let body = block(2, 1, &[b"\x02", put].concat());
        reader.push(&header).and_then(|()| reader.push(&body)).expect_err("a number is too large")
    };
    // Revision 2 as a signed is 4. A put: main, sub, key, create revision, version, lease, value.
    let put = |sub: &[u8], version: &[u8]| [&[4], sub, b"\x01k", &[4], version, &[0, 0]].concat();
    let sound = put(&[0], &[2]);
    for (header, put, why) in [
        (header(&max, &[4], &[4]), &sound, "its index is impossible"),
        (header(&[9], &max_signed, &[4]), &sound, "its revisions are impossible"),
        (header(&[9], &max_signed, &max_signed), &sound, "its revisions are impossible"),
        (
            header(&[9], &[4], &[4]),
            &put(&[0xff, 0xff, 0xff, 0xff, 0x0f], &[2]),
            "a revision has more changes than can be counted",
        ),
        (header(&[9], &[4], &[4]), &put(&[0], &max_signed), "a pair has impossible revisions"),
    ] {
        assert_eq!(refusal(header, put), CheckpointError::Invalid { why });
    }
    let mut reader = Reader::new();
    reader.push(&header(&[9], &[4], &[4])).expect("a header as it should be");
    reader.push(&block(2, 1, &[b"\x02", &sound[..]].concat())).expect("a put as it should be");
}

/// In the first part: a later one may supersede what an earlier one holds, and must tell what it deletes.
#[test]
fn what_a_compaction_drops_is_not_in_the_first_part() {
    // Index 9, revision 5, compacted there; as a signed, revision 2 is 4. A put: main, sub, key, create revision,
    // version, lease, value.
    let header = block(1, 0, &[&b"TENURECP\x03\x00"[..], &[9, 10, 10]].concat());
    let put = |main: u8| [2, main, 0, 1, b'k', 4, 2, 0, 0];
    let delete = [3, 6, 0, 1, b'k'];
    for (items, why) in [
        ([&put(4)[..], &put(6)].concat(), "a superseded record was compacted"),
        ([&put(4)[..], &delete].concat(), "a superseded record was compacted"),
        (delete.to_vec(), "a tombstone was compacted"),
    ] {
        let bytes = [header.clone(), block(2, 1, &items)].concat();
        assert_eq!(restore(&bytes).err(), Some(CheckpointError::Invalid { why }));
    }
}

proptest! {
    #[test]
    fn pieces_may_have_any_size(sizes in proptest::collection::vec(1..200_usize, 1..50)) {
        let store = small_store();
        let bytes = checkpoint(&store);
        let mut reader = Reader::new();
        let mut rest = bytes.as_slice();
        for size in sizes.iter().cycle() {
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            reader.push(piece).expect("a piece of a checkpoint");
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(reader.finish().expect("all has come").state_hash(), store.state_hash());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(restore(&bytes).is_err());
    }
}

#[test]
fn members_come_back() {
    let store = small_store();
    let restored = restore(&checkpoint(&store)).expect("a checkpoint can be read");
    let members: Vec<&Member> = restored.members().collect();
    assert_eq!(members, store.members().collect::<Vec<_>>());
    assert_eq!(members.len(), 1);
    assert_eq!(
        restored.snapshot().removed_members(),
        [7, 6],
        "who was one, too, in the order of their going"
    );
}

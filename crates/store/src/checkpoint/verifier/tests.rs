//! What no reader takes is noticed while it is written.

use bytes::Bytes;

use super::*;
use crate::checkpoint::{Reader, Writer};
use crate::record::Record;
use crate::state::State;
use crate::{Command, DeleteRangeRequest, PutRequest, Store};

fn put(key: &'static str) -> Command {
    Command::Put(PutRequest { key: key.into(), value: "value".into(), ..PutRequest::default() })
}

fn verify(
    snapshot: &Snapshot,
    since: i64,
    blocks: impl Iterator<Item = Bytes>,
) -> Result<(), CheckpointError> {
    let mut verifier = Verifier::new(snapshot.clone(), since);
    blocks.into_iter().try_for_each(|block| verifier.push(&block))?;
    verifier.finish()
}

/// A state as a bug could make it, of one record.
fn state_of(key: &'static [u8], create_revision: i64, version: i64) -> Snapshot {
    let mut state = State::new();
    let change = Change::Put { create_revision, version, lease: 0, value: Bytes::from_static(b"value") };
    state.append(Record::new(Revision { main: 2, sub: 0 }, Bytes::from_static(key), change, None));
    state.advance_revision();
    state.advance_applied_index(1);
    Snapshot::new(state)
}

#[test]
fn what_the_reader_refuses_is_not_written() {
    for (state, why) in [
        (state_of(b"", 2, 1), "a key is empty"),
        (state_of(b"key", 1, 1), "a pair does not follow from the one before it"),
        (state_of(b"key", 2, 2), "a pair does not follow from the one before it"),
    ] {
        let refusal = Err(CheckpointError::Invalid { why });
        assert_eq!(verify(&state, 0, Writer::new(state.clone())), refusal);
        let mut reader = Reader::new();
        let read = Writer::new(state).try_for_each(|block| reader.push(&block));
        assert_eq!(read, refusal, "the reader says the same");
    }
    let sound = state_of(b"key", 2, 1);
    assert_eq!(verify(&sound, 0, Writer::new(sound.clone())), Ok(()));
}

#[test]
fn a_part_of_another_state_or_with_another_bit_is_not_taken() {
    let mut store = Store::new();
    let mut apply = |command| assert!(store.apply(store.applied_index() + 1, &command).result.is_ok());
    for command in [put("a"), put("b"), put("a")] {
        apply(command);
    }
    let key = Bytes::from_static(b"b");
    apply(Command::DeleteRange(DeleteRangeRequest { key, ..DeleteRangeRequest::default() }));
    apply(Command::Compact { revision: 4, physical: false });
    let earlier = store.snapshot();
    assert!(store.apply(store.applied_index() + 1, &put("c")).result.is_ok());
    let state = store.snapshot();
    assert_eq!(verify(&state, 0, Writer::new(state.clone())), Ok(()));
    assert_eq!(verify(&state, 5, Writer::part(state.clone(), 5)), Ok(()));
    assert!(verify(&state, 0, Writer::part(state.clone(), 5)).is_err());
    assert!(verify(&state, 0, Writer::new(earlier)).is_err());
    let blocks: Vec<Bytes> = Writer::new(state.clone()).collect();
    for number in 0..blocks.len() {
        let mut fewer = blocks.clone();
        fewer.remove(number);
        assert!(verify(&state, 0, fewer.into_iter()).is_err(), "block {number} is missing");
        for bit in 0..8 * blocks[number].len() {
            let mut flipped = blocks.clone();
            let mut block = flipped[number].to_vec();
            block[bit / 8] ^= 1 << (bit % 8);
            flipped[number] = block.into();
            assert!(verify(&state, 0, flipped.into_iter()).is_err(), "bit {bit} of block {number}");
        }
    }
}

//! The origin before a command.

use proptest::collection::vec;
use proptest::prelude::*;
use tenure_store::PutRequest;

use super::*;

fn origin(member: u64, boot: u64, attempt: u64) -> Origin {
    Origin { member: NodeId::new(member).unwrap(), boot, attempt }
}

fn put() -> Command {
    Command::Put(PutRequest { key: "key".into(), value: "value".into(), ..PutRequest::default() })
}

proptest! {
    #[test]
    fn another_attempt_is_the_same_command(member in 1..=u64::MAX, boot in any::<u64>(), attempt in any::<u64>()) {
        let first = encode(origin(1, 1, 0), &put());
        // One who has the bytes to himself, and one who shares them.
        let shared = first.clone();
        let next = origin(member, boot, attempt);
        let copied = with_origin(first, next);
        prop_assert_eq!(decode(&copied), Some((next, put())));
        prop_assert_eq!(decode(&shared), Some((origin(1, 1, 0), put())), "the other's are as they were");
        prop_assert_eq!(decode(&with_origin(shared, next)), Some((next, put())));
    }

    #[test]
    fn arbitrary_bytes_are_a_command_or_none(bytes in vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        let decoded = decode(&bytes);
        prop_assert!(decoded.is_none() || decode_origin(&bytes).is_some());
    }
}

#[test]
fn no_part_of_a_command_is_a_command() {
    let whole = encode(origin(1, 2, 3), &put());
    for length in 0..whole.len() {
        assert_eq!(decode(&whole.slice(..length)), None, "{length} bytes");
    }
}

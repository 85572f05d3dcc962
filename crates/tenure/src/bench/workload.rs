//! What one client asks for, request after request.

use bytes::{Bytes, BytesMut};
use tenure_api::pb::etcdserverpb as pb;

use super::connection::{Rpc, frame};

/// The kind of request of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Put,
    Get { serializable: bool },
}

impl Operation {
    pub(crate) fn rpc(self) -> Rpc {
        match self {
            Operation::Put => Rpc::Put,
            Operation::Get { .. } => Rpc::Range,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Operation::Put => "put",
            Operation::Get { serializable: false } => "linearizable get",
            Operation::Get { serializable: true } => "serializable get",
        }
    }
}

/// An endless row of requests for random keys. The same seed gives the same row.
pub(crate) struct Requests {
    operation: Operation,
    value: Bytes,
    key_space: u32,
    random: Random,
}

impl Requests {
    pub(crate) fn new(operation: Operation, value_bytes: usize, key_space: u32, seed: u64) -> Requests {
        let mut random = Random(seed.wrapping_add(1));
        // Incompressible, in case a server compresses.
        let value = (0..value_bytes).map(|_| random.next() as u8).collect();
        Requests { operation, value, key_space, random }
    }

    /// The next request, ready to be sent.
    pub(crate) fn next(&mut self) -> Bytes {
        let number = self.random.below(self.key_space);
        self.of_key(number)
    }

    /// The request for a certain key.
    pub(crate) fn of_key(&self, number: u32) -> Bytes {
        match self.operation {
            Operation::Put => {
                let (key, value) = (key(number), self.value.clone());
                frame(&pb::PutRequest { key, value, ..pb::PutRequest::default() })
            }
            Operation::Get { serializable } => {
                let key = key(number);
                frame(&pb::RangeRequest { key, serializable, ..pb::RangeRequest::default() })
            }
        }
    }

    /// Whether an answer of this size can be right: a get must have found its value.
    pub(crate) fn is_plausible(&self, answer_bytes: usize) -> bool {
        match self.operation {
            Operation::Put => true,
            Operation::Get { .. } => answer_bytes >= self.value.len(),
        }
    }
}

/// `bench/` and eight digits or more.
fn key(number: u32) -> Bytes {
    const PREFIX: &[u8] = b"bench/00000000";
    let mut key = BytesMut::from(PREFIX);
    let mut rest = number;
    for digit in key[b"bench/".len()..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    // Key spaces beyond a hundred million keys are rare: there the number gets longer at its end.
    while rest > 0 {
        key.extend_from_slice(&[b'0' + (rest % 10) as u8]);
        rest /= 10;
    }
    key.freeze()
}

/// splitmix64: small, fast, and good enough to choose keys.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u32) -> u32 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u32
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn put_of(frame: &Bytes) -> pb::PutRequest {
        pb::PutRequest::decode(&frame[5..]).expect("a put")
    }

    #[test]
    fn puts_stay_in_the_key_space_and_cover_it() {
        let mut requests = Requests::new(Operation::Put, 16, 8, 3);
        let keys: std::collections::BTreeSet<Bytes> =
            (0..200).map(|_| put_of(&requests.next()).key).collect();
        let expected = (0..8).map(|number| Bytes::from(format!("bench/{number:08}"))).collect();
        assert_eq!(keys, expected);
    }

    #[test]
    fn a_frame_is_a_prefix_with_the_length_and_the_message() {
        let frame = Requests::new(Operation::Put, 256, 1, 0).next();
        assert_eq!(frame[0], 0, "not compressed");
        assert_eq!(u32::from_be_bytes(frame[1..5].try_into().expect("four bytes")) as usize, frame.len() - 5);
        assert_eq!(put_of(&frame).value.len(), 256);
    }

    #[test]
    fn keys_of_large_spaces_stay_different() {
        assert_eq!(key(99_999_999), "bench/99999999");
        assert_eq!(key(100_000_000), "bench/000000001");
        assert_ne!(key(4_294_967_295), key(94_967_295));
    }

    #[test]
    fn a_get_that_finds_nothing_is_not_plausible() {
        let requests = Requests::new(Operation::Get { serializable: false }, 256, 1, 0);
        assert!(!requests.is_plausible(20));
        assert!(requests.is_plausible(300));
    }
}

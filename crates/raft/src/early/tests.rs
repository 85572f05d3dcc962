//! Early appends against a second version: a list, searched from end to end.

use bytes::Bytes;
use proptest::prelude::*;

use super::EarlyAppends;
use crate::{Entry, EntryId, Index, LogSlice, Payload, Term};

const MAX_BYTES: usize = 300;

/// One entry of `bytes` bytes (and its overhead) that hangs on `prev`; none for an empty slice.
fn slice(prev: u64, bytes: Option<usize>) -> LogSlice {
    let id = EntryId::new(Index(prev + 1), Term(1));
    let entry = bytes.map(|len| Entry { id, payload: Payload::Command(Bytes::from(vec![0; len])) });
    LogSlice::parse(EntryId::new(Index(prev), Term(1)), entry.into_iter().collect()).expect("contiguous")
}

#[derive(Clone, Debug)]
enum Action {
    Keep { prev: u64, bytes: Option<usize> },
    TakeUpTo { last: u64 },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => (0_u64..10, proptest::option::weighted(0.9, 0_usize..120))
            .prop_map(|(prev, bytes)| Action::Keep { prev, bytes }),
        2 => (0_u64..12).prop_map(|last| Action::TakeUpTo { last }),
    ]
}

proptest! {
    /// What is kept comes back once, the lowest first, and never more than the bound is kept.
    #[test]
    fn what_is_kept_comes_back_in_order(actions in proptest::collection::vec(action(), 1..60)) {
        let mut early = EarlyAppends::default();
        let mut list: Vec<LogSlice> = Vec::new();
        for action in actions {
            match action {
                Action::Keep { prev, bytes } => {
                    let slice = slice(prev, bytes);
                    let held: usize = list.iter().map(LogSlice::size_bytes).sum();
                    if !slice.is_empty() && held + slice.size_bytes() <= MAX_BYTES {
                        list.retain(|other| other.prev() != slice.prev());
                        list.push(slice.clone());
                    }
                    early.keep(slice, MAX_BYTES);
                }
                Action::TakeUpTo { last } => {
                    let lowest = list.iter().map(|slice| slice.prev().index).min();
                    let expected = lowest.filter(|&prev| prev <= Index(last));
                    let taken = early.take_up_to(Index(last));
                    prop_assert_eq!(taken.as_ref().map(|slice| slice.prev().index), expected);
                    if let Some(taken) = taken {
                        prop_assert!(list.contains(&taken));
                        list.retain(|other| *other != taken);
                    }
                }
            }
            prop_assert_eq!(early.bytes, list.iter().map(LogSlice::size_bytes).sum::<usize>());
            prop_assert!(early.bytes <= MAX_BYTES);
        }
    }
}

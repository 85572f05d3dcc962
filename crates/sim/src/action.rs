//! What a simulated client does, and how that looks as a request to the store and as its answer.
//!
//! Every write is unlike every other, so that a command in the log names the one operation it came from:
//! values carry the operation's number, and so does the end of a deleted range.

use bytes::Bytes;
use tenure_store::{
    Command, Compare, DeleteRangeRequest, KeyValue, Operand, PutRequest, RangeRequest, RangeResponse,
    Rejection, Relation, RequestOp, Response, ResponseOp, TxnRequest,
};

/// The names of the keys; a run uses the first few.
const KEYS: [&str; 16] = [
    "key-00", "key-01", "key-02", "key-03", "key-04", "key-05", "key-06", "key-07", "key-08", "key-09",
    "key-10", "key-11", "key-12", "key-13", "key-14", "key-15",
];
/// All keys lie from here…
const FIRST_KEY: &str = "key-";
/// …to here.
const KEYS_END: &str = "key.";
/// The most keys a run can use.
pub(crate) const MAX_KEYS: u8 = KEYS.len() as u8;

/// Numbers the operations of a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct OperationId(pub(crate) u32);

impl std::fmt::Display for OperationId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "o{}", self.0)
    }
}

/// One thing to ask the cluster. Keys are numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// Write a key.
    Put {
        /// Which.
        key: u8,
    },
    /// Write two different keys in one transaction.
    PutTwo {
        /// One.
        first: u8,
        /// The other.
        second: u8,
    },
    /// Write a key if it is as expected, otherwise read it.
    CompareAndSwap {
        /// Which.
        key: u8,
        /// What is compared.
        expected: Expected,
    },
    /// Write two different keys, one of them in a transaction within the transaction, if both are as expected;
    /// otherwise read them.
    CompareTwo {
        /// Which.
        keys: [u8; 2],
        /// What is compared.
        expected: [Expected; 2],
    },
    /// Delete a key.
    Delete {
        /// Which.
        key: u8,
    },
    /// Delete the keys from one to another.
    DeleteSome {
        /// From this one…
        first: u8,
        /// …to this one.
        last: u8,
    },
    /// Read a key.
    Get {
        /// Which.
        key: u8,
    },
    /// Read all keys.
    GetAll,
    /// Read so many of the keys, and how many there are.
    GetSome {
        /// How many at most.
        limit: u8,
    },
    /// Read all keys as they were at a revision.
    GetOld {
        /// Which.
        revision: i64,
    },
    /// Read a key from whatever state the member has.
    GetStale {
        /// Which.
        key: u8,
    },
    /// Forget the history before a revision.
    Compact {
        /// Which.
        revision: i64,
    },
}

/// What a key should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Expected {
    /// Last changed at this revision; 0 if the key should not exist.
    ModRevision(i64),
    /// Created at this revision.
    CreateRevision(i64),
    /// Written so many times.
    Version(i64),
    /// Last written by this operation.
    Writer(OperationId),
}

impl Expected {
    /// Whether a key that is this, or nothing, is as expected. (Nothing has no value to compare.)
    pub(crate) fn fits(self, current: Option<Pair>) -> bool {
        match self {
            Expected::ModRevision(revision) => current.map_or(0, |pair| pair.mod_revision) == revision,
            Expected::CreateRevision(revision) => current.map_or(0, |pair| pair.create_revision) == revision,
            Expected::Version(version) => current.map_or(0, |pair| pair.version) == version,
            Expected::Writer(writer) => current.is_some_and(|pair| pair.writer == writer),
        }
    }

    /// The comparison that asks for it.
    fn of(self, key: u8, value_bytes: usize) -> Compare {
        let operand = match self {
            Expected::ModRevision(revision) => Operand::ModRevision(revision),
            Expected::CreateRevision(revision) => Operand::CreateRevision(revision),
            Expected::Version(version) => Operand::Version(version),
            Expected::Writer(writer) => Operand::Value(value_of(writer, value_bytes)),
        };
        Compare { key: name_of(key), range_end: Bytes::new(), relation: Relation::Equal, operand }
    }
}

/// A pair of the store, as far as the model knows it: its value says who wrote it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pair {
    pub(crate) writer: OperationId,
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
}

/// What a write did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Put {
        revision: i64,
        previous: Option<Pair>,
    },
    PutTwo {
        revision: i64,
    },
    /// `current` is the pair that was found if it was not the expected one.
    Swapped {
        revision: i64,
        succeeded: bool,
        current: Option<Pair>,
    },
    /// As above, for two.
    SwappedTwo {
        revision: i64,
        succeeded: bool,
        current: [Option<Pair>; 2],
    },
    Deleted {
        revision: i64,
        previous: Option<Pair>,
    },
    /// Of what was deleted the number and the sum of the revisions say enough.
    DeletedSome {
        revision: i64,
        count: i64,
        mod_revisions: i64,
    },
}

/// What a read shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    /// The revision of the state that answered.
    pub(crate) revision: i64,
    /// By key.
    pub(crate) pairs: Vec<(u8, Pair)>,
    /// How many there are, shown or not.
    pub(crate) count: i64,
}

/// What a read shows, or why it shows nothing.
pub(crate) type View = Result<Seen, Rejection>;

impl Outcome {
    /// The revision that the client is told.
    pub(crate) fn revision(self) -> i64 {
        match self {
            Outcome::Put { revision, .. }
            | Outcome::PutTwo { revision }
            | Outcome::Swapped { revision, .. }
            | Outcome::SwappedTwo { revision, .. }
            | Outcome::Deleted { revision, .. }
            | Outcome::DeletedSome { revision, .. } => revision,
        }
    }
}

impl Action {
    /// Whether it goes through the log.
    pub(crate) fn is_write(self) -> bool {
        match self {
            Action::Put { .. }
            | Action::PutTwo { .. }
            | Action::CompareAndSwap { .. }
            | Action::CompareTwo { .. }
            | Action::Delete { .. }
            | Action::DeleteSome { .. }
            | Action::Compact { .. } => true,
            Action::Get { .. }
            | Action::GetAll
            | Action::GetSome { .. }
            | Action::GetOld { .. }
            | Action::GetStale { .. } => false,
        }
    }

    /// Whether each such command is unlike every other.
    pub(crate) fn is_unique(self) -> bool {
        self.is_write() && !matches!(self, Action::Compact { .. })
    }

    /// Whether the answer must be up to date.
    pub(crate) fn is_linearizable(self) -> bool {
        !matches!(self, Action::GetStale { .. })
    }

    /// The command of a write.
    pub(crate) fn to_command(self, id: OperationId, value_bytes: usize) -> Option<Command> {
        let put = |key: u8, prev_kv: bool| PutRequest {
            key: name_of(key),
            value: value_of(id, value_bytes),
            prev_kv,
            ..PutRequest::default()
        };
        let command = match self {
            Action::Put { key } => Command::Put(put(key, true)),
            Action::PutTwo { first, second } => Command::Txn(TxnRequest {
                success: vec![RequestOp::Put(put(first, false)), RequestOp::Put(put(second, false))],
                ..TxnRequest::default()
            }),
            Action::CompareTwo { keys: [first, second], expected } => {
                let compare = [expected[0].of(first, value_bytes), expected[1].of(second, value_bytes)];
                // Nested or not, comparisons see the state before the transaction.
                let inner = TxnRequest {
                    compare: compare.to_vec(),
                    success: vec![RequestOp::Put(put(second, false))],
                    ..TxnRequest::default()
                };
                Command::Txn(TxnRequest {
                    compare: compare.into(),
                    success: vec![RequestOp::Put(put(first, false)), RequestOp::Txn(inner)],
                    failure: vec![RequestOp::Range(range_of(first)), RequestOp::Range(range_of(second))],
                })
            }
            Action::CompareAndSwap { key, expected } => Command::Txn(TxnRequest {
                compare: vec![expected.of(key, value_bytes)],
                success: vec![RequestOp::Put(put(key, false))],
                failure: vec![RequestOp::Range(range_of(key))],
            }),
            Action::Delete { key } => Command::DeleteRange(delete_of(key, key, id)),
            Action::DeleteSome { first, last } => Command::DeleteRange(delete_of(first, last, id)),
            Action::Compact { revision } => Command::Compact { revision, physical: false },
            Action::Get { .. }
            | Action::GetAll
            | Action::GetSome { .. }
            | Action::GetOld { .. }
            | Action::GetStale { .. } => return None,
        };
        Some(command)
    }

    /// The request of a read.
    pub(crate) fn to_range(self) -> Option<RangeRequest> {
        let all = |revision, limit| RangeRequest {
            key: Bytes::from_static(FIRST_KEY.as_bytes()),
            range_end: Bytes::from_static(KEYS_END.as_bytes()),
            revision,
            limit,
            ..RangeRequest::default()
        };
        match self {
            Action::Get { key } | Action::GetStale { key } => Some(range_of(key)),
            Action::GetAll => Some(all(0, 0)),
            Action::GetSome { limit } => Some(all(0, i64::from(limit))),
            Action::GetOld { revision } => Some(all(revision, 0)),
            Action::Put { .. }
            | Action::PutTwo { .. }
            | Action::CompareAndSwap { .. }
            | Action::CompareTwo { .. }
            | Action::Delete { .. }
            | Action::DeleteSome { .. }
            | Action::Compact { .. } => None,
        }
    }
}

fn name_of(key: u8) -> Bytes {
    Bytes::from_static(KEYS[usize::from(key)].as_bytes())
}

/// The end of the range makes it unlike every other.
fn delete_of(first: u8, last: u8, id: OperationId) -> DeleteRangeRequest {
    let range_end = format!("{}\0{:08x}", KEYS[usize::from(last)], id.0).into();
    DeleteRangeRequest { key: name_of(first), range_end, prev_kv: true }
}

fn range_of(key: u8) -> RangeRequest {
    RangeRequest { key: name_of(key), ..RangeRequest::default() }
}

fn value_of(id: OperationId, value_bytes: usize) -> Bytes {
    let mut value = format!("{:08x}", id.0).into_bytes();
    value.resize(value_bytes.max(value.len()), b'.');
    value.into()
}

/// Reads a pair back; none if it is not one that [`Action::to_command`] wrote.
fn pair_of(kv: &KeyValue) -> Option<(u8, Pair)> {
    let key = KEYS.iter().position(|name| kv.key == *name)? as u8;
    let number = std::str::from_utf8(kv.value.get(..8)?).ok()?;
    let writer = OperationId(u32::from_str_radix(number, 16).ok()?);
    let KeyValue { create_revision, mod_revision, version, .. } = *kv;
    Some((key, Pair { writer, create_revision, mod_revision, version }))
}

/// An answer carries a pair that is not ours.
struct Foreign;

/// The pair that an answer carries, if it carries one.
fn one_pair(kv: Option<&KeyValue>) -> Result<Option<Pair>, Foreign> {
    kv.map(|kv| pair_of(kv).map(|(_, pair)| pair).ok_or(Foreign)).transpose()
}

/// What the answer to a write says; none if it is no answer to it.
pub(crate) fn outcome_of(action: Action, response: &Response) -> Option<Outcome> {
    match (action, response) {
        (Action::Put { .. }, Response::Put(put)) => {
            let previous = one_pair(put.prev_kv.as_ref()).ok()?;
            Some(Outcome::Put { revision: put.revision, previous })
        }
        (Action::PutTwo { .. }, Response::Txn(txn)) => {
            let both = matches!(txn.responses[..], [ResponseOp::Put(_), ResponseOp::Put(_)]);
            (txn.succeeded && both).then_some(Outcome::PutTwo { revision: txn.revision })
        }
        (Action::CompareAndSwap { .. }, Response::Txn(txn)) => {
            let current = match &txn.responses[..] {
                [ResponseOp::Put(_)] if txn.succeeded => None,
                [ResponseOp::Range(range)] if !txn.succeeded => one_pair(range.kvs.first()).ok()?,
                _ => return None,
            };
            Some(Outcome::Swapped { revision: txn.revision, succeeded: txn.succeeded, current })
        }
        (Action::CompareTwo { .. }, Response::Txn(txn)) => {
            let current = match &txn.responses[..] {
                [ResponseOp::Put(_), ResponseOp::Txn(inner)] if txn.succeeded && inner.succeeded => {
                    matches!(inner.responses[..], [ResponseOp::Put(_)]).then_some([None, None])?
                }
                [ResponseOp::Range(first), ResponseOp::Range(second)] if !txn.succeeded => {
                    [one_pair(first.kvs.first()).ok()?, one_pair(second.kvs.first()).ok()?]
                }
                _ => return None,
            };
            Some(Outcome::SwappedTwo { revision: txn.revision, succeeded: txn.succeeded, current })
        }
        (Action::Delete { .. }, Response::DeleteRange(delete)) => {
            let previous = one_pair(delete.prev_kvs.first()).ok()?;
            let count_fits = delete.deleted == i64::from(previous.is_some());
            count_fits.then_some(Outcome::Deleted { revision: delete.revision, previous })
        }
        (Action::DeleteSome { .. }, Response::DeleteRange(delete)) => {
            let pairs = delete.prev_kvs.iter().map(pair_of).collect::<Option<Vec<_>>>()?;
            let (count, revision) = (pairs.len() as i64, delete.revision);
            let mod_revisions = pairs.iter().map(|(_, pair)| pair.mod_revision).sum();
            (delete.deleted == count).then_some(Outcome::DeletedSome { revision, count, mod_revisions })
        }
        _ => None,
    }
}

/// What the answer to a read shows; none if it shows pairs that nobody wrote, or contradicts itself.
pub(crate) fn view_of(response: &RangeResponse) -> Option<Seen> {
    let pairs = response.kvs.iter().map(pair_of).collect::<Option<Vec<_>>>()?;
    let is_whole = response.count == pairs.len() as i64;
    (response.more != is_whole).then_some(Seen { revision: response.revision, pairs, count: response.count })
}

#[cfg(test)]
mod tests {
    use tenure_store::Store;

    use super::*;

    #[test]
    fn what_the_store_answers_is_read_back() {
        let mut store = Store::new();
        let mut index = 0;
        let mut run = |action: Action, number: u32| {
            index += 1;
            let command = action.to_command(OperationId(number), 20).unwrap();
            let applied = store.apply(index, &command);
            outcome_of(action, &applied.result.unwrap()).unwrap()
        };
        let pair = |writer, mod_revision, version| {
            Some(Pair { writer: OperationId(writer), create_revision: 2, mod_revision, version })
        };
        let put = run(Action::Put { key: 3 }, 7);
        assert_eq!(put, Outcome::Put { revision: 2, previous: None });
        let swap = |revision| Action::CompareAndSwap { key: 3, expected: Expected::ModRevision(revision) };
        let swapped = run(swap(2), 8);
        assert_eq!(swapped, Outcome::Swapped { revision: 3, succeeded: true, current: None });
        let missed = run(swap(2), 9);
        assert_eq!(missed, Outcome::Swapped { revision: 3, succeeded: false, current: pair(8, 3, 2) });
        let swap_two = |version| Action::CompareTwo {
            keys: [3, 4],
            expected: [Expected::ModRevision(3), Expected::Version(version)],
        };
        let current = [pair(8, 3, 2), None];
        let missed = run(swap_two(1), 13);
        assert_eq!(missed, Outcome::SwappedTwo { revision: 3, succeeded: false, current });
        let deleted = run(Action::Delete { key: 3 }, 10);
        assert_eq!(deleted, Outcome::Deleted { revision: 4, previous: pair(8, 3, 2) });
        let nothing = run(Action::Delete { key: 3 }, 11);
        assert_eq!(nothing, Outcome::Deleted { revision: 4, previous: None });
        let two = run(Action::PutTwo { first: 1, second: 2 }, 12);
        assert_eq!(two, Outcome::PutTwo { revision: 5 });
        let swap_two = Action::CompareTwo {
            keys: [1, 2],
            expected: [Expected::ModRevision(5), Expected::Writer(OperationId(12))],
        };
        let swapped = run(swap_two, 14);
        assert_eq!(swapped, Outcome::SwappedTwo { revision: 6, succeeded: true, current: [None, None] });
        let all = store.snapshot().range(&Action::GetAll.to_range().unwrap()).unwrap();
        let Seen { revision, pairs, count } = view_of(&all).unwrap();
        assert_eq!((revision, count, pairs.len(), pairs[0].0, pairs[1].0), (6, 2, 2, 1, 2));
        let some = store.snapshot().range(&Action::GetSome { limit: 1 }.to_range().unwrap()).unwrap();
        let Seen { pairs, count, .. } = view_of(&some).unwrap();
        assert_eq!((count, pairs.len()), (2, 1));
    }
}

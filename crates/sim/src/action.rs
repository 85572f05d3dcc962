//! What a simulated client does, and how that looks as a request to the store. How the answer looks is in
//! [`crate::outcome`].
//!
//! Every write is unlike every other, so that a command in the log names the one operation it came from:
//! values carry the operation's number, and so does the end of a deleted range.

use bytes::Bytes;
use tenure_store::{Command, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

use crate::expected::Expected;
use crate::selection::Selection;

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
    /// Write the first of some keys if all that there are of them are as expected, otherwise read them.
    CompareSome {
        /// From this one…
        first: u8,
        /// …to this one.
        last: u8,
        /// What each is compared with.
        expected: Expected,
    },
    /// Write a key and, in a transaction within, another with the value that it has, which it must have. Then read it.
    Touch {
        /// The one that keeps its value.
        key: u8,
        /// The other.
        other: u8,
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
    /// Read the keys of which so much is asked, and how many there are.
    GetSome {
        /// Which, how many at most, and in which order.
        selection: Selection,
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

impl Action {
    /// Whether it goes through the log.
    pub(crate) fn is_write(self) -> bool {
        match self {
            Action::Put { .. }
            | Action::PutTwo { .. }
            | Action::CompareAndSwap { .. }
            | Action::CompareTwo { .. }
            | Action::CompareSome { .. }
            | Action::Touch { .. }
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

    /// The key that a client knows after this: the one that it was about.
    pub(crate) fn key(self) -> Option<u8> {
        match self {
            Action::Put { key }
            | Action::CompareAndSwap { key, .. }
            | Action::CompareSome { first: key, .. }
            | Action::Touch { key, .. }
            | Action::Get { key } => Some(key),
            Action::PutTwo { .. }
            | Action::CompareTwo { .. }
            | Action::Delete { .. }
            | Action::DeleteSome { .. }
            | Action::GetAll
            | Action::GetSome { .. }
            | Action::GetOld { .. }
            | Action::GetStale { .. }
            | Action::Compact { .. } => None,
        }
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
                let compare =
                    [expected[0].of([first; 2], value_bytes), expected[1].of([second; 2], value_bytes)];
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
                compare: vec![expected.of([key; 2], value_bytes)],
                success: vec![RequestOp::Put(put(key, false))],
                failure: vec![RequestOp::Range(range_of(key))],
            }),
            Action::CompareSome { first, last, expected } => Command::Txn(TxnRequest {
                compare: vec![expected.of([first, last], value_bytes)],
                success: vec![RequestOp::Put(put(first, false))],
                failure: vec![RequestOp::Range(RangeRequest { range_end: end_of(last), ..range_of(first) })],
            }),
            Action::Touch { key, other } => {
                // That the key is missing must be noticed before anything is written.
                let keep = PutRequest {
                    key: name_of(key),
                    ignore_value: true,
                    prev_kv: true,
                    ..PutRequest::default()
                };
                let inner = TxnRequest { success: vec![RequestOp::Put(keep)], ..TxnRequest::default() };
                Command::Txn(TxnRequest {
                    success: vec![
                        RequestOp::Put(put(other, false)),
                        RequestOp::Txn(inner),
                        RequestOp::Range(range_of(key)),
                    ],
                    ..TxnRequest::default()
                })
            }
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
        let all = |revision| RangeRequest {
            key: Bytes::from_static(FIRST_KEY.as_bytes()),
            range_end: Bytes::from_static(KEYS_END.as_bytes()),
            revision,
            ..RangeRequest::default()
        };
        match self {
            Action::Get { key } | Action::GetStale { key } => Some(range_of(key)),
            Action::GetAll => Some(all(0)),
            Action::GetSome { selection } => Some(selection.of(all(0))),
            Action::GetOld { revision } => Some(all(revision)),
            Action::Put { .. }
            | Action::PutTwo { .. }
            | Action::CompareAndSwap { .. }
            | Action::CompareTwo { .. }
            | Action::CompareSome { .. }
            | Action::Touch { .. }
            | Action::Delete { .. }
            | Action::DeleteSome { .. }
            | Action::Compact { .. } => None,
        }
    }
}

/// The name of a key.
pub(crate) fn name_of(key: u8) -> Bytes {
    Bytes::from_static(KEYS[usize::from(key)].as_bytes())
}

/// The key of that name.
pub(crate) fn key_of(name: &[u8]) -> Option<u8> {
    KEYS.iter().position(|key| name == key.as_bytes()).map(|key| key as u8)
}

/// The end of a range of which this is the last key.
pub(crate) fn end_of(last: u8) -> Bytes {
    format!("{}\0", KEYS[usize::from(last)]).into()
}

/// The end of the range makes it unlike every other.
fn delete_of(first: u8, last: u8, id: OperationId) -> DeleteRangeRequest {
    let range_end = format!("{}\0{:08x}", KEYS[usize::from(last)], id.0).into();
    DeleteRangeRequest { key: name_of(first), range_end, prev_kv: true }
}

fn range_of(key: u8) -> RangeRequest {
    RangeRequest { key: name_of(key), ..RangeRequest::default() }
}

/// What an operation writes. Later operations write larger values.
pub(crate) fn value_of(id: OperationId, value_bytes: usize) -> Bytes {
    let mut value = format!("{:08x}", id.0).into_bytes();
    value.resize(value_bytes.max(value.len()), b'.');
    value.into()
}

/// The operation that wrote a value.
pub(crate) fn writer_of(value: &[u8]) -> Option<OperationId> {
    let number = std::str::from_utf8(value.get(..8)?).ok()?;
    Some(OperationId(u32::from_str_radix(number, 16).ok()?))
}

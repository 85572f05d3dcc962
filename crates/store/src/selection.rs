//! What a read has found, by reference: eight bytes a pair, until somebody wants to see it.
//!
//! A pair as clients see it takes twelve times as much beside its bytes. So whoever sends a large answer makes the
//! pairs as it goes, and drops what it has sent. A selection holds the records and not the state: writes that come
//! after it change the maps in place.

use std::sync::Arc;
use std::vec;

use crate::record::Record;
use crate::{KeyValue, RangeResponse};

/// How much a read may look at before it is given up: for those who must not take long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// So many keys are looked at.
    pub keys: usize,
    /// So many bytes of keys and values are selected.
    pub bytes: usize,
}

impl Budget {
    /// No read is given up.
    pub const UNLIMITED: Budget = Budget { keys: usize::MAX, bytes: usize::MAX };
}

/// The answer to a read, its pairs still to be made.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The store's latest revision, whichever was read.
    pub revision: i64,
    /// Whether the limit cut pairs off.
    pub more: bool,
    /// How many keys the range has.
    pub count: i64,
    /// The pairs.
    pub pairs: Pairs,
}

impl Selection {
    pub(crate) fn new(revision: i64, count: i64, more: bool, pairs: Pairs) -> Self {
        Self { revision, more, count, pairs }
    }

    /// The answer with all its pairs.
    pub fn into_response(self) -> RangeResponse {
        let Self { revision, more, count, pairs } = self;
        RangeResponse { revision, kvs: pairs.collect(), more, count }
    }
}

/// Pairs that are made when they are asked for, each once.
#[derive(Debug, Clone, Default)]
pub struct Pairs {
    records: vec::IntoIter<Arc<Record>>,
    keys_only: bool,
}

impl Pairs {
    /// All of them must be puts.
    pub(crate) fn new(records: Vec<Arc<Record>>, keys_only: bool) -> Self {
        Self { records: records.into_iter(), keys_only }
    }

    /// A look at those that are left.
    pub fn iter(&self) -> impl Iterator<Item = KeyValue> {
        self.records.as_slice().iter().map(|record| pair(record, self.keys_only))
    }
}

impl Iterator for Pairs {
    type Item = KeyValue;

    fn next(&mut self) -> Option<KeyValue> {
        self.records.next().map(|record| pair(&record, self.keys_only))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.records.size_hint()
    }
}

impl ExactSizeIterator for Pairs {}

fn pair(record: &Record, keys_only: bool) -> KeyValue {
    let mut pair = record.key_value().expect("only puts are selected");
    if keys_only {
        pair.value.clear();
    }
    pair
}

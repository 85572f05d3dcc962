//! The rule that a transaction changes no key twice, found without looking at the state.
//!
//! Two puts of a key, or a put within a deleted range, are refused wherever they stand if one execution
//! could do both. Puts in the two branches of one transaction may coincide, since only one of them is run,
//! and deletes may overlap deletes.
//!
//! Two cases escape this rule in etcd (`checkIntervals` of 3.7.3), and so they do here: a put in a
//! transaction within and a delete of it in a later one beside it, and a put within a range that is deleted
//! up to the end of all keys. They are run as they are written, one change after the other, both in one
//! revision.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::interval::Interval;
use crate::{Rejection, RequestOp, TxnRequest};

/// Checks both branches of a transaction and all transactions within.
pub(crate) fn check(request: &TxnRequest) -> Result<(), Rejection> {
    Footprint::of_branch(&request.success)?;
    Footprint::of_branch(&request.failure)?;
    Ok(())
}

/// The keys that a list of operations may put, and those it may delete.
#[derive(Default)]
struct Footprint<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Spans,
}

impl<'a> Footprint<'a> {
    /// Takes the operations in etcd's order: deletes, transactions within, puts. A put must not meet what was
    /// taken before it, while a delete may meet any put; so the order decides what escapes the rule.
    fn of_branch(ops: &'a [RequestOp]) -> Result<Self, Rejection> {
        let mut all = Self::default();
        for op in ops {
            if let RequestOp::DeleteRange(request) = op {
                all.deletes.insert(&Interval::parse(&request.key, &request.range_end));
            }
        }
        for op in ops {
            if let RequestOp::Txn(request) = op {
                let success = Self::of_branch(&request.success)?;
                all = all.then(success.or(Self::of_branch(&request.failure)?))?;
            }
        }
        for op in ops {
            if let RequestOp::Put(request) = op
                && (all.deletes.contains(&request.key) || !all.puts.insert(&request.key))
            {
                return Err(Rejection::DuplicateKey);
            }
        }
        Ok(all)
    }

    /// Both are executed, and `later` must put nothing that `self` has changed.
    fn then(self, later: Self) -> Result<Self, Rejection> {
        let (many, few) = larger_first(&self.puts, &later.puts, |puts| puts.len());
        if few.iter().any(|key| many.contains(key)) || self.deletes.meets(&later.puts) {
            return Err(Rejection::DuplicateKey);
        }
        Ok(self.or(later))
    }

    /// One of the two is executed. The smaller is moved into the larger, so that however transactions are
    /// nested, no key is moved more often than the logarithm of their number.
    fn or(self, other: Self) -> Self {
        let (mut puts, fewer_puts) = larger_first(self.puts, other.puts, BTreeSet::len);
        puts.extend(fewer_puts);
        let (mut deletes, fewer_deletes) = larger_first(self.deletes, other.deletes, Spans::len);
        fewer_deletes.0.into_iter().for_each(|(start, end)| deletes.insert_span(start, end));
        Self { puts, deletes }
    }
}

fn larger_first<T>(a: T, b: T, len: impl Fn(&T) -> usize) -> (T, T) {
    if len(&a) < len(&b) { (b, a) } else { (a, b) }
}

/// A set of keys as spans that do not overlap: the first key of each, and the first after it.
#[derive(Default)]
struct Spans(BTreeMap<Vec<u8>, Vec<u8>>);

impl Spans {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn insert(&mut self, interval: &Interval<'_>) {
        match interval {
            // Nothing lies between a key and the same with a zero byte behind it.
            Interval::Point(only) => self.insert_span(only.to_vec(), [only, &[0_u8][..]].concat()),
            Interval::Span(start, end) if start < end => self.insert_span(start.to_vec(), end.to_vec()),
            // etcd takes the zero byte that stands for "no end" for an end here, before all keys.
            Interval::Span(..) | Interval::From(_) => {}
        }
    }

    /// Adds a span, swallowing those that it overlaps.
    fn insert_span(&mut self, mut start: Vec<u8>, mut end: Vec<u8>) {
        while let Some(other) = self.last_that_begins_before(&end)
            && self.0[&other] > start
        {
            let other_end = self.0.remove(&other).expect("it was just found");
            start = start.min(other);
            end = end.max(other_end);
        }
        self.0.insert(start, end);
    }

    fn last_that_begins_before(&self, end: &[u8]) -> Option<Vec<u8>> {
        let before = (Bound::Unbounded, Bound::Excluded(end));
        self.0.range::<[u8], _>(before).next_back().map(|(start, _)| start.clone())
    }

    fn contains(&self, key: &[u8]) -> bool {
        let span = self.0.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        span.is_some_and(|(_, end)| key < end.as_slice())
    }

    /// Whether one of the keys lies in one of the spans; looks up the fewer among the more.
    fn meets(&self, keys: &BTreeSet<&[u8]>) -> bool {
        if keys.len() < self.len() {
            return keys.iter().any(|key| self.contains(key));
        }
        self.0.iter().any(|(start, end)| {
            let span = (Bound::Included(start.as_slice()), Bound::Excluded(end.as_slice()));
            keys.range::<[u8], _>(span).next().is_some()
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{DeleteRangeRequest, PutRequest};

    fn put(key: &'static str) -> RequestOp {
        RequestOp::Put(PutRequest { key: key.into(), ..PutRequest::default() })
    }

    fn inner(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        RequestOp::Txn(TxnRequest { compare: Vec::new(), success, failure })
    }

    fn check_ops(success: Vec<RequestOp>) -> Result<(), Rejection> {
        check(&TxnRequest { success, ..TxnRequest::default() })
    }

    const REFUSED: Result<(), Rejection> = Err(Rejection::DuplicateKey);

    #[test]
    fn spans_that_overlap_become_one() {
        let mut spans = Spans::default();
        for (key, end) in [("d", "f"), ("a", "c"), ("h", ""), ("b", "e"), ("x", "w"), ("q", "\0"), ("r", "s")]
        {
            spans.insert(&Interval::parse(key.as_bytes(), end.as_bytes()));
        }
        let expected: [(&[u8], &[u8]); 3] = [(b"a", b"f"), (b"h", b"h\0"), (b"r", b"s")];
        let spans: Vec<_> = spans.0.iter().map(|(start, end)| (start.as_slice(), end.as_slice())).collect();
        assert_eq!(spans, expected);
    }

    /// Each put with each deleted range would be a hundred million comparisons.
    #[test]
    fn ten_thousand_puts_and_ranges_are_compared_in_no_time() {
        let key = |n: usize| Bytes::from(format!("{n:08}"));
        let puts = (0..10_000).map(|n| {
            let request = PutRequest { key: key(2 * n), ..PutRequest::default() };
            inner(vec![RequestOp::Put(request)], vec![])
        });
        let deletes = (0..10_000).map(|n| {
            let request =
                DeleteRangeRequest { key: key(2 * n + 1), range_end: key(2 * n + 2), prev_kv: false };
            inner(vec![], vec![RequestOp::DeleteRange(request)])
        });
        let mut ops: Vec<RequestOp> = puts.chain(deletes).collect();
        assert_eq!(check_ops(ops.clone()), Ok(()));
        ops.push(put("00000400"));
        assert_eq!(check_ops(ops), REFUSED);
    }
}

//! The rule that a transaction changes no key twice, found without looking at the state.
//!
//! Two puts of a key, or a put within a deleted range, are refused wherever they stand if one execution
//! could do both. Puts in the two branches of one transaction may coincide, since only one of them is run,
//! and deletes may overlap deletes.
//!
//! etcd states the same rule but misses two cases: a put in one transaction within and a delete of it in a
//! later one beside it, and a put within a range that is deleted up to the end of all keys. We refuse
//! both: whoever relied on them would see one key change twice in one revision.

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
    fn of_branch(ops: &'a [RequestOp]) -> Result<Self, Rejection> {
        ops.iter().try_fold(Self::default(), |all, op| all.then(Self::of_op(op)?))
    }

    fn of_op(op: &'a RequestOp) -> Result<Self, Rejection> {
        let mut footprint = Self::default();
        match op {
            RequestOp::Put(request) => {
                footprint.puts.insert(&request.key);
            }
            RequestOp::DeleteRange(request) => {
                footprint.deletes.insert(&Interval::parse(&request.key, &request.range_end));
            }
            RequestOp::Txn(request) => {
                let success = Self::of_branch(&request.success)?;
                return Ok(success.or(Self::of_branch(&request.failure)?));
            }
            RequestOp::Range(_) | RequestOp::Unset => {}
        }
        Ok(footprint)
    }

    /// Both are executed.
    fn then(self, other: Self) -> Result<Self, Rejection> {
        if self.clashes_with(&other) {
            return Err(Rejection::DuplicateKey);
        }
        Ok(self.or(other))
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

    fn clashes_with(&self, other: &Self) -> bool {
        let (many, few) = if self.puts.len() < other.puts.len() { (other, self) } else { (self, other) };
        few.puts.iter().any(|key| many.puts.contains(key))
            || self.deletes.meets(&other.puts)
            || other.deletes.meets(&self.puts)
    }
}

fn larger_first<T>(a: T, b: T, len: impl Fn(&T) -> usize) -> (T, T) {
    if len(&a) < len(&b) { (b, a) } else { (a, b) }
}

/// A set of keys as spans that do not overlap: the first key of each and the first after it, or `None` if it
/// goes on for ever.
#[derive(Default)]
struct Spans(BTreeMap<Vec<u8>, Option<Vec<u8>>>);

impl Spans {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn insert(&mut self, interval: &Interval<'_>) {
        let end = match interval {
            // Nothing lies between a key and the same with a zero byte behind it.
            Interval::Point(only) => Some([only, &[0_u8][..]].concat()),
            Interval::Span(start, end) if start < end => Some(end.to_vec()),
            Interval::Span(..) => return,
            Interval::From(_) => None,
        };
        self.insert_span(interval.start().to_vec(), end);
    }

    /// Adds a span, swallowing those that it overlaps.
    fn insert_span(&mut self, mut start: Vec<u8>, mut end: Option<Vec<u8>>) {
        while let Some(other) = self.last_that_begins_before(end.as_deref()) {
            let other_end = &self.0[&other];
            if !reaches(other_end.as_deref(), &start) {
                break;
            }
            let other_end = self.0.remove(&other).expect("it was just found");
            start = start.min(other);
            end = end.zip(other_end).map(|(a, b)| a.max(b));
        }
        self.0.insert(start, end);
    }

    fn last_that_begins_before(&self, end: Option<&[u8]>) -> Option<Vec<u8>> {
        let bound = end.map_or(Bound::Unbounded, Bound::Excluded);
        self.0.range::<[u8], _>((Bound::Unbounded, bound)).next_back().map(|(start, _)| start.clone())
    }

    fn contains(&self, key: &[u8]) -> bool {
        let span = self.0.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        span.is_some_and(|(_, end)| reaches(end.as_deref(), key))
    }

    /// Whether one of the keys lies in one of the spans; looks up the fewer among the more.
    fn meets(&self, keys: &BTreeSet<&[u8]>) -> bool {
        if keys.len() < self.len() {
            return keys.iter().any(|key| self.contains(key));
        }
        self.0.iter().any(|(start, end)| {
            let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            keys.range::<[u8], _>((Bound::Included(start.as_slice()), end)).next().is_some()
        })
    }
}

/// Whether a span with this end, begun at or before `key`, holds `key`.
fn reaches(end: Option<&[u8]>, key: &[u8]) -> bool {
    end.is_none_or(|end| key < end)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{DeleteRangeRequest, PutRequest};

    fn put(key: &'static str) -> RequestOp {
        RequestOp::Put(PutRequest { key: key.into(), ..PutRequest::default() })
    }

    fn delete(key: &'static str, range_end: &'static str) -> RequestOp {
        RequestOp::DeleteRange(DeleteRangeRequest {
            key: key.into(),
            range_end: range_end.into(),
            prev_kv: false,
        })
    }

    fn inner(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        RequestOp::Txn(TxnRequest { compare: Vec::new(), success, failure })
    }

    fn check_ops(success: Vec<RequestOp>) -> Result<(), Rejection> {
        check(&TxnRequest { success, ..TxnRequest::default() })
    }

    const REFUSED: Result<(), Rejection> = Err(Rejection::DuplicateKey);

    /// etcd 3.7.3 accepts the first of these and refuses the second.
    #[test]
    fn the_order_of_transactions_within_does_not_matter() {
        let put = || inner(vec![put("k")], vec![]);
        let delete = || inner(vec![], vec![delete("a", "z")]);
        assert_eq!(check_ops(vec![put(), delete()]), REFUSED);
        assert_eq!(check_ops(vec![delete(), put()]), REFUSED);
    }

    /// etcd 3.7.3 accepts both.
    #[test]
    fn a_range_without_an_end_holds_all_keys_after_its_first() {
        assert_eq!(check_ops(vec![delete("b", "\0"), put("c")]), REFUSED);
        assert_eq!(check_ops(vec![put("b"), delete("b", "\0")]), REFUSED);
        assert_eq!(check_ops(vec![put("a"), delete("b", "\0")]), Ok(()));
    }

    #[test]
    fn spans_that_overlap_become_one() {
        let mut spans = Spans::default();
        for (key, end) in [("d", "f"), ("a", "c"), ("h", ""), ("b", "e"), ("x", "w"), ("q", "\0"), ("r", "s")]
        {
            spans.insert(&Interval::parse(key.as_bytes(), end.as_bytes()));
        }
        let expected: [(&[u8], Option<&[u8]>); 3] = [(b"a", Some(b"f")), (b"h", Some(b"h\0")), (b"q", None)];
        let spans: Vec<_> = spans.0.iter().map(|(start, end)| (start.as_slice(), end.as_deref())).collect();
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

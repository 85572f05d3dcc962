//! Reading a range: at a revision, filtered, sorted, cut.

use std::sync::Arc;

use crate::interval::Interval;
use crate::record::{Change, Record};
use crate::selection::Pairs;
use crate::state::State;
use crate::{Budget, RangeRequest, RangeResponse, Rejection, Selection, SortOrder, SortTarget};

/// How far a range is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// To its end, since all its keys are counted.
    Whole,
    /// As far as the limit goes. The count of the answer says nothing then.
    Limit,
}

/// Answers `request` from `state`. `revision` is the latest one there is: the state's own or, within a
/// transaction that has written, the one being written.
pub(crate) fn range(
    state: &State,
    revision: i64,
    request: &RangeRequest,
    extent: Extent,
) -> Result<RangeResponse, Rejection> {
    let selection = select(state, revision, request, extent, Budget::UNLIMITED)?;
    Ok(selection.expect("without a limit nothing is given up").into_response())
}

/// The same, with the pairs still to be made; none if it takes more than `budget`.
pub(crate) fn select(
    state: &State,
    revision: i64,
    request: &RangeRequest,
    extent: Extent,
    budget: Budget,
) -> Result<Option<Selection>, Rejection> {
    if request.revision > revision {
        return Err(Rejection::FutureRevision);
    }
    let interval = Interval::parse(&request.key, &request.range_end);
    if request.revision <= 0 || request.revision == revision {
        return Ok(answer(state.iter_latest(&interval), revision, request, extent, budget));
    }
    if request.revision < state.compact_revision() {
        return Err(Rejection::Compacted);
    }
    // In the past there may be any number of keys that are gone by now, and each is searched for.
    if budget != Budget::UNLIMITED && !matches!(interval, Interval::Point(_)) {
        return Ok(None);
    }
    Ok(answer(state.iter_at(&interval, request.revision), revision, request, extent, budget))
}

/// What etcd checks of a read in a transaction before it executes anything. Unlike outside of one, a
/// negative revision is not the latest but one that is compacted, once anything is.
pub(crate) fn check_revision(state: &State, request: &RangeRequest) -> Result<(), Rejection> {
    match request.revision {
        0 => Ok(()),
        revision if revision > state.revision() => Err(Rejection::FutureRevision),
        revision if revision < state.compact_revision() => Err(Rejection::Compacted),
        _ => Ok(()),
    }
}

fn answer<'a>(
    present: impl Iterator<Item = &'a Arc<Record>>,
    revision: i64,
    request: &RangeRequest,
    extent: Extent,
    budget: Budget,
) -> Option<Selection> {
    if request.count_only {
        let count = present.take(budget.keys.saturating_add(1)).count();
        let counted = || Selection::new(revision, count as i64, false, Pairs::default());
        return (count <= budget.keys).then(counted);
    }
    let (mut count, mut bytes) = (0, 0);
    let cap = fetch_cap(request);
    let mut records: Vec<Arc<Record>> = Vec::new();
    for record in present {
        count += 1;
        if records.len() < cap && passes_filters(record, request) {
            bytes += record.pair_bytes(request.keys_only);
            records.push(Arc::clone(record));
        }
        if count > budget.keys || bytes > budget.bytes {
            return None;
        }
        if extent == Extent::Limit && records.len() == cap {
            break;
        }
    }
    sort(&mut records, request);
    let more = request.limit > 0 && records.len() > limit(request);
    if more {
        records.truncate(limit(request));
    }
    Some(Selection::new(revision, count as i64, more, Pairs::new(records, request.keys_only)))
}

fn limit(request: &RangeRequest) -> usize {
    usize::try_from(request.limit).unwrap_or(usize::MAX)
}

/// How many pairs are needed to fill the answer and to know whether there are more.
///
/// With no sort order etcd stops here even if there is a sort target, and then sorts only the first pairs by
/// key (unless a filter makes it look at all of them). Clients that mean the first by target give the order
/// too, and get it; the others get what etcd gives.
fn fetch_cap(request: &RangeRequest) -> usize {
    let stops_early = match (request.sort_order, request.sort_target) {
        (SortOrder::None | SortOrder::Ascend, SortTarget::Key) => true,
        (SortOrder::None, _) => !has_filters(request),
        (SortOrder::Ascend | SortOrder::Descend | SortOrder::Unknown, _) => false,
    };
    if request.limit > 0 && stops_early { limit(request).saturating_add(1) } else { usize::MAX }
}

fn has_filters(request: &RangeRequest) -> bool {
    let RangeRequest { min_mod_revision, max_mod_revision, min_create_revision, max_create_revision, .. } =
        request;
    [min_mod_revision, max_mod_revision, min_create_revision, max_create_revision]
        .iter()
        .any(|&&filter| filter != 0)
}

/// What is sorted and filtered by, of a record that is a put.
struct Put<'a> {
    create_revision: i64,
    version: i64,
    value: &'a [u8],
}

impl<'a> Put<'a> {
    fn of(record: &'a Record) -> Put<'a> {
        let Change::Put { create_revision, version, value, .. } = &record.change else {
            unreachable!("a pair that is present was put");
        };
        Put { create_revision: *create_revision, version: *version, value }
    }
}

fn passes_filters(record: &Record, request: &RangeRequest) -> bool {
    let put = Put::of(record);
    let within = |revision, min, max| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    within(record.revision.main, request.min_mod_revision, request.max_mod_revision)
        && within(put.create_revision, request.min_create_revision, request.max_create_revision)
}

/// Pairs that are equal in the target stay in the order of their keys (etcd promises nothing there).
fn sort(records: &mut [Arc<Record>], request: &RangeRequest) {
    let by_target = |a: &Arc<Record>, b: &Arc<Record>| match request.sort_target {
        SortTarget::Key | SortTarget::Unknown => a.key.cmp(&b.key),
        SortTarget::Version => Put::of(a).version.cmp(&Put::of(b).version),
        SortTarget::Create => Put::of(a).create_revision.cmp(&Put::of(b).create_revision),
        SortTarget::Mod => a.revision.main.cmp(&b.revision.main),
        SortTarget::Value => Put::of(a).value.cmp(Put::of(b).value),
    };
    match (request.sort_order, request.sort_target) {
        // So they come.
        (SortOrder::None | SortOrder::Ascend | SortOrder::Unknown, SortTarget::Key | SortTarget::Unknown) => {
        }
        (SortOrder::Descend, _) => records.sort_by(|a, b| by_target(b, a)),
        (SortOrder::None | SortOrder::Ascend | SortOrder::Unknown, _) => records.sort_by(by_target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, PutRequest, Store};

    #[test]
    fn a_page_is_walked_as_far_as_its_limit_and_a_range_to_its_end() {
        let mut store = Store::new();
        for number in 1..=100 {
            let key = format!("{number:03}").into();
            let put = Command::Put(PutRequest { key, ..PutRequest::default() });
            assert!(store.apply(number, &put).result.is_ok());
        }
        let request =
            RangeRequest { key: "010".into(), range_end: "\0".into(), limit: 10, ..RangeRequest::default() };
        let interval = Interval::parse(&request.key, &request.range_end);
        let snapshot = store.snapshot();
        let walk = |extent| {
            let mut walked = 0;
            let present = snapshot.state().iter_latest(&interval).inspect(|_| walked += 1);
            let selection = answer(present, 101, &request, extent, Budget::UNLIMITED);
            let response = selection.expect("nothing is given up").into_response();
            (walked, response.kvs, response.more)
        };
        let (page, range) = (walk(Extent::Limit), walk(Extent::Whole));
        assert_eq!((page.0, range.0), (11, 91));
        assert_eq!((page.1, page.2), (range.1, range.2));
        assert_eq!(snapshot.page(&request).map(|(kvs, more)| (kvs.len(), more)), Ok((10, true)));
    }

    #[test]
    fn a_read_is_given_up_where_its_budget_ends_and_not_before() {
        let mut store = Store::new();
        for number in 1..=100 {
            let key = format!("{number:03}").into();
            let put = Command::Put(PutRequest { key, value: vec![7; 7].into(), ..PutRequest::default() });
            assert!(store.apply(number, &put).result.is_ok());
        }
        let all = RangeRequest { key: "0".into(), range_end: "2".into(), ..RangeRequest::default() };
        let snapshot = store.snapshot();
        let found = |request: &RangeRequest, keys, bytes| {
            let selected =
                snapshot.select_within(request, Budget { keys, bytes }).expect("the revision is there");
            selected.map(|selection| (selection.pairs.len(), selection.count))
        };
        assert_eq!(found(&all, 100, 1_000), Some((100, 100)));
        assert_eq!(found(&all, 99, 1_000), None);
        assert_eq!(found(&all, 100, 999), None);
        let keys_only = RangeRequest { keys_only: true, ..all.clone() };
        assert_eq!(found(&keys_only, 100, 300), Some((100, 100)));
        let count_only = RangeRequest { count_only: true, ..all.clone() };
        assert_eq!(found(&count_only, 100, 0), Some((0, 100)));
        assert_eq!(found(&count_only, 99, 0), None);
        let limited = RangeRequest { limit: 2, ..all.clone() };
        assert_eq!(found(&limited, 100, 30), Some((2, 100)), "one more than the limit is fetched");
        assert_eq!(found(&limited, 99, 30), None, "all keys are counted");
        let past = RangeRequest { revision: 50, ..all };
        assert_eq!(found(&past, 100, 1_000), None, "nobody knows how many have been there");
        let point = RangeRequest { key: "001".into(), range_end: "".into(), ..past };
        assert_eq!(found(&point, 1, 10), Some((1, 1)));
    }
}

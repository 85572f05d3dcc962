//! Reading a range: at a revision, filtered, sorted, cut.

use std::sync::Arc;

use crate::interval::Interval;
use crate::record::Record;
use crate::state::State;
use crate::{KeyValue, RangeRequest, RangeResponse, Rejection, SortOrder, SortTarget};

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
    if request.revision > revision {
        return Err(Rejection::FutureRevision);
    }
    let interval = Interval::parse(&request.key, &request.range_end);
    if request.revision <= 0 || request.revision == revision {
        return Ok(answer(state.iter_latest(&interval), revision, request, extent));
    }
    if request.revision < state.compact_revision() {
        return Err(Rejection::Compacted);
    }
    Ok(answer(state.iter_at(&interval, request.revision), revision, request, extent))
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
) -> RangeResponse {
    if request.count_only {
        return RangeResponse { revision, count: present.count() as i64, ..RangeResponse::default() };
    }
    let mut count = 0;
    let cap = fetch_cap(request);
    let mut kvs: Vec<KeyValue> = Vec::new();
    for record in present {
        count += 1;
        if kvs.len() < cap {
            kvs.extend(record.key_value().filter(|kv| passes_filters(kv, request)));
        }
        if extent == Extent::Limit && kvs.len() == cap {
            break;
        }
    }
    sort(&mut kvs, request);
    let more = request.limit > 0 && kvs.len() > limit(request);
    if more {
        kvs.truncate(limit(request));
    }
    if request.keys_only {
        for kv in &mut kvs {
            kv.value.clear();
        }
    }
    RangeResponse { revision, kvs, more, count }
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

fn passes_filters(kv: &KeyValue, request: &RangeRequest) -> bool {
    let within = |revision, min, max| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    within(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && within(kv.create_revision, request.min_create_revision, request.max_create_revision)
}

/// Pairs that are equal in the target stay in the order of their keys (etcd promises nothing there).
fn sort(kvs: &mut [KeyValue], request: &RangeRequest) {
    let by_target = |a: &KeyValue, b: &KeyValue| match request.sort_target {
        SortTarget::Key | SortTarget::Unknown => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    };
    match request.sort_order {
        SortOrder::Descend => kvs.sort_by(|a, b| by_target(b, a)),
        SortOrder::None | SortOrder::Ascend | SortOrder::Unknown => kvs.sort_by(by_target),
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
            let response = answer(present, 101, &request, extent);
            (walked, response.kvs, response.more)
        };
        let (page, range) = (walk(Extent::Limit), walk(Extent::Whole));
        assert_eq!((page.0, range.0), (11, 91));
        assert_eq!((page.1, page.2), (range.1, range.2));
        assert_eq!(snapshot.page(&request).map(|(kvs, more)| (kvs.len(), more)), Ok((10, true)));
    }
}

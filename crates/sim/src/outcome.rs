//! What a simulated client is told: the answers of the store, as far as its judge knows them.

use tenure_store::{Event, EventKind, KeyValue, RangeResponse, Rejection, Response, ResponseOp, TxnResponse};

use crate::action::{Action, OperationId, key_of, writer_of};

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
    /// Of what was found if not all of it was as expected, the number and the sum of the revisions say enough.
    SwappedSome {
        revision: i64,
        succeeded: bool,
        count: i64,
        mod_revisions: i64,
    },
    /// `previous` is the pair whose value was kept, `current` what it has become.
    Touched {
        revision: i64,
        previous: Option<Pair>,
        current: Option<Pair>,
    },
    /// There was no value to keep, so nothing was done.
    NothingToKeep {
        revision: i64,
    },
    /// As above, of what was deleted.
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
    /// Whether some of those that were asked for are not shown.
    pub(crate) more: bool,
}

/// One change of one key: at which revision, of which, and to what, if it did not delete it.
pub(crate) type Change = (i64, u8, Option<Pair>);

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
            | Outcome::SwappedSome { revision, .. }
            | Outcome::Touched { revision, .. }
            | Outcome::NothingToKeep { revision }
            | Outcome::Deleted { revision, .. }
            | Outcome::DeletedSome { revision, .. } => revision,
        }
    }
}

/// Reads a pair back; none if it is not one that [`Action::to_command`] wrote.
fn pair_of(kv: &KeyValue) -> Option<(u8, Pair)> {
    let (key, writer) = (key_of(&kv.key)?, writer_of(&kv.value)?);
    let KeyValue { create_revision, mod_revision, version, .. } = *kv;
    Some((key, Pair { writer, create_revision, mod_revision, version }))
}

/// An answer carries a pair that is not ours.
struct Foreign;

/// The pair that an answer carries, if it carries one.
fn one_pair(kv: Option<&KeyValue>) -> Result<Option<Pair>, Foreign> {
    kv.map(|kv| pair_of(kv).map(|(_, pair)| pair).ok_or(Foreign)).transpose()
}

/// How many pairs an answer carries, and the sum of their revisions.
fn sum_of(kvs: &[KeyValue]) -> Option<(i64, i64)> {
    let pairs = kvs.iter().map(pair_of).collect::<Option<Vec<_>>>()?;
    Some((pairs.len() as i64, pairs.iter().map(|(_, pair)| pair.mod_revision).sum()))
}

/// What the answer to a write says, which was given at `revision`; none if it is no answer to it.
pub(crate) fn outcome_of(
    action: Action,
    result: &Result<Response, Rejection>,
    revision: i64,
) -> Option<Outcome> {
    let response = match (action, result) {
        (_, Ok(response)) => response,
        (Action::Touch { .. }, Err(Rejection::KeyNotFound)) => {
            return Some(Outcome::NothingToKeep { revision });
        }
        (_, Err(_)) => return None,
    };
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
        (Action::CompareSome { .. }, Response::Txn(txn)) => {
            let (count, mod_revisions) = match &txn.responses[..] {
                [ResponseOp::Put(_)] if txn.succeeded => (0, 0),
                [ResponseOp::Range(range)] if !txn.succeeded => sum_of(&range.kvs)?,
                _ => return None,
            };
            let TxnResponse { revision, succeeded, .. } = *txn;
            Some(Outcome::SwappedSome { revision, succeeded, count, mod_revisions })
        }
        (Action::Touch { .. }, Response::Txn(txn)) => {
            let [ResponseOp::Put(_), ResponseOp::Txn(inner), ResponseOp::Range(range)] = &txn.responses[..]
            else {
                return None;
            };
            let [ResponseOp::Put(kept)] = &inner.responses[..] else { return None };
            let previous = one_pair(kept.prev_kv.as_ref()).ok()?;
            let current = one_pair(range.kvs.first()).ok()?;
            Some(Outcome::Touched { revision: txn.revision, previous, current })
        }
        (Action::Delete { .. }, Response::DeleteRange(delete)) => {
            let previous = one_pair(delete.prev_kvs.first()).ok()?;
            let count_fits = delete.deleted == i64::from(previous.is_some());
            count_fits.then_some(Outcome::Deleted { revision: delete.revision, previous })
        }
        (Action::DeleteSome { .. }, Response::DeleteRange(delete)) => {
            let ((count, mod_revisions), revision) = (sum_of(&delete.prev_kvs)?, delete.revision);
            (delete.deleted == count).then_some(Outcome::DeletedSome { revision, count, mod_revisions })
        }
        _ => None,
    }
}

/// What the answer to a read shows; none if it shows pairs that nobody wrote.
pub(crate) fn view_of(response: &RangeResponse) -> Option<Seen> {
    let pairs = response.kvs.iter().map(pair_of).collect::<Option<Vec<_>>>()?;
    let RangeResponse { revision, count, more, .. } = *response;
    Some(Seen { revision, pairs, count, more })
}

/// What the history says of a change; none if nobody asked for it.
pub(crate) fn change_of(event: &Event) -> Option<Change> {
    match event.kind {
        EventKind::Put => pair_of(&event.kv).map(|(key, pair)| (pair.mod_revision, key, Some(pair))),
        EventKind::Delete => Some((event.kv.mod_revision, key_of(&event.kv.key)?, None)),
    }
}

#[cfg(test)]
mod tests {
    use tenure_store::{Relation, SortOrder, SortTarget, Store};

    use super::*;
    use crate::expected::{Expected, Side};
    use crate::selection::{Filter, Selection};

    /// What a store answers, read back.
    fn execute(store: &mut Store, action: Action, number: u32) -> Outcome {
        let command = action.to_command(OperationId(number), 20).unwrap();
        let applied = store.apply(store.applied_index() + 1, &command);
        outcome_of(action, &applied.result, applied.revision).unwrap()
    }

    #[test]
    fn what_the_store_answers_is_read_back() {
        let mut store = Store::new();
        let mut run = |action, number| execute(&mut store, action, number);
        let pair = |writer, mod_revision, version| {
            Some(Pair { writer: OperationId(writer), create_revision: 2, mod_revision, version })
        };
        let put = run(Action::Put { key: 3 }, 7);
        assert_eq!(put, Outcome::Put { revision: 2, previous: None });
        let equal = |side| Expected { relation: Relation::Equal, side };
        let swap = |revision| Action::CompareAndSwap { key: 3, expected: equal(Side::ModRevision(revision)) };
        let swapped = run(swap(2), 8);
        assert_eq!(swapped, Outcome::Swapped { revision: 3, succeeded: true, current: None });
        let missed = run(swap(2), 9);
        assert_eq!(missed, Outcome::Swapped { revision: 3, succeeded: false, current: pair(8, 3, 2) });
        let swap_two = |version| Action::CompareTwo {
            keys: [3, 4],
            expected: [equal(Side::ModRevision(3)), equal(Side::Version(version))],
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
            expected: [equal(Side::ModRevision(5)), equal(Side::Writer(OperationId(12)))],
        };
        let swapped = run(swap_two, 14);
        assert_eq!(swapped, Outcome::SwappedTwo { revision: 6, succeeded: true, current: [None, None] });
        let all = store.snapshot().range(&Action::GetAll.to_range().unwrap()).unwrap();
        let Seen { revision, pairs, count, .. } = view_of(&all).unwrap();
        assert_eq!((revision, count, pairs.len(), pairs[0].0, pairs[1].0), (6, 2, 2, 1, 2));
        let selection = Selection {
            limit: 1,
            filter: Filter::MinMod(1),
            target: SortTarget::Key,
            order: SortOrder::Descend,
        };
        let some = store.snapshot().range(&Action::GetSome { selection }.to_range().unwrap()).unwrap();
        let Seen { pairs, count, more, .. } = view_of(&some).unwrap();
        assert_eq!((count, pairs.len(), pairs[0].0, more), (2, 1, 2, true));
    }

    #[test]
    fn what_is_kept_or_compared_with_many_is_read_back() {
        let mut store = Store::new();
        let mut run = |action, number| execute(&mut store, action, number);
        let touch = Action::Touch { key: 1, other: 2 };
        assert_eq!(run(touch, 1), Outcome::NothingToKeep { revision: 1 });
        run(Action::Put { key: 1 }, 2);
        let kept = Pair { writer: OperationId(2), create_revision: 2, mod_revision: 2, version: 1 };
        let touched = Pair { mod_revision: 3, version: 2, ..kept };
        let expected = Outcome::Touched { revision: 3, previous: Some(kept), current: Some(touched) };
        assert_eq!(run(touch, 3), expected);
        let are_written = |relation, writer| Action::CompareSome {
            first: 1,
            last: 2,
            expected: Expected { relation, side: Side::Writer(OperationId(writer)) },
        };
        let differ = Outcome::SwappedSome { revision: 3, succeeded: false, count: 2, mod_revisions: 6 };
        assert_eq!(run(are_written(Relation::Less, 3), 4), differ);
        let fit = Outcome::SwappedSome { revision: 4, succeeded: true, count: 0, mod_revisions: 0 };
        assert_eq!(run(are_written(Relation::Less, 4), 5), fit);
    }
}

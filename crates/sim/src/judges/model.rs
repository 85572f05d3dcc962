//! A second version of the store, as small and as slow to be wrong as possible: for every key the list of
//! all that it ever was.
//!
//! It executes the committed log in order, each entry once, and remembers the revision after each index. So
//! it can say what any member's state must show at any index, without any of the store's code.

use tenure_store::Rejection;

use crate::action::{Action, MAX_KEYS, OperationId};
use crate::outcome::{self, Outcome, Pair, Seen, View};

/// What a key was from a revision on: a pair, or nothing.
#[derive(Clone, Copy, Debug)]
struct Change {
    revision: i64,
    pair: Option<Pair>,
}

/// All states of the store, one after the other.
#[derive(Debug)]
pub(crate) struct Model {
    keys: Vec<Vec<Change>>,
    /// The revision after each index, from 0 on.
    revisions: Vec<i64>,
    /// At which index history was forgotten up to which revision.
    compactions: Vec<(u64, i64)>,
}

impl Model {
    pub(crate) fn new() -> Model {
        Model {
            keys: vec![Vec::new(); usize::from(MAX_KEYS)],
            revisions: vec![1],
            compactions: vec![(0, -1)],
        }
    }

    /// The last index that was executed.
    pub(crate) fn last_index(&self) -> u64 {
        self.revisions.len() as u64 - 1
    }

    fn revision(&self) -> i64 {
        self.revisions.last().copied().unwrap_or(1)
    }

    /// Up to which revision history is forgotten.
    pub(crate) fn compact_revision(&self) -> i64 {
        self.compactions.last().map_or(-1, |&(_, revision)| revision)
    }

    /// Whether a compaction was the first to forget history up to this revision.
    pub(crate) fn was_compacted_at(&self, revision: i64) -> bool {
        self.compactions.iter().any(|&(_, compacted)| compacted == revision)
    }

    /// Executes nothing at the next index.
    pub(crate) fn skip(&mut self) {
        self.revisions.push(self.revision());
    }

    /// Executes a write at the next index.
    pub(crate) fn execute(&mut self, action: Action, id: OperationId) -> Outcome {
        let before = self.revision();
        let outcome = match action {
            Action::Put { key } => {
                let previous = self.latest(key);
                self.put(key, Some(id));
                Outcome::Put { revision: before + 1, previous }
            }
            Action::PutTwo { first, second } => {
                self.put(first, Some(id));
                self.put(second, Some(id));
                Outcome::PutTwo { revision: before + 1 }
            }
            Action::CompareAndSwap { key, expected } => {
                let current = self.latest(key);
                let succeeded = expected.fits(current);
                if succeeded {
                    self.put(key, Some(id));
                    Outcome::Swapped { revision: before + 1, succeeded, current: None }
                } else {
                    Outcome::Swapped { revision: before, succeeded, current }
                }
            }
            Action::CompareTwo { keys, expected } => {
                let current = keys.map(|key| self.latest(key));
                let succeeded = expected[0].fits(current[0]) && expected[1].fits(current[1]);
                if succeeded {
                    for key in keys {
                        self.put(key, Some(id));
                    }
                    Outcome::SwappedTwo { revision: before + 1, succeeded, current: [None, None] }
                } else {
                    Outcome::SwappedTwo { revision: before, succeeded, current }
                }
            }
            Action::CompareSome { first, last, expected } => {
                let there: Vec<Pair> = (first..=last).filter_map(|key| self.latest(key)).collect();
                let succeeded = match there[..] {
                    [] => expected.fits(None),
                    _ => there.iter().all(|&pair| expected.fits(Some(pair))),
                };
                if succeeded {
                    self.put(first, Some(id));
                    Outcome::SwappedSome { revision: before + 1, succeeded, count: 0, mod_revisions: 0 }
                } else {
                    let mod_revisions = there.iter().map(|pair| pair.mod_revision).sum();
                    let count = there.len() as i64;
                    Outcome::SwappedSome { revision: before, succeeded, count, mod_revisions }
                }
            }
            Action::Touch { key, other } => {
                let previous = self.latest(key);
                if previous.is_some() {
                    self.put(other, Some(id));
                    self.put(key, None);
                    Outcome::Touched { revision: before + 1, previous, current: self.latest(key) }
                } else {
                    Outcome::NothingToKeep { revision: before }
                }
            }
            Action::Delete { key } => {
                let previous = self.delete(key);
                Outcome::Deleted { revision: before + i64::from(previous.is_some()), previous }
            }
            Action::DeleteSome { first, last } => {
                let deleted: Vec<Pair> = (first..=last).filter_map(|key| self.delete(key)).collect();
                Outcome::DeletedSome {
                    revision: before + i64::from(!deleted.is_empty()),
                    count: deleted.len() as i64,
                    mod_revisions: deleted.iter().map(|pair| pair.mod_revision).sum(),
                }
            }
            Action::Compact { .. }
            | Action::Get { .. }
            | Action::GetAll
            | Action::GetSome { .. }
            | Action::GetOld { .. }
            | Action::GetStale { .. } => panic!("{action:?} is no write of keys"),
        };
        self.revisions.push(outcome.revision());
        outcome
    }

    /// Nobody writes no new value.
    fn put(&mut self, key: u8, writer: Option<OperationId>) {
        let revision = self.revision() + 1;
        let old = self.latest(key);
        let pair = Pair {
            writer: writer.or(old.map(|old| old.writer)).expect("a value is given, or there is one"),
            create_revision: old.map_or(revision, |old| old.create_revision),
            mod_revision: revision,
            version: old.map_or(1, |old| old.version + 1),
        };
        self.keys[usize::from(key)].push(Change { revision, pair: Some(pair) });
    }

    fn delete(&mut self, key: u8) -> Option<Pair> {
        let previous = self.latest(key)?;
        let revision = self.revision() + 1;
        self.keys[usize::from(key)].push(Change { revision, pair: None });
        Some(previous)
    }

    /// Executes a compaction at the next index.
    pub(crate) fn compact(&mut self, revision: i64) {
        self.skip();
        if revision > self.compact_revision() && revision <= self.revision() {
            self.compactions.push((self.last_index(), revision));
        }
    }

    /// The pair of a key after an index.
    pub(crate) fn pair_at(&self, key: u8, index: u64) -> Option<Pair> {
        self.at(key, self.revisions[index as usize])
    }

    fn latest(&self, key: u8) -> Option<Pair> {
        self.keys[usize::from(key)].last()?.pair
    }

    fn at(&self, key: u8, revision: i64) -> Option<Pair> {
        let changes = &self.keys[usize::from(key)];
        let after = changes.partition_point(|change| change.revision <= revision);
        changes.get(after.checked_sub(1)?)?.pair
    }

    /// What a read must show in the state at `index`.
    pub(crate) fn view(&self, action: Action, index: u64) -> View {
        let revision = self.revisions[index as usize];
        let later = self.compactions.partition_point(|(at, _)| *at <= index);
        let (_, compact_revision) = self.compactions[later - 1];
        match action {
            Action::Get { key } | Action::GetStale { key } => {
                let pairs: Vec<_> = self.at(key, revision).map(|pair| (key, pair)).into_iter().collect();
                Ok(Seen { revision, count: pairs.len() as i64, pairs, more: false })
            }
            Action::GetAll => Ok(self.all_at(revision, revision)),
            Action::GetSome { selection } => {
                let Seen { count, pairs, .. } = self.all_at(revision, revision);
                let (pairs, more) = selection.shows(pairs);
                Ok(Seen { revision, pairs, count, more })
            }
            Action::GetOld { revision: old } if old > revision => Err(Rejection::FutureRevision),
            Action::GetOld { revision: old } if old < compact_revision => Err(Rejection::Compacted),
            Action::GetOld { revision: old } => Ok(self.all_at(revision, old)),
            Action::Put { .. }
            | Action::PutTwo { .. }
            | Action::CompareAndSwap { .. }
            | Action::CompareTwo { .. }
            | Action::CompareSome { .. }
            | Action::Touch { .. }
            | Action::Delete { .. }
            | Action::DeleteSome { .. }
            | Action::Compact { .. } => panic!("{action:?} is no read"),
        }
    }

    /// The state of `revision` shows all keys as they were at `old`.
    fn all_at(&self, revision: i64, old: i64) -> Seen {
        let at = |key| self.at(key, old).map(|pair| (key, pair));
        let pairs: Vec<(u8, Pair)> = (0..MAX_KEYS).filter_map(at).collect();
        Seen { revision, count: pairs.len() as i64, pairs, more: false }
    }

    /// Every change behind a revision up to an index, by revision and key.
    pub(crate) fn changes_behind(&self, since: i64, index: u64) -> Vec<outcome::Change> {
        let revision = self.revisions[index as usize];
        let of_key = |key: u8| {
            let changes = self.keys[usize::from(key)].iter();
            let later = changes.filter(|change| change.revision > since && change.revision <= revision);
            later.map(move |change| (change.revision, key, change.pair)).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = (0..MAX_KEYS).flat_map(of_key).collect();
        all.sort_by_key(|&(revision, key, _)| (revision, key));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_stays_visible_at_its_index() {
        let mut model = Model::new();
        model.execute(Action::Put { key: 1 }, OperationId(1));
        model.execute(Action::Delete { key: 1 }, OperationId(2));
        model.execute(Action::Delete { key: 1 }, OperationId(3));
        model.compact(3);
        let found = |action, index| model.view(action, index).map(|seen| (seen.revision, seen.pairs.len()));
        assert_eq!(found(Action::Get { key: 1 }, 1), Ok((2, 1)));
        assert_eq!(found(Action::Get { key: 1 }, 2), Ok((3, 0)));
        assert_eq!(found(Action::GetOld { revision: 2 }, 3), Ok((3, 1)));
        assert_eq!(found(Action::GetOld { revision: 2 }, 4), Err(Rejection::Compacted));
        assert_eq!(found(Action::GetOld { revision: 3 }, 4), Ok((3, 0)));
    }
}

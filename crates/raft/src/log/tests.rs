//! The log against a second version: a plain list of entries, searched from end to end.

use bytes::Bytes;
use proptest::prelude::*;

use super::{RaftLog, Splice};
use crate::{Configuration, Entry, EntryId, Index, LogSlice, NodeId, Payload, Snapshot, Term};

/// A log as a list. The first entry has index 1, and nothing is ever forgotten.
#[derive(Clone, Debug)]
struct ListLog {
    entries: Vec<Entry>,
    first_configuration: Configuration,
}

impl ListLog {
    fn id_at(&self, index: u64) -> EntryId {
        match index.checked_sub(1) {
            Some(position) => self.entries[position as usize].id,
            None => EntryId::ZERO,
        }
    }

    fn last_index(&self) -> u64 {
        self.entries.len() as u64
    }

    fn contains(&self, id: EntryId) -> bool {
        id.index.0 <= self.last_index() && self.id_at(id.index.0) == id
    }

    /// The newest configuration at or before `index`.
    fn configuration_at(&self, index: u64) -> &Configuration {
        let upto = self.entries[..index as usize].iter().rev();
        let mut configurations = upto.filter_map(|entry| match &entry.payload {
            Payload::Configuration(configuration) => Some(configuration),
            Payload::Empty | Payload::Command(_) => None,
        });
        configurations.next().unwrap_or(&self.first_configuration)
    }

    /// The last entry, from `start` on, that is not after `id` in index or in term.
    fn last_not_after(&self, start: u64, id: EntryId) -> Option<EntryId> {
        let mut candidates = (start..=self.last_index()).rev().map(|index| self.id_at(index));
        candidates.find(|candidate| candidate.index <= id.index && candidate.term <= id.term)
    }

    /// Paper figure 2, AppendEntries 2 to 4, word by word.
    fn splice(&mut self, slice: &LogSlice) -> bool {
        if !self.contains(slice.prev()) {
            return false;
        }
        for entry in slice.entries() {
            if entry.id.index.0 <= self.last_index() && self.id_at(entry.id.index.0) != entry.id {
                self.entries.truncate(entry.id.index.0 as usize - 1);
            }
            if entry.id.index.0 > self.last_index() {
                self.entries.push(entry.clone());
            }
        }
        true
    }
}

/// Both versions, with the pointers as a node would move them.
struct Pair {
    log: RaftLog,
    list: ListLog,
}

impl Pair {
    fn new() -> Pair {
        let configuration = Configuration::of_voters([server(1), server(2)]);
        let snapshot = Snapshot { configuration: configuration.clone(), ..Snapshot::default() };
        let log = RaftLog::restore(snapshot, EntryId::ZERO, &[], Vec::new());
        Pair { log, list: ListLog { entries: Vec::new(), first_configuration: configuration } }
    }

    /// Everything that can be asked, of both.
    fn compare(&self) {
        let (log, list) = (&self.log, &self.list);
        assert_eq!(log.last(), list.id_at(list.last_index()));
        assert_eq!(log.start(), list.id_at(log.start().index.0), "what is compacted was there");
        for index in 0..list.last_index() + 2 {
            let known = index >= log.start().index.0 && index <= list.last_index();
            let expected = known.then(|| list.id_at(index).term);
            assert_eq!(log.term_at(Index(index)), expected, "the term at {index}");
        }
        for index in log.snapshot().last_included.index.0..=list.last_index() {
            assert_eq!(log.configuration_at(Index(index)), list.configuration_at(index), "at {index}");
        }
        assert_eq!(log.configuration(), list.configuration_at(list.last_index()));
        for index in 0..list.last_index() + 2 {
            for term in 0..8 {
                let id = EntryId::new(Index(index), Term(term));
                let expected = list.last_not_after(log.start().index.0, id);
                assert_eq!(log.last_not_after(id), expected, "not after {id}");
            }
        }
        self.compare_recent();
    }

    /// What is kept in memory is the end of the log, and its size is counted.
    fn compare_recent(&self) {
        let (log, list) = (&self.log, &self.list);
        let kept: Vec<Entry> = log.recent.iter().cloned().collect();
        assert!(list.entries.ends_with(&kept), "the newest entries");
        assert_eq!(log.recent_bytes(), kept.iter().map(Entry::size_bytes).sum::<usize>());
        let first_kept = list.last_index() - kept.len() as u64 + 1;
        for first in log.first_index().0..=list.last_index() + 1 {
            let expected = (first >= first_kept).then(|| list.entries[first as usize - 1..].to_vec());
            assert_eq!(log.recent_slice(Index(first), usize::MAX), expected, "from {first}");
        }
        let droppable = log.last_applied.min(log.persisted_index);
        assert!(first_kept <= droppable.next().0, "what is not applied and durable stays in memory");
    }
}

fn server(id: u64) -> NodeId {
    NodeId::new(id).expect("not zero")
}

#[derive(Clone, Debug)]
enum Action {
    /// A leader's slice that hangs on one of our entries, `back` from the end, of these terms upwards.
    Splice {
        back: u64,
        steps: Vec<u64>,
        wrong_prev_term: bool,
    },
    /// The same slice as part of our own log: an old or doubled message.
    Repeat {
        first: u64,
        count: u64,
    },
    HandToDisk,
    Persist,
    Commit {
        ahead: u64,
    },
    Apply {
        max_bytes: usize,
    },
    Snapshot {
        back: u64,
    },
    Compact {
        back: u64,
    },
    Shrink {
        max_bytes: usize,
    },
    Restart {
        unread: u64,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let steps = || proptest::collection::vec(0_u64..2, 0..5);
    prop_oneof![
        8 => (0_u64..4, steps(), proptest::bool::weighted(0.1))
            .prop_map(|(back, steps, wrong_prev_term)| Action::Splice { back, steps, wrong_prev_term }),
        2 => (0_u64..8, 0_u64..4).prop_map(|(first, count)| Action::Repeat { first, count }),
        2 => Just(Action::HandToDisk),
        4 => Just(Action::Persist),
        4 => (0_u64..3).prop_map(|ahead| Action::Commit { ahead }),
        3 => (0_usize..200).prop_map(|max_bytes| Action::Apply { max_bytes }),
        2 => (0_u64..3).prop_map(|back| Action::Snapshot { back }),
        2 => (0_u64..3).prop_map(|back| Action::Compact { back }),
        2 => (0_usize..300).prop_map(|max_bytes| Action::Shrink { max_bytes }),
        1 => (0_u64..8).prop_map(|unread| Action::Restart { unread }),
    ]
}

fn payload(code: u8) -> Payload {
    match code % 4 {
        0 => Payload::Empty,
        1 => Payload::Configuration(Configuration::of_voters((1..=u64::from(code / 4 % 4) + 1).map(server))),
        _ => Payload::Command(Bytes::from(vec![code; usize::from(code % 16)])),
    }
}

impl Pair {
    fn splice(&mut self, back: u64, steps: &[u64], wrong_prev_term: bool) {
        // Below the commit index every leader agrees with us: the node sees to that.
        let prev_index = self.list.last_index().saturating_sub(back).max(self.log.commit_index.0);
        let mut prev = self.list.id_at(prev_index);
        if wrong_prev_term {
            prev.term = prev.term.next();
        }
        let mut before = prev;
        let mut entries = Vec::new();
        for &step in steps {
            before = EntryId::new(before.index.next(), Term((before.term.0 + step).min(6)));
            if before.term < prev.term {
                return;
            }
            // One id names one entry (Log Matching): the payload follows from it.
            let code = (before.index.0 * 31 + before.term.0 * 7) as u8;
            entries.push(Entry { id: before, payload: payload(code) });
        }
        let slice = LogSlice::parse(prev, entries).expect("contiguous");
        let last_before = self.log.last_index();
        let fits = self.list.splice(&slice);
        match self.log.splice(slice) {
            Splice::Missing => assert!(!fits, "it hangs on {prev}"),
            Splice::Done { truncated, .. } => {
                assert!(fits, "nothing to hang on at {prev}");
                if let Some(first) = truncated {
                    assert!(first <= last_before && first > self.log.commit_index);
                    assert!(self.log.persisted_index < first, "what is gone is not durable");
                }
            }
        }
    }

    fn repeat(&mut self, first: u64, count: u64) {
        let (start, last) = (self.log.start().index.0, self.list.last_index());
        let prev = (start + first).min(last);
        let end = (prev + count).min(last);
        let entries = self.list.entries[prev as usize..end as usize].to_vec();
        let slice = LogSlice::parse(self.list.id_at(prev), entries).expect("of one log");
        assert_eq!(
            self.log.splice(slice),
            Splice::Done { truncated: None, reconfigured: false },
            "an old message takes nothing away"
        );
    }

    fn apply(&mut self, max_bytes: usize) {
        let entries = self.log.hand_to_apply(max_bytes);
        let first = self.log.last_applied.0 as usize;
        assert_eq!(entries, self.list.entries[first..first + entries.len()], "in order, each once");
        let bytes: usize = entries.iter().map(Entry::size_bytes).sum();
        assert!(entries.len() <= 1 || bytes <= max_bytes);
        let end = self.log.commit_index.min(self.log.persisted_index);
        assert!(entries.is_empty() == (self.log.last_applied >= end), "one at least, if there is any");
        self.log.last_applied = self.log.applying_index;
    }

    /// What a restart finds: everything durable, and the snapshot. So many of the entries that it holds are not read.
    fn restart(&mut self, unread: u64) {
        let keep = self.log.persisted_index.max(self.log.commit_index).0 as usize;
        self.list.entries.truncate(keep);
        let start = self.log.start();
        let mut entries = self.list.entries[start.index.0 as usize..].to_vec();
        let covered = self.log.snapshot().last_included.index.0 - start.index.0;
        let mut unread: Vec<EntryId> =
            entries.drain(..unread.min(covered) as usize).map(|entry| entry.id).collect();
        unread.dedup_by_key(|id| id.term);
        self.log = RaftLog::restore(self.log.snapshot().clone(), start, &unread, entries);
    }

    fn act(&mut self, action: Action) {
        let log = &mut self.log;
        match action {
            Action::Splice { back, steps, wrong_prev_term } => self.splice(back, &steps, wrong_prev_term),
            Action::Repeat { first, count } => self.repeat(first, count),
            Action::HandToDisk => {
                let handed = log.hand_to_disk();
                assert!(handed.last().is_none_or(|entry| entry.id.index == log.last_index));
                assert!(!log.has_unwritten());
            }
            Action::Persist => {
                log.hand_to_disk();
                log.persisted_index = log.last_index;
            }
            Action::Commit { ahead } => {
                let index = Index((log.commit_index.0 + ahead).min(log.last_index.0));
                log.commit_to(index);
            }
            Action::Apply { max_bytes } => self.apply(max_bytes),
            Action::Snapshot { back } => {
                let index = Index(log.last_applied.0.saturating_sub(back));
                if index > log.snapshot().last_included.index {
                    log.record_snapshot(index);
                }
            }
            Action::Compact { back } => {
                log.compact(Index(log.snapshot().last_included.index.0.saturating_sub(back)));
            }
            Action::Shrink { max_bytes } => log.shrink(max_bytes),
            Action::Restart { unread } => self.restart(unread),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Splices, truncations, compactions and restarts in any order leave both versions alike.
    #[test]
    fn the_log_is_a_list(actions in proptest::collection::vec(action(), 1..40)) {
        let mut pair = Pair::new();
        for action in actions {
            pair.act(action);
            pair.compare();
        }
    }
}

/// Every log of up to five entries with terms up to three, every entry id asked of it, compacted at every
/// place.
#[test]
fn last_not_after_is_right_for_every_small_log() {
    for code in 0..4_u64.pow(5) {
        let terms: Vec<u64> = (0..5).map(|digit| code / 4_u64.pow(digit) % 4).collect();
        let terms: Vec<u64> = terms.into_iter().take_while(|&term| term > 0).collect();
        if terms.windows(2).any(|pair| pair[0] > pair[1]) {
            continue;
        }
        for compacted in 0..=terms.len() {
            let mut pair = Pair::new();
            for (position, &term) in terms.iter().enumerate() {
                let id = EntryId::new(Index(position as u64 + 1), Term(term));
                let entry = Entry { id, payload: Payload::Empty };
                pair.log.append(entry.clone());
                pair.list.entries.push(entry);
            }
            pair.act(Action::Persist);
            let applied = Index(compacted as u64);
            pair.log.commit_to(applied);
            pair.apply(usize::MAX);
            pair.log.record_snapshot(applied);
            pair.log.compact(applied);
            pair.compare();
        }
    }
}

/// A snapshot in the place of the whole log.
#[test]
fn a_snapshot_takes_the_place_of_everything() {
    let mut pair = Pair::new();
    pair.splice(0, &[1, 0, 1], false);
    let configuration = Configuration::of_voters([server(7)]);
    let last_included = EntryId::new(Index(9), Term(4));
    pair.log.reset_to(Snapshot { last_included, configuration: configuration.clone() });
    assert_eq!((pair.log.start(), pair.log.last()), (last_included, last_included));
    assert_eq!(*pair.log.configuration(), configuration);
    assert_eq!((pair.log.recent_bytes(), pair.log.first_index()), (0, Index(10)));
    assert!(!pair.log.has_unwritten());
}

/// Only what conflicts is cut off; to cut off what is committed is a bug, and stops the server.
#[test]
#[should_panic(expected = "a committed entry is never deleted")]
fn to_cut_off_what_is_committed_is_a_bug() {
    let mut pair = Pair::new();
    pair.splice(0, &[1, 0], false);
    pair.log.commit_to(Index(2));
    let entry = Entry { id: EntryId::new(Index(2), Term(2)), payload: Payload::Empty };
    let prev = pair.list.id_at(1);
    pair.log.splice(LogSlice::parse(prev, vec![entry]).expect("contiguous"));
}

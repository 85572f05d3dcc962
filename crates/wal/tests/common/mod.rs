//! A second version of the log, so dumb that it can be believed: all states it has been in since the last
//! sync, each of them a plain list. After a crash the real log must be in one of them.
#![allow(dead_code, reason = "each test uses another part of this")]

use std::num::NonZeroU64;

use bytes::Bytes;
use tenure_wal::{Disk, HardState, MemoryDisk, Options, Position, Record, Recovered, Wal, WalError};

/// The smallest segments that there are: a header and 4096 bytes of records.
pub(crate) const SMALL: Options = Options { segment_bytes: 8192, max_spares: 1, salt: 0x5eed };

/// What a log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) hard_state: Option<HardState>,
    pub(crate) start: Position,
    pub(crate) entries: Vec<Record>,
}

impl Contents {
    pub(crate) fn last(&self) -> Position {
        self.entries.last().map_or(self.start, |entry| Position { index: entry.index, term: entry.term })
    }

    pub(crate) fn term(&self) -> u64 {
        self.hard_state.map_or(0, |state| state.current_term)
    }

    pub(crate) fn position(&self, index: u64) -> Position {
        match index - self.start.index {
            0 => self.start,
            place => Position { index, term: self.entries[place as usize - 1].term },
        }
    }
}

impl From<Recovered> for Contents {
    fn from(recovered: Recovered) -> Self {
        Self { hard_state: recovered.hard_state, start: recovered.start, entries: recovered.entries }
    }
}

/// The states that the log may be found in.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// From the last one known to be synced to the newest.
    pub(crate) states: Vec<Contents>,
}

impl Default for Model {
    fn default() -> Self {
        Self { states: vec![Contents::default()] }
    }
}

impl Model {
    pub(crate) fn now(&self) -> &Contents {
        self.states.last().expect("there is always a state")
    }

    pub(crate) fn append(&mut self, hard_state: Option<HardState>, entries: &[Record]) {
        let mut state = self.now().clone();
        state.hard_state = hard_state.or(state.hard_state);
        if let Some(first) = entries.first() {
            state.entries.retain(|entry| entry.index < first.index);
        }
        state.entries.extend_from_slice(entries);
        self.states.push(state);
    }

    pub(crate) fn compact(&mut self, through: Position) {
        let mut state = self.now().clone();
        if through.index > state.start.index {
            state.start = through;
            state.entries.retain(|entry| entry.index > through.index);
            self.states.push(state);
        }
    }

    pub(crate) fn reset(&mut self, start: Position) {
        let hard_state = self.now().hard_state;
        self.states.push(Contents { hard_state, start, entries: Vec::new() });
    }

    pub(crate) fn sync(&mut self) {
        self.states.drain(..self.states.len() - 1);
    }

    /// The log was opened and was in this state.
    pub(crate) fn recovered(&mut self, recovered: Recovered) {
        let state = Contents::from(recovered);
        assert!(
            self.states.contains(&state),
            "the log was found in a state that it was never in, or is no longer allowed to be in:\n{state:?}\nallowed: {:#?}",
            self.states
        );
        self.states = vec![state];
    }
}

pub(crate) fn hard_state(current_term: u64, voted_for: u64) -> HardState {
    HardState { current_term, voted_for: NonZeroU64::new(voted_for) }
}

pub(crate) fn record(index: u64, term: u64, data: impl Into<Bytes>) -> Record {
    Record { index, term, kind: (index % 3) as u8, data: data.into() }
}

/// `count` entries of `term` from `first_index` on, of about `data_bytes` each, no two alike.
pub(crate) fn records(first_index: u64, count: u64, term: u64, data_bytes: usize) -> Vec<Record> {
    (first_index..first_index + count)
        .map(|index| {
            let mut data = format!("{index}@{term} ").into_bytes();
            data.extend((data.len()..data_bytes).map(|place| (place as u64 * 31 + index * 7 + term) as u8));
            record(index, term, data)
        })
        .collect()
}

/// One thing that can be done with a log.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Appends, after taking back some entries (but none that were compacted).
    Append {
        back: u64,
        count: u64,
        data_bytes: usize,
        next_term: bool,
        vote: bool,
    },
    HardState,
    Sync,
    /// Compacts through the entry in the middle, at so many 16ths of the log.
    Compact {
        sixteenths: u64,
    },
    /// A snapshot stands for everything up to here, counted from the start.
    Reset {
        ahead: u64,
    },
    Prepare {
        max_bytes: u64,
    },
}

/// The log and its dumb twin.
pub(crate) struct Pair<D: Disk> {
    pub(crate) wal: Wal<D>,
    pub(crate) model: Model,
}

impl<D: Disk> Pair<D> {
    pub(crate) fn open(disk: D, options: Options, mut model: Model) -> Result<Self, (Model, WalError)> {
        match Wal::open(disk, options) {
            Ok((wal, recovered)) => {
                model.recovered(recovered);
                let pair = Self { wal, model };
                pair.check();
                Ok(pair)
            }
            Err(error) => Err((model, error)),
        }
    }

    /// Does it to both. The model is changed first: a change that failed may still be found later.
    pub(crate) fn apply(&mut self, op: &Op) -> Result<(), WalError> {
        let state = self.model.now().clone();
        match *op {
            Op::Append { back, count, data_bytes, next_term, vote } => {
                // A member that overwrites has heard of a later term.
                let next_term = next_term || state.term() == 0 || (back > 0 && !state.entries.is_empty());
                let term = state.term() + u64::from(next_term);
                let first_index = state.last().index + 1 - back.min(state.entries.len() as u64);
                let new = next_term.then(|| hard_state(term, if vote { 1 + term % 3 } else { 0 }));
                let entries = records(first_index, count, term, data_bytes);
                self.model.append(new, &entries);
                self.wal.append(new, &entries)?;
            }
            Op::HardState => {
                let new = Some(hard_state(state.term() + 1, 2));
                self.model.append(new, &[]);
                self.wal.append(new, &[])?;
            }
            Op::Sync => {
                self.wal.sync()?;
                self.model.sync();
            }
            Op::Compact { sixteenths } => {
                let through =
                    state.position(state.start.index + state.entries.len() as u64 * sixteenths / 16);
                self.model.compact(through);
                self.wal.compact(through)?;
            }
            Op::Reset { ahead } => {
                let start = Position { index: state.start.index + ahead, term: state.term() };
                self.model.reset(start);
                self.wal.reset(start)?;
                self.model.sync();
            }
            Op::Prepare { max_bytes } => {
                self.wal.prepare(max_bytes)?;
            }
        }
        self.check();
        Ok(())
    }

    /// Both say the same.
    pub(crate) fn check(&self) {
        let state = self.model.now();
        assert_eq!(self.wal.hard_state(), state.hard_state);
        assert_eq!(self.wal.start(), state.start);
        assert_eq!(self.wal.last(), state.last());
        assert!(self.wal.synced_bytes() <= self.wal.appended_bytes());
        let first_index = self.wal.first_index();
        assert_eq!(self.wal.term_at(state.last().index + 1), None);
        for entry in &state.entries {
            assert_eq!(self.wal.term_at(entry.index), Some(entry.term));
        }
        if state.entries.is_empty() {
            let error = self.wal.read(first_index, first_index, 1).expect_err("there is nothing to read");
            assert!(matches!(error, WalError::NotInLog { .. }));
        } else {
            let entries =
                self.wal.read(first_index, state.last().index, usize::MAX).expect("entries can be read");
            assert_eq!(entries, state.entries);
        }
    }
}

/// Opens a copy of the disk on which the power has failed, and returns what is there.
pub(crate) fn after_power_loss(disk: &MemoryDisk, options: Options, seed: u64) -> Result<Contents, WalError> {
    let disk = disk.fork();
    disk.crash(tenure_wal::Crash::Power, seed);
    Wal::open(disk, options).map(|(_, recovered)| recovered.into())
}

//! What clients asked and were told, and when.
//!
//! The keys come in groups of three that are used together, so that a transaction over several keys stays within
//! a group, which is judged by itself. A group is in use for some seconds, then new ones take its place: every
//! group has a whole history that is short enough to be judged.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

/// How many keys a group has.
pub(crate) const KEYS: u8 = 3;

/// Some keys of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    One(u8),
    All,
}

impl Scope {
    pub(crate) fn keys(self) -> std::ops::Range<u8> {
        match self {
            Scope::One(key) => key..key + 1,
            Scope::All => 0..KEYS,
        }
    }

    fn contains(self, key: u8) -> bool {
        self.keys().contains(&key)
    }
}

/// What must hold for a transaction to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Guard {
    /// The key was last changed at this revision; 0 if it is not there.
    ModRevision(i64),
    /// The key's value is what this operation wrote.
    Writer(u64),
}

/// What a client asks of a group. What an operation writes names that operation, so no two write the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    Get(Scope),
    Put(u8),
    Delete(Scope),
    /// If `guard` holds of `key`, puts that and `also`; else reads the group.
    Swap {
        key: u8,
        guard: Guard,
        also: u8,
    },
}

impl Ask {
    pub(crate) fn is_write(self) -> bool {
        match self {
            Ask::Get(_) => false,
            Ask::Put(_) | Ask::Delete(_) | Ask::Swap { .. } => true,
        }
    }

    /// Whether the operation, if it is done, leaves its name in this key.
    pub(crate) fn puts(self, at: u8) -> bool {
        match self {
            Ask::Get(_) | Ask::Delete(_) => false,
            Ask::Put(key) => key == at,
            Ask::Swap { key, also, .. } => key == at || also == at,
        }
    }

    /// Whether the operation, if it is done, changes this key.
    pub(crate) fn changes(self, at: u8) -> bool {
        match self {
            Ask::Delete(scope) => scope.contains(at),
            Ask::Get(_) | Ask::Put(_) | Ask::Swap { .. } => self.puts(at),
        }
    }
}

/// A key-value pair, as it was shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pair {
    /// The operation that the value names.
    pub(crate) writer: u64,
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pair { writer, create_revision, mod_revision, version } = self;
        write!(f, "op {writer} @{mod_revision} (created @{create_revision}, version {version})")
    }
}

/// What an answer says that was in a key: before the change, of what writes, and else at its revision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    pub(crate) key: u8,
    pub(crate) pair: Option<Pair>,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    /// The store's, after the operation.
    pub(crate) revision: i64,
    /// Whether anything was written.
    pub(crate) wrote: bool,
    pub(crate) seen: Vec<Seen>,
}

/// What came of an operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// Nobody knows, or nobody knows yet.
    Unknown,
    /// It was not done and never will be: so said the server.
    Refused,
    Answered {
        answer: Answer,
        at_us: u64,
    },
}

/// Who asks, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Asker {
    pub(crate) client: u64,
    /// The position of the member.
    pub(crate) member: usize,
    /// The number of the connection, which leads to one process.
    pub(crate) connection: u64,
}

/// An operation. Its id is its place in the history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Operation {
    pub(crate) id: u64,
    pub(crate) asker: Asker,
    pub(crate) group: u32,
    pub(crate) ask: Ask,
    /// Not for serializable reads, which may show the past.
    pub(crate) is_linearizable: bool,
    pub(crate) called_us: u64,
    /// The highest revision that any client had been told when this began.
    pub(crate) floor: i64,
    pub(crate) outcome: Outcome,
}

impl Operation {
    pub(crate) fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Unknown | Outcome::Refused => None,
            Outcome::Answered { answer, .. } => Some(answer),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation { id, asker, group, ask, called_us, floor, .. } = self;
        let Asker { client, member, connection } = asker;
        let how = if self.is_linearizable { "" } else { " serializable" };
        write!(f, "op {id} client {client} n{} conn {connection} group {group}{how} ", member + 1)?;
        write!(f, "{ask:?} called {called_us} us, floor @{floor}: ")?;
        match &self.outcome {
            Outcome::Unknown => write!(f, "unknown"),
            Outcome::Refused => write!(f, "refused"),
            Outcome::Answered { answer: Answer { revision, wrote, seen }, at_us } => {
                write!(f, "answered {at_us} us @{revision} wrote {wrote}")?;
                for Seen { key, pair } in seen {
                    let pair = pair.map_or("absent".to_owned(), |pair| pair.to_string());
                    write!(f, ", key {key}: {pair}")?;
                }
                Ok(())
            }
        }
    }
}

/// The books of all clients.
pub(crate) struct Recorder {
    started: Instant,
    operations: Mutex<Vec<Operation>>,
    /// The highest revision in an answer.
    floor: AtomicI64,
    /// When a write was last answered.
    last_write_us: AtomicU64,
    /// When the write began that was answered and began last.
    last_answered_call_us: AtomicU64,
    /// The longest time between two answered writes, since it was last asked for.
    longest_gap_us: AtomicU64,
}

impl Recorder {
    pub(crate) fn start() -> Recorder {
        Recorder {
            started: Instant::now(),
            operations: Mutex::default(),
            floor: AtomicI64::new(0),
            last_write_us: AtomicU64::new(0),
            last_answered_call_us: AtomicU64::new(0),
            longest_gap_us: AtomicU64::new(0),
        }
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    /// A client is about to ask; what the operation is called.
    pub(crate) fn invoke(&self, asker: Asker, group: u32, ask: Ask, is_linearizable: bool) -> u64 {
        let mut operations = self.operations.lock().expect("no client panics with the books open");
        let id = operations.len() as u64;
        let (called_us, floor) = (self.now_us(), self.floor());
        let outcome = Outcome::Unknown;
        operations.push(Operation { id, asker, group, ask, is_linearizable, called_us, floor, outcome });
        id
    }

    /// A client was told.
    pub(crate) fn complete(&self, id: u64, answer: Answer) {
        let mut operations = self.operations.lock().expect("no client panics with the books open");
        let at_us = self.now_us();
        let operation = &mut operations[id as usize];
        if operation.is_linearizable {
            self.floor.fetch_max(answer.revision, Ordering::SeqCst);
        }
        if operation.ask.is_write() {
            let before_us = self.last_write_us.swap(at_us, Ordering::SeqCst);
            self.longest_gap_us.fetch_max(at_us.saturating_sub(before_us), Ordering::SeqCst);
            self.last_answered_call_us.fetch_max(operation.called_us, Ordering::SeqCst);
        }
        operation.outcome = Outcome::Answered { answer, at_us };
    }

    /// A client was told that it certainly was not done.
    pub(crate) fn refuse(&self, id: u64) {
        let mut operations = self.operations.lock().expect("no client panics with the books open");
        operations[id as usize].outcome = Outcome::Refused;
    }

    /// The highest revision that any client was told.
    pub(crate) fn floor(&self) -> i64 {
        self.floor.load(Ordering::SeqCst)
    }

    /// Begins to measure gaps between answered writes anew.
    pub(crate) fn begin_gaps(&self) {
        self.last_write_us.store(self.now_us(), Ordering::SeqCst);
        self.longest_gap_us.store(0, Ordering::SeqCst);
    }

    /// The longest time without an answered write since [`begin_gaps`](Recorder::begin_gaps), until now.
    pub(crate) fn longest_gap_us(&self) -> u64 {
        let current_us = self.now_us().saturating_sub(self.last_write_us.load(Ordering::SeqCst));
        self.longest_gap_us.load(Ordering::SeqCst).max(current_us)
    }

    /// Whether a write was answered that began at or after this time.
    pub(crate) fn has_written_since(&self, at_us: u64) -> bool {
        self.last_answered_call_us.load(Ordering::SeqCst) >= at_us
    }

    /// What is in the books now, of the groups that are wanted.
    pub(crate) fn operations(&self, is_wanted: impl Fn(u32) -> bool) -> Vec<Operation> {
        let operations = self.operations.lock().expect("no client panics with the books open");
        operations.iter().filter(|operation| is_wanted(operation.group)).cloned().collect()
    }
}

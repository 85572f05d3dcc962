//! Executing committed entries: here, where that takes no time to speak of, or on a copy of the state by a worker.
//!
//! Most entries touch a key or two. But one command may delete a million keys, and whoever does that answers no
//! heartbeat meanwhile. So a command that touches many goes to a worker with all that follows it in its batch, and
//! with a fork of the state, which costs nothing; reads go on from the state as it was. Which entries take which way
//! changes nothing of what comes out. (docs/adr/0015-apply-beside-the-core.md)

use tenure_raft::{Entry, EntryId, Payload};
use tenure_store::{Applied, Command, Garbage, Snapshot, Store};

use crate::command::{self, Origin};

/// An entry, parsed, with what the state machine cannot know by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Executable {
    pub(crate) id: EntryId,
    pub(crate) size_bytes: usize,
    body: Body,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Body {
    Nothing,
    /// A configuration without these members.
    Configuration {
        removed: Vec<u64>,
    },
    /// A client's write, and whether a client of this member waits for it.
    Command {
        origin: Origin,
        command: Command,
        is_awaited: bool,
    },
}

/// What came of an entry.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) id: EntryId,
    pub(crate) size_bytes: usize,
    /// Whose attempt it was.
    pub(crate) origin: Option<Origin>,
    /// The answer, where a client of this member waits.
    pub(crate) applied: Option<Applied>,
    /// What is known of the members may have changed.
    pub(crate) changes_roster: bool,
    /// The state before a compaction, and the revision up to which it went.
    pub(crate) compacted: Option<(Snapshot, i64)>,
}

impl Executable {
    /// Parses an entry. `removed_by` says who is no member any more with its configuration, `is_awaited` whether a
    /// client of this member waits for an attempt.
    pub(crate) fn parse(
        entry: &Entry,
        removed: impl FnOnce() -> Vec<u64>,
        is_awaited: impl FnOnce(Origin) -> bool,
    ) -> Executable {
        let body = match &entry.payload {
            Payload::Empty => Body::Nothing,
            Payload::Configuration(_) => Body::Configuration { removed: removed() },
            Payload::Command(bytes) => {
                // The leader could decode it, or it would not be in the log. So this version is older than the
                // leader's, and to go on would make this member's state differ from the others'.
                let (origin, command) = command::decode(bytes).expect(
                    "a committed command is known to every member: a newer version wrote this one, and this member \
                     needs that version too",
                );
                Body::Command { origin, command, is_awaited: is_awaited(origin) }
            }
        };
        Executable { id: entry.id, size_bytes: entry.size_bytes(), body }
    }

    /// Whether it touches more than `keys` keys.
    pub(crate) fn is_heavy(&self, store: &Store, keys: usize) -> bool {
        match &self.body {
            Body::Nothing | Body::Configuration { .. } => false,
            Body::Command { command, .. } => store.is_heavy(command, keys),
        }
    }

    /// Executes it: a function of the state and the entry alone (SOURCES M1).
    pub(crate) fn execute(&self, store: &mut Store) -> Outcome {
        let index = self.id.index.0;
        let outcome = Outcome {
            id: self.id,
            size_bytes: self.size_bytes,
            origin: None,
            applied: None,
            changes_roster: false,
            compacted: None,
        };
        match &self.body {
            Body::Nothing => {
                store.apply_nothing(index);
                outcome
            }
            Body::Configuration { removed } => {
                store.apply_removal(index, removed);
                Outcome { changes_roster: true, ..outcome }
            }
            Body::Command { origin, command, is_awaited } => {
                let compaction = match command {
                    Command::Compact { revision, .. } => Some((store.snapshot(), *revision)),
                    _ => None,
                };
                let (applied, is_done) = if *is_awaited {
                    let applied = store.apply_lazily(index, command);
                    let is_done = applied.result.is_ok();
                    (Some(applied), is_done)
                } else {
                    // The member that was asked makes the answer, which may be many times as large as the state.
                    (None, store.apply_unheard(index, command).result.is_ok())
                };
                let compacted = compaction.filter(|_| is_done);
                let changes_roster =
                    matches!(command, Command::PublishMember(_) | Command::SetPeerUrls { .. });
                Outcome { origin: Some(*origin), applied, changes_roster, compacted, ..outcome }
            }
        }
    }
}

/// Entries to be executed by a worker.
#[derive(Debug)]
pub struct ApplyJob {
    pub(crate) store: Box<Store>,
    pub(crate) entries: Vec<Executable>,
}

/// What came of them.
#[derive(Debug)]
pub struct ApplyDone {
    pub(crate) store: Box<Store>,
    pub(crate) outcomes: Vec<Outcome>,
    /// To be dropped where nobody waits.
    pub(crate) garbage: Vec<Garbage>,
}

impl ApplyJob {
    /// Executes the entries, one after the other.
    #[must_use]
    pub fn run(self) -> ApplyDone {
        let ApplyJob { mut store, entries } = self;
        let mut outcomes = Vec::with_capacity(entries.len());
        let mut garbage = Vec::new();
        for entry in entries {
            outcomes.push(entry.execute(&mut store));
            garbage.extend(store.take_garbage());
        }
        ApplyDone { store, outcomes, garbage }
    }
}

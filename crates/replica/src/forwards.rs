//! The leader's memory of what others forwarded to it in its term, so that a doubled message is not
//! executed twice.
//!
//! Attempts are never used twice by their sender, and are meant for one term: it is enough to remember
//! those of this term that the sender still waits for.

use std::collections::{BTreeMap, BTreeSet};

use tenure_raft::NodeId;

/// Attempts of one start of one member.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Window {
    boot: u64,
    oldest_attempt: u64,
    seen: BTreeSet<u64>,
}

/// What every member forwarded in this term.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Forwards {
    windows: BTreeMap<NodeId, Window>,
}

impl Forwards {
    /// A new term begins: what was meant for an earlier one is refused by its term.
    pub(crate) fn clear(&mut self) {
        self.windows.clear();
    }

    /// A message of `member` says that all attempts below `oldest_attempt` are over. Returns whether the
    /// message may be looked at: it is not of an earlier start.
    pub(crate) fn begin(&mut self, member: NodeId, boot: u64, oldest_attempt: u64) -> bool {
        let window = self.windows.entry(member).or_default();
        if boot < window.boot {
            return false;
        }
        if boot > window.boot {
            *window = Window { boot, ..Window::default() };
        }
        if oldest_attempt > window.oldest_attempt {
            window.oldest_attempt = oldest_attempt;
            window.seen = window.seen.split_off(&oldest_attempt);
        }
        true
    }

    /// Whether the attempt is seen for the first time, which it then has been. Beyond `max_seen` none is:
    /// its sender will hear nothing of it.
    pub(crate) fn is_new(&mut self, member: NodeId, attempt: u64, max_seen: usize) -> bool {
        let Some(window) = self.windows.get_mut(&member) else { return false };
        attempt >= window.oldest_attempt && window.seen.len() < max_seen && window.seen.insert(attempt)
    }
}

//! A leader's memory of what others forwarded to it in its term, so that a write is executed once however
//! often its message arrives.
//!
//! A sender never uses an attempt twice and means it for the leader of one term. So it is enough to remember,
//! for the latest term that this member led, what was taken and what was refused of the attempts that their
//! senders still wait for. The memory outlives the leadership: a second copy that comes after the leader has
//! stepped down must not be refused if the first one is in a log. Of any other term this member cannot say
//! what it took, and says nothing; the sender learns it from the log.

use std::collections::BTreeMap;

use tenure_raft::{NodeId, Term};

use crate::message::ForwardRefusal;

/// What became of an attempt here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// Nothing yet.
    New,
    /// It is, or was, in this member's log.
    Taken,
    /// It was refused: it entered no log, and must not enter one now.
    Refused(ForwardRefusal),
    /// Its sender has given it up.
    Over,
}

/// Attempts of one start of one member.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Window {
    boot: u64,
    oldest_attempt: u64,
    taken: Runs,
    refused: BTreeMap<u64, ForwardRefusal>,
}

/// What every member forwarded in one term.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Forwards {
    term: Term,
    windows: BTreeMap<NodeId, Window>,
}

impl Forwards {
    /// This member leads `term`: what came in earlier ones can be forgotten.
    pub(crate) fn lead(&mut self, term: Term) {
        if term > self.term {
            *self = Forwards { term, windows: BTreeMap::new() };
        }
    }

    /// A message of `member` for the leader of `term` says that all attempts below `oldest_attempt` are over.
    /// Returns whether anything can be said of it: it is for the term that is remembered, and not of an
    /// earlier start.
    pub(crate) fn begin(&mut self, term: Term, member: NodeId, boot: u64, oldest_attempt: u64) -> bool {
        if term != self.term {
            return false;
        }
        let window = self.windows.entry(member).or_default();
        if boot < window.boot {
            return false;
        }
        if boot > window.boot {
            *window = Window { boot, ..Window::default() };
        }
        if oldest_attempt > window.oldest_attempt {
            window.oldest_attempt = oldest_attempt;
            window.taken.forget_below(oldest_attempt);
            window.refused = window.refused.split_off(&oldest_attempt);
        }
        true
    }

    /// What became of an attempt of a message that [`Forwards::begin`] let through.
    pub(crate) fn fate(&self, member: NodeId, attempt: u64) -> Fate {
        let Some(window) = self.windows.get(&member) else { return Fate::New };
        if attempt < window.oldest_attempt {
            Fate::Over
        } else if window.taken.contains(attempt) {
            Fate::Taken
        } else {
            window.refused.get(&attempt).map_or(Fate::New, |&why| Fate::Refused(why))
        }
    }

    /// Whether another attempt can be remembered. One that cannot must be neither taken nor refused: its
    /// sender will ask again.
    pub(crate) fn has_room(&self, member: NodeId, max_remembered: usize) -> bool {
        let remembered = |window: &Window| window.taken.runs.len() + window.refused.len();
        self.windows.get(&member).map_or(0, remembered) < max_remembered
    }

    /// A new attempt has entered the log.
    pub(crate) fn take(&mut self, member: NodeId, attempt: u64) {
        self.windows.entry(member).or_default().taken.insert(attempt);
    }

    /// A new attempt is refused.
    pub(crate) fn refuse(&mut self, member: NodeId, attempt: u64, why: ForwardRefusal) {
        self.windows.entry(member).or_default().refused.insert(attempt, why);
    }
}

/// A set of numbers, kept as its runs: attempts are counted, so they come almost without gaps.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Runs {
    /// The first number of each run, and its last.
    runs: BTreeMap<u64, u64>,
}

impl Runs {
    fn contains(&self, number: u64) -> bool {
        self.runs.range(..=number).next_back().is_some_and(|(_, &last)| number <= last)
    }

    fn insert(&mut self, number: u64) {
        if self.contains(number) {
            return;
        }
        let before = self.runs.range(..number).next_back();
        let joined = before.filter(|&(_, &last)| last + 1 == number).map(|(&first, _)| first);
        let after = number.checked_add(1).and_then(|next| self.runs.remove(&next));
        self.runs.insert(joined.unwrap_or(number), after.unwrap_or(number));
    }

    fn forget_below(&mut self, number: u64) {
        let mut kept = self.runs.split_off(&number);
        // The run that began before may reach beyond.
        if let Some((_, &last)) = self.runs.last_key_value()
            && last >= number
        {
            kept.insert(number, last);
        }
        self.runs = kept;
    }
}

#[cfg(test)]
mod tests;

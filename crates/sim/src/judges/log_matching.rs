//! Log matching (paper §5.3, figure 3): "if two logs contain an entry with the same index and term, then the
//! logs are identical in all entries up through the given index" (SOURCES R2).
//!
//! By induction it is enough that an entry of an index and term is always the same, and always follows an
//! entry of the same term. So the judge keeps each entry once, with the term before it, and compares
//! whatever is written to a log, sent to a follower or found on a disk with it.

use tenure_raft::{Entry, EntryId, Envelope, Index, Message, Payload, Term};

use super::{Verdict, require};

const JUDGE: &str = "log matching";

#[derive(Debug)]
struct Known {
    term: Term,
    prev_term: Term,
    payload: Payload,
}

/// Every entry that was ever made.
#[derive(Default, Debug)]
pub(crate) struct LogMatching {
    /// By index; usually one, more where leaders came and went.
    entries: Vec<Vec<Known>>,
}

impl LogMatching {
    /// An append is sent: the leader holds these entries.
    pub(crate) fn on_send(&mut self, envelope: &Envelope) -> Verdict {
        let Message::AppendEntries { slice, .. } = &envelope.message else { return Ok(()) };
        self.follow(slice.prev(), slice.entries())
    }

    /// Entries are written to a log, of which `term_at` says what stands there.
    pub(crate) fn on_write(&mut self, entries: &[Entry], term_at: impl Fn(Index) -> Option<Term>) -> Verdict {
        let Some(first) = entries.first() else { return Ok(()) };
        let prev_index = first.id.index.previous();
        let prev_term = term_at(prev_index);
        require(JUDGE, prev_term.is_some(), || format!("{} is written behind a hole", first.id))?;
        self.follow(EntryId::new(prev_index, prev_term.unwrap_or_default()), entries)
    }

    fn follow(&mut self, mut prev: EntryId, entries: &[Entry]) -> Verdict {
        for entry in entries {
            self.observe(prev, entry.id, &entry.payload)?;
            prev = entry.id;
        }
        Ok(())
    }

    /// Somewhere the entry `id` stands behind `prev`.
    pub(crate) fn observe(&mut self, prev: EntryId, id: EntryId, payload: &Payload) -> Verdict {
        require(JUDGE, prev.index.next() == id.index && prev.term <= id.term, || {
            format!("{id} follows {prev}")
        })?;
        let place = (id.index.0 - 1) as usize;
        if self.entries.len() <= place {
            self.entries.resize_with(place + 1, Vec::new);
        }
        let known = self.entries[place].iter().find(|known| known.term == id.term);
        let Some(known) = known else {
            self.entries[place].push(Known { term: id.term, prev_term: prev.term, payload: payload.clone() });
            return Ok(());
        };
        require(JUDGE, known.prev_term == prev.term, || {
            format!("{id} follows an entry of term {} here and of term {} there", prev.term, known.prev_term)
        })?;
        require(JUDGE, is_same(&known.payload, payload), || {
            format!("{id} is one thing here and another there")
        })
    }

    /// Of which term the entry at `index` is in a log that holds `last`; none if that was never seen. Beyond
    /// `last` there is nothing.
    pub(crate) fn term_behind(&self, last: EntryId, index: Index) -> Option<Term> {
        let mut id = last;
        while id.index > index {
            let known = self.entries.get((id.index.0 - 1) as usize)?.iter();
            let prev_term = known.into_iter().find(|known| known.term == id.term)?.prev_term;
            id = EntryId::new(id.index.previous(), prev_term);
        }
        (id.index == index).then_some(id.term)
    }

    /// What the entry carries, if it was ever seen.
    pub(crate) fn payload_of(&self, id: EntryId) -> Option<&Payload> {
        let known = self.entries.get((id.index.0 - 1) as usize)?.iter();
        known.into_iter().find(|known| known.term == id.term).map(|known| &known.payload)
    }
}

/// Most comparisons are of a command with itself: members share its bytes in memory.
fn is_same(one: &Payload, other: &Payload) -> bool {
    match (one, other) {
        (Payload::Command(one), Payload::Command(other)) => {
            (one.as_ptr() == other.as_ptr() && one.len() == other.len()) || one == other
        }
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64, command: &'static str) -> Entry {
        Entry { id: EntryId::new(Index(index), Term(term)), payload: Payload::Command(command.into()) }
    }

    fn written(log: &mut LogMatching, prev_term: u64, entries: &[Entry]) -> Verdict {
        log.on_write(entries, |_| Some(Term(prev_term)))
    }

    #[test]
    fn one_place_and_term_with_two_commands_is_seen() {
        let mut log = LogMatching::default();
        written(&mut log, 0, &[entry(1, 1, "a"), entry(2, 1, "b")]).unwrap();
        written(&mut log, 1, &[entry(2, 2, "c")]).unwrap();
        written(&mut log, 1, &[entry(2, 1, "b")]).unwrap();
        assert_eq!(written(&mut log, 1, &[entry(2, 1, "x")]).unwrap_err().judge, JUDGE);
    }

    #[test]
    fn one_entry_with_two_pasts_is_seen() {
        let mut log = LogMatching::default();
        written(&mut log, 0, &[entry(1, 1, "a"), entry(2, 3, "b")]).unwrap();
        assert!(written(&mut log, 2, &[entry(2, 3, "b")]).is_err());
    }

    #[test]
    fn a_hole_is_seen() {
        assert!(LogMatching::default().on_write(&[entry(3, 1, "a")], |_| None).is_err());
    }
}

//! Leader completeness (paper §5.4.3, figure 3): "if a log entry is committed in a given term, then that
//! entry will be present in the logs of the leaders for all higher-numbered terms" (SOURCES R9).
//!
//! Seen from both sides: when a leader is elected, it must have what earlier terms have committed; and when a
//! leader of an earlier term commits something later than that, those elected meanwhile must have it already.
//! (A leader of an older term may still be elected, by votes that were long on their way: it owes nothing to
//! what later terms have committed.)
//!
//! So the judge keeps how each leader's log ended when it was elected. Since a leader never overwrites or
//! deletes its entries (§5.3), this also says what stands in the log of a leader that has long been gone.

use std::collections::BTreeMap;

use tenure_raft::{EntryId, Index, Node, Term};

use super::committed::Committed;
use super::log_matching::LogMatching;
use super::{Verdict, require};

const JUDGE: &str = "leader completeness";

/// What the leaders' logs held when they were elected.
#[derive(Default, Debug)]
pub(crate) struct LeaderLogs {
    /// The last entry that each had from the terms before its own.
    inherited: BTreeMap<Term, EntryId>,
}

impl LeaderLogs {
    /// Checks a node that has just won `term`.
    pub(crate) fn on_leader(&mut self, committed: &Committed, node: &Node, term: Term) -> Verdict {
        let log = node.log();
        let own = |index: &Index| log.term_at(*index) == Some(term);
        let before = (log.start().index.0..=log.last_index().0).rev().map(Index).find(|index| !own(index));
        let before = before.unwrap_or(log.start().index);
        let inherited = EntryId { index: before, term: log.term_at(before).unwrap_or_default() };
        self.inherited.insert(term, inherited);
        let Some(last) = committed.last_before(term) else { return Ok(()) };
        // By log matching, who has the last has all.
        let has_it = last.index < log.start().index || log.matches(last);
        require(JUDGE, has_it, || {
            format!(
                "{} leads term {term} with a log to {inherited}, and {last} was committed before",
                node.id()
            )
        })
    }

    /// Checks an entry that was committed, and that nobody called committed before.
    pub(crate) fn on_committed(&self, entries: &LogMatching, commit: EntryId) -> Verdict {
        for (term, inherited) in self.inherited.range(commit.term.next()..) {
            let there = entries.term_behind(*inherited, commit.index);
            require(JUDGE, there == Some(commit.term), || {
                format!(
                    "{commit} is committed, and the leader of term {term} was elected with a log to {inherited}"
                )
            })?;
        }
        Ok(())
    }

    /// Whether the term has, or had, a leader.
    pub(crate) fn knows(&self, term: Term) -> bool {
        self.inherited.contains_key(&term)
    }

    /// The first entry that the leader of a term has made.
    pub(crate) fn first_of(&self, term: Term) -> Option<Index> {
        self.inherited.get(&term).map(|inherited| inherited.index.next())
    }

    /// Of which term the entry is that the leader of `term` has, or had, at `index`; none if nobody knows.
    pub(crate) fn term_at(&self, entries: &LogMatching, term: Term, index: Index) -> Option<Term> {
        let inherited = *self.inherited.get(&term)?;
        if index > inherited.index { Some(term) } else { entries.term_behind(inherited, index) }
    }
}

#[cfg(test)]
mod tests {
    use tenure_raft::{Configuration, NodeId, Options, Payload, Restored, Snapshot, Time};

    use super::*;

    fn id(index: u64, term: u64) -> EntryId {
        EntryId::new(Index(index), Term(term))
    }

    #[test]
    fn a_leader_without_a_committed_entry_is_seen() {
        let id = NodeId::new(1).unwrap();
        let snapshot = Snapshot { configuration: Configuration::of_voters([id]), ..Snapshot::default() };
        let restored = Restored { snapshot, ..Restored::default() };
        let node = Node::new(id, Options::default(), 1, restored, Time(0));
        let committed = Committed::of_terms(&[1, 2], Term(2));
        let mut leaders = LeaderLogs::default();
        assert_eq!(leaders.on_leader(&committed, &node, Term(3)).unwrap_err().judge, JUDGE);
        assert!(leaders.on_leader(&committed, &node, Term(2)).is_ok(), "its votes were given before");
    }

    #[test]
    fn what_is_committed_later_and_was_not_inherited_is_seen() {
        let mut entries = LogMatching::default();
        let chain = [id(0, 0), id(1, 1), id(2, 1), id(3, 2)];
        for pair in chain.windows(2) {
            entries.observe(pair[0], pair[1], &Payload::Empty).unwrap();
        }
        let leaders = LeaderLogs { inherited: BTreeMap::from([(Term(3), id(2, 1))]) };
        leaders.on_committed(&entries, id(2, 1)).unwrap();
        leaders.on_committed(&entries, id(3, 3)).unwrap();
        assert_eq!(leaders.on_committed(&entries, id(3, 2)).unwrap_err().judge, JUDGE);
        assert_eq!(leaders.term_at(&entries, Term(3), Index(1)), Some(Term(1)));
        assert_eq!(leaders.term_at(&entries, Term(3), Index(3)), Some(Term(3)));
        assert_eq!(leaders.term_at(&entries, Term(4), Index(1)), None);
    }
}

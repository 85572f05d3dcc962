//! Committed entries stay (paper §5.4.3; SOURCES M6): the entry at an index that any server once called
//! committed is the same on every server, for ever, across restarts.

use std::collections::BTreeMap;

use tenure_raft::{EntryId, Index, Node, NodeId, Term};

use super::{Verdict, require};

const JUDGE: &str = "committed entries stay";

/// The one log of the cluster, as far as it is committed.
#[derive(Default, Debug)]
pub(crate) struct Committed {
    terms: Vec<Term>,
    /// How far the leader of each term has committed.
    by_leader: BTreeMap<Term, EntryId>,
}

impl Committed {
    pub(crate) fn last_index(&self) -> Index {
        Index(self.terms.len() as u64)
    }

    /// The last committed entry, if there is one.
    pub(crate) fn last(&self) -> Option<EntryId> {
        let term = *self.terms.last()?;
        Some(EntryId { term, index: self.last_index() })
    }

    /// The committed entry at an index; none is committed behind the last one.
    pub(crate) fn id_at(&self, index: Index) -> EntryId {
        EntryId { index, term: self.term_at(index).unwrap_or_default() }
    }

    fn term_at(&self, index: Index) -> Option<Term> {
        if index.0 == 0 { Some(Term(0)) } else { self.terms.get(index.0 as usize - 1).copied() }
    }

    /// Whether `commit` lies beyond what is known to be committed.
    pub(crate) fn is_news(&self, commit: EntryId) -> bool {
        commit.index > self.last_index()
    }

    /// A member says that an entry is committed, at an index where one is known to be.
    pub(crate) fn check_known(&self, member: NodeId, commit: EntryId) -> Verdict {
        let known = self.term_at(commit.index);
        require(JUDGE, known == Some(commit.term), || match known {
            Some(term) => {
                format!("{member} says that {commit} is committed, and {}@{term} is", commit.index)
            }
            None => format!("{member} has state up to {commit}, which nobody called committed"),
        })
    }

    /// A member is the first to say that the log up to `commit` is committed: `each` is told of every new
    /// entry in order.
    pub(crate) fn advance(
        &mut self,
        node: &Node,
        commit: EntryId,
        mut each: impl FnMut(EntryId) -> Verdict,
    ) -> Verdict {
        let known = self.last_index();
        let log = node.log();
        if known >= log.start().index {
            let agrees = log.term_at(known) == self.term_at(known);
            require(JUDGE, agrees, || {
                format!("{} commits {commit} on top of another entry at {known} than is committed", node.id())
            })?;
        }
        for index in known.0 + 1..=commit.index.0 {
            let index = Index(index);
            let term = log.term_at(index);
            require(JUDGE, term.is_some(), || format!("{} commits {commit} and lacks {index}", node.id()))?;
            let term = term.unwrap_or_default();
            self.terms.push(term);
            each(EntryId { term, index })?;
        }
        self.by_leader.insert(node.current_term(), commit);
        Ok(())
    }

    /// The last entry that was committed in a term before `term`.
    pub(crate) fn last_before(&self, term: Term) -> Option<EntryId> {
        self.by_leader.range(..term).map(|(_, commit)| *commit).max_by_key(|commit| commit.index)
    }

    #[cfg(test)]
    pub(crate) fn of_terms(terms: &[u64], committed_in: Term) -> Committed {
        let terms: Vec<Term> = terms.iter().copied().map(Term).collect();
        let last = EntryId::new(Index(terms.len() as u64), terms.last().copied().unwrap_or_default());
        Committed { terms, by_leader: BTreeMap::from([(committed_in, last)]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_entry_at_a_committed_index_is_seen() {
        let committed = Committed::of_terms(&[1, 1, 2], Term(2));
        let member = NodeId::new(1).unwrap();
        committed.check_known(member, EntryId::new(Index(2), Term(1))).unwrap();
        assert!(committed.check_known(member, EntryId::ZERO).is_ok(), "an empty checkpoint");
        let other = committed.check_known(member, EntryId::new(Index(3), Term(3)));
        assert_eq!(other.unwrap_err().judge, JUDGE);
        assert!(committed.check_known(member, EntryId::new(Index(4), Term(2))).is_err(), "never committed");
    }
}

//! Election safety (paper §5.2, figure 3): "at most one leader can be elected in a given term". Ever: a
//! server that was elected, crashed and is elected again in the same term counts as two.
//!
//! And what follows from it (SOURCES T3): only the leader of a term sends AppendEntries, heartbeats,
//! snapshots and TimeoutNow of that term.

use std::collections::{BTreeMap, BTreeSet};

use tenure_raft::{Envelope, Message, NodeId, Term};

use super::{Verdict, require};

const JUDGE: &str = "election safety";

/// Who was elected when.
#[derive(Default, Debug)]
pub(crate) struct Elections {
    leaders: BTreeMap<Term, NodeId>,
    /// Who asked for votes in which term, up to that of the first leader.
    first_candidates: BTreeMap<Term, BTreeSet<NodeId>>,
}

impl Elections {
    pub(crate) fn on_leader(&mut self, member: NodeId, term: Term) -> Verdict {
        let earlier = self.leaders.insert(term, member);
        require(JUDGE, earlier.is_none(), || {
            let earlier = earlier.expect("the rule was broken");
            format!("{member} is elected in term {term}, and {earlier} was before")
        })
    }

    /// Whether the first leader had rivals in its term: they may have begun anew, and depose it, before they heard of it
    /// (paper §5.2, split votes).
    pub(crate) fn is_first_contested(&self) -> bool {
        let first = self.leaders.first_key_value().and_then(|(term, _)| self.first_candidates.get(term));
        first.is_some_and(|candidates| candidates.len() > 1)
    }

    pub(crate) fn on_send(&mut self, envelope: &Envelope) -> Verdict {
        let Envelope { from, term, message, .. } = envelope;
        let is_first = self.leaders.first_key_value().is_none_or(|(first, _)| term <= first);
        if is_first && matches!(message, Message::RequestVote { .. }) {
            self.first_candidates.entry(*term).or_default().insert(*from);
        }
        let may = !message.is_from_leader() || self.leaders.get(term) == Some(from);
        require(JUDGE, may, || format!("{from} speaks as the leader of term {term}, and is not: {envelope}"))
    }
}

#[cfg(test)]
mod tests {
    use tenure_raft::{EntryId, Index, Round};

    use super::*;

    fn id(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
    }

    #[test]
    fn rivals_of_the_first_leader_are_seen_and_later_ones_do_not_count() {
        let asks = |from, term| Envelope {
            from: id(from),
            to: id(3),
            term: Term(term),
            message: Message::RequestVote { last: EntryId::default(), leadership_transfer: false },
        };
        let mut elections = Elections::default();
        elections.on_send(&asks(1, 1)).unwrap();
        elections.on_send(&asks(2, 2)).unwrap();
        elections.on_leader(id(2), Term(2)).unwrap();
        assert!(!elections.is_first_contested());
        elections.on_send(&asks(1, 3)).unwrap();
        elections.on_send(&asks(3, 3)).unwrap();
        assert!(!elections.is_first_contested());
        elections.on_send(&asks(3, 2)).unwrap();
        assert!(elections.is_first_contested(), "its disk was slow");
    }

    #[test]
    fn two_leaders_of_one_term_are_seen() {
        let mut elections = Elections::default();
        elections.on_leader(id(1), Term(2)).unwrap();
        elections.on_leader(id(2), Term(3)).unwrap();
        assert_eq!(elections.on_leader(id(2), Term(2)).unwrap_err().judge, JUDGE);
        assert!(elections.on_leader(id(2), Term(3)).is_err(), "the same one twice");
    }

    #[test]
    fn who_speaks_as_a_leader_and_is_none_is_seen() {
        let mut elections = Elections::default();
        elections.on_leader(id(1), Term(2)).unwrap();
        let message = Message::Heartbeat { commit_index: Index(0), round: Round(0) };
        let mut envelope = Envelope { from: id(1), to: id(2), term: Term(2), message };
        elections.on_send(&envelope).unwrap();
        envelope.from = id(3);
        assert!(elections.on_send(&envelope).is_err());
    }
}

//! Election safety (paper §5.2, figure 3): "at most one leader can be elected in a given term". Ever: a
//! server that was elected, crashed and is elected again in the same term counts as two.
//!
//! And what follows from it (SOURCES T3): only the leader of a term sends AppendEntries, heartbeats,
//! snapshots and TimeoutNow of that term.

use std::collections::BTreeMap;

use tenure_raft::{Envelope, NodeId, Term};

use super::{Verdict, require};

const JUDGE: &str = "election safety";

/// Who was elected when.
#[derive(Default, Debug)]
pub(crate) struct Elections {
    leaders: BTreeMap<Term, NodeId>,
}

impl Elections {
    pub(crate) fn on_leader(&mut self, member: NodeId, term: Term) -> Verdict {
        let earlier = self.leaders.insert(term, member);
        require(JUDGE, earlier.is_none(), || {
            let earlier = earlier.expect("the rule was broken");
            format!("{member} is elected in term {term}, and {earlier} was before")
        })
    }

    pub(crate) fn on_send(&self, envelope: &Envelope) -> Verdict {
        let Envelope { from, term, message, .. } = envelope;
        let may = !message.is_from_leader() || self.leaders.get(term) == Some(from);
        require(JUDGE, may, || format!("{from} speaks as the leader of term {term}, and is not: {envelope}"))
    }
}

#[cfg(test)]
mod tests {
    use tenure_raft::{Index, Message, Round};

    use super::*;

    fn id(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
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

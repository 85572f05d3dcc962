//! One vote a server and term (paper §5.2: "each server will vote for at most one candidate in a given
//! term"), across crashes: the judge remembers what the server may have forgotten.
//!
//! What counts is a vote that left the server. One that was decided and lost with the process before it was
//! durable was never given.

use std::collections::BTreeMap;

use tenure_raft::{Configuration, Envelope, Message, NodeId, Quorum, Term};

use super::quorum::is_quorum;
use super::{Verdict, require};

const JUDGE: &str = "one vote a term";
const WON: &str = "elected by a quorum";

/// Every vote that was ever given.
#[derive(Default, Debug)]
pub(crate) struct Votes {
    given: BTreeMap<(NodeId, Term), NodeId>,
}

impl Votes {
    pub(crate) fn on_send(&mut self, envelope: &Envelope) -> Verdict {
        match envelope.message {
            Message::RequestVoteReply { granted: true } => {
                self.give(envelope.from, envelope.term, envelope.to)
            }
            // Who asks for votes has given itself its own.
            Message::RequestVote { .. } => self.on_self_vote(envelope.from, envelope.term),
            _ => Ok(()),
        }
    }

    /// A server campaigned, so it voted for itself.
    pub(crate) fn on_self_vote(&mut self, candidate: NodeId, term: Term) -> Verdict {
        self.give(candidate, term, candidate)
    }

    /// Who leads was given the votes of a quorum of every half of its configuration (paper §5.2, §6), counted
    /// by what left the voters.
    pub(crate) fn check_won(&self, leader: NodeId, term: Term, configuration: &Configuration) -> Verdict {
        let voted = |id: NodeId| self.given.get(&(id, term)) == Some(&leader);
        let has_quorum = is_quorum(configuration, Quorum::Election, voted);
        require(WON, has_quorum, || {
            let voters: Vec<String> =
                configuration.members().filter(|&id| voted(id)).map(|id| id.to_string()).collect();
            format!("{leader} leads term {term}; of {configuration} it has the votes of {voters:?}")
        })
    }

    fn give(&mut self, voter: NodeId, term: Term, candidate: NodeId) -> Verdict {
        let given = *self.given.entry((voter, term)).or_insert(candidate);
        require(JUDGE, given == candidate, || {
            format!("{voter} votes for {candidate} in term {term}, and voted for {given} before")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(from: u64, to: u64, term: u64) -> Envelope {
        let id = |number| NodeId::new(number).unwrap();
        let message = Message::RequestVoteReply { granted: true };
        Envelope { from: id(from), to: id(to), term: Term(term), message }
    }

    #[test]
    fn a_second_vote_is_seen_and_a_repeated_one_is_none() {
        let mut votes = Votes::default();
        votes.on_send(&vote(1, 2, 5)).unwrap();
        votes.on_send(&vote(1, 2, 5)).unwrap();
        votes.on_send(&vote(1, 3, 6)).unwrap();
        assert_eq!(votes.on_send(&vote(1, 3, 5)).unwrap_err().judge, JUDGE);
        assert!(votes.on_self_vote(NodeId::new(1).unwrap(), Term(6)).is_err());
    }

    #[test]
    fn a_leader_without_a_quorum_of_both_halves_is_seen() {
        let id = |number| NodeId::new(number).unwrap();
        let mut votes = Votes::default();
        votes.on_self_vote(id(1), Term(5)).unwrap();
        votes.on_send(&vote(4, 1, 5)).unwrap();
        votes.on_send(&vote(5, 1, 5)).unwrap();
        let new = Configuration::of_voters([1, 4, 5].map(id));
        votes.check_won(id(1), Term(5), &new).unwrap();
        let old_voters = Some(Configuration::of_voters([1, 2, 3].map(id)).voters);
        let joint = Configuration { old_voters, ..new };
        assert_eq!(votes.check_won(id(1), Term(5), &joint).unwrap_err().judge, WON);
    }
}

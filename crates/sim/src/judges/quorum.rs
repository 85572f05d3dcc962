//! Commitment (paper §5.3, §5.4.2): what a server calls committed is on the disks of a quorum of every
//! configuration in force (SOURCES Q1, R6). The judge counts for itself, and on the shadows of the disks,
//! not on what the leader believes.

use tenure_raft::{Configuration, EntryId, NodeId, Term, Voters};

use super::durability::Durability;
use super::{Verdict, require};

const JUDGE: &str = "committed on a quorum";

/// Checks that `commit` is durable on a quorum of `configuration`, as `reporter` says.
pub(crate) fn check(
    disks: &Durability,
    configuration: &Configuration,
    commit: EntryId,
    reporter: NodeId,
) -> Verdict {
    let has_quorum = configuration.halves().all(|voters| is_on_quorum(disks, voters, commit));
    require(JUDGE, has_quorum, || {
        let holders: Vec<String> = configuration
            .members()
            .filter(|&id| disks.shadow(id).holds(commit))
            .map(|id| id.to_string())
            .collect();
        format!("{reporter} says that {commit} is committed; of {configuration} it is durable on {holders:?}")
    })
}

/// Checks that a leader counts only entries of its own term: those before them are committed with them, and not
/// by being on a quorum (paper §5.4.2, figure 8).
pub(crate) fn check_term(leader: NodeId, term: Term, commit: EntryId) -> Verdict {
    require(JUDGE, commit.term == term, || {
        format!("{leader} leads term {term} and says that {commit} is committed, of an earlier term")
    })
}

fn is_on_quorum(disks: &Durability, voters: &Voters, commit: EntryId) -> bool {
    let (mut holding, mut all) = (0, 0);
    for (id, votes) in voters.iter() {
        all += u64::from(votes);
        if disks.shadow(id).holds(commit) {
            holding += u64::from(votes);
        }
    }
    match voters.quorums() {
        Some(quorums) => holding >= quorums.commit_votes,
        None => 2 * holding > all,
    }
}

#[cfg(test)]
mod tests {
    use tenure_raft::{Entry, HardState, Index, Payload, WriteToken};
    use tenure_replica::LogJob;

    use super::*;

    #[test]
    fn half_of_the_disks_is_no_quorum() {
        let id = |number| NodeId::new(number).unwrap();
        let mut disks = Durability::default();
        let configuration = Configuration::of_voters((1..=4).map(id));
        let entry = Entry { id: EntryId::new(Index(1), Term(1)), payload: Payload::Empty };
        for (number, enough) in [(1, false), (2, false), (3, true)] {
            let token = WriteToken { attempt: 1, last: entry.id };
            let hard_state = Some(HardState { current_term: Term(1), voted_for: None });
            disks.begin(id(number), &LogJob::Write { hard_state, entries: vec![entry.clone()], token });
            assert!(check(&disks, &configuration, entry.id, id(1)).is_err(), "written and not yet durable");
            disks.finish(id(number));
            assert_eq!(check(&disks, &configuration, entry.id, id(1)).is_ok(), enough);
        }
        let other = EntryId::new(Index(1), Term(2));
        assert_eq!(check(&disks, &configuration, other, id(1)).unwrap_err().judge, JUDGE);
    }

    #[test]
    fn an_earlier_term_that_is_counted_is_seen() {
        let id = NodeId::new(1).unwrap();
        let commit = EntryId::new(Index(2), Term(2));
        assert!(check_term(id, Term(2), commit).is_ok());
        assert_eq!(check_term(id, Term(4), commit).unwrap_err().judge, JUDGE);
    }
}

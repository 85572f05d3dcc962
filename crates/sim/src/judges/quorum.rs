//! Commitment (paper §5.3, §5.4.2): what a server calls committed is on the disks of a quorum of every
//! configuration in force (SOURCES Q1, R6). The judge counts for itself, and on the shadows of the disks,
//! not on what the leader believes.

use tenure_raft::{Configuration, EntryId, NodeId, Quorum, Term};

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
    let has_quorum = is_quorum(configuration, Quorum::Commit, |id| disks.shadow(id).holds(commit));
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

/// Whether those for whom `is_in` holds are enough for `quorum`, in every half of the configuration. The judges'
/// own arithmetic: that of the core is what they judge.
pub(crate) fn is_quorum(
    configuration: &Configuration,
    quorum: Quorum,
    is_in: impl Fn(NodeId) -> bool,
) -> bool {
    configuration.halves().all(|voters| {
        let inside = voters.iter().filter(|&(id, _)| is_in(id));
        let inside: u64 = inside.map(|(_, votes)| u64::from(votes)).sum();
        let all: u64 = voters.iter().map(|(_, votes)| u64::from(votes)).sum();
        match (voters.quorums(), quorum) {
            (None, _) => 2 * inside > all,
            (Some(quorums), Quorum::Election) => inside >= quorums.election_votes,
            (Some(quorums), Quorum::Commit) => inside >= quorums.commit_votes,
        }
    })
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

//! The arithmetic against a second version that knows nothing but sets: all subsets are tried.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{VoteResult, quorum_value, vote_result};
use crate::{Configuration, Learner, NodeId, Quorum, Quorums, Voters};

fn n(id: u64) -> NodeId {
    NodeId::new(id).expect("not zero")
}

/// All sets of the servers 1 to `count`.
fn subsets(count: u64) -> impl Iterator<Item = BTreeSet<NodeId>> {
    (0..1_u64 << count).map(move |bits| (1..=count).filter(|id| bits >> (id - 1) & 1 == 1).map(n).collect())
}

/// Second version: more than half of the votes of each half, counted by hand.
fn is_quorum(configuration: &Configuration, set: &BTreeSet<NodeId>) -> bool {
    configuration.halves().all(|half| {
        let all: u64 = half.iter().map(|(_, votes)| u64::from(votes)).sum();
        let inside: u64 =
            half.iter().filter(|(id, _)| set.contains(id)).map(|(_, votes)| u64::from(votes)).sum();
        2 * inside > all
    })
}

/// Second version: the largest value that the holders of at least as much are a quorum for.
fn slow_quorum_value(configuration: &Configuration, values: &BTreeMap<NodeId, u64>) -> u64 {
    let reached = |bar: u64| {
        let set = values.iter().filter(|&(_, &value)| value >= bar).map(|(&id, _)| id).collect();
        is_quorum(configuration, &set)
    };
    values.values().copied().filter(|&value| reached(value)).max().unwrap_or(0)
}

fn voters(count: u64) -> Vec<Voters> {
    let plain = subsets(count).filter(|set| !set.is_empty()).map(Voters::of);
    let weighted = [[3, 1, 1, 1, 1], [2, 2, 1, 1, 1], [1, 2, 3, 4, 5], [9, 1, 1, 1, 1]];
    let weighted = weighted.map(|votes| Voters::weighted((1..=count).map(n).zip(votes)));
    plain.chain(weighted).collect()
}

/// Every plain and every joint configuration of up to four servers, and some with weights.
fn configurations() -> Vec<Configuration> {
    let halves = voters(4);
    let plain = halves.iter().map(|half| Configuration { voters: half.clone(), ..Configuration::default() });
    let joint = halves.iter().flat_map(|new| {
        halves.iter().map(|old| Configuration {
            voters: new.clone(),
            old_voters: Some(old.clone()),
            learners: BTreeMap::from([(n(9), Learner::Waits)]),
        })
    });
    plain.chain(joint).collect()
}

/// SOURCES Q2, Q5: any two quorums of a configuration share a server; and a set and its complement are never
/// both quorums.
#[test]
fn any_two_quorums_share_a_server() {
    for configuration in configurations() {
        let quorums: Vec<_> = subsets(4).filter(|set| wins(&configuration, set)).collect();
        assert!(!quorums.is_empty(), "all together decide: {configuration}");
        for one in &quorums {
            for other in &quorums {
                assert!(!one.is_disjoint(other), "{configuration}: {one:?} and {other:?}");
            }
        }
    }
}

/// A joint configuration's quorums meet those of its old half and those of its new one (paper §6): whatever
/// moment a server is at, two leaders of one term are impossible.
#[test]
fn a_joint_quorum_meets_the_quorums_of_both_halves() {
    for configuration in configurations().into_iter().filter(Configuration::is_joint) {
        let joint: Vec<_> = subsets(4).filter(|set| wins(&configuration, set)).collect();
        for half in configuration.halves() {
            let alone = Configuration { voters: half.clone(), ..Configuration::default() };
            for set in subsets(4).filter(|set| wins(&alone, set)) {
                assert!(joint.iter().all(|quorum| !quorum.is_disjoint(&set)), "{configuration}: {set:?}");
            }
        }
    }
}

/// Whether an election is won with exactly the votes of `set`.
fn wins(configuration: &Configuration, set: &BTreeSet<NodeId>) -> bool {
    let votes = set.iter().map(|&id| (id, true)).collect();
    vote_result(configuration, &votes) == VoteResult::Won
}

/// Every combination of granted, refused and silent for every small configuration.
#[test]
fn votes_are_counted_as_by_hand() {
    for configuration in configurations() {
        for granted in subsets(4) {
            assert_eq!(
                wins(&configuration, &granted),
                is_quorum(&configuration, &granted),
                "{configuration}"
            );
            for silent in subsets(4).filter(|silent| silent.is_disjoint(&granted)) {
                let answered = (1..=4).map(n).filter(|id| !silent.contains(id));
                let votes = answered.map(|id| (id, granted.contains(&id))).collect();
                let best = granted.union(&silent).copied().collect();
                let expected = match (is_quorum(&configuration, &granted), is_quorum(&configuration, &best)) {
                    (true, _) => VoteResult::Won,
                    (false, true) => VoteResult::Pending,
                    (false, false) => VoteResult::Lost,
                };
                assert_eq!(vote_result(&configuration, &votes), expected, "{configuration} {votes:?}");
            }
        }
    }
}

/// A commit index is what a set of servers that could win an election holds: so the winner of any later
/// election has met one of them (paper §5.4.3).
#[test]
fn what_is_reached_is_held_by_a_quorum_and_nothing_higher_is() {
    for configuration in configurations() {
        for values in (0..3_u64.pow(4)).map(|code| (0..4).map(move |digit| code / 3_u64.pow(digit) % 3)) {
            let values: BTreeMap<NodeId, u64> = (1..=4).map(n).zip(values).collect();
            let reached =
                quorum_value(&configuration, Quorum::Commit, |id| values.get(&id).copied().unwrap_or(0));
            assert_eq!(reached, slow_quorum_value(&configuration, &values), "{configuration} {values:?}");
        }
    }
}

/// Nobody to vote: nothing is decided, and no election is won.
#[test]
fn without_voters_nothing_is_decided() {
    let nobody = Configuration::default();
    assert_eq!(quorum_value(&nobody, Quorum::Commit, |_| 7), 0);
    assert_eq!(vote_result(&nobody, &BTreeMap::from([(n(1), true)])), VoteResult::Lost);
    let half = Configuration { old_voters: Some(Voters::of([n(1)])), ..Configuration::default() };
    assert_eq!(quorum_value(&half, Quorum::Election, |_| 7), 0, "one half without voters holds up the other");
}

proptest! {
    /// Larger configurations, any weights, any values.
    #[test]
    fn any_weights_and_values(
        new in proptest::collection::btree_map(1_u64..10, 0_u32..=u32::MAX, 0..8),
        old in proptest::option::of(proptest::collection::btree_map(1_u64..10, 0_u32..5, 0..8)),
        values in proptest::collection::vec(0_u64..6, 9),
    ) {
        let weighted = |votes: BTreeMap<u64, u32>| Voters::weighted(votes.into_iter().map(|(id, v)| (n(id), v)));
        let configuration = Configuration {
            voters: weighted(new),
            old_voters: old.map(weighted),
            learners: BTreeMap::new(),
        };
        let values: BTreeMap<NodeId, u64> = (1..).map(n).zip(values).collect();
        let reached = quorum_value(&configuration, Quorum::Commit, |id| values[&id]);
        prop_assert_eq!(reached, slow_quorum_value(&configuration, &values));
        let granted: BTreeSet<NodeId> = values.iter().filter(|&(_, &v)| v > 2).map(|(&id, _)| id).collect();
        prop_assert_eq!(wins(&configuration, &granted), is_quorum(&configuration, &granted));
    }
}

/// SOURCES Q5: whoever comes or goes, with whatever votes, the quorums that were set still meet.
#[test]
fn quorums_that_meet_still_do_when_a_voter_comes_or_goes() {
    let is_safe =
        |voters: &Voters| Configuration { voters: voters.clone(), ..Configuration::default() }.check();
    let mut tried = 0;
    for votes in [[1, 1, 1, 1, 1], [3, 1, 1, 1, 1], [5, 4, 3, 2, 1]] {
        let voters = Voters::weighted((1..=5).map(n).zip(votes));
        let total = voters.total_votes();
        for (election_votes, commit_votes) in (1..=total).flat_map(|e| (1..=total).map(move |c| (e, c))) {
            let set = voters.clone().with_quorums(Some(Quorums { election_votes, commit_votes }));
            if is_safe(&set).is_err() {
                continue;
            }
            tried += 1;
            for changed in
                (1..=5).map(|id| set.left_by(n(id))).chain([set.joined_by(n(6), 1), set.joined_by(n(6), 7)])
            {
                assert_eq!(is_safe(&changed), Ok(()), "{set} became {changed}");
            }
        }
    }
    assert!(tried > 100, "{tried}");
}

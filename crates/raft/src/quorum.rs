//! The arithmetic of majorities: pure functions of a configuration and of what each server has.
//!
//! One function, [`quorum_value`], serves every decision that needs a quorum: the commit index (over match
//! indexes, paper §5.3), check-quorum (over the times a server was last heard), ReadIndex (over the rounds
//! each has answered), elections (over votes). A joint configuration is the minimum of its two halves (paper §6), so no caller
//! knows about joint consensus.

use std::collections::BTreeMap;

use crate::{Configuration, NodeId, Quorum, Voters};

/// The largest value that a quorum of every half has reached: voters with a quorum of the votes hold at
/// least this. With nobody to vote, nothing is reached: the answer is the smallest value.
pub fn quorum_value<T: Ord + Copy + Default>(
    configuration: &Configuration,
    quorum: Quorum,
    value_of: impl Fn(NodeId) -> T,
) -> T {
    configuration.halves().map(|voters| half_value(voters, quorum, &value_of)).min().unwrap_or_default()
}

fn half_value<T: Ord + Copy + Default>(
    voters: &Voters,
    quorum: Quorum,
    value_of: &impl Fn(NodeId) -> T,
) -> T {
    let mut values: Vec<(T, u32)> = voters.iter().map(|(id, votes)| (value_of(id), votes)).collect();
    values.sort_unstable_by(|a, b| b.cmp(a));
    let quorum_votes = voters.quorum_votes(quorum);
    let mut votes_so_far = 0;
    for (value, votes) in values {
        votes_so_far += u64::from(votes);
        if votes_so_far >= quorum_votes {
            return value;
        }
    }
    T::default()
}

/// How an election stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VoteResult {
    /// A quorum of every half has granted.
    Won,
    /// So many have refused that it can no longer be won.
    Lost,
    /// Neither yet.
    Pending,
}

/// Counts votes. A server that is no voter, or that has not answered, counts for nothing; each voter
/// counts once, however often its answer arrived.
pub fn vote_result(configuration: &Configuration, votes: &BTreeMap<NodeId, bool>) -> VoteResult {
    let granted = quorum_value(configuration, Quorum::Election, |id| votes.get(&id) == Some(&true));
    let still_possible = quorum_value(configuration, Quorum::Election, |id| votes.get(&id) != Some(&false));
    match (granted, still_possible) {
        (true, _) => VoteResult::Won,
        (false, true) => VoteResult::Pending,
        (false, false) => VoteResult::Lost,
    }
}

#[cfg(test)]
mod tests;

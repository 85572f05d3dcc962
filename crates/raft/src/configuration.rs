//! Who votes and who listens.
//!
//! A [`Configuration`] is a value: how it changes is the log's business (it is in force from the moment it
//! is appended, paper §6). While a change runs it is *joint*: decisions need both the old voters and the
//! new ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::NodeId;

/// One set of voters, each with the number of votes it has (after Gifford; one unless said otherwise).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Voters {
    votes: BTreeMap<NodeId, u32>,
}

impl Voters {
    /// Voters with one vote each.
    pub fn of(ids: impl IntoIterator<Item = NodeId>) -> Voters {
        Voters { votes: ids.into_iter().map(|id| (id, 1)).collect() }
    }

    /// Voters with the given numbers of votes; those with none are left out.
    pub fn weighted(votes: impl IntoIterator<Item = (NodeId, u32)>) -> Voters {
        Voters { votes: votes.into_iter().filter(|&(_, votes)| votes > 0).collect() }
    }

    /// The voters and their votes, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, u32)> + '_ {
        self.votes.iter().map(|(&id, &votes)| (id, votes))
    }

    /// Whether `id` is one of them.
    pub fn contains(&self, id: NodeId) -> bool {
        self.votes.contains_key(&id)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.votes.len()
    }

    /// Whether there is none: then nothing can be decided.
    pub fn is_empty(&self) -> bool {
        self.votes.is_empty()
    }

    /// All votes together.
    pub fn total_votes(&self) -> u64 {
        self.votes.values().map(|&votes| u64::from(votes)).sum()
    }

    /// The least number of votes that any two quorums share a voter with: more than half of *all* votes,
    /// not of those alive (paper §5.1; SOURCES Q1).
    pub fn quorum_votes(&self) -> u64 {
        self.total_votes() / 2 + 1
    }
}

impl fmt::Display for Voters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (id, votes)) in self.iter().enumerate() {
            let space = if position == 0 { "" } else { " " };
            write!(f, "{space}{id}")?;
            if votes != 1 {
                write!(f, "×{votes}")?;
            }
        }
        Ok(())
    }
}

/// The members of a cluster and their part in its decisions.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Configuration {
    /// The voters (C-new, while the configuration is joint).
    pub voters: Voters,
    /// The voters that must agree as well while a change runs (C-old).
    pub old_voters: Option<Voters>,
    /// Members that receive the log and decide nothing.
    pub learners: BTreeSet<NodeId>,
}

impl Configuration {
    /// A plain configuration of voters with one vote each.
    pub fn of_voters(ids: impl IntoIterator<Item = NodeId>) -> Configuration {
        Configuration { voters: Voters::of(ids), ..Configuration::default() }
    }

    /// Whether `id` has a vote, in either half.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.halves().any(|voters| voters.contains(id))
    }

    /// Whether `id` is a voter or a learner.
    pub fn is_member(&self, id: NodeId) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// Whether a change is under way.
    pub fn is_joint(&self) -> bool {
        self.old_voters.is_some()
    }

    /// All members, each once, in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        let ids: BTreeSet<NodeId> = self
            .halves()
            .flat_map(|voters| voters.iter().map(|(id, _)| id))
            .chain(self.learners.iter().copied())
            .collect();
        ids.into_iter()
    }

    /// The sets of voters of which each must give a quorum: one, or two while joint.
    pub fn halves(&self) -> impl Iterator<Item = &Voters> + '_ {
        std::iter::once(&self.voters).chain(self.old_voters.as_ref())
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}", self.voters)?;
        if let Some(old) = &self.old_voters {
            write!(f, " & {old}")?;
        }
        if !self.learners.is_empty() {
            write!(f, " +")?;
            for id in &self.learners {
                write!(f, " {id}")?;
            }
        }
        write!(f, "}}")
    }
}

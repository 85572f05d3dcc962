//! Who votes and who listens.
//!
//! A [`Configuration`] is a value: how it changes is the log's business (it is in force from the moment it
//! is appended, paper §6). While a change runs it is *joint*: decisions need both the old voters and the
//! new ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::NodeId;

/// What a decision is about: the two kinds may need different numbers of votes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quorum {
    /// To elect a leader.
    Election,
    /// To commit an entry; also to go on leading, and to confirm a read.
    Commit,
}

/// How many votes each kind of decision needs (SOURCES Q5: replicas written and read can be set to the
/// workload, trading reliability against speed).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quorums {
    /// The votes that elect a leader.
    pub election_votes: u64,
    /// The votes that commit an entry.
    pub commit_votes: u64,
}

/// One set of voters, each with the number of votes it has (after Gifford; one unless said otherwise).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Voters {
    votes: BTreeMap<NodeId, u32>,
    /// None: a majority for either.
    quorums: Option<Quorums>,
}

impl Voters {
    /// Voters with one vote each.
    pub fn of(ids: impl IntoIterator<Item = NodeId>) -> Voters {
        Voters::weighted(ids.into_iter().map(|id| (id, 1)))
    }

    /// Voters with the given numbers of votes; those with none are left out.
    pub fn weighted(votes: impl IntoIterator<Item = (NodeId, u32)>) -> Voters {
        Voters { votes: votes.into_iter().filter(|&(_, votes)| votes > 0).collect(), quorums: None }
    }

    /// The same voters with quorums of their own; without any, a majority decides.
    #[must_use]
    pub fn with_quorums(self, quorums: Option<Quorums>) -> Voters {
        Voters { quorums, ..self }
    }

    /// These voters and one more. Where quorums were set, its votes are added to those that elect, and commits cost
    /// what they did: so all that had to meet still does.
    #[must_use]
    pub fn joined_by(&self, id: NodeId, votes: u32) -> Voters {
        let quorums = self
            .quorums
            .map(|quorums| Quorums { election_votes: quorums.election_votes + u64::from(votes), ..quorums });
        Voters::weighted(self.iter().chain([(id, votes)])).with_quorums(quorums)
    }

    /// These voters without one. Where quorums were set, elections need fewer votes by as many as it had, as far as
    /// two elections still meet, and commits no more than there are.
    #[must_use]
    pub fn left_by(&self, id: NodeId) -> Voters {
        let rest = Voters::weighted(self.iter().filter(|&(voter, _)| voter != id));
        let (total_votes, gone) = (rest.total_votes(), self.total_votes() - rest.total_votes());
        let quorums = self.quorums.map(|Quorums { election_votes, commit_votes }| Quorums {
            election_votes: election_votes.saturating_sub(gone).max(total_votes / 2 + 1),
            commit_votes: commit_votes.min(total_votes),
        });
        rest.with_quorums(quorums)
    }

    /// The quorums that were set, if any were.
    pub fn quorums(&self) -> Option<Quorums> {
        self.quorums
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

    /// How many votes a decision needs: unless set otherwise more than half of *all* votes, not of those
    /// alive (paper §5.1; SOURCES Q1), so that any two quorums share a voter.
    pub fn quorum_votes(&self, quorum: Quorum) -> u64 {
        match (self.quorums, quorum) {
            (None, _) => self.total_votes() / 2 + 1,
            (Some(quorums), Quorum::Election) => quorums.election_votes,
            (Some(quorums), Quorum::Commit) => quorums.commit_votes,
        }
    }

    /// What keeps these voters from deciding safely, if anything does.
    fn check(&self) -> Result<(), InvalidConfiguration> {
        let total_votes = self.total_votes();
        if total_votes == 0 {
            return Err(InvalidConfiguration::NoVoters);
        }
        let Some(quorums) = self.quorums else { return Ok(()) };
        let Quorums { election_votes, commit_votes } = quorums;
        // Two leaders of a term would each have an election quorum; a leader that lacks a committed entry would
        // have one that no commit quorum meets.
        let meet = |one: u64, other: u64| one.saturating_add(other) > total_votes;
        let is_safe = meet(election_votes, election_votes) && meet(election_votes, commit_votes);
        let is_possible = election_votes <= total_votes && (1..=total_votes).contains(&commit_votes);
        if is_safe && is_possible {
            Ok(())
        } else {
            Err(InvalidConfiguration::QuorumsDoNotMeet { quorums, total_votes })
        }
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
        if let Some(Quorums { election_votes, commit_votes }) = self.quorums {
            write!(f, " elect {election_votes} commit {commit_votes}")?;
        }
        Ok(())
    }
}

/// What becomes of a member that only receives the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Learner {
    /// It stays one until somebody promotes it.
    Waits,
    /// It becomes a voter by itself, once it has caught up.
    Joins {
        /// With so many votes.
        votes: u32,
    },
}

/// Why a set of members could not decide safely, or not at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InvalidConfiguration {
    /// Nobody could decide anything.
    #[error("there is no voter")]
    NoVoters,
    /// It cannot be both.
    #[error("{id} is named as a voter and as a learner")]
    VoterAndLearner {
        /// Which member.
        id: NodeId,
    },
    /// The quorums cannot be reached, or two of them could decide against each other.
    #[error(
        "{} votes to elect and {} to commit of {total_votes} in all: two election quorums must meet, and an election \
         quorum every commit quorum",
        quorums.election_votes, quorums.commit_votes
    )]
    QuorumsDoNotMeet {
        /// What was asked for.
        quorums: Quorums,
        /// All votes together.
        total_votes: u64,
    },
}

/// The members of a cluster and their part in its decisions.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Configuration {
    /// The voters (C-new, while the configuration is joint).
    pub voters: Voters,
    /// The voters that must agree as well while a change runs (C-old).
    pub old_voters: Option<Voters>,
    /// Members that receive the log and decide nothing.
    pub learners: BTreeMap<NodeId, Learner>,
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
        self.is_voter(id) || self.learners.contains_key(&id)
    }

    /// Whether it names nobody: a server that joins has no other until it hears of one.
    pub fn is_empty(&self) -> bool {
        self.halves().all(Voters::is_empty) && self.learners.is_empty()
    }

    /// Whether a change is under way.
    pub fn is_joint(&self) -> bool {
        self.old_voters.is_some()
    }

    /// What keeps it from being a configuration, if anything does.
    pub fn check(&self) -> Result<(), InvalidConfiguration> {
        self.halves().try_for_each(Voters::check)?;
        // While joint, an old voter may be on its way to being a learner.
        match self.learners.keys().find(|&&id| self.voters.contains(id)) {
            Some(&id) => Err(InvalidConfiguration::VoterAndLearner { id }),
            None => Ok(()),
        }
    }

    /// The way from this configuration to `target` (paper §6): C-old,new where voters change. Learners decide
    /// nothing, so they come and go in one step.
    pub(crate) fn on_the_way_to(&self, target: &Configuration) -> Configuration {
        let old_voters = (self.voters != target.voters).then(|| self.voters.clone());
        Configuration { old_voters, ..target.clone() }
    }

    /// What follows a joint configuration: C-new.
    pub(crate) fn without_old_voters(&self) -> Configuration {
        Configuration { old_voters: None, ..self.clone() }
    }

    /// All members, each once, in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        let ids: BTreeSet<NodeId> = self
            .halves()
            .flat_map(|voters| voters.iter().map(|(id, _)| id))
            .chain(self.learners.keys().copied())
            .collect();
        ids.into_iter()
    }

    /// The sets of voters of which each must give a quorum: one, or two while joint.
    pub fn halves(&self) -> impl Iterator<Item = &Voters> + '_ {
        std::iter::once(&self.voters).chain(self.old_voters.as_ref())
    }
}

/// `{n1 n2×3 & n3 + n4 n5!}`: the voters, the old voters, the learners; `!` marks one that is to become a voter.
impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}", self.voters)?;
        if let Some(old) = &self.old_voters {
            write!(f, " & {old}")?;
        }
        if !self.learners.is_empty() {
            write!(f, " +")?;
            for (id, learner) in &self.learners {
                match learner {
                    Learner::Waits => write!(f, " {id}")?,
                    Learner::Joins { votes: 1 } => write!(f, " {id}!")?,
                    Learner::Joins { votes } => write!(f, " {id}!×{votes}")?,
                }
            }
        }
        write!(f, "}}")
    }
}

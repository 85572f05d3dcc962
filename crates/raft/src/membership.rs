//! Changes of the members by joint consensus (paper §6, SOURCES C1–C5).
//!
//! ```text
//!   C-old ────────▶ C-old,new ────────▶ C-new
//!         asked for           committed        committed: who is not in it may go
//! ```
//!
//! From any set of voters and learners to any other in one change. Every configuration is in force from the
//! moment it is appended, and goes with its entry if that is cut off: the log sees to it
//! ([`RaftLog::configuration`](crate::RaftLog::configuration)). What is left for the leader is to begin a
//! change, to end it, whoever began it, and to step down if it leads to a cluster without itself.
//!
//! One change at a time, and none before the leader has committed an entry of its term: else two changes, of
//! this leader and of one before it, could lead to majorities that share nobody (Ongaro's message to raft-dev
//! of July 2015 shows it for changes of one server).

use crate::progress::Progress;
use crate::role::{Leader, Role};
use crate::{
    Configuration, EntryId, Event, Index, InvalidConfiguration, Learner, LogSlice, Message, Node, NodeId,
    Payload, Quorum, StepDownReason, Time, Voters,
};

/// Why the members are not changed. No entry was made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChangeError {
    /// Another server leads, perhaps this one.
    #[error("not the leader")]
    NotLeader {
        /// Who may lead.
        leader_id: Option<NodeId>,
    },
    /// Leadership is being handed over.
    #[error("leadership is being transferred to {target}")]
    TransferInProgress {
        /// To whom.
        target: NodeId,
    },
    /// The leader has not committed an entry of its term yet.
    #[error("the leader is new: its first entry is not committed yet")]
    TooEarly,
    /// Another change is not committed yet.
    #[error("another change of the members is under way")]
    InProgress,
    /// The cluster is as it is asked to be.
    #[error("the members are these already")]
    Unchanged,
    /// The configuration could not decide safely.
    #[error(transparent)]
    Invalid(#[from] InvalidConfiguration),
    /// Those that can be reached could decide nothing any more.
    #[error("would need {needed} of {of} votes, {reachable} are reachable")]
    WouldLoseQuorum {
        /// How many votes the new configuration needs to decide.
        needed: u64,
        /// Of how many.
        of: u64,
        /// How many votes the servers have that have answered lately.
        reachable: u64,
    },
}

impl Node {
    /// Changes the cluster to the members of `target`: appends C-old,new, or `target` itself where no voter
    /// changes; the rest follows by itself. The change is done when a configuration with these voters and
    /// without old ones is committed; it may still be lost if leadership is.
    ///
    /// A change after which those that answer would be no quorum is refused, unless it is forced.
    pub fn change_membership(
        &mut self,
        now: Time,
        target: &Configuration,
        force: bool,
    ) -> Result<EntryId, ChangeError> {
        self.observe(now);
        self.check_leadership();
        let leader_id = self.leader_id();
        let Role::Leader(leader) = &self.role else { return Err(ChangeError::NotLeader { leader_id }) };
        if let Some(transfer) = &leader.transfer {
            return Err(ChangeError::TransferInProgress { target: transfer.target });
        }
        self.begin_change(target, force)
    }

    fn begin_change(&mut self, target: &Configuration, force: bool) -> Result<EntryId, ChangeError> {
        let Role::Leader(leader) = &self.role else { return Err(ChangeError::NotLeader { leader_id: None }) };
        if self.log.commit_index < leader.first_index_of_term {
            return Err(ChangeError::TooEarly);
        }
        if self.configuration().is_joint() || !self.is_configuration_committed() {
            return Err(ChangeError::InProgress);
        }
        let target = target.without_old_voters();
        target.check()?;
        if target == *self.configuration() {
            return Err(ChangeError::Unchanged);
        }
        if !force {
            self.check_reachable(leader, &target.voters)?;
        }
        let next = self.configuration().on_the_way_to(&target);
        Ok(self.append_configuration(next))
    }

    /// Whether the newest configuration in the log is committed.
    fn is_configuration_committed(&self) -> bool {
        self.log.configuration_index() <= self.log.commit_index
    }

    /// Whether the voters that have answered lately could elect and commit by themselves.
    fn check_reachable(&self, leader: &Leader, voters: &Voters) -> Result<(), ChangeError> {
        let answers = |id: NodeId| {
            id == self.id
                || leader.progress.get(&id).is_some_and(|progress| self.has_answered_lately(progress))
        };
        let reachable = voters.iter().filter(|&(id, _)| answers(id)).map(|(_, votes)| u64::from(votes)).sum();
        let needed = voters.quorum_votes(Quorum::Election).max(voters.quorum_votes(Quorum::Commit));
        if reachable >= needed {
            Ok(())
        } else {
            Err(ChangeError::WouldLoseQuorum { needed, of: voters.total_votes(), reachable })
        }
    }

    fn has_answered_lately(&self, progress: &Progress) -> bool {
        progress.match_index > Index(0)
            && self.now.since_us(progress.last_heard) < self.options.election_timeout_us
    }

    /// The only place where configurations are made.
    fn append_configuration(&mut self, configuration: Configuration) -> EntryId {
        let id = self.append_as_leader(Payload::Configuration(configuration));
        let next_index = id.index;
        self.event(Event::ConfigurationChanged { configuration: self.configuration().clone() });
        let newcomers: Vec<NodeId> = self.configuration().members().filter(|&id| id != self.id).collect();
        let now = self.now;
        if let Role::Leader(leader) = &mut self.role {
            for id in newcomers {
                // Who leaves is told of it as long as the change runs: see `end_change`.
                leader.progress.entry(id).or_insert_with(|| Progress::new(now, next_index));
            }
        }
        id
    }

    /// What a leader does for a change by itself: C-new follows when C-old,new is committed, be it this
    /// leader's or that of one before it, and learners that are to be voters become some.
    pub(crate) fn advance_change(&mut self) {
        if !self.is_configuration_committed() {
            return;
        }
        if self.configuration().is_joint() {
            let next = self.configuration().without_old_voters();
            self.append_configuration(next);
        } else if !self.configuration().learners.is_empty() {
            self.promote_learners();
        }
    }

    /// A learner that is to become a voter becomes one when it has caught up: earlier it could only hold the
    /// others up (thesis §4.2.1).
    fn promote_learners(&mut self) {
        let Role::Leader(Leader { transfer: None, .. }) = &self.role else { return };
        let mut target = self.configuration().clone();
        for (&id, &learner) in &self.configuration().learners {
            if let Learner::Joins { votes } = learner
                && self.is_caught_up(id)
            {
                target.learners.remove(&id);
                target.voters = target.voters.joined_by(id, votes);
            }
        }
        if target.voters != self.configuration().voters {
            // Where it is refused, it is tried again: a quorum may answer later.
            let _ = self.begin_change(&target, false);
        }
    }

    /// Whether a follower of this leader lacks no more than what came in during the last election timeout
    /// (thesis §4.2.1).
    pub fn is_caught_up(&self, id: NodeId) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let limit_us = self.options.election_timeout_us;
        leader.progress.get(&id).is_some_and(|progress| {
            progress.is_caught_up(self.now, limit_us) && self.has_answered_lately(progress)
        })
    }

    /// The change is done: who is no member any more has had the chance to hear of it. A leader that is not
    /// among the voters has managed a cluster without itself until now; it goes, and asks the voter that is
    /// furthest to take over at once, so that nobody has to wait for a timeout (paper §6, SOURCES C4).
    pub(crate) fn end_change(&mut self) {
        if self.configuration().is_joint() || !self.is_configuration_committed() {
            return;
        }
        let Role::Leader(leader) = &self.role else { return };
        let is_leaver = |id: &NodeId| !self.configuration().is_member(*id);
        let leavers: Vec<NodeId> = leader.progress.keys().copied().filter(is_leaver).collect();
        for id in leavers {
            self.take_leave(id);
        }
        if self.configuration().is_voter(self.id) {
            return;
        }
        if let Some(successor) = self.best_successor(self.now) {
            self.send(successor, Message::TimeoutNow);
        }
        self.stop_leading(StepDownReason::Removed);
        self.become_follower(self.current_term(), None);
    }

    /// Forgets who leaves. It may not have answered yet that it has C-new, and will not be heard when it does: so that it
    /// knows that C-new is committed, an append without entries says so, behind those that it was sent.
    fn take_leave(&mut self, id: NodeId) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.remove(&id) else { return };
        let c_new = self.log.id_at(self.log.configuration_index());
        if progress.next_index > c_new.index && progress.sent_commit < c_new.index {
            let slice = LogSlice::parse(c_new, Vec::new()).expect("no entries are contiguous");
            self.send(id, Message::AppendEntries { slice, leader_commit: self.log.commit_index });
        }
    }
}

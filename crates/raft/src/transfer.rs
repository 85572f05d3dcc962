//! Leadership transfer (thesis §3.10, SOURCES L4).

use crate::progress::ProgressState;
use crate::role::{Follower, Role, Transfer};
use crate::{Event, Message, Node, NodeId, Time};

/// Why leadership is not handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TransferError {
    /// Only a leader can.
    #[error("not the leader")]
    NotLeader {
        /// Who may lead.
        leader_id: Option<NodeId>,
    },
    /// The target has no vote, so it could not win.
    #[error("{target} is no voter")]
    NotAVoter {
        /// The target.
        target: NodeId,
    },
}

impl Node {
    /// The voter that can take leadership over soonest: of those heard within two heartbeats, which one that has just
    /// died is not for long, the furthest. None if there is no other voter, or this server does not lead.
    pub fn best_successor(&self, now: Time) -> Option<NodeId> {
        let Role::Leader(leader) = &self.role else { return None };
        let lately = Time(now.0.saturating_sub(2 * self.options.heartbeat_interval_us));
        let voters = leader.progress.iter().filter(|&(&id, _)| self.configuration().is_voter(id));
        let best = voters.max_by_key(|(_, progress)| {
            // A connection that broke makes a probe of a stream.
            let streams = matches!(progress.state, ProgressState::Replicate { .. });
            (progress.last_heard >= lately, streams, progress.match_index)
        });
        best.map(|(&id, _)| id)
    }

    /// Hands leadership to `target`: no more proposals are taken, the target is brought up to date, then
    /// told to campaign at once. If that takes longer than an election timeout it is called off.
    pub fn transfer_leadership(&mut self, now: Time, target: NodeId) -> Result<(), TransferError> {
        self.now = self.now.max(now);
        let deadline = self.now.after(self.options.election_timeout_us);
        let is_voter = self.configuration().is_voter(target);
        let leader_id = self.leader_id();
        let Role::Leader(leader) = &mut self.role else {
            return Err(TransferError::NotLeader { leader_id });
        };
        if !is_voter {
            return Err(TransferError::NotAVoter { target });
        }
        if target == self.id {
            return Ok(());
        }
        leader.transfer = Some(Transfer { target, deadline, sent: false });
        self.event(Event::TransferStarted { target });
        Ok(())
    }

    /// A leader that has to step down though its followers are well has the one that is furthest campaign at once: to
    /// wait until somebody misses it would be time lost. (Who is not far enough is not elected, and nothing is worse.)
    pub(crate) fn name_successor(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let voters = leader.progress.iter().filter(|&(&id, _)| self.configuration().is_voter(id));
        let furthest = voters.max_by_key(|(_, progress)| (progress.match_index, progress.last_heard));
        if let Some((&target, _)) = furthest {
            self.send(target, Message::TimeoutNow);
        }
    }

    /// Tells the target to campaign once its log is as long as ours. It must not do so earlier: it could
    /// not win.
    pub(crate) fn advance_transfer(&mut self) {
        let last_index = self.log.last_index();
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(transfer) = &mut leader.transfer else { return };
        let target = transfer.target;
        let caught_up = leader.progress.get(&target).is_some_and(|p| p.match_index == last_index);
        if caught_up && !transfer.sent {
            transfer.sent = true;
            self.send(target, Message::TimeoutNow);
        }
    }

    /// Thesis §3.10: "If leadership transfer does not complete after about an election timeout, the prior
    /// leader aborts the transfer and resumes accepting client requests."
    pub(crate) fn abort_late_transfer(&mut self) {
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(transfer) = leader.transfer.take_if(|transfer| transfer.deadline <= now) {
            self.event(Event::TransferAborted { target: transfer.target });
        }
    }

    /// The leader of our term wants us to take over.
    pub(crate) fn on_timeout_now(&mut self) {
        if let Role::Follower(Follower { .. }) = self.role
            && self.may_campaign()
            && !self.is_disk_stalled()
        {
            self.campaign(true);
        }
    }
}

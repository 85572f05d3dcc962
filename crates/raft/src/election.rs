//! Elections (paper §5.2, §5.4.1), PreVote and the protection of a living leader (thesis §4.2.3, §9.6).

use std::collections::BTreeMap;

use crate::progress::Progress;
use crate::quorum::{VoteResult, quorum_value, vote_result};
use crate::read_index::LeaderReads;
use crate::role::{Campaign, Follower, Leader, Role};
use crate::{
    EntryId, Envelope, Event, HardState, Message, Node, NodeId, Payload, Quorum, StepDownReason, Term, Time,
    VoteRefusal,
};

impl Node {
    // ---- Timeouts -----------------------------------------------------------------------------------

    /// No leader was heard in time, or a campaign came to nothing (SOURCES E1, E3).
    pub(crate) fn on_election_timeout(&mut self) {
        if self.may_campaign() && !self.is_disk_stalled() {
            self.pre_campaign();
        } else {
            // It could not win: what it asks for must not leave before its own vote is durable. Others who would vote
            // for it wait in vain.
            self.await_election();
        }
    }

    /// Waits for others to elect, for as long as for a leader.
    fn await_election(&mut self) {
        if let Role::PreCandidate(_) | Role::Candidate(_) = self.role {
            self.become_follower(self.current_term(), None);
        }
        self.reset_election_deadline();
    }

    /// The connection to the leader broke. If the leader is dead, to wait out the timeout is time lost; if
    /// it is not, the PreVote that follows will be refused by those who still hear it. The random delay
    /// keeps the followers of a dead leader from splitting the vote.
    pub(crate) fn on_leader_unreachable(&mut self) {
        let delay_us = self.random.below(self.options.broken_connection_spread_us);
        let soon = self.now.after(delay_us);
        if let Role::Follower(follower) = &mut self.role {
            follower.heard_at = None;
            follower.election_deadline = follower.election_deadline.min(soon);
        }
    }

    /// Draws a new election timeout (paper §5.2: "randomized election timeouts").
    pub(crate) fn reset_election_deadline(&mut self) {
        let spread_us = self.random.below(self.options.election_spread_us);
        let deadline = self.now.after(self.options.election_timeout_us + spread_us);
        if let Role::Follower(follower) = &mut self.role {
            follower.election_deadline = deadline;
        }
    }

    /// A campaign that is neither won nor lost is tried again sooner than a silent leader is given up: a
    /// PreVote disturbs nobody, and after a split vote there is no leader to wait for. But every candidacy
    /// that fails doubles the patience with the next, up to a whole election timeout: where messages or
    /// disks are slow, an election would otherwise begin before the one before has ended, for ever (SOURCES
    /// E5). The transcript `candidates_with_slow_disks_grow_patient` plays it.
    fn campaign_deadline(&mut self, failed: u32) -> Time {
        const MOST_DOUBLINGS: u32 = 2;
        let patience_us = (self.options.election_timeout_us / 4) << failed.min(MOST_DOUBLINGS);
        self.now.after(patience_us + self.random.below(patience_us))
    }

    /// Only voters campaign, and nobody whose log is just being replaced by a snapshot. Who is a voter no more
    /// by a change that is not known to be committed still may: it can be the only one that holds the change
    /// and can be elected (thesis §4.2.2). It counts only the votes of others. What is not known to be committed
    /// can be several changes, after a restart.
    pub(crate) fn may_campaign(&self) -> bool {
        let has_a_vote = self.log.configurations_in_question().any(|known| known.is_voter(self.id));
        has_a_vote && !self.is_installing()
    }

    /// Whether a write has been under way for so long that no vote of our own is to be expected to become durable.
    pub(crate) fn is_disk_stalled(&self) -> bool {
        let stalled_at = |since: Time| since.after(self.options.disk_stall_timeout_us);
        self.writes.oldest_since().is_some_and(|since| stalled_at(since) <= self.now)
    }

    // ---- Campaigns ----------------------------------------------------------------------------------

    /// Asks whether an election could be won before it raises the term, so that a server that was cut off
    /// does not depose a leader when it comes back (thesis §9.6).
    fn pre_campaign(&mut self) {
        self.fail_asked_reads();
        let proposed_term = self.current_term().next();
        let failed = match &self.role {
            Role::Candidate(campaign) => campaign.failed + 1,
            Role::PreCandidate(campaign) => campaign.failed,
            Role::Follower(_) | Role::Leader(_) => 0,
        };
        let deadline = self.campaign_deadline(0);
        let votes = BTreeMap::from([(self.id, true)]);
        self.role = Role::PreCandidate(Campaign { votes, began: self.now, deadline, failed });
        self.event(Event::BecamePreCandidate { proposed_term });
        let last = self.log.last();
        self.ask_voters(&Message::PreVote { proposed_term, last });
        self.count_votes();
    }

    /// Raises the term, votes for itself and asks the others (paper §5.2).
    pub(crate) fn campaign(&mut self, leadership_transfer: bool) {
        self.fail_asked_reads();
        let term = self.current_term().next();
        self.hard_state = HardState { current_term: term, voted_for: Some(self.id) };
        // Answers of the old term that still wait for the disk are over with it.
        self.after_disk.clear();
        let failed = match &self.role {
            Role::PreCandidate(campaign) => campaign.failed,
            Role::Follower(_) | Role::Candidate(_) | Role::Leader(_) => 0,
        };
        let deadline = self.campaign_deadline(failed);
        // Its own vote is counted once it is durable, like everybody's.
        self.role = Role::Candidate(Campaign { votes: BTreeMap::new(), began: self.now, deadline, failed });
        self.event(Event::BecameCandidate { term });
        let last = self.log.last();
        self.ask_voters(&Message::RequestVote { last, leadership_transfer });
    }

    fn ask_voters(&mut self, request: &Message) {
        let voters: Vec<NodeId> = self.configuration().members().collect();
        for id in voters {
            if id != self.id && self.configuration().is_voter(id) {
                self.send(id, request.clone());
            }
        }
    }

    /// Called when a write is durable: if it was the candidate's own vote, that counts now.
    pub(crate) fn count_own_vote(&mut self) {
        if let Role::Candidate(campaign) = &mut self.role
            && self.durable_hard_state == self.hard_state
            && campaign.votes.insert(self.id, true).is_none()
        {
            self.count_votes();
        }
    }

    fn count_votes(&mut self) {
        let campaign = match &self.role {
            Role::PreCandidate(campaign) => campaign,
            // Its requests leave as soon as its own vote is durable, so answers can be here before word of
            // that write is. They are kept, and counted with its own.
            Role::Candidate(campaign) if self.durable_hard_state == self.hard_state => campaign,
            Role::Candidate(_) | Role::Follower(_) | Role::Leader(_) => return,
        };
        let result = vote_result(self.configuration(), &campaign.votes);
        // A lost campaign waits for word from a leader or for its own deadline, as an open one does.
        if result == VoteResult::Won {
            match self.role {
                Role::PreCandidate(_) => self.campaign(false),
                Role::Candidate(_) => self.become_leader(),
                Role::Follower(_) | Role::Leader(_) => {}
            }
        }
    }

    fn become_leader(&mut self) {
        assert_eq!(self.hard_state.voted_for, Some(self.id), "a leader has voted for itself");
        assert_eq!(self.durable_hard_state, self.hard_state, "a leader's own vote is durable");
        // A leader has all that is committed (paper §5.4.3): what was arriving brings it nothing.
        self.incoming = None;
        let last = self.log.last();
        let next_index = last.index.next();
        let others = self.configuration().members().filter(|&id| id != self.id);
        let progress = others.map(|id| (id, Progress::new(self.now, next_index))).collect();
        let uncommitted_bytes = self.log.bytes_between(self.log.commit_index.next(), last.index);
        self.role = Role::Leader(Leader {
            progress,
            heartbeat_deadline: self.now.after(self.options.heartbeat_interval_us),
            first_index_of_term: next_index,
            uncommitted_bytes,
            reads: LeaderReads::default(),
            transfer: None,
        });
        self.event(Event::BecameLeader { term: self.current_term(), last });
        // The blank entry commits what earlier terms left (paper §5.4.2) and opens the way for reads (§8).
        // Sent at once, it also makes the leader known (SOURCES E4).
        self.append_as_leader(Payload::Empty);
    }

    // ---- Votes --------------------------------------------------------------------------------------

    /// Whether this server leads with a quorum behind it, or has heard a leader within the minimum
    /// election timeout.
    pub(crate) fn leader_is_alive(&self) -> bool {
        match &self.role {
            Role::Leader(_) => true,
            Role::Follower(Follower { leader_id: Some(_), heard_at: Some(heard_at), .. }) => {
                self.now.since_us(*heard_at) < self.options.election_timeout_us
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    /// Refuses who asks for a vote while a leader is alive. An election that the leader itself asked for
    /// is no disturbance; it asks only voters for one. Returns whether the message was dealt with.
    pub(crate) fn refuse_disturbance(&mut self, envelope: &Envelope) -> bool {
        let candidate = envelope.from;
        let reply = match envelope.message {
            Message::PreVote { proposed_term, .. } => Message::PreVoteReply { proposed_term, granted: false },
            Message::RequestVote { leadership_transfer, .. }
                if !leadership_transfer || !self.knows(candidate) =>
            {
                Message::RequestVoteReply { granted: false }
            }
            _ => return false,
        };
        self.event(Event::VoteRefused { candidate, why: VoteRefusal::LeaderAlive });
        self.send(candidate, reply);
        true
    }

    /// Granting a pre-vote changes nothing here: neither the vote nor the timer, since the sender may
    /// never campaign.
    pub(crate) fn on_pre_vote(&mut self, from: NodeId, proposed_term: Term, last: EntryId) {
        let refusal = if proposed_term <= self.current_term() {
            Some(VoteRefusal::TermBehind)
        } else if last < self.log.last() {
            Some(VoteRefusal::LogBehind)
        } else {
            None
        };
        if let Some(why) = refusal {
            self.event(Event::VoteRefused { candidate: from, why });
        }
        self.send(from, Message::PreVoteReply { proposed_term, granted: refusal.is_none() });
    }

    /// Votes are asked for and given without a look at our own configuration: it may be older than the
    /// candidate's (thesis §4.2.2). The candidate counts only those that its own configuration names.
    pub(crate) fn on_request_vote(&mut self, from: NodeId, last: EntryId) {
        let refusal = if self.hard_state.voted_for.is_some_and(|candidate| candidate != from) {
            Some(VoteRefusal::AlreadyVoted)
        } else if self.hard_state.voted_for.is_none() && self.leader_id().is_some() {
            // The term has its leader: no vote can be needed.
            Some(VoteRefusal::AlreadyVoted)
        } else if last < self.log.last() {
            // Up to date: the later last term, then the longer log (paper §5.4.1).
            Some(VoteRefusal::LogBehind)
        } else {
            None
        };
        match refusal {
            Some(why) => self.event(Event::VoteRefused { candidate: from, why }),
            None => self.grant_vote(from),
        }
        self.send(from, Message::RequestVoteReply { granted: refusal.is_none() });
    }

    fn grant_vote(&mut self, candidate: NodeId) {
        let term = self.current_term();
        if self.hard_state.voted_for.is_none() {
            self.hard_state.voted_for = Some(candidate);
            self.event(Event::VoteGranted { term, candidate });
        }
        // The candidate gets its time: whoever votes does not compete with whom it votes for.
        if let Role::PreCandidate(_) = self.role {
            self.become_follower(term, None);
        }
        self.reset_election_deadline();
    }

    pub(crate) fn on_pre_vote_reply(&mut self, from: NodeId, proposed_term: Term, granted: bool) {
        let expected = self.current_term().next();
        if let Role::PreCandidate(campaign) = &mut self.role
            && proposed_term == expected
        {
            campaign.votes.entry(from).or_insert(granted);
            self.count_votes();
        }
    }

    /// The envelope's term is ours, so this answers our only campaign in it.
    pub(crate) fn on_request_vote_reply(&mut self, from: NodeId, granted: bool) {
        let Role::Candidate(campaign) = &mut self.role else { return };
        let is_first_refusal = !granted && campaign.votes.values().all(|&granted| granted);
        campaign.votes.entry(from).or_insert(granted);
        if is_first_refusal {
            self.prepare_for_split_vote();
        }
        self.count_votes();
    }

    /// Its pre-vote went well, so who refuses now has just voted for a rival. If the rival wins, we shall hear
    /// it at once; if the vote is split, all patience is time lost. The next attempt comes within ten times
    /// what it took to get this answer: the spread at which a second split is rare (SOURCES E5).
    fn prepare_for_split_vote(&mut self) {
        let Role::Candidate(campaign) = &self.role else { return };
        let spread_us = 10 * self.now.since_us(campaign.began);
        let spread_us = spread_us.max(self.options.broken_connection_spread_us);
        let soon = self.now.after(1 + self.random.below(spread_us));
        if let Role::Candidate(campaign) = &mut self.role {
            campaign.deadline = campaign.deadline.min(soon);
        }
    }

    // ---- Leaders ------------------------------------------------------------------------------------

    /// Word from the leader of our term. Returns false if it cannot be one.
    pub(crate) fn follow(&mut self, leader: NodeId) -> bool {
        match &mut self.role {
            Role::Follower(Follower { leader_id: Some(known), heard_at, .. }) if *known == leader => {
                *heard_at = Some(self.now);
                self.leader_seen_at = self.now;
                self.reset_election_deadline();
                true
            }
            // At most one leader a term (paper §5.2): a second one is no member of a working cluster.
            Role::Leader(_) | Role::Follower(Follower { leader_id: Some(_), .. }) => false,
            Role::Follower(Follower { leader_id: None, .. }) | Role::PreCandidate(_) | Role::Candidate(_) => {
                self.become_follower(self.current_term(), Some(leader));
                self.leader_seen_at = self.now;
                true
            }
        }
    }

    /// A leader that a quorum has not answered for an election timeout stops at once, on every kind of
    /// traffic, so that it keeps no voter from electing another (thesis §6.2, SOURCES E9). So does one
    /// whose disk has stopped.
    pub(crate) fn check_leadership(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let reason = if self.quorum_heard_at(leader).after(self.options.election_timeout_us) <= self.now {
            StepDownReason::LostQuorum
        } else if self.disk_deadline() <= self.now {
            self.name_successor();
            StepDownReason::DiskStalled
        } else {
            return;
        };
        self.stop_leading(reason);
        self.become_follower(self.current_term(), None);
    }

    /// The latest time at which a quorum had been heard.
    pub(crate) fn quorum_heard_at(&self, leader: &Leader) -> Time {
        quorum_value(self.configuration(), Quorum::Commit, |id| {
            if id == self.id { self.now } else { leader.progress.get(&id).map_or(Time(0), |p| p.last_heard) }
        })
    }

    /// When the oldest write under way, or the oldest reading of the log, counts as stalled: a leader that cannot read
    /// cannot bring its followers to where they could commit, and need not have anything to write.
    pub(crate) fn disk_deadline(&self) -> Time {
        let reading = match &self.role {
            Role::Leader(leader) => leader.progress.values().filter_map(Progress::loading_since).min(),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
        };
        let since = self.writes.oldest_since().into_iter().chain(reading).min();
        since.map_or(Time::NEVER, |since| since.after(self.options.disk_stall_timeout_us))
    }

    /// Lets go of everything that only a leader has. Proposals are not touched: their entries may yet be
    /// committed by another leader.
    pub(crate) fn stop_leading(&mut self, reason: StepDownReason) {
        let term = self.current_term();
        self.event(Event::SteppedDown { term, reason });
        self.fail_leader_reads();
        self.leader_seen_at = self.now;
        self.role = Role::Follower(Follower::new(self.now, None));
    }
}

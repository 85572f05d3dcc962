//! What a member does for changes of the members: it asks the leader for those that its clients want, and brings
//! about, as the leader, what it is asked for.
//!
//! The books, and which step comes next, are in [`member_changes`](crate::member_changes).

use tenure_raft::{ChangeError, Configuration, EntryId, NodeId, RoleKind, Term, Time};
use tenure_store::{Command, Member};

use super::Replica;
use crate::Identity;
use crate::command::{self, Origin};
use crate::job::{Failure, Job, Reply, RequestId};
use crate::member_changes::{Asker, ChangeAnswer, ChangeRefusal, MemberChange, NextStep, View, Wanted};
use crate::message::{ChangeMembers, MembersChanged, PeerMessage};

/// What this member wants the others to know.
#[derive(Debug, Default)]
pub(super) struct Publication {
    /// Of itself.
    pub(super) member: Option<Member>,
    /// The write that says so, while it is under way.
    pub(super) request: Option<RequestId>,
    /// Of the cluster's first members, which nobody has added.
    pub(super) first_members: Vec<Member>,
    /// The term in which it has told the others of all of those, as the leader.
    introduced_in: Term,
    /// The last addresses that it has written down, as a leader.
    last_written: EntryId,
}

impl Replica {
    /// Has the cluster know this member's name and addresses, as soon as and as often as needed.
    pub fn publish(&mut self, member: Member) {
        self.publication.member = Some(member);
    }

    /// Has the cluster know where its first members are reached, should this one lead before they have said it.
    pub fn introduce(&mut self, first_members: Vec<Member>) {
        self.publication.first_members = first_members;
    }

    pub(super) fn first_members(&self) -> &[Member] {
        &self.publication.first_members
    }

    /// Takes a change of the members. Answered by a [`Job::Reply`], always. A forced one is made even if those that
    /// answer would be no quorum any more.
    pub fn change_members(&mut self, now: Time, change: MemberChange, force: bool) -> RequestId {
        self.observe(now);
        let request = self.next_request();
        let deadline = self.now.after(self.options.request_timeout_us);
        if self.reads.len() >= self.options.max_requests
            || self.member_changes.ask(request, deadline, change, force).is_none()
        {
            self.reply(request, Reply::Failed(Failure::TooManyRequests));
        } else {
            // It begins as a read: what was so before it was asked for is no answer to it.
            self.reads.insert(deadline, request);
        }
        request
    }

    /// Whether this member was removed from the cluster, and knows it.
    pub fn is_removed(&self) -> bool {
        self.store.is_removed(self.identity.member_id.as_u64())
    }

    /// The members as of the last entry that this member has applied: they fit to what the state says of them.
    pub fn applied_configuration(&self) -> &Configuration {
        let log = self.node.log();
        log.configuration_at(log.last_applied())
    }

    /// Grows whenever the members, or what is known of them, may have changed.
    pub fn roster_version(&self) -> u64 {
        self.roster_version
    }

    // ---- Who asks -----------------------------------------------------------------------------------

    /// All that was committed when this was asked for is applied here. Returns whether it is a change of the members.
    pub(super) fn begin_change(&mut self, request: RequestId) -> bool {
        let Some(change) = self.member_changes.on_read(request).cloned() else { return false };
        if let Some(why) = self.is_in_vain(&change) {
            self.member_changes.forget(request);
            self.reply(request, Reply::Refused(why));
        }
        true
    }

    /// What was done before must not be answered as if this request had done it.
    fn is_in_vain(&self, change: &MemberChange) -> Option<ChangeRefusal> {
        match *change {
            MemberChange::Remove { id } if self.store.is_removed(id.as_u64()) => {
                Some(ChangeRefusal::MemberNotFound)
            }
            MemberChange::Promote { id, .. } if self.applied_configuration().is_voter(id) => {
                Some(ChangeRefusal::NotALearner)
            }
            MemberChange::Add { .. }
            | MemberChange::Remove { .. }
            | MemberChange::Update { .. }
            | MemberChange::Promote { .. } => None,
        }
    }

    pub(super) fn ask_for_changes(&mut self) {
        let Some(leader_id) = self.node.leader_id() else { return };
        let Identity { member_id, boot, .. } = self.identity;
        let term = self.node.current_term();
        for (number, change, force) in self.member_changes.due(self.now, term, self.options.forward_repeat_us)
        {
            let asked = ChangeMembers { boot, number, change, force };
            if leader_id == member_id {
                self.on_change_members(member_id, asked);
            } else {
                let message = PeerMessage::ChangeMembers(asked);
                self.jobs.push_back(Job::Send { to: leader_id, message });
            }
        }
    }

    pub(super) fn on_members_changed(&mut self, changed: MembersChanged) {
        let MembersChanged { boot, number, answer } = changed;
        if boot != self.identity.boot {
            return;
        }
        if let Some(why) = self.member_changes.on_answer(number, answer) {
            self.reply(number, Reply::Refused(why));
        }
    }

    pub(super) fn answer_done_changes(&mut self) {
        let raft_term = self.node.current_term().0;
        let log = self.node.log();
        let applied = log.last_applied();
        // Its own removal is the last that a member hears of, however much the leader has applied since.
        let own_id = self.identity.member_id;
        let is_last = |change: &MemberChange| {
            let goes = match *change {
                MemberChange::Remove { id } => id == own_id,
                MemberChange::Promote { id, replaces, .. } => {
                    replaces == Some(own_id) && log.configuration_at(applied).is_voter(id)
                }
                MemberChange::Add { .. } | MemberChange::Update { .. } => false,
            };
            goes && self.store.is_removed(own_id.as_u64())
        };
        for request in self.member_changes.take_done(applied, is_last) {
            self.reply(request, Reply::Changed { raft_term });
        }
    }

    // ---- Who leads ----------------------------------------------------------------------------------

    /// A member, perhaps this one, asks for a change.
    pub(super) fn on_change_members(&mut self, from: NodeId, asked: ChangeMembers) {
        let ChangeMembers { boot, number, change, force } = asked;
        // Whoever is no member of any cluster may have connected.
        if self.node.role() == RoleKind::Leader && self.node.configuration().is_member(from) {
            let term = self.node.current_term();
            self.member_changes.want(term, (from, boot, number), change, force);
        }
    }

    /// Does the next step for each change that this leader is asked for. Returns whether the core may have something
    /// to do for it.
    pub(super) fn bring_changes_about(&mut self) -> bool {
        // A leader that is removed by it leads no more, but it can still say that it is done.
        if !self.member_changes.are_wanted(self.node.current_term()) {
            return false;
        }
        let last_before = self.node.log().last_index();
        for (asker, mut wanted) in self.member_changes.take_wanted() {
            match self.step_towards(&mut wanted) {
                Some(answer) => self.answer_change(asker, answer),
                None => self.member_changes.keep_wanted(asker, wanted),
            }
        }
        self.node.log().last_index() > last_before
    }

    /// Does what can be done; the answer, if there is one.
    fn step_towards(&mut self, wanted: &mut Wanted) -> Option<ChangeAnswer> {
        let (node, log) = (&self.node, self.node.log());
        // Who the members are, and what is known of them, must be of the same moment.
        if log.configuration_index() > log.last_applied() || node.configuration().is_joint() {
            return None;
        }
        // What is asked for comes behind what a leader has to say by itself, and not the other way round; and whether
        // two would be reached at one address is known when all that was written before is applied.
        if self.publication.introduced_in != node.current_term() || self.is_writing_addresses() {
            return None;
        }
        let view = View {
            store: &self.store,
            configuration: node.configuration(),
            is_caught_up: node.is_caught_up(wanted.change.id()),
            max_learners: self.options.max_learners,
        };
        match wanted.change.next_step(&view) {
            NextStep::Done => Some(ChangeAnswer::Done(log.last_applied())),
            // Who does not lead any more has seen too little to refuse; its successor is asked.
            NextStep::Refuse(why) => (node.role() == RoleKind::Leader).then_some(ChangeAnswer::Refused(why)),
            NextStep::WriteAddresses { id, peer_urls } => {
                wanted.is_written = wanted.is_written || self.write_addresses(id, peer_urls);
                None
            }
            NextStep::Configure(target) => self.configure(&target, wanted.force),
        }
    }

    /// Proposes that a member is reached there. Returns whether it is on its way.
    fn write_addresses(&mut self, id: NodeId, peer_urls: Vec<String>) -> bool {
        let command = Command::SetPeerUrls { id: id.as_u64(), peer_urls };
        let Identity { member_id: member, boot, .. } = self.identity;
        // Nobody waits for it: attempts of clients' writes are counted from one.
        let command = command::encode(Origin { member, boot, attempt: 0 }, &command);
        let Ok(entry) = self.node.propose(self.now, command) else { return false };
        self.publication.last_written = entry;
        true
    }

    /// Whether this leader has written addresses that it has not applied.
    fn is_writing_addresses(&self) -> bool {
        let EntryId { term, index } = self.publication.last_written;
        term == self.node.current_term() && index > self.node.log().last_applied()
    }

    fn configure(&mut self, target: &Configuration, force: bool) -> Option<ChangeAnswer> {
        let refused = match self.node.change_membership(self.now, target, force) {
            // It is looked at again when it is applied, or when another occasion comes, here or at another leader.
            Ok(_)
            | Err(
                ChangeError::NotLeader { .. }
                | ChangeError::TransferInProgress { .. }
                | ChangeError::TooEarly
                | ChangeError::InProgress,
            ) => return None,
            Err(ChangeError::Unchanged) => {
                return Some(ChangeAnswer::Done(self.node.log().last_applied()));
            }
            Err(ChangeError::Invalid(invalid)) => invalid.into(),
            Err(ChangeError::WouldLoseQuorum { needed, of, reachable }) => {
                ChangeRefusal::WouldLoseQuorum { needed, of, reachable }
            }
        };
        Some(ChangeAnswer::Refused(refused))
    }

    fn answer_change(&mut self, (to, boot, number): Asker, answer: ChangeAnswer) {
        let changed = MembersChanged { boot, number, answer };
        if to == self.identity.member_id {
            self.on_members_changed(changed);
        } else {
            self.jobs.push_back(Job::Send { to, message: PeerMessage::MembersChanged(changed) });
        }
    }

    // ---- What is known of whom ----------------------------------------------------------------------

    pub(super) fn publish_if_needed(&mut self) {
        let Some(member) = &self.publication.member else { return };
        if self.publication.request.is_some() || self.node.leader_id().is_none() || self.is_removed() {
            return;
        }
        let is_told = self.store.member(member.id).is_some_and(|known| {
            (&known.name, &known.client_urls) == (&member.name, &member.client_urls)
                && known.directory_id.is_some()
        });
        if is_told {
            return;
        }
        let command = Command::PublishMember(member.clone());
        let request = self.next_request();
        // If too much waits, there will be another occasion.
        if self.take_write(request, &command).is_ok() {
            self.publication.request = Some(request);
        }
    }

    /// Once a term, the leader writes down where those first members are reached that have not said it yet: who
    /// joins later has no other way to learn it. Returns whether the core may have something to do for it.
    pub(super) fn introduce_first_members(&mut self) -> bool {
        let (term, log) = (self.node.current_term(), self.node.log());
        if self.node.role() != RoleKind::Leader || self.publication.introduced_in == term {
            return false;
        }
        // Before it has applied an entry of its term, it may not know what was written long ago; nor by itself.
        if log.term_at(log.last_applied()) != Some(term) || self.is_writing_addresses() {
            return false;
        }
        let last_before = log.last_index();
        let mut is_done = true;
        for Member { id, peer_urls, .. } in self.publication.first_members.clone() {
            let Some(node_id) = NodeId::new(id) else { continue };
            let is_member = self.node.configuration().is_member(node_id);
            if is_member && self.store.member(id).is_none() && !self.store.is_removed(id) {
                is_done &= self.write_addresses(node_id, peer_urls);
            }
        }
        // If too much waits to be committed, the rest follows when that is.
        if is_done {
            self.publication.introduced_in = term;
        }
        self.node.log().last_index() > last_before
    }
}

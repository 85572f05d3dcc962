//! Operators: they change the members, empty machines that are members no more, and lose disks; and they know
//! whom to bring back when everything is broken.
//!
//! They do nothing that destroys what the cluster relies on: only a member that the committed configuration
//! does not name is emptied, and a disk is only lost while the others are a quorum by every configuration that
//! might be in force. All else the members have to bear, forced changes to machines that do not run included.

use std::collections::BTreeMap;

use tenure_raft::{ChangeError, Configuration, Learner, NodeId, Quorum, Quorums, RoleKind, Voters};

use crate::coverage::Mark;
use crate::judges::asked::Wanted;
use crate::judges::{Verdict, is_quorum};
use crate::member::Process;
use crate::random::{CERTAIN_PPM, Random};
use crate::trace::Detail;
use crate::world::World;

/// The most votes that a member gets.
const MAX_VOTES: u64 = 3;

/// Members on paper.
struct Draft {
    voters: Vec<(NodeId, u32)>,
    learners: BTreeMap<NodeId, Learner>,
}

impl Draft {
    /// Changes something, and leaves somebody who votes.
    fn change(&mut self, random: &mut Random, available: &[NodeId]) {
        let is_member =
            |id: &NodeId| self.learners.contains_key(id) || self.voters.iter().any(|(voter, _)| voter == id);
        let outside: Vec<NodeId> = available.iter().copied().filter(|id| !is_member(id)).collect();
        let inside: Vec<NodeId> = available.iter().copied().filter(is_member).collect();
        match random.below(8) {
            0 | 1 if !outside.is_empty() => self.add(random, &outside),
            2 if inside.len() > 1 => {
                let goes = random.pick(&inside);
                self.voters.retain(|&(id, _)| id != goes);
                self.learners.remove(&goes);
            }
            // Ready or not.
            3 if !self.learners.is_empty() => {
                let learners: Vec<NodeId> = self.learners.keys().copied().collect();
                let promoted = random.pick(&learners);
                self.learners.remove(&promoted);
                self.voters.push((promoted, 1));
            }
            // One takes the place of another.
            4 if !outside.is_empty() && !self.voters.is_empty() => {
                let place = random.below(self.voters.len() as u64) as usize;
                self.voters[place].0 = random.pick(&outside);
            }
            5 => {
                for (_, votes) in &mut self.voters {
                    *votes = random.between(1, MAX_VOTES) as u32;
                }
            }
            _ => self.draw_anew(random, available),
        }
        if self.voters.is_empty() {
            self.voters = available.iter().map(|&id| (id, 1)).collect();
        }
    }

    fn add(&mut self, random: &mut Random, outside: &[NodeId]) {
        let votes = 1 + random.below(MAX_VOTES) as u32 / 2;
        let kinds = [Learner::Joins { votes }, Learner::Joins { votes: 1 }, Learner::Waits];
        self.learners.insert(random.pick(outside), random.pick(&kinds));
    }

    /// From any members to any others.
    fn draw_anew(&mut self, random: &mut Random, available: &[NodeId]) {
        self.voters.clear();
        self.learners.clear();
        for &id in available {
            match random.below(4) {
                0 => {}
                1 => drop(self.learners.insert(id, Learner::Waits)),
                _ => self.voters.push((id, 1)),
            }
        }
    }
}

impl World {
    // ---- Changes of the members ---------------------------------------------------------------------

    /// An operator wants other members, of any member or of the leader's core.
    pub(crate) fn begin_change(&mut self, leader: Option<usize>) -> Verdict {
        if self.plan.faults.asks_any_member { self.ask_for_change(None) } else { self.change_members(leader) }
    }

    /// An operator asks the leader for other members.
    fn change_members(&mut self, leader: Option<usize>) -> Verdict {
        let Some(leader) = leader.filter(|&leader| self.members[leader].held.is_none()) else {
            return Ok(());
        };
        let current = Configuration { old_voters: None, ..self.members[leader].in_force().clone() };
        let target = self.draw_members(&current);
        let force = self.nemesis.random.chance(CERTAIN_PPM / 4);
        let it = &mut self.members[leader];
        let now = it.clock.shows(self.now_us);
        let Some(process) = &mut it.process else { return Ok(()) };
        let result = process.replica.change_membership(now, &target, force);
        let how = if force { " by force" } else { "" };
        let text = match &result {
            Ok(id) => format!("an operator asks {} for {target}{how}: {id}", it.id),
            Err(error) => format!("an operator asks {} for {target}{how}: {error}", it.id),
        };
        self.trace.line(self.now_us, Detail::Short, [71, u64::from(result.is_ok())], format_args!("{text}"));
        if let Ok(id) = result {
            let changes = self.judges.configuration_changes();
            self.proposed.extend(target.members().map(|id| (id, changes)));
            self.judges.on_asked(id.term, Wanted::Exactly(target.clone()), force);
        }
        match result {
            Ok(_) => self.start_newcomers(|id| target.is_member(id)),
            Err(ChangeError::WouldLoseQuorum { .. }) => self.coverage.reach(Mark::QuorumKept),
            Err(_) => {}
        }
        self.wake(leader)
    }

    /// Machines that are to be members are switched on.
    pub(crate) fn start_newcomers(&mut self, is_new: impl Fn(NodeId) -> bool) {
        for member in 0..self.members.len() {
            let it = &self.members[member];
            if is_new(it.id) && !self.kept_up.contains(&member) {
                self.kept_up.push(member);
                let start = it.start;
                let in_us = self.nemesis.down_us();
                self.add_in(in_us, crate::event::Event::Boot { member, start });
            }
        }
    }

    /// What the operator wants instead of `current`. Lost members are never wanted.
    fn draw_members(&mut self, current: &Configuration) -> Configuration {
        let there = self.members.iter().filter(|member| !member.is_lost);
        let available: Vec<NodeId> = there.map(|member| member.id).collect();
        let mut draft = Draft {
            voters: current.voters.iter().filter(|(id, _)| available.contains(id)).collect(),
            learners: current.learners.clone().into_iter().filter(|(id, _)| available.contains(id)).collect(),
        };
        draft.change(&mut self.nemesis.random, &available);
        let Draft { voters, mut learners } = draft;
        learners.retain(|id, _| voters.iter().all(|(voter, _)| voter != id));
        let voters = Voters::weighted(voters);
        let quorums = self.draw_quorums(voters.total_votes());
        Configuration { voters: voters.with_quorums(quorums), old_voters: None, learners }
    }

    /// Mostly majorities; now and then cheap commits and dear elections, or the other way round as far as two
    /// elections still meet.
    fn draw_quorums(&mut self, all_votes: u64) -> Option<Quorums> {
        let random = &mut self.nemesis.random;
        if random.below(4) > 0 {
            return None;
        }
        if random.below(4) == 0 {
            // Sound or not: what is not has to be refused.
            let any = |random: &mut Random| random.between(1, all_votes);
            return Some(Quorums { election_votes: any(random), commit_votes: any(random) });
        }
        let election_votes = random.between(all_votes / 2 + 1, all_votes);
        let commit_votes = random.between(all_votes - election_votes + 1, all_votes);
        Some(Quorums { election_votes, commit_votes })
    }

    // ---- Machines -----------------------------------------------------------------------------------

    /// Machines whose members are not in the committed configuration any more are emptied, now and then, for
    /// others to come. Until then those members run on, and do not know it or do.
    pub(crate) fn recycle(&mut self) {
        for member in 0..self.members.len() {
            let id = self.members[member].id;
            let has_been_member = self.kept_up.contains(&member) || self.members[member].is_lost;
            // Whoever was asked for may still be added at any time.
            let may_come = self.plan.faults.asks_any_member && !self.judges.was_member(id);
            // Even if everybody who knew of it was started anew, what was proposed may be on its way to somebody, until
            // another change is committed.
            let changes = self.judges.configuration_changes();
            let is_wanted = may_come
                || self.proposed.contains(&(id, changes))
                || self.judges.configuration().is_member(id)
                || self.members.iter().any(|other| other.id != id && other.in_force().is_member(id));
            if has_been_member && !is_wanted && self.nemesis.random.chance(CERTAIN_PPM / 2) {
                self.kept_up.retain(|&other| other != member);
                let crash = self.nemesis.any_crash();
                self.crash(member, crash);
                self.members[member].become_spare();
                self.coverage.reach(Mark::Recycled);
                let new_id = self.members[member].id;
                let facts = [72, member as u64];
                self.trace.line(self.now_us, Detail::Short, facts, format_args!("{id} is emptied: {new_id}"));
            }
        }
    }

    /// Whether the cluster can do without a member: one at a time, until it is out of the configuration. What it had
    /// acknowledged goes on counting for the judges: it never votes again, so every later quorum is one of the others.
    pub(crate) fn can_be_lost(&self, member: usize) -> bool {
        let committed = self.judges.configuration();
        let id = self.members[member].id;
        let is_lost = |id: NodeId| self.members.iter().any(|other| other.is_lost && other.id == id);
        let mut members = self.members.iter().filter(|other| committed.is_member(other.id));
        let is_settled = !committed.is_joint()
            && !committed.members().any(is_lost)
            && members.all(|other| other.in_force() == committed);
        // A learner can be a voter a moment later, and have become one before anybody noticed that it is gone.
        let is_learner = committed.learners.contains_key(&id);
        is_settled
            && !is_learner
            && self.kept_up.contains(&member)
            && has_quorums(committed, |other| other != id)
    }

    /// A disk is gone.
    pub(crate) fn lose_disk(&mut self, leader: Option<usize>) {
        let member = self.nemesis.victim(leader);
        if !self.can_be_lost(member) {
            return;
        }
        let id = self.members[member].id;
        self.kept_up.retain(|&other| other != member);
        let crash = self.nemesis.any_crash();
        self.crash(member, crash);
        self.members[member].is_lost = true;
        self.coverage.reach(Mark::DiskLost);
        self.trace.line(self.now_us, Detail::Short, [73, member as u64], format_args!("{id} is lost"));
    }

    // ---- Whom to bring back -------------------------------------------------------------------------

    /// As few machines as can decide, whatever configuration of those that could still come to hold is in
    /// force: the committed one, and the ones in the logs of members that lead, or have all that is committed. (Others
    /// cannot be elected before they have it.)
    pub(crate) fn core(&mut self) -> Vec<usize> {
        let mut in_question = vec![self.judges.configuration().clone()];
        for member in &self.members {
            let knows_members = !member.in_force().voters.is_empty();
            // What a leader has just begun may be on its way, whatever its own disk holds.
            let leads = |it: &Process| it.replica.node().role() == RoleKind::Leader;
            let may_spread =
                self.judges.holds_committed(member.id) || member.process.as_deref().is_some_and(leads);
            if !member.is_lost && knows_members && may_spread {
                in_question.push(member.in_force().clone());
            }
        }
        let decides = |core: &[usize], world: &World| {
            let healed = |id: NodeId| core.iter().any(|&member| world.members[member].id == id);
            // Who is about to become a voter will be one, whoever leads.
            let is_there =
                |id: NodeId| healed(id) || world.members.iter().all(|it| it.is_lost || it.id != id);
            in_question.iter().all(|configuration| {
                has_quorums(configuration, healed)
                    && configuration
                        .learners
                        .iter()
                        .all(|(&id, learner)| *learner == Learner::Waits || is_there(id))
            })
        };
        let mut core: Vec<usize> =
            (0..self.members.len()).filter(|&member| !self.members[member].is_lost).collect();
        assert!(decides(&core, self), "operators leave a quorum alive");
        if self.open_changes > 0 {
            // What was asked for may still be done, and whoever is then needed must be there.
            return core;
        }
        for without in self.who_goes_first(&core) {
            let smaller: Vec<usize> = core.iter().copied().filter(|&member| member != without).collect();
            if decides(&smaller, self) && self.can_elect(&smaller) {
                core = smaller;
            }
        }
        core
    }

    /// Whether somebody of these would get the votes that it needs: who has heard of what was never committed, of a
    /// change even, may need the vote of a learner that has heard of something later.
    ///
    /// A leader that is left out may still be heard by some, whoever they are, and have them do as it does.
    fn can_elect(&self, core: &[usize]) -> bool {
        let leader = self.leader().filter(|leader| !core.contains(leader));
        let subsets = leader.map_or(1, |_| 1 << core.len());
        (0..subsets).all(|hears: u32| {
            let follows = |(at, &member): (usize, &usize)| {
                let whose = leader.filter(|_| hears >> at & 1 == 1).unwrap_or(member);
                (self.members[member].id, whose)
            };
            self.can_elect_with(&core.iter().enumerate().map(follows).collect::<Vec<_>>())
        })
    }

    /// Whether somebody of these gets its votes, if each has the log of the member that is named beside it.
    fn can_elect_with(&self, core: &[(NodeId, usize)]) -> bool {
        let last_of = |member: usize| {
            let it = &self.members[member];
            let running = it.process.as_ref().map(|process| process.replica.node().log().last());
            let last = running.unwrap_or_else(|| self.judges.last_on_disk(it.id));
            (last.term, last.index)
        };
        core.iter().any(|&(candidate, log)| {
            let configuration = self.members[log].in_force();
            let votes =
                |voter: NodeId| core.iter().any(|&(it, its)| it == voter && last_of(its) <= last_of(log));
            configuration.is_voter(candidate) && is_quorum(configuration, Quorum::Election, votes)
        })
    }

    /// Machines in the order in which they are left out if they can be: by chance, but mostly whoever leads comes
    /// first, so that the others have to do without.
    fn who_goes_first(&mut self, core: &[usize]) -> Vec<usize> {
        let leader = self.leader();
        let random = &mut self.nemesis.random;
        let mut order = Vec::new();
        let mut rest = core.to_vec();
        while !rest.is_empty() {
            order.push(rest.swap_remove(random.below(rest.len() as u64) as usize));
        }
        if random.chance(CERTAIN_PPM / 3 * 2) {
            order.sort_by_key(|&member| Some(member) != leader);
        }
        order
    }

    /// The machines of the committed members, but for those that are gone for good.
    pub(crate) fn committed_members(&self) -> Vec<usize> {
        let configuration = self.judges.configuration();
        let is_member = |member: &usize| {
            let it = &self.members[*member];
            !it.is_lost && configuration.is_member(it.id)
        };
        (0..self.members.len()).filter(is_member).collect()
    }

    /// Whether all members go by one configuration, which is committed and on the way to no other.
    pub(crate) fn is_settled(&self) -> bool {
        let configuration = self.judges.configuration();
        let is_lost = |id: NodeId| self.members.iter().any(|member| member.is_lost && member.id == id);
        // With somebody gone there may be too few to promote anybody.
        let awaits_nobody = configuration.members().any(is_lost)
            || configuration.learners.values().all(|learner| *learner == Learner::Waits);
        !configuration.is_joint()
            && awaits_nobody
            && self.committed_members().iter().all(|&member| self.members[member].in_force() == configuration)
    }
}

/// Whether those for whom `is_there` holds can elect and commit.
fn has_quorums(configuration: &Configuration, is_there: impl Fn(NodeId) -> bool) -> bool {
    [Quorum::Election, Quorum::Commit].into_iter().all(|quorum| is_quorum(configuration, quorum, &is_there))
}

//! Operators who change the members as clients of the service do: they ask any member, for one thing at a time, and
//! may be refused, or never hear what became of it. What they are told must be true.

use tenure_raft::{Configuration, Learner, NodeId, RoleKind, Term};
use tenure_replica::{ChangeMembers, ChangeRefusal, MemberChange, Reply};

use crate::coverage::Mark;
use crate::judges::asked::Wanted;
use crate::judges::{Verdict, require};
use crate::random::{CERTAIN_PPM, Random};
use crate::trace::Detail;
use crate::world::World;

const PASSED_ON: &str = "a change is passed on as it was asked for";
const NOT_DONE: &str = "what may be made is not called certainly not made";
const ANSWERED: &str = "an answer is to this start's question";
const IN_VAIN: &str = "what was done before is not done again";

/// A change that a member was asked for.
#[derive(Clone, Debug)]
pub(crate) struct AskedChange {
    change: MemberChange,
    force: bool,
    exchange: Exchange,
    /// There was nothing left to do when it was asked for.
    is_in_vain: bool,
    /// What was committed when it was asked for.
    committed: u64,
}

/// What has passed between the member that was asked and those who lead.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    /// Somebody was asked to make the change.
    is_sent: bool,
    /// A leader has answered this start's question, or may do so without a message, as it is the member itself.
    is_answered: bool,
}

impl World {
    /// An operator asks this member, or some, for a change.
    pub(crate) fn ask_for_change(&mut self, member: Option<usize>) -> Verdict {
        let Some(change) = self.draw_change() else { return Ok(()) };
        let running: Vec<usize> = (0..self.members.len())
            .filter(|&member| self.members[member].process.is_some() && self.members[member].held.is_none())
            .collect();
        if running.is_empty() {
            return Ok(());
        }
        let member = member.unwrap_or_else(|| self.nemesis.random.pick(&running));
        let force = self.nemesis.random.chance(CERTAIN_PPM / 8);
        self.ask(member, &change, force)
    }

    /// An operator asks this member for a change.
    pub(crate) fn ask(&mut self, member: usize, change: &MemberChange, force: bool) -> Verdict {
        let committed = self.judges.last_committed();
        let it = &mut self.members[member];
        let now = it.clock.shows(self.now_us);
        let Some(process) = &mut it.process else { return Ok(()) };
        let request = process.replica.change_members(now, change.clone(), force);
        let how = if force { " by force" } else { "" };
        let text = format!("an operator asks {} for {change:?}{how}", it.id);
        self.open_changes += 1;
        let (role, term) = (process.replica.node().role(), process.replica.node().current_term());
        let is_in_vain = match change {
            MemberChange::Remove { id } => self.judges.was_removed(*id),
            MemberChange::Promote { id, .. } => self.judges.configuration().is_voter(*id),
            MemberChange::Add { .. } | MemberChange::Update { .. } => false,
        };
        let exchange = Exchange { is_sent: false, is_answered: role == RoleKind::Leader };
        let asked = AskedChange { change: change.clone(), force, exchange, is_in_vain, committed };
        process.changes.insert(request, asked);
        if role == RoleKind::Leader {
            self.judges.on_asked(term, Wanted::Change(change.clone()), force);
        }
        self.trace.line(self.now_us, Detail::Short, [74, request.0], format_args!("{text}"));
        if let MemberChange::Add { id, .. } = *change {
            self.start_newcomers(|other| other == id);
        }
        self.wake(member)
    }

    /// Whoever is elected is asked for what its own clients still wait for.
    pub(crate) fn ask_elected(&mut self, member: usize, term: Term) {
        let Some(process) = self.members[member].process.as_mut() else { return };
        for AskedChange { change, force, exchange, .. } in process.changes.values_mut() {
            exchange.is_answered = true;
            self.judges.on_asked(term, Wanted::Change(change.clone()), *force);
        }
    }

    /// A member answers.
    pub(crate) fn on_change_answered(
        &mut self,
        member: usize,
        asked: &AskedChange,
        reply: &Reply,
    ) -> Verdict {
        let AskedChange { change, force, committed, .. } = asked;
        let id = self.members[member].id;
        let facts = [75, member as u64];
        self.trace.line(
            self.now_us,
            Detail::Short,
            facts,
            format_args!("{id} answers {change:?}: {reply:?}"),
        );
        if matches!(reply, Reply::Changed { .. } | Reply::Refused(_)) {
            self.open_changes -= 1;
        }
        asked.check_reply(id, reply)?;
        match reply {
            Reply::Changed { .. } => {
                self.coverage.reach(Mark::MembersChanged);
                self.changes_made += 1;
                let process = self.members[member].process.as_ref();
                let applied = process.map_or(0, |process| process.replica.store().applied_index());
                if let MemberChange::Update { id: updated, peer_urls } = change {
                    self.judges.operations.addresses.on_told(*updated, peer_urls, *committed, applied)?;
                }
                self.judges.on_members_changed(id, *committed, applied, &holds(change))
            }
            Reply::Refused(why) => {
                if matches!(why, ChangeRefusal::WouldLoseQuorum { .. }) {
                    self.coverage.reach(Mark::QuorumKept);
                }
                self.judges.on_change_refused(*committed, self.plan.replica.max_learners, change, *force, why)
            }
            Reply::Failed(_) => Ok(()),
            Reply::Applied { .. } | Reply::Read { .. } => {
                panic!("that is no answer to an operator: {reply:?}")
            }
        }
    }

    fn draw_change(&mut self) -> Option<MemberChange> {
        let current = self.judges.configuration().clone();
        let ids: Vec<NodeId> = self.members.iter().map(|member| member.id).collect();
        let outside: Vec<NodeId> = ids.iter().copied().filter(|&id| !current.is_member(id)).collect();
        let inside: Vec<NodeId> = ids.iter().copied().filter(|&id| current.is_member(id)).collect();
        let learners: Vec<NodeId> = current.learners.keys().copied().collect();
        let random = &mut self.nemesis.random;
        match random.below(8) {
            0..3 if !outside.is_empty() => {
                let id = random.pick(&outside);
                let kinds = [Learner::Joins { votes: 1 }, Learner::Joins { votes: 2 }, Learner::Waits];
                let peer_urls = draw_urls(id, 1, &ids, random);
                Some(MemberChange::Add { id, peer_urls, learner: random.pick(&kinds) })
            }
            // It may have gone already.
            3 if random.chance(CERTAIN_PPM / 4) => Some(MemberChange::Remove { id: random.pick(&ids) }),
            3 | 4 if inside.len() > 1 => Some(MemberChange::Remove { id: random.pick(&inside) }),
            5 if !inside.is_empty() => {
                let id = random.pick(&inside);
                let number = random.between(1, 3);
                Some(MemberChange::Update { id, peer_urls: draw_urls(id, number, &ids, random) })
            }
            _ if !learners.is_empty() => {
                let id = random.pick(&learners);
                let replaces = random.chance(CERTAIN_PPM / 3).then(|| random.pick(&inside));
                let replaces = replaces.filter(|&old| old != id && current.is_voter(old));
                let votes = random.chance(CERTAIN_PPM / 3).then(|| random.between(1, 3) as u32);
                Some(MemberChange::Promote { id, votes, replaces })
            }
            _ => None,
        }
    }
}

impl AskedChange {
    /// Checks what `id` says became of it by what it has asked and heard.
    fn check_reply(&self, id: NodeId, reply: &Reply) -> Verdict {
        let Exchange { is_sent, is_answered } = self.exchange;
        // Without asking anybody a member may know that there is nothing left to do.
        let is_explained = match reply {
            Reply::Changed { .. } => is_answered,
            Reply::Refused(_) => is_answered || !is_sent,
            Reply::Failed(_) | Reply::Applied { .. } | Reply::Read { .. } => true,
        };
        require(ANSWERED, is_explained, || {
            format!("{id} says what became of {:?}, and no leader has told it: {reply:?}", self.change)
        })?;
        let is_done = matches!(reply, Reply::Changed { .. });
        require(IN_VAIN, !(is_done && self.is_in_vain), || {
            format!("{id} says that it has done what was done long ago")
        })?;
        let is_certain = matches!(reply, Reply::Failed(failure) if failure.is_certainly_not_done());
        require(NOT_DONE, !(is_certain && is_sent), || {
            format!("{id} has asked for {:?} and says that it is certainly not made: {reply:?}", self.change)
        })
    }

    /// A leader has said what became of it.
    pub(crate) fn on_told(&mut self) {
        self.exchange.is_answered = true;
    }

    /// A leader is asked to make the change.
    pub(crate) fn on_sent(&mut self, asked: &ChangeMembers) -> Verdict {
        self.exchange.is_sent = true;
        require(PASSED_ON, asked.change == self.change && asked.force == self.force, || {
            format!("{self:?} is passed on as {asked:?}")
        })
    }
}

/// Where one of the first members is reached at first.
pub(crate) fn first_urls(id: NodeId) -> Vec<String> {
    peer_urls(id, 0)
}

/// Mostly one of its own; now and then one that is, or was, another's.
fn draw_urls(id: NodeId, number: u64, ids: &[NodeId], random: &mut Random) -> Vec<String> {
    if random.chance(CERTAIN_PPM / 8) {
        peer_urls(random.pick(ids), random.between(0, 1))
    } else {
        peer_urls(id, number)
    }
}

/// Where a member is reached, at different times.
pub(crate) fn peer_urls(id: NodeId, number: u64) -> Vec<String> {
    vec![format!("http://{id}.example:{number}")]
}

/// What must have held once for the answer "done" to be true. Of addresses the configuration says nothing.
fn holds(change: &MemberChange) -> impl Fn(&Configuration) -> bool + '_ {
    move |configuration| match change {
        MemberChange::Add { id, .. } => configuration.is_member(*id),
        MemberChange::Remove { id } => !configuration.is_member(*id),
        MemberChange::Promote { id, replaces, .. } => {
            configuration.is_voter(*id) && replaces.is_none_or(|old| !configuration.is_member(old))
        }
        MemberChange::Update { .. } => true,
    }
}

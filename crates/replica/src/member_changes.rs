//! Changes of the members that clients ask for: the books, and what the leader does next for one.
//!
//! ```text
//! client → any member: reads what was committed when it was asked
//!                     ── ChangeMembers ──▶ leader: write down the addresses, then the configuration
//!                     ◀── MembersChanged ─         when it has applied that: done; or why not
//! ```
//!
//! A change says what shall be, not what shall happen ("7 is a member", "7 is none"), so to ask twice does no harm.
//! That is why little has to be remembered: whoever took the request asks, and asks again, until a leader answers;
//! a leader looks at how things are, does the next step, and answers when there is none left. If it is lost on
//! the way, its successor is asked and finds as much done as was committed. Three facts make it safe: an id is never
//! used again once it was removed; a leader decides only when it has applied the configuration in force; and nobody is
//! asked before a linearizable read has shown that its term was not over when the request came.

use std::collections::BTreeMap;

use tenure_raft::{Configuration, Index, InvalidConfiguration, Learner, NodeId, Term, Time};
use tenure_store::Store;

use crate::job::{Failure, RequestId};

/// How many changes may wait at a member, and at a leader.
const MAX_CHANGES: usize = 64;

/// What shall be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MemberChange {
    /// A new member: it learns first, and votes when it is promoted.
    Add {
        /// Its id, which no member ever had.
        id: NodeId,
        /// Where the others reach it.
        peer_urls: Vec<String>,
        /// Whether it is promoted by itself, and with how many votes.
        learner: Learner,
    },
    /// A member goes, for good.
    Remove {
        /// Which.
        id: NodeId,
    },
    /// A member is reached elsewhere.
    Update {
        /// Which.
        id: NodeId,
        /// Where.
        peer_urls: Vec<String>,
    },
    /// A learner that has caught up becomes a voter.
    Promote {
        /// Which.
        id: NodeId,
        /// With how many votes: one if nothing is said, or those of the voter that it replaces.
        votes: Option<u32>,
        /// A voter that goes in the same step, so that no quorum grows in between.
        replaces: Option<NodeId>,
    },
}

/// Why the members stay as they are.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChangeRefusal {
    /// There is no such member, or not any more.
    #[error("there is no such member")]
    MemberNotFound,
    /// Another member is reached at that address.
    #[error("another member has one of the peer URLs")]
    PeerUrlExists,
    /// It votes already.
    #[error("the member is no learner")]
    NotALearner,
    /// Its vote would hold the others up.
    #[error("the learner has not caught up with the leader")]
    NotCaughtUp,
    /// There are as many learners as the options allow.
    #[error("there are too many learners")]
    TooManyLearners,
    /// Nobody would be left who votes.
    #[error("no voter would be left")]
    NoVoters,
    /// Those that answer could decide nothing any more.
    #[error("would need {needed} of {of} votes, {reachable} are reachable")]
    WouldLoseQuorum {
        /// How many votes the members would need to decide.
        needed: u64,
        /// Of how many.
        of: u64,
        /// How many votes the members have that have answered lately.
        reachable: u64,
    },
    /// Two quorums could decide against each other.
    #[error("{why}")]
    Unsafe {
        /// In which way.
        why: String,
    },
}

impl From<InvalidConfiguration> for ChangeRefusal {
    fn from(invalid: InvalidConfiguration) -> ChangeRefusal {
        match invalid {
            InvalidConfiguration::NoVoters => ChangeRefusal::NoVoters,
            InvalidConfiguration::VoterAndLearner { .. } | InvalidConfiguration::QuorumsDoNotMeet { .. } => {
                ChangeRefusal::Unsafe { why: invalid.to_string() }
            }
        }
    }
}

/// How a leader answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChangeAnswer {
    /// So it is, as of the entry at this index.
    Done(Index),
    /// So it is not, and will not be.
    Refused(ChangeRefusal),
}

// ---- What the leader does ------------------------------------------------------------------------------

/// The next step towards what shall be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum NextStep {
    /// None is left.
    Done,
    /// There is none.
    Refuse(ChangeRefusal),
    /// Write down where the member is reached.
    WriteAddresses { id: NodeId, peer_urls: Vec<String> },
    /// Make these the members.
    Configure(Configuration),
}

/// How things are at a leader that has applied the configuration in force.
pub(crate) struct View<'a> {
    pub(crate) store: &'a Store,
    pub(crate) configuration: &'a Configuration,
    /// Whether the member that the change is about has caught up.
    pub(crate) is_caught_up: bool,
    pub(crate) max_learners: usize,
}

impl MemberChange {
    /// The member that it is about.
    pub fn id(&self) -> NodeId {
        match *self {
            MemberChange::Add { id, .. }
            | MemberChange::Remove { id }
            | MemberChange::Update { id, .. }
            | MemberChange::Promote { id, .. } => id,
        }
    }

    pub(crate) fn next_step(&self, view: &View<'_>) -> NextStep {
        match self {
            MemberChange::Add { id, peer_urls, learner } => view.add(*id, peer_urls, *learner),
            MemberChange::Remove { id } => view.remove(*id),
            MemberChange::Update { id, peer_urls } => view.update(*id, peer_urls),
            MemberChange::Promote { id, votes, replaces } => view.promote(*id, *votes, *replaces),
        }
    }
}

impl View<'_> {
    fn add(&self, id: NodeId, peer_urls: &[String], learner: Learner) -> NextStep {
        if self.configuration.is_member(id) {
            return NextStep::Done;
        }
        if self.store.is_removed(id.as_u64()) {
            return NextStep::Refuse(ChangeRefusal::MemberNotFound);
        }
        if self.is_taken(id, peer_urls) {
            return NextStep::Refuse(ChangeRefusal::PeerUrlExists);
        }
        let waiting = self.configuration.learners.values().filter(|learner| **learner == Learner::Waits);
        if learner == Learner::Waits && waiting.count() >= self.max_learners {
            return NextStep::Refuse(ChangeRefusal::TooManyLearners);
        }
        if !self.is_known_at(id, peer_urls) {
            return NextStep::WriteAddresses { id, peer_urls: peer_urls.to_vec() };
        }
        let mut target = self.configuration.clone();
        target.learners.insert(id, learner);
        NextStep::Configure(target)
    }

    fn remove(&self, id: NodeId) -> NextStep {
        if self.store.is_removed(id.as_u64()) {
            return NextStep::Done;
        }
        if !self.configuration.is_member(id) {
            return NextStep::Refuse(ChangeRefusal::MemberNotFound);
        }
        let mut target = self.configuration.clone();
        target.voters = target.voters.left_by(id);
        target.learners.remove(&id);
        NextStep::Configure(target)
    }

    fn update(&self, id: NodeId, peer_urls: &[String]) -> NextStep {
        if !self.configuration.is_member(id) {
            return NextStep::Refuse(ChangeRefusal::MemberNotFound);
        }
        if self.is_taken(id, peer_urls) {
            return NextStep::Refuse(ChangeRefusal::PeerUrlExists);
        }
        if self.is_known_at(id, peer_urls) {
            NextStep::Done
        } else {
            NextStep::WriteAddresses { id, peer_urls: peer_urls.to_vec() }
        }
    }

    fn promote(&self, id: NodeId, votes: Option<u32>, replaces: Option<NodeId>) -> NextStep {
        if !self.configuration.is_member(id) {
            return NextStep::Refuse(ChangeRefusal::MemberNotFound);
        }
        if self.configuration.is_voter(id) {
            let is_replaced = replaces.is_none_or(|old| self.store.is_removed(old.as_u64()));
            return if is_replaced { NextStep::Done } else { NextStep::Refuse(ChangeRefusal::NotALearner) };
        }
        let old_votes = replaces.map(|old| self.votes_of(old));
        if old_votes == Some(None) {
            return NextStep::Refuse(ChangeRefusal::MemberNotFound);
        }
        if !self.is_caught_up {
            return NextStep::Refuse(ChangeRefusal::NotCaughtUp);
        }
        let votes = votes.or(old_votes.flatten()).unwrap_or(1);
        let mut target = self.configuration.clone();
        // Joined first: of no voters at all, quorums that were set could not be kept.
        target.voters = target.voters.joined_by(id, votes);
        if let Some(old) = replaces {
            target.voters = target.voters.left_by(old);
        }
        target.learners.remove(&id);
        NextStep::Configure(target)
    }

    fn votes_of(&self, voter: NodeId) -> Option<u32> {
        self.configuration.voters.iter().find(|&(id, _)| id == voter).map(|(_, votes)| votes)
    }

    /// Whether another member is reached at one of these addresses.
    fn is_taken(&self, id: NodeId, peer_urls: &[String]) -> bool {
        let others = self.configuration.members().filter(|&other| other != id);
        let known = others.filter_map(|other| self.store.member(other.as_u64()));
        known.flat_map(|other| &other.peer_urls).any(|url| peer_urls.contains(url))
    }

    fn is_known_at(&self, id: NodeId, peer_urls: &[String]) -> bool {
        self.store.member(id.as_u64()).is_some_and(|member| member.peer_urls == peer_urls)
    }
}

// ---- The books -----------------------------------------------------------------------------------------

/// A change that a client of this member waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Asked {
    change: MemberChange,
    force: bool,
    deadline: Time,
    /// All that was committed when it was asked for is applied here. Before that, a leader that does not know yet that
    /// it was deposed might be asked, and answer by what is so no more.
    is_read: bool,
    /// When the leader of which term was asked last.
    last: Option<(Time, Term)>,
    /// It is done, as of the entry at this index, which is not applied here yet.
    done_at: Option<Index>,
}

/// Whose request it is: the member, its boot and its number for it.
pub(crate) type Asker = (NodeId, u64, RequestId);

/// A change that this member, as the leader, is to bring about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    pub(crate) change: MemberChange,
    pub(crate) force: bool,
    /// The addresses are on their way into the log.
    pub(crate) is_written: bool,
}

/// The changes that are under way.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct MemberChanges {
    asked: BTreeMap<RequestId, Asked>,
    wanted: BTreeMap<Asker, Wanted>,
    /// The term in which this member, as its leader, was asked for those.
    term: Term,
}

impl MemberChanges {
    /// Takes a client's request; none if too many wait.
    pub(crate) fn ask(
        &mut self,
        request: RequestId,
        deadline: Time,
        change: MemberChange,
        force: bool,
    ) -> Option<()> {
        if self.asked.len() >= MAX_CHANGES {
            return None;
        }
        self.asked
            .insert(request, Asked { change, force, deadline, is_read: false, last: None, done_at: None });
        Some(())
    }

    /// Whether this is one of the requests.
    pub(crate) fn is_asked(&self, request: RequestId) -> bool {
        self.asked.contains_key(&request)
    }

    /// All that was committed when this was asked for is applied here. Returns the change.
    pub(crate) fn on_read(&mut self, request: RequestId) -> Option<&MemberChange> {
        let asked = self.asked.get_mut(&request)?;
        asked.is_read = true;
        Some(&asked.change)
    }

    /// This request is over.
    pub(crate) fn forget(&mut self, request: RequestId) {
        self.asked.remove(&request);
    }

    /// The requests that the leader of `term` has to be asked for now, for the first time or once more.
    pub(crate) fn due(
        &mut self,
        now: Time,
        term: Term,
        repeat_us: u64,
    ) -> Vec<(RequestId, MemberChange, bool)> {
        let is_due = |asked: &Asked| {
            let waits = asked.last.is_some_and(|(at, of)| of == term && at.after(repeat_us) > now);
            asked.is_read && asked.done_at.is_none() && !waits
        };
        let due = self.asked.iter_mut().filter(|(_, asked)| is_due(asked));
        due.map(|(&request, asked)| {
            asked.last = Some((now, term));
            (request, asked.change.clone(), asked.force)
        })
        .collect()
    }

    /// A leader has answered. Returns why the request is over, if it is refused.
    pub(crate) fn on_answer(&mut self, request: RequestId, answer: ChangeAnswer) -> Option<ChangeRefusal> {
        let asked = self.asked.get_mut(&request)?;
        match answer {
            ChangeAnswer::Done(index) => {
                asked.done_at = Some(index);
                None
            }
            ChangeAnswer::Refused(why) => {
                self.asked.remove(&request);
                Some(why)
            }
        }
    }

    /// The requests that are done here, too, now that this member has applied the log up to `index`; and those that it
    /// hears of no further, by `is_last`.
    pub(crate) fn take_done(
        &mut self,
        index: Index,
        is_last: impl Fn(&MemberChange) -> bool,
    ) -> Vec<RequestId> {
        let is_done =
            |asked: &Asked| asked.done_at.is_some_and(|done_at| done_at <= index || is_last(&asked.change));
        self.asked.extract_if(.., |_, asked| is_done(asked)).map(|(request, _)| request).collect()
    }

    /// The requests that have waited long enough, and what may be said of each.
    pub(crate) fn expire(&mut self, now: Time) -> Vec<(RequestId, Failure)> {
        let expired = self.asked.extract_if(.., |_, asked| asked.deadline <= now);
        expired
            .map(|(request, asked)| {
                let failure = if asked.last.is_none() { Failure::NoLeader } else { Failure::TimedOut };
                (request, failure)
            })
            .collect()
    }

    /// When the next request is over, or has to be asked for once more, if there is somebody to ask.
    pub(crate) fn next_deadline(&self, has_leader: bool, repeat_us: u64) -> Time {
        let deadlines = self.asked.values().flat_map(|asked| {
            let repeat = asked.last.filter(|_| has_leader && asked.done_at.is_none());
            [Some(asked.deadline), repeat.map(|(at, _)| at.after(repeat_us))]
        });
        deadlines.flatten().min().unwrap_or(Time::NEVER)
    }

    /// A member asks this one, as the leader of `term`, for a change.
    pub(crate) fn want(&mut self, term: Term, asker: Asker, change: MemberChange, force: bool) {
        if self.term != term {
            self.wanted.clear();
            self.term = term;
        }
        if self.wanted.len() < MAX_CHANGES {
            self.wanted.entry(asker).or_insert(Wanted { change, force, is_written: false });
        }
    }

    /// Whether there is anything to do for the leader of `term`.
    pub(crate) fn are_wanted(&self, term: Term) -> bool {
        self.term == term && !self.wanted.is_empty()
    }

    /// Takes the wanted changes out, to look at each; those that are not over must be given back.
    pub(crate) fn take_wanted(&mut self) -> BTreeMap<Asker, Wanted> {
        std::mem::take(&mut self.wanted)
    }

    /// Gives a wanted change back.
    pub(crate) fn keep_wanted(&mut self, asker: Asker, wanted: Wanted) {
        self.wanted.insert(asker, wanted);
    }
}

#[cfg(test)]
mod tests;

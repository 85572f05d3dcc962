//! A change of the members is one that somebody asked for, and nothing else changes them but learners that are to
//! vote and have caught up (thesis §4.2.1); what a leader was asked for in one term it does not do in another; unless
//! it is forced, those that answer could decide after it; and a refusal says what has been true.
//!
//! What a change makes of the members the judge works out for itself.

use std::collections::BTreeMap;

use tenure_raft::{Configuration, Index, Learner, NodeId, Quorum, Term, Voters};
use tenure_replica::{ChangeRefusal, MemberChange};

use super::quorum::is_quorum;
use super::{Verdict, require};

const JUDGE: &str = "a change is one that was asked for";
const REACHABLE: &str = "a quorum stays in reach";
const CAUGHT_UP: &str = "who is made a voter has caught up";
const REFUSAL: &str = "a refusal is true";

/// What operators want.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// One thing changed, as clients of the service ask for it.
    Change(MemberChange),
    /// These members.
    Exactly(Configuration),
}

/// A leader's first step from one configuration to another.
pub(crate) struct Begun<'a> {
    pub(crate) leader: NodeId,
    pub(crate) term: Term,
    pub(crate) before: &'a Configuration,
    pub(crate) next: &'a Configuration,
}

/// All that was asked for, and whether by force: by the term of the leader that was asked.
#[derive(Default, Debug)]
pub(crate) struct Asked {
    /// So many learners may wait to be promoted.
    max_learners: usize,
    in_term: BTreeMap<Term, Vec<(Wanted, bool)>>,
    /// What was committed when.
    committed: Vec<(u64, Index)>,
}

impl Asked {
    pub(crate) fn new(max_learners: usize) -> Asked {
        Asked { max_learners, ..Asked::default() }
    }

    /// The leader of `term` is asked for something.
    pub(crate) fn on_asked(&mut self, term: Term, wanted: Wanted, force: bool) {
        self.in_term.entry(term).or_default().push((wanted, force));
    }

    fn asked_in(&self, term: Term) -> &[(Wanted, bool)] {
        self.in_term.get(&term).map_or(&[], Vec::as_slice)
    }

    /// More is committed than before.
    pub(crate) fn on_committed(&mut self, now_us: u64, index: Index) {
        self.committed.push((now_us, index));
    }

    /// What was committed at that time.
    fn committed_at(&self, at_us: u64) -> Index {
        let later = self.committed.partition_point(|&(us, _)| us <= at_us);
        later.checked_sub(1).map_or(Index(0), |last| self.committed[last].1)
    }

    /// A leader begins a change; `answers` says who has lately answered it.
    pub(crate) fn check_begun(&self, begun: &Begun<'_>, answers: impl Fn(NodeId) -> bool) -> Verdict {
        let &Begun { leader, term, before, next } = begun;
        let by_itself = promotes(before, next);
        let asked = self.asked_in(term).iter();
        let is_full = waiting(before) >= self.max_learners;
        let fits = |wanted: &Wanted| wanted.makes(before, next) && !(is_full && wanted.adds_one_that_waits());
        let mut fitting = asked.filter(|(wanted, _)| fits(wanted)).peekable();
        require(JUDGE, by_itself || fitting.peek().is_some(), || {
            format!("{leader} makes {next} of {before}, which nobody has asked it for in term {term}")
        })?;
        let is_forced = fitting.any(|(_, force)| *force);
        let target = Configuration { old_voters: None, ..next.clone() };
        let can_decide = [Quorum::Election, Quorum::Commit]
            .into_iter()
            .all(|quorum| is_quorum(&target, quorum, |id| id == leader || answers(id)));
        require(REACHABLE, is_forced || can_decide, || {
            format!("{leader} goes from {before} to {next} unforced, and no quorum of that has answered it")
        })
    }

    /// At `now_us` a leader begins a change. Its new voters have to have what was committed before the last
    /// `lag_us`, but for those that the operator has chosen without asking whether they are ready. `has` says whether
    /// it is on a voter's disk; it need not be if the leader itself lacks it: then it is none any more.
    pub(crate) fn check_caught_up(
        &self,
        begun: &Begun<'_>,
        now_us: u64,
        lag_us: u64,
        has: impl Fn(NodeId, Index) -> bool,
    ) -> Verdict {
        let &Begun { leader, term, before, next } = begun;
        let is_chosen =
            |(wanted, _): &(Wanted, bool)| matches!(wanted, Wanted::Exactly(_)) && wanted.makes(before, next);
        let then = self.committed_at(now_us.saturating_sub(lag_us));
        if self.asked_in(term).iter().any(is_chosen) || !has(leader, then) {
            return Ok(());
        }
        let mut promoted = next.voters.iter().map(|(id, _)| id).filter(|&id| !before.is_voter(id));
        let behind = promoted.find(|&id| !has(id, then));
        require(CAUGHT_UP, behind.is_none(), || {
            format!("{leader} makes {behind:?} a voter by {next}, which lacks {then}, long committed")
        })
    }

    /// A leader has written down, in this term, where a member is reached. It may do so unasked for those of the first
    /// members of which nothing is written.
    pub(crate) fn check_addresses(
        &self,
        term: Term,
        member: NodeId,
        urls: &[String],
        is_introduced: bool,
    ) -> Verdict {
        let is_asked = self.asked_in(term).iter().any(|(wanted, _)| match wanted {
            Wanted::Change(
                MemberChange::Update { id, peer_urls } | MemberChange::Add { id, peer_urls, .. },
            ) => *id == member && peer_urls == urls,
            Wanted::Change(MemberChange::Remove { .. } | MemberChange::Promote { .. })
            | Wanted::Exactly(_) => false,
        });
        require(JUDGE, is_asked || is_introduced, || {
            format!("the leader of term {term} has {member} reached at {urls:?}, and was not asked for it")
        })
    }
}

/// Checks that what an operator is told in place of "done" was true at some time since: `past` are all configurations
/// until now, `asked` says how far the log was committed when it was asked for.
pub(crate) fn check_refusal(
    past: &[(Index, Configuration)],
    asked: Index,
    max_learners: usize,
    change: &MemberChange,
    force: bool,
    refusal: &ChangeRefusal,
) -> Verdict {
    let in_force_then = past.iter().rposition(|(index, _)| *index <= asked).unwrap_or(0);
    let was =
        |holds: &dyn Fn(&Configuration) -> bool| past[in_force_then..].iter().any(|(_, then)| holds(then));
    let is_true = match (refusal, change) {
        (ChangeRefusal::MemberNotFound, MemberChange::Add { id, .. }) => {
            past.iter().any(|(_, then)| then.is_member(*id)) && was(&|then| !then.is_member(*id))
        }
        (ChangeRefusal::MemberNotFound, MemberChange::Promote { id, replaces, .. }) => {
            was(&|then| !then.is_member(*id) || replaces.is_some_and(|old| !then.is_voter(old)))
        }
        (ChangeRefusal::MemberNotFound, MemberChange::Remove { id } | MemberChange::Update { id, .. }) => {
            was(&|then| !then.is_member(*id))
        }
        (ChangeRefusal::NotALearner, MemberChange::Promote { id, .. }) => was(&|then| then.is_voter(*id)),
        (ChangeRefusal::NotCaughtUp, MemberChange::Promote { id, .. }) => {
            was(&|then| then.learners.contains_key(id))
        }
        (ChangeRefusal::TooManyLearners, MemberChange::Add { learner: Learner::Waits, .. }) => {
            was(&|then| waiting(then) >= max_learners)
        }
        (ChangeRefusal::NoVoters, MemberChange::Remove { id }) => {
            was(&|then| then.voters.iter().all(|(voter, _)| voter == *id))
        }
        (&ChangeRefusal::WouldLoseQuorum { needed, of, reachable }, _) => {
            !force && reachable < needed && needed <= of
        }
        // What was said of addresses is judged by what was written of them. And whoever comes or goes, quorums that were
        // set go on meeting.
        (
            ChangeRefusal::PeerUrlExists
            | ChangeRefusal::Unsafe { .. }
            | ChangeRefusal::NotALearner
            | ChangeRefusal::NotCaughtUp
            | ChangeRefusal::TooManyLearners
            | ChangeRefusal::NoVoters,
            _,
        ) => false,
    };
    require(REFUSAL, is_true, || format!("{change:?} is refused: {refusal}, which was not so since"))
}

/// How many learners wait to be promoted.
fn waiting(configuration: &Configuration) -> usize {
    configuration.learners.values().filter(|learner| **learner == Learner::Waits).count()
}

impl Wanted {
    fn adds_one_that_waits(&self) -> bool {
        matches!(self, Wanted::Change(MemberChange::Add { learner: Learner::Waits, .. }))
    }

    /// Whether this is the way from `before` to `next`.
    fn makes(&self, before: &Configuration, next: &Configuration) -> bool {
        let change = match self {
            Wanted::Exactly(target) => {
                return (&target.voters, &target.learners) == (&next.voters, &next.learners);
            }
            Wanted::Change(change) => change,
        };
        let (mut votes, mut learners) = (votes_of(&before.voters), before.learners.clone());
        match *change {
            MemberChange::Add { id, learner, .. } => {
                learners.insert(id, learner);
            }
            MemberChange::Remove { id } => {
                votes.remove(&id);
                learners.remove(&id);
            }
            MemberChange::Promote { id, votes: wanted, replaces } => {
                learners.remove(&id);
                let inherited = replaces.and_then(|old| votes.remove(&old));
                votes.insert(id, wanted.or(inherited).unwrap_or(1));
            }
            MemberChange::Update { .. } => return false,
        }
        (votes, learners) == (votes_of(&next.voters), next.learners.clone())
    }
}

fn votes_of(voters: &Voters) -> BTreeMap<NodeId, u32> {
    voters.iter().collect()
}

/// Whether nothing happens but that learners become the voters that they joined to be.
fn promotes(before: &Configuration, next: &Configuration) -> bool {
    let mut votes = votes_of(&before.voters);
    let mut learners = before.learners.clone();
    for (&id, &learner) in &before.learners {
        if let (Learner::Joins { votes: joins_with }, true) = (learner, next.voters.contains(id)) {
            learners.remove(&id);
            votes.insert(id, joins_with);
        }
    }
    learners != before.learners && (votes, learners) == (votes_of(&next.voters), next.learners.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn of(voters: &[(u64, u32)], learners: &[(u64, Learner)]) -> Configuration {
        Configuration {
            voters: Voters::weighted(voters.iter().map(|&(id, votes)| (node(id), votes))),
            old_voters: None,
            learners: learners.iter().map(|&(id, learner)| (node(id), learner)).collect(),
        }
    }

    fn asked(change: MemberChange, force: bool) -> Asked {
        let mut asked = Asked::new(1);
        asked.on_asked(Term(3), Wanted::Change(change), force);
        asked
    }

    fn begun<'a>(before: &'a Configuration, next: &'a Configuration) -> Begun<'a> {
        Begun { leader: node(1), term: Term(3), before, next }
    }

    const JOINS: Learner = Learner::Joins { votes: 2 };

    #[test]
    fn what_nobody_asked_for_is_seen() {
        let replaced = MemberChange::Promote { id: node(4), votes: None, replaces: Some(node(3)) };
        let before = of(&[(1, 1), (2, 1), (3, 2)], &[(4, Learner::Waits)]);
        let judge = |next: &Configuration, term: u64| {
            let begun = Begun { term: Term(term), ..begun(&before, next) };
            asked(replaced.clone(), false).check_begun(&begun, |_| true).map_err(|broken| broken.judge)
        };
        judge(&of(&[(1, 1), (2, 1), (4, 2)], &[]), 3).unwrap();
        assert_eq!(judge(&of(&[(1, 1), (2, 1), (4, 2)], &[]), 4), Err(JUDGE), "asked for in another term");
        assert_eq!(judge(&of(&[(1, 1), (2, 1), (4, 1)], &[]), 3), Err(JUDGE), "one vote too few");
        assert_eq!(judge(&of(&[(1, 1), (2, 1), (3, 2), (4, 2)], &[]), 3), Err(JUDGE), "nobody is replaced");
    }

    #[test]
    fn learners_that_join_become_voters_by_themselves_and_others_do_not() {
        let before = of(&[(1, 1)], &[(2, JOINS), (3, Learner::Waits)]);
        let judge = |next: Configuration| Asked::default().check_begun(&begun(&before, &next), |_| true);
        judge(of(&[(1, 1), (2, 2)], &[(3, Learner::Waits)])).unwrap();
        assert_eq!(judge(of(&[(1, 1), (2, 1)], &[(3, Learner::Waits)])).unwrap_err().judge, JUDGE);
        assert_eq!(judge(of(&[(1, 1), (3, 1)], &[(2, JOINS)])).unwrap_err().judge, JUDGE);
    }

    #[test]
    fn a_learner_too_many_is_seen() {
        let one = of(&[(1, 1)], &[(2, Learner::Waits)]);
        let two = of(&[(1, 1)], &[(2, Learner::Waits), (3, Learner::Waits)]);
        let none = of(&[(1, 1)], &[]);
        let add = |id| MemberChange::Add { id: node(id), peer_urls: Vec::new(), learner: Learner::Waits };
        asked(add(2), false).check_begun(&begun(&none, &one), |_| true).unwrap();
        let seen = asked(add(3), false).check_begun(&begun(&one, &two), |_| true).unwrap_err();
        assert_eq!(seen.judge, JUDGE);
    }

    #[test]
    fn a_change_that_leaves_no_quorum_in_reach_is_seen_unless_it_is_forced() {
        let (before, next) = (of(&[(1, 1), (2, 1), (3, 1)], &[]), of(&[(1, 1), (2, 1)], &[]));
        let removal = || MemberChange::Remove { id: node(3) };
        let judge = |force, there: u64| {
            asked(removal(), force).check_begun(&begun(&before, &next), |id| id == node(there))
        };
        judge(false, 2).unwrap();
        judge(true, 3).unwrap();
        assert_eq!(judge(false, 3).unwrap_err().judge, REACHABLE);
    }

    #[test]
    fn a_voter_that_lacks_what_was_long_committed_is_seen() {
        let (before, next) = (of(&[(1, 1)], &[(2, JOINS)]), of(&[(1, 1), (2, 2)], &[]));
        let mut asked = Asked::default();
        asked.on_committed(100, Index(5));
        asked.on_committed(200, Index(9));
        let judge = |asked: &Asked, holds: u64| {
            let has = |id, index| id == node(1) || index <= Index(holds);
            asked.check_caught_up(&begun(&before, &next), 250, 100, has)
        };
        judge(&asked, 5).unwrap();
        assert_eq!(judge(&asked, 4).unwrap_err().judge, CAUGHT_UP);
        asked.on_asked(Term(3), Wanted::Exactly(next.clone()), false);
        judge(&asked, 4).unwrap();
    }

    #[test]
    fn addresses_of_another_term_are_seen() {
        let urls = vec!["http://2.example:1".to_owned()];
        let asked = asked(MemberChange::Update { id: node(2), peer_urls: urls.clone() }, false);
        asked.check_addresses(Term(3), node(2), &urls, false).unwrap();
        asked.check_addresses(Term(4), node(2), &urls, true).unwrap();
        assert_eq!(asked.check_addresses(Term(4), node(2), &urls, false).unwrap_err().judge, JUDGE);
    }

    #[test]
    fn a_refusal_without_a_reason_is_seen() {
        let past = [(Index(0), of(&[(1, 1)], &[])), (Index(5), of(&[(1, 1), (2, 1)], &[]))];
        let judge_since = |asked, id, refusal| {
            let change = MemberChange::Remove { id: node(id) };
            check_refusal(&past, Index(asked), 1, &change, false, &refusal)
        };
        let judge = |id, refusal| judge_since(5, id, refusal);
        judge(3, ChangeRefusal::MemberNotFound).unwrap();
        judge_since(4, 2, ChangeRefusal::MemberNotFound).unwrap();
        assert_eq!(judge(2, ChangeRefusal::MemberNotFound).unwrap_err().judge, REFUSAL);
        assert_eq!(judge(2, ChangeRefusal::NoVoters).unwrap_err().judge, REFUSAL);
        let lost = ChangeRefusal::WouldLoseQuorum { needed: 1, of: 1, reachable: 1 };
        assert_eq!(judge(2, lost).unwrap_err().judge, REFUSAL);
    }
}

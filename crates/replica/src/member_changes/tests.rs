//! Which step comes next, and what the books say.

use tenure_raft::{Quorums, Voters};
use tenure_store::Command;

use super::*;

fn id(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

fn url(number: u64) -> Vec<String> {
    vec![format!("http://{number}")]
}

/// A leader of members 1, 2 and 3, which are reached at addresses of their numbers.
struct Leader {
    store: Store,
    configuration: Configuration,
    is_caught_up: bool,
}

impl Leader {
    fn new() -> Leader {
        let mut store = Store::new();
        for id in 1..=3 {
            let command = Command::SetPeerUrls { id, peer_urls: url(id) };
            assert!(store.apply(id, &command).result.is_ok());
        }
        Leader { store, configuration: Configuration::of_voters((1..=3).map(id)), is_caught_up: true }
    }

    fn next_step(&self, change: &MemberChange) -> NextStep {
        let Leader { store, configuration, is_caught_up } = self;
        change.next_step(&View { store, configuration, is_caught_up: *is_caught_up, max_learners: 1 })
    }

    /// Takes every step at once; how the change ends.
    fn bring_about(&mut self, change: &MemberChange) -> NextStep {
        loop {
            let index = self.store.applied_index() + 1;
            match self.next_step(change) {
                NextStep::WriteAddresses { id, peer_urls } => {
                    let command = Command::SetPeerUrls { id: id.as_u64(), peer_urls };
                    assert!(self.store.apply(index, &command).result.is_ok());
                }
                NextStep::Configure(target) => {
                    let gone = self.configuration.members().filter(|&id| !target.is_member(id));
                    let gone: Vec<u64> = gone.map(NodeId::as_u64).collect();
                    self.store.apply_removal(index, &gone);
                    self.configuration = target;
                }
                end @ (NextStep::Done | NextStep::Refuse(_)) => return end,
            }
        }
    }

    fn shows(&mut self, change: &MemberChange) -> String {
        match self.bring_about(change) {
            NextStep::Refuse(why) => why.to_string(),
            _ => self.configuration.to_string(),
        }
    }
}

fn add(number: u64, learner: Learner) -> MemberChange {
    MemberChange::Add { id: id(number), peer_urls: url(number), learner }
}

fn remove(number: u64) -> MemberChange {
    MemberChange::Remove { id: id(number) }
}

fn promote(number: u64, votes: Option<u32>, replaces: Option<u64>) -> MemberChange {
    MemberChange::Promote { id: id(number), votes, replaces: replaces.map(id) }
}

fn update(number: u64, to: u64) -> MemberChange {
    MemberChange::Update { id: id(number), peer_urls: url(to) }
}

#[test]
fn the_addresses_are_known_before_the_member_is() {
    let mut leader = Leader::new();
    let change = add(4, Learner::Joins { votes: 2 });
    assert_eq!(leader.next_step(&change), NextStep::WriteAddresses { id: id(4), peer_urls: url(4) });
    assert_eq!(leader.shows(&change), "{n1 n2 n3 + n4!×2}");
    assert_eq!(leader.next_step(&change), NextStep::Done, "to ask twice does no harm");
}

#[test]
fn what_a_change_would_make_wrong_is_refused() {
    let mut leader = Leader::new();
    for (change, shown) in [
        (remove(9), "there is no such member"),
        (update(9, 9), "there is no such member"),
        (promote(9, None, None), "there is no such member"),
        (update(1, 2), "another member has one of the peer URLs"),
        (
            MemberChange::Add { id: id(4), peer_urls: [url(4), url(2)].concat(), learner: Learner::Waits },
            "another member has one of the peer URLs",
        ),
        (update(1, 1), "{n1 n2 n3}"),
        (add(4, Learner::Waits), "{n1 n2 n3 + n4}"),
        (add(5, Learner::Waits), "there are too many learners"),
        (add(6, Learner::Joins { votes: 1 }), "{n1 n2 n3 + n4 n6!}"),
        (promote(4, None, Some(9)), "there is no such member"),
        (promote(1, None, Some(2)), "the member is no learner"),
        (remove(6), "{n1 n2 n3 + n4}"),
        (add(6, Learner::Waits), "there is no such member"),
        (update(6, 6), "there is no such member"),
        (remove(6), "{n1 n2 n3 + n4}"),
    ] {
        assert_eq!(leader.shows(&change), shown, "{change:?}");
    }
    leader.is_caught_up = false;
    assert_eq!(leader.shows(&promote(4, None, None)), "the learner has not caught up with the leader");
}

#[test]
fn one_is_replaced_by_another_in_one_step_and_leaves_it_its_votes() {
    let mut leader = Leader::new();
    leader.configuration.voters = Voters::weighted([(id(1), 1), (id(2), 3), (id(3), 1)]);
    leader.bring_about(&add(4, Learner::Waits));
    let change = promote(4, None, Some(2));
    let NextStep::Configure(target) = leader.next_step(&change) else { panic!("one step") };
    assert_eq!(target.to_string(), "{n1 n3 n4×3}");
    assert_eq!(leader.shows(&change), "{n1 n3 n4×3}");
    assert_eq!(leader.next_step(&change), NextStep::Done);
}

#[test]
fn the_only_voter_is_replaced_though_quorums_are_set() {
    let mut leader = Leader::new();
    let set = Quorums { election_votes: 1, commit_votes: 1 };
    leader.configuration.voters = Voters::weighted([(id(1), 1)]).with_quorums(Some(set));
    leader.bring_about(&add(4, Learner::Waits));
    let NextStep::Configure(target) = leader.next_step(&promote(4, None, Some(1))) else {
        panic!("one step")
    };
    assert_eq!(target.voters, Voters::weighted([(id(4), 1)]).with_quorums(Some(set)));
}

#[test]
fn a_promoted_learner_has_one_vote_or_as_many_as_it_is_given() {
    let mut leader = Leader::new();
    leader.bring_about(&add(4, Learner::Waits));
    assert_eq!(leader.shows(&promote(4, Some(2), None)), "{n1 n2 n3 n4×2}");
}

#[test]
fn nobody_is_without_a_voter_and_quorums_that_were_set_still_meet() {
    let refused = |changed: &Configuration| match changed.check() {
        Ok(()) => None,
        Err(invalid) => Some(ChangeRefusal::from(invalid)),
    };
    let mut leader = Leader::new();
    leader.configuration = Configuration::of_voters([id(1)]);
    let NextStep::Configure(target) = leader.next_step(&remove(1)) else { panic!("the core refuses it") };
    assert_eq!(refused(&target), Some(ChangeRefusal::NoVoters));
    let quorums = Quorums { election_votes: 3, commit_votes: 1 };
    leader.configuration.voters = Voters::of((1..=3).map(id)).with_quorums(Some(quorums));
    let NextStep::Configure(target) = leader.next_step(&remove(1)) else { panic!("the core refuses it") };
    assert_eq!(refused(&target), None);
    assert_eq!(target.voters.to_string(), "n2 n3 elect 2 commit 1");
    leader.configuration = target;
    leader.configuration.learners.insert(id(7), Learner::Waits);
    leader.is_caught_up = true;
    let promote = MemberChange::Promote { id: id(7), votes: Some(2), replaces: None };
    let NextStep::Configure(target) = leader.next_step(&promote) else { panic!("it has caught up") };
    assert_eq!(target.voters.to_string(), "n2 n3 n7×2 elect 4 commit 1");
}

#[test]
fn a_request_is_repeated_until_it_is_answered_or_over() {
    const REPEAT_US: u64 = 500;
    let (number, term) = (RequestId(7), Term(2));
    let mut changes = MemberChanges::default();
    assert_eq!(changes.ask(number, Time(10_000), remove(3), true), Some(()));
    assert_eq!(changes.due(Time(0), term, REPEAT_US), [], "what was committed before is not known yet");
    assert_eq!(changes.on_read(number), Some(&remove(3)));
    assert_eq!(changes.due(Time(0), term, REPEAT_US), [(number, remove(3), true)]);
    assert_eq!(changes.due(Time(499), term, REPEAT_US), []);
    assert_eq!(changes.next_deadline(true, REPEAT_US), Time(500));
    assert_eq!(changes.next_deadline(false, REPEAT_US), Time(10_000), "nobody is there to be asked");
    assert_eq!(changes.due(Time(500), term, REPEAT_US).len(), 1);
    assert_eq!(changes.due(Time(501), Term(3), REPEAT_US).len(), 1, "another leader is asked at once");
    // It is over here when it is applied here.
    assert_eq!(changes.on_answer(number, ChangeAnswer::Done(Index(9))), None);
    assert_eq!(changes.due(Time(5_000), term, REPEAT_US), []);
    assert_eq!(changes.take_done(Index(8), |_| false), []);
    assert_eq!(changes.clone().take_done(Index(9), |_| false), [number]);
    assert_eq!(
        changes.take_done(Index(8), |change| *change == remove(3)),
        [number],
        "nothing comes behind it"
    );
    assert_eq!(changes.on_answer(number, ChangeAnswer::Refused(ChangeRefusal::MemberNotFound)), None);
}

#[test]
fn what_nobody_was_asked_for_is_certainly_not_done() {
    let mut changes = MemberChanges::default();
    changes.ask(RequestId(1), Time(10), remove(3), false);
    changes.on_read(RequestId(1));
    let _ = changes.due(Time(0), Term(1), 5);
    changes.ask(RequestId(2), Time(10), remove(4), false);
    let expired = changes.expire(Time(10));
    assert_eq!(expired, [(RequestId(1), Failure::TimedOut), (RequestId(2), Failure::NoLeader)]);
}

#[test]
fn what_waits_is_bounded_and_another_term_begins_anew() {
    let mut changes = MemberChanges::default();
    for number in 0..MAX_CHANGES as u64 {
        assert!(changes.ask(RequestId(number), Time(10), remove(3), false).is_some());
    }
    assert_eq!(changes.ask(RequestId(1 << 20), Time(10), remove(3), false), None);
    for number in 0..2 * MAX_CHANGES as u64 {
        changes.want(Term(1), (id(2), 1, RequestId(number)), remove(3), false);
    }
    assert!(changes.are_wanted(Term(1)) && !changes.are_wanted(Term(2)));
    assert_eq!(changes.take_wanted().len(), MAX_CHANGES);
    changes.want(Term(2), (id(2), 1, RequestId(1)), remove(3), false);
    changes.want(Term(3), (id(2), 1, RequestId(2)), remove(3), false);
    assert_eq!(changes.take_wanted().len(), 1);
}

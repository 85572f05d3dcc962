//! Elections: E1 to E11 (§5.2, §5.4.1, §5.6).

use std::collections::BTreeSet;

use tenure_raft::{
    Event, Index, Message, NodeId, Options, OptionsError, RoleKind, Round, StepDownReason, Term, Time,
};

use crate::cluster::single::{Single, append, id, to};
use crate::cluster::{Answer, Cluster, Image, World, n};

fn pre_vote_granted(term: u64) -> Message {
    Message::PreVoteReply { proposed_term: Term(term + 1), granted: true }
}

/// E1, §5.2: a follower that hears no leader within its election timeout increments its term, votes for
/// itself and asks the others. (It first asks whether it could win, thesis §9.6.)
#[test]
fn e1_a_follower_that_hears_no_leader_campaigns() {
    let options = Options::default();
    let mut follower = Single::new(3, &[1]);
    for beat in 1..=30 {
        follower.now = Time(beat * options.heartbeat_interval_us);
        follower.input(tenure_raft::Node::on_time);
        follower.receive(2, 1, Message::Heartbeat { commit_index: Index(0), round: Round(0) });
    }
    assert_eq!(follower.node.role(), RoleKind::Follower, "it hears a leader");
    let silent_since = follower.now;
    follower.run_to_deadline();
    let waited_us = follower.now.since_us(silent_since);
    let longest_us = options.election_timeout_us + options.election_spread_us;
    assert!((options.election_timeout_us..longest_us).contains(&waited_us));
    assert_eq!(follower.node.role(), RoleKind::PreCandidate);
    let sent = follower.receive(3, 1, pre_vote_granted(1));
    let hard_state = follower.node.status().hard_state;
    assert_eq!((hard_state.current_term, hard_state.voted_for), (Term(2), Some(n(1))));
    for other in [2, 3] {
        let request = Message::RequestVote { last: id(1, 1), leadership_transfer: false };
        assert_eq!(to(&sent, other), [&request]);
    }
}

/// E2, §5.2: one vote a server and term, first come first served, persisted before it is answered.
#[test]
fn e2_one_vote_a_term_first_come_first_served() {
    let request = Message::RequestVote { last: id(1, 1), leadership_transfer: false };
    let mut voter = Single::new(5, &[1]);
    voter.receive_only(2, 5, request.clone());
    assert_eq!(voter.sent, [], "not before it is on disk");
    let written = voter.writes[0].hard_state.expect("the vote is written");
    assert_eq!((written.current_term, written.voted_for), (Term(5), Some(n(2))));
    voter.finish_writes();
    assert_eq!(to(&voter.sent, 2), [&Message::RequestVoteReply { granted: true }]);
    let refused = voter.receive(3, 5, request.clone());
    assert_eq!(to(&refused, 3), [&Message::RequestVoteReply { granted: false }], "second come");
    let again = voter.receive(2, 5, request.clone());
    assert_eq!(to(&again, 2), [&Message::RequestVoteReply { granted: true }], "the answer was lost");
    // A restart does not free the vote.
    let mut image = Image::new(voter.node.configuration().clone()).with_terms(&[1]);
    image.hard_state = written;
    let mut restarted = Single::with_image(&image, Options::default());
    let refused = restarted.receive(3, 5, request);
    assert_eq!(to(&refused, 3), [&Message::RequestVoteReply { granted: false }]);
}

/// E3, §5.2: three ways out of candidacy: a majority of votes; word from a leader of the same or a later
/// term; a timeout, and a new election.
#[test]
fn e3_three_ways_out_of_candidacy() {
    let candidate = || {
        let mut server = Single::new(5, &[1]);
        server.run_to_deadline();
        server.receive(2, 1, pre_vote_granted(1));
        server.receive(3, 1, pre_vote_granted(1));
        assert_eq!((server.node.role(), server.node.current_term()), (RoleKind::Candidate, Term(2)));
        server
    };
    let granted = Message::RequestVoteReply { granted: true };
    let mut winner = candidate();
    winner.receive(2, 2, granted.clone());
    winner.receive(2, 2, granted.clone());
    assert_eq!(winner.node.role(), RoleKind::Candidate, "one server votes once");
    winner.receive(3, 2, granted);
    assert_eq!(winner.node.role(), RoleKind::Leader, "three of five");
    for term in [2, 3] {
        let mut loser = candidate();
        loser.receive(4, term, Message::Heartbeat { commit_index: Index(0), round: Round(0) });
        assert_eq!((loser.node.role(), loser.node.leader_id()), (RoleKind::Follower, Some(n(4))));
    }
    let mut split = candidate();
    split.run_to_deadline();
    split.receive(2, 2, pre_vote_granted(2));
    split.receive(3, 2, pre_vote_granted(2));
    assert_eq!((split.node.role(), split.node.current_term()), (RoleKind::Candidate, Term(3)));
}

/// E4, §5.2: the winner makes itself known at once. Followers learn the term and the leader from that.
#[test]
fn e4_the_winner_makes_itself_known_at_once() {
    let mut winner = Single::new(3, &[1]);
    winner.run_to_deadline();
    winner.receive(2, 1, pre_vote_granted(1));
    let announced = winner.receive(2, 2, Message::RequestVoteReply { granted: true });
    for other in [2, 3] {
        assert!(matches!(to(&announced, other)[..], [Message::AppendEntries { .. }]), "{announced:?}");
    }
    let mut cluster = Cluster::new(5, 1);
    cluster.await_that(5_000, "a leader", |cluster| cluster.leader().is_some());
    let leader = cluster.leader().expect("awaited");
    let spread_us = cluster.await_that(5_000, "known to all", |cluster| {
        cluster.up().all(|id| cluster.node(id).leader_id() == Some(leader))
    });
    assert!(spread_us <= cluster.world.delay_us.1, "one message later, not one heartbeat: {spread_us}");
    assert_eq!(cluster.highest_term(), Term(1));
}

/// E5, §9.3: timeouts are spread so that split votes are rare. With five servers and elections of about
/// 10 ms, a spread of 100 ms lets nearly all first elections succeed.
#[test]
fn e5_timeouts_are_spread_so_that_split_votes_are_rare() {
    let options = Options {
        election_timeout_us: 100_000,
        election_spread_us: 100_000,
        heartbeat_interval_us: 20_000,
        ..Options::default()
    };
    let mut first_try = 0;
    let mut deadlines = BTreeSet::new();
    for seed in 0..100 {
        let configuration = Cluster::new(5, 0).node(n(1)).configuration().clone();
        let images = (1..=5).map(|id| (n(id), Image::new(configuration.clone()))).collect();
        let world = World { delay_us: (2_000, 3_000), disk_us: (500, 1_000), ..World::default() };
        let mut cluster = Cluster::with_disks(images, seed, options.clone(), world);
        deadlines.extend(cluster.up().map(|id| cluster.node(id).next_deadline().0));
        cluster.await_leader();
        let campaigns = cluster.seen["became candidate"];
        first_try += usize::from(campaigns == 1);
        assert!(cluster.now < Time(500_000), "even the worst is over soon: {:?}", cluster.now);
    }
    assert!(first_try >= 80, "{first_try} of 100 elections had one candidate");
    let (earliest, latest) = (deadlines.first().expect("some"), deadlines.last().expect("some"));
    assert!(*earliest < 102_000 && *latest > 198_000, "the whole spread is used: {earliest}..{latest}");
}

/// E6, §5.6: broadcast time ≪ election timeout ≪ time between failures. Broadcasts of 0.5 to 20 ms never
/// cost a leader its place; settings that cannot work are refused.
#[test]
fn e6_slow_broadcasts_cost_no_leader_its_place() {
    let mut cluster = Cluster::new(5, 1);
    cluster.world = World { delay_us: (500, 20_000), disk_us: (500, 10_000), ..World::default() };
    let leader = cluster.await_leader();
    let term = cluster.highest_term();
    cluster.run_for_ms(60_000);
    assert_eq!((cluster.leader(), cluster.highest_term()), (Some(leader), term), "a minute without election");
    assert!(!cluster.seen.contains_key("stepped down"));

    let mut slow = Options { heartbeat_interval_us: 600_000, ..Options::default() };
    assert_eq!(slow.check(), Err(OptionsError::HeartbeatTooSlow), "followers would campaign in between");
    slow.heartbeat_interval_us = 0;
    assert_eq!(slow.check(), Err(OptionsError::HeartbeatTooSlow));
}

/// E7, §5.6: an election without a failure is harmless: safety never depends on timing.
#[test]
fn e7_an_election_without_a_failure_is_harmless() {
    let mut cluster = Cluster::new(3, 5);
    let mut expected = String::new();
    // Messages take longer than the election timeout, now and then by far.
    let calm = cluster.world.clone();
    for round in 0..30 {
        let leader = cluster.await_leader();
        let append = cluster.propose(leader, &format!("append x {round},"));
        let answer = cluster.await_answer(append);
        expected.push_str(&round.to_string());
        expected.push(',');
        assert_eq!(answer, Answer::Done(expected.clone()));
        cluster.world.delay_us = (500_000, 4_000_000);
        cluster.run_for_ms(4_000);
        cluster.world = calm.clone();
        cluster.run_for_ms(5_000);
    }
    assert!(cluster.judges.leaders() > 5, "there were many: {}", cluster.judges.leaders());
    cluster.await_equal();
    assert_eq!(cluster.machine(n(1)).get("x"), expected);
}

/// E8, §5.1: an old leader on the minority side goes on believing that it leads, commits nothing and
/// answers nothing; when it hears the new term it steps down and its uncommitted tail is replaced.
#[test]
fn e8_an_old_leader_in_the_minority_gives_way() {
    let mut cluster = Cluster::new(5, 1);
    let old = cluster.await_leader();
    let companion = cluster.others(&[old])[0];
    let majority = cluster.others(&[old, companion]);
    cluster.partition(&[&[old, companion], &majority]);
    let lost = cluster.propose_all(old, &["put x 1", "put x 2", "put x 3"]);
    cluster.run_for_ms(400);
    assert_eq!(cluster.node(old).role(), RoleKind::Leader, "it knows nothing yet");
    let tail = cluster.node(old).log().last();
    assert_eq!(cluster.node(companion).log().last(), tail, "its companion holds the tail as well");
    let new = cluster.await_leader_among(&majority);
    let kept = cluster.propose_all(new, &["put x 4", "put y 5", "put z 6"]);
    assert_eq!(cluster.await_answer(kept[0]), Answer::Done("4".to_owned()));
    assert!(lost.iter().all(|&operation| cluster.operations[operation].answered.is_none()));
    cluster.network.heal();
    cluster.await_equal();
    for id in [old, companion] {
        assert_eq!(cluster.node(id).leader_id(), Some(new));
        assert!(!cluster.node(id).log().matches(tail), "the tail is replaced");
    }
    assert!(lost.iter().all(|&operation| cluster.operations[operation].answer() == Answer::NotDone));
}

/// E8, §5.1: an old leader that hears the new term while it still believes that it leads steps down at
/// once.
#[test]
fn e8_the_new_term_ends_the_old_leadership() {
    let mut old = Single::new(3, &[1]);
    let term = old.lead();
    old.propose("put x 1");
    old.receive(3, term.0 + 1, append(id(1, 1), &[term.0 + 1], 2));
    let stepped_down = Event::SteppedDown { term, reason: StepDownReason::HigherTerm };
    assert!(old.events.contains(&stepped_down));
    assert_eq!(old.node.leader_id(), Some(n(3)));
    assert_eq!(old.node.log().last(), id(2, term.0 + 1), "its own tail is gone");
}

/// E9, thesis §6.2: a leader that can send but not receive must not hold the others back for ever.
#[test]
fn e9_a_leader_that_gets_no_answers_steps_down() {
    let mut cluster = Cluster::new(3, 1);
    let deaf = cluster.await_leader();
    cluster.await_equal();
    for other in cluster.others(&[deaf]) {
        cluster.network.cut(other, deaf);
    }
    let timeout_us = cluster.options.election_timeout_us;
    let after_us =
        cluster.await_that(5_000, "it steps down", |cluster| cluster.node(deaf).role() != RoleKind::Leader);
    assert!((timeout_us - 200_000..=timeout_us + 200_000).contains(&after_us), "{after_us}");
    let others = cluster.others(&[deaf]);
    let new = cluster.await_leader_among(&others);
    let put = cluster.propose(new, "put x 1");
    assert_eq!(cluster.await_answer(put), Answer::Done("1".to_owned()));
}

/// E10: with a leader, one round of messages commits a command; without one, the election comes before.
#[test]
fn e10_one_round_of_messages_commits() {
    let mut cluster = Cluster::new(5, 1);
    cluster.world = World { delay_us: (10_000, 10_000), disk_us: (0, 0), ..World::default() };
    let leader = cluster.await_leader();
    cluster.run_for_ms(500);
    let put = cluster.propose(leader, "put x 1");
    let last = cluster.node(leader).log().last_index();
    let commits =
        cluster.await_that(1_000, "committed", |cluster| cluster.node(leader).log().commit_index() == last);
    assert_eq!(commits, 20_000, "there and back");
    cluster.await_answer(put);

    // Without a leader: the vote is one round more (and the question before it another).
    cluster.crash(leader);
    let others = cluster.others(&[leader]);
    let is_candidate =
        move |cluster: &Cluster| cluster.up().any(|id| cluster.node(id).role() == RoleKind::Candidate);
    cluster.await_that(5_000, "somebody campaigns", is_candidate);
    let commit = cluster.judges.committed.len();
    let took_us = cluster
        .await_that(1_000, "its first entry is committed", |cluster| cluster.judges.committed.len() > commit);
    assert_eq!(took_us, 40_000, "two rounds");
    assert!(others.contains(&cluster.await_leader()));
}

/// E11, §5.4.1: only a candidate whose log is at least as up to date gets a vote: the later last term
/// first, then the length.
#[test]
fn e11_only_an_up_to_date_candidate_gets_a_vote() {
    let own = [1, 1, 2, 2];
    let cases = [
        (id(4, 2), true),
        (id(5, 2), true),
        (id(1, 3), true),
        (id(3, 2), false),
        (id(9, 1), false),
        (id(0, 0), false),
    ];
    for (last, up_to_date) in cases {
        let mut voter = Single::new(3, &own);
        let reply = voter.receive(2, 5, Message::RequestVote { last, leadership_transfer: false });
        assert_eq!(to(&reply, 2), [&Message::RequestVoteReply { granted: up_to_date }], "last {last}");
        let mut asked = Single::new(3, &own);
        let reply = asked.receive(2, 4, Message::PreVote { proposed_term: Term(5), last });
        let expected = Message::PreVoteReply { proposed_term: Term(5), granted: up_to_date };
        assert_eq!(to(&reply, 2), [&expected], "last {last}");
    }
    // In a cluster: whoever lacks a committed entry does not win, however often it tries.
    let mut cluster = Cluster::new(3, 2);
    let leader = cluster.await_leader();
    let behind = cluster.others(&[leader])[0];
    cluster.isolate(behind);
    let put = cluster.propose(leader, "put x 1");
    cluster.await_answer(put);
    cluster.await_that(1_000, "the other has it too", |cluster| {
        let last = cluster.node(leader).log().last();
        cluster.up().filter(|&id| id != behind).all(|id| cluster.disk(id).holds(last))
    });
    cluster.network.heal();
    cluster.crash(leader);
    let other: Vec<NodeId> = cluster.others(&[leader, behind]);
    cluster.run_for_ms(1);
    let catch_up = move |envelope: &tenure_raft::Envelope| {
        envelope.to == behind && matches!(envelope.message, Message::AppendEntries { .. })
    };
    cluster.network.catch(catch_up);
    cluster.run_for_ms(20_000);
    assert_eq!(cluster.judges.leaders_among(&[behind]), 0);
    cluster.network.stop_catching();
    assert_eq!(cluster.await_leader(), other[0]);
}

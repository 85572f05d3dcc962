//! The replicated state machine: M1 to M9 (§2).

use tenure_raft::{Event, Message, ProposeError, Round, Term};

use crate::cluster::single::{Single, append, id};
use crate::cluster::{Answer, Cluster, Machine, World, n};

/// M1, §2: replicas run the same commands in the same order from the same start, so starting state and log
/// make the state.
#[test]
fn m1_the_starting_state_and_the_log_make_the_state() {
    let mut cluster = Cluster::new(3, 1);
    cluster.world = World { delay_us: (100, 9_000), ..World::default() };
    let leader = cluster.await_leader();
    for round in 0..30 {
        cluster.propose(leader, &format!("append x {round}"));
        cluster.propose(leader, &format!("put y {round}"));
        cluster.run_for_ms(3);
    }
    let late = cluster.others(&[leader])[0];
    cluster.crash(late);
    cluster.restart(late);
    cluster.await_equal();
    let mut replayed = Machine::default();
    for entry in &cluster.disk(leader).entries {
        replayed.apply(entry);
    }
    assert!(replayed.get("x").starts_with("01234567891011"), "the commands were executed in their order");
    for id in cluster.others(&[]) {
        assert_eq!(*cluster.machine(id), replayed, "{id}");
    }
}

/// M1, M2: the example of the crate, a replicated counter that loses its leader and gets it back.
#[test]
fn m1_the_example_counts_the_same_on_every_server() {
    crate::counter::main();
}

/// M2, §2: any replica can take over for one that failed.
#[test]
fn m2_any_replica_can_take_over() {
    for successor in 1..=3 {
        let mut cluster = Cluster::new(3, successor);
        let first = cluster.await_leader();
        let put = cluster.propose(first, "put x 1");
        cluster.await_answer(put);
        if first != n(successor) {
            cluster.transfer(first, n(successor));
            cluster
                .await_that(1_000, "the successor leads", |cluster| cluster.leader() == Some(n(successor)));
        }
        // And without being asked: whoever is left of the three.
        cluster.crash(n(successor));
        cluster.await_that(5_000, "another leads", |cluster| cluster.leader().is_some());
        let third = cluster.await_leader();
        assert_ne!(third, n(successor));
        let get = cluster.propose(third, "get x");
        assert_eq!(cluster.await_answer(get), Answer::Done("1".to_owned()));
    }
}

/// M3, lab: `start(command)` returns at once with the index at which the entry will stand if it commits;
/// the machine is told of each committed entry in order, and only then is the client answered. A server
/// that does not lead says who does.
#[test]
fn m3_a_proposal_returns_at_once_and_is_answered_when_committed() {
    let mut server = Single::new(3, &[]);
    let not_yet = server.input(|node, now| node.propose(now, "put x 1".into()));
    assert_eq!(not_yet, Err(ProposeError::NotLeader { leader_id: None }));
    let term = server.lead().0;
    let first = server.propose("put x 1");
    let second = server.propose("put x 2");
    assert_eq!((first, second), (id(2, term), id(3, term)), "after the blank entry of the term");
    server.finish_writes();
    assert_eq!(server.applied, [], "nothing is executed before a quorum has it");
    let accepted =
        Message::AppendEntriesReply(tenure_raft::AppendReply::Accepted { match_index: second.index });
    server.receive(2, term, accepted);
    let applied: Vec<_> = server.applied.iter().map(|entry| entry.id).collect();
    assert_eq!(applied, [id(1, term), first, second], "each committed entry, in order");

    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.await_leader();
    let put = cluster.propose(leader, "put x 1");
    assert_eq!(cluster.operations[put].answered, None, "the entry may yet be lost");
    assert_eq!(cluster.await_answer(put), Answer::Done("1".to_owned()));
    let refused = cluster.try_propose(cluster.others(&[leader])[0], "put x 2");
    assert_eq!(refused, Err(ProposeError::NotLeader { leader_id: Some(leader) }));
}

/// M4, §8: a server that loses leadership tells its waiting clients so, and never answers one entry's
/// client with another's result.
#[test]
fn m4_no_client_gets_the_result_of_another_entry() {
    let mut cluster = Cluster::new(3, 1);
    let old = cluster.await_leader();
    cluster.isolate(old);
    let lost = cluster.propose(old, "put x old");
    let place = cluster.node(old).log().last();
    cluster.await_that(5_000, "the client is told", |cluster| cluster.operations[lost].leadership_lost);
    assert_eq!(cluster.operations[lost].answered, None, "which proves nothing about the entry");
    let new = cluster.await_leader_among(&cluster.others(&[old]));
    let put = cluster.propose(new, "put x new");
    assert_eq!(cluster.await_answer(put), Answer::Done("new".to_owned()));
    cluster.network.heal();
    assert_eq!(cluster.await_answer(lost), Answer::NotDone, "another entry is committed at its index");
    assert_ne!(cluster.judges.committed[&place.index], place);
    assert_eq!(cluster.machine(old).get("x"), "new");
}

/// M5, §5.3: the log orders the commands, keeps what is not yet committed, and lets a leader send again
/// what a follower missed, even when nothing new follows.
#[test]
fn m5_what_a_follower_missed_is_sent_again() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.await_leader();
    cluster.await_equal();
    cluster.network.catch(|envelope| matches!(envelope.message, Message::AppendEntries { .. }));
    let operations = cluster.propose_all(leader, &["put x 1", "put x 2", "put y 3"]);
    cluster.run_for_ms(50);
    assert!(!cluster.network.caught.is_empty(), "the appends were lost");
    let log = cluster.node(leader).log();
    assert_eq!(log.last_index().0, log.commit_index().0 + 3, "uncommitted entries are kept");
    cluster.network.stop_catching();
    for operation in operations {
        assert!(matches!(cluster.await_answer(operation), Answer::Done(_)), "sent again until it arrived");
    }
    cluster.await_equal();
    assert_eq!(cluster.machine(n(1)).get("x"), "2");
}

/// M6, §5.4.3: a follower may lag and may hold entries that never commit, but once one server has executed
/// a command at an index, none ever executes another there.
#[test]
fn m6_entries_that_never_commit_are_never_executed() {
    let mut cluster = Cluster::new(5, 3);
    let old = cluster.await_leader();
    let follower = cluster.others(&[old])[0];
    let rest = cluster.others(&[old, follower]);
    cluster.partition(&[&[old, follower], &rest]);
    cluster.propose_all(old, &["put x lost", "put y lost"]);
    cluster.run_for_ms(50);
    let doomed = cluster.node(follower).log().last();
    assert_eq!(doomed, cluster.node(old).log().last(), "the follower holds them");
    let new = cluster.await_leader_among(&rest);
    cluster.propose_all(new, &["put x kept", "put z kept"]);
    cluster.run_for_ms(50);
    cluster.network.heal();
    cluster.await_equal();
    assert!(cluster.seen["truncated"] >= 2, "both gave up what was never committed");
    for id in cluster.others(&[]) {
        let values: Vec<String> = ["x", "y", "z"].map(|key| cluster.machine(id).get(key)).into();
        assert_eq!(values, ["kept", "", "kept"], "{id}");
    }
}

/// M7, §5.1: a server is follower, candidate or leader; followers are passive, and the leader handles every
/// request. A client may come to any of them, which knows whom to pass it to.
#[test]
fn m7_followers_are_passive_and_know_the_leader() {
    let mut cluster = Cluster::new(5, 1);
    let leader = cluster.await_leader();
    cluster.run_for_ms(1_000);
    let since = cluster.now;
    for round in 0..20 {
        cluster.propose(leader, &format!("put x {round}"));
        cluster.run_for_ms(500);
    }
    let asks = cluster.network.sent.iter().filter(|sent| sent.at > since).map(|sent| &sent.envelope);
    for envelope in asks.filter(|envelope| envelope.message.is_request()) {
        assert_eq!(envelope.from, leader, "{envelope}");
    }
    for follower in cluster.others(&[leader]) {
        let refused = cluster.try_propose(follower, "put x 1");
        assert_eq!(refused, Err(ProposeError::NotLeader { leader_id: Some(leader) }));
    }
}

/// M8: a get can go through the log as a put does; its result is what the machine held at its index.
#[test]
fn m8_a_get_through_the_log_sees_what_stands_before_it() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.await_leader();
    let operations = cluster.propose_all(leader, &["put x 1", "get x", "put x 2", "get x", "put x 3"]);
    let answers: Vec<Answer> =
        operations.into_iter().map(|operation| cluster.await_answer(operation)).collect();
    let expected = ["1", "1", "2", "2", "3"].map(|value| Answer::Done(value.to_owned()));
    assert_eq!(answers, expected);
}

/// M9, §5.3: the leader tells how far it is safe to execute; two puts to one key at once are executed in
/// one order everywhere.
#[test]
fn m9_a_follower_executes_only_what_the_leader_says_is_committed() {
    let mut follower = Single::new(3, &[]);
    follower.receive(2, 1, append(id(0, 0), &[1, 1, 1], 0));
    assert_eq!(follower.applied, [], "held, but not known to be committed");
    follower.receive(2, 1, append(id(3, 1), &[1], 2));
    assert_eq!(follower.applied.len(), 2);
    follower.receive(2, 1, Message::Heartbeat { commit_index: id(3, 1).index, round: Round(0) });
    assert_eq!(follower.applied.len(), 3);
    assert!(follower.events.contains(&Event::CommitAdvanced { commit: id(3, 1) }));

    let mut cluster = Cluster::new(3, 2);
    let leader = cluster.await_leader();
    cluster.propose_all(leader, &["append x a", "append x b"]);
    cluster.await_equal();
    for id in cluster.others(&[]) {
        assert_eq!(cluster.machine(id).get("x"), "ab");
    }
    assert_eq!(cluster.highest_term(), Term(1));
}

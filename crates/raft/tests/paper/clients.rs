//! Clients: L1, L3, L4 (§8, thesis §3.10, §6).

use tenure_raft::{Message, NodeId, ProposeError, ReadError, RoleKind, Round, StepDownReason};

use crate::cluster::single::Single;
use crate::cluster::{Answer, Cluster, Dice, World, linear, n};

/// L1, §8: every operation appears to run once, at one instant between its call and its answer. Writers and
/// readers on all servers, while leaders come and go.
#[test]
fn l1_what_clients_see_is_linearizable() {
    for seed in 0..40 {
        let mut dice = Dice::new(seed);
        let mut cluster = Cluster::new(3, seed);
        cluster.world = World { delay_us: (500, 40_000), disk_us: (500, 20_000), ..World::default() };
        for round in 0..40 {
            let id = n(dice.between(1, 3));
            if dice.percent(50) {
                let _ = cluster.try_propose(id, &format!("put x {round}"));
            } else {
                let _ = cluster.read(id, "x");
            }
            if dice.percent(10) {
                let victim = cluster.leader().unwrap_or(id);
                cluster.isolate(victim);
            }
            if dice.percent(20) {
                cluster.network.heal();
            }
            cluster.run_for_ms(dice.between(1, 400));
        }
        let (mut puts, mut gets) = (0, 0);
        for operation in &cluster.operations {
            if matches!(operation.answered, Some((_, Answer::Done(_)))) {
                if operation.command.starts_with("put") { puts += 1 } else { gets += 1 }
            }
        }
        assert!(puts + gets > 3, "seed {seed} saw something: {puts} puts, {gets} gets");
        assert!(linear::is_linearizable(&cluster.operations, "x"), "seed {seed}");
    }
}

/// L1: the judge of the test above does find what is not linearizable.
#[test]
fn l1_a_stale_read_is_noticed() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.await_leader();
    for value in ["put x 1", "put x 2"] {
        let put = cluster.propose(leader, value);
        cluster.await_answer(put);
    }
    let read = cluster.read(leader, "x").expect("it leads");
    assert_eq!(cluster.await_answer(read), Answer::Done("2".to_owned()));
    assert!(linear::is_linearizable(&cluster.operations, "x"));
    let (at, _) = cluster.operations[read].answered.clone().expect("answered");
    cluster.operations[read].answered = Some((at, Answer::Done("1".to_owned())));
    assert!(!linear::is_linearizable(&cluster.operations, "x"), "1 was overwritten before the read began");
}

/// L3, §8: a read need not enter the log, but a leader exchanges heartbeats with a majority before it
/// answers. One that answered from its state at once would be stale: here it is, beside ours.
#[test]
fn l3_a_leader_that_was_replaced_answers_no_read() {
    let mut cluster = Cluster::new(5, 1);
    let old = cluster.await_leader();
    let put = cluster.propose(old, "put x old");
    cluster.await_answer(put);
    cluster.await_equal();
    // The old leader's own timeouts are far away: its answers still arrive, but what it sends is lost.
    let companion = cluster.others(&[old])[0];
    let majority = cluster.others(&[old, companion]);
    cluster.partition(&[&[old, companion], &majority]);
    let read = cluster.read(old, "x").expect("it believes that it leads");
    let forwarded = cluster.read(companion, "x").expect("it believes so as well");
    let new = cluster.await_leader_among(&majority);
    let put = cluster.propose(new, "put x new");
    cluster.await_answer(put);
    assert_eq!(cluster.machine(old).get("x"), "old", "read from its state at once it would be stale");
    cluster.run_for_ms(5_000);
    for read in [read, forwarded] {
        assert_eq!(cluster.operations[read].answer(), Answer::NotDone, "it says that it cannot tell");
    }
    assert_eq!(cluster.read(old, "x"), Err(ReadError::NoLeader));
    let read = cluster.read(new, "x").expect("it leads");
    assert_eq!(cluster.await_answer(read), Answer::Done("new".to_owned()));
}

/// L3, thesis §6.4: the heartbeats must be sent after the read came: answers to earlier ones prove nothing.
#[test]
fn l3_answers_to_earlier_heartbeats_confirm_nothing() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.await_leader();
    cluster.await_equal();
    let earlier = cluster.read(leader, "x").expect("it leads");
    cluster.await_answer(earlier);
    cluster.run_for_ms(500);
    // Answers to the heartbeats of now are late.
    cluster.network.catch(|envelope| matches!(envelope.message, Message::HeartbeatReply { .. }));
    cluster.run_for_ms(300);
    let stale = std::mem::take(&mut cluster.network.caught);
    assert!(stale.len() >= 4);
    let read = cluster.read(leader, "x").expect("it leads");
    for envelope in stale {
        cluster.deliver(envelope);
    }
    assert_eq!(cluster.operations[read].answered, None, "they were sent before the read came");
    cluster.network.stop_catching();
    let fresh = std::mem::take(&mut cluster.network.caught);
    let took_us = cluster.now;
    cluster.run_for_ms(3);
    for envelope in fresh {
        cluster.deliver(envelope);
    }
    assert_eq!(cluster.await_answer(read), Answer::Done(String::new()));
    assert!(cluster.now.since_us(took_us) < 150_000);
}

/// L3: nor does an answer to a round that had not begun.
#[test]
fn l3_nobody_answers_a_round_before_it_begins() {
    let mut leader = Single::new(3, &[1]);
    let term = leader.lead().0;
    let accepted = tenure_raft::AppendReply::Accepted { match_index: leader.node.log().last_index() };
    leader.receive(2, term, Message::AppendEntriesReply(accepted));
    leader.receive(2, term, Message::HeartbeatReply { round: Round(99) });
    leader.input(tenure_raft::Node::read_index).expect("it leads");
    assert_eq!(leader.reads_ready, []);
    leader.receive(2, term, Message::HeartbeatReply { round: Round(1) });
    assert_eq!(leader.reads_ready.len(), 1);
}

/// L3, §8: a leader commits a blank entry at the start of its term first: before that it does not know
/// what is committed, though its log has it.
#[test]
fn l3_no_read_before_the_blank_entry_of_the_term() {
    let mut cluster = Cluster::new(3, 1);
    let old = cluster.await_leader();
    // The write is committed and acknowledged, but word of it reaches nobody.
    cluster.await_equal();
    cluster.network.catch(|envelope| {
        matches!(envelope.message, Message::CommitNotice { .. } | Message::Heartbeat { .. })
    });
    let put = cluster.propose(old, "put x 1");
    assert_eq!(cluster.await_answer(put), Answer::Done("1".to_owned()));
    let last = cluster.node(old).log().last();
    cluster.crash(old);
    // The new leader wins, and its appends are lost for a while: it cannot commit its blank entry.
    cluster.network.catch(|envelope| matches!(envelope.message, Message::AppendEntries { .. }));
    cluster.await_that(5_000, "another leads", |cluster| cluster.leader().is_some());
    let new = cluster.leader().expect("awaited");
    assert!(cluster.node(new).log().commit_index() < last.index, "it does not know that {last} is committed");
    let read = cluster.read(new, "x").expect("it leads");
    cluster.run_for_ms(500);
    assert_eq!(cluster.operations[read].answered, None, "nothing would be wrong: x is 1");
    cluster.network.stop_catching();
    assert_eq!(cluster.await_answer(read), Answer::Done("1".to_owned()));
}

/// L3: reads that come together share a round, and a follower serves reads from its own state once it has
/// executed what the leader names (thesis §6.4).
#[test]
fn l3_reads_share_rounds_and_followers_serve_them() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.await_leader();
    let put = cluster.propose(leader, "put x 1");
    cluster.await_answer(put);
    cluster.run_for_ms(50);
    let mark = cluster.network.mark();
    let reads: Vec<_> = (0..100).map(|_| cluster.read(leader, "x").expect("it leads")).collect();
    for read in reads {
        assert_eq!(cluster.await_answer(read), Answer::Done("1".to_owned()));
    }
    let requests = cluster.network.requests_since(mark);
    assert!(requests <= 6, "{requests} heartbeats for 100 reads");
    for follower in cluster.others(&[leader]) {
        let put = cluster.propose(leader, &format!("put x {follower}"));
        cluster.await_answer(put);
        let read = cluster.read(follower, "x").expect("it follows");
        assert_eq!(cluster.await_answer(read), Answer::Done(follower.to_string()), "not what it had before");
    }
}

/// L4, thesis §3.10: leadership can be moved to a named server, quickly and without losing anything.
#[test]
fn l4_leadership_moves_where_it_is_wanted() {
    let mut cluster = Cluster::new(3, 1);
    let mut leader = cluster.await_leader();
    for target in [n(1), n(2), n(3), n(2), n(1)] {
        if target == leader {
            continue;
        }
        // The target lags: it must be brought up to date first.
        let operations = cluster.propose_all(leader, &["append x 1", "append x 2"]);
        cluster.transfer(leader, target);
        let refused = cluster.try_propose(leader, "append x lost");
        assert_eq!(refused, Err(ProposeError::TransferInProgress { target }));
        let took_us =
            cluster.await_that(1_000, "the target leads", |cluster| cluster.leader() == Some(target));
        assert!(took_us < 20_000, "in a few messages, not after a timeout: {took_us} µs");
        for operation in operations {
            assert!(matches!(cluster.await_answer(operation), Answer::Done(_)));
        }
        leader = cluster.await_leader();
        cluster.await_equal();
    }
    assert_eq!(cluster.machine(leader).get("x").len() % 2, 0);
    assert!(!cluster.machine(leader).get("x").contains("lost"));
}

/// L4, thesis §3.10: a transfer to a server that cannot take over is called off, and the leader goes on.
#[test]
fn l4_a_transfer_that_fails_is_called_off() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.await_leader();
    let target: NodeId = cluster.others(&[leader])[0];
    cluster.crash(target);
    cluster.transfer(leader, target);
    cluster.run_for_ms(cluster.options.election_timeout_us / 1_000 + 1);
    assert_eq!(cluster.node(leader).role(), RoleKind::Leader);
    assert_eq!(cluster.seen["transfer aborted"], 1);
    let put = cluster.propose(leader, "put x 1");
    assert_eq!(cluster.await_answer(put), Answer::Done("1".to_owned()));
}

/// A leader whose own disk has stopped hands nobody a promise: it steps down (beside E9).
#[test]
fn l4_a_leader_whose_disk_stalls_steps_down() {
    let mut leader = Single::new(3, &[1]);
    let term = leader.lead();
    leader.finish_writes();
    leader.propose("put x 1");
    let asked = leader.now;
    while leader.node.role() == RoleKind::Leader {
        for other in [2, 3] {
            let round = Round(0);
            leader.receive_only(other, term.0, Message::HeartbeatReply { round });
        }
        leader.run_to_deadline();
    }
    let stalled = tenure_raft::Event::SteppedDown { term, reason: StepDownReason::DiskStalled };
    assert!(leader.events.contains(&stalled), "{:?}", leader.events);
    assert_eq!(leader.now.since_us(asked), tenure_raft::Options::default().disk_stall_timeout_us);
}

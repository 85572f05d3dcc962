//! Split brain and majorities: Q1 to Q4, F1 to F3 (§5.1, §5.4).

use std::collections::BTreeSet;

use tenure_raft::{Configuration, NodeId, Quorum};

use crate::cluster::{Answer, Cluster, World, n};

/// Q1: with 2f + 1 servers f may fail, and a majority is of all servers, not of those alive.
#[test]
fn q1_of_2f_plus_1_servers_f_may_fail_and_no_more() {
    for f in 1..=3_u64 {
        let mut cluster = Cluster::new(2 * f + 1, f);
        let leader = cluster.await_leader();
        cluster.await_equal();
        let victims = cluster.others(&[leader]);
        for &victim in &victims[..f as usize] {
            cluster.crash(victim);
        }
        let put = cluster.propose(leader, "put x 1");
        assert_eq!(cluster.await_answer(put), Answer::Done("1".to_owned()), "{f} of {} failed", 2 * f + 1);
        cluster.crash(victims[f as usize]);
        let put = cluster.propose(leader, "put x 2");
        cluster.run_for_ms(20_000);
        assert_eq!(cluster.operations[put].answered, None, "{f} of {} are no majority", 2 * f + 1);
        assert_eq!(cluster.machine(leader).get("x"), "1");
    }
}

/// Q2: any two majorities share a server, which carries what it knows from one to the next. Every pair of
/// majorities of five: the first commits a write, the second elects a leader, and the write is there.
#[test]
fn q2_any_two_majorities_share_a_server_that_knows() {
    let majorities: Vec<Vec<NodeId>> = (0..32_u64)
        .map(|set| (1..=5).filter(|id| set & (1 << (id - 1)) != 0).map(n).collect())
        .filter(|group: &Vec<NodeId>| group.len() == 3)
        .collect();
    assert_eq!(majorities.len(), 10);
    for first in &majorities {
        for second in &majorities {
            let shared: Vec<&NodeId> = first.iter().filter(|id| second.contains(id)).collect();
            assert!(!shared.is_empty(), "{first:?} and {second:?}");
            let mut cluster = Cluster::new(5, 7);
            cluster.partition(&[first]);
            let leader = cluster.await_leader();
            let put = cluster.propose(leader, "put x 1");
            cluster.await_answer(put);
            cluster.partition(&[second]);
            cluster.run_for_ms(2_500);
            let leader = cluster.await_leader();
            assert!(second.contains(&leader));
            let get = cluster.propose(leader, "get x");
            assert_eq!(cluster.await_answer(get), Answer::Done("1".to_owned()), "{first:?} {second:?}");
        }
    }
}

/// Q3: a failure and a partition cannot be told apart: the side of the minority must not make progress,
/// that of the majority must.
#[test]
fn q3_only_the_majority_side_makes_progress() {
    let mut cluster = Cluster::new(5, 1);
    let old = cluster.await_leader();
    let minority = [old, cluster.others(&[old])[0]];
    let majority = cluster.others(&minority);
    cluster.partition(&[&minority, &majority]);
    let lost = cluster.propose(old, "put x minority");
    let commit = cluster.node(old).log().commit_index();
    let new = cluster.await_leader_among(&majority);
    let put = cluster.propose(new, "put x majority");
    assert_eq!(cluster.await_answer(put), Answer::Done("majority".to_owned()));
    cluster.run_for_ms(10_000);
    for id in minority {
        assert_eq!(cluster.node(id).log().commit_index(), commit, "{id} made progress alone");
    }
    assert_eq!(cluster.operations[lost].answered, None);
}

/// Q4: when more than half are gone, the rest keep trying to elect and never succeed; nothing is lost, and
/// service resumes when they return.
#[test]
fn q4_the_rest_keep_trying_and_service_resumes() {
    let mut cluster = Cluster::new(5, 1);
    let leader = cluster.await_leader();
    let put = cluster.propose(leader, "put x 1");
    cluster.await_answer(put);
    cluster.await_equal();
    let gone = [leader, cluster.others(&[leader])[0], cluster.others(&[leader])[1]];
    for id in gone {
        cluster.crash(id);
    }
    let elected = cluster.judges.leaders();
    let tries = cluster.seen["became pre-candidate"];
    cluster.run_for_ms(30_000);
    assert!(cluster.seen["became pre-candidate"] > tries + 20, "they keep trying");
    assert_eq!(cluster.judges.leaders(), elected, "and never succeed");
    cluster.restart(gone[0]);
    let leader = cluster.await_leader();
    let get = cluster.propose(leader, "get x");
    assert_eq!(cluster.await_answer(get), Answer::Done("1".to_owned()));
}

fn restart_all(cluster: &mut Cluster) {
    let up: Vec<NodeId> = cluster.up().collect();
    for down in cluster.others(&up) {
        cluster.restart(down);
    }
}

/// F1: never a wrong result under delay, loss, doubling, reordering, partition, crash and restart. One long
/// hostile run of five servers here; `properties_schedules` draws many.
#[test]
fn f1_never_a_wrong_result_under_any_fault() {
    let mut cluster = Cluster::new(5, 11);
    cluster.world = World::hostile();
    for round in 0..60_u64 {
        let id = n(round % 5 + 1);
        match (round % 4, cluster.leader()) {
            (0, _) if cluster.server(id).node.is_some() => cluster.crash(id),
            (1, Some(leader)) => cluster.isolate(leader),
            (2, _) => cluster.network.heal(),
            _ => restart_all(&mut cluster),
        }
        for part in 0..10 {
            for leader in cluster.leaders() {
                // Refusals are part of it.
                let _ = cluster.try_propose(leader, &format!("append x {round}.{part},"));
            }
            cluster.run_for_ms(150);
        }
    }
    cluster.network.heal();
    restart_all(&mut cluster);
    cluster.world = World::default();
    cluster.run_for_ms(5_000);
    cluster.await_equal();
    let done = cluster
        .operations
        .iter()
        .filter(|operation| matches!(operation.answered, Some((_, Answer::Done(_)))));
    assert!(done.count() > 50, "the run did something");
    let states: BTreeSet<String> = cluster.up().map(|id| cluster.machine(id).get("x")).collect();
    assert_eq!(states.len(), 1, "all have executed the same");
    assert!(
        cluster.seen["truncated"] > 0 && cluster.judges.leaders() > 5,
        "and met faults: {:?}",
        cluster.seen
    );
}

/// F2: available as long as a majority runs and its members reach each other; three servers at least to
/// survive one failure.
#[test]
fn f2_three_servers_survive_one_failure_and_two_do_not() {
    for victim in 1..=3 {
        let mut cluster = Cluster::new(3, victim);
        cluster.await_leader();
        cluster.crash(n(victim));
        cluster.run_for_ms(2_500);
        let leader = cluster.await_leader();
        let put = cluster.propose(leader, "put x 1");
        assert_eq!(cluster.await_answer(put), Answer::Done("1".to_owned()));
    }
    let mut cluster = Cluster::new(2, 1);
    let leader = cluster.await_leader();
    cluster.crash(cluster.others(&[leader])[0]);
    cluster.run_for_ms(10_000);
    assert_eq!(cluster.leader(), None, "one of two is no majority");
}

/// A test-and-set service that decides which of two replicas is the primary, as older systems had it.
struct Arbiter {
    is_up: bool,
    primary: Option<NodeId>,
}

impl Arbiter {
    fn test_and_set(&mut self, id: NodeId) -> Option<NodeId> {
        self.is_up.then(|| *self.primary.get_or_insert(id))
    }
}

/// F3: a single arbiter that chooses the primary of two replicas is itself a single point of failure. When
/// the primary and one more machine fail, two replicas and their arbiter stand still though a replica
/// lives; of five Raft servers any two may fail.
#[test]
fn f3_a_single_arbiter_is_a_single_point_of_failure() {
    let mut arbiter = Arbiter { is_up: true, primary: None };
    assert_eq!(arbiter.test_and_set(n(1)), Some(n(1)), "the first to ask becomes primary");
    assert_eq!(arbiter.test_and_set(n(2)), Some(n(1)), "the other learns who is");
    arbiter.is_up = false;
    assert_eq!(arbiter.test_and_set(n(2)), None, "a living replica cannot take over without the arbiter");

    for second in 2..=5 {
        let mut cluster = Cluster::new(5, second);
        let first = cluster.await_leader();
        cluster.crash(first);
        if cluster.server(n(second)).node.is_some() {
            cluster.crash(n(second));
        }
        cluster.run_for_ms(2_500);
        let leader = cluster.await_leader();
        let put = cluster.propose(leader, "put x 1");
        assert_eq!(cluster.await_answer(put), Answer::Done("1".to_owned()));
    }
    assert_eq!(Configuration::of_voters((1..=5).map(n)).voters.quorum_votes(Quorum::Commit), 3);
}

//! What a cluster may cost: the budgets of the course's lab, counted in simulated time. A request and its
//! reply count once; entries are proposed together, as clients that come together are served.

#[path = "common/cluster.rs"]
mod cluster;

use cluster::{Answer, Cluster, World, n};
use tenure_raft::{Message, Time};

/// E5, E6: an election takes less than five seconds after a failure, whoever fails and whatever the seed.
#[test]
fn a_leader_is_replaced_within_five_seconds() {
    for seed in 0..50 {
        let mut cluster = Cluster::new(5, seed);
        cluster.world = World { delay_us: (500, 20_000), disk_us: (500, 20_000), ..World::default() };
        for _ in 0..2 {
            let leader = cluster.await_leader();
            cluster.crash(leader);
            cluster.await_that(5_000, "another leads", |cluster| {
                cluster.leader().is_some_and(|new| new != leader && cluster.node(new).leader_id().is_some())
            });
        }
    }
}

/// With connections that break visibly, as those to a killed process do, it takes tens of milliseconds.
#[test]
fn a_killed_leader_is_replaced_in_tens_of_milliseconds() {
    let mut slowest_us = 0;
    for seed in 0..50 {
        let mut cluster = Cluster::new(3, seed);
        cluster.connections_break = true;
        let leader = cluster.await_leader();
        cluster.run_for_ms(2_000);
        cluster.crash(leader);
        let took_us = cluster.await_that(5_000, "another leads", |cluster| cluster.leader().is_some());
        slowest_us = slowest_us.max(took_us);
    }
    assert!(slowest_us < 100_000, "{slowest_us} µs, of which 20 ms are the random delay");
}

#[test]
fn a_first_election_of_three_costs_at_most_30_messages() {
    for seed in 0..100 {
        let mut cluster = Cluster::new(3, seed);
        cluster.await_leader();
        let requests = cluster.network.requests_since(0);
        assert!((1..=30).contains(&requests), "seed {seed}: {requests}");
    }
}

#[test]
fn ten_agreed_entries_cost_at_most_42_messages() {
    for seed in 0..100 {
        let mut cluster = Cluster::new(3, seed);
        let leader = cluster.await_leader();
        cluster.await_equal();
        let mark = cluster.network.mark();
        let commands: Vec<String> = (0..10).map(|round| format!("put x {round}")).collect();
        let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
        let operations = cluster.propose_all(leader, &commands);
        for operation in operations {
            assert!(matches!(cluster.await_answer(operation), Answer::Done(_)));
        }
        cluster.await_equal();
        let requests = cluster.network.requests_since(mark);
        assert!((2..=42).contains(&requests), "seed {seed}: {requests}");
        assert!(requests <= 8, "proposed together they travel together: {requests}");
    }
}

/// One after the other they still stay within it.
#[test]
fn ten_entries_one_after_the_other_cost_at_most_42_messages() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.await_leader();
    cluster.await_equal();
    let mark = cluster.network.mark();
    for round in 0..10 {
        let put = cluster.propose(leader, &format!("put x {round}"));
        cluster.await_answer(put);
    }
    cluster.await_equal();
    let requests = cluster.network.requests_since(mark);
    assert!((20..=42).contains(&requests), "{requests}");
}

#[test]
fn an_idle_cluster_sends_at_most_60_messages_a_second() {
    let mut cluster = Cluster::new(3, 1);
    cluster.await_leader();
    cluster.run_for_ms(1_000);
    for _ in 0..10 {
        let mark = cluster.network.mark();
        cluster.run_for_ms(1_000);
        let requests = cluster.network.requests_since(mark);
        assert!((1..=60).contains(&requests), "{requests}");
    }
    // Nothing but heartbeats, and no election.
    let since = Time(cluster.now.0 - 5_000_000);
    let heartbeats = cluster.network.sent.iter().filter(|sent| sent.at > since).all(|sent| {
        matches!(sent.envelope.message, Message::Heartbeat { .. } | Message::HeartbeatReply { .. })
    });
    assert!(heartbeats, "an idle cluster has nothing else to say");
}

#[test]
fn ten_large_entries_cost_little_more_than_their_bytes() {
    const ENTRY_BYTES: usize = 5_000;
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.await_leader();
    cluster.await_equal();
    let mark = cluster.network.mark();
    let mut payload_bytes = 0;
    for round in 0..10 {
        let command = format!("put x {}", "v".repeat(ENTRY_BYTES));
        payload_bytes += command.len();
        let put = cluster.propose(leader, &command);
        if round % 2 == 0 {
            cluster.await_answer(put);
        }
    }
    cluster.await_equal();
    let bytes = cluster.network.bytes_since(mark);
    let budget = cluster.servers.len() * payload_bytes + 50_000;
    assert!(bytes >= 2 * payload_bytes, "each follower got them: {bytes}");
    assert!(bytes <= budget, "{bytes} of {budget} bytes");
    assert!(bytes <= 2 * payload_bytes + 10_000, "each entry went to each follower once: {bytes}");
}

/// A follower that was away is brought up to date without anything being sent twice to it.
#[test]
fn catching_up_costs_each_entry_once() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.await_leader();
    let late = cluster.others(&[leader])[0];
    cluster.isolate(late);
    let mut payload_bytes = 0;
    for round in 0..100 {
        let command = format!("put x{round} {}", "v".repeat(1_000));
        payload_bytes += command.len();
        let put = cluster.propose(leader, &command);
        cluster.await_answer(put);
    }
    let mark = cluster.network.mark();
    cluster.network.heal();
    cluster.run_for_ms(3_000);
    cluster.await_equal();
    let bytes = cluster.network.bytes_since(mark);
    assert!(bytes <= 2 * payload_bytes + 50_000, "{bytes} bytes for {payload_bytes}");
    assert_eq!(cluster.machine(late), cluster.machine(n(if late == n(1) { 2 } else { 1 })));
}

//! Log replication: R1 to R10 (§5.3, §5.4).

use std::collections::BTreeMap;

use tenure_raft::{
    AppendReply, Configuration, Entry, EntryId, Event, Index, Message, NodeId, Options, Payload, RoleKind,
    Round, Term,
};

use crate::cluster::single::{Single, append, id, to};
use crate::cluster::{Answer, Cluster, Image, World, n};

fn accepted(index: u64) -> Message {
    Message::AppendEntriesReply(AppendReply::Accepted { match_index: Index(index) })
}

/// A cluster whose servers start with logs of these terms, all in the latest term of any.
fn cluster_with_logs(logs: &[&[u64]], seed: u64) -> Cluster {
    let count = logs.len() as u64;
    let configuration = Configuration::of_voters((1..=count).map(n));
    let latest = logs.iter().filter_map(|terms| terms.last()).max().copied().unwrap_or(0);
    let image = |terms| Image::new(configuration.clone()).with_terms(terms).in_term(latest);
    let images: BTreeMap<NodeId, Image> = (1..).map(n).zip(logs.iter().map(|terms| image(terms))).collect();
    Cluster::with_disks(images, seed, Options::default(), World::default())
}

/// Lets server 1 win: nobody but `supporters` takes part until it has.
fn elect_first(cluster: &mut Cluster, supporters: &[NodeId]) {
    let group: Vec<NodeId> = [n(1)].into_iter().chain(supporters.iter().copied()).collect();
    cluster.partition(&[&group]);
    let own = cluster.node(n(1)).next_deadline();
    for _ in 0..100 {
        if cluster.leader() == Some(n(1)) {
            break;
        }
        // The others' timeouts may come first; then their questions are lost, and 1 is asked to campaign.
        cluster
            .network
            .catch(|envelope| envelope.from != n(1) && matches!(envelope.message, Message::PreVote { .. }));
        cluster.run_for_ms(100);
    }
    cluster.network.stop_catching();
    assert_eq!(cluster.leader(), Some(n(1)), "its first deadline was {own:?}");
    cluster.network.heal();
}

/// R1, §5.3: the leader never overwrites or deletes its own entries; entries flow only from leader to
/// followers.
#[test]
fn r1_a_leader_only_appends() {
    let mut leader = Single::new(3, &[1, 1]);
    let term = leader.lead().0;
    let entry = leader.propose("put x 1");
    leader.finish_writes();
    for other in
        [append(id(2, 1), &[term, term], 4), append(id(1, 1), &[term], 0), append(id(0, 0), &[term], 9)]
    {
        assert_eq!(leader.receive(2, term, other), [], "nobody else leads this term");
    }
    assert_eq!(leader.node.role(), RoleKind::Leader);
    assert!(leader.node.log().matches(entry) && leader.node.log().last() == entry);

    let mut cluster = Cluster::new(5, 4);
    cluster.world = World { delay_us: (500, 8_000), loss_percent: 5, ..World::default() };
    for round in 0..20 {
        let leader = cluster.await_leader();
        let (term, log) = (cluster.node(leader).current_term(), cluster.log_terms(leader));
        cluster.propose(leader, &format!("put x {round}"));
        cluster.run_for_ms(100);
        if cluster.node(leader).current_term() == term {
            let longer = cluster.log_terms(leader);
            assert_eq!(longer[..log.len()], log, "what was there is there");
            assert!(longer.len() > log.len());
        }
        if round % 5 == 4 {
            cluster.isolate(leader);
            cluster.run_for_ms(4_000);
            cluster.network.heal();
        }
    }
    for sent in &cluster.network.sent {
        if let Message::AppendEntries { .. } = sent.envelope.message {
            assert_eq!(cluster.judges.leader_of(sent.envelope.term), Some(sent.envelope.from));
        }
    }
}

/// R2, §5.3: AppendEntries carries the index and term before its entries, and a follower that lacks that
/// entry refuses; so two logs with an entry of one index and term agree up to there.
#[test]
fn r2_a_follower_that_lacks_the_entry_before_refuses() {
    let own = [1, 1, 2];
    for (prev, fits) in
        [(id(3, 2), true), (id(2, 1), true), (id(3, 1), false), (id(2, 2), false), (id(4, 2), false)]
    {
        let mut follower = Single::new(3, &own);
        let reply = follower.receive(2, 3, append(prev, &[3], 0));
        let replies = to(&reply, 2);
        let [Message::AppendEntriesReply(reply)] = replies[..] else { panic!("one answer to {prev}") };
        match reply {
            AppendReply::Accepted { match_index } => {
                assert!(fits, "it took an entry after {prev}");
                assert_eq!(*match_index, prev.index.next());
                assert!(
                    follower.node.log().matches(prev)
                        && follower.node.log().last() == id(prev.index.0 + 1, 3)
                );
            }
            AppendReply::Rejected { prev: refused, .. } => {
                assert!(!fits, "it refused an entry after {prev}");
                assert_eq!((*refused, follower.node.log().last()), (prev, id(3, 2)));
            }
        }
    }
    // An append that only says what is there already takes nothing away, however late it comes (rule 3 of
    // figure 2: only a *conflicting* entry deletes).
    let mut follower = Single::new(3, &[1, 1, 2]);
    let reply = follower.receive(2, 3, append(id(1, 1), &[1], 3));
    assert_eq!(
        to(&reply, 2),
        [&accepted(2)],
        "only what this append has verified: 3@2 may be another leader's"
    );
    assert_eq!(follower.node.log().commit_index(), Index(2), "and only that is committed");
    follower.receive(2, 3, append(id(0, 0), &[], 0));
    assert_eq!(follower.node.log().last(), id(3, 2));
}

/// R3, §5.3: nextIndex starts after the leader's own last entry; on refusal it goes back, and the follower
/// drops what conflicts.
#[test]
fn r3_the_leader_goes_back_until_the_logs_agree() {
    let mut leader = Single::new(3, &[1, 1, 4, 4]);
    leader.run_to_deadline();
    leader.receive(2, 4, Message::PreVoteReply { proposed_term: Term(5), granted: true });
    let first = leader.receive(2, 5, Message::RequestVoteReply { granted: true });
    let prev_of = |message: &Message| match message {
        Message::AppendEntries { slice, .. } => slice.prev(),
        other => panic!("an append is expected, not {other}"),
    };
    assert_eq!(prev_of(to(&first, 2)[0]), id(4, 4), "nextIndex starts after its own last entry");
    let refuse =
        |prev: EntryId, hint: EntryId| Message::AppendEntriesReply(AppendReply::Rejected { prev, hint });
    let second = leader.receive(2, 5, refuse(id(4, 4), id(3, 2)));
    assert_eq!(prev_of(to(&second, 2)[0]), id(2, 1), "and goes back where the terms allow");
    let third = leader.receive(2, 5, refuse(id(2, 1), id(0, 0)));
    assert_eq!(prev_of(to(&third, 2)[0]), id(0, 0));
    assert_eq!(leader.receive(2, 5, refuse(id(4, 4), id(3, 2))), [], "an old refusal moves nothing");
    // What is known to match is not gone back behind, whatever a follower says; nor is it argued about.
    leader.receive(2, 5, accepted(3));
    leader.input(|node, now| node.on_unreachable(now, n(2)));
    assert_eq!(leader.receive(2, 5, refuse(id(3, 4), id(1, 1))), [], "that waits for the next heartbeat");
    let reply = Message::HeartbeatReply { round: Round(0) };
    assert_eq!(leader.receive(2, 5, reply.clone()), [], "not for the answer to one that was sent before");
    leader.run_to_deadline();
    let probe = leader.receive(2, 5, reply);
    assert_eq!(prev_of(to(&probe, 2)[0]), id(5, 5), "what was sent before may have arrived");

    let mut follower = Single::new(3, &[1, 2, 2]);
    follower.receive(2, 5, append(id(1, 1), &[1, 4, 4, 5], 0));
    assert!(follower.events.contains(&Event::Truncated { first: Index(2), last: id(1, 1) }));
    assert_eq!(follower.node.log().last(), id(5, 5));
}

/// R4, §5.3: a refusal says which term conflicts and where it starts, so one round skips a whole term.
#[test]
fn r4_one_refusal_skips_a_whole_term() {
    let run = |term: u64, count: usize| vec![term; count];
    // Ten entries in common, then fifty of each of terms 2, 3 and 4 against fifty of 5 and 6.
    let follower: Vec<u64> = [run(1, 10), run(2, 50), run(3, 50), run(4, 50)].concat();
    let leader: Vec<u64> = [run(1, 10), run(5, 50), run(6, 50)].concat();
    let mut cluster = cluster_with_logs(&[&leader, &leader, &follower], 1);
    elect_first(&mut cluster, &[n(2)]);
    cluster.await_equal();
    let refusals = cluster.seen["append rejected"];
    assert!(refusals <= 4, "{refusals} refusals for 150 conflicting entries of three terms");
    assert_eq!(cluster.log_terms(n(3))[..110], leader);

    // Both sides skip: here the follower is far behind in terms, and the leader has many.
    let leader: Vec<u64> = (1..=60).collect();
    let follower: Vec<u64> = [run(1, 1), run(2, 80)].concat();
    let mut cluster = cluster_with_logs(&[&leader, &leader, &follower], 1);
    elect_first(&mut cluster, &[n(2)]);
    cluster.await_equal();
    assert!(cluster.seen["append rejected"] <= 3, "{}", cluster.seen["append rejected"]);
}

/// R5, §5.3: the leader does not wait for slow followers: a minority of them does not slow the rest.
#[test]
fn r5_a_slow_minority_does_not_slow_the_rest() {
    let mut cluster = Cluster::new(5, 1);
    let leader = cluster.await_leader();
    cluster.await_equal();
    let slow = cluster.others(&[leader])[..2].to_vec();
    let both = slow.clone();
    cluster.network.catch(move |envelope| both.contains(&envelope.to));
    for round in 0..50 {
        let put = cluster.propose(leader, &format!("put x {round}"));
        let called = cluster.now;
        cluster.await_answer(put);
        let took_us = cluster.now.since_us(called);
        assert!(took_us <= 3_100, "a round trip and a write, not {took_us} µs");
    }
    for id in slow {
        assert_eq!(cluster.machine(id).get("x"), "", "{id} was slow indeed");
    }
    // What was slow arrives at last, all of it and in any order, and harms nothing.
    cluster.network.stop_catching();
    let mut late = std::mem::take(&mut cluster.network.caught);
    late.reverse();
    for envelope in late {
        cluster.deliver(envelope);
    }
    cluster.await_equal();
}

/// R6, §5.4.2, figure 8: only an entry of the leader's own term commits by counting; earlier ones commit
/// with it.
#[test]
fn r6_only_entries_of_the_own_term_commit_by_counting() {
    // S1 as in figure 8 (c): its entry 2@2 reaches a majority while it leads term 4.
    let mut leader = Single::new(5, &[1, 2]);
    leader.receive(5, 3, Message::RequestVoteReply { granted: false });
    let term = leader.lead().0;
    assert_eq!(term, 4);
    leader.receive(2, term, accepted(2));
    leader.receive(3, term, accepted(2));
    assert_eq!(leader.node.log().commit_index(), Index(0), "2@2 is on three of five, and not committed");
    leader.receive(2, term, accepted(3));
    assert_eq!(leader.node.log().commit_index(), Index(0));
    leader.receive(3, term, accepted(3));
    assert_eq!(leader.node.log().commit_index(), Index(3), "(e): its own 3@4 is, and 2@2 with it");
}

/// R6, figure 8 (d): because 2@2 was not counted, S5 may still replace it.
#[test]
fn r6_figure_8_an_old_entry_on_a_majority_is_replaced() {
    let mut cluster = cluster_with_logs(&[&[1, 3], &[1, 2], &[1, 2], &[1, 2], &[1]], 1);
    // Server 1 here is the paper's S5, with the later last term; 2@2 is on three of five.
    elect_first(&mut cluster, &[n(2), n(3), n(4), n(5)]);
    cluster.await_equal();
    for id in cluster.others(&[]) {
        assert_eq!(cluster.log_terms(id)[..2], [1, 3], "{id}");
    }
}

/// R7, figure 7: six ways in which a follower's log can differ from the leader's; all come to agree.
#[test]
fn r7_figure_7_all_six_followers_come_to_agree() {
    let leader: &[u64] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],          // (a) lacks the last
        &[1, 1, 1, 4],                         // (b) lacks many
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],    // (c) has one too many
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7], // (d) led term 7
        &[1, 1, 1, 4, 4, 4, 4],                // (e) led term 4
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],    // (f) led terms 2 and 3
    ];
    let logs: Vec<&[u64]> = [leader].into_iter().chain(followers).collect();
    let mut cluster = cluster_with_logs(&logs, 1);
    // (c) and (d) have later logs and would not vote; the rest do.
    elect_first(&mut cluster, &[n(2), n(3), n(6), n(7)]);
    assert_eq!(cluster.highest_term(), Term(8), "as in the paper");
    cluster.await_equal();
    let agreed = [leader, &[8]].concat();
    for id in cluster.others(&[]) {
        assert_eq!(cluster.log_terms(id), agreed, "{id}");
        assert_eq!(cluster.disk(id).terms(), agreed, "{id}");
    }
}

/// R8, thesis §10.2.1: Raft refuses AppendEntries that arrive out of order. We keep them until the hole is
/// filled: pipelining works, and what was sent ahead is not sent again.
#[test]
fn r8_appends_that_come_early_are_kept() {
    let mut follower = Single::new(3, &[]);
    follower.receive(2, 1, append(id(0, 0), &[1], 0));
    let early = follower.receive(2, 1, append(id(3, 1), &[1, 1], 0));
    let refusal = AppendReply::Rejected { prev: id(3, 1), hint: id(1, 1) };
    assert_eq!(to(&early, 2), [&Message::AppendEntriesReply(refusal)], "the leader learns of the hole");
    let filled = follower.receive(2, 1, append(id(1, 1), &[1, 1], 0));
    assert_eq!(to(&filled, 2), [&accepted(5)], "one answer for all that is there now");

    // What the early one said of the commit index holds for what fills the hole.
    let mut follower = Single::new(3, &[]);
    follower.receive(2, 1, append(id(1, 1), &[1, 1], 2));
    follower.receive(2, 1, append(id(0, 0), &[1], 0));
    assert_eq!((follower.node.log().last(), follower.applied.len()), (id(3, 1), 2));

    // A stream over a network that reorders every second message goes on, at a bounded cost.
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.await_leader();
    cluster.await_equal();
    let since = cluster.now;
    cluster.world = World { delay_us: (500, 6_000), ..World::default() };
    for round in 0..200 {
        cluster.propose(leader, &format!("put x {round}"));
        cluster.run_until(cluster.now.after(500));
    }
    cluster.await_equal();
    let took_us = cluster.now.since_us(since);
    assert!(
        took_us < 200_000,
        "pipelined: 200 entries one after the other would take a second ({took_us} µs)"
    );
    let sent = cluster.network.sent.iter().filter(|sent| sent.at > since);
    let entries: usize = sent
        .map(|sent| match &sent.envelope.message {
            Message::AppendEntries { slice, .. } => slice.entries().len(),
            _ => 0,
        })
        .sum();
    assert!(cluster.seen["append rejected"] > 20, "they were reordered");
    assert!(entries < 4 * 2 * 200, "{entries} entries sent for 200 to each of two followers");
}

/// R9, §5.4.3: an entry committed in one term is in the log of every leader of later terms, so nothing
/// committed is ever sent to a new leader.
#[test]
fn r9_a_new_leader_has_all_that_is_committed() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(5, seed);
        cluster.world = World { delay_us: (500, 30_000), disk_us: (500, 20_000), ..World::default() };
        for round in 0..5 {
            let leader = cluster.await_leader();
            for part in 0..5 {
                let _ = cluster.try_propose(leader, &format!("put x {round}.{part}"));
                cluster.run_for_ms(10);
            }
            let committed: Vec<EntryId> = cluster.judges.committed.values().copied().collect();
            cluster.crash(leader);
            cluster.run_for_ms(2_500);
            let new = cluster.await_leader();
            assert!(committed.iter().all(|&entry| cluster.node(new).log().matches(entry)), "seed {seed}");
            cluster.restart(leader);
        }
        for sent in &cluster.network.sent {
            let Message::AppendEntries { slice, .. } = &sent.envelope.message else { continue };
            let leads = cluster.judges.leader_of(sent.envelope.term);
            assert_ne!(leads, Some(sent.envelope.to), "entries flow from leaders: {slice}");
        }
    }
}

/// What becomes of an entry that reached only `holder` before the leader died.
fn after_a_leader_died(holder_takes_part: bool) -> (Cluster, EntryId, usize) {
    let mut cluster = Cluster::new(5, 1);
    let leader = cluster.await_leader();
    cluster.await_equal();
    let holder = cluster.others(&[leader])[0];
    cluster.partition(&[&[leader, holder]]);
    let put = cluster.propose(leader, "put x 1");
    let entry = cluster.node(leader).log().last();
    cluster.await_that(100, "the holder has it", |cluster| cluster.disk(holder).holds(entry));
    cluster.crash(leader);
    let rest = cluster.others(&[leader, holder]);
    if holder_takes_part {
        // Only the holder's log is up to date, so only it can win with these.
        let group = [holder, rest[0], rest[1]];
        cluster.partition(&[&group]);
        cluster.await_leader_among(&[holder]);
    } else {
        cluster.partition(&[&rest]);
        cluster.await_leader_among(&rest);
        cluster.run_for_ms(100);
    }
    cluster.network.heal();
    cluster.restart(leader);
    cluster.await_equal();
    (cluster, entry, put)
}

/// R10, §5.4: a leader crashes after its AppendEntries reached only some. Who wins then decides whether the
/// entry commits everywhere or vanishes everywhere; its client was told neither.
#[test]
fn r10_a_half_sent_entry_commits_everywhere_or_vanishes_everywhere() {
    let (cluster, entry, put) = after_a_leader_died(true);
    assert_eq!(cluster.operations[put].answer(), Answer::Unknown);
    for id in cluster.others(&[]) {
        assert!(cluster.disk(id).holds(entry), "{id}");
        assert_eq!(cluster.machine(id).get("x"), "1", "{id}");
    }
    let (cluster, entry, put) = after_a_leader_died(false);
    assert_eq!(cluster.operations[put].answer(), Answer::Unknown);
    for id in cluster.others(&[]) {
        assert!(!cluster.disk(id).holds(entry), "{id}");
        assert_eq!(cluster.machine(id).get("x"), "", "{id}");
    }
}

/// The configuration is part of the log's state: in force from the moment it is appended, and rolled back
/// with its entry (§6).
#[test]
fn r3_a_configuration_rolls_back_with_its_entry() {
    let mut follower = Single::new(3, &[1]);
    let before = follower.node.configuration().clone();
    let added = Configuration::of_voters((1..=4).map(n));
    let entry = Entry { id: id(2, 1), payload: Payload::Configuration(added.clone()) };
    let slice = tenure_raft::LogSlice::parse(id(1, 1), vec![entry]).expect("contiguous");
    follower.receive_only(2, 1, Message::AppendEntries { slice, leader_commit: Index(0) });
    assert_eq!(
        *follower.node.configuration(),
        added,
        "in force before it is committed, even before it is durable"
    );
    follower.receive(3, 2, append(id(1, 1), &[2], 0));
    assert_eq!(*follower.node.configuration(), before);
}

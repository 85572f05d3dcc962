//! Persistence: P1 and P2 (§5.1, figure 2, §7).

use tenure_raft::{
    AppendReply, Configuration, HardState, Index, Message, Options, RoleKind, Round, Snapshot, SnapshotChunk,
    Term,
};

use crate::cluster::single::{Single, append, id, to};
use crate::cluster::{Answer, Cluster, Image, n};

/// P1, figure 2: term, vote and log are on disk before any message that depends on them leaves. The only
/// thing that runs beside the disk is a leader's AppendEntries.
#[test]
fn p1_nothing_leaves_before_what_it_depends_on_is_durable() {
    // A vote, and with it the term.
    let mut voter = Single::new(3, &[1]);
    voter.receive_only(2, 5, Message::RequestVote { last: id(1, 1), leadership_transfer: false });
    assert_eq!(voter.sent, []);
    // Entries.
    let mut follower = Single::new(3, &[1]);
    follower.receive(2, 1, Message::Heartbeat { commit_index: Index(0), round: Round(0) });
    follower.sent.clear();
    follower.receive_only(2, 1, append(id(1, 1), &[1, 1], 3));
    assert_eq!(follower.sent.len(), 0, "not acknowledged");
    assert_eq!(follower.applied.len(), 1, "nor executed, but for what was durable before");
    follower.receive_only(2, 1, append(id(1, 1), &[1], 0));
    assert_eq!(follower.sent.len(), 0, "a doubled append does not vouch for the write either");
    follower.finish_writes();
    assert_eq!(follower.sent.len(), 2);
    assert_eq!(follower.applied.len(), 3);
    // A candidate's term and its vote for itself.
    let mut candidate = Single::new(3, &[1]);
    candidate.run_to_deadline();
    candidate.sent.clear();
    candidate.receive_only(2, 1, Message::PreVoteReply { proposed_term: Term(2), granted: true });
    assert_eq!((candidate.node.role(), candidate.sent.len()), (RoleKind::Candidate, 0));
    for voter in [2, 3] {
        candidate.receive_only(voter, 2, Message::RequestVoteReply { granted: true });
    }
    assert_eq!(candidate.node.role(), RoleKind::Candidate, "its own vote is not known to be durable yet");
    candidate.finish_writes();
    assert_eq!(candidate.node.role(), RoleKind::Leader);
    // A leader's own entries count for a commit only once its own disk has them (thesis §10.2.1).
    let mut leader = Single::new(3, &[1]);
    let term = leader.lead().0;
    leader.sent.clear();
    let entry = leader.propose("put x 1");
    leader.receive_only(
        2,
        term,
        Message::AppendEntriesReply(AppendReply::Accepted { match_index: id(2, 1).index }),
    );
    assert!(to(&leader.sent, 2).iter().any(|message| matches!(message, Message::AppendEntries { .. })));
    leader.receive_only(
        2,
        term,
        Message::AppendEntriesReply(AppendReply::Accepted { match_index: entry.index }),
    );
    assert!(leader.node.log().commit_index() < entry.index, "one of three disks");
    leader.finish_writes();
    assert_eq!(leader.node.log().commit_index(), entry.index);
}

/// P1: what a server answered for is there after a crash, and what it did not answer for may not be.
#[test]
fn p1_term_vote_and_log_survive_a_crash() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.await_leader();
    let operations = cluster.propose_all(leader, &["put x 1", "put x 2"]);
    for operation in operations {
        cluster.await_answer(operation);
    }
    cluster.await_equal();
    let before: Vec<(HardState, u64)> = cluster
        .up()
        .map(|id| (cluster.node(id).status().hard_state, cluster.node(id).log().last_index().0))
        .collect();
    for id in cluster.others(&[]) {
        cluster.crash(id);
    }
    for id in cluster.others(&[]) {
        cluster.restart(id);
    }
    let after: Vec<(HardState, u64)> = cluster
        .up()
        .map(|id| (cluster.node(id).status().hard_state, cluster.node(id).log().last_index().0))
        .collect();
    assert_eq!(before, after);
    let leader = cluster.await_leader();
    let get = cluster.propose(leader, "get x");
    assert_eq!(cluster.await_answer(get), Answer::Done("2".to_owned()));
}

/// P1: a write that was asked for before the log was rewritten cannot vouch for what stands at its indexes
/// now: the append ABA race (see `Writes` in the core).
#[test]
fn p1_an_old_write_cannot_vouch_for_a_rewritten_index() {
    let mut follower = Single::new(5, &[1]);
    follower.receive(2, 2, append(id(1, 1), &[2], 0));
    follower.receive_only(2, 2, append(id(2, 2), &[2], 0));
    let first = follower.writes.remove(0);
    follower.receive_only(3, 3, append(id(2, 2), &[3], 0));
    // The leader of term 4 brings back exactly the entry that the first write holds.
    follower.receive_only(4, 4, append(id(2, 2), &[2], 0));
    follower.sent.clear();
    follower.input(|node, now| node.on_persisted(now, first.token));
    follower.receive_only(4, 4, append(id(3, 2), &[], 0));
    assert_eq!(
        follower.node.log().persisted_index(),
        Index(2),
        "3@2 is on disk, but about to be overwritten"
    );
    assert_eq!(to(&follower.sent, 4), Vec::<&Message>::new());
    follower.finish_writes();
    assert_eq!(follower.node.log().persisted_index(), Index(3));
}

/// P2, §5.5: a crashed server that returns catches up by the log.
#[test]
fn p2_a_crashed_server_catches_up_by_the_log() {
    let mut cluster = Cluster::new(3, 1);
    // So little is kept in memory that the missing entries are read back from the leader's disk.
    cluster.options.max_recent_bytes = 100;
    for id in cluster.others(&[]) {
        cluster.crash(id);
        cluster.restart(id);
    }
    let leader = cluster.await_leader();
    let late = cluster.others(&[leader])[0];
    cluster.crash(late);
    for round in 0..100 {
        cluster.propose(leader, &format!("put x{round} {round}"));
        cluster.run_for_ms(1);
    }
    cluster.run_for_ms(10_000);
    cluster.restart(late);
    let took_us =
        cluster.await_that(2_000, "it has caught up", |cluster| cluster.machine(late).get("x99") == "99");
    assert!(took_us < 200_000, "within two heartbeats: {took_us} µs");
    assert_eq!(cluster.machine(late), cluster.machine(leader));
    assert!(!cluster.seen.contains_key("snapshot installed"));
    assert!(cluster.seen["entries loaded"] > 0);
}

/// P2, §7: if the log no longer reaches back, it catches up by a snapshot, chunk by chunk.
#[test]
fn p2_a_crashed_server_catches_up_by_a_snapshot() {
    let mut cluster = Cluster::new(3, 1);
    cluster.options.snapshot_chunk_bytes = 100;
    for id in cluster.others(&[]) {
        cluster.crash(id);
        cluster.restart(id);
    }
    let leader = cluster.await_leader();
    let late = cluster.others(&[leader])[0];
    cluster.crash(late);
    for round in 0..100 {
        cluster.propose(leader, &format!("put x{round} {round}"));
        cluster.run_for_ms(1);
    }
    cluster.run_for_ms(100);
    for id in cluster.up().collect::<Vec<_>>() {
        cluster.compact(id);
    }
    let after = cluster.propose(leader, "put after 1");
    cluster.await_answer(after);
    cluster.restart(late);
    cluster.await_equal();
    assert_eq!(cluster.seen["snapshot installed"], 1);
    assert_eq!(cluster.machine(late), cluster.machine(leader));
    assert!(cluster.node(late).log().first_index() > Index(100), "the log begins behind the snapshot");
    // It is a full member again: with it alone the leader commits.
    cluster.crash(cluster.others(&[leader, late])[0]);
    let put = cluster.propose(leader, "put last 1");
    assert_eq!(cluster.await_answer(put), Answer::Done("1".to_owned()));
    // And what it got survives the next crash.
    cluster.crash(late);
    cluster.restart(late);
    assert_eq!(cluster.machine(late).get("x99"), "99");
}

/// P2: a snapshot takes the place of a state that stands still, not of one that an entry is being applied
/// to.
#[test]
fn p2_a_snapshot_waits_for_the_entries_being_applied() {
    let mut follower = Single::new(3, &[1, 1]);
    follower.applies_slowly = true;
    follower.receive(2, 1, append(id(2, 1), &[], 2));
    assert_eq!(follower.applied.len(), 2, "they are being applied");
    let snapshot = Snapshot { last_included: id(9, 1), configuration: follower.node.configuration().clone() };
    let chunk = SnapshotChunk { data: "x".into(), done: true, ..SnapshotChunk::default() };
    let message = Message::InstallSnapshot { snapshot: snapshot.clone(), chunk };
    follower.receive(2, 1, message);
    follower.input(|node, now| node.on_snapshot_chunk_stored(now, snapshot.last_included));
    assert_eq!(follower.installing, []);
    follower.input(|node, now| node.on_applied(now, Index(2)));
    assert_eq!(follower.installing.first(), Some(&snapshot));
    follower.input(|node, now| node.on_snapshot_installed(now, snapshot.last_included));
    assert_eq!(follower.node.log().last_applied(), Index(9));
}

/// P2: no more of a snapshot waits for a disk that stands still than a leader may have under way, though the same server
/// leads anew, and knows of what it sent before no more than what is kept.
#[test]
fn p2_a_window_of_a_snapshot_waits_for_the_disk_and_no_more() {
    const CHUNK_BYTES: usize = 1_000;
    for (max_inflight_messages, max_inflight_bytes, most) in [(4, 1 << 20, 4), (256, 2_500, 3)] {
        let options = Options { max_inflight_messages, max_inflight_bytes, ..Options::default() };
        let image = Image::new(Configuration::of_voters((1..=3).map(n))).with_terms(&[1]);
        let mut follower = Single::with_image(&image, options);
        let configuration = follower.node.configuration().clone();
        let snapshot = Snapshot { last_included: id(9, 1), configuration };
        let send_next = |follower: &mut Single, term: u64| {
            let (offset, data) = ((follower.storing.len() * CHUNK_BYTES) as u64, vec![7; CHUNK_BYTES].into());
            let chunk = SnapshotChunk { offset, data, ..SnapshotChunk::default() };
            follower.receive(2, term, Message::InstallSnapshot { snapshot: snapshot.clone(), chunk });
        };
        for term in 2..10 {
            send_next(&mut follower, term);
        }
        assert_eq!(follower.storing.len(), most);
        // It goes on where it stopped.
        follower.input(|node, now| node.on_snapshot_chunk_stored(now, snapshot.last_included));
        send_next(&mut follower, 9);
        assert_eq!(follower.storing.len(), most + 1);
    }
}

/// P1: answers that still wait for the disk when a server goes on to a later term are not sent: they speak
/// for a term that is over, of entries that may be about to go.
#[test]
fn p1_answers_of_a_term_that_is_over_do_not_leave() {
    let mut follower = Single::new(3, &[1]);
    follower.receive(2, 1, append(id(1, 1), &[], 0));
    follower.receive_only(2, 1, append(id(1, 1), &[1], 0));
    follower.receive_only(2, 1, append(id(1, 1), &[1], 0));
    follower.run_to_deadline();
    follower.receive_only(3, 1, Message::PreVoteReply { proposed_term: Term(2), granted: true });
    follower.receive_only(3, 2, append(id(1, 1), &[2], 0));
    follower.sent.clear();
    let first = follower.writes.remove(0);
    follower.input(|node, now| node.on_persisted(now, first.token));
    follower.finish_writes();
    assert_eq!(to(&follower.sent, 2).len(), 1, "only the question for its vote: {:?}", follower.sent);
}

/// P1: a server that voted and lost its power before the write has not voted.
#[test]
fn p1_a_vote_that_was_not_written_was_not_given() {
    let request = Message::RequestVote { last: id(1, 1), leadership_transfer: false };
    let mut voter = Single::new(3, &[1]);
    voter.receive_only(2, 5, request.clone());
    assert_eq!(voter.sent, [], "so nobody can have counted it");
    let image = Image::new(voter.node.configuration().clone()).with_terms(&[1]);
    let mut restarted = Single::with_image(&image, Options::default());
    let reply = restarted.receive(3, 5, request);
    assert_eq!(to(&reply, 3), [&Message::RequestVoteReply { granted: true }]);
    assert_eq!(restarted.node.status().hard_state.voted_for, Some(n(3)));
}

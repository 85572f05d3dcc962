//! Terms: T1 to T3 (§5.1, §5.2).

use tenure_raft::{
    AppendReply, Configuration, Event, Index, Message, ReadId, RoleKind, Round, Snapshot, SnapshotChunk,
    SnapshotReply, Term,
};

use crate::cluster::single::{Single, append, id};
use crate::cluster::{Cluster, n};

/// Every kind of message.
fn one_of_each() -> Vec<Message> {
    let snapshot =
        Snapshot { last_included: id(1, 1), configuration: Configuration::of_voters([n(1), n(2)]) };
    let (read, round) = (ReadId(1), Round(1));
    vec![
        Message::PreVote { proposed_term: Term(9), last: id(9, 1) },
        Message::PreVoteReply { proposed_term: Term(9), granted: true },
        Message::RequestVote { last: id(9, 1), leadership_transfer: false },
        Message::RequestVoteReply { granted: true },
        append(id(0, 0), &[1, 1], 2),
        Message::AppendEntriesReply(AppendReply::Accepted { match_index: Index(1) }),
        Message::AppendEntriesReply(AppendReply::Rejected { prev: id(1, 1), hint: id(0, 0) }),
        Message::Heartbeat { commit_index: Index(1), round },
        Message::HeartbeatReply { round },
        Message::CommitNotice { commit_index: Index(1) },
        Message::InstallSnapshot {
            snapshot,
            chunk: SnapshotChunk { data: "x".into(), done: true, ..SnapshotChunk::default() },
        },
        Message::InstallSnapshotReply {
            last_included: id(1, 1),
            reply: SnapshotReply::Received { next_offset: 0, above: Index(0) },
        },
        Message::TimeoutNow,
        Message::ReadIndex { read },
        Message::ReadIndexReply { read, index: Some(Index(1)) },
    ]
}

/// T1, §5.1: terms number the leaders, at most one a term; the term is a logical clock that is persisted
/// and only grows, through crashes too.
#[test]
fn t1_terms_number_the_leaders_and_only_grow() {
    let mut cluster = Cluster::new(3, 1);
    let mut latest = Term(0);
    for _ in 0..8 {
        let leader = cluster.await_leader();
        let term = cluster.node(leader).current_term();
        assert!(term > latest, "each leader has a term of its own");
        latest = term;
        assert_eq!(cluster.judges.leader_of(term), Some(leader));
        cluster.crash(leader);
        cluster.run_for_ms(2_500);
        cluster.restart(leader);
        assert!(cluster.node(leader).current_term() >= term, "the term survives a crash");
    }
}

/// T2, §5.1: every message carries its sender's term. One of a smaller term has no effect, and is answered
/// with ours if it is a request.
#[test]
fn t2_a_message_of_an_old_term_has_no_effect() {
    for message in one_of_each() {
        let mut server = Single::new(3, &[1]);
        server.receive(2, 6, Message::Heartbeat { commit_index: Index(0), round: Round(0) });
        let before = server.node.clone();
        let sent = server.receive(3, 5, message.clone());
        assert_eq!(server.node, before, "{message} of an old term changed something");
        let expects_answer = message.is_request() && message != Message::TimeoutNow;
        assert_eq!(sent.len(), usize::from(expects_answer), "{message}");
        assert!(sent.iter().all(|reply| reply.term == Term(6)), "it is answered with our term");
    }
}

/// T2, §5.1: a larger term makes a follower of that term of everyone.
#[test]
fn t2_a_larger_term_makes_a_follower() {
    for message in one_of_each() {
        let mut leader = Single::new(3, &[1]);
        let term = leader.lead();
        assert_eq!(leader.node.role(), RoleKind::Leader);
        leader.receive(2, term.0 + 1, message.clone());
        // The exception, thesis §4.2.3 and §9.6: who asks for votes while a leader is alive is refused.
        let disturbs = matches!(message, Message::PreVote { .. } | Message::RequestVote { .. });
        if disturbs {
            assert_eq!(
                (leader.node.role(), leader.node.current_term()),
                (RoleKind::Leader, term),
                "{message}"
            );
        } else {
            let asked_to_campaign = message == Message::TimeoutNow;
            let expected = if asked_to_campaign { RoleKind::Candidate } else { RoleKind::Follower };
            assert_eq!(leader.node.role(), expected, "{message}");
            assert!(leader.node.current_term() > term, "{message}");
            assert!(leader.events.iter().any(|event| matches!(event, Event::SteppedDown { .. })));
        }
    }
}

/// T3, §5.2: only the leader of a term sends AppendEntries of that term, so to receive one proves that
/// someone has won it: a candidate of the same term gives up.
#[test]
fn t3_append_entries_prove_that_the_term_is_won() {
    let mut candidate = Single::new(3, &[1]);
    candidate.run_to_deadline();
    let grant = Message::PreVoteReply { proposed_term: Term(2), granted: true };
    candidate.receive(2, 1, grant);
    assert_eq!(candidate.node.role(), RoleKind::Candidate);
    assert_eq!(candidate.node.current_term(), Term(2));
    candidate.receive(3, 2, append(id(1, 1), &[2], 0));
    assert_eq!(candidate.node.role(), RoleKind::Follower);
    assert_eq!(candidate.node.leader_id(), Some(n(3)));
    assert_eq!(candidate.node.log().last(), id(2, 2), "and takes its entries");

    // No leader of a term believes in another of the same term.
    let mut leader = Single::new(3, &[1]);
    let term = leader.lead();
    let last = leader.node.log().last();
    assert_eq!(leader.receive(2, term.0, append(id(1, 1), &[term.0, term.0], 3)), []);
    assert_eq!((leader.node.role(), leader.node.log().last()), (RoleKind::Leader, last));
}

//! Forwarded writes on a network that loses, doubles and delays: each is executed at most once, and what is
//! said of it is true.

use std::cell::RefCell;
use std::rc::Rc;

use tenure_raft::{Message, RoleKind};
use tenure_replica::{Failure, Options, PeerMessage, Reply};

use crate::harness::{Cluster, id};

/// Copies of all forwards that pass, with who sent them to whom.
type Captured = Rc<RefCell<Vec<(u64, u64, PeerMessage)>>>;

/// Keeps copies of forwards, and lets `copies` of each pass.
fn capture(cluster: &mut Cluster, copies: usize) -> Captured {
    let captured = Captured::default();
    let kept = captured.clone();
    cluster.network = Box::new(move |from, to, message| match message {
        PeerMessage::Forward(_) => {
            kept.borrow_mut().push((from, to, message.clone()));
            copies
        }
        PeerMessage::Raft(_)
        | PeerMessage::ForwardRefused(_)
        | PeerMessage::ForwardQuestion(_)
        | PeerMessage::ForwardLacked(_)
        | PeerMessage::ChangeMembers(_)
        | PeerMessage::MembersChanged(_)
        | PeerMessage::Room { .. }
        | PeerMessage::Acknowledged(_) => 1,
    });
    captured
}

fn pass_all(cluster: &mut Cluster) {
    cluster.network = Box::new(|_, _, _| 1);
}

fn is_done(reply: &Reply) -> bool {
    matches!(reply, Reply::Applied { result: Ok(_), .. })
}

#[test]
fn a_doubled_forward_is_executed_once() {
    let mut cluster = Cluster::new(Options::default());
    let leader = cluster.await_leader();
    let follower = leader % 3 + 1;
    let captured = capture(&mut cluster, 2);
    let request = cluster.put(follower, "key", "value");
    assert!(is_done(&cluster.await_reply(follower, request)));
    // And once more, long after it was applied.
    for (from, to, message) in captured.take() {
        cluster.deliver(from, to, message);
    }
    assert_eq!(cluster.get_versioned(follower, "key"), Some(("value".to_owned(), 1)));
}

/// The story: A leads and takes B's write, then is cut off with it and steps down. A second copy of the
/// forward reaches A. If A said "I do not lead, it was not taken", B would offer the write to the next leader;
/// and A's entry could still come back.
#[test]
fn a_second_copy_is_not_refused_when_the_first_is_in_a_log() {
    let mut cluster = Cluster::new(Options::default());
    let old = cluster.await_leader();
    let origin = old % 3 + 1;
    // Nothing but the forward reaches the leader, and nothing leaves it.
    let captured = capture(&mut cluster, 1);
    let forwards = captured.clone();
    cluster.network = Box::new(move |from, to, message| match message {
        PeerMessage::Forward(_) => {
            forwards.borrow_mut().push((from, to, message.clone()));
            1
        }
        PeerMessage::Raft(_)
        | PeerMessage::ForwardRefused(_)
        | PeerMessage::ForwardQuestion(_)
        | PeerMessage::ForwardLacked(_)
        | PeerMessage::ChangeMembers(_)
        | PeerMessage::MembersChanged(_)
        | PeerMessage::Room { .. }
        | PeerMessage::Acknowledged(_) => usize::from(from != old && to != old),
    });
    let request = cluster.put(origin, "key", "value");
    cluster.tick();
    let last = |cluster: &Cluster| cluster.members[&old].replica.node().log().last();
    let with_the_write = last(&cluster);
    let (_, _, second_copy) = captured.borrow()[0].clone();
    cluster.run_until("the old leader steps down", |cluster| {
        cluster.members[&old].replica.node().role() != RoleKind::Leader
    });
    assert_eq!(last(&cluster), with_the_write, "the write is still in its log");

    let refused = Rc::new(RefCell::new(0));
    let count = refused.clone();
    cluster.network = Box::new(move |_, _, message| {
        *count.borrow_mut() += usize::from(matches!(message, PeerMessage::ForwardRefused(_)));
        1
    });
    cluster.deliver(origin, old, second_copy);
    cluster.tick();
    assert_eq!(*refused.borrow(), 0, "what is in a log was not refused");
    assert!(is_done(&cluster.await_reply(origin, request)));
    assert_eq!(cluster.get_versioned(origin, "key"), Some(("value".to_owned(), 1)));
    cluster.assert_equal_states();
}

#[test]
fn a_first_copy_that_comes_too_late_is_refused_or_dropped_but_never_executed() {
    let mut cluster = Cluster::new(Options::default());
    let old = cluster.await_leader();
    let (origin, third) = (old % 3 + 1, (old + 1) % 3 + 1);
    let captured = capture(&mut cluster, 0);
    let request = cluster.put(origin, "key", "late");
    cluster.tick();
    let now = cluster.now;
    cluster.members.get_mut(&old).unwrap().replica.transfer_leadership(now, Some(id(third))).unwrap();
    cluster.run_until("the transfer", |cluster| cluster.leader() == Some(third));
    pass_all(&mut cluster);
    assert!(is_done(&cluster.await_reply(origin, request)), "offered to the new leader");
    // Meant for the old leader's term, whoever leads by now.
    for (from, _, message) in captured.take() {
        for to in [old, third] {
            cluster.deliver(from, to, message.clone());
        }
    }
    cluster.tick();
    assert_eq!(cluster.get_versioned(origin, "key"), Some(("late".to_owned(), 1)));
}

#[test]
fn a_lost_forward_costs_a_retry_and_not_the_whole_timeout() {
    // Reads have a time of their own, which says nothing of writes.
    let options = Options { read_retry_us: 6_000_000, forward_repeat_us: 200_000, ..Options::default() };
    let mut cluster = Cluster::new(options.clone());
    let leader = cluster.await_leader();
    let follower = leader % 3 + 1;
    let captured = capture(&mut cluster, 0);
    let started = cluster.now;
    let request = cluster.put(follower, "key", "value");
    cluster.tick();
    assert_eq!(captured.borrow().len(), 1);
    pass_all(&mut cluster);
    assert!(is_done(&cluster.await_reply(follower, request)));
    let took_us = cluster.now.since_us(started);
    assert!(took_us <= options.forward_repeat_us + 10_000, "{took_us} µs");
    assert_eq!(cluster.get_versioned(follower, "key"), Some(("value".to_owned(), 1)));
}

/// A leader that takes its time has lost nothing: it is asked by numbers, seldom, and nothing is sent to it twice.
#[test]
fn what_is_merely_slow_is_not_sent_twice() {
    let mut cluster = Cluster::new(Options { forward_repeat_us: 200_000, ..Options::default() });
    let leader = cluster.await_leader();
    let follower = leader % 3 + 1;
    let passed = Rc::new(RefCell::new((0, 0)));
    let count = passed.clone();
    // The leader's entries reach nobody: nothing is committed, and heartbeats go on.
    cluster.network = Box::new(move |_, _, message| {
        let (forwards, questions) = &mut *count.borrow_mut();
        *forwards += usize::from(matches!(message, PeerMessage::Forward(_)));
        *questions += usize::from(matches!(message, PeerMessage::ForwardQuestion(_)));
        let is_append = matches!(
            message,
            PeerMessage::Raft(envelope) if matches!(envelope.message, Message::AppendEntries { .. })
        );
        usize::from(!is_append)
    });
    let requests: Vec<_> = (0..8).map(|n| cluster.put(follower, &format!("key{n}"), "value")).collect();
    let started = cluster.now;
    cluster.run_until("three seconds", |cluster| cluster.now.since_us(started) >= 3_000_000);
    let (forwards, questions) = *passed.borrow();
    assert!(forwards <= 8, "each was sent once, not {forwards} times");
    assert!((2..=5).contains(&questions), "after 0.2, 0.6, 1.4 and 3 s, not {questions} times");
    pass_all(&mut cluster);
    for request in requests {
        assert!(is_done(&cluster.await_reply(follower, request)));
    }
}

/// Of many only those that the leader lacks are sent again.
#[test]
fn only_what_was_lost_is_sent_again() {
    let mut cluster = Cluster::new(Options { max_forward_bytes: 1, ..Options::default() });
    let leader = cluster.await_leader();
    let follower = leader % 3 + 1;
    let sent = Rc::new(RefCell::new(0));
    let count = sent.clone();
    cluster.network = Box::new(move |_, _, message| {
        let PeerMessage::Forward(_) = message else { return 1 };
        let mut count = count.borrow_mut();
        *count += 1;
        // The third of them is lost.
        usize::from(*count != 3)
    });
    let requests: Vec<_> = (0..8).map(|n| cluster.put(follower, &format!("key{n}"), "value")).collect();
    for request in requests {
        assert!(is_done(&cluster.await_reply(follower, request)));
    }
    assert_eq!(*sent.borrow(), 9);
}

/// So much may be under way, and what waits meanwhile is certainly not done when its time is up.
#[test]
fn the_bytes_on_their_way_to_the_leader_are_bounded() {
    let mut cluster = Cluster::new(Options { max_forwarded_bytes: 200, ..Options::default() });
    let leader = cluster.await_leader();
    let follower = leader % 3 + 1;
    let captured = capture(&mut cluster, 0);
    let value = "v".repeat(150);
    let requests: Vec<_> = (0..5).map(|n| cluster.put(follower, &format!("key{n}"), &value)).collect();
    cluster.tick();
    let forwarded: usize = captured
        .borrow()
        .iter()
        .map(|(_, _, message)| match message {
            PeerMessage::Forward(forward) => forward.commands.len(),
            _ => 0,
        })
        .sum();
    assert_eq!(forwarded, 2, "one over the bound, not two");
    let replies: Vec<Reply> =
        requests.iter().map(|&request| cluster.await_reply(follower, request)).collect();
    let [first, second, rest @ ..] = &replies[..] else { panic!("five answers") };
    for reply in [first, second] {
        assert!(matches!(reply, Reply::Failed(Failure::TimedOut)), "{reply:?}");
    }
    for reply in rest {
        assert!(matches!(reply, Reply::Failed(Failure::TooManyRequests)), "{reply:?}");
    }
}

#[test]
fn a_message_that_was_given_back_is_offered_again_soon() {
    let mut cluster = Cluster::new(Options::default());
    let leader = cluster.await_leader();
    let follower = leader % 3 + 1;
    let captured = capture(&mut cluster, 0);
    let started = cluster.now;
    let request = cluster.put(follower, "key", "value");
    cluster.tick();
    let now = cluster.now;
    let (_, _, message) = captured.borrow()[0].clone();
    cluster.members.get_mut(&follower).unwrap().replica.on_not_sent(now, message);
    pass_all(&mut cluster);
    assert!(is_done(&cluster.await_reply(follower, request)));
    assert!(cluster.now.since_us(started) < 50_000);
}

#[test]
fn a_write_that_no_leader_ever_answers_is_unknown_and_one_that_was_always_given_back_is_not() {
    let mut cluster = Cluster::new(Options::default());
    let leader = cluster.await_leader();
    let follower = leader % 3 + 1;
    capture(&mut cluster, 0);
    let request = cluster.put(follower, "key", "lost");
    let Reply::Failed(failure) = cluster.await_reply(follower, request) else { panic!("it was lost") };
    assert_eq!(failure, Failure::TimedOut);
    assert!(!failure.is_certainly_not_done());

    let captured = capture(&mut cluster, 0);
    let request = cluster.put(follower, "key", "given back");
    cluster.run_until("a reply", |cluster| {
        cluster.members[&follower].replies.contains_key(&request) || {
            // Everything that was sent has certainly not left.
            !captured.borrow().is_empty()
        }
    });
    while !cluster.members[&follower].replies.contains_key(&request) {
        for (_, _, message) in captured.take() {
            let now = cluster.now;
            cluster.members.get_mut(&follower).unwrap().replica.on_not_sent(now, message);
        }
        cluster.tick();
    }
    let Reply::Failed(failure) = cluster.await_reply(follower, request) else { panic!("it never left") };
    assert!(failure.is_certainly_not_done(), "{failure:?}");
    assert_eq!(cluster.get(follower, "key"), None);
}

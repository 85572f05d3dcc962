//! What a small cluster promises its clients, on a network that only delays.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

use tenure_raft::{EntryId, Envelope, Index, Message, RoleKind, Term, Time};
use tenure_replica::{Acknowledged, Failure, Options, PeerMessage, Reply};
use tenure_store::{Command, PutRequest, RangeRequest, RequestOp, Response, TxnRequest};

use crate::harness::{Cluster, Disks, Member, id};

#[test]
fn m7_a_write_at_any_member_is_read_at_every_member() {
    let mut cluster = Cluster::new(Options::default());
    cluster.await_leader();
    for at in 1..=3 {
        let request = cluster.put(at, "where", &format!("member {at}"));
        assert!(matches!(cluster.await_reply(at, request), Reply::Applied { result: Ok(_), .. }));
        for reader in 1..=3 {
            assert_eq!(cluster.get(reader, "where"), Some(format!("member {at}")));
        }
    }
    cluster.assert_equal_states();
}

/// A megabyte that asks for two hundred million pairs, which no member could hold: those whom nobody has asked make
/// none, nor does anybody at a restart, and the one that was asked makes them when they are sent.
#[test]
fn answers_that_nobody_waits_for_are_not_made() {
    let mut cluster = Cluster::new(Options::default());
    let leader = cluster.await_leader();
    let put = |number| PutRequest { key: format!("{number:04}").into(), ..PutRequest::default() };
    let puts = (0..2_000).map(|number| RequestOp::Put(put(number))).collect();
    let filled = cluster.write(leader, &Command::Txn(TxnRequest { success: puts, ..TxnRequest::default() }));
    assert!(matches!(cluster.await_reply(leader, filled), Reply::Applied { result: Ok(_), .. }));
    let list = RangeRequest { key: "0".into(), range_end: "9".into(), ..RangeRequest::default() };
    let mut success = vec![RequestOp::Range(list); 100_000];
    success.push(RequestOp::Put(put(2_000)));
    let asked = cluster.write(leader, &Command::Txn(TxnRequest { success, ..TxnRequest::default() }));
    let Reply::Applied { result: Ok(Response::Txn(response)), .. } = cluster.await_reply(leader, asked)
    else {
        panic!("an answer to a transaction")
    };
    assert_eq!(response.responses.len(), 100_001);
    cluster.assert_equal_states();
    for number in 1..=3 {
        cluster.restart(number);
    }
    cluster.await_leader();
    cluster.assert_equal_states();
}

#[test]
fn p1_what_was_answered_survives_a_restart_of_all() {
    let mut cluster = Cluster::new(Options::default());
    cluster.await_leader();
    let request = cluster.put(2, "kept", "yes");
    cluster.await_reply(2, request);
    for number in 1..=3 {
        cluster.restart(number);
    }
    cluster.await_leader();
    assert_eq!(cluster.get(1, "kept").as_deref(), Some("yes"));
    cluster.assert_equal_states();
}

#[test]
fn e8_a_write_at_a_cut_off_leader_is_not_answered_as_done_and_ends_up_nowhere() {
    let mut cluster = Cluster::new(Options::default());
    let old = cluster.await_leader();
    cluster.cut_off = Some(old);
    let lost = cluster.put(old, "lost", "yes");
    let new = cluster.await_leader();
    assert_ne!(new, old);
    let kept = cluster.put(new, "kept", "yes");
    cluster.await_reply(new, kept);
    assert!(!cluster.members[&old].replies.contains_key(&lost), "nothing is known of it yet");
    cluster.cut_off = None;
    // Once an entry of the new term is applied, the old attempt is certainly over: it is made again.
    assert!(matches!(cluster.await_reply(old, lost), Reply::Applied { result: Ok(_), .. }));
    cluster.assert_equal_states();
}

#[test]
fn q3_without_a_majority_a_write_is_answered_as_unknown_or_certainly_not_done_but_never_as_done() {
    let mut cluster = Cluster::new(Options::default());
    let leader = cluster.await_leader();
    cluster.cut_off = Some(leader);
    let in_log = cluster.put(leader, "in a log", "perhaps");
    cluster.tick();
    cluster.run_until("the leader steps down", |cluster| {
        cluster.members[&leader].replica.node().role() != RoleKind::Leader
    });
    let in_no_log = cluster.put(leader, "in no log", "no");
    let Reply::Failed(first) = cluster.await_reply(leader, in_log) else { panic!("no majority, no answer") };
    let Reply::Failed(second) = cluster.await_reply(leader, in_no_log) else {
        panic!("no majority, no answer")
    };
    assert_eq!((first, first.is_certainly_not_done()), (Failure::TimedOut, false));
    assert_eq!((second, second.is_certainly_not_done()), (Failure::NoLeader, true));
}

#[test]
fn p2_a_member_far_behind_is_sent_the_state() {
    let options = Options { checkpoint_entries: 50, catch_up_entries: 10, ..Options::default() };
    let mut cluster = Cluster::new(options);
    let leader = cluster.await_leader();
    let behind = leader % 3 + 1;
    cluster.cut_off_for_long(behind);
    for number in 0..300 {
        let request = cluster.put(leader, &format!("key {number}"), "value");
        cluster.await_reply(leader, request);
    }
    let log = cluster.members[&leader].replica.node().log();
    assert!(log.first_index().0 > 200, "the log was compacted behind the checkpoints");
    cluster.cut_off = None;
    cluster.assert_equal_states();
    assert_eq!(cluster.get(behind, "key 7").as_deref(), Some("value"));
    // What it was sent is on its disk.
    cluster.restart(behind);
    assert!(cluster.members[&behind].replica.store().applied_index() >= 250);
    cluster.assert_equal_states();
}

#[test]
fn p1_only_who_has_acknowledged_is_said_to_have() {
    let mut cluster = Cluster::new(Options::default());
    let old = cluster.await_leader();
    let [silent, next] = [old % 3 + 1, (old + 1) % 3 + 1];
    let request = cluster.put(old, "key", "value");
    cluster.await_reply(old, request);
    cluster.cut_off = Some(silent);
    let now = cluster.now;
    cluster.members.get_mut(&old).unwrap().replica.transfer_leadership(now, Some(id(next))).unwrap();
    cluster.run_until("the next leads", |cluster| cluster.leader() == Some(next));
    let request = cluster.put(next, "key", "value");
    cluster.await_reply(next, request);
    let replica = &cluster.members[&next].replica;
    let term = replica.node().current_term();
    let said: Vec<_> = replica.acknowledged().iter().map(|(member, id)| (member.as_u64(), id.term)).collect();
    assert_eq!(said, [(old, term)], "the other has not heard of this term");
    // The others know it from the leader, of itself too.
    let heard = |cluster: &Cluster| {
        let known = cluster.members[&old].replica.acknowledged();
        known.into_iter().find(|&(member, id)| member == self::id(next) && id.term == term)
    };
    cluster.run_until("the leader has said what it has", |cluster| heard(cluster).is_some());
    // Who starts again begins with what it had acknowledged, in its term or a later one.
    let had = cluster.members[&next].replica.acknowledged()[0].1;
    cluster.restart(old);
    let began = cluster.members[&old].replica.durable();
    assert!((began.term, began.index) >= (had.term, had.index), "{began} after {had}");
}

#[test]
fn who_is_told_that_it_acknowledged_more_than_it_has_knows_its_loss() {
    let mut cluster = Cluster::new(Options::default());
    let leader = cluster.await_leader();
    let [follower, other] = [leader % 3 + 1, (leader + 1) % 3 + 1];
    let request = cluster.put(leader, "key", "value");
    cluster.await_reply(leader, request);
    cluster.run_until("all have it", |cluster| {
        cluster
            .members
            .values()
            .all(|member| member.replica.durable() == cluster.members[&leader].replica.durable())
    });
    let EntryId { term, index } = cluster.members[&leader].replica.durable();
    let said = |term: Term, more: u64| {
        let members = vec![(id(follower), Index(index.0 + more))];
        PeerMessage::Acknowledged(Acknowledged { term, members })
    };
    // Neither who does not lead is believed, nor what a former leader says; and what is true does no harm.
    cluster.deliver(other, follower, said(term, 1));
    cluster.deliver(leader, follower, said(Term(term.0 - 1), 1));
    cluster.deliver(leader, follower, said(term, 0));
    assert_eq!(cluster.members[&follower].replica.loss(), None);
    cluster.deliver(leader, follower, said(term, 1));
    let loss = cluster.members[&follower].replica.loss().expect("it has less");
    assert_eq!((loss.had.index.0, loss.has), (index.0 + 1, index));
    assert!(loss.to_string().contains("put back to an older copy"), "{loss}");
}

#[test]
fn l4_leadership_is_handed_over_and_writes_go_on() {
    let mut cluster = Cluster::new(Options::default());
    let old = cluster.await_leader();
    let target = old % 3 + 1;
    let now = cluster.now;
    cluster.members.get_mut(&old).unwrap().replica.transfer_leadership(now, Some(id(target))).unwrap();
    let request = cluster.put(old, "during", "transfer");
    assert!(matches!(cluster.await_reply(old, request), Reply::Applied { result: Ok(_), .. }));
    assert_eq!(cluster.leader(), Some(target));
    assert!(cluster.now.0 < 5_000_000, "no election timeout had to pass");
}

/// The checkpoint that a follower is sent can be durable before the term in which it came is.
#[test]
fn p2_a_crash_between_an_installed_checkpoint_and_the_log_does_no_harm() {
    let options = Options { checkpoint_entries: 20, catch_up_entries: 5, ..Options::default() };
    let mut cluster = Cluster::new(options.clone());
    let leader = cluster.await_leader();
    for number in 0..100 {
        let request = cluster.put(leader, &format!("key {number}"), "value");
        cluster.await_reply(leader, request);
    }
    cluster.assert_equal_states();
    // A member that has the leader's checkpoints and a log that knows nothing of them.
    let snap = cluster.members[&leader].disks.snap.clone();
    let disks = Disks { snap, ..Disks::default() };
    let open = |disks: &Disks| Member::open(leader, 3, &options, disks.clone(), Time(0)).unwrap();
    let member = open(&disks);
    let node = member.replica.node();
    assert!(node.log().last_applied().0 >= 80, "it starts from the checkpoint");
    assert!(node.current_term() >= node.log().last().term);
    drop(member);
    assert!(open(&disks).replica.node().log().last_applied().0 >= 80, "and does so again");
}

#[test]
fn p3_what_is_new_is_put_behind_a_checkpoint_that_was_received() {
    let mut cluster =
        Cluster::new(Options { checkpoint_entries: 5, catch_up_entries: 0, ..Options::default() });
    let leader = cluster.await_leader();
    let behind = leader % 3 + 1;
    cluster.cut_off_for_long(behind);
    let write = |cluster: &mut Cluster, number: u64| {
        let requests = [
            cluster.put(leader, &format!("key {}", number % 7), &format!("value {number}")),
            cluster.delete(leader, &format!("key {}", (number + 3) % 7)),
        ];
        for request in requests {
            cluster.await_reply(leader, request);
        }
        if number.is_multiple_of(5) {
            let request = cluster.compact(leader);
            cluster.await_reply(leader, request);
        }
    };
    (0..20).for_each(|number| write(&mut cluster, number));
    assert!(cluster.segment_count(leader) > 1, "a checkpoint of several files is sent");
    cluster.cut_off = None;
    cluster.run_until("the member that was away has caught up", |cluster| {
        let applied = |number: u64| cluster.members[&number].replica.store().applied_index();
        applied(behind) == applied(leader)
    });
    assert_eq!(cluster.segment_count(behind), 1, "it has arrived as one");
    (20..40).for_each(|number| write(&mut cluster, number));
    assert!(cluster.segment_count(behind) > 1, "and was not written again");
    cluster.assert_equal_states();
    cluster.restart(behind);
    cluster.assert_equal_states();
    cluster.members[&behind].replica.store().check_invariants();
}

/// Who has a checkpoint of its own is sent the parts above it, and keeps them behind its own.
#[test]
fn p3_a_follower_is_sent_only_what_it_lacks() {
    let mut cluster =
        Cluster::new(Options { checkpoint_entries: 50, catch_up_entries: 0, ..Options::default() });
    let sent_bytes = Rc::new(Cell::new(0));
    let counter = Rc::clone(&sent_bytes);
    cluster.network = Box::new(move |_, _, message| {
        if let PeerMessage::Raft(Envelope { message: Message::InstallSnapshot { chunk, .. }, .. }) = message {
            counter.set(counter.get() + chunk.data.len());
        }
        1
    });
    let leader = cluster.await_leader();
    let behind = leader % 3 + 1;
    let value = "value ".repeat(50);
    let write = |cluster: &mut Cluster, keys: Range<u64>| {
        for number in keys {
            let request = cluster.put(leader, &format!("key {number}"), &value);
            cluster.await_reply(leader, request);
        }
    };
    write(&mut cluster, 0..1000);
    cluster.assert_equal_states();
    let state_bytes = cluster.members[&leader].replica.store().live_bytes() as usize;
    assert_eq!(sent_bytes.get(), 0);
    cluster.cut_off_for_long(behind);
    write(&mut cluster, 1000..1100);
    // What is deleted and forgotten meanwhile must not come back.
    for request in [cluster.delete(leader, "key 7"), cluster.compact(leader)] {
        cluster.await_reply(leader, request);
    }
    write(&mut cluster, 1100..1151);
    cluster.cut_off = None;
    cluster.assert_equal_states();
    let lacked = sent_bytes.get();
    assert!(lacked > 100 * value.len(), "{lacked} bytes were sent");
    assert!(lacked < state_bytes / 3, "{lacked} bytes were sent of {state_bytes}");
    assert_eq!(cluster.get(behind, "key 7"), None);
    cluster.restart(behind);
    cluster.assert_equal_states();
    cluster.members[&behind].replica.store().check_invariants();
    // It goes on from there.
    write(&mut cluster, 0..200);
    cluster.restart(behind);
    cluster.assert_equal_states();
}

/// The last entries of the snapshots that were begun, and whether their chunks arrive.
type Transfers = (Rc<RefCell<BTreeSet<EntryId>>>, Rc<Cell<bool>>);

fn watch_transfers(cluster: &mut Cluster) -> Transfers {
    let transfers: Transfers = Default::default();
    let (begun, arrive) = (Rc::clone(&transfers.0), Rc::clone(&transfers.1));
    cluster.network = Box::new(move |_, _, message| {
        let PeerMessage::Raft(Envelope { message: Message::InstallSnapshot { snapshot, chunk }, .. }) =
            message
        else {
            return 1;
        };
        begun.borrow_mut().insert(snapshot.last_included);
        usize::from(chunk.is_question() || arrive.get())
    });
    transfers
}

/// However many checkpoints are taken meanwhile.
#[test]
fn p2_what_a_transfer_needs_is_kept_until_it_is_installed() {
    let mut cluster =
        Cluster::new(Options { checkpoint_entries: 10, catch_up_entries: 0, ..Options::default() });
    let leader = cluster.await_leader();
    let behind = leader % 3 + 1;
    let (begun, arrive) = watch_transfers(&mut cluster);
    cluster.cut_off_for_long(behind);
    let write = |cluster: &mut Cluster, count: u64| {
        for number in 0..count {
            let request = cluster.put(leader, &format!("key {}", number % 20), &format!("value {number}"));
            cluster.await_reply(leader, request);
        }
    };
    write(&mut cluster, 50);
    cluster.cut_off = None;
    cluster.run_until("a transfer begins", |_| !begun.borrow().is_empty());
    write(&mut cluster, 1_000);
    let log = cluster.members[&leader].replica.node().log();
    let first = begun.borrow().first().unwrap().index;
    assert!(log.snapshot().last_included.index.0 > first.0 + 900, "checkpoints go on");
    assert!(log.first_index() <= first.next(), "the log behind the one that is sent is there");
    arrive.set(true);
    cluster.assert_equal_states();
    assert_eq!(begun.borrow().len(), 1, "the first was of use");
    let log = cluster.members[&leader].replica.node().log();
    assert!(log.first_index().0 > first.0 + 900, "what nobody needs is let go of");
}

#[test]
fn p2_what_is_kept_of_the_log_for_a_follower_is_bounded_in_bytes() {
    const MOST_BYTES: u64 = 20_000;
    let mut cluster = Cluster::new(Options {
        checkpoint_entries: 10,
        catch_up_entries: 0,
        max_held_log_bytes: MOST_BYTES,
        ..Options::default()
    });
    let leader = cluster.await_leader();
    let behind = leader % 3 + 1;
    let (begun, arrive) = watch_transfers(&mut cluster);
    cluster.cut_off_for_long(behind);
    let value = "v".repeat(1_000);
    let write = |cluster: &mut Cluster, count: u64| {
        for number in 0..count {
            let request = cluster.put(leader, &format!("key {}", number % 20), &value);
            cluster.await_reply(leader, request);
        }
    };
    write(&mut cluster, 50);
    cluster.cut_off = None;
    cluster.run_until("a transfer begins", |_| !begun.borrow().is_empty());
    write(&mut cluster, 500);
    let log = cluster.members[&leader].replica.node().log();
    let kept = log.snapshot().last_included.index.0 - log.start().index.0;
    assert!((10..=MOST_BYTES / 1_000).contains(&kept), "{kept} entries of 1,000 bytes and more");
    arrive.set(true);
    cluster.assert_equal_states();
}

/// 5,000 entries may be gigabytes.
#[test]
fn p3_what_is_kept_of_the_log_for_everybody_is_bounded_in_bytes_and_not_read_at_a_start() {
    const MOST_BYTES: u64 = 50_000;
    let mut cluster =
        Cluster::new(Options { checkpoint_entries: 100, catch_up_bytes: MOST_BYTES, ..Options::default() });
    let leader = cluster.await_leader();
    let value = "v".repeat(1_000);
    for number in 0..320 {
        let request = cluster.put(leader, &format!("key {}", number % 20), &value);
        cluster.await_reply(leader, request);
    }
    cluster.assert_equal_states();
    let kept_behind = |cluster: &Cluster| {
        let log = cluster.members[&leader].replica.node().log();
        log.snapshot().last_included.index.0 - log.start().index.0
    };
    let kept = kept_behind(&cluster);
    assert!((30..=MOST_BYTES / 1_000).contains(&kept), "{kept} entries of 1,000 bytes and more");
    cluster.restart(leader);
    assert_eq!(kept_behind(&cluster), kept);
    let log = cluster.members[&leader].replica.node().log();
    let above = log.last_index().0 - log.snapshot().last_included.index.0;
    assert!(above < 100);
    assert!(log.recent_bytes() as u64 <= above * 1_200, "{} bytes are in memory", log.recent_bytes());
    // And is read when somebody needs it.
    let behind = leader % 3 + 1;
    let (begun, _) = watch_transfers(&mut cluster);
    cluster.await_leader();
    cluster.cut_off_for_long(behind);
    for number in 0..30 {
        let at = cluster.await_leader();
        let request = cluster.put(at, &format!("key {number}"), &value);
        cluster.await_reply(at, request);
    }
    cluster.cut_off = None;
    cluster.assert_equal_states();
    assert!(begun.borrow().is_empty(), "the log reaches back");
}

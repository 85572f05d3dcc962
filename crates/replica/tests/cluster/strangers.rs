//! What comes from who is no member, or from a member of another version, at the members' own door.

use bytes::Bytes;
use tenure_raft::{
    Entry, EntryId, Envelope, Index, LogSlice, Message, NodeId, Payload, Round, Snapshot, SnapshotChunk, Term,
};
use tenure_replica::{
    ChangeMembers, Failure, Forward, ForwardRefusal, ForwardRefused, MemberChange, Options, PeerMessage,
    Reply, RequestId,
};
use tenure_store::{Command, PutRequest};

use crate::harness::{Cluster, id};

const STRANGER: u64 = 9;

/// A command as it stands in the log.
fn command_of(member: u64, boot: u64, attempt: u64, command: &Command) -> Bytes {
    let mut bytes = Vec::new();
    for number in [member, boot, attempt] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    command.encode(&mut bytes);
    bytes.into()
}

fn put(key: &'static str) -> Command {
    Command::Put(PutRequest { key: key.into(), value: "of a stranger".into(), ..PutRequest::default() })
}

fn raft(to: u64, term: Term, message: Message) -> PeerMessage {
    PeerMessage::Raft(Envelope { from: id(STRANGER), to: id(to), term, message })
}

/// All that a stranger could say to `to` which would do harm if it were believed.
fn lies(cluster: &Cluster, to: u64) -> Vec<PeerMessage> {
    let node = cluster.members[&to].replica.node();
    let (term, log) = (node.current_term(), node.log());
    let (last, commit_index) = (log.last(), log.commit_index());
    let next = Term(term.0 + 1);
    let payload = Payload::Command(command_of(STRANGER, 1, 1, &put("lie")));
    let entry = Entry { id: EntryId::new(last.index.next(), next), payload };
    let slice = LogSlice::parse(last, vec![entry]).unwrap();
    let far = EntryId::new(Index(1 << 40), next);
    let snapshot = Snapshot { last_included: far, configuration: node.configuration().clone() };
    let lie = SnapshotChunk { data: Bytes::from_static(b"lie"), done: true, ..SnapshotChunk::default() };
    let vote = |leadership_transfer| Message::RequestVote { last: far, leadership_transfer };
    let consensus = [
        vote(false),
        vote(true),
        Message::PreVote { proposed_term: Term(term.0 + 2), last: far },
        Message::AppendEntries { slice, leader_commit: last.index.next() },
        Message::Heartbeat { commit_index: last.index, round: Round(1) },
        Message::HeartbeatReply { round: Round(u64::MAX) },
        Message::CommitNotice { commit_index },
        Message::InstallSnapshot { snapshot, chunk: lie },
        Message::TimeoutNow,
    ];
    let mut lies: Vec<PeerMessage> = [term, next]
        .iter()
        .flat_map(|&term| consensus.iter().map(move |it| raft(to, term, it.clone())))
        .collect();
    let commands = vec![command_of(STRANGER, 1, 1, &put("lie"))];
    lies.push(PeerMessage::Forward(Forward { term, boot: 1, oldest_attempt: 1, commands }));
    let change = MemberChange::Remove { id: id(to % 3 + 1) };
    lies.push(PeerMessage::ChangeMembers(ChangeMembers {
        boot: 1,
        number: RequestId(1),
        change,
        force: true,
    }));
    for why in [ForwardRefusal::NotLeader, ForwardRefusal::Overloaded, ForwardRefusal::Unsupported] {
        let boot = cluster.members[&to].replica.identity().boot;
        lies.push(PeerMessage::ForwardRefused(ForwardRefused {
            term,
            boot,
            attempts: vec![1, 2, 3, 4],
            why,
        }));
    }
    lies
}

#[test]
fn a_stranger_changes_nothing_where_there_is_a_leader() {
    let mut cluster = Cluster::new(Options::default());
    let leader = cluster.await_leader();
    let request = cluster.put(leader, "key", "value");
    cluster.await_reply(leader, request);
    cluster.run_until("all know all", |cluster| {
        let commits = cluster.members.values().map(|member| member.replica.node().log().commit_index());
        commits.collect::<std::collections::BTreeSet<_>>().len() == 1
    });
    // A write that is under way: what a stranger says of it must not be believed.
    cluster.network = Box::new(|_, _, message| usize::from(!matches!(message, PeerMessage::Forward(_))));
    let follower = leader % 3 + 1;
    let waiting = cluster.put(follower, "key", "new value");
    cluster.tick();
    let status = |cluster: &Cluster| -> Vec<_> {
        cluster.members.values().map(|member| member.replica.status()).collect()
    };
    let before = status(&cluster);
    for to in 1..=3 {
        for lie in lies(&cluster, to) {
            cluster.deliver(STRANGER, to, lie.clone());
            assert_eq!(status(&cluster), before, "n{to} was told {lie:?}");
        }
    }
    cluster.network = Box::new(|_, _, _| 1);
    let reply = cluster.await_reply(follower, waiting);
    assert!(matches!(reply, Reply::Applied { result: Ok(_), .. }), "{reply:?}");
    assert_eq!(cluster.get_versioned(leader, "key"), Some(("new value".to_owned(), 2)));
    assert_eq!(cluster.get(leader, "lie"), None);
    assert_eq!(cluster.leader(), Some(leader));
}

/// Thesis §4.2.2: a member that is so far behind that it knows none of those who are left must yet be told.
#[test]
fn who_has_had_no_leader_for_long_hears_strangers_of_consensus_alone() {
    let mut cluster = Cluster::new(Options::default());
    let leader = cluster.await_leader();
    let alone = leader % 3 + 1;
    cluster.cut_off = Some(alone);
    let timeout_us = Options::default().raft.election_timeout_us;
    let hears = |cluster: &Cluster, lie: &PeerMessage| {
        cluster.members[&alone].replica.listens_to(cluster.now, id(STRANGER), lie)
    };
    for (us, is_heard) in [(3 * timeout_us, false), (2 * timeout_us, true)] {
        for _ in 0..us / 1_000 {
            cluster.tick();
        }
        for lie in lies(&cluster, alone) {
            let is_consensus = matches!(lie, PeerMessage::Raft(_));
            assert_eq!(hears(&cluster, &lie), is_heard && is_consensus, "{lie:?}");
        }
    }
    // With a leader that is over.
    cluster.cut_off = None;
    cluster.await_leader();
    let heartbeat = raft(alone, Term(9), Message::Heartbeat { commit_index: Index(0), round: Round(0) });
    assert!(!hears(&cluster, &heartbeat));
}

/// Passes a member's forwards on with another command.
fn replace_forwards(cluster: &mut Cluster, with: impl Fn(NodeId, u64, u64) -> Bytes) {
    let captured = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let kept = captured.clone();
    cluster.network = Box::new(move |from, to, message| match message {
        PeerMessage::Forward(forward) => {
            kept.borrow_mut().push((from, to, forward.clone()));
            0
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
    cluster.tick();
    for (from, to, mut forward) in captured.take() {
        for command in &mut forward.commands {
            let attempt = u64::from_le_bytes(command[16..24].try_into().unwrap());
            *command = with(id(from), forward.boot, attempt);
        }
        cluster.deliver(from, to, PeerMessage::Forward(forward));
    }
    cluster.network = Box::new(|_, _, _| 1);
}

#[test]
fn a_forward_that_the_leader_cannot_execute_is_certainly_not_done() {
    let mut cluster = Cluster::new(Options::default());
    let leader = cluster.await_leader();
    let follower = leader % 3 + 1;
    // Of a newer version; and one that breaks a rule which the sender did not check.
    let unknown = |member: NodeId, boot, attempt| {
        let mut bytes = command_of(member.as_u64(), boot, attempt, &put("key")).to_vec();
        bytes[24] = 0xff;
        Bytes::from(bytes)
    };
    let wrong = |member: NodeId, boot, attempt| command_of(member.as_u64(), boot, attempt, &put(""));
    let last = |cluster: &Cluster| cluster.members[&leader].replica.node().log().last();
    for command in [&unknown as &dyn Fn(NodeId, u64, u64) -> Bytes, &wrong] {
        let request = cluster.put(follower, "key", "value");
        let before = last(&cluster);
        replace_forwards(&mut cluster, command);
        let Reply::Failed(failure) = cluster.await_reply(follower, request) else {
            panic!("it cannot be done")
        };
        assert_eq!((failure, failure.is_certainly_not_done()), (Failure::Unsupported, true));
        assert_eq!(last(&cluster), before, "nothing of it is in the log");
    }
    let request = cluster.put(follower, "key", "value");
    assert!(matches!(cluster.await_reply(follower, request), Reply::Applied { .. }));
}

/// At the end of a member's time its leadership goes to who can take it.
#[test]
fn leadership_is_not_handed_to_a_member_that_has_just_died() {
    let mut cluster = Cluster::new(Options::default());
    let leader = cluster.await_leader();
    let (dead, behind) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    // The one that will die has the whole log, the other one not quite.
    cluster.network = Box::new(move |from, to, message| {
        let is_append =
            matches!(message, PeerMessage::Raft(Envelope { message: Message::AppendEntries { .. }, .. }));
        usize::from(!(is_append && to == behind && from == leader))
    });
    let request = cluster.put(leader, "key", "value");
    cluster.await_reply(leader, request);
    cluster.network = Box::new(move |from, to, message| {
        let is_append =
            matches!(message, PeerMessage::Raft(Envelope { message: Message::AppendEntries { .. }, .. }));
        let is_lost = [from, to].contains(&dead) || is_append && to == behind;
        usize::from(!is_lost)
    });
    let heartbeat_us = Options::default().raft.heartbeat_interval_us;
    for _ in 0..3 * heartbeat_us / 1_000 {
        cluster.tick();
    }
    let matches: Vec<_> = cluster.members[&leader].replica.node().match_indexes().collect();
    let of = |number| matches.iter().find(|&&(member, _)| member == id(number)).unwrap().1;
    assert!(of(dead) > of(behind), "{matches:?}");
    let now = cluster.now;
    cluster.members.get_mut(&leader).unwrap().replica.transfer_leadership(now, None).unwrap();
    cluster.network = Box::new(move |from, to, _| usize::from(![from, to].contains(&dead)));
    cluster.run_until("the living one leads", |cluster| cluster.leader() == Some(behind));
    assert!(cluster.now.since_us(now) < Options::default().raft.election_timeout_us / 2);
}

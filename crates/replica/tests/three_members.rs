//! Three members in one process, on simulated disks, with a network that only delays: the smallest thing
//! that runs end to end.

use std::collections::{BTreeMap, VecDeque};

use tenure_raft::{Configuration, NodeId, RoleKind, Time};
use tenure_replica::{
    CheckpointWorker, Failure, Identity, Job, LogWorker, Options, PeerMessage, Replica, Reply, RequestId,
    Start, start,
};
use tenure_store::{Command, PutRequest, RangeRequest};
use tenure_wal::MemoryDisk;

/// A member with its workers and disks.
struct Member {
    replica: Replica,
    log: LogWorker<MemoryDisk>,
    checkpoints: CheckpointWorker<MemoryDisk>,
    disks: (MemoryDisk, MemoryDisk),
    boot: u64,
    replies: BTreeMap<RequestId, Reply>,
}

struct Cluster {
    members: BTreeMap<u64, Member>,
    messages: VecDeque<(NodeId, NodeId, PeerMessage)>,
    cut_off: Option<u64>,
    options: Options,
    now: Time,
}

fn id(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

fn boot(number: u64, boot: u64, options: &Options, disks: (MemoryDisk, MemoryDisk), now: Time) -> Member {
    let identity = Identity { cluster_id: 1, member_id: id(number), directory_id: number, boot };
    let first_configuration = Configuration::of_voters((1..=3).map(id));
    let seed = number * 1000 + boot;
    let log_options = tenure_wal::Options { segment_bytes: 64 << 10, ..tenure_wal::Options::default() };
    let how = Start { identity, first_configuration, options: options.clone(), log_options, seed };
    let started = start(how, disks.0.clone(), disks.1.clone(), now).unwrap();
    let (replica, log, checkpoints) = (started.replica, started.log, started.checkpoints);
    Member { replica, log, checkpoints, disks, boot, replies: BTreeMap::new() }
}

impl Cluster {
    fn new(options: Options) -> Cluster {
        let now = Time(0);
        let members = (1..=3)
            .map(|number| (number, boot(number, 1, &options, (MemoryDisk::new(), MemoryDisk::new()), now)))
            .collect();
        Cluster { members, messages: VecDeque::new(), cut_off: None, options, now }
    }

    fn restart(&mut self, number: u64) {
        let Member { disks, boot: boots, .. } = self.members.remove(&number).unwrap();
        self.members.insert(number, boot(number, boots + 1, &self.options, disks, self.now));
    }

    /// Lets a millisecond pass, in which every job is done and every message arrives.
    fn tick(&mut self) {
        self.now = self.now.after(1_000);
        let now = self.now;
        for member in self.members.values_mut() {
            member.replica.on_time(now);
        }
        while self.work() {}
    }

    fn work(&mut self) -> bool {
        let now = self.now;
        let mut worked = false;
        for (&number, member) in &mut self.members {
            while let Some(job) = member.replica.poll_job() {
                worked = true;
                match job {
                    Job::Send { to, message } => self.messages.push_back((id(number), to, message)),
                    Job::Log(job) => {
                        let done = member.log.run(job).unwrap();
                        member.replica.on_log_done(now, done);
                    }
                    Job::Checkpoint(job) => {
                        let done = member.checkpoints.run(job).unwrap();
                        member.replica.on_checkpoint_done(now, done);
                    }
                    Job::Reply { request, reply } => {
                        assert!(member.replies.insert(request, reply).is_none(), "one reply a request");
                    }
                    Job::Event(_) => {}
                }
            }
            tenure_raft::invariants::check(member.replica.node());
        }
        for (from, to, message) in std::mem::take(&mut self.messages) {
            worked = true;
            let is_cut = [from, to].iter().any(|end| Some(end.as_u64()) == self.cut_off);
            if !is_cut && let Some(member) = self.members.get_mut(&to.as_u64()) {
                member.replica.on_peer(now, from, message);
            }
        }
        worked
    }

    fn run_until(&mut self, what: &str, condition: impl Fn(&Cluster) -> bool) {
        for _ in 0..20_000 {
            if condition(self) {
                return;
            }
            self.tick();
        }
        panic!("not within 20 seconds: {what}");
    }

    fn leader(&self) -> Option<u64> {
        let leads = |member: &Member| member.replica.node().role() == RoleKind::Leader;
        let leaders =
            self.members.iter().filter(|(number, member)| leads(member) && Some(**number) != self.cut_off);
        leaders.map(|(&number, _)| number).next()
    }

    fn await_leader(&mut self) -> u64 {
        self.run_until("a leader", |cluster| cluster.leader().is_some());
        self.leader().unwrap()
    }

    fn put(&mut self, at: u64, key: &str, value: &str) -> RequestId {
        let request = PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..PutRequest::default()
        };
        let now = self.now;
        self.members.get_mut(&at).unwrap().replica.write(now, &Command::Put(request))
    }

    fn await_reply(&mut self, at: u64, request: RequestId) -> Reply {
        self.run_until("a reply", |cluster| cluster.members[&at].replies.contains_key(&request));
        self.members.get_mut(&at).unwrap().replies.remove(&request).unwrap()
    }

    fn get(&mut self, at: u64, key: &str) -> Option<String> {
        let now = self.now;
        let request = self.members.get_mut(&at).unwrap().replica.read(now);
        let Reply::Read { state, .. } = self.await_reply(at, request) else { panic!("a read is answered") };
        let range = RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() };
        let answer = state.range(&range).unwrap();
        answer.kvs.first().map(|pair| String::from_utf8(pair.value.to_vec()).unwrap())
    }

    fn assert_equal_states(&mut self) {
        self.run_until("all have applied the same", |cluster| {
            let applied: Vec<u64> =
                cluster.members.values().map(|m| m.replica.store().applied_index()).collect();
            applied.iter().all(|&index| index == applied[0])
        });
        let hashes: Vec<_> =
            self.members.values().map(|member| member.replica.store().state_hash()).collect();
        assert!(hashes.iter().all(|&hash| hash == hashes[0]), "equal states at an equal index: {hashes:?}");
    }
}

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
    cluster.cut_off = Some(behind);
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
    let (_, checkpoints) = cluster.members[&leader].disks.clone();
    let log = MemoryDisk::new();
    let member = boot(leader, 9, &options, (log.clone(), checkpoints.clone()), Time(0));
    let node = member.replica.node();
    assert!(node.log().last_applied().0 >= 80, "it starts from the checkpoint");
    assert!(node.current_term() >= node.log().last().term);
    drop(member);
    let again = boot(leader, 10, &options, (log, checkpoints), Time(0));
    assert!(again.replica.node().log().last_applied().0 >= 80, "and does so again");
}

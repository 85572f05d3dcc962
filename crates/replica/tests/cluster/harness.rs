//! Members in one process, on simulated disks, with a network that delivers at once whatever a test lets pass:
//! the smallest thing that runs end to end.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;

use tenure_raft::{Configuration, NodeId, RoleKind, Time};
use tenure_replica::peers::{PinnedPeers, Standing};
use tenure_replica::{
    CheckpointWorker, Job, LogDone, LogJob, LogWorker, MemberChange, Options, PeerMessage, Replica, Reply,
    RequestId, Start, identity, keep_room, prepare_log, start,
};
use tenure_store::{Command, DeleteRangeRequest, PutRequest, RangeRequest};
use tenure_wal::{Disk, MemoryDisk, WalError};

/// The three directories of a member.
#[derive(Clone, Default)]
pub(crate) struct Disks {
    pub(crate) member: MemoryDisk,
    pub(crate) log: MemoryDisk,
    pub(crate) snap: MemoryDisk,
}

impl Disks {
    pub(crate) fn all(&self) -> [&MemoryDisk; 3] {
        [&self.member, &self.log, &self.snap]
    }

    pub(crate) fn fork(&self) -> Disks {
        Disks { member: self.member.fork(), log: self.log.fork(), snap: self.snap.fork() }
    }
}

/// A member with its workers and disks.
pub(crate) struct Member {
    pub(crate) replica: Replica,
    log: LogWorker<MemoryDisk>,
    log_jobs: VecDeque<LogJob>,
    /// What the replica was told of the log's room.
    lacks_room: bool,
    checkpoints: CheckpointWorker<MemoryDisk>,
    pub(crate) disks: Disks,
    pub(crate) replies: BTreeMap<RequestId, Reply>,
    /// Why it had to stop.
    failed: Option<String>,
}

pub(crate) fn id(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

impl Member {
    /// Starts a member of a cluster that began with `size` from its disks, as a server does.
    pub(crate) fn open(
        number: u64,
        size: u64,
        options: &Options,
        disks: Disks,
        now: Time,
    ) -> Result<Member, Box<dyn Error>> {
        let log_options = tenure_wal::Options { segment_bytes: 16 << 10, ..tenure_wal::Options::default() };
        prepare_log(&disks.member, disks.log.clone(), log_options)?;
        let identity = identity::claim(&disks.member, 1, id(number), number)?;
        keep_room(&disks.member)?;
        let mut pins = PinnedPeers::load(&disks.member)?;
        for peer in (1..=size).filter(|&peer| peer != number) {
            pins.check(id(peer), peer, Standing::default())?;
            pins.pin(&disks.member, id(peer), peer, Standing::default())?;
        }
        let how = Start {
            identity,
            // Who was not there from the beginning learns from the log who is.
            first_configuration: if number <= size {
                Configuration::of_voters((1..=size).map(id))
            } else {
                Configuration::default()
            },
            options: options.clone(),
            log_options,
            seed: number * 1000 + identity.boot,
        };
        let started = start(how, disks.log.clone(), disks.snap.clone(), now)?;
        let (replica, log, checkpoints) = (started.replica, started.log, started.checkpoints);
        let (log_jobs, replies) = (VecDeque::new(), BTreeMap::new());
        Ok(Member { replica, log, log_jobs, lacks_room: false, checkpoints, disks, replies, failed: None })
    }

    /// Does a job; a disk that fails stops the member, as it stops a server.
    fn work(&mut self, now: Time, job: Job) -> Option<(NodeId, PeerMessage)> {
        match job {
            Job::Send { to, message } => return Some((to, message)),
            Job::Log(job) => self.log_jobs.push_back(job),
            Job::Checkpoint(job) => match self.checkpoints.run(job) {
                Ok(done) => self.replica.on_checkpoint_done(now, done),
                Err(error) => self.failed = Some(error.to_string()),
            },
            Job::Reply { request, reply } => {
                assert!(self.replies.insert(request, reply).is_none(), "one reply a request");
            }
            Job::Apply(job) => self.replica.on_apply_done(now, job.run()),
            Job::Event(_) | Job::Discard(_) | Job::Compacted { .. } => {}
        }
        None
    }

    /// Does what there is to do for the log, as the server's thread does.
    fn work_at_log(&mut self, now: Time) -> bool {
        let mut worked = false;
        loop {
            match self.next_log_done() {
                Ok(Some(done)) => self.replica.on_log_done(now, done),
                Ok(None) => return worked,
                Err(error) => self.failed = Some(error.to_string()),
            }
            worked = true;
            if self.failed.is_some() {
                return worked;
            }
        }
    }

    fn next_log_done(&mut self) -> Result<Option<LogDone>, WalError> {
        let begun = match self.log.pick(&mut self.log_jobs) {
            Some(job) => self.log.begin(job)?,
            None => self.log.retry()?,
        };
        if let Some(begun) = begun {
            return self.log.finish(begun).map(Some);
        }
        let is_lacking = self.log.lacks_room();
        let is_news = std::mem::replace(&mut self.lacks_room, is_lacking) != is_lacking;
        Ok(is_news.then_some(LogDone::Room { is_lacking }))
    }
}

/// How often a message arrives.
type Network = Box<dyn FnMut(u64, u64, &PeerMessage) -> usize>;

pub(crate) struct Cluster {
    /// Those that run.
    pub(crate) members: BTreeMap<u64, Member>,
    pub(crate) network: Network,
    pub(crate) cut_off: Option<u64>,
    pub(crate) now: Time,
    size: u64,
    options: Options,
    messages: VecDeque<(u64, u64, PeerMessage)>,
}

impl Cluster {
    pub(crate) fn new(options: Options) -> Cluster {
        Cluster::of(3, options)
    }

    pub(crate) fn of(size: u64, options: Options) -> Cluster {
        let mut cluster = Cluster {
            members: BTreeMap::new(),
            network: Box::new(|_, _, _| 1),
            cut_off: None,
            now: Time(0),
            size,
            options,
            messages: VecDeque::new(),
        };
        for number in 1..=size {
            cluster.boot(number, Disks::default()).unwrap();
        }
        cluster
    }

    /// Says how many members there are before the first of them is started by hand.
    pub(crate) fn resize(&mut self, size: u64) {
        self.size = size;
    }

    pub(crate) fn boot(&mut self, number: u64, disks: Disks) -> Result<(), Box<dyn Error>> {
        let member = Member::open(number, self.size, &self.options, disks, self.now)?;
        self.members.insert(number, member);
        Ok(())
    }

    pub(crate) fn restart(&mut self, number: u64) {
        let disks = self.members.remove(&number).unwrap().disks;
        self.boot(number, disks).unwrap();
    }

    /// Lets a millisecond pass, in which every job is done and every message arrives.
    pub(crate) fn tick(&mut self) {
        self.now = self.now.after(1_000);
        let now = self.now;
        for member in self.members.values_mut() {
            member.replica.on_time(now);
            member.log.try_again();
            if let Err(error) = member.log.prepare(1 << 10) {
                member.failed = Some(error.to_string());
            }
        }
        while self.work() {}
    }

    fn work(&mut self) -> bool {
        let now = self.now;
        let mut worked = false;
        for (&number, member) in &mut self.members {
            while member.failed.is_none()
                && let Some(job) = member.replica.poll_job()
            {
                worked = true;
                let message = member.work(now, job);
                self.messages.extend(message.map(|(to, message)| (number, to.as_u64(), message)));
            }
            worked |= member.work_at_log(now);
            tenure_raft::invariants::check(member.replica.node());
        }
        self.members.retain(|number, member| {
            // Shown with the test that did not expect it.
            member.failed.iter().for_each(|why| eprintln!("member {number} stops: {why}"));
            member.failed.is_none()
        });
        for (from, to, message) in std::mem::take(&mut self.messages) {
            worked = true;
            let is_cut = [from, to].iter().any(|&end| Some(end) == self.cut_off);
            let copies = if is_cut { 0 } else { (self.network)(from, to, &message) };
            for _ in 0..copies {
                self.deliver(from, to, message.clone());
            }
        }
        worked
    }

    /// Cuts a follower off, for so long that the leader does not count on it any more.
    pub(crate) fn cut_off_for_long(&mut self, number: u64) {
        self.cut_off = Some(number);
        for _ in 0..=self.options.raft.election_timeout_us / 1_000 {
            self.tick();
        }
    }

    pub(crate) fn deliver(&mut self, from: u64, to: u64, message: PeerMessage) {
        if let Some(member) = self.members.get_mut(&to) {
            member.replica.on_peer(self.now, id(from), message);
        }
    }

    pub(crate) fn run_until(&mut self, what: &str, condition: impl Fn(&Cluster) -> bool) {
        for _ in 0..20_000 {
            if condition(self) {
                return;
            }
            self.tick();
        }
        panic!("not within 20 seconds: {what}");
    }

    pub(crate) fn leader(&self) -> Option<u64> {
        let leads = |member: &Member| member.replica.node().role() == RoleKind::Leader;
        let leaders =
            self.members.iter().filter(|(number, member)| leads(member) && Some(**number) != self.cut_off);
        leaders.map(|(&number, _)| number).next()
    }

    /// Waits until all members that can be reached know the leader.
    pub(crate) fn await_leader(&mut self) -> u64 {
        self.run_until("a leader", |cluster| {
            let connected = cluster.members.iter().filter(|(number, _)| Some(**number) != cluster.cut_off);
            let known = connected.map(|(_, member)| member.replica.node().leader_id());
            cluster.leader().is_some_and(|leader| known.into_iter().all(|known| known == Some(id(leader))))
        });
        self.leader().unwrap()
    }

    pub(crate) fn put(&mut self, at: u64, key: &str, value: &str) -> RequestId {
        let request = PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..PutRequest::default()
        };
        self.write(at, &Command::Put(request))
    }

    pub(crate) fn delete(&mut self, at: u64, key: &str) -> RequestId {
        let request = DeleteRangeRequest { key: key.to_owned().into(), ..DeleteRangeRequest::default() };
        self.write(at, &Command::DeleteRange(request))
    }

    /// Forgets all history.
    pub(crate) fn compact(&mut self, at: u64) -> RequestId {
        let revision = self.members[&at].replica.store().revision();
        self.write(at, &Command::Compact { revision, physical: false })
    }

    pub(crate) fn write(&mut self, at: u64, command: &Command) -> RequestId {
        let now = self.now;
        self.members.get_mut(&at).unwrap().replica.write(now, command)
    }

    pub(crate) fn change_members(&mut self, at: u64, change: MemberChange, force: bool) -> RequestId {
        let now = self.now;
        self.members.get_mut(&at).unwrap().replica.change_members(now, change, force)
    }

    pub(crate) fn await_reply(&mut self, at: u64, request: RequestId) -> Reply {
        self.run_until("a reply", |cluster| cluster.members[&at].replies.contains_key(&request));
        self.members.get_mut(&at).unwrap().replies.remove(&request).unwrap()
    }

    /// A linearizable read: the value of a key, and how often it was put since it was created.
    pub(crate) fn get_versioned(&mut self, at: u64, key: &str) -> Option<(String, i64)> {
        let now = self.now;
        let request = self.members.get_mut(&at).unwrap().replica.read(now);
        let Reply::Read { state, .. } = self.await_reply(at, request) else { panic!("a read is answered") };
        let range = RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() };
        let answer = state.range(&range).unwrap();
        answer.kvs.first().map(|pair| (String::from_utf8(pair.value.to_vec()).unwrap(), pair.version))
    }

    pub(crate) fn get(&mut self, at: u64, key: &str) -> Option<String> {
        self.get_versioned(at, key).map(|(value, _)| value)
    }

    /// How many files the checkpoints of a member have.
    pub(crate) fn segment_count(&self, number: u64) -> usize {
        let names = self.members[&number].disks.snap.list().unwrap();
        names.iter().filter(|name| name.ends_with(".segment")).count()
    }

    pub(crate) fn assert_equal_states(&mut self) {
        self.run_until("all have applied the same", |cluster| {
            let applied: Vec<u64> =
                cluster.members.values().map(|member| member.replica.store().applied_index()).collect();
            applied.iter().all(|&index| index == applied[0])
        });
        let hashes: Vec<_> =
            self.members.values().map(|member| member.replica.store().state_hash()).collect();
        assert!(hashes.iter().all(|&hash| hash == hashes[0]), "equal states at an equal index: {hashes:?}");
    }
}

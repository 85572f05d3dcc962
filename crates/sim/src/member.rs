//! One machine: three disks, a clock, and perhaps a process that runs on them.
//!
//! The process is the very code of the server: a [`Replica`] and its two workers. Each worker does one job
//! at a time. A job of the log begins (what can be done without waiting for the disk is done), takes its
//! time, and finishes with the sync; whatever hits the machine in between finds a write that is in the page
//! cache only.

use std::collections::{BTreeMap, VecDeque};

use tenure_raft::invariants::{self, Summary};
use tenure_raft::{
    Configuration, EntryId, Envelope, Event as RaftEvent, HardState, Index, Message, NodeId, Quorums,
    RoleKind, Term, Time,
};
use tenure_replica::record::from_record;
use tenure_replica::{
    ApplyDone, Begun, CheckpointDone, CheckpointJob, CheckpointWorker, Identity, LogJob, LogWorker,
    ROOM_FILE, RecoveryError, Replica, RequestId, Start, Started, clear_leftovers, identity, keep_room,
};
use tenure_store::Member as MemberRecord;
use tenure_wal::{Crash, MemoryDisk};

use crate::action::OperationId;
use crate::change_requests::{AskedChange, first_urls};
use crate::clock::Clock;
use crate::event::Event;
use crate::judges::Recovered;
use crate::plan::Plan;
use crate::random::{CERTAIN_PPM, Random};

const CLUSTER_ID: u64 = 0x51_4d;
/// More faults of reading than are ever planned for one disk.
const MAX_LOOKS: usize = 100;

/// The three directories of a member.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disks {
    pub(crate) identity: MemoryDisk,
    pub(crate) log: MemoryDisk,
    pub(crate) checkpoints: MemoryDisk,
}

impl Disks {
    pub(crate) fn all(&self) -> [&MemoryDisk; 3] {
        [&self.identity, &self.log, &self.checkpoints]
    }

    /// Nobody gets any more room.
    pub(crate) fn fill(&self) {
        for disk in self.all() {
            disk.set_capacity_bytes(Some(disk.used_bytes()));
        }
    }

    /// There is as much as anybody wants.
    pub(crate) fn empty(&self) {
        for disk in self.all() {
            disk.set_capacity_bytes(None);
        }
    }

    /// Whether there is what a start keeps for the next one.
    pub(crate) fn has_room(&self) -> bool {
        self.identity.names().iter().any(|name| name == ROOM_FILE)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.all().iter().any(|disk| disk.capacity_bytes().is_some())
    }

    pub(crate) fn has_power_failed(&self) -> bool {
        self.all().iter().any(|disk| disk.has_power_failed())
    }

    /// Lets a worker be interrupted in the midst of a change of its disk that comes soon.
    pub(crate) fn doom_worker(&self, random: &mut Random) {
        // A write of the log is a change or two; a checkpoint takes a dozen until its manifest stands.
        const LOG_CHANGES: u64 = 6;
        const CHECKPOINT_CHANGES: u64 = 16;
        let choices = [(&self.log, LOG_CHANGES), (&self.checkpoints, CHECKPOINT_CHANGES)];
        let (disk, soon) = random.pick(&choices);
        disk.fail_power_after(random.below(soon));
    }

    /// Lets a recovery be interrupted in the midst of a change of some disk.
    pub(crate) fn doom_recovery(&self, random: &mut Random) {
        const RECOVERY_CHANGES: u64 = 12;
        random.pick(&self.all()).fail_power_after(random.below(RECOVERY_CHANGES));
    }

    /// Takes back an interruption that has not come to pass.
    pub(crate) fn reprieve(&self) {
        for disk in self.all() {
            disk.fail_power_after(u64::MAX);
        }
    }

    /// Something that was synced is not what it was any more, or not there; says what. Of the newest segment of the log
    /// only the first `vouched_bytes` rot: behind them what has rotten cannot be told from what was never finished
    /// (ADR 4).
    pub(crate) fn rot(&self, vouched_bytes: u64, random: &mut Random) -> Option<String> {
        let disk = random.pick(&[&self.log, &self.log, &self.checkpoints, &self.checkpoints, &self.identity]);
        let names = disk.names();
        let newest = names.iter().filter(|name| name.starts_with("segment-")).max();
        let rots = |name: &String| {
            let bytes = disk.content(name)?.len() as u64;
            Some(if Some(name) == newest { vouched_bytes.min(bytes) } else { bytes })
        };
        let files = names.iter().filter_map(|name| Some((name, rots(name)?)));
        let files: Vec<(&String, u64)> = files.filter(|(_, bytes)| *bytes > 0).collect();
        if files.is_empty() {
            return None;
        }
        let (name, bytes) = random.pick(&files);
        if random.chance(CERTAIN_PPM / 5) {
            // Of a log's segments the newest goes only with all others: for some seconds nothing tells of it (ADR 4).
            let goes =
                |other: &&String| *other == name || Some(name) == newest && other.starts_with("segment-");
            let gone: Vec<&str> = names.iter().filter(goes).map(String::as_str).collect();
            for name in &gone {
                disk.lose(name);
            }
            return Some(format!("{} is gone", gone.join(", ")));
        }
        // The beginnings of files say how to read the rest.
        let within = if random.chance(CERTAIN_PPM / 3) { bytes.min(64) } else { bytes };
        let bit = random.below(8 * within);
        disk.rot(name, bit);
        Some(format!("bit {bit} of {name} has turned over"))
    }

    pub(crate) fn crash(&self, crash: Crash, random: &mut Random) {
        for disk in self.all() {
            disk.crash(crash, random.next_u64());
        }
    }
}

/// A machine, and the member that it is.
pub(crate) struct Member {
    /// A machine whose disk is emptied is another member afterwards.
    pub(crate) id: NodeId,
    /// What the member goes by before it has heard anything: of the cluster's first members the first
    /// configuration, of others nothing.
    first: Configuration,
    /// Its disk is gone, and it will never come back.
    pub(crate) is_lost: bool,
    /// The configuration that it went by when it last ran.
    pub(crate) last_in_force: Configuration,
    pub(crate) disks: Disks,
    pub(crate) clock: Clock,
    pub(crate) process: Option<Box<Process>>,
    /// Counts the starts: what was meant for an earlier one is for nobody.
    pub(crate) start: u64,
    /// The last start came to its end, and found room to keep for the next one.
    pub(crate) has_kept_room: bool,
    /// While the process is paused, what happens to it waits here.
    pub(crate) held: Option<Vec<Event>>,
    /// No job of its log, and none of its checkpoints, that begins before this is done before this.
    pub(crate) log_stalled_until_us: u64,
    pub(crate) checkpoints_stalled_until_us: u64,
    /// A crash that was planned for the midst of a job.
    pub(crate) doom: Option<Doom>,
    /// How often its disk was filled: which of these comes to an end.
    pub(crate) fillings: u64,
    /// How many more times it dies soon after it has started.
    pub(crate) crashes_left: u64,
    /// How many more times an operator asks it for a change as soon as it has started, and it dies when it has passed
    /// that on: numbers begin anew with each start, and answers come late.
    pub(crate) pressed: u64,
}

/// A crash that waits for its moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Doom {
    /// In the midst of a change of a disk.
    InChange(Crash),
    /// When the log is written and not yet synced.
    BeforeSync(Crash),
}

/// A client that waits for a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Asker {
    pub(crate) client: usize,
    pub(crate) operation: OperationId,
    /// What was committed when it asked.
    pub(crate) committed: u64,
}

/// What is done about a log without room.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct LogRoom {
    /// What the replica was told: that it lacks room.
    pub(crate) told: bool,
    /// It will be tried again.
    pub(crate) is_retry_set: bool,
}

/// A running member.
pub(crate) struct Process {
    pub(crate) replica: Replica,
    pub(crate) log: LogWorker<MemoryDisk>,
    pub(crate) log_jobs: VecDeque<LogJob>,
    pub(crate) log_running: Option<Begun>,
    pub(crate) log_room: LogRoom,
    pub(crate) checkpoints: CheckpointWorker<MemoryDisk>,
    pub(crate) checkpoint_jobs: VecDeque<CheckpointJob>,
    pub(crate) checkpoint_running: Option<CheckpointDone>,
    /// What the worker that executes entries has come to.
    pub(crate) apply_running: Option<ApplyDone>,
    /// Who waits for which answer.
    pub(crate) requests: BTreeMap<RequestId, Asker>,
    /// The changes of the members that it was asked for.
    pub(crate) changes: BTreeMap<RequestId, AskedChange>,
    /// When, by its own clock, it last heard which leader.
    pub(crate) heard_leader_at: Option<(NodeId, Time)>,
    /// When it last heard from whom.
    pub(crate) heard_us: BTreeMap<NodeId, u64>,
    /// When the earliest timer event is due.
    pub(crate) timer_at_us: Option<u64>,
    /// An event that handles what has arrived is on its way.
    pub(crate) is_batching: bool,
    pub(crate) before: Summary,
    /// The configuration that it goes by, as its events tell it.
    pub(crate) in_force: Configuration,
    /// The one that the judges have seen.
    pub(crate) judged_in_force: Configuration,
    pub(crate) torn_tail: bool,
    /// It leads, and is handing that over.
    pub(crate) hands_over: bool,
}

impl Process {
    /// Takes down what an event says of the member.
    pub(crate) fn note(&mut self, event: &RaftEvent) {
        match event {
            RaftEvent::ConfigurationChanged { configuration } => self.in_force = configuration.clone(),
            RaftEvent::TransferStarted { .. } => self.hands_over = true,
            RaftEvent::TransferAborted { .. } | RaftEvent::BecameFollower { .. } => self.hands_over = false,
            RaftEvent::BecameLeader { .. }
            | RaftEvent::BecamePreCandidate { .. }
            | RaftEvent::BecameCandidate { .. }
            | RaftEvent::SteppedDown { .. }
            | RaftEvent::VoteGranted { .. }
            | RaftEvent::VoteRefused { .. }
            | RaftEvent::CommitAdvanced { .. }
            | RaftEvent::AppendRejected { .. }
            | RaftEvent::Truncated { .. }
            | RaftEvent::SnapshotInstalled { .. }
            | RaftEvent::SnapshotDamaged { .. } => {}
        }
    }

    /// Whether somebody asks for its vote though it has heard its leader within the shortest of election timeouts
    /// (thesis §4.2.3). To hand over leadership disturbs nobody.
    pub(crate) fn is_disturbed_by(&self, envelope: &Envelope, now: Time, election_timeout_us: u64) -> bool {
        let node = self.replica.node();
        let asks = matches!(envelope.message, Message::RequestVote { leadership_transfer: false, .. });
        let follows = |leader: NodeId| node.role() == RoleKind::Follower && node.leader_id() == Some(leader);
        asks && self
            .heard_leader_at
            .is_some_and(|(leader, heard_at)| follows(leader) && now.since_us(heard_at) < election_timeout_us)
    }

    /// Whether the cluster knows the member by its name; none wants to know one that was removed, even if the core
    /// was made to take it back.
    pub(crate) fn is_known(&self) -> bool {
        let id = self.replica.node().id();
        let known = self.replica.store().member(id.as_u64());
        self.replica.is_removed() || known.is_some_and(|member| member.name == id.to_string())
    }

    /// Whether a worker has something to do.
    pub(crate) fn is_busy(&self) -> bool {
        self.log_running.is_some()
            || self.checkpoint_running.is_some()
            || self.log.is_waiting()
            || self.apply_running.is_some()
            || !self.log_jobs.is_empty()
            || !self.checkpoint_jobs.is_empty()
    }
}

impl Member {
    pub(crate) fn new(number: usize, plan: &Plan, clock: Clock) -> Member {
        let is_first = number < plan.members;
        let ids = (0..plan.members).map(|number| id_of(number, 0));
        let mut first = if is_first { Configuration::of_voters(ids) } else { Configuration::default() };
        if let Some(commit_votes) = plan.first_commit_votes.filter(|_| is_first) {
            let members = plan.members as u64;
            let commit_votes = commit_votes.clamp(1, members);
            let election_votes = (members / 2 + 1).max(members - commit_votes + 1);
            first.voters = first.voters.with_quorums(Some(Quorums { election_votes, commit_votes }));
        }
        Member {
            id: id_of(number, 0),
            last_in_force: first.clone(),
            first,
            is_lost: false,
            disks: Disks::default(),
            clock,
            process: None,
            start: 0,
            held: None,
            log_stalled_until_us: 0,
            checkpoints_stalled_until_us: 0,
            fillings: 0,
            has_kept_room: false,
            doom: None,
            crashes_left: 0,
            pressed: 0,
        }
    }

    /// The machine gets empty disks and a new name: whoever it was is no more.
    pub(crate) fn become_spare(&mut self) {
        assert!(self.process.is_none(), "only a machine that is down is emptied");
        let generation = (self.id.as_u64() - 1) / GENERATION;
        self.id = id_of(number_of(self.id), generation + 1);
        self.first = Configuration::default();
        self.last_in_force = Configuration::default();
        self.disks = Disks::default();
        (self.log_stalled_until_us, self.checkpoints_stalled_until_us) = (0, 0);
        self.is_lost = false;
        self.has_kept_room = false;
        self.doom = None;
        self.start += 1;
    }

    /// Whether one of its disks stands still.
    pub(crate) fn is_stalled(&self, now_us: u64) -> bool {
        self.log_stalled_until_us.max(self.checkpoints_stalled_until_us) > now_us
    }

    /// The configuration that it goes by, or went by when it last ran.
    pub(crate) fn in_force(&self) -> &Configuration {
        self.process.as_ref().map_or(&self.last_in_force, |process| &process.in_force)
    }

    /// Recovers from the disks and runs.
    pub(crate) fn boot(
        &mut self,
        plan: &Plan,
        now_us: u64,
        random: &mut Random,
    ) -> Result<(), RecoveryError> {
        let Disks { identity: identity_disk, log: log_disk, checkpoints: checkpoint_disk } = &self.disks;
        clear_leftovers(identity_disk).map_err(|error| RecoveryError::Mismatch(error.to_string()))?;
        keep_room(identity_disk).map_err(|error| RecoveryError::Mismatch(error.to_string()))?;
        tenure_replica::prepare_log(identity_disk, log_disk.clone(), plan.log)?;
        let directory_id = random.next_u64();
        let identity = identity::claim(identity_disk, CLUSTER_ID, self.id, directory_id)
            .map_err(|error| RecoveryError::Mismatch(error.to_string()))?;
        keep_room(identity_disk).map_err(|error| RecoveryError::Mismatch(error.to_string()))?;
        let mut options = plan.replica.clone();
        if number_of(self.id) % 2 == 1 {
            options.catch_up_entries = plan.other_catch_up_entries;
        }
        let how = Start {
            identity,
            first_configuration: self.first.clone(),
            options,
            log_options: plan.log,
            seed: random.next_u64(),
        };
        let now = self.clock.shows(now_us);
        let Started { mut replica, log, checkpoints, torn_tail } =
            tenure_replica::start(how, log_disk.clone(), checkpoint_disk.clone(), now)?;
        replica.publish(record_of(&identity));
        let first_members = self.first.members();
        replica.introduce(
            first_members.map(|id| MemberRecord { peer_urls: first_urls(id), ..record(id) }).collect(),
        );
        self.process = Some(Box::new(Process {
            before: invariants::summary(replica.node()),
            in_force: replica.node().configuration().clone(),
            judged_in_force: Configuration::default(),
            replica,
            log,
            log_jobs: VecDeque::new(),
            log_running: None,
            log_room: LogRoom::default(),
            checkpoints,
            checkpoint_jobs: VecDeque::new(),
            checkpoint_running: None,
            apply_running: None,
            requests: BTreeMap::new(),
            changes: BTreeMap::new(),
            heard_leader_at: None,
            heard_us: BTreeMap::new(),
            timer_at_us: None,
            is_batching: false,
            torn_tail: torn_tail.is_some(),
            hands_over: false,
        }));
        Ok(())
    }
}

/// More machines than there ever are.
const GENERATION: u64 = 64;

/// The member that a machine is, after it was emptied so many times.
fn id_of(number: usize, generation: u64) -> NodeId {
    NodeId::new(generation * GENERATION + number as u64 + 1).expect("members count from one")
}

/// The machine that a member is, or was.
pub(crate) fn number_of(id: NodeId) -> usize {
    ((id.as_u64() - 1) % GENERATION) as usize
}

fn record_of(identity: &Identity) -> MemberRecord {
    let id = identity.member_id;
    MemberRecord {
        directory_id: Some(identity.directory_id),
        name: id.to_string(),
        peer_urls: first_urls(id),
        ..record(id)
    }
}

/// What is known of a member of which nothing is known.
fn record(id: NodeId) -> MemberRecord {
    MemberRecord {
        id: id.as_u64(),
        directory_id: None,
        name: String::new(),
        peer_urls: Vec::new(),
        client_urls: Vec::new(),
    }
}

/// What the log's disk holds, read back entry by entry.
pub(crate) fn recovered(log: &LogWorker<MemoryDisk>) -> Recovered {
    let wal = log.wal();
    let hard_state = wal.hard_state().map_or_else(HardState::default, |state| HardState {
        current_term: Term(state.current_term),
        voted_for: state.voted_for.map(NodeId),
    });
    let start = EntryId::new(Index(wal.start().index), Term(wal.start().term));
    let (first, last) = (wal.first_index(), wal.last().index);
    let mut entries = Vec::new();
    let mut prev = start;
    if first <= last {
        // A fault of the disk that was planned for the member may hit the judge: it looks again.
        let mut looks = (0..MAX_LOOKS).filter_map(|_| wal.read(first, last, usize::MAX).ok());
        let records = looks.next().expect("what was recovered can be read");
        for record in records {
            let entry = from_record(record).expect("what was recovered was written by us");
            entries.push((entry.id, entry.payload, prev));
            prev = entry.id;
        }
    }
    Recovered { hard_state, start, entries }
}

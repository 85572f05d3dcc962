//! One member: consensus, the state machine and the books between them.
//!
//! Everything that decides something is here or below; what takes time is given out as a [`Job`]. A write:
//! `write → propose (batched) → Log ∥ Send → quorum → apply → Reply`. A linearizable read: `read → read
//! index (one round for all that wait) → applied ≥ index → Reply with a snapshot`. The same on a follower,
//! which passes writes on to the leader and asks it for the index.

mod acknowledged;
mod applying;
mod checkpoints;
mod members;
mod room;
mod writes;

use std::collections::VecDeque;

use tenure_raft::{
    ChangeError, Configuration, Effect, EntryId, Event, Node, NodeId, Restored, RoleKind, Snapshot, Status,
    Time, TransferError,
};
use tenure_store::{Command, Store};

use self::acknowledged::Acknowledgements;
pub use self::acknowledged::Loss;
use self::checkpoints::Loads;
use self::members::Publication;

use crate::checkpointing::Checkpointing;
use crate::client_reads::ClientReads;
use crate::client_writes::ClientWrites;
use crate::forwards::Forwards;
use crate::job::{CheckpointDone, CheckpointJob, Failure, Job, LogDone, LogJob, Reply, RequestId};
use crate::log_queue::LogQueue;
use crate::log_weight::LogWeight;
use crate::member_changes::MemberChanges;
use crate::message::PeerMessage;
use crate::room::Room;
use crate::{Identity, Options};

/// One member of a cluster.
#[derive(Debug)]
pub struct Replica {
    identity: Identity,
    options: Options,
    node: Node,
    store: Store,
    writes: ClientWrites,
    reads: ClientReads,
    forwards: Forwards,
    member_changes: MemberChanges,
    log: LogQueue,
    checkpoint: Checkpointing,
    log_weight: LogWeight,
    /// More of the log is kept than usual: a follower needs it.
    is_log_held: bool,
    loads: Loads,
    install: Option<Install>,
    room: Room,
    acknowledgements: Acknowledgements,
    /// A worker executes entries on a fork of the state.
    is_applying: bool,
    /// What the fork is to forget, too.
    buried_through: i64,
    publication: Publication,
    /// The last index that was in the log at the start: up to here what is applied has been applied before.
    recovered_through: u64,
    roster_version: u64,
    next_request: u64,
    now: Time,
    jobs: VecDeque<Job>,
}

/// A snapshot that is taking the place of state and log.
#[derive(Debug)]
enum Install {
    /// Its state is ready; the log's writes must be done before the log is reset.
    WaitsForLog { snapshot: Snapshot, store: Box<Store> },
    /// The log is being reset.
    ResetsLog { snapshot: Snapshot, store: Box<Store> },
    /// The checkpoints' worker is checking it.
    Checking { snapshot: Snapshot },
}

/// Where a member stands, to show.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplicaStatus {
    /// Consensus.
    pub raft: Status,
    /// The members, as of the last entry applied.
    pub configuration: Configuration,
    /// The store's revision.
    pub revision: i64,
    /// What the store takes in memory, about.
    pub store_bytes: u64,
    /// The members whose disks are short of room, as far as is known here.
    pub short: Vec<NodeId>,
    /// Whether clients' puts are refused for that.
    pub refuses_puts: bool,
    /// Clients' writes that wait.
    pub pending_writes: usize,
    /// Clients' reads that wait.
    pub pending_reads: usize,
}

impl Replica {
    /// A member with recovered state. See [`start`](crate::start).
    pub(crate) fn new(
        identity: Identity,
        options: Options,
        seed: u64,
        restored: Restored,
        log_weight: LogWeight,
        store: Store,
        now: Time,
    ) -> Replica {
        assert_eq!(
            store.applied_index(),
            restored.snapshot.last_included.index.0,
            "the state is the one that the snapshot stands for"
        );
        let checkpoint = Checkpointing::covered(&store);
        let recovered_through =
            restored.entries.last().map_or(store.applied_index(), |entry| entry.id.index.0);
        let node = Node::new(identity.member_id, options.raft.clone(), seed, restored, now);
        Replica {
            writes: ClientWrites::new(identity.member_id, identity.boot),
            identity,
            options,
            node,
            store,
            reads: ClientReads::default(),
            forwards: Forwards::default(),
            member_changes: MemberChanges::default(),
            log: LogQueue::default(),
            checkpoint,
            log_weight,
            is_log_held: false,
            loads: Loads::default(),
            install: None,
            room: Room::default(),
            acknowledgements: Acknowledgements::default(),
            is_applying: false,
            buried_through: 0,
            publication: Publication::default(),
            recovered_through,
            roster_version: 0,
            next_request: 1,
            now,
            jobs: VecDeque::new(),
        }
    }

    // ---- Clients ------------------------------------------------------------------------------------

    /// Takes a write that has passed [`tenure_store::check`]. Answered by a [`Job::Reply`], always.
    pub fn write(&mut self, now: Time, command: &Command) -> RequestId {
        self.observe(now);
        let request = self.next_request();
        if let Err(failure) = self.take_write(request, command) {
            self.reply(request, Reply::Failed(failure));
        }
        request
    }

    /// Takes a linearizable read. Answered by a [`Job::Reply`], always.
    pub fn read(&mut self, now: Time) -> RequestId {
        self.observe(now);
        let request = self.next_request();
        if self.reads.len() >= self.options.max_requests {
            self.reply(request, Reply::Failed(Failure::TooManyRequests));
        } else {
            self.reads.insert(self.now.after(self.options.request_timeout_us), request);
        }
        request
    }

    /// The state as this member has applied it, which may be behind: for serializable reads.
    pub fn state(&self) -> tenure_store::Snapshot {
        self.store.snapshot()
    }

    /// Hands leadership to `target`, or to the voter that is furthest if none is named.
    pub fn transfer_leadership(&mut self, now: Time, target: Option<NodeId>) -> Result<(), TransferError> {
        self.observe(now);
        let target = target.or_else(|| self.node.best_successor(self.now));
        match target {
            Some(target) => self.node.transfer_leadership(self.now, target),
            None if self.node.role() == RoleKind::Leader => Ok(()),
            None => Err(TransferError::NotLeader { leader_id: self.node.leader_id() }),
        }
    }

    /// Changes the configuration, if this member leads: see [`Node::change_membership`]. It is done when the
    /// configuration is committed. For clients there is [`Replica::change_members`].
    pub fn change_membership(
        &mut self,
        now: Time,
        target: &Configuration,
        force: bool,
    ) -> Result<EntryId, ChangeError> {
        self.observe(now);
        self.node.change_membership(self.now, target, force)
    }

    // ---- Peers --------------------------------------------------------------------------------------

    /// A message of `from` has arrived.
    pub fn on_peer(&mut self, now: Time, from: NodeId, message: PeerMessage) {
        self.observe(now);
        if !self.listens_to(now, from, &message) {
            return;
        }
        match message {
            PeerMessage::Raft(envelope) => {
                if envelope.from == from {
                    self.node.step(self.now, envelope);
                }
            }
            PeerMessage::Forward(forward) => self.on_forward(from, forward),
            PeerMessage::ForwardRefused(refused) => self.on_forward_refused(&refused),
            PeerMessage::ForwardQuestion(question) => self.on_forward_question(from, question),
            PeerMessage::ForwardLacked(lacked) => self.on_forward_lacked(from, &lacked),
            PeerMessage::ChangeMembers(asked) => self.on_change_members(from, asked),
            PeerMessage::MembersChanged(changed) => self.on_members_changed(changed),
            PeerMessage::Room { is_short } => self.room.on_told(self.now, from, is_short, &self.options),
            PeerMessage::Acknowledged(acknowledged) => self.on_acknowledged(from, acknowledged),
        }
    }

    /// Whether a message of `from` may have any effect: of a member, or of who may be one that this member is too far
    /// behind to know (thesis §4.2.2; docs/adr/0013-strangers.md). Whoever hears a leader hears of new members from
    /// it. So a stranger is heard only when there has been no leader for long, and then consensus alone.
    pub fn listens_to(&self, now: Time, from: NodeId, message: &PeerMessage) -> bool {
        if self.node.knows(from) {
            return true;
        }
        let is_consensus = matches!(message, PeerMessage::Raft(_));
        is_consensus
            && (self.is_invited(from) || self.node.leaderless_us(now) >= self.options.stranger_patience_us())
    }

    /// Who joins knows nobody but those that it was told of; if it was told of nobody, all may be members.
    fn is_invited(&self, from: NodeId) -> bool {
        let told = self.first_members();
        let is_told = told.iter().any(|member| member.id == from.as_u64());
        let is_waiting = self.node.configuration().is_empty() && self.node.leader_id().is_none();
        is_waiting && (told.is_empty() || is_told)
    }

    /// The connection to a peer broke.
    pub fn on_unreachable(&mut self, now: Time, peer: NodeId) {
        self.observe(now);
        self.node.on_unreachable(self.now, peer);
        if self.node.leader_id() == Some(peer) {
            self.writes.on_unreachable();
        }
    }

    /// A message that was given out to be sent has certainly not left, and never will.
    pub fn on_not_sent(&mut self, now: Time, message: PeerMessage) {
        self.observe(now);
        match message {
            PeerMessage::Forward(forward) => self.on_forward_not_sent(&forward),
            PeerMessage::Raft(envelope) => self.node.on_not_sent(self.now, &envelope),
            // The sender of a refused write, or of a change, asks again; and so does whoever lacks an answer.
            PeerMessage::ForwardRefused(_)
            | PeerMessage::ForwardQuestion(_)
            | PeerMessage::ForwardLacked(_)
            | PeerMessage::ChangeMembers(_)
            | PeerMessage::MembersChanged(_)
            | PeerMessage::Room { .. }
            | PeerMessage::Acknowledged(_) => {}
        }
    }

    // ---- Time and workers ---------------------------------------------------------------------------

    /// Time has passed.
    pub fn on_time(&mut self, now: Time) {
        self.observe(now);
        if self.node.next_deadline() <= self.now {
            self.node.on_time(self.now);
        }
        for (request, failure) in self.writes.expire(self.now, self.node.leader_id().is_some()) {
            self.reply(request, Reply::Failed(failure));
        }
        for request in self.reads.expire(self.now, self.options.read_retry_us) {
            // A change that began with the read is over at the same time, and answered below.
            if self.member_changes.is_asked(request) {
                continue;
            }
            let failure = if self.node.leader_id().is_none() { Failure::NoLeader } else { Failure::TimedOut };
            self.reply(request, Reply::Failed(failure));
        }
        for (request, failure) in self.member_changes.expire(self.now) {
            self.reply(request, Reply::Failed(failure));
        }
        self.room.expire(self.now);
    }

    /// When [`Replica::on_time`] is to be called at the latest.
    pub fn next_deadline(&self) -> Time {
        let Options { read_retry_us, forward_repeat_us, max_forwarded_bytes, .. } = self.options;
        let (offer, question) = match self.node.leader_id() {
            None => (Time::NEVER, Time::NEVER),
            Some(leader_id) if leader_id == self.node.id() => {
                (self.writes.next_offer(usize::MAX), Time::NEVER)
            }
            Some(_) => {
                (self.writes.next_offer(max_forwarded_bytes), self.writes.next_question(forward_repeat_us))
            }
        };
        let deadlines = [
            self.node.next_deadline(),
            self.writes.next_deadline(),
            offer,
            question,
            self.reads.next_deadline(read_retry_us),
            self.member_changes.next_deadline(self.node.leader_id().is_some(), forward_repeat_us),
            self.room.next_deadline(&self.options),
            self.next_telling(),
        ];
        deadlines.into_iter().min().unwrap_or(Time::NEVER)
    }

    /// The log's worker has done a job.
    pub fn on_log_done(&mut self, now: Time, done: LogDone) {
        self.observe(now);
        match done {
            LogDone::Written(token) => {
                for envelope in self.log.complete(token) {
                    self.jobs.push_back(Job::Send { to: envelope.to, message: PeerMessage::Raft(envelope) });
                }
                self.node.on_persisted(self.now, token);
            }
            LogDone::Read { to, entries } => self.node.on_entries_loaded(self.now, to, entries),
            LogDone::Compacted => {}
            LogDone::GaveUpSpares => self.room.on_gave_up(),
            LogDone::Room { is_lacking } => self.room.on_log_room(is_lacking),
            LogDone::Reset { start } => {
                let Some(Install::ResetsLog { snapshot, store }) = self.install.take() else {
                    panic!("the log is reset for a snapshot only");
                };
                assert_eq!(snapshot.last_included, start, "the log is reset to the snapshot");
                self.finish_install(&snapshot, *store);
            }
        }
    }

    /// The checkpoints' worker has done a job.
    pub fn on_checkpoint_done(&mut self, now: Time, done: CheckpointDone) {
        self.observe(now);
        match done {
            CheckpointDone::Taken { last_included, base_revision, .. } => {
                self.checkpoint.finish();
                self.room.on_reserve_used();
                self.forget_buried(base_revision);
                self.node.on_snapshot_taken(self.now, last_included.index);
                self.compact_log(last_included.index.0);
            }
            CheckpointDone::NotTaken { .. } => {
                self.checkpoint.fail(self.now, &self.options);
                self.room.on_reserve_used();
            }
            CheckpointDone::Loaded { to, snapshot, chunk } => {
                self.jobs.extend(self.loads.end(to).map(Job::Checkpoint));
                self.node.on_snapshot_chunk_loaded(self.now, to, snapshot, chunk);
            }
            CheckpointDone::Unavailable { to, last_included, unreadable } => {
                self.jobs.extend(self.loads.end(to).map(Job::Checkpoint));
                if unreadable.is_some() {
                    self.checkpoint.on_unreadable();
                }
                self.node.on_snapshot_unavailable(self.now, to, last_included);
            }
            CheckpointDone::Stored { last_included } => {
                self.node.on_snapshot_chunk_stored(self.now, last_included);
            }
            CheckpointDone::Installed { last_included, store } => {
                let Some(Install::Checking { snapshot }) = self.install.take() else {
                    panic!("a checkpoint is installed when Raft asks for it only");
                };
                assert_eq!(snapshot.last_included, last_included, "the snapshot that was asked for");
                self.install = Some(Install::WaitsForLog { snapshot, store });
            }
            CheckpointDone::Damaged { last_included } | CheckpointDone::CannotFollow { last_included } => {
                self.install = None;
                self.node.on_snapshot_damaged(self.now, last_included);
            }
            CheckpointDone::NotKept { last_included, .. } => {
                self.install = None;
                self.room.on_reserve_used();
                self.node.on_snapshot_damaged(self.now, last_included);
            }
            CheckpointDone::Reserved { bytes } => self.on_reserved(bytes),
        }
    }

    /// The next thing to do. To be called until it returns none, after every input or several.
    #[must_use]
    pub fn poll_job(&mut self) -> Option<Job> {
        if self.jobs.is_empty() {
            self.work();
        }
        self.jobs.pop_front()
    }

    // ---- To look at ---------------------------------------------------------------------------------

    /// Whose data it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Consensus.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The state machine.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The term that it is in, and up to where its log is durable.
    pub fn durable(&self) -> EntryId {
        let status = self.node.status();
        EntryId { term: status.hard_state.current_term, index: status.persisted_index }
    }

    /// Whether its disk is short of room.
    pub fn is_short_of_room(&self) -> bool {
        self.room.is_short()
    }

    /// Where it stands.
    pub fn status(&self) -> ReplicaStatus {
        ReplicaStatus {
            raft: self.node.status(),
            configuration: self.applied_configuration().clone(),
            revision: self.store.revision(),
            store_bytes: self.store.size_bytes(),
            short: self.short_members(),
            refuses_puts: self.refuses_puts(),
            pending_writes: self.writes.len(),
            pending_reads: self.reads.len(),
        }
    }

    // ---- Inside -------------------------------------------------------------------------------------

    fn observe(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    fn next_request(&mut self) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        request
    }

    fn reply(&mut self, request: RequestId, reply: Reply) {
        if self.publication.request == Some(request) {
            self.publication.request = None;
        } else {
            self.jobs.push_back(Job::Reply { request, reply });
        }
    }

    /// Makes jobs of what the inputs have left to do.
    fn work(&mut self) {
        self.publish_if_needed();
        self.offer_writes();
        self.ask_for_reads();
        loop {
            while let Some(effect) = self.node.poll_effect() {
                self.on_effect(effect);
            }
            self.serve_reads();
            self.ask_for_changes();
            // What has been applied may allow for the next step.
            let has_introduced = self.introduce_first_members();
            if !self.bring_changes_about() && !has_introduced {
                break;
            }
        }
        self.answer_done_changes();
        self.look_after_room();
        self.tell_acknowledged();
        self.checkpoint_if_due();
        self.give_log_work();
    }

    fn on_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Persist { hard_state, entries, token, then_send } => {
                self.log.push(hard_state, entries, token, then_send);
            }
            Effect::Send(envelope) => {
                self.jobs.push_back(Job::Send { to: envelope.to, message: PeerMessage::Raft(envelope) });
            }
            Effect::Apply(entries) => self.apply(entries),
            Effect::ReadReady { read, index } => self.reads.on_ready(read, index),
            Effect::ReadFailed { read } => self.reads.on_failed(read),
            Effect::LoadEntries { to, first, last, max_bytes } => {
                self.jobs.push_back(Job::Log(LogJob::Read { to, first, last, max_bytes }));
            }
            Effect::LoadSnapshotChunk { to, last_included, above, offset, max_bytes } => {
                let job = CheckpointJob::Load { to, last_included, above, offset, max_bytes };
                self.jobs.extend(self.loads.begin(to, job).map(Job::Checkpoint));
            }
            Effect::StoreSnapshotChunk { snapshot, chunk } => {
                self.jobs.push_back(Job::Checkpoint(CheckpointJob::Store { snapshot, chunk }));
            }
            Effect::InstallSnapshot(snapshot) => {
                self.install = Some(Install::Checking { snapshot: snapshot.clone() });
                let state = Box::new(self.store.fork());
                self.jobs.push_back(Job::Checkpoint(CheckpointJob::Install { snapshot, state }));
            }
            Effect::Event(event) => {
                if let Event::ConfigurationChanged { .. } = event {
                    self.roster_version += 1;
                }
                self.jobs.push_back(Job::Event(event));
            }
        }
    }

    // ---- Reads --------------------------------------------------------------------------------------

    fn ask_for_reads(&mut self) {
        if self.reads.wants_to_ask()
            && let Ok(read) = self.node.read_index(self.now)
        {
            self.reads.asked(self.now, read);
        }
    }

    fn serve_reads(&mut self) {
        let ready = self.reads.take_ready(self.node.log().last_applied());
        if ready.is_empty() {
            return;
        }
        let state = self.store.snapshot();
        let raft_term = self.node.current_term().0;
        for request in ready {
            if !self.begin_change(request) {
                self.reply(request, Reply::Read { state: state.clone(), raft_term });
            }
        }
    }
}

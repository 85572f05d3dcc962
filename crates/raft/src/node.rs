//! One server of a Raft cluster: its state, its inputs, and the one place where effects are made.
//!
//! Inputs change the state and leave what is to be said in queues; [`Node::poll_effect`] turns the state's
//! need for sending, writing and applying into effects. So entries proposed together go into one write and
//! one append for each follower, without a timer: one drain is one batch.
//!
//! The rules of each chapter of the paper live in modules of their own, as further methods of `Node`:
//! [`election`](crate::election), [`replication`](crate::replication), [`membership`](crate::membership),
//! [`read_index`](crate::read_index), [`snapshot`](crate::snapshot), [`transfer`](crate::transfer).

use std::collections::VecDeque;

use bytes::Bytes;

use crate::random::Random;
use crate::role::{Follower, Role, RoleKind};
use crate::snapshot::IncomingSnapshot;
use crate::writes::Writes;
use crate::{
    AppendReply, Configuration, Effect, Entry, EntryId, Envelope, Event, HardState, Index, Message, NodeId,
    Options, Payload, RaftLog, Snapshot, SnapshotReply, StepDownReason, Term, Time, WriteToken,
};

/// How many messages may wait for the disk.
pub(crate) const MAX_AFTER_DISK: usize = 1_024;

/// By how much a stranger's message may raise the term: more than ten elections a second for a day.
const MAX_STRANGER_TERM_JUMP: u64 = 1 << 20;
/// By how much a member's may: what strangers may have told that member while it was cut off, and to spare.
const MAX_TERM_JUMP: u64 = 1 << 48;

/// What a server finds on its disk when it starts. The default is an empty disk.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Restored {
    /// The term and vote.
    pub hard_state: HardState,
    /// The newest snapshot, whose state the caller has loaded. In a new cluster: nothing applied yet, and
    /// the first configuration, the same on every server.
    pub snapshot: Snapshot,
    /// The entry that the durable log follows: at or below the snapshot's last.
    pub log_start: EntryId,
    /// The first entry of each term in that part of the log which is not in `entries`: up to the snapshot's last at
    /// the most. It is read from the disk if a follower needs it.
    pub unread: Vec<EntryId>,
    /// The rest of the durable log.
    pub entries: Vec<Entry>,
}

/// Why a command was not taken. It entered no log: it is certainly not done (SOURCES M3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProposeError {
    /// Another server leads, perhaps this one.
    #[error("not the leader")]
    NotLeader {
        /// Who may lead.
        leader_id: Option<NodeId>,
    },
    /// Leadership is being handed over.
    #[error("leadership is being transferred to {target}")]
    TransferInProgress {
        /// To whom.
        target: NodeId,
    },
    /// Too much waits to be committed.
    #[error("more than {limit_bytes} bytes wait to be committed")]
    TooManyUncommitted {
        /// The bound.
        limit_bytes: usize,
    },
    /// The command is larger than any may be.
    #[error("the command is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The bound.
        limit_bytes: usize,
    },
}

/// Where a server stands, to show.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// This server.
    pub id: NodeId,
    /// Its role.
    pub role: RoleKind,
    /// Who leads, as far as it knows.
    pub leader_id: Option<NodeId>,
    /// Its term and vote.
    pub hard_state: HardState,
    /// The last entry.
    pub last: EntryId,
    /// Up to here its log is durable.
    pub persisted_index: Index,
    /// Up to here the log is committed.
    pub commit_index: Index,
    /// Up to here it is applied.
    pub last_applied: Index,
}

/// One server. See the [crate](crate) for how to drive it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    pub(crate) id: NodeId,
    pub(crate) options: Options,
    pub(crate) random: Random,
    /// The latest time any input named.
    pub(crate) now: Time,
    pub(crate) hard_state: HardState,
    /// The hard state last given out to be written.
    pub(crate) handed_hard_state: HardState,
    /// The hard state known to be durable.
    pub(crate) durable_hard_state: HardState,
    pub(crate) log: RaftLog,
    pub(crate) writes: Writes,
    pub(crate) role: Role,
    pub(crate) incoming: Option<IncomingSnapshot>,
    /// When a leader was last heard, or this server last led; at first, when it started.
    pub(crate) leader_seen_at: Time,
    pub(crate) next_read: u64,
    /// Messages that must not leave before what is being written is durable. While a disk stands still they
    /// would pile up without end: beyond [`MAX_AFTER_DISK`] they are lost, as any message may be.
    pub(crate) after_disk: Vec<Envelope>,
    pub(crate) effects: VecDeque<Effect>,
}

impl Node {
    /// A server that starts, or starts again, as a follower (paper §5.2).
    ///
    /// `seed` must differ between servers and between starts of the same server: election timeouts and
    /// read ids come from it.
    ///
    /// # Panics
    /// When `options` do not pass [`Options::check`], or `restored` contradicts itself.
    pub fn new(id: NodeId, options: Options, seed: u64, restored: Restored, now: Time) -> Node {
        options.check().expect("the options were checked");
        let Restored { hard_state, snapshot, log_start, unread, entries } = restored;
        let log = RaftLog::restore(snapshot, log_start, &unread, entries);
        assert!(hard_state.current_term >= log.last().term, "the term is never behind the log's last");
        let mut random = Random::new(seed);
        let next_read = random.next_u64();
        let mut node = Node {
            id,
            options,
            random,
            now,
            hard_state,
            handed_hard_state: hard_state,
            durable_hard_state: hard_state,
            log,
            writes: Writes::default(),
            role: Role::Follower(Follower::new(now, None)),
            incoming: None,
            leader_seen_at: now,
            next_read,
            after_disk: Vec::new(),
            effects: VecDeque::new(),
        };
        node.reset_election_deadline();
        node
    }

    // ---- Inputs -------------------------------------------------------------------------------------

    /// Time has passed. To be called no later than [`Node::next_deadline`]; at any other time it does no
    /// harm.
    pub fn on_time(&mut self, now: Time) {
        self.observe(now);
        match &self.role {
            Role::Follower(Follower { election_deadline: deadline, .. }) if *deadline <= self.now => {
                self.on_election_timeout();
            }
            Role::PreCandidate(campaign) | Role::Candidate(campaign) if campaign.deadline <= self.now => {
                self.on_election_timeout();
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {}
            Role::Leader(_) => self.on_leader_time(),
        }
    }

    /// A message has arrived. Messages may be lost, doubled, delayed and reordered.
    pub fn step(&mut self, now: Time, envelope: Envelope) {
        self.observe(now);
        if envelope.to != self.id || envelope.from == self.id {
            return;
        }
        let Some(believed_term) = self.believed_term(envelope.from, envelope.term) else { return };
        // Leadership is handed over to a member that has the whole log: it knows the leader.
        if envelope.message == Message::TimeoutNow && !self.knows(envelope.from) {
            return;
        }
        // A leader that was paused must not act on a message before it has noticed that its time is over. But an
        // answer counts when it has arrived, even if nobody looked at it in time.
        if !envelope.message.is_answer_to_leader() {
            self.check_leadership();
        }
        if envelope.term < self.current_term() {
            self.answer_stale(&envelope);
            return;
        }
        // The exception to the rule below: while a leader is alive, who asks for a vote is refused and
        // does not move our term (thesis §4.2.3).
        if self.leader_is_alive() && self.refuse_disturbance(&envelope) {
            return;
        }
        if envelope.term > self.current_term() {
            self.become_follower(believed_term, None);
        }
        if envelope.term == self.current_term() {
            self.handle(envelope);
        }
    }

    /// Takes a command into the leader's log and says where it stands; it may still be lost if leadership
    /// is (SOURCES M3). What became of it: see [`Pending`](crate::Pending).
    pub fn propose(&mut self, now: Time, command: Bytes) -> Result<EntryId, ProposeError> {
        self.observe(now);
        self.check_leadership();
        let leader_id = self.leader_id();
        let Role::Leader(leader) = &self.role else {
            return Err(ProposeError::NotLeader { leader_id });
        };
        if let Some(transfer) = &leader.transfer {
            return Err(ProposeError::TransferInProgress { target: transfer.target });
        }
        if command.len() > self.options.max_command_bytes {
            return Err(ProposeError::TooLarge { limit_bytes: self.options.max_command_bytes });
        }
        // One entry is always let in, however large, so that the bound cannot block for ever.
        if leader.uncommitted_bytes > 0
            && leader.uncommitted_bytes + command.len() > self.options.max_uncommitted_bytes
        {
            return Err(ProposeError::TooManyUncommitted { limit_bytes: self.options.max_uncommitted_bytes });
        }
        Ok(self.append_as_leader(Payload::Command(command)))
    }

    /// The write `token`, and every one before it, is durable, and its messages are sent.
    pub fn on_persisted(&mut self, now: Time, token: WriteToken) {
        self.observe(now);
        let Some(durable) = self.writes.complete(token) else { return };
        self.durable_hard_state = durable.hard_state;
        self.log.persisted_index = self.log.persisted_index.max(durable.last_index);
        self.log.shrink(self.options.max_recent_bytes);
        self.count_own_vote();
        self.send_what_waited();
    }

    /// The entries up to `index` have been applied.
    pub fn on_applied(&mut self, now: Time, index: Index) {
        self.observe(now);
        assert!(index <= self.log.applying_index, "only what was given out is applied");
        assert!(index >= self.log.last_applied, "the state machine never goes back");
        self.log.last_applied = index;
        self.log.shrink(self.options.max_recent_bytes);
    }

    /// The connection to `peer` broke: a hint, which may be wrong or late.
    pub fn on_unreachable(&mut self, now: Time, peer: NodeId) {
        self.observe(now);
        match &mut self.role {
            Role::Leader(_) => self.on_follower_unreachable(peer),
            Role::Follower(follower) if follower.leader_id == Some(peer) => self.on_leader_unreachable(),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {}
        }
    }

    // ---- Outputs ------------------------------------------------------------------------------------

    /// The next thing to do. To be called until it returns none, after every input or several.
    #[must_use]
    pub fn poll_effect(&mut self) -> Option<Effect> {
        if self.effects.is_empty() {
            self.gather();
        }
        self.effects.pop_front()
    }

    /// When [`Node::on_time`] is to be called at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Time {
        match &self.role {
            Role::Leader(leader) => self.leader_deadline(leader),
            _ if !self.may_campaign() => Time::NEVER,
            Role::Follower(follower) => follower.election_deadline,
            Role::PreCandidate(campaign) | Role::Candidate(campaign) => campaign.deadline,
        }
    }

    // ---- To look at ---------------------------------------------------------------------------------

    /// This server.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Its log.
    pub fn log(&self) -> &RaftLog {
        &self.log
    }

    /// Its term.
    pub fn current_term(&self) -> Term {
        self.hard_state.current_term
    }

    /// Its role.
    pub fn role(&self) -> RoleKind {
        match &self.role {
            Role::Follower(_) => RoleKind::Follower,
            Role::PreCandidate(_) => RoleKind::PreCandidate,
            Role::Candidate(_) => RoleKind::Candidate,
            Role::Leader(_) => RoleKind::Leader,
        }
    }

    /// Who leads, as far as it knows.
    pub fn leader_id(&self) -> Option<NodeId> {
        match &self.role {
            Role::Leader(_) => Some(self.id),
            Role::Follower(follower) => follower.leader_id,
            Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// The configuration in force.
    pub fn configuration(&self) -> &Configuration {
        self.log.configuration()
    }

    /// Whether `id` is a member in the newest configuration that is known to be committed or in one after it, or
    /// the leader that this server follows.
    pub fn knows(&self, id: NodeId) -> bool {
        self.leader_id() == Some(id) || self.log.configurations_in_question().any(|known| known.is_member(id))
    }

    /// To which term a message of `from` that names `term` moves this server at most; none if it is not listened to. A
    /// term is counted up by elections, one at a time. Who names one far beyond ours is lying or broken, and to believe
    /// it a few times would leave no terms to elect in. Members are believed much more: who was cut off with liars must
    /// find back to the others. A stranger may be a new leader, so who is behind follows it in steps; and so does a server
    /// that has no configuration yet, and knows nobody: what it is told it tells the members, who know it.
    pub fn believed_term(&self, from: NodeId, term: Term) -> Option<Term> {
        let current = self.current_term();
        let jump = term.0.saturating_sub(current.0);
        if term > Term::LIMIT || jump > MAX_TERM_JUMP {
            return None;
        }
        let most = if self.knows(from) { term } else { Term(current.0 + MAX_STRANGER_TERM_JUMP) };
        Some(term.min(most))
    }

    /// For how long this server has neither led nor heard a leader.
    pub fn leaderless_us(&self, now: Time) -> u64 {
        if let Role::Leader(_) = self.role { 0 } else { now.since_us(self.leader_seen_at) }
    }

    /// The newest configuration that is known to be committed.
    pub fn committed_configuration(&self) -> &Configuration {
        self.log.configuration_at(self.log.commit_index)
    }

    /// Where it stands.
    pub fn status(&self) -> Status {
        Status {
            id: self.id,
            role: self.role(),
            leader_id: self.leader_id(),
            hard_state: self.hard_state,
            last: self.log.last(),
            persisted_index: self.log.persisted_index,
            commit_index: self.log.commit_index,
            last_applied: self.log.last_applied,
        }
    }

    // ---- Inside -------------------------------------------------------------------------------------

    pub(crate) fn observe(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    fn handle(&mut self, envelope: Envelope) {
        let Envelope { from, message, .. } = envelope;
        if message.is_from_leader() && !self.follow(from) {
            return;
        }
        match message {
            Message::PreVote { proposed_term, last } => self.on_pre_vote(from, proposed_term, last),
            Message::PreVoteReply { proposed_term, granted } => {
                self.on_pre_vote_reply(from, proposed_term, granted);
            }
            Message::RequestVote { last, .. } => self.on_request_vote(from, last),
            Message::RequestVoteReply { granted } => self.on_request_vote_reply(from, granted),
            Message::AppendEntries { slice, leader_commit } => {
                self.on_append_entries(from, slice, leader_commit);
            }
            Message::AppendEntriesReply(reply) => self.on_append_reply(from, reply),
            Message::Heartbeat { commit_index, round } => self.on_heartbeat(from, commit_index, round),
            Message::HeartbeatReply { round } => self.on_heartbeat_reply(from, round),
            Message::CommitNotice { commit_index } => self.on_commit_notice(commit_index),
            Message::InstallSnapshot { snapshot, chunk } => self.on_install_snapshot(from, snapshot, chunk),
            Message::InstallSnapshotReply { last_included, reply } => {
                self.on_snapshot_reply(from, last_included, reply);
            }
            Message::TimeoutNow => self.on_timeout_now(),
            Message::ReadIndex { read } => self.on_remote_read(from, read),
            Message::ReadIndexReply { read, index } => self.on_read_index_reply(read, index),
        }
    }

    /// A message of an old term has no effect; its sender learns our term (paper §5.1, SOURCES T2).
    fn answer_stale(&mut self, envelope: &Envelope) {
        let reply = match &envelope.message {
            Message::PreVote { proposed_term, .. } => {
                Message::PreVoteReply { proposed_term: *proposed_term, granted: false }
            }
            Message::RequestVote { .. } => Message::RequestVoteReply { granted: false },
            Message::AppendEntries { slice, .. } => Message::AppendEntriesReply(AppendReply::Rejected {
                prev: slice.prev(),
                hint: self.log.last(),
            }),
            Message::Heartbeat { round, .. } => Message::HeartbeatReply { round: *round },
            Message::InstallSnapshot { snapshot, .. } => Message::InstallSnapshotReply {
                last_included: snapshot.last_included,
                reply: SnapshotReply::Received { next_offset: 0, above: Index(0) },
            },
            Message::ReadIndex { read } => Message::ReadIndexReply { read: *read, index: None },
            Message::TimeoutNow
            | Message::PreVoteReply { .. }
            | Message::RequestVoteReply { .. }
            | Message::AppendEntriesReply(_)
            | Message::HeartbeatReply { .. }
            | Message::CommitNotice { .. }
            | Message::InstallSnapshotReply { .. }
            | Message::ReadIndexReply { .. } => return,
        };
        self.send(envelope.from, reply);
    }

    /// Becomes a follower of `term`; in a newer one the vote is free again. Within a term the vote stays:
    /// to forget it would allow a second one (SOURCES E2).
    pub(crate) fn become_follower(&mut self, term: Term, leader_id: Option<NodeId>) {
        assert!(term >= self.current_term(), "terms only grow (paper §5.1)");
        if let Role::Leader(_) = self.role {
            self.stop_leading(StepDownReason::HigherTerm);
        }
        self.fail_asked_reads();
        if term > self.current_term() {
            self.hard_state = HardState { current_term: term, voted_for: None };
            // Answers that still wait for the disk speak for a term that is over, of entries that its
            // successor may be about to replace.
            self.after_disk.clear();
        }
        self.role = Role::Follower(Follower::new(self.now, leader_id));
        self.reset_election_deadline();
        self.event(Event::BecameFollower { term, leader_id });
    }

    /// Sends as soon as what the message depends on is durable (paper figure 2: "updated on stable storage
    /// before responding to RPCs"; SOURCES P1).
    pub(crate) fn send(&mut self, to: NodeId, message: Message) {
        let envelope = Envelope { from: self.id, to, term: self.current_term(), message };
        if self.is_durable_enough_for(&envelope.message) {
            self.effects.push_back(Effect::Send(envelope));
        } else if self.after_disk.len() < MAX_AFTER_DISK {
            self.after_disk.push(envelope);
        }
    }

    /// A write is done: what waited for it leaves. Most messages have left with the write itself; these came
    /// while it was under way.
    fn send_what_waited(&mut self) {
        for envelope in std::mem::take(&mut self.after_disk) {
            if self.is_durable_enough_for(&envelope.message) {
                self.effects.push_back(Effect::Send(envelope));
            } else {
                self.after_disk.push(envelope);
            }
        }
    }

    fn is_durable_enough_for(&self, message: &Message) -> bool {
        // Every message names the term, and with it that this server will never act in an older one again,
        // nor vote twice in this one.
        let hard_state_durable = self.durable_hard_state == self.hard_state;
        let log_durable = match message {
            Message::AppendEntriesReply(AppendReply::Accepted { match_index })
            | Message::InstallSnapshotReply { reply: SnapshotReply::Installed { match_index }, .. } => {
                *match_index <= self.log.persisted_index
            }
            _ => true,
        };
        hard_state_durable && log_durable
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.effects.push_back(Effect::Event(event));
    }

    /// Makes effects of what the inputs since the last drain have left to do.
    fn gather(&mut self) {
        if let Role::Leader(_) = self.role {
            self.advance_commit_index();
            self.advance_change();
            self.confirm_reads();
            self.advance_transfer();
            self.replicate();
            self.end_change();
        }
        self.persist();
        self.begin_installing();
        self.apply();
    }

    fn persist(&mut self) {
        let hard_state = (self.handed_hard_state != self.hard_state).then_some(self.hard_state);
        if hard_state.is_none() && !self.log.has_unwritten() {
            return;
        }
        self.handed_hard_state = self.hard_state;
        let entries = self.log.hand_to_disk();
        let token = self.writes.begin(self.now, self.hard_state, self.log.last());
        let then_send = std::mem::take(&mut self.after_disk);
        self.effects.push_back(Effect::Persist { hard_state, entries, token, then_send });
    }

    /// One batch at a time: the next is given out when this one is applied.
    fn apply(&mut self) {
        if self.log.applying_index > self.log.last_applied || self.is_installing() {
            return;
        }
        let entries = self.log.hand_to_apply(self.options.max_apply_bytes);
        if !entries.is_empty() {
            self.effects.push_back(Effect::Apply(entries));
        }
    }
}

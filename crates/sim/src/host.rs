//! Runs a member: gives its process what happens, does the jobs that it gives out, and shows the judges
//! everything on the way.

use tenure_raft::{Envelope, Event as RaftEvent, Message, NodeId, RoleKind, invariants};
use tenure_replica::{CheckpointJob, Job, LogJob, PeerMessage, Reply, RequestId};
use tenure_store::{Command, Response};

use crate::action::OperationId;
use crate::coverage::Mark;
use crate::event::{Event, Input};
use crate::judges::asked::Wanted;
use crate::judges::resources::{self, Queued};
use crate::judges::{Answer, Judges, Verdict, require};
use crate::member::{Asker, Process, number_of};
use crate::network::{Departure, Fate, Way};
use crate::trace::{Detail, Shown, facts_of};
use crate::world::World;

const STICKINESS: &str = "who hears its leader takes part in no other election";
/// How many times in a row a member dies that has passed on a question about the members.
const PRESSED: u64 = 4;
/// After this a client learns that nobody listens.
const REFUSED_US: u64 = 100;

impl World {
    // ---- What happens to a member -------------------------------------------------------------------

    pub(crate) fn on_input(&mut self, member: usize, start: u64, input: Input) -> Verdict {
        let it = &mut self.members[member];
        let Some(process) = it.process.as_mut().filter(|_| it.start == start) else { return Ok(()) };
        let now = it.clock.shows(self.now_us);
        match input {
            // A timer that was set for another moment has been replaced.
            Input::Timer if process.timer_at_us != Some(self.now_us) => return Ok(()),
            Input::Timer => {
                process.timer_at_us = None;
                if process.replica.next_deadline() <= now {
                    process.replica.on_time(now);
                } else {
                    self.set_timer(member);
                    return Ok(());
                }
            }
            Input::Batch => {
                process.is_batching = false;
                return self.drain(member);
            }
            Input::LogDone => return self.on_log_done(member),
            Input::LogRetry => return self.on_log_retry(member),
            Input::CheckpointDone => {
                let done = process.checkpoint_running.take().expect("a job was running");
                process.replica.on_checkpoint_done(now, done);
            }
            Input::ApplyDone => {
                let done = process.apply_running.take().expect("a job was running");
                process.replica.on_apply_done(now, done);
            }
            Input::Unreachable(peer) => {
                process.replica.on_unreachable(now, peer);
                self.give_back(member, number_of(peer));
                let it = &mut self.members[member];
                let Some(process) = &mut it.process else { return Ok(()) };
                process.heard_leader_at.take_if(|(leader, _)| *leader == peer);
                let facts = [50, member as u64, peer.as_u64()];
                let id = it.id;
                self.trace.line(
                    self.now_us,
                    Detail::Full,
                    facts,
                    format_args!("{id} lost its connection to {peer}"),
                );
            }
        }
        self.wake(member)
    }

    pub(crate) fn on_arrival(&mut self, from: NodeId, to: NodeId, message: PeerMessage) -> Verdict {
        let election_timeout_us = self.plan.replica.raft.election_timeout_us;
        let member = number_of(to);
        let it = &mut self.members[member];
        let Some(process) = it.process.as_mut().filter(|_| it.id == to) else { return Ok(()) };
        let [kind, term, ..] = facts_of(&message);
        self.trace.line(
            self.now_us,
            Detail::Full,
            [51, to.as_u64(), from.as_u64(), kind, term],
            format_args!("  {}", Shown { from, to, message: &message }),
        );
        let now = it.clock.shows(self.now_us);
        if !process.replica.listens_to(now, from, &message) {
            // It may have been a member, or may not be known as one yet.
            process.replica.on_peer(now, from, message);
            return self.wake(member);
        }
        process.heard_us.insert(from, self.now_us);
        let node = process.replica.node();
        if let PeerMessage::ChangeMembers(asked) = &message
            && node.role() == RoleKind::Leader
        {
            let wanted = Wanted::Change(asked.change.clone());
            self.judges.on_asked(node.current_term(), wanted, asked.force);
        }
        if let PeerMessage::MembersChanged(changed) = &message
            && changed.boot == process.replica.identity().boot
            && let Some(change) = process.changes.get_mut(&changed.number)
        {
            change.on_told();
        }
        if let PeerMessage::Raft(envelope) = &message {
            let term = envelope.term;
            if process.hands_over && matches!(envelope.message, Message::ReadIndex { .. }) {
                self.coverage.reach(Mark::ReadDuringTransfer);
            }
            let before = self.judges.on_arrival(process.replica.node(), envelope);
            let is_disturbance = process.is_disturbed_by(envelope, now, election_timeout_us);
            let is_known = process.replica.node().knows(from);
            let may_be_unheard = match envelope.message {
                Message::PreVote { .. } | Message::RequestVote { leadership_transfer: false, .. } => true,
                // They pass by the rule that protects a living leader, so they count only from members.
                Message::RequestVote { leadership_transfer: true, .. } | Message::TimeoutNow => !is_known,
                _ => false,
            };
            let is_sign_of_life =
                matches!(envelope.message, Message::AppendEntries { .. } | Message::Heartbeat { .. });
            process.replica.on_peer(now, from, message);
            let node = process.replica.node();
            if is_sign_of_life && node.leader_id() == Some(from) && node.current_term() == term {
                process.heard_leader_at = Some((from, now));
            }
            self.judges.on_arrived(&before, node, term, is_known, may_be_unheard)?;
            require(STICKINESS, !is_disturbance || before.has_vote_of(node), || {
                format!("{to} has just heard its leader, and takes part in the election of {from}")
            })?;
        } else {
            process.replica.on_peer(now, from, message);
        }
        self.wake(member)
    }

    pub(crate) fn on_request(
        &mut self,
        member: usize,
        client: usize,
        operation: OperationId,
        command: Option<Command>,
    ) -> Verdict {
        let it = &mut self.members[member];
        let now = it.clock.shows(self.now_us);
        let Some(process) = &mut it.process else {
            // Nobody listens there: it is certain that nothing was done.
            self.judges.operations.not_delivered(operation);
            self.add_in(REFUSED_US, Event::Answer { client, operation, answer: Answer::NotDone });
            return Ok(());
        };
        let request = match command {
            Some(command) => process.replica.write(now, &command),
            None if self.judges.operations.action(operation).is_linearizable() => process.replica.read(now),
            None => {
                let state = process.replica.state();
                let answer = self.judges.operations.on_read_answered(operation, &state)?;
                self.answer(client, operation, answer);
                return Ok(());
            }
        };
        let committed = self.judges.last_committed();
        process.requests.insert(request, Asker { client, operation, committed });
        self.wake(member)
    }

    pub(crate) fn answer(&mut self, client: usize, operation: OperationId, answer: Answer) {
        if !self.network.loses() {
            let delay_us = self.network.delay_us();
            self.add_in(delay_us, Event::Answer { client, operation, answer });
        }
    }

    /// Something has happened to the member: it handles it at once, or together with what comes next.
    pub(crate) fn wake(&mut self, member: usize) -> Verdict {
        if self.plan.max_batching_us == 0 {
            return self.drain(member);
        }
        let it = &mut self.members[member];
        let Some(process) = &mut it.process else { return Ok(()) };
        if !process.is_batching {
            process.is_batching = true;
            let start = it.start;
            let in_us = self.random.below(self.plan.max_batching_us + 1);
            self.add_in(in_us, Event::To { member, start, input: Input::Batch });
        }
        Ok(())
    }

    // ---- What a member does -------------------------------------------------------------------------

    /// Does all that the member wants done, and checks it.
    pub(crate) fn drain(&mut self, member: usize) -> Verdict {
        while let Some(job) =
            self.members[member].process.as_mut().and_then(|process| process.replica.poll_job())
        {
            self.on_job(member, job)?;
        }
        self.check(member)?;
        self.start_log_job(member)?;
        self.start_checkpoint_job(member)?;
        self.set_timer(member);
        Ok(())
    }

    fn on_job(&mut self, member: usize, job: Job) -> Verdict {
        match job {
            Job::Send { to, message } => self.send(member, to, message),
            Job::Log(job) => {
                self.process(member).log_jobs.push_back(job);
                Ok(())
            }
            Job::Checkpoint(job) => {
                self.process(member).checkpoint_jobs.push_back(job);
                Ok(())
            }
            Job::Apply(job) => {
                self.begin_to_apply(member, job);
                Ok(())
            }
            // The hash of what a compaction has found is for operators, and no part of the state.
            Job::Discard(_) | Job::Compacted { .. } => Ok(()),
            Job::Reply { request, reply } => self.on_reply(member, request, reply),
            Job::Event(event) => {
                self.process(member).note(&event);
                self.on_raft_event(member, &event)
            }
        }
    }

    fn process(&mut self, member: usize) -> &mut Process {
        self.members[member].process.as_mut().expect("only a running member gives out jobs")
    }

    fn send(&mut self, member: usize, to: NodeId, message: PeerMessage) -> Verdict {
        let from = self.members[member].id;
        self.judges.on_send(from, to, &message)?;
        self.look_at_sent(member, to, &message)?;
        if number_of(to) >= self.members.len() {
            // A stranger was heard, and is answered.
            return Ok(());
        }
        let way = Way { from: member, to: number_of(to), is_bulk: message.is_bulk() };
        let is_there = self.members[way.to].process.is_some() && self.members[way.to].id == to;
        let shown = Shown { from, to, message: &message };
        let [kind, term, first, second] = facts_of(&message);
        let facts = [52, member as u64, way.to as u64, kind, term, first, second];
        if !is_there && self.network.is_noticed() {
            self.trace.line(self.now_us, Detail::Full, facts, format_args!("{shown} (not sent)"));
            self.not_sent(member, message);
            return Ok(());
        }
        let is_busy = self.network.is_busy(way);
        let waits = if is_busy { " (waits)" } else { "" };
        self.trace.line(self.now_us, Detail::Full, facts, format_args!("{shown}{waits}"));
        if let Some(message) = self.network.push(self.now_us, way, (from, to), message) {
            let shown = Shown { from, to, message: &message };
            self.trace.line(self.now_us, Detail::Full, facts, format_args!("{shown} (the lane is full)"));
            self.coverage.reach(Mark::LaneFull);
            self.not_sent(member, message);
        } else if !is_busy {
            self.depart(way);
        }
        Ok(())
    }

    fn not_sent(&mut self, member: usize, message: PeerMessage) {
        let it = &mut self.members[member];
        if let Some(process) = &mut it.process {
            process.replica.on_not_sent(it.clock.shows(self.now_us), message);
        }
    }

    /// The next message leaves its lane, and others after it.
    pub(crate) fn depart(&mut self, way: Way) {
        while let Some(departure) = self.network.depart(self.now_us, way) {
            let Departure { from, to, message, fate, next_us } = departure;
            match fate {
                Fate::Arrives { at_us, again_at_us } => {
                    if let Some(again_at_us) = again_at_us {
                        self.queue.add(again_at_us, Event::Arrival { from, to, message: message.clone() });
                    }
                    self.queue.add(at_us, Event::Arrival { from, to, message });
                }
                Fate::Lost => {
                    let facts = [57, from.as_u64(), to.as_u64(), facts_of(&message)[0]];
                    let shown = Shown { from, to, message: &message };
                    self.trace.line(self.now_us, Detail::Full, facts, format_args!("{shown} (lost)"));
                }
            }
            if next_us > self.now_us {
                self.queue.add(next_us, Event::Wire(way));
                return;
            }
        }
    }

    /// A connection broke: the sender gives back what somebody waits for.
    fn give_back(&mut self, member: usize, peer: usize) {
        for message in self.network.give_back(member, peer) {
            self.not_sent(member, message);
        }
    }

    /// Takes down what a member says, and judges what hangs on more than the message.
    fn look_at_sent(&mut self, member: usize, to: NodeId, message: &PeerMessage) -> Verdict {
        if let PeerMessage::ChangeMembers(asked) = message
            && let Some(change) = self.process(member).changes.get_mut(&asked.number)
        {
            change.on_sent(asked)?;
        }
        if let PeerMessage::Raft(Envelope { message: Message::TimeoutNow, .. }) = message
            && let Some(process) = self.members[member].process.as_ref()
            // Who leaves does not wait, and what happens together may add an entry behind it.
            && process.replica.node().role() == RoleKind::Leader
            && self.plan.max_batching_us == 0
        {
            self.judges.on_handed_over(process.replica.node(), to)?;
        }
        let is_change = matches!(message, PeerMessage::ChangeMembers(_));
        let is_pressed = is_change && self.members[member].pressed > 0;
        if asks(message) && (self.nemesis.hits_asker() || is_pressed) {
            let it = &mut self.members[member];
            match (is_change, is_pressed) {
                (true, true) => it.pressed -= 1,
                (true, false) => it.pressed = PRESSED,
                (false, _) => it.crashes_left = 2,
            }
            let (start, crash) = (self.members[member].start, self.nemesis.any_crash());
            let in_us = self.network.delay_us();
            self.add_in(in_us, Event::Crash { member, start, crash });
        }
        match message {
            PeerMessage::Forward(_) => self.coverage.reach(Mark::Forwarded),
            PeerMessage::ForwardRefused(_) => self.coverage.reach(Mark::ForwardRefused),
            PeerMessage::ForwardLacked(_) => self.coverage.reach(Mark::ForwardLacked),
            PeerMessage::Room { .. } => self.coverage.reach(Mark::ToldOfRoom),
            PeerMessage::Raft(_)
            | PeerMessage::ForwardQuestion(_)
            | PeerMessage::ChangeMembers(_)
            | PeerMessage::MembersChanged(_)
            | PeerMessage::Acknowledged(_) => {}
        }
        self.said.messages += 1;
        if let PeerMessage::Raft(Envelope { message: Message::AppendEntries { slice, .. }, .. }) = message {
            self.said.entries += slice.entries().len() as u64;
        }
        Ok(())
    }

    fn on_reply(&mut self, member: usize, request: RequestId, reply: Reply) -> Verdict {
        if let Some(asked) = self.process(member).changes.remove(&request) {
            return self.on_change_answered(member, &asked, &reply);
        }
        // Nobody waits for what the member writes by itself, nor for a client that is gone.
        let Some(asker) = self.process(member).requests.remove(&request) else { return Ok(()) };
        let Asker { client, operation, committed } = asker;
        let operations = &mut self.judges.operations;
        let answer = match reply {
            Reply::Applied { result, revision, .. } => {
                // As the server does before it answers.
                let result = result.map(Response::settled);
                operations.on_write_answered(operation, &result, revision)?
            }
            Reply::Read { state, .. } => {
                self.coverage.reach(Mark::ReadAnswered);
                Judges::on_read(self.members[member].id, committed, state.applied_index())?;
                operations.on_read_answered(operation, &state)?
            }
            Reply::Failed(failure) => operations.on_failed(operation, failure)?,
            Reply::Changed { .. } | Reply::Refused(_) => panic!("that is no answer to a client"),
        };
        self.answer(client, operation, answer);
        Ok(())
    }

    fn on_raft_event(&mut self, member: usize, event: &RaftEvent) -> Verdict {
        self.coverage.on_event(event);
        let it = &self.members[member];
        let Some(process) = &it.process else { return Ok(()) };
        let node = process.replica.node();
        self.trace.line(
            self.now_us,
            Detail::Short,
            [53, member as u64, node.current_term().0, node.log().commit_index().0],
            format_args!("{} {event}", it.id),
        );
        match event {
            RaftEvent::BecameLeader { term, .. } => {
                self.judges.on_leader(node, *term, &process.in_force)?;
                if process.in_force.is_joint() {
                    self.coverage.reach(Mark::ElectedWhileJoint);
                }
                self.lie_in_wait(member);
                self.ask_elected(member, *term);
                Ok(())
            }
            RaftEvent::CommitAdvanced { commit } => {
                self.judges.on_commit(self.now_us, node, *commit, &process.in_force)
            }
            RaftEvent::ConfigurationChanged { configuration } => {
                if node.role() != RoleKind::Leader {
                    return Ok(());
                }
                let log = node.log();
                let is_own = log.term_at(log.configuration_index()) == Some(node.current_term());
                if is_own && configuration == node.configuration() {
                    self.check_begun(process)?;
                }
                self.lie_in_wait(member);
                Ok(())
            }
            RaftEvent::SnapshotInstalled { last_included } => {
                self.judges.on_installed(it.id, *last_included)?;
                self.judges.on_snapshot(it.id, node.log().snapshot())
            }
            RaftEvent::BecameFollower { .. }
            | RaftEvent::BecamePreCandidate { .. }
            | RaftEvent::BecameCandidate { .. }
            | RaftEvent::SteppedDown { .. }
            | RaftEvent::VoteGranted { .. }
            | RaftEvent::VoteRefused { .. }
            | RaftEvent::AppendRejected { .. }
            | RaftEvent::Truncated { .. }
            | RaftEvent::SnapshotDamaged { .. }
            | RaftEvent::TransferStarted { .. }
            | RaftEvent::TransferAborted { .. } => Ok(()),
        }
    }

    /// What must hold of a change of the members that a leader has just begun, or ended.
    fn check_begun(&self, process: &Process) -> Verdict {
        let timeout_us = self.plan.replica.raft.election_timeout_us;
        // A clock may be slow by a twentieth. Where what happens is handled together, it may have happened before a
        // pause.
        let is_prompt = self.plan.max_batching_us == 0;
        let lately_us = if is_prompt { timeout_us + timeout_us / 10 } else { self.now_us };
        let answers = |id: NodeId| {
            process.heard_us.get(&id).is_some_and(|&heard_us| heard_us + lately_us >= self.now_us)
        };
        // The last round of catching up took no longer than a timeout, and no more time has passed since.
        self.judges.on_change_begun(self.now_us, process.replica.node(), answers, 2 * lately_us)
    }

    /// What must hold of a member after everything it does.
    fn check(&mut self, member: usize) -> Verdict {
        let Some(process) = &mut self.members[member].process else { return Ok(()) };
        let node = process.replica.node();
        invariants::check(node);
        invariants::check_step(&process.before, node);
        process.before = invariants::summary(node);
        require("events", process.in_force == *node.configuration(), || {
            format!("{} goes by {}, and said {}", node.id(), node.configuration(), process.in_force)
        })?;
        if process.judged_in_force != process.in_force && self.judges.on_in_force(node, &process.in_force)? {
            process.judged_in_force = process.in_force.clone();
        }
        self.judges.on_step(node)?;
        let is_compaction = |job: &&LogJob| matches!(job, LogJob::Compact { .. });
        let compactions = process.log_jobs.iter().filter(is_compaction).count();
        let chunks = process.checkpoint_jobs.iter().filter_map(|job| match job {
            CheckpointJob::Store { chunk, .. } => Some(chunk.data.len()),
            CheckpointJob::Take { .. }
            | CheckpointJob::Load { .. }
            | CheckpointJob::Install { .. }
            | CheckpointJob::Reserve { .. } => None,
        });
        let chunks: Vec<usize> = chunks.collect();
        let queued = Queued {
            log_jobs: process.log_jobs.len() - compactions,
            compactions,
            checkpoint_jobs: process.checkpoint_jobs.len() - chunks.len(),
            chunks: chunks.len(),
            chunk_bytes: chunks.iter().sum(),
        };
        resources::check(&process.replica.status(), queued, &self.plan.replica, self.plan.machines())?;
        require("what was acknowledged is kept", process.replica.loss().is_none(), || {
            format!("{}: {:?}", node.id(), process.replica.loss())
        })?;
        if !process.is_busy() {
            resources::check_idle(node)?;
        }
        let store = process.replica.store();
        self.judges.on_applied(node, store.applied_index(), store.state_hash())
    }

    /// Has the member woken when its next deadline comes.
    pub(crate) fn set_timer(&mut self, member: usize) {
        let it = &mut self.members[member];
        let Some(process) = &mut it.process else { return };
        let Some(at_us) = it.clock.when(process.replica.next_deadline()) else { return };
        let at_us = at_us.max(self.now_us);
        if process.timer_at_us.is_none_or(|set_us| at_us < set_us) {
            process.timer_at_us = Some(at_us);
            self.queue.add(at_us, Event::To { member, start: it.start, input: Input::Timer });
        }
    }
}

/// Whether the sender waits for an answer, which may find another process in its place.
fn asks(message: &PeerMessage) -> bool {
    match message {
        PeerMessage::Forward(_) | PeerMessage::ForwardQuestion(_) | PeerMessage::ChangeMembers(_) => true,
        PeerMessage::Raft(envelope) => matches!(envelope.message, Message::ReadIndex { .. }),
        PeerMessage::ForwardRefused(_)
        | PeerMessage::ForwardLacked(_)
        | PeerMessage::MembersChanged(_)
        | PeerMessage::Room { .. }
        | PeerMessage::Acknowledged(_) => false,
    }
}

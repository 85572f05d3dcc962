//! The one task that owns the [`Replica`]: everyone else sends it messages over bounded queues.
//!
//! It takes what has gathered in the queues, feeds it to the replica, and does the jobs that come of it:
//! what is for a disk goes to that disk's thread, what is for a peer into that peer's queue, what is for a
//! client to whoever waits. It never waits for any of them. One turn is one batch: the writes that arrived
//! together go into one append.
//!
//! Peers and disks come before clients, and of what peers say the answers come first: before a leader concludes that
//! nobody answers it has looked at every answer that has arrived. It shares its thread with the connections to the
//! peers, and with nothing that clients ask for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tenure_raft::{Event, NodeId, Time};
use tenure_replica::{ApplyJob, CheckpointDone, CheckpointJob, Job, LogJob, Replica, Reply, RequestId};
use tenure_store::{Garbage, Member};
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::{Alarm, Clock};
use crate::compaction_hashes::CompactionHashes;
use crate::gate::{FAREWELL, Gate};
use crate::input::{Asked, Input, Stop};
use crate::metrics::Metrics;
use crate::peer::Peers;
use crate::roster::Roster;
use crate::workers::Worker;

/// How many inputs one turn takes, and how many requests.
const MAX_TURN: usize = 1024;
/// Whoever wakes so much too late has been stopped, or its machine is overloaded: what has arrived meanwhile may still
/// wait in the sockets.
const LATE_US: u64 = 50_000;
/// So long their readers may take.
const READERS_TIME: Duration = Duration::from_millis(2);

/// What everyone may know of the member at any time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Leadership {
    pub(crate) leader_id: Option<NodeId>,
    pub(crate) raft_term: u64,
    pub(crate) is_leader: bool,
    /// It has no vote: it may be behind, and serves nothing that has to be up to date.
    pub(crate) is_learner: bool,
}

/// What the core needs of its surroundings.
pub(crate) struct Surroundings {
    pub(crate) clock: Clock,
    pub(crate) inputs: mpsc::Receiver<Input>,
    pub(crate) requests: mpsc::Receiver<Asked>,
    pub(crate) log: Worker<LogJob>,
    pub(crate) checkpoints: Worker<CheckpointJob>,
    pub(crate) apply: Worker<ApplyJob>,
    pub(crate) garbage: Worker<Garbage>,
    pub(crate) inputs_of_core: mpsc::Sender<Input>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) peers: Peers,
    /// The members that were known at the start.
    pub(crate) first_members: BTreeMap<u64, Member>,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) metrics: Metrics,
    pub(crate) compaction_hashes: Arc<CompactionHashes>,
}

struct Core {
    replica: Replica,
    surroundings: Surroundings,
    replies: BTreeMap<RequestId, oneshot::Sender<Reply>>,
    alarm: Alarm,
    /// Of what the gate and the peers know.
    roster_version: Option<u64>,
    /// It knows that it was removed, and is about to stop.
    is_leaving: bool,
    /// The operator was told that its disk is short of room.
    is_short: bool,
}

/// Runs the member until it is told to stop; an error is why it had to.
pub(crate) async fn run(
    mut replica: Replica,
    member: Member,
    surroundings: Surroundings,
) -> Result<(), Stop> {
    replica.publish(member);
    replica.introduce(surroundings.first_members.values().cloned().collect());
    let mut core = Core {
        replica,
        surroundings,
        replies: BTreeMap::new(),
        alarm: Alarm::new(),
        roster_version: None,
        is_leaving: false,
        is_short: false,
    };
    let mut turn = Turn::default();
    loop {
        core.do_jobs();
        if let Some(loss) = core.replica.loss() {
            return Err(Stop::Failed(loss.to_string()));
        }
        let deadline = core.replica.next_deadline();
        core.await_turn(deadline, &mut turn).await;
        let now = core.surroundings.clock.now();
        turn.inputs.iter_mut().for_each(|input| core.take_answers(now, input));
        for input in turn.inputs.drain(..) {
            match input {
                Input::Stop => {
                    core.note_acknowledged();
                    return Ok(());
                }
                Input::Fatal(why) => return Err(why),
                input => core.on_input(now, input),
            }
        }
        if deadline <= now {
            core.replica.on_time(now);
        }
        for request in turn.requests.drain(..) {
            core.on_request(now, request);
        }
    }
}

/// What one turn takes.
#[derive(Default)]
struct Turn {
    inputs: Vec<Input>,
    requests: Vec<Asked>,
}

impl Core {
    /// Waits for something to do, until `deadline` at the latest, and takes what is there.
    async fn await_turn(&mut self, deadline: Time, turn: &mut Turn) {
        let Core { surroundings: Surroundings { inputs, requests, clock, .. }, alarm, .. } = self;
        let instant = clock.instant(deadline);
        tokio::select! {
            biased;
            _ = inputs.recv_many(&mut turn.inputs, MAX_TURN) => {}
            _ = requests.recv_many(&mut turn.requests, MAX_TURN) => {}
            () = alarm.ring(instant) => {}
        }
        if clock.now().since_us(deadline) > LATE_US {
            tokio::time::sleep(READERS_TIME).await;
        }
        // Those that came while others were waited for.
        while turn.inputs.len() < MAX_TURN
            && let Ok(input) = inputs.try_recv()
        {
            turn.inputs.push(input);
        }
    }

    /// Hears the answers among a peer's messages.
    fn take_answers(&mut self, now: Time, input: &mut Input) {
        let Input::Peer { from, messages, .. } = input else { return };
        let from = *from;
        if self.surroundings.peers.is_known(from) {
            for message in messages.extract_if(.., |message| message.is_answer()) {
                self.replica.on_peer(now, from, message);
            }
        }
    }

    fn on_request(&mut self, now: Time, request: Asked) {
        match request {
            Asked::Write { command, reply } => {
                let request = self.replica.write(now, &command);
                self.replies.insert(request, reply);
            }
            Asked::Read { reply } => {
                let request = self.replica.read(now);
                self.replies.insert(request, reply);
            }
            // Whoever asked may be gone; then nobody minds.
            Asked::State { reply } => {
                let _ = reply.send((self.replica.state(), self.replica.status()));
            }
            Asked::Transfer { target, reply } => {
                let _ = reply.send(self.replica.transfer_leadership(now, target));
            }
            Asked::ChangeMembers { change, force, reply } => {
                let request = self.replica.change_members(now, change, force);
                self.replies.insert(request, reply);
            }
        }
    }

    fn on_input(&mut self, now: Time, input: Input) {
        match input {
            Input::Heard { peer, urls } => self.surroundings.peers.hear(peer, &urls),
            Input::Peer { from, urls, messages } => {
                for message in messages {
                    // Who is heard though it is no member here is to be answered.
                    let peers = &mut self.surroundings.peers;
                    if !peers.is_known(from) && self.replica.listens_to(now, from, &message) {
                        peers.welcome(from, &urls);
                    }
                    self.replica.on_peer(now, from, message);
                }
            }
            Input::Unreachable { peer } => {
                self.note_acknowledged();
                self.replica.on_unreachable(now, peer);
            }
            Input::NotSent { message } => self.replica.on_not_sent(now, message),
            Input::LogDone(done) => self.replica.on_log_done(now, done),
            Input::CheckpointDone(done) => {
                if let CheckpointDone::Taken { .. } = done {
                    self.note_acknowledged();
                }
                self.replica.on_checkpoint_done(now, done);
            }
            Input::ApplyDone(done) => self.replica.on_apply_done(now, done),
            Input::Fatal(_) | Input::Stop => {}
        }
    }

    fn do_jobs(&mut self) {
        while let Some(job) = self.replica.poll_job() {
            match job {
                Job::Send { to, message } => {
                    let now = self.surroundings.clock.now();
                    if let Some(message) = self.surroundings.peers.send(now, to, message) {
                        self.replica.on_not_sent(now, message);
                    }
                }
                Job::Log(job) => self.surroundings.log.give(job),
                Job::Checkpoint(job) => self.surroundings.checkpoints.give(job),
                Job::Apply(job) => self.surroundings.apply.give(job),
                Job::Discard(garbage) => self.surroundings.garbage.give(garbage),
                Job::Reply { request, reply } => {
                    if let Some(waiting) = self.replies.remove(&request) {
                        self.surroundings.metrics.on_reply(&reply);
                        let _ = waiting.send(reply);
                    }
                }
                Job::Event(event) => {
                    if let Event::BecameLeader { .. } = event {
                        self.surroundings.gate.look();
                    }
                    crate::events::log(self.replica.node().id(), &event);
                    self.surroundings.metrics.on_event(&event);
                }
                Job::Compacted { before, revision } => {
                    self.surroundings.compaction_hashes.begin(before, revision);
                }
            }
        }
        self.show();
        self.show_room();
        self.know_members();
    }

    fn show_room(&mut self) {
        let is_short = self.replica.is_short_of_room();
        if std::mem::replace(&mut self.is_short, is_short) == is_short {
            return;
        }
        let member = format_args!("{:x}", self.replica.node().id().as_u64()).to_string();
        if is_short {
            tracing::warn!(
                member,
                "the disk is short of room: alarm NOSPACE. Free some, or delete keys and compact their history"
            );
        } else {
            tracing::info!(member, "the disk has room again");
        }
    }

    /// Has the gate remember what the others have by now: who comes back with less was put back to an older copy.
    fn note_acknowledged(&mut self) {
        self.surroundings.gate.note(self.replica.acknowledged());
    }

    /// Lets the gate and the senders know of members that came, went, or moved.
    fn know_members(&mut self) {
        let version = self.replica.roster_version();
        if self.roster_version == Some(version) {
            return;
        }
        self.roster_version = Some(version);
        let Surroundings { gate, peers, first_members, inputs_of_core, .. } = &mut self.surroundings;
        let roster = Roster::of(&self.replica, first_members);
        peers.update(self.replica.node().id(), &roster);
        gate.update(roster);
        if self.replica.is_removed() && !self.is_leaving {
            self.is_leaving = true;
            let inputs = inputs_of_core.clone();
            tokio::spawn(async move {
                // Who asked for it is to be answered.
                tokio::time::sleep(FAREWELL).await;
                let _ = inputs.send(Input::Fatal(Stop::Removed)).await;
            });
        }
    }

    /// Lets the others see where the member stands.
    fn show(&self) {
        let node = self.replica.node();
        let leader_id = node.leader_id();
        let leadership = Leadership {
            leader_id,
            raft_term: node.current_term().0,
            is_leader: leader_id == Some(node.id()),
            is_learner: !node.configuration().is_voter(node.id()),
        };
        self.surroundings.leadership.send_if_modified(|shown| {
            let changed = *shown != leadership;
            *shown = leadership;
            changed
        });
    }
}

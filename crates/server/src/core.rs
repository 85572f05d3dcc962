//! The one task that owns the [`Replica`]: everyone else sends it messages over a bounded queue.
//!
//! It takes what has gathered in the queue, feeds it to the replica, and does the jobs that come of it:
//! what is for a disk goes to that disk's thread, what is for a peer into that peer's queue, what is for a
//! client to whoever waits. It never waits for any of them. One turn is one batch: the writes that arrived
//! together go into one append.

use std::collections::BTreeMap;
use std::sync::Arc;

use tenure_raft::{NodeId, Time, TransferError};
use tenure_replica::{
    CheckpointDone, CheckpointJob, Job, LogDone, LogJob, MemberChange, PeerMessage, Replica, ReplicaStatus,
    Reply, RequestId,
};
use tenure_store::{Command, Member, Snapshot};
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::{Alarm, Clock};
use crate::gate::Gate;
use crate::metrics::Metrics;
use crate::peer::{FAREWELL, Peers};
use crate::roster::Roster;
use crate::url::Url;
use crate::workers::Worker;

/// How many inputs may wait.
pub(crate) const MAX_WAITING_INPUTS: usize = 8192;
/// How many inputs one turn takes.
const MAX_TURN_INPUTS: usize = 1024;

/// Something for the core.
pub(crate) enum Input {
    /// A client's write.
    Write { command: Command, reply: oneshot::Sender<Reply> },
    /// A client's linearizable read.
    Read { reply: oneshot::Sender<Reply> },
    /// A serializable read, or a look at the state.
    State { reply: oneshot::Sender<(Snapshot, ReplicaStatus)> },
    /// Hand leadership over.
    Transfer { target: Option<NodeId>, reply: oneshot::Sender<Result<(), TransferError>> },
    /// A client's change of the members.
    ChangeMembers { change: MemberChange, force: bool, reply: oneshot::Sender<Reply> },
    /// A peer has said where it is reached.
    Heard { peer: NodeId, urls: Vec<Url> },
    /// Messages of a peer.
    Peer { from: NodeId, messages: Vec<PeerMessage> },
    /// The connection to a peer broke.
    Unreachable { peer: NodeId },
    /// A message that was given out to be sent never left.
    NotSent { message: PeerMessage },
    /// The log's thread has done a job.
    LogDone(LogDone),
    /// The checkpoints' thread has done a job.
    CheckpointDone(CheckpointDone),
    /// Something broke that this member cannot go on without.
    Fatal(Stop),
    /// The last input: the member stops.
    Stop,
}

/// Why a member cannot go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// The cluster goes on without it.
    Removed,
    /// Something that it needs has failed.
    Failed(String),
}

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
    pub(crate) log: Worker<LogJob>,
    pub(crate) checkpoints: Worker<CheckpointJob>,
    pub(crate) inputs_of_core: mpsc::Sender<Input>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) peers: Peers,
    /// The members that were known at the start.
    pub(crate) first_members: BTreeMap<u64, Member>,
    pub(crate) leadership: watch::Sender<Leadership>,
    pub(crate) metrics: Metrics,
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
    let mut inputs = Vec::with_capacity(MAX_TURN_INPUTS);
    loop {
        core.do_jobs();
        let deadline = core.replica.next_deadline();
        core.await_inputs(deadline, &mut inputs).await;
        let now = core.surroundings.clock.now();
        if deadline <= now {
            core.replica.on_time(now);
        }
        for input in inputs.drain(..) {
            match input {
                Input::Stop => return Ok(()),
                Input::Fatal(why) => return Err(why),
                input => core.on_input(now, input),
            }
        }
    }
}

impl Core {
    /// Waits for inputs, until `deadline` at the latest, and takes all that are there.
    async fn await_inputs(&mut self, deadline: Time, inputs: &mut Vec<Input>) {
        let receiver = &mut self.surroundings.inputs;
        let Some(instant) = self.surroundings.clock.instant(deadline) else {
            receiver.recv_many(inputs, MAX_TURN_INPUTS).await;
            return;
        };
        tokio::select! {
            biased;
            _ = receiver.recv_many(inputs, MAX_TURN_INPUTS) => {}
            () = self.alarm.ring(instant) => {}
        }
    }

    fn on_input(&mut self, now: Time, input: Input) {
        match input {
            Input::Write { command, reply } => {
                let request = self.replica.write(now, &command);
                self.replies.insert(request, reply);
            }
            Input::Read { reply } => {
                let request = self.replica.read(now);
                self.replies.insert(request, reply);
            }
            // Whoever asked may be gone; then nobody minds.
            Input::State { reply } => {
                let _ = reply.send((self.replica.state(), self.replica.status()));
            }
            Input::Transfer { target, reply } => {
                let _ = reply.send(self.replica.transfer_leadership(now, target));
            }
            Input::ChangeMembers { change, force, reply } => {
                let request = self.replica.change_members(now, change, force);
                self.replies.insert(request, reply);
            }
            Input::Heard { peer, urls } => {
                self.surroundings.peers.hear(peer, urls);
                self.roster_version = None;
            }
            Input::Peer { from, messages } => {
                for message in messages {
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
            Input::Fatal(_) | Input::Stop => {}
        }
    }

    fn do_jobs(&mut self) {
        while let Some(job) = self.replica.poll_job() {
            match job {
                Job::Send { to, message } => {
                    if let Some(message) = self.surroundings.peers.send(to, message) {
                        let now = self.surroundings.clock.now();
                        self.replica.on_not_sent(now, message);
                    }
                }
                Job::Log(job) => self.surroundings.log.give(job),
                Job::Checkpoint(job) => self.surroundings.checkpoints.give(job),
                Job::Reply { request, reply } => {
                    if let Some(waiting) = self.replies.remove(&request) {
                        self.surroundings.metrics.on_reply(&reply);
                        let _ = waiting.send(reply);
                    }
                }
                Job::Event(event) => {
                    crate::events::log(self.replica.node().id(), &event);
                    self.surroundings.metrics.on_event(&event);
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
        let acknowledged = self.replica.acknowledged();
        if !acknowledged.is_empty() {
            self.surroundings.gate.note(acknowledged);
            // It is written down with the rest that the gate knows.
            self.roster_version = None;
        }
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
        tokio::task::spawn_blocking({
            let (gate, inputs) = (gate.clone(), inputs_of_core.clone());
            move || {
                if let Err(error) = gate.keep() {
                    let why = format!("what is known of the peers cannot be written down: {error}");
                    // A member that stops already needs no other reason.
                    let _ = inputs.blocking_send(Input::Fatal(Stop::Failed(why)));
                }
            }
        });
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

//! What the core is told, and why a member stops: the words in which its tasks and threads speak to it.

use std::sync::Arc;

use tenure_raft::{NodeId, TransferError};
use tenure_replica::{ApplyDone, CheckpointDone, LogDone, MemberChange, PeerMessage, ReplicaStatus, Reply};
use tenure_store::{Command, Snapshot};
use tokio::sync::oneshot;

use crate::url::Url;

/// How many inputs may wait, and how many requests of clients.
pub(crate) const MAX_WAITING: usize = 8192;

/// What a client asks of the core. Whatever [`Input`] waits comes first.
pub(crate) enum Asked {
    /// A write.
    Write { command: Command, reply: oneshot::Sender<Reply> },
    /// A linearizable read.
    Read { reply: oneshot::Sender<Reply> },
    /// A serializable read, or a look at the state.
    State { reply: oneshot::Sender<(Snapshot, ReplicaStatus)> },
    /// Hand leadership over.
    Transfer { target: Option<NodeId>, reply: oneshot::Sender<Result<(), TransferError>> },
    /// A change of the members.
    ChangeMembers { change: MemberChange, force: bool, reply: oneshot::Sender<Reply> },
}

/// What the core hears of peers and of its workers.
pub(crate) enum Input {
    /// A peer has said where it is reached.
    Heard { peer: NodeId, urls: Arc<[Url]> },
    /// Messages of a peer, and where it says it is reached.
    Peer { from: NodeId, urls: Arc<[Url]>, messages: Vec<PeerMessage> },
    /// The connection to a peer broke.
    Unreachable { peer: NodeId },
    /// A message that was given out to be sent never left.
    NotSent { message: PeerMessage },
    /// The log's thread has done a job.
    LogDone(LogDone),
    /// The checkpoints' thread has done a job.
    CheckpointDone(CheckpointDone),
    /// Entries that took long have been executed.
    ApplyDone(ApplyDone),
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

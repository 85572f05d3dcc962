//! What can happen, one thing at a time.

use tenure_raft::NodeId;
use tenure_replica::PeerMessage;
use tenure_store::Command;
use tenure_wal::Crash;

use crate::action::OperationId;
use crate::judges::Answer;
use crate::nemesis::FaultKind;
use crate::network::{Cut, Way};

/// Something that happens at a moment of simulated time. Members and clients are numbered from 0; `start`
/// is the start of the member that it is meant for.
#[derive(Debug)]
pub(crate) enum Event {
    /// Something happens to the process of a member, if that is still running.
    To { member: usize, start: u64, input: Input },
    /// A message arrives, if the machine is still the member that it is meant for.
    Arrival { from: NodeId, to: NodeId, message: PeerMessage },
    /// A message has left its lane: the next one may.
    Wire(Way),
    /// A client's request arrives.
    Request { member: usize, client: usize, operation: OperationId, command: Option<Command> },
    /// An answer, or word that there will be none, reaches a client.
    Answer { client: usize, operation: OperationId, answer: Answer },
    /// A client has waited long enough.
    Timeout { client: usize, operation: OperationId },
    /// A client begins its next operation, or sends the last one again.
    Act { client: usize },
    /// It is time for a fault of some kind.
    Fault(FaultKind),
    /// A new leader is hit.
    Ambush { member: usize, start: u64 },
    /// A member crashes.
    Crash { member: usize, start: u64, crash: Crash },
    /// A member that is down starts.
    Boot { member: usize, start: u64 },
    /// A paused process goes on.
    Resume { member: usize, start: u64 },
    /// A member's disk, if it is the machine that it was, has room again.
    Emptied { member: usize, fillings: u64 },
    /// A cut is mended.
    Mend(Cut),
    /// A network that comes and goes is cut once more, for half of `every_us`, and so many times after that.
    Flap { cut: Cut, every_us: u64, left: u32 },
}

/// Something that happens to a running process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Input {
    /// A deadline may have come.
    Timer,
    /// What has arrived is handled.
    Batch,
    /// The job of the log is done.
    LogDone,
    /// There may be room for the log again.
    LogRetry,
    /// The job of the checkpoints is done.
    CheckpointDone,
    /// Entries have been executed by their worker.
    ApplyDone,
    /// A connection broke, or seems to have.
    Unreachable(NodeId),
}

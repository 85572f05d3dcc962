//! One server of the simulated cluster: a node, its disk, its machine, and who waits for what.

use std::collections::BTreeMap;

use tenure_raft::{Configuration, Entry, Index, Node, NodeId, Pending, ReadId, Time};

use super::disk::Disk;
use super::machine::Machine;

/// Names an operation of a client: its place in [`super::Cluster::operations`].
pub(crate) type OperationId = usize;

/// What a client was told in the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// It was executed, with this result.
    Done(String),
    /// It was not and will not be executed.
    NotDone,
    /// Nobody can tell.
    Unknown,
}

/// When something happened to a client, and its place among all that happened at that time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Moment {
    pub(crate) at: Time,
    pub(crate) order: u64,
}

/// What a client asked for, when, and what it was told.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) server: NodeId,
    pub(crate) command: String,
    pub(crate) called: Moment,
    pub(crate) answered: Option<(Moment, Answer)>,
    /// The server told the client that it no longer leads, while the outcome was open (SOURCES M4).
    pub(crate) leadership_lost: bool,
}

impl Operation {
    /// The answer, which must have come.
    pub(crate) fn answer(&self) -> Answer {
        self.answered.clone().map_or_else(|| panic!("{} has no answer", self.command), |(_, answer)| answer)
    }
}

/// A read that waits for its index, or for the machine to get there.
#[derive(Clone, Debug)]
pub(crate) struct WaitingRead {
    pub(crate) operation: OperationId,
    pub(crate) ready_at: Option<Index>,
}

/// One server. While it is down it has no node; its disk remains.
#[derive(Default)]
pub(crate) struct Server {
    pub(crate) node: Option<Node>,
    /// Counts its starts: what was begun before a crash does not reach it afterwards.
    pub(crate) start: u64,
    pub(crate) disk: Disk,
    /// How many of the writes under way the disk is busy with: what is asked for meanwhile gathers, and
    /// becomes one write.
    pub(crate) writing: usize,
    /// The core hears of its writes in order.
    pub(crate) noticed_at: Time,
    pub(crate) machine: Machine,
    pub(crate) applying: Vec<Entry>,
    /// Up to here the judges have heard what this server holds for committed.
    pub(crate) judged_commit: Index,
    /// The configuration that it goes by, as its events tell it.
    pub(crate) in_force: Configuration,
    pub(crate) incoming: Vec<u8>,
    pub(crate) proposals: Pending<OperationId>,
    pub(crate) reads: BTreeMap<ReadId, WaitingRead>,
}

impl Server {
    /// The node, which must be up.
    pub(crate) fn node(&self) -> &Node {
        self.node.as_ref().expect("the server is up")
    }

    /// Reads whose index the machine has reached, taken out.
    pub(crate) fn take_ready_reads(&mut self) -> Vec<OperationId> {
        let applied = self.machine.applied;
        let is_ready = |read: &WaitingRead| read.ready_at.is_some_and(|index| index <= applied);
        let ready: Vec<ReadId> =
            self.reads.iter().filter(|(_, read)| is_ready(read)).map(|(&id, _)| id).collect();
        ready.into_iter().filter_map(|id| self.reads.remove(&id)).map(|read| read.operation).collect()
    }
}

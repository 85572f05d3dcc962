//! From a data directory to a member that can run.
//!
//! 1. The newest checkpoint gives the state and what it stands for.
//! 2. The log gives the term, the vote and the entries. What it recovered is durable when it is open.
//! 3. If the log does not contain the checkpoint's last entry, the checkpoint came from another member and
//!    the crash hit before the log was reset: it is reset now.
//! 4. The log behind the checkpoint is given to Raft, and applied again as far as Raft then says it is committed. What
//!    is kept before it, for followers, stays on the disk.

use tenure_raft::{Configuration, EntryId, HardState, NodeId, Restored, Snapshot, Term, Time};
use tenure_store::Store;
use tenure_wal::{Disk, Position, Recovered, Wal, WalError};

use crate::checkpoint_worker::{CheckpointFault, CheckpointWorker};
use crate::log_weight::LogWeight;
use crate::log_worker::LogWorker;
use crate::record::{entry_id, from_record, position};
use crate::{Identity, Options, Replica};

/// Why a member cannot start from its data.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The log.
    #[error(transparent)]
    Log(#[from] WalError),
    /// The checkpoints.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointFault),
    /// The directory has an identity, and no log.
    #[error(
        "{path} has no log, but this member had one: it has forgotten what it acknowledged. Remove the member \
         from the cluster, empty its data directory and add it again"
    )]
    LogMissing {
        /// Where the log should be.
        path: std::path::PathBuf,
    },
    /// Each is whole, and they do not belong together.
    #[error("the parts of the data directory do not fit together: {0}")]
    Mismatch(String),
}

impl RecoveryError {
    /// What the system said, if it is the disk that failed. (The text has it already.)
    pub fn io_error(&self) -> Option<&std::io::Error> {
        match self {
            Self::Log(WalError::Io { source, .. } | WalError::NoSpace { source, .. })
            | Self::Checkpoint(CheckpointFault::Io { source, .. }) => Some(source),
            Self::Log(_) | Self::Checkpoint(_) | Self::LogMissing { .. } | Self::Mismatch(_) => None,
        }
    }
}

/// What is needed to start.
#[derive(Clone, Debug)]
pub struct Start {
    /// Whose data it is.
    pub identity: Identity,
    /// The first configuration of the cluster, the same on every member. Used while nothing else is known.
    pub first_configuration: Configuration,
    /// The settings of the member.
    pub options: Options,
    /// The settings of the log.
    pub log_options: tenure_wal::Options,
    /// For election timeouts and read ids: another one at each start.
    pub seed: u64,
}

/// A member that is ready to run, with the workers for its jobs.
pub struct Started<D: Disk> {
    /// The member.
    pub replica: Replica,
    /// Does [`Job::Log`](crate::Job::Log).
    pub log: LogWorker<D>,
    /// Does [`Job::Checkpoint`](crate::Job::Checkpoint).
    pub checkpoints: CheckpointWorker<D>,
    /// Bytes of an unfinished write that were cut off the log's end, to report.
    pub torn_tail: Option<tenure_wal::TornTail>,
}

/// To be called before [`identity::claim`](crate::identity::claim): makes the log of a new directory before
/// its identity, so that an identity without a log means that the log was lost. Such a member has forgotten
/// what it acknowledged and whom it voted for, and must not start.
pub fn prepare_log<D: Disk>(
    identity_disk: &D,
    log_disk: D,
    log_options: tenure_wal::Options,
) -> Result<(), RecoveryError> {
    let names = identity_disk.list().map_err(|source| {
        let path = identity_disk.path_of(".");
        WalError::Io { op: "list", path, source }
    })?;
    match (crate::identity::exists(&names), Wal::exists(&log_disk)?) {
        (true, false) => Err(RecoveryError::LogMissing { path: log_disk.path_of(".") }),
        (true, true) => Ok(()),
        (false, _) => {
            let path = log_disk.path_of(".");
            let (wal, Recovered { hard_state, entries, .. }) = Wal::open(log_disk, log_options)?;
            let is_unused = hard_state.is_none() && entries.is_empty() && wal.start() == Position::default();
            if is_unused {
                return Ok(());
            }
            // Under a new identity its entries could be taken for those of the start to come.
            let path = path.display();
            Err(RecoveryError::Mismatch(format!(
                "{path} holds a log that was in use, but the file identity is missing beside it. Put it back, or \
                 remove the member from the cluster, empty its data directory and add it again"
            )))
        }
    }
}

/// Recovers a member from its two directories.
pub fn start<D: Disk>(
    start: Start,
    log_disk: D,
    checkpoint_disk: D,
    now: Time,
) -> Result<Started<D>, RecoveryError> {
    let Start { identity, first_configuration, options, log_options, seed } = start;
    let (checkpoints, newest) = CheckpointWorker::open(checkpoint_disk, options.max_dead_checkpoint_bytes)?;
    let (snapshot, store) = newest.unwrap_or_else(|| {
        let nothing = Snapshot { configuration: first_configuration, ..Snapshot::default() };
        (nothing, Store::new())
    });
    let last_included = snapshot.last_included;
    // What the checkpoint holds is kept for followers: it may be much more than what is to be applied again.
    let (mut wal, recovered) = Wal::open_behind(log_disk, log_options, last_included.index.0)?;
    let recovered_state = recovered.hard_state.map(|state| HardState {
        current_term: Term(state.current_term),
        voted_for: state.voted_for.map(NodeId),
    });
    let mut hard_state = recovered_state.unwrap_or_default();
    let contains_checkpoint = wal.term_at(last_included.index.0) == Some(last_included.term.0)
        || position(last_included) == recovered.start;
    let mut log_start = entry_id(recovered.start);
    let (mut unread, mut entries) = (Vec::new(), Vec::new());
    if contains_checkpoint {
        unread = terms_through(&wal, last_included);
        for record in recovered.entries {
            let index = record.index;
            let entry = from_record(record)
                .map_err(|error| RecoveryError::Mismatch(format!("entry {index} of the log: {error}")))?;
            entries.push(entry);
        }
    } else if log_start.index > last_included.index {
        let why = format!("the log begins after {log_start}, the checkpoint ends at {last_included}");
        return Err(RecoveryError::Mismatch(why));
    } else {
        // The checkpoint may have become durable before the term in which it arrived did. Nothing was said
        // in that term, so nobody was voted for.
        if hard_state.current_term < last_included.term {
            hard_state = HardState { current_term: last_included.term, voted_for: None };
            let record = tenure_wal::HardState { current_term: hard_state.current_term.0, voted_for: None };
            wal.append(Some(record), &[])?;
        }
        wal.reset(position(last_included))?;
        log_start = last_included;
    }
    let mut weight = LogWeight::new(log_start.index.0, options.log_mark_bytes());
    wal.runs(last_included.index.0).for_each(|run| weight.add(run.last_index, run.bytes));
    let restored = Restored { hard_state, snapshot, log_start, unread, entries };
    let replica = Replica::new(identity, options, seed, restored, weight, store, now);
    Ok(Started { replica, log: LogWorker::new(wal), checkpoints, torn_tail: recovered.torn_tail })
}

/// The first entry of each term in the part of the log that the checkpoint holds.
fn terms_through<D: Disk>(wal: &Wal<D>, last_included: EntryId) -> Vec<EntryId> {
    let mut firsts: Vec<EntryId> = wal.runs(last_included.index.0).map(|run| entry_id(run.first)).collect();
    firsts.dedup_by_key(|first| first.term);
    firsts
}

//! What can go wrong outside the program: the one error type of this crate.
//!
//! Bugs of the caller (a hole in the log, a term that goes backwards) are not here: they panic, naming
//! the rule that was broken.

use std::io;
use std::path::PathBuf;

/// A fault of the disk, or a request that the log cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Bytes that were synced are not what was written. Nothing was changed on the disk.
    #[error(
        "{} is damaged at byte {offset}: {why}. Nothing was changed. This member cannot vouch for what it \
         acknowledged, so it must not start from this log: move its data directory away, remove the member \
         from the cluster and add it as a new one, and it will be sent the state by its peers", segment.display()
    )]
    Corrupt {
        /// The file.
        segment: PathBuf,
        /// Where the first damaged record (or header) begins.
        offset: u64,
        /// How it was noticed.
        why: String,
    },
    /// The log was written by a version of the program that knows a newer format.
    #[error(
        "{} has log format version {found}, and this program knows none newer than {supported}: start the \
         version of Tenure that wrote it, or a later one", segment.display()
    )]
    UnsupportedVersion {
        /// The file.
        segment: PathBuf,
        /// The version in its header.
        found: u32,
        /// The newest version known here.
        supported: u32,
    },
    /// An operation on the disk failed. If it was a write or a sync, the log is poisoned from now on.
    #[error("cannot {op} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        op: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system answered.
        r#source: io::Error,
    },
    /// There is no room for the next segment, or too many files are open. Nothing was written and nothing is lost: the same call
    /// may be made again when there is room.
    #[error(
        "no room for the next log segment {} of {needed_bytes} bytes ({source}): free some space on its volume",
        path.display()
    )]
    NoSpace {
        /// The file that could not be allocated.
        path: PathBuf,
        /// How long it had to become.
        needed_bytes: u64,
        /// What the system answered.
        r#source: io::Error,
    },
    /// Another process holds the directory.
    #[error("{} is in use by another process: two processes must never write to one log", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// One batch is larger than a record may be. Nothing was written.
    #[error("a batch of {bytes} bytes is more than the {limit_bytes} that one record of the log may hold")]
    BatchTooLarge {
        /// Its encoded size.
        bytes: u64,
        /// The limit, [`MAX_BATCH_BYTES`](crate::MAX_BATCH_BYTES).
        limit_bytes: u64,
    },
    /// Some of the entries asked for have been compacted away or were never there.
    #[error("the log holds entries {first_index} to {last_index} only")]
    NotInLog {
        /// The first entry that there is.
        first_index: u64,
        /// The last entry that there is.
        last_index: u64,
    },
    /// An earlier write or sync failed. What is on the disk is unknown until the log is opened anew.
    #[error("an earlier write or sync of the log failed, which is final: the member must stop")]
    Poisoned,
}

impl WalError {
    /// Whether the state of the disk is unknown after this error, so that nothing more may be written.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Io { .. } | Self::Corrupt { .. } | Self::UnsupportedVersion { .. } | Self::Poisoned => true,
            Self::NoSpace { .. }
            | Self::InUse { .. }
            | Self::BatchTooLarge { .. }
            | Self::NotInLog { .. } => false,
        }
    }
}

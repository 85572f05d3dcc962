//! The durable log of one member: entries and hard state, in recycled segments on a small disk.
//!
//! It knows indexes, terms, opaque data and the hard state. It does *not* know roles, messages, commit
//! indexes or snapshots, has no clock, thread or randomness, and starts nothing by itself: the caller
//! decides when to sync and when to compact. Two disks stand under it: [`RealDisk`], and [`MemoryDisk`],
//! which loses, tears and fails on command.
//!
//! The bytes are described in `docs/log-format.md`, what a torn tail is in ADR 4, why a failed sync is
//! final in ADR 5.
//!
//! ```
//! use tenure_wal::{HardState, MemoryDisk, Options, Record, Wal};
//!
//! let disk = MemoryDisk::new();
//! let (mut wal, recovered) = Wal::open(disk.clone(), Options::default())?;
//! assert!(recovered.entries.is_empty());
//!
//! let hard_state = HardState { current_term: 1, voted_for: None };
//! let entry = Record { index: 1, term: 1, kind: 0, data: "a command".into() };
//! wal.append(Some(hard_state), &[entry.clone()])?; // one write…
//! wal.sync()?; // …and one sync: now it may be acknowledged
//!
//! let (_, recovered) = Wal::open(disk, Options::default())?;
//! assert_eq!(recovered.entries, [entry]);
//! assert_eq!(recovered.hard_state, Some(hard_state));
//! # Ok::<(), tenure_wal::WalError>(())
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod disk;
mod error;
mod format;
mod index;
mod memory_disk;
mod reader;
mod real_disk;
mod recovery;
mod replay;
mod segments;
mod types;
mod wal;

pub use disk::{Disk, DiskFile, is_full, lacks_room};
pub use error::WalError;
pub use format::{FORMAT_VERSION, MAX_BATCH_BYTES};
pub use memory_disk::{Crash, Fault, FaultKind, MemoryDisk, MemoryFile, Operation, SECTOR_BYTES};
pub use real_disk::{RealDisk, RealFile};
pub use types::{HardState, Options, Position, Record, Recovered, Run, TornTail};
pub use wal::Wal;

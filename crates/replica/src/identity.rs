//! Who a data directory belongs to.
//!
//! The file `identity` says who is started from the directory: it is made once, and believed at every start. A
//! directory of a later format is refused here. The random `directory_id` tells
//! a member that comes back from one that lost its disk: peers pin it, and ignore votes and
//! acknowledgements under a known member id from another directory (see [`crate::peers`]).
//!
//! ```text
//! offset  size  what
//!      0     8  "TENUREID"
//!      8     4  format version, little endian
//!     12     8  cluster id
//!     20     8  member id
//!     28     8  directory id
//!     36     8  boot: how often this directory was started
//!     44     4  CRC32C of the bytes before
//! ```

use std::io;
use std::path::PathBuf;

use tenure_raft::NodeId;
use tenure_wal::{Disk, DiskFile};

use crate::beginning::{self, Beginning};
use crate::first_configuration;
use crate::small_files::{ROOM_FILE, replace_file};

const FILE: &str = "identity";
const TEMPORARY_FILE: &str = "identity.new";
const MAGIC: &[u8; 8] = b"TENUREID";
const FORMAT_VERSION: u32 = 1;
const LEN_BYTES: usize = 48;

/// What a data directory says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The cluster it belongs to.
    pub cluster_id: u64,
    /// The member it belongs to.
    pub member_id: NodeId,
    /// Drawn at random when the directory was made.
    pub directory_id: u64,
    /// Counts the starts from this directory. What one start said is never mistaken for what another says.
    pub boot: u64,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It was written by a later version of the program.
    #[error(
        "{path} has format version {found}; this program knows version {FORMAT_VERSION}: use a newer one"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// It is damaged.
    #[error(
        "{path} is damaged: this member no longer knows who it is. Remove it from the cluster, empty its data \
         directory and add it again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// There is data, but nothing that says whose.
    #[error("{path} is missing, but the data directory is not empty: it is not a data directory of Tenure")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The disk failed.
    #[error("cannot read or write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        r#source: io::Error,
    },
}

/// Takes a directory into use and counts the start. One that is empty becomes that of `member_id` of `cluster_id`,
/// with `new_directory_id`; any other stays whose it is, whatever was asked for: what was written when it was made is
/// truer than what flags say by now. Durable when it returns.
pub fn claim<D: Disk>(
    disk: &D,
    cluster_id: u64,
    member_id: NodeId,
    new_directory_id: u64,
) -> Result<Identity, IdentityError> {
    let path = disk.path_of(FILE);
    let io = |source| IdentityError::Io { path: disk.path_of(FILE), source };
    let names = disk.list().map_err(io)?;
    let identity = if exists(&names) {
        let found = read(disk)?;
        Identity { boot: found.boot + 1, ..found }
    } else if names.iter().all(|name| is_before_identity(name)) {
        Identity { cluster_id, member_id, directory_id: new_directory_id, boot: 1 }
    } else {
        return Err(IdentityError::Missing { path });
    };
    write(disk, &identity).map_err(io)?;
    Ok(identity)
}

/// What may be in a directory that has no identity yet.
fn is_before_identity(name: &str) -> bool {
    let before = [Beginning::FILE, beginning::TEMPORARY_FILE, first_configuration::FILE, ROOM_FILE];
    before.contains(&name) || [TEMPORARY_FILE, "lock", first_configuration::TEMPORARY_FILE].contains(&name)
}

/// Whether one of these files is an identity.
pub fn exists(names: &[String]) -> bool {
    names.iter().any(|name| name == FILE)
}

/// Reads the identity of a directory that has one.
pub fn read<D: Disk>(disk: &D) -> Result<Identity, IdentityError> {
    let path = disk.path_of(FILE);
    let io = |source| IdentityError::Io { path: disk.path_of(FILE), source };
    let mut bytes = [0; LEN_BYTES];
    let file = disk.open(FILE).map_err(io)?;
    let mut filled = 0;
    while filled < LEN_BYTES {
        match file.read_at(filled as u64, &mut bytes[filled..]).map_err(io)? {
            0 => return Err(IdentityError::Damaged { path }),
            count => filled += count,
        }
    }
    decode(&bytes, path)
}

fn decode(bytes: &[u8; LEN_BYTES], path: PathBuf) -> Result<Identity, IdentityError> {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    if &bytes[..8] != MAGIC {
        return Err(IdentityError::Damaged { path });
    }
    if half(8) != FORMAT_VERSION {
        return Err(IdentityError::Version { path, found: half(8) });
    }
    let (Some(member_id), true) = (NodeId::new(word(20)), half(44) == crc32c::crc32c(&bytes[..44])) else {
        return Err(IdentityError::Damaged { path });
    };
    Ok(Identity { cluster_id: word(12), member_id, directory_id: word(28), boot: word(36) })
}

/// Written beside and renamed, so that a crash leaves the old one or the new one.
fn write<D: Disk>(disk: &D, identity: &Identity) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(LEN_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    for word in [identity.cluster_id, identity.member_id.as_u64(), identity.directory_id, identity.boot] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    replace_file(disk, FILE, TEMPORARY_FILE, &bytes)
}

#[cfg(test)]
mod tests;

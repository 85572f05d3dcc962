//! Which data directory each peer was met with.
//!
//! A member whose disk was emptied would come back without the entries it acknowledged and without the vote
//! it gave: it must not count as the member it was. So whoever meets a peer for the first time pins the
//! random id of its data directory, durably, before it hears anything else from it; from then on the same
//! member id with another directory is turned away. docs/adr/0007-wiped-disk.md says what window is left.
//!
//! The file `peers` holds the pins, 16 bytes each (member id, directory id, little endian), and a CRC32C.

use std::collections::BTreeMap;
use std::io;

use tenure_raft::NodeId;
use tenure_wal::{Disk, DiskFile};

use crate::small_files::replace_file;

const FILE: &str = "peers";
const TEMPORARY_FILE: &str = "peers.new";
const PIN_BYTES: usize = 16;
/// More members than any cluster has.
const MAX_PINS: usize = 1024;

/// A peer that is not the one it claims to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "member {member:x} was known with data directory {pinned:x} and comes with {found:x}: its disk was emptied or \
     replaced, so it no longer holds what it acknowledged. Remove it from the cluster and add it again"
)]
pub struct DirectoryChanged {
    /// The member.
    pub member: u64,
    /// The directory it was met with first.
    pub pinned: u64,
    /// The directory it comes with now.
    pub found: u64,
}

/// The pins of one member.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PinnedPeers {
    directories: BTreeMap<NodeId, u64>,
}

impl PinnedPeers {
    /// Reads the pins; a directory without any has met nobody.
    pub fn load<D: Disk>(disk: &D) -> io::Result<PinnedPeers> {
        if !disk.list()?.iter().any(|name| name == FILE) {
            return Ok(PinnedPeers::default());
        }
        let file = disk.open(FILE)?;
        let len = file.len_bytes()? as usize;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the file of pinned peers is damaged");
        if len % PIN_BYTES != 4 || len > MAX_PINS * PIN_BYTES + 4 {
            return Err(damaged());
        }
        let mut bytes = vec![0; len];
        if file.read_at(0, &mut bytes)? != len {
            return Err(damaged());
        }
        let (pins, checksum) = bytes.split_at(len - 4);
        if crc32c::crc32c(pins).to_le_bytes() != checksum {
            return Err(damaged());
        }
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let directories = pins
            .chunks_exact(PIN_BYTES)
            .map(|pin| Some((NodeId::new(word(&pin[..8]))?, word(&pin[8..]))))
            .collect::<Option<_>>()
            .ok_or_else(damaged)?;
        Ok(PinnedPeers { directories })
    }

    /// Whether `member` may speak from `directory_id`: it was pinned to it, or has never been met.
    pub fn check(&self, member: NodeId, directory_id: u64) -> Result<(), DirectoryChanged> {
        match self.directories.get(&member) {
            Some(&pinned) if pinned != directory_id => {
                Err(DirectoryChanged { member: member.as_u64(), pinned, found: directory_id })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Drops the pins of members that are gone; durable when it returns.
    pub fn forget<D: Disk>(&mut self, disk: &D, is_gone: impl Fn(NodeId) -> bool) -> io::Result<()> {
        let mut directories = self.directories.clone();
        directories.retain(|&member, _| !is_gone(member));
        if directories.len() < self.directories.len() {
            self.replace(disk, directories)?;
        }
        Ok(())
    }

    /// Pins a member that passed [`PinnedPeers::check`]; durable when it returns.
    pub fn pin<D: Disk>(&mut self, disk: &D, member: NodeId, directory_id: u64) -> io::Result<()> {
        if self.directories.get(&member) == Some(&directory_id) {
            return Ok(());
        }
        if self.directories.len() >= MAX_PINS {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "more peers than a cluster can have"));
        }
        let mut directories = self.directories.clone();
        directories.insert(member, directory_id);
        self.replace(disk, directories)
    }

    fn replace<D: Disk>(&mut self, disk: &D, directories: BTreeMap<NodeId, u64>) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(directories.len() * PIN_BYTES + 4);
        for (member, directory_id) in &directories {
            bytes.extend_from_slice(&member.as_u64().to_le_bytes());
            bytes.extend_from_slice(&directory_id.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        replace_file(disk, FILE, TEMPORARY_FILE, &bytes)?;
        self.directories = directories;
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! As whom each peer was met: with which data directory, and what it had by then.
//!
//! A member whose disk was emptied would come back without the entries it acknowledged and without the vote
//! it gave: it must not count as the member it was. So whoever meets a peer for the first time pins the
//! random id of its data directory, durably, before it hears anything else from it; from then on the same
//! member id with another directory is turned away. docs/adr/0007-wiped-disk.md says what window is left.
//!
//! A directory that was put back to an older copy has the right id. It tells by what the member had: a start has a
//! number that no other start has, and begins with a term and a log that reach as far as what the member acknowledged
//! before. Whoever knows more turns it away as well (docs/adr/0016-an-older-copy.md). That is noted now and then, and on
//! no write's way.
//!
//! The file `peers` holds "TENUREPE", the format's version (4 bytes, little endian), the pins, 48 bytes each, and a
//! CRC32C. See docs/data-directory.md.

use std::collections::BTreeMap;
use std::io;

use tenure_raft::{EntryId, Index, NodeId, Term};
use tenure_wal::{Disk, DiskFile};

use crate::small_files::replace_file;

const FILE: &str = "peers";
const TEMPORARY_FILE: &str = "peers.new";
const MAGIC: &[u8; 8] = b"TENUREPE";
const FORMAT_VERSION: u32 = 2;
const HEAD_BYTES: usize = 12;
const PIN_BYTES: usize = 48;
/// Of version 1.
const FIRST_PIN_BYTES: usize = 16;
/// More members than any cluster has.
const MAX_PINS: usize = 1024;

/// What a member says of the start that it is in.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Standing {
    /// The number of the start. Zero is none: the member does not say.
    pub boot: u64,
    /// Drawn at random for this start, and written down nowhere in the directory: two starts of the same number are two
    /// copies of it.
    pub start_id: u64,
    /// The term, and the last index, that it began with.
    pub began: EntryId,
}

/// A peer that is not the one it claims to be, or no longer what it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotTheSame {
    /// Another directory.
    #[error(
        "member {member:x} was known with data directory {pinned:x} and comes with {found:x}: its disk was emptied or \
         replaced, so it no longer holds what it acknowledged. Remove it from the cluster and add it again"
    )]
    Directory {
        /// The member.
        member: u64,
        /// The directory it was met with first.
        pinned: u64,
        /// The directory it comes with now.
        found: u64,
    },
    /// An earlier start.
    #[error(
        "member {member:x} was met in its start number {met} and comes with number {found}: its data directory was put \
         back to an older copy, so it no longer holds what it acknowledged. Remove it from the cluster and add it again"
    )]
    Start {
        /// The member.
        member: u64,
        /// The latest start that it was met in.
        met: u64,
        /// The one it comes with now.
        found: u64,
    },
    /// Another start of the same number.
    #[error(
        "member {member:x} was met in its start number {boot} and comes with another start of that number: its data \
         directory was put back to an older copy, or there are two of it, so it may not hold what it acknowledged. Remove \
         it from the cluster and add it again"
    )]
    Twice {
        /// The member.
        member: u64,
        /// The number of both starts.
        boot: u64,
    },
    /// Less than it had.
    #[error(
        "member {member:x} had acknowledged index {} in term {} and began its start number {boot} with index {} in term \
         {}: its data directory was put back to an older copy, so it no longer holds what it acknowledged. Remove it from \
         the cluster and add it again", had.index.0, had.term.0, found.index.0, found.term.0
    )]
    Log {
        /// The member.
        member: u64,
        /// Its start.
        boot: u64,
        /// What it acknowledged, and in which term.
        had: EntryId,
        /// What it began with.
        found: EntryId,
    },
}

/// What is known of one peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Pin {
    directory_id: u64,
    /// The latest start that it was met in.
    boot: u64,
    start_id: u64,
    /// The latest term in which it is known to have acknowledged anything, and the index up to which it did.
    acknowledged: EntryId,
}

/// The pins of one member.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PinnedPeers {
    pins: BTreeMap<NodeId, Pin>,
    /// Something was noted that is not on the disk yet.
    is_dirty: bool,
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
        if !(4..=HEAD_BYTES + MAX_PINS * PIN_BYTES + 4).contains(&len) {
            return Err(damaged());
        }
        let mut bytes = vec![0; len];
        if file.read_at(0, &mut bytes)? != len {
            return Err(damaged());
        }
        let (body, checksum) = bytes.split_at(len - 4);
        if crc32c::crc32c(body).to_le_bytes() != checksum {
            return Err(damaged());
        }
        let pins = decode_all(body).ok_or_else(damaged)?;
        Ok(PinnedPeers { pins, is_dirty: false })
    }

    /// Whether `member` may speak from `directory_id`, in the start that it tells of: it was pinned to it and has lost
    /// nothing, or has never been met.
    pub fn check(&self, member: NodeId, directory_id: u64, standing: Standing) -> Result<(), NotTheSame> {
        let Some(pin) = self.pins.get(&member) else { return Ok(()) };
        let member = member.as_u64();
        let Standing { boot, start_id, began } = standing;
        if pin.directory_id != directory_id {
            return Err(NotTheSame::Directory { member, pinned: pin.directory_id, found: directory_id });
        }
        if boot == 0 {
            return Ok(());
        }
        if boot < pin.boot {
            return Err(NotTheSame::Start { member, met: pin.boot, found: boot });
        }
        if boot == pin.boot && start_id != pin.start_id {
            return Err(NotTheSame::Twice { member, boot });
        }
        // In a later term an entry that was acknowledged may have been cut off, rightly.
        let had = pin.acknowledged;
        if boot > pin.boot && (began.term, began.index) < (had.term, had.index) && began.term <= had.term {
            return Err(NotTheSame::Log { member, boot, had, found: began });
        }
        Ok(())
    }

    /// Whether a member has been met, in this start or a later one.
    pub fn has_met(&self, member: NodeId, boot: u64) -> bool {
        self.pins.get(&member).is_some_and(|pin| pin.boot >= boot)
    }

    /// Whether a member has been met.
    pub fn is_pinned(&self, member: NodeId) -> bool {
        self.pins.contains_key(&member)
    }

    /// Drops the pins of members that are gone; durable when it returns.
    pub fn forget<D: Disk>(&mut self, disk: &D, is_gone: impl Fn(NodeId) -> bool) -> io::Result<()> {
        let mut pins = self.pins.clone();
        pins.retain(|&member, _| !is_gone(member));
        if pins.len() < self.pins.len() {
            self.replace(disk, pins)?;
        }
        Ok(())
    }

    /// Pins a member that passed [`PinnedPeers::check`]; the directory is durable when it returns, the start with the
    /// next [`PinnedPeers::save`].
    pub fn pin<D: Disk>(
        &mut self,
        disk: &D,
        member: NodeId,
        directory_id: u64,
        standing: Standing,
    ) -> io::Result<()> {
        if let Some(pin) = self.pins.get_mut(&member).filter(|pin| pin.directory_id == directory_id) {
            if standing.boot > pin.boot {
                (pin.boot, pin.start_id) = (standing.boot, standing.start_id);
                self.is_dirty = true;
            }
            return Ok(());
        }
        if self.pins.len() >= MAX_PINS {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "more peers than a cluster can have"));
        }
        let mut pins = self.pins.clone();
        let Standing { boot, start_id, .. } = standing;
        pins.insert(member, Pin { directory_id, boot, start_id, acknowledged: EntryId::ZERO });
        self.replace(disk, pins)
    }

    /// Notes up to where a member has acknowledged the log in a term; durable with the next [`PinnedPeers::save`].
    pub fn note(&mut self, member: NodeId, acknowledged: EntryId) {
        let Some(pin) = self.pins.get_mut(&member) else { return };
        let key = |id: EntryId| (id.term, id.index);
        if key(acknowledged) > key(pin.acknowledged) {
            pin.acknowledged = acknowledged;
            self.is_dirty = true;
        }
    }

    /// Makes durable what was noted.
    pub fn save<D: Disk>(&mut self, disk: &D) -> io::Result<()> {
        if self.is_dirty { self.replace(disk, self.pins.clone()) } else { Ok(()) }
    }

    fn replace<D: Disk>(&mut self, disk: &D, pins: BTreeMap<NodeId, Pin>) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        for (member, pin) in &pins {
            let Pin { directory_id, boot, start_id, acknowledged: EntryId { term, index } } = *pin;
            for word in [member.as_u64(), directory_id, boot, start_id, term.0, index.0] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
        }
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        replace_file(disk, FILE, TEMPORARY_FILE, &bytes)?;
        (self.pins, self.is_dirty) = (pins, false);
        Ok(())
    }
}

fn decode_all(body: &[u8]) -> Option<BTreeMap<NodeId, Pin>> {
    let Some(rest) = body.strip_prefix(MAGIC) else {
        // Version 1 had no head, and nothing but the two ids.
        let pins = body.chunks_exact(FIRST_PIN_BYTES);
        let is_whole = pins.remainder().is_empty();
        return pins.map(decode_first).collect::<Option<_>>().filter(|_| is_whole);
    };
    let pins = rest.strip_prefix(&FORMAT_VERSION.to_le_bytes())?.chunks_exact(PIN_BYTES);
    let is_whole = pins.remainder().is_empty();
    pins.map(decode).collect::<Option<_>>().filter(|_| is_whole)
}

fn decode_first(bytes: &[u8]) -> Option<(NodeId, Pin)> {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let pin = Pin { directory_id: word(8), boot: 0, start_id: 0, acknowledged: EntryId::ZERO };
    Some((NodeId::new(word(0))?, pin))
}

fn decode(bytes: &[u8]) -> Option<(NodeId, Pin)> {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let acknowledged = EntryId { term: Term(word(32)), index: Index(word(40)) };
    let pin = Pin { directory_id: word(8), boot: word(16), start_id: word(24), acknowledged };
    Some((NodeId::new(word(0))?, pin))
}

#[cfg(test)]
mod tests;

//! A hash of the whole state that costs next to nothing to keep.
//!
//! The hash of a set of records is the sum of the hashes of its members, so that adding or removing one
//! is an addition or a subtraction. It guards against bugs and bad memory, not against someone who makes up
//! records to collide: for that it has no secret. It must never depend on the version of a library or of the
//! compiler, because members of different builds compare it; hence our own few lines.

use std::fmt;

use crate::Member;
use crate::record::{Change, Revision};

/// Equal on all members that have applied the same entries.
///
/// It covers the present keys, the history that a client can still read, the revision, the compaction
/// revision, the members and who was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StateHash(pub u64);

impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Folds words and byte strings into 64 bits.
#[derive(Clone, Copy)]
pub(crate) struct Hasher(u64);

/// 2^64 divided by the golden ratio, made odd: its multiples spread evenly.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher {
    /// `domain` keeps the hashes of different kinds of things apart.
    pub(crate) fn new(domain: u64) -> Self {
        Self(MULTIPLIER).word(domain)
    }

    /// Multiplies to 128 bits and folds the halves, so that every input bit reaches every output bit.
    #[must_use]
    pub(crate) fn word(self, word: u64) -> Self {
        let product = u128::from(self.0 ^ word) * u128::from(MULTIPLIER);
        // The rotation keeps the state from sticking at zero, which the product alone would do.
        Self((product as u64 ^ (product >> 64) as u64).rotate_left(23).wrapping_add(MULTIPLIER))
    }

    #[must_use]
    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        let mut hasher = self.word(bytes.len() as u64);
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            hasher = hasher.word(u64::from_le_bytes(word.try_into().expect("a chunk has 8 bytes")));
        }
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        hasher.word(u64::from_le_bytes(last))
    }

    pub(crate) fn finish(self) -> u64 {
        self.word(0).0
    }
}

const PUT_DOMAIN: u64 = 1;
const DELETE_DOMAIN: u64 = 2;
const MEMBER_DOMAIN: u64 = 3;
const REMOVED_DOMAIN: u64 = 5;
pub(crate) const STATE_DOMAIN: u64 = 4;

pub(crate) fn of_record(revision: Revision, key: &[u8], change: &Change) -> u64 {
    let place =
        |domain| Hasher::new(domain).word(revision.main as u64).word(u64::from(revision.sub)).bytes(key);
    match change {
        Change::Put { create_revision, version, lease, value } => place(PUT_DOMAIN)
            .word(*create_revision as u64)
            .word(*version as u64)
            .word(*lease as u64)
            .bytes(value)
            .finish(),
        Change::Delete => place(DELETE_DOMAIN).finish(),
    }
}

/// In the order of their removal, which says who is forgotten first. Nothing, where nobody was removed.
pub(crate) fn of_removed_members(ids: &[u64]) -> u64 {
    if ids.is_empty() {
        return 0;
    }
    ids.iter().fold(Hasher::new(REMOVED_DOMAIN), |hasher, &id| hasher.word(id)).finish()
}

pub(crate) fn of_member(member: &Member) -> u64 {
    let mut hasher = Hasher::new(MEMBER_DOMAIN)
        .word(member.id)
        .word(u64::from(member.directory_id.is_some()))
        .word(member.directory_id.unwrap_or(0))
        .bytes(member.name.as_bytes());
    for urls in [&member.peer_urls, &member.client_urls] {
        hasher = hasher.word(urls.len() as u64);
        for url in urls {
            hasher = hasher.bytes(url.as_bytes());
        }
    }
    hasher.finish()
}

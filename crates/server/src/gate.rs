//! Who may speak at the peer port: members of this cluster, from the data directory they were met with.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, PoisonError};

use tenure_api::peer::{Handshake, HandshakeRefusal, HandshakeReply, Lane, PROTOCOL_VERSION};
use tenure_raft::NodeId;
use tenure_replica::Identity;
use tenure_replica::peers::{DirectoryChanged, PinnedPeers};
use tenure_wal::RealDisk;

/// Checks handshakes. Not on the path of any message after the first.
pub(crate) struct Gate {
    identity: Identity,
    peers: BTreeSet<NodeId>,
    known: Mutex<Known>,
}

/// Why a peer is not let in. The second is no fault of its own: it must not be told that it lost its disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeetError {
    /// It is not the one that was met under this id.
    #[error(transparent)]
    Changed(#[from] DirectoryChanged),
    /// Our own disk failed, which is final (docs/adr/0005-failed-fsync-is-final.md).
    #[error("a peer's data directory cannot be written down: {0}")]
    Disk(#[from] io::Error),
}

struct Known {
    disk: RealDisk,
    pins: PinnedPeers,
    /// Who no longer knows our data directory.
    disowned_by: BTreeSet<NodeId>,
}

impl Gate {
    /// A gate for the peers of the member of `identity`; `disk` keeps the pins.
    pub(crate) fn new(
        identity: Identity,
        peers: BTreeSet<NodeId>,
        disk: RealDisk,
        pins: PinnedPeers,
    ) -> Gate {
        let known = Mutex::new(Known { disk, pins, disowned_by: BTreeSet::new() });
        Gate { identity, peers, known }
    }

    /// What we say to a peer first.
    pub(crate) fn handshake(&self, to: NodeId, lane: Lane) -> Handshake {
        Handshake {
            protocol_version: PROTOCOL_VERSION,
            cluster_id: self.identity.cluster_id,
            from: self.identity.member_id,
            to,
            directory_id: self.identity.directory_id,
            lane,
        }
    }

    /// What we say to who says this to us. An error is our own disk's.
    pub(crate) fn answer(&self, handshake: &Handshake) -> Result<HandshakeReply, MeetError> {
        let Identity { cluster_id, member_id, directory_id, .. } = self.identity;
        let refuse = |reason, detail| Ok(HandshakeReply::Refused { reason, detail });
        if handshake.protocol_version != PROTOCOL_VERSION {
            let theirs = handshake.protocol_version;
            let detail = format!("peer protocol version {theirs}, this member speaks {PROTOCOL_VERSION}");
            return refuse(HandshakeRefusal::ProtocolVersion, detail);
        }
        if handshake.cluster_id != cluster_id {
            let theirs = handshake.cluster_id;
            let detail = format!("cluster ID mismatch: {theirs:x} instead of {cluster_id:x}");
            return refuse(HandshakeRefusal::Cluster, detail);
        }
        if handshake.to != member_id {
            let theirs = handshake.to.as_u64();
            let detail = format!("this is member {:x}, not {theirs:x}", member_id.as_u64());
            return refuse(HandshakeRefusal::Member, detail);
        }
        if !self.peers.contains(&handshake.from) {
            let detail = format!("member {:x} is not in the cluster", handshake.from.as_u64());
            return refuse(HandshakeRefusal::UnknownSender, detail);
        }
        match self.meet(handshake.from, handshake.directory_id) {
            Ok(()) => Ok(HandshakeReply::Accepted { directory_id }),
            Err(MeetError::Changed(changed)) => refuse(HandshakeRefusal::Directory, changed.to_string()),
            Err(error @ MeetError::Disk(_)) => Err(error),
        }
    }

    /// A peer shows its data directory: it must be the one it was met with; the first one is pinned.
    /// Waits for the disk then, which happens once for each peer that there ever is.
    pub(crate) fn meet(&self, peer: NodeId, directory_id: u64) -> Result<(), MeetError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { disk, pins, .. } = &mut *known;
        pins.check(peer, directory_id)?;
        Ok(pins.pin(disk, peer, directory_id)?)
    }

    /// A peer refused us. Returns why this member must stop, if it must: most of the others know it with
    /// another data directory, so what it acknowledged is lost.
    pub(crate) fn on_refused(&self, peer: NodeId, reason: HandshakeRefusal, detail: &str) -> Option<String> {
        if reason != HandshakeRefusal::Directory {
            return None;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.disowned_by.insert(peer);
        let is_most = known.disowned_by.len() * 2 > self.peers.len();
        is_most.then(|| format!("the other members turned this one away: {detail}"))
    }
}

#[cfg(test)]
mod tests;

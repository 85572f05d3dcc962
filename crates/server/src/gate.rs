//! Who may speak at the peer port: members of this cluster, from the data directory they were met with.
//!
//! Who is no member *here* may be one already, or still, elsewhere: this member can be behind, and then it is by
//! hearing the others that it catches up (thesis §4.2.2). So only who was removed, by a configuration that is
//! committed and applied, is turned away; it is told, and stops.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tenure_api::peer::{Handshake, HandshakeRefusal, HandshakeReply, Lane, Members, PROTOCOL_VERSION};
use tenure_raft::{EntryId, NodeId};
use tenure_replica::Identity;
use tenure_replica::peers::{NotTheSame, Standing};
use tokio::sync::watch;

use crate::input::Stop;
use crate::pins::{PinError, Pins};
use crate::roster::Roster;

/// How long a member that was removed may go on listening and speaking: it is to hear of it, and to say farewell.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

/// Checks handshakes. Not on the path of any message after the first.
pub(crate) struct Gate {
    identity: Identity,
    /// What we say of this start.
    standing: Standing,
    /// What peers are told where this member is reached, as long as the cluster knows nothing else.
    own_peer_urls: Vec<String>,
    known: Mutex<Known>,
    pins: Pins,
    /// Who was removed, for those who wait for it.
    removed: watch::Sender<BTreeSet<NodeId>>,
}

struct Known {
    roster: Roster,
    /// Who no longer knows our data directory.
    disowned_by: BTreeSet<NodeId>,
}

impl Gate {
    /// A gate for the peers of the member of `identity`, which says this of its start.
    pub(crate) fn new(
        identity: Identity,
        standing: Standing,
        own_peer_urls: Vec<String>,
        roster: Roster,
        pins: Pins,
    ) -> Gate {
        let known = Mutex::new(Known { roster, disowned_by: BTreeSet::new() });
        Gate { identity, standing, own_peer_urls, known, pins, removed: watch::Sender::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The members are these now.
    pub(crate) fn update(&self, roster: Roster) {
        self.removed.send_if_modified(|removed| {
            let is_news = *removed != roster.removed;
            removed.clone_from(&roster.removed);
            is_news
        });
        self.pins.forget(&roster.removed);
        self.known().roster = roster;
    }

    /// Notes up to where others have acknowledged the log. Waits for nothing.
    pub(crate) fn note(&self, acknowledged: Vec<(NodeId, EntryId)>) {
        self.pins.note(acknowledged);
    }

    /// Has it looked at once whether the data directory is still ours.
    pub(crate) fn look(&self) {
        self.pins.look();
    }

    /// Whether somebody is a member, as far as is known here.
    pub(crate) fn is_member(&self, id: NodeId) -> bool {
        self.known().roster.members.contains_key(&id)
    }

    /// Whether a member was removed.
    pub(crate) fn is_removed(&self, member: NodeId) -> bool {
        self.known().roster.removed.contains(&member)
    }

    /// Resolves when a member has been removed.
    pub(crate) async fn removed(&self, member: NodeId) {
        // The sender is part of this gate.
        let _ = self.removed.subscribe().wait_for(|removed| removed.contains(&member)).await;
    }

    /// What a server that is about to join is told.
    pub(crate) fn members(&self) -> Members {
        self.known().roster.answer(self.identity.cluster_id)
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
            peer_urls: self.peer_urls(),
            standing: self.standing,
        }
    }

    /// Where this member is reached: what the cluster knows is newer than any flag.
    fn peer_urls(&self) -> Vec<String> {
        let known = self.known();
        let own = known.roster.members.get(&self.identity.member_id);
        own.filter(|own| !own.peer_urls.is_empty())
            .map_or_else(|| self.own_peer_urls.clone(), |own| own.peer_urls.clone())
    }

    /// What we say to who says this to us. An error is our own disk's.
    pub(crate) async fn answer(&self, handshake: &Handshake) -> Result<HandshakeReply, PinError> {
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
        if self.is_removed(handshake.from) {
            let detail = format!("member {:x} was removed from the cluster", handshake.from.as_u64());
            return refuse(HandshakeRefusal::Removed, detail);
        }
        match self.meet(handshake.from, handshake.directory_id, handshake.standing).await {
            Ok(()) => Ok(HandshakeReply::Accepted { directory_id, standing: self.standing }),
            Err(PinError::Changed(changed)) => {
                let reason = match changed {
                    NotTheSame::Directory { .. } => HandshakeRefusal::Directory,
                    NotTheSame::Start { .. } | NotTheSame::Twice { .. } | NotTheSame::Log { .. } => {
                        HandshakeRefusal::PutBack
                    }
                };
                refuse(reason, changed.to_string())
            }
            Err(error @ (PinError::Disk(_) | PinError::NoRoom(_))) => Err(error),
        }
    }

    /// A peer shows its data directory: it must be the one it was met with; the first one is pinned.
    /// Waits for the disk then, which happens once for each peer that there ever is.
    pub(crate) async fn meet(
        &self,
        peer: NodeId,
        directory_id: u64,
        standing: Standing,
    ) -> Result<(), PinError> {
        self.pins.check(peer, directory_id, standing)?;
        let published = match self.known().roster.members.get(&peer) {
            // A stranger must not fill the file; once it is known to be a member it will be pinned.
            None => return Ok(()),
            Some(member) => member.directory_id,
        };
        if let Some(pinned) = published.filter(|&pinned| pinned != directory_id) {
            // The others have met it, and it has said so in the log.
            let (member, found) = (peer.as_u64(), directory_id);
            return Err(NotTheSame::Directory { member, pinned, found }.into());
        }
        self.pins.pin(peer, directory_id, standing).await
    }

    /// A peer refused us. Returns why this member must stop, if it must; what a stranger says is no reason: most of the others know it with
    /// another data directory, so what it acknowledged is lost.
    pub(crate) fn on_refused(&self, peer: NodeId, reason: HandshakeRefusal, detail: &str) -> Option<Stop> {
        if !self.is_member(peer) {
            return None;
        }
        match reason {
            // One that knows is enough: it has applied it, so it is committed.
            HandshakeRefusal::Removed => Some(Stop::Removed),
            // So it is here: it has seen what is gone.
            HandshakeRefusal::PutBack => {
                Some(Stop::Failed(format!("another member turned this one away: {detail}")))
            }
            HandshakeRefusal::Directory => {
                let mut known = self.known();
                known.disowned_by.insert(peer);
                let peers = known.roster.members.keys().filter(|&&id| id != self.identity.member_id).count();
                let is_most = known.disowned_by.len() * 2 > peers;
                is_most.then(|| Stop::Failed(format!("the other members turned this one away: {detail}")))
            }
            HandshakeRefusal::ProtocolVersion | HandshakeRefusal::Cluster | HandshakeRefusal::Member => None,
        }
    }
}

#[cfg(test)]
mod tests;

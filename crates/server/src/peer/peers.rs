//! Whom this member speaks to: the queues to all peers, and where each is reached.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tenure_api::peer::Lane;
use tenure_raft::{NodeId, Time};
use tenure_replica::{LaneBounds, PeerMessage};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::queue::{Entrance, queue};
use super::sender::Sender;
use crate::gate::Gate;
use crate::input::Input;
use crate::roster::Roster;
use crate::url::Url;

/// How many peers are remembered for what only they say: where they are reached.
const MAX_SAID: usize = 16;

/// The senders to all peers, and the queues of what they have to send.
pub(crate) struct Peers {
    gate: Arc<Gate>,
    inputs: mpsc::Sender<Input>,
    known: BTreeMap<NodeId, Peer>,
    /// What peers say where they are reached, the newest last: they may know better, or be known to nobody else.
    said: VecDeque<(NodeId, Vec<Url>)>,
    /// End with this.
    tasks: JoinSet<()>,
}

/// One peer: its queues, and where it is reached.
struct Peer {
    urgent: Entrance,
    bulk: Entrance,
    urls: watch::Sender<Vec<Url>>,
}

impl Peers {
    pub(crate) fn new(gate: Arc<Gate>, inputs: mpsc::Sender<Input>) -> Peers {
        Peers { gate, inputs, known: BTreeMap::new(), said: VecDeque::new(), tasks: JoinSet::new() }
    }

    /// Puts a message into its queue, and gives it back if that is full, which consensus bears.
    pub(crate) fn send(&self, now: Time, to: NodeId, message: PeerMessage) -> Option<PeerMessage> {
        let lane = Lane::of(&message);
        let Some(peer) = self.known.get(&to) else { return Some(message) };
        let queue = match lane {
            Lane::Urgent => &peer.urgent,
            Lane::Bulk => &peer.bulk,
        };
        let refused = queue.push(now, message)?;
        tracing::debug!(peer = %to, ?lane, "the queue is full: a message is not sent");
        Some(refused)
    }

    /// A peer has said where it is reached.
    pub(crate) fn hear(&mut self, peer: NodeId, urls: Vec<Url>) {
        self.said.retain(|(known, _)| *known != peer);
        if self.said.len() == MAX_SAID {
            self.said.pop_front();
        }
        self.said.push_back((peer, urls));
    }

    /// Goes by what is known of the members now: some may have come, gone, or moved.
    pub(crate) fn update(&mut self, own_id: NodeId, roster: &Roster) {
        let mut wanted: BTreeMap<NodeId, Vec<Url>> = BTreeMap::new();
        for (&id, member) in &roster.members {
            wanted.insert(id, member.peer_urls.iter().filter_map(|url| url.parse().ok()).collect());
        }
        for (id, urls) in &self.said {
            let known = wanted.entry(*id).or_default();
            let new: Vec<Url> = urls.iter().filter(|url| !known.contains(url)).cloned().collect();
            known.extend(new);
        }
        wanted.retain(|id, urls| *id != own_id && !roster.removed.contains(id) && !urls.is_empty());
        // Whose queues are dropped is still sent what is in them.
        self.known.retain(|id, _| wanted.contains_key(id));
        for (id, urls) in wanted {
            let Some(peer) = self.known.get(&id) else {
                let peer = self.start(id, urls);
                self.known.insert(id, peer);
                continue;
            };
            peer.urls.send_if_modified(|known| {
                let has_moved = *known != urls;
                *known = urls;
                has_moved
            });
        }
    }

    fn start(&mut self, peer: NodeId, urls: Vec<Url>) -> Peer {
        let (urls, known_urls) = watch::channel(urls);
        let mut lane = |lane| {
            let (queue, messages) = queue(match lane {
                Lane::Urgent => LaneBounds::URGENT,
                Lane::Bulk => LaneBounds::BULK,
            });
            let (gate, inputs, urls) = (self.gate.clone(), self.inputs.clone(), known_urls.clone());
            self.tasks.spawn(Sender { peer, lane, urls, gate, inputs, messages }.run());
            queue
        };
        Peer { urgent: lane(Lane::Urgent), bulk: lane(Lane::Bulk), urls }
    }
}

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

/// How many peers that are no members here are answered where they say they are reached.
const MAX_GUESTS: usize = 4;
/// At how many addresses a peer is sought that only it has named.
const MAX_SAID_URLS: usize = 8;

/// The senders to all peers, and the queues of what they have to send.
pub(crate) struct Peers {
    gate: Arc<Gate>,
    inputs: mpsc::Sender<Input>,
    known: BTreeMap<NodeId, Peer>,
    /// The other members that are not removed, and where the cluster says they are reached.
    members: BTreeMap<NodeId, Vec<Url>>,
    /// Where members say they are reached: they may know better.
    said: BTreeMap<NodeId, Vec<Url>>,
    /// Who is heard though it is no member here, and where it says it is reached; the newest last.
    guests: VecDeque<(NodeId, Vec<Url>)>,
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
        Peers {
            gate,
            inputs,
            known: BTreeMap::new(),
            members: BTreeMap::new(),
            said: BTreeMap::new(),
            guests: VecDeque::new(),
            tasks: JoinSet::new(),
        }
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

    /// Whether there is a way to a peer.
    pub(crate) fn is_known(&self, peer: NodeId) -> bool {
        self.known.contains_key(&peer)
    }

    /// A peer has said where it is reached. Whoever is no member is not sought because it says so.
    pub(crate) fn hear(&mut self, peer: NodeId, urls: &[Url]) {
        let urls = first_of(urls);
        if self.members.contains_key(&peer) && self.said.get(&peer) != Some(&urls) {
            self.said.insert(peer, urls);
            self.seek();
        }
    }

    /// A peer is heard though it is no member here, and wants an answer.
    pub(crate) fn welcome(&mut self, peer: NodeId, urls: &[Url]) {
        if self.members.contains_key(&peer) {
            return self.hear(peer, urls);
        }
        self.guests.retain(|(known, _)| *known != peer);
        if self.guests.len() == MAX_GUESTS {
            self.guests.pop_front();
        }
        self.guests.push_back((peer, first_of(urls)));
        self.seek();
    }

    /// Goes by what is known of the members now: some may have come, gone, or moved.
    pub(crate) fn update(&mut self, own_id: NodeId, roster: &Roster) {
        let is_other = |id: &NodeId| *id != own_id && !roster.removed.contains(id);
        let urls = |urls: &[String]| urls.iter().filter_map(|url| url.parse().ok()).collect();
        let others = roster.members.iter().filter(|(id, _)| is_other(id));
        self.members = others.map(|(&id, member)| (id, urls(&member.peer_urls))).collect();
        let (members, guests) = std::mem::take(&mut self.guests)
            .into_iter()
            .filter(|(id, _)| is_other(id))
            .partition(|(id, _)| self.members.contains_key(id));
        self.guests = guests;
        let members: VecDeque<_> = members;
        self.said.extend(members);
        self.said.retain(|id, _| self.members.contains_key(id));
        self.seek();
    }

    /// Has a sender for everyone that is to be reached, and for nobody else.
    fn seek(&mut self) {
        let mut wanted = self.members.clone();
        for (id, urls) in self.said.iter().chain(self.guests.iter().map(|(id, urls)| (id, urls))) {
            let known = wanted.entry(*id).or_default();
            let new: Vec<Url> = urls.iter().filter(|url| !known.contains(url)).cloned().collect();
            known.extend(new);
        }
        wanted.retain(|_, urls| !urls.is_empty());
        // Whose queues are dropped is still sent what is in them.
        self.known.retain(|id, _| wanted.contains_key(id));
        // Those of peers that are gone have ended.
        while self.tasks.try_join_next().is_some() {}
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

fn first_of(urls: &[Url]) -> Vec<Url> {
    urls.iter().take(MAX_SAID_URLS).cloned().collect()
}

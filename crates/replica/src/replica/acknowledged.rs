//! Up to where each member has the log durably. The leader knows it, and tells all members now and then: so any of them
//! recognises who comes back with less, and a member recognises that it has lost something itself. It is on no write's
//! way. See docs/adr/0016-an-older-copy.md.

use std::collections::BTreeMap;

use tenure_raft::{EntryId, Index, NodeId, RoleKind, Time};

use super::Replica;
use crate::job::Job;
use crate::message::{Acknowledged, PeerMessage};

/// What leaders have said, and what was said as a leader.
#[derive(Default, Debug)]
pub(super) struct Acknowledgements {
    /// The latest term, and the last index in it, that each member is known to have had.
    heard: BTreeMap<NodeId, EntryId>,
    /// What was said last.
    said: Option<Acknowledged>,
    /// When it was last looked whether there is something to say.
    looked_at: Option<Time>,
    loss: Option<Loss>,
}

/// A member has less than it acknowledged: it must stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "this member acknowledged index {} in term {} and has the log up to index {}: its data directory was put back to an \
     older copy while it ran. Remove it from the cluster and add it again", had.index.0, had.term.0, has.0
)]
pub struct Loss {
    /// What it acknowledged, and in which term.
    pub had: EntryId,
    /// What it has.
    pub has: Index,
}

impl Acknowledgements {
    fn hear(&mut self, member: NodeId, had: EntryId) {
        let known = self.heard.entry(member).or_insert(EntryId::ZERO);
        if (known.term, known.index) < (had.term, had.index) {
            *known = had;
        }
    }
}

impl Replica {
    /// Up to where each of the others is known to have had the log, and in which term.
    pub fn acknowledged(&self) -> Vec<(NodeId, EntryId)> {
        let mut known = Acknowledgements { heard: self.acknowledgements.heard.clone(), ..Default::default() };
        let term = self.node.current_term();
        self.followers_indexes().for_each(|(id, index)| known.hear(id, EntryId { term, index }));
        let own_id = self.node.id();
        known.heard.into_iter().filter(|&(id, _)| id != own_id).collect()
    }

    /// Whether this member has less than it acknowledged.
    pub fn loss(&self) -> Option<Loss> {
        self.acknowledgements.loss
    }

    /// Who has not acknowledged anything yet need not have heard of the term.
    fn followers_indexes(&self) -> impl Iterator<Item = (NodeId, Index)> + '_ {
        self.node.match_indexes().filter(|(_, index)| index.0 > 0)
    }

    /// As a leader, tells all members what each of them has, if that is due and something has changed.
    pub(super) fn tell_acknowledged(&mut self) {
        if self.next_telling() > self.now {
            return;
        }
        self.acknowledgements.looked_at = Some(self.now);
        let own_id = self.node.id();
        let own = (own_id, self.durable().index);
        let members = self.followers_indexes().chain([own]).collect();
        let message = Acknowledged { term: self.node.current_term(), members };
        if self.acknowledgements.said.as_ref() == Some(&message) {
            return;
        }
        for to in self.node.configuration().members().filter(|&id| id != own_id) {
            let message = PeerMessage::Acknowledged(message.clone());
            self.jobs.push_back(Job::Send { to, message });
        }
        self.acknowledgements.said = Some(message);
    }

    /// When it is next looked whether there is something to say; never where somebody else leads.
    pub(super) fn next_telling(&self) -> Time {
        let interval_us = self.options.acknowledged_us;
        match self.acknowledgements.looked_at {
            _ if self.node.role() != RoleKind::Leader => Time::NEVER,
            Some(at) => at.after(interval_us),
            None => self.now,
        }
    }

    /// The leader says what each member has.
    pub(super) fn on_acknowledged(&mut self, from: NodeId, acknowledged: Acknowledged) {
        let Acknowledged { term, members } = acknowledged;
        let is_leader = self.node.leader_id() == Some(from) && self.node.current_term() == term;
        if !is_leader {
            return;
        }
        let own_id = self.node.id();
        for (id, index) in members {
            let had = EntryId { term, index };
            if id == own_id {
                // What was acknowledged to a leader stays while it leads.
                let has = self.durable().index;
                if has < index {
                    self.acknowledgements.loss = Some(Loss { had, has });
                }
            } else if self.node.configuration().is_member(id) {
                self.acknowledgements.hear(id, had);
            }
        }
        let configuration = self.node.configuration();
        self.acknowledgements.heard.retain(|&id, _| configuration.is_member(id));
    }
}

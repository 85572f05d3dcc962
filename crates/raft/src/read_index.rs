//! Linearizable reads without a log entry (thesis §6.4, SOURCES L3).
//!
//! A read is up to date if it sees everything that was committed when it was asked. The leader knows its
//! commit index to be current once it has committed an entry of its own term; that it still leads it must
//! hear from a quorum *after* the read was asked. So reads wait for a round of heartbeats that began after
//! they did; those that arrive while a round is under way share the next.

use crate::quorum::quorum_value;
use crate::role::{Follower, Role};
use crate::{Effect, Index, Message, Node, NodeId, Quorum, ReadId, Round, Time};

/// Why a read was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    /// Nobody is known to lead.
    #[error("no leader")]
    NoLeader,
    /// Too many reads wait.
    #[error("more than {limit} reads wait")]
    TooManyReads {
        /// The bound.
        limit: usize,
    },
}

/// Who asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Reader {
    /// The follower that asked, or none for this server.
    follower: Option<NodeId>,
    read: ReadId,
}

/// Reads that share a round.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Batch {
    round: Round,
    /// The commit index when the round began.
    index: Index,
    readers: Vec<Reader>,
}

/// A leader's reads.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct LeaderReads {
    /// The latest round begun. Never goes back within a term, so that an answer to an old round cannot
    /// confirm a new batch.
    round: Round,
    confirming: Option<Batch>,
    /// They arrived after the round began.
    waiting: Vec<Reader>,
}

impl LeaderReads {
    /// The round that heartbeats carry.
    pub(crate) fn round(&self) -> Round {
        self.round
    }

    /// How many reads wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.confirming.as_ref().map_or(0, |batch| batch.readers.len())
    }
}

impl Node {
    /// Asks from which index on the state is up to date. Answered by [`Effect::ReadReady`] or
    /// [`Effect::ReadFailed`] — or, when messages are lost, not at all: the caller sets its own deadline.
    pub fn read_index(&mut self, now: Time) -> Result<ReadId, ReadError> {
        self.now = self.now.max(now);
        self.check_leadership();
        let limit = self.options.max_waiting_reads;
        let read = ReadId(self.next_read);
        match &mut self.role {
            Role::Leader(leader) if leader.reads.len() >= limit => {
                return Err(ReadError::TooManyReads { limit });
            }
            Role::Leader(leader) => leader.reads.waiting.push(Reader { follower: None, read }),
            Role::Follower(Follower { leader_id: Some(leader), reads, .. }) => {
                reads.insert(read);
                // A question whose answer was lost would take its place for ever: the oldest gives way.
                let forgotten = if reads.len() > limit { reads.pop_first() } else { None };
                self.effects.extend(forgotten.map(|read| Effect::ReadFailed { read }));
                let leader = *leader;
                self.send(leader, Message::ReadIndex { read });
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => {
                return Err(ReadError::NoLeader);
            }
        }
        self.next_read = self.next_read.wrapping_add(1);
        Ok(read)
    }

    /// A follower asks on behalf of its own clients.
    pub(crate) fn on_remote_read(&mut self, from: NodeId, read: ReadId) {
        let limit = self.options.max_waiting_reads;
        match &mut self.role {
            Role::Leader(leader) if leader.reads.len() < limit => {
                leader.reads.waiting.push(Reader { follower: Some(from), read });
            }
            _ => self.send(from, Message::ReadIndexReply { read, index: None }),
        }
    }

    /// Finishes the round under way if a quorum has answered it, and begins the next if reads wait.
    pub(crate) fn confirm_reads(&mut self) {
        while let Some(batch) = self.take_confirmed_batch() {
            for Reader { follower, read } in batch.readers {
                let index = batch.index;
                match follower {
                    Some(id) => self.send(id, Message::ReadIndexReply { read, index: Some(index) }),
                    None => self.effects.push_back(Effect::ReadReady { read, index }),
                }
            }
        }
    }

    fn take_confirmed_batch(&mut self) -> Option<Batch> {
        self.begin_round();
        let Role::Leader(leader) = &self.role else { return None };
        let round = leader.reads.confirming.as_ref()?.round;
        let confirmed = quorum_value(self.configuration(), Quorum::Commit, |id| {
            if id == self.id {
                round
            } else {
                leader.progress.get(&id).map_or(Round(0), |progress| progress.acked_round)
            }
        });
        let Role::Leader(leader) = &mut self.role else { return None };
        if confirmed >= round { leader.reads.confirming.take() } else { None }
    }

    fn begin_round(&mut self) {
        let index = self.log.commit_index;
        let Role::Leader(leader) = &mut self.role else { return };
        let reads = &mut leader.reads;
        // Before the first entry of its term is committed, a leader does not know what is (paper §8).
        if index < leader.first_index_of_term || reads.confirming.is_some() || reads.waiting.is_empty() {
            return;
        }
        reads.round = Round(reads.round.0 + 1);
        let readers = std::mem::take(&mut reads.waiting);
        reads.confirming = Some(Batch { round: reads.round, index, readers });
        self.broadcast_heartbeat();
    }

    pub(crate) fn on_read_index_reply(&mut self, read: ReadId, index: Option<Index>) {
        let Role::Follower(follower) = &mut self.role else { return };
        if follower.reads.remove(&read) {
            self.effects.push_back(match index {
                Some(index) => Effect::ReadReady { read, index },
                None => Effect::ReadFailed { read },
            });
        }
    }

    /// The leader that was asked is no longer followed: nothing will come of it.
    pub(crate) fn fail_asked_reads(&mut self) {
        if let Role::Follower(follower) = &mut self.role {
            let reads = std::mem::take(&mut follower.reads);
            self.effects.extend(reads.into_iter().map(|read| Effect::ReadFailed { read }));
        }
    }

    /// This server no longer leads: it cannot confirm anything.
    pub(crate) fn fail_leader_reads(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let reads = std::mem::take(&mut leader.reads);
        let confirming = reads.confirming.map(|batch| batch.readers).unwrap_or_default();
        for Reader { follower, read } in confirming.into_iter().chain(reads.waiting) {
            match follower {
                Some(id) => self.send(id, Message::ReadIndexReply { read, index: None }),
                None => self.effects.push_back(Effect::ReadFailed { read }),
            }
        }
    }
}

//! What waits to be sent to one peer in one lane, in order, bounded in bytes and in age.
//!
//! A bound on the number of messages bounds nothing: four thousand appends are four gigabytes, and minutes on a
//! slow link. What finds no room is given back at once, so that its sender knows that it did not leave. What a
//! later term has made useless is left out when its turn comes.
//!
//! The server's senders and the simulator's network stand on this same queue.

use std::collections::VecDeque;

use tenure_raft::{Message, Term, Time};

use crate::message::PeerMessage;

/// The bounds of a [`Lane`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneBounds {
    /// How many bytes may wait (one message more is let in).
    pub max_bytes: usize,
    /// While a message has waited longer than this, nothing more is taken. In microseconds.
    pub max_age_us: u64,
}

impl LaneBounds {
    /// For heartbeats, votes, and all answers: they are small, and worth nothing when they are old.
    pub const URGENT: LaneBounds = LaneBounds { max_bytes: 4 << 20, max_age_us: 2_000_000 };
    /// For entries, pieces of snapshots and forwarded writes: what a slow link takes half a minute for.
    pub const BULK: LaneBounds = LaneBounds { max_bytes: 64 << 20, max_age_us: 30_000_000 };
}

/// A queue of messages.
#[derive(Debug)]
pub struct Lane {
    bounds: LaneBounds,
    messages: VecDeque<(Time, PeerMessage)>,
    bytes: usize,
    /// The latest term of any message of Raft that came here.
    term: Term,
}

impl Lane {
    /// An empty queue.
    pub fn new(bounds: LaneBounds) -> Lane {
        Lane { bounds, messages: VecDeque::new(), bytes: 0, term: Term(0) }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How many bytes wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a message, or gives it back if there is no room.
    #[must_use]
    pub fn push(&mut self, now: Time, message: PeerMessage) -> Option<PeerMessage> {
        let LaneBounds { max_bytes, max_age_us } = self.bounds;
        let is_old = self.messages.front().is_some_and(|(since, _)| now.since_us(*since) > max_age_us);
        if self.bytes >= max_bytes || is_old {
            return Some(message);
        }
        if let PeerMessage::Raft(envelope) = &message {
            self.term = self.term.max(envelope.term);
        }
        self.bytes += message.size_bytes();
        self.messages.push_back((now, message));
        None
    }

    /// The next message.
    pub fn pop(&mut self) -> Option<PeerMessage> {
        while let Some((_, message)) = self.messages.pop_front() {
            self.bytes -= message.size_bytes();
            if !self.is_over(&message) {
                return Some(message);
            }
        }
        None
    }

    /// Entries and snapshots of a leader that has heard of a later term since: nobody would take them.
    fn is_over(&self, message: &PeerMessage) -> bool {
        let PeerMessage::Raft(envelope) = message else { return false };
        let is_large =
            matches!(envelope.message, Message::AppendEntries { .. } | Message::InstallSnapshot { .. });
        is_large && envelope.term < self.term
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tenure_raft::{Entry, EntryId, Envelope, Index, LogSlice, NodeId, Payload, Round};

    use super::*;

    const BOUNDS: LaneBounds = LaneBounds { max_bytes: 1_000, max_age_us: 100 };

    fn raft(term: u64, message: Message) -> PeerMessage {
        let [from, to] = [1, 2].map(|number| NodeId::new(number).expect("ids count from one"));
        PeerMessage::Raft(Envelope { from, to, term: Term(term), message })
    }

    fn append(term: u64, bytes: usize) -> PeerMessage {
        let prev = EntryId { term: Term(1), index: Index(0) };
        let id = EntryId { term: Term(1), index: Index(1) };
        let entry = Entry { id, payload: Payload::Command(Bytes::from(vec![0; bytes])) };
        let slice = LogSlice::parse(prev, vec![entry]).expect("one entry hangs on the one before");
        raft(term, Message::AppendEntries { slice, leader_commit: Index(0) })
    }

    fn heartbeat(term: u64) -> PeerMessage {
        raft(term, Message::Heartbeat { commit_index: Index(0), round: Round(0) })
    }

    #[test]
    fn bytes_are_bounded_and_what_finds_no_room_is_given_back() {
        let mut lane = Lane::new(BOUNDS);
        assert_eq!(lane.push(Time(0), append(1, 900)), None);
        assert_eq!(lane.push(Time(0), append(1, 900)), None, "one more than there is room for");
        assert_eq!(lane.push(Time(0), append(1, 1)), Some(append(1, 1)));
        assert_eq!(lane.pop(), Some(append(1, 900)));
        assert_eq!(lane.push(Time(0), append(1, 1)), None);
        assert_eq!([lane.pop(), lane.pop(), lane.pop()], [Some(append(1, 900)), Some(append(1, 1)), None]);
        assert_eq!(lane.bytes(), 0);
    }

    #[test]
    fn nothing_is_taken_behind_what_has_waited_too_long() {
        let mut lane = Lane::new(BOUNDS);
        assert_eq!(lane.push(Time(0), heartbeat(1)), None);
        assert_eq!(lane.push(Time(100), heartbeat(1)), None);
        assert_eq!(lane.push(Time(101), heartbeat(1)), Some(heartbeat(1)));
        lane.pop();
        assert_eq!(lane.push(Time(101), heartbeat(1)), None, "the next is younger");
    }

    #[test]
    fn a_former_leaders_entries_hold_nobody_up() {
        let mut lane = Lane::new(BOUNDS);
        assert_eq!(lane.push(Time(0), append(1, 10)), None);
        assert_eq!(lane.push(Time(0), append(2, 10)), None);
        assert_eq!(lane.push(Time(0), heartbeat(2)), None);
        assert_eq!([lane.pop(), lane.pop(), lane.pop()], [Some(append(2, 10)), Some(heartbeat(2)), None]);
    }
}

//! What a leader knows of one follower, and how fast it may send to it.
//!
//! ```text
//!            accepted                       snapshot needed
//!   Probe ──────────────▶ Replicate    any ────────────────▶ Snapshot
//!     ▲  rejected, lost,      │                                 │
//!     └───── unreachable ─────┘◀──────────── installed ─────────┘
//! ```
//!
//! `Probe` looks for the place where the logs agree, one message at a time. `Replicate` sends ahead of the
//! answers, within a window of messages and bytes. `Snapshot` sends a snapshot, in chunks within the same window.
//!
//! An append is not lost because it is old: on a slow link each waits behind those before it, and to send them
//! again would only make the queue longer. Lost is what is not answered though nothing else is answered either.
//! Then an append without entries asks the follower how far it has come; its answer says what to send again.

use std::collections::VecDeque;

use crate::flow::{Flow, Sample};
use crate::snapshot_stream::SnapshotStream;
use crate::{EntryId, Index, Round, Snapshot, SnapshotChunk, Time};

/// How often the wait for an answer is doubled at the most.
const MAX_BACK_OFF: u32 = 5;

/// An append that was sent and not yet answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Inflight {
    last: Index,
    bytes: usize,
    sample: Sample,
}

/// The appends under way to one follower.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Inflights {
    appends: VecDeque<Inflight>,
    bytes: usize,
}

impl Inflights {
    fn push(&mut self, last: Index, bytes: usize, sample: Sample) {
        self.appends.push_back(Inflight { last, bytes, sample });
        self.bytes += bytes;
    }

    /// The appends up to `index` are answered. Returns how many bytes they had, and the newest of them.
    fn free_through(&mut self, index: Index) -> Option<(usize, Sample)> {
        let mut freed = None;
        while let Some(append) = self.appends.pop_front_if(|append| append.last <= index) {
            self.bytes -= append.bytes;
            let bytes = freed.map_or(0, |(bytes, _)| bytes);
            freed = Some((bytes + append.bytes, append.sample));
        }
        freed
    }

    /// The appends behind `index` are no longer under way.
    fn forget_behind(&mut self, index: Index) {
        while let Some(append) = self.appends.pop_back_if(|append| append.last > index) {
            self.bytes -= append.bytes;
        }
    }

    fn oldest_sent_at(&self) -> Option<Time> {
        self.appends.front().map(|append| append.sample.sent_at())
    }
}

/// What a follower lacks before an append that came early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hole {
    /// The entries up to here are missing.
    pub(crate) end: Index,
    /// Up to here they have been sent once more.
    pub(crate) filled: Index,
    /// When: further complaints are old news for a while.
    pub(crate) since: Time,
}

/// How entries reach a follower.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ProgressState {
    /// Looking for where the logs agree.
    Probe {
        /// When the probe under way was sent. The next waits for its answer, or for that of a heartbeat a while
        /// later.
        sent_at: Option<Time>,
    },
    /// Streaming.
    Replicate {
        inflights: Inflights,
        /// The hole that is being filled.
        hole: Option<Hole>,
        /// The append that asked last how far the follower has come.
        asked_at: Time,
    },
    /// Receiving a snapshot.
    Snapshot(SnapshotStream),
}

/// What a leader has asked its disks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Loading {
    /// Entries, from the log.
    Entries { since: Time },
    /// A chunk of a snapshot. How long that takes says little: another snapshot may be written meanwhile.
    Chunk,
}

/// One follower, seen from the leader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Progress {
    /// The last entry known to be durable there, in agreement with the leader's log (`matchIndex`).
    pub(crate) match_index: Index,
    /// The next entry to send (`nextIndex`).
    pub(crate) next_index: Index,
    pub(crate) state: ProgressState,
    /// The commit index it was last told.
    pub(crate) sent_commit: Index,
    /// The last time it answered in this term.
    pub(crate) last_heard: Time,
    /// The latest round of heartbeats it answered.
    pub(crate) acked_round: Round,
    /// What is being read from disk for it.
    pub(crate) loading: Option<Loading>,
    /// How much may be under way.
    pub(crate) flow: Flow,
    /// When it last answered something that was sent to it in a stream.
    answered_at: Time,
    /// How many probes in a row have brought no such answer.
    unanswered: u32,
    /// Up to here entries were sent since this server leads.
    sent_index: Index,
    /// The lane to it is full, or what it is to be sent cannot be read: nothing more is sent before it answers
    /// something.
    is_held: bool,
    /// The round of catching up that is under way (thesis §4.2.1): it ends when the follower has what the
    /// leader had when it began.
    round_end: Index,
    round_began: Time,
    /// The last round took less than an election timeout.
    was_in_time: bool,
}

impl Progress {
    /// A follower of which nothing is known: `nextIndex` starts after the leader's last entry (paper §5.3).
    pub(crate) fn new(now: Time, next_index: Index) -> Progress {
        Progress {
            match_index: Index(0),
            next_index,
            state: ProgressState::Probe { sent_at: None },
            sent_commit: Index(0),
            last_heard: now,
            acked_round: Round(0),
            loading: None,
            flow: Flow::default(),
            answered_at: now,
            unanswered: 0,
            sent_index: next_index.previous(),
            is_held: false,
            round_end: next_index.previous(),
            round_began: now,
            was_in_time: false,
        }
    }

    /// The follower has answered: ends its round of catching up if it has reached the end of it, and begins the
    /// next.
    pub(crate) fn count_round(&mut self, now: Time, last_index: Index, limit_us: u64) {
        if self.match_index >= self.round_end {
            let has_everything = self.match_index >= last_index;
            self.was_in_time = has_everything || now.since_us(self.round_began) <= limit_us;
            self.round_end = last_index;
            self.round_began = now;
        }
    }

    /// Since when entries have been read for it.
    pub(crate) fn loading_since(&self) -> Option<Time> {
        match self.loading {
            Some(Loading::Entries { since }) => Some(since),
            Some(Loading::Chunk) | None => None,
        }
    }

    /// Whether its last round was in time, and the one under way may still be.
    pub(crate) fn is_caught_up(&self, now: Time, limit_us: u64) -> bool {
        self.was_in_time && now.since_us(self.round_began) <= limit_us
    }

    /// The follower agrees durably up to `index`. Returns whether that is news. An answer that comes late
    /// never moves anything back.
    pub(crate) fn accept(&mut self, now: Time, index: Index) -> bool {
        let changed = index > self.match_index;
        self.match_index = self.match_index.max(index);
        self.is_held = false;
        match &mut self.state {
            // An answer to what was sent before the probe says nothing of what was sent behind that.
            ProgressState::Probe { .. } if index.next() < self.next_index => {}
            ProgressState::Probe { .. } => self.become_replicate(now),
            ProgressState::Replicate { inflights, .. } => {
                if let Some((bytes, newest)) = inflights.free_through(index) {
                    self.flow.delivered(now, bytes, newest);
                    self.answered(now);
                }
            }
            ProgressState::Snapshot(stream) if index >= stream.snapshot.last_included.index => {
                self.next_index = self.match_index.next();
                self.become_replicate(now);
            }
            ProgressState::Snapshot(_) => {}
        }
        self.next_index = self.next_index.max(self.match_index.next());
        changed
    }

    fn answered(&mut self, now: Time) {
        self.answered_at = now;
        self.unanswered = 0;
    }

    /// Asks anew how far the follower has come. What was sent is not forgotten: it may have arrived.
    pub(crate) fn become_probe(&mut self) {
        self.state = ProgressState::Probe { sent_at: None };
    }

    /// The follower has what the leader has up to `index`, and nothing behind it is under way.
    pub(crate) fn resume_behind(&mut self, now: Time, index: Index) {
        self.next_index = index.max(self.match_index).next();
        self.become_replicate(now);
    }

    fn become_replicate(&mut self, now: Time) {
        self.state = ProgressState::Replicate { inflights: Inflights::default(), hole: None, asked_at: now };
        self.answered(now);
    }

    /// What was sent behind `index` has certainly not left. Sending goes on when the follower has answered
    /// something: then its lane has moved.
    pub(crate) fn not_sent_behind(&mut self, index: Index) {
        self.is_held = true;
        if let ProgressState::Replicate { inflights, .. } = &mut self.state {
            inflights.forget_behind(index);
            self.next_index = self.next_index.min(index.max(self.match_index).next());
        }
    }

    /// Nothing more can be sent to it for now.
    pub(crate) fn hold(&mut self) {
        self.is_held = true;
    }

    /// The follower lives: its lane may have moved.
    pub(crate) fn release(&mut self) {
        self.is_held = false;
    }

    /// A snapshot has to take the place of entries that are no longer there.
    pub(crate) fn become_snapshot(&mut self, now: Time, snapshot: Snapshot) {
        self.state = ProgressState::Snapshot(SnapshotStream::new(snapshot));
        self.answered(now);
    }

    /// The snapshot that is on its way to it.
    pub(crate) fn snapshot_stream(&mut self) -> Option<&mut SnapshotStream> {
        match &mut self.state {
            ProgressState::Snapshot(stream) => Some(stream),
            ProgressState::Probe { .. } | ProgressState::Replicate { .. } => None,
        }
    }

    /// How long the next chunk of the snapshot may be, if one may be read for it now.
    pub(crate) fn next_chunk_bytes(
        &mut self,
        max_messages: usize,
        max_window_bytes: usize,
        max_chunk_bytes: usize,
    ) -> Option<usize> {
        let ProgressState::Snapshot(stream) = &self.state else { return None };
        let (bytes, messages) = stream.under_way();
        let has_room = messages < max_messages && bytes < self.flow.window_bytes(max_window_bytes);
        let may_send = stream.has_more() && !self.is_held && self.loading.is_none();
        if may_send {
            self.flow.limited(!has_room);
        }
        (may_send && has_room).then(|| self.flow.append_bytes(max_window_bytes, max_chunk_bytes))
    }

    /// A chunk of the snapshot is on its way.
    pub(crate) fn chunk_sent(&mut self, now: Time, chunk: &SnapshotChunk) {
        let ProgressState::Snapshot(stream) = &mut self.state else { return };
        let sample = self.flow.sent(now, stream.under_way().1 == 0);
        stream.sent(chunk, sample);
    }

    /// The follower has kept so much of the snapshot.
    pub(crate) fn chunks_received(&mut self, now: Time, offset: u64, above: Index) {
        self.is_held = false;
        let ProgressState::Snapshot(stream) = &mut self.state else { return };
        if let Some((bytes, newest)) = stream.received(offset, above) {
            self.flow.delivered(now, bytes, newest);
        }
        self.answered(now);
    }

    /// The follower lacks the snapshot from `offset` on.
    pub(crate) fn chunks_missing(&mut self, now: Time, offset: u64, above: Index, patience_us: u64) {
        self.is_held = false;
        let ProgressState::Snapshot(stream) = &mut self.state else { return };
        if stream.missing(now, offset, above, patience_us) {
            self.answered(now);
        }
    }

    /// A chunk of the snapshot has certainly not left.
    pub(crate) fn chunk_not_sent(&mut self, last_included: EntryId, chunk: &SnapshotChunk) {
        self.is_held = true;
        if let ProgressState::Snapshot(stream) = &mut self.state
            && stream.snapshot.last_included == last_included
        {
            stream.not_sent(chunk);
        }
    }

    /// Where the hole ends that the follower is still in, now that it has reached what was sent to fill it: a hole
    /// may be larger than an append. If it got no further than to the append that came early, it has not kept that,
    /// nor what followed.
    pub(crate) fn rest_of_hole(&self) -> Option<Index> {
        let ProgressState::Replicate { hole: Some(hole), .. } = self.state else { return None };
        let last_sent = self.next_index.previous();
        let end = if hole.filled < hole.end { hole.end } else { last_sent };
        (hole.filled == self.match_index && self.match_index < end).then_some(end)
    }

    /// Whether another append may be sent now.
    pub(crate) fn may_send(&mut self, max_messages: usize, max_bytes: usize) -> bool {
        match &self.state {
            ProgressState::Probe { sent_at } => sent_at.is_none(),
            ProgressState::Replicate { inflights, .. } => {
                let has_room = inflights.appends.len() < max_messages
                    && inflights.bytes < self.flow.window_bytes(max_bytes);
                self.flow.limited(!has_room);
                has_room && !self.is_held
            }
            ProgressState::Snapshot(_) => false,
        }
    }

    /// How large the next append may be. A probe carries what was not sent before, and little of that: it may
    /// have to be sent again.
    pub(crate) fn max_append_bytes(&self, max_window_bytes: usize, max_append_bytes: usize) -> Option<usize> {
        /// How much a probe may carry: the entries of a new leader's first moments.
        const MAX_PROBE_BYTES: usize = 16 << 10;
        match &self.state {
            ProgressState::Probe { .. } if self.next_index > self.sent_index => {
                Some(max_append_bytes.min(MAX_PROBE_BYTES))
            }
            ProgressState::Probe { .. } => None,
            ProgressState::Replicate { .. } | ProgressState::Snapshot(_) => {
                Some(self.flow.append_bytes(max_window_bytes, max_append_bytes))
            }
        }
    }

    /// Whether no more is under way than a window allows (of bytes the last append may be more).
    pub(crate) fn keeps_to(&self, max_messages: usize, max_bytes: usize) -> bool {
        let (bytes, messages, newest_bytes) = match &self.state {
            ProgressState::Probe { .. } => (0, 0, 0),
            ProgressState::Replicate { inflights, .. } => {
                let newest_bytes = inflights.appends.back().map_or(0, |append| append.bytes);
                (inflights.bytes, inflights.appends.len(), newest_bytes)
            }
            ProgressState::Snapshot(stream) => {
                let (bytes, messages) = stream.under_way();
                (bytes, messages, stream.newest_bytes())
            }
        };
        messages <= max_messages && (messages <= 1 || bytes - newest_bytes < max_bytes)
    }

    /// An append up to `last` is on its way.
    pub(crate) fn sent(&mut self, now: Time, last: Index, bytes: usize) {
        self.sent_index = self.sent_index.max(last);
        match &mut self.state {
            ProgressState::Probe { sent_at } => *sent_at = Some(now),
            ProgressState::Replicate { inflights, .. } => {
                if last >= self.next_index {
                    let sample = self.flow.sent(now, inflights.appends.is_empty());
                    inflights.push(last, bytes, sample);
                    self.next_index = last.next();
                }
            }
            ProgressState::Snapshot(_) => panic!("no append is sent while a snapshot is"),
        }
    }

    /// Whether something under way must be asked after: for long nothing was answered, and there was no probe. The
    /// wait is doubled each time, since a probe waits behind what was sent before it.
    pub(crate) fn is_overdue(&self, now: Time, patience_us: u64) -> bool {
        let since = match &self.state {
            ProgressState::Probe { .. } => None,
            ProgressState::Replicate { inflights, asked_at, .. } => {
                inflights.oldest_sent_at().map(|sent_at| sent_at.max(*asked_at))
            }
            ProgressState::Snapshot(stream) => stream.waits_since(),
        };
        since.is_some_and(|since| now.since_us(since.max(self.answered_at)) >= patience_us << self.unanswered)
    }

    /// The follower is asked how far it has come.
    pub(crate) fn asked(&mut self, now: Time) {
        match &mut self.state {
            ProgressState::Probe { .. } => return,
            ProgressState::Replicate { asked_at, .. } => *asked_at = now,
            ProgressState::Snapshot(stream) => stream.asked(now),
        }
        self.unanswered = (self.unanswered + 1).min(MAX_BACK_OFF);
    }
}

#[cfg(test)]
mod tests;

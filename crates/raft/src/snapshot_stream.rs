//! A snapshot on its way to one follower: chunks are sent ahead of their answers, within a window, like appends.
//!
//! ```text
//!            answered                 lost connection
//!   Asking ────────────▶ Streaming ───────────────────▶ Asking
//! ```
//!
//! A question is a chunk without data. It comes first, so that the follower says where to begin and what it has
//! already; and later, when for long nothing was answered. The follower keeps chunks in order and says how far it
//! has come, or from where on it lacks something: then the stream goes back there (go-back-N), once for each loss.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::flow::Sample;
use crate::{Index, Snapshot, SnapshotChunk, Time};

/// A chunk that was sent and is not answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Chunk {
    end: u64,
    bytes: usize,
    sample: Sample,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The follower is to be asked where to go on.
    Asks,
    /// It was asked. Nothing is sent before it answers.
    Waits,
    Streams,
}

/// The leader's end of a transfer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SnapshotStream {
    pub(crate) snapshot: Snapshot,
    /// The follower has a snapshot up to here of its own: only what lies above is sent.
    pub(crate) above: Index,
    /// Where the next chunk begins.
    pub(crate) next_offset: u64,
    /// The follower has kept all up to here.
    acked_offset: u64,
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// The last chunk was sent.
    is_complete: bool,
    phase: Phase,
    asked_at: Time,
    /// Where the follower last lacked something, and when it said so: further complaints are old news for a while.
    complaint: Option<(u64, Time)>,
}

impl SnapshotStream {
    pub(crate) fn new(snapshot: Snapshot) -> SnapshotStream {
        SnapshotStream {
            snapshot,
            above: Index(0),
            next_offset: 0,
            acked_offset: 0,
            chunks: VecDeque::new(),
            bytes: 0,
            is_complete: false,
            phase: Phase::Asks,
            asked_at: Time(0),
            complaint: None,
        }
    }

    /// The bytes and the number of the chunks under way.
    pub(crate) fn under_way(&self) -> (usize, usize) {
        (self.bytes, self.chunks.len())
    }

    /// The bytes of the newest chunk under way.
    pub(crate) fn newest_bytes(&self) -> usize {
        self.chunks.back().map_or(0, |chunk| chunk.bytes)
    }

    /// Whether there is more to send, now that the follower has said where to begin.
    pub(crate) fn has_more(&self) -> bool {
        self.phase == Phase::Streams && !self.is_complete
    }

    /// Whether the follower has yet to be asked where to go on.
    pub(crate) fn has_question(&self) -> bool {
        self.phase == Phase::Asks
    }

    pub(crate) fn asked(&mut self, now: Time) {
        self.asked_at = now;
        if self.phase == Phase::Asks {
            self.phase = Phase::Waits;
        }
    }

    /// Whether this is the next chunk of what is to be sent.
    pub(crate) fn is_next(&self, snapshot: &Snapshot, chunk: &SnapshotChunk) -> bool {
        self.has_more()
            && self.snapshot.last_included == snapshot.last_included
            && (self.above, self.next_offset) == (chunk.above, chunk.offset)
    }

    /// The next chunk leaves.
    pub(crate) fn sent(&mut self, chunk: &SnapshotChunk, sample: Sample) {
        let bytes = chunk.data.len();
        self.next_offset += bytes as u64;
        self.bytes += bytes;
        self.chunks.push_back(Chunk { end: self.next_offset, bytes, sample });
        self.is_complete = chunk.done;
    }

    /// A chunk that asks how far the follower has come.
    pub(crate) fn question(&self) -> SnapshotChunk {
        SnapshotChunk { above: self.above, offset: self.next_offset, data: Bytes::new(), done: false }
    }

    /// The follower has kept everything up to `offset`. Returns what this answers: how many bytes, and the newest chunk.
    pub(crate) fn received(&mut self, offset: u64, above: Index) -> Option<(usize, Sample)> {
        if self.phase != Phase::Streams || above != self.above {
            self.begin_at(offset, above);
            return None;
        }
        self.acked_offset = self.acked_offset.max(offset);
        let mut answered: Option<(usize, Sample)> = None;
        while let Some(chunk) = self.chunks.pop_front_if(|chunk| chunk.end <= offset) {
            self.bytes -= chunk.bytes;
            let bytes = answered.map_or(0, |(bytes, _)| bytes);
            answered = Some((bytes + chunk.bytes, chunk.sample));
        }
        // It has more than was thought when the stream went back.
        self.next_offset = self.next_offset.max(offset);
        answered
    }

    /// The follower lacks what lies from `offset` on. Returns whether that is news.
    pub(crate) fn missing(&mut self, now: Time, offset: u64, above: Index, patience_us: u64) -> bool {
        let is_old =
            self.complaint.is_some_and(|(known, at)| known == offset && now.since_us(at) < patience_us);
        let goes_on = self.phase == Phase::Streams && above == self.above;
        if goes_on && (is_old || offset >= self.next_offset) {
            return false;
        }
        self.complaint = Some((offset, now));
        if goes_on && offset >= self.acked_offset {
            self.rewind_to(offset);
        } else {
            self.begin_at(offset, above);
        }
        true
    }

    /// The receiver knows best where to go on: it may have started again and lost what it had.
    fn begin_at(&mut self, offset: u64, above: Index) {
        self.phase = Phase::Streams;
        self.above = above;
        self.acked_offset = offset;
        self.next_offset = offset;
        self.is_complete = false;
        self.chunks.clear();
        self.bytes = 0;
    }

    /// What was sent from `offset` on is no longer under way.
    fn rewind_to(&mut self, offset: u64) {
        self.next_offset = offset;
        self.is_complete = false;
        while let Some(chunk) = self.chunks.pop_back_if(|chunk| chunk.end > offset) {
            self.bytes -= chunk.bytes;
        }
    }

    /// The chunk has certainly not left, nor what would have followed it.
    pub(crate) fn not_sent(&mut self, chunk: &SnapshotChunk) {
        let is_under_way = (self.acked_offset..=self.next_offset).contains(&chunk.offset);
        if is_under_way && self.above == chunk.above && !chunk.is_question() {
            self.rewind_to(chunk.offset);
        }
    }

    /// The connection broke: what was under way is probably lost.
    pub(crate) fn ask_anew(&mut self) {
        self.phase = Phase::Asks;
        self.rewind_to(self.acked_offset);
    }

    /// Since when an answer is due, if one is: to a question, to what was sent, or word that all is in its place.
    pub(crate) fn waits_since(&self) -> Option<Time> {
        let oldest = self.chunks.front().map(|chunk| chunk.sample.sent_at());
        let is_due = self.phase == Phase::Waits || oldest.is_some() || self.is_complete;
        is_due.then(|| oldest.map_or(self.asked_at, |sent_at| sent_at.max(self.asked_at)))
    }
}

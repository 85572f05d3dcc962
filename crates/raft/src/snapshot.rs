//! Snapshots (paper §7): taking note of the caller's, sending one to a follower for whom the log no longer
//! reaches back, and installing one.
//!
//! What a snapshot contains is the caller's business. The core decides when one is sent, keeps the two
//! ends in step chunk by chunk, and says when it takes the place of the log.

use std::collections::VecDeque;

use crate::progress::Loading;
use crate::role::Role;
use crate::snapshot_stream::SnapshotStream;
use crate::{
    AppendReply, Effect, EntryId, Event, Index, Message, Node, NodeId, Options, Snapshot, SnapshotChunk,
    SnapshotReply, Time,
};

/// A snapshot that is arriving.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct IncomingSnapshot {
    snapshot: Snapshot,
    leader: NodeId,
    /// Only what lies above this arrives: this server has a snapshot of its own up to there.
    above: Index,
    /// Up to here chunks have come, and were given out to be kept.
    received_offset: u64,
    /// Up to here they are kept.
    stored_offset: u64,
    /// Where the chunks end that are being kept, in order.
    storing: VecDeque<u64>,
    /// So many before those are of no use: the transfer began anew while they were being kept.
    void: usize,
    /// The last chunk has come.
    is_whole: bool,
    step: IncomingStep,
}

impl IncomingSnapshot {
    fn is_storing(&self) -> bool {
        self.void > 0 || !self.storing.is_empty()
    }

    /// Whether as much has come and is not kept yet as a leader may have under way.
    fn is_full(&self, options: &Options) -> bool {
        let waiting_bytes = self.received_offset - self.stored_offset;
        self.storing.len() >= options.max_inflight_messages
            || waiting_bytes >= options.max_inflight_bytes as u64
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum IncomingStep {
    /// Chunks come and are kept.
    Receiving,
    /// All are kept; what was given out to be applied is finished first.
    Complete,
    /// The caller is putting it in the place of the state and the log.
    Installing,
}

/// The caller's snapshots and the log behind them.
impl Node {
    /// The caller holds, durably, a snapshot of the state at the applied index `last_included`. It must be
    /// able to send it until it reports a newer one.
    pub fn on_snapshot_taken(&mut self, now: Time, last_included: Index) {
        self.now = self.now.max(now);
        if last_included > self.log.snapshot.last_included.index {
            self.log.record_snapshot(last_included);
        }
    }

    /// Forgets the log up to `through`, at most up to the newest snapshot.
    pub fn compact_log(&mut self, through: Index) {
        self.log.compact(through.min(self.log.snapshot.last_included.index));
    }
}

/// The leader's side.
impl Node {
    /// Goes on with a snapshot that is on its way to a follower: asks where to begin, then for the next chunk.
    pub(crate) fn continue_snapshot(&mut self, to: NodeId) {
        let Options { max_inflight_messages, max_inflight_bytes, snapshot_chunk_bytes, .. } = self.options;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        let Some(stream) = progress.snapshot_stream() else { return };
        if stream.has_question() {
            self.ask_after_snapshot(to);
            return;
        }
        let (last_included, above, offset) =
            (stream.snapshot.last_included, stream.above, stream.next_offset);
        // One chunk is asked for at a time, however slow the disk is and however often the follower asks.
        let max_bytes =
            progress.next_chunk_bytes(max_inflight_messages, max_inflight_bytes, snapshot_chunk_bytes);
        if let Some(max_bytes) = max_bytes {
            progress.loading = Some(Loading::Chunk);
            self.effects.push_back(Effect::LoadSnapshotChunk { to, last_included, above, offset, max_bytes });
        }
    }

    /// Asks how far a follower has come with the snapshot that is sent to it.
    pub(crate) fn ask_after_snapshot(&mut self, to: NodeId) {
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        progress.asked(now);
        if let Some(stream) = progress.snapshot_stream() {
            let (snapshot, chunk) = (stream.snapshot.clone(), stream.question());
            self.send(to, Message::InstallSnapshot { snapshot, chunk });
        }
    }

    /// A chunk that [`Effect::LoadSnapshotChunk`] asked for; `snapshot` is what it belongs to.
    pub fn on_snapshot_chunk_loaded(
        &mut self,
        now: Time,
        to: NodeId,
        snapshot: Snapshot,
        chunk: SnapshotChunk,
    ) {
        self.now = self.now.max(now);
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        progress.loading = None;
        if progress.snapshot_stream().is_some_and(|stream| stream.is_next(&snapshot, &chunk)) {
            progress.chunk_sent(now, &chunk);
            self.send(to, Message::InstallSnapshot { snapshot, chunk });
        }
    }

    /// The snapshot that a chunk was asked of is gone: the follower is sent the newest instead. Of the newest, the chunk
    /// cannot be had now: it is asked for again when the follower has answered something.
    pub fn on_snapshot_unavailable(&mut self, now: Time, to: NodeId, last_included: EntryId) {
        self.now = self.now.max(now);
        let newest = self.log.snapshot.last_included;
        assert!(newest >= last_included, "only what was taken is asked for");
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        progress.loading = None;
        let is_sent = |stream: &mut SnapshotStream| stream.snapshot.last_included == last_included;
        if newest == last_included {
            progress.hold();
        } else if progress.snapshot_stream().is_some_and(is_sent) {
            progress.become_snapshot(self.now, self.log.snapshot.clone());
        }
    }

    pub(crate) fn on_snapshot_reply(&mut self, from: NodeId, last_included: EntryId, reply: SnapshotReply) {
        let now = self.now;
        let patience_us = self.options.heartbeat_interval_us;
        if let SnapshotReply::Installed { match_index } = reply {
            self.on_append_reply(from, AppendReply::Accepted { match_index });
            return;
        }
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.last_heard = now;
        let is_sent = |stream: &mut SnapshotStream| stream.snapshot.last_included == last_included;
        if !progress.snapshot_stream().is_some_and(is_sent) {
            return;
        }
        match reply {
            SnapshotReply::Received { next_offset, above } => {
                progress.chunks_received(now, next_offset, above);
            }
            SnapshotReply::Missing { next_offset, above } => {
                progress.chunks_missing(now, next_offset, above, patience_us);
            }
            SnapshotReply::Installed { .. } => {}
        }
    }
}

/// The follower's side.
impl Node {
    /// While a complete snapshot is being put in place, the log stands still and nothing more is applied.
    pub(crate) fn is_installing(&self) -> bool {
        let step = self.incoming.as_ref().map(|incoming| incoming.step);
        matches!(step, Some(IncomingStep::Complete | IncomingStep::Installing))
    }

    pub(crate) fn on_install_snapshot(&mut self, leader: NodeId, snapshot: Snapshot, chunk: SnapshotChunk) {
        let last_included = snapshot.last_included;
        let is_possible = last_included.term <= self.current_term() && last_included.index <= Index::LIMIT;
        if !is_possible {
            return;
        }
        if !self.is_installing() && self.log_contains(last_included) {
            self.decline_snapshot(leader, last_included);
            return;
        }
        if !self.is_arriving(leader, last_included) && !self.begin_receiving(leader, snapshot.clone()) {
            return;
        }
        let Some(incoming) = &mut self.incoming else { return };
        let is_of_this = chunk.above == incoming.above;
        if !is_of_this || chunk.offset > incoming.received_offset {
            // A chunk before this one was lost: say where to go on.
            let (next_offset, above) = (incoming.received_offset, incoming.above);
            self.answer_chunk(SnapshotReply::Missing { next_offset, above });
        } else if chunk.is_question() || chunk.offset < incoming.received_offset || incoming.is_whole {
            self.say_what_is_kept();
        } else if incoming.is_full(&self.options) {
            // A window waits for the disk already: its leader was followed by itself, and knows nothing of that. It asks
            // what has become of this, and goes back.
            self.say_what_is_kept();
        } else {
            incoming.received_offset = chunk.end();
            incoming.storing.push_back(chunk.end());
            incoming.is_whole = chunk.done;
            self.effects.push_back(Effect::StoreSnapshotChunk { snapshot, chunk });
        }
    }

    /// Two servers' snapshots of one state need not be the same bytes: what came from another is no beginning of
    /// this one.
    fn is_arriving(&self, leader: NodeId, last_included: EntryId) -> bool {
        self.incoming.as_ref().is_some_and(|incoming| {
            incoming.leader == leader && incoming.snapshot.last_included == last_included
        })
    }

    /// Whether a snapshot may begin to arrive. What is still being kept of another must not be taken for a chunk of
    /// this one; the leader asks again.
    fn begin_receiving(&mut self, leader: NodeId, snapshot: Snapshot) -> bool {
        let is_storing = self.incoming.as_ref().is_some_and(IncomingSnapshot::is_storing);
        if self.is_installing() || is_storing {
            return false;
        }
        self.incoming = Some(IncomingSnapshot {
            snapshot,
            leader,
            above: self.log.snapshot.last_included.index,
            received_offset: 0,
            stored_offset: 0,
            storing: VecDeque::new(),
            void: 0,
            is_whole: false,
            step: IncomingStep::Receiving,
        });
        true
    }

    /// Whether a snapshot up to `last_included` brings nothing new. What it holds is committed, so the same
    /// entry in our log has nothing but committed entries before it.
    fn log_contains(&self, last_included: EntryId) -> bool {
        last_included.index <= self.log.commit_index || self.log.matches(last_included)
    }

    /// An old snapshot must not take the state back, nor cut off what the log holds behind it.
    fn decline_snapshot(&mut self, leader: NodeId, last_included: EntryId) {
        self.follow_commit(last_included.index);
        let reply = SnapshotReply::Installed { match_index: last_included.index };
        self.send(leader, Message::InstallSnapshotReply { last_included, reply });
    }

    fn say_what_is_kept(&mut self) {
        let Some(incoming) = &self.incoming else { return };
        let (next_offset, above) = (incoming.stored_offset, incoming.above);
        self.answer_chunk(SnapshotReply::Received { next_offset, above });
    }

    fn answer_chunk(&mut self, reply: SnapshotReply) {
        let Some(incoming) = &self.incoming else { return };
        let last_included = incoming.snapshot.last_included;
        self.send(incoming.leader, Message::InstallSnapshotReply { last_included, reply });
    }

    /// The oldest chunk that [`Effect::StoreSnapshotChunk`] brought and that was not kept yet is kept.
    pub fn on_snapshot_chunk_stored(&mut self, now: Time, last_included: EntryId) {
        self.now = self.now.max(now);
        let Some(incoming) = &mut self.incoming else { return };
        if incoming.snapshot.last_included != last_included {
            return;
        }
        if incoming.void > 0 {
            incoming.void -= 1;
            return;
        }
        let Some(end) = incoming.storing.pop_front() else { return };
        incoming.stored_offset = end;
        if !incoming.is_whole || !incoming.storing.is_empty() {
            self.say_what_is_kept();
            return;
        }
        // Meanwhile another leader's entries may have come: to put the snapshot in their place would take
        // back what was acknowledged. The transcript
        // `a_snapshot_does_not_cut_off_what_the_log_has_since_received` plays it.
        let leader = incoming.leader;
        if self.log_contains(last_included) {
            self.incoming = None;
            self.decline_snapshot(leader, last_included);
            return;
        }
        assert!(!matches!(self.role, Role::Leader(_)), "a leader has all that is committed (paper §5.4.3)");
        let Some(incoming) = &mut self.incoming else { return };
        incoming.step = IncomingStep::Complete;
        if let Role::PreCandidate(_) | Role::Candidate(_) = self.role {
            // Its log no longer says what it could promise as a leader.
            self.become_follower(self.current_term(), None);
        }
    }

    /// Gives a complete snapshot out once the state machine stands still: an entry that is still being
    /// applied must not meet the state that takes the place of the one it was meant for.
    pub(crate) fn begin_installing(&mut self) {
        let stands_still = self.log.applying_index == self.log.last_applied;
        if let Some(incoming) = &mut self.incoming
            && incoming.step == IncomingStep::Complete
            && stands_still
        {
            incoming.step = IncomingStep::Installing;
            self.effects.push_back(Effect::InstallSnapshot(incoming.snapshot.clone()));
        }
    }

    /// What arrived was damaged, or (in place of [`Node::on_snapshot_chunk_stored`]) a chunk could not be kept: the
    /// transfer begins anew. Not at once, though: it may be the leader's disk, which will give the same again. The
    /// leader asks when it has waited for an answer long enough.
    pub fn on_snapshot_damaged(&mut self, now: Time, last_included: EntryId) {
        self.now = self.now.max(now);
        let damaged = self.incoming.as_mut().filter(|it| it.snapshot.last_included == last_included);
        let Some(incoming) = damaged else { return };
        if incoming.void > 0 {
            incoming.void -= 1;
            return;
        }
        incoming.storing.pop_front();
        incoming.void = incoming.storing.len();
        incoming.storing.clear();
        // All of it this time: what was damaged may be what it was to stand on.
        incoming.above = Index(0);
        (incoming.received_offset, incoming.stored_offset) = (0, 0);
        incoming.is_whole = false;
        incoming.step = IncomingStep::Receiving;
        let leader = incoming.leader;
        self.event(Event::SnapshotDamaged { last_included, leader });
    }

    /// The snapshot that [`Effect::InstallSnapshot`] named is durable and stands in the place of the state
    /// and of the whole log (paper §7: "the follower discards its entire log").
    pub fn on_snapshot_installed(&mut self, now: Time, last_included: EntryId) {
        self.now = self.now.max(now);
        let Some(incoming) = self.incoming.take() else { return };
        assert_eq!(incoming.step, IncomingStep::Installing, "only what was given out is installed");
        assert_eq!(incoming.snapshot.last_included, last_included, "the snapshot that was given out");
        let reconfigured = incoming.snapshot.configuration != *self.configuration();
        self.log.reset_to(incoming.snapshot);
        self.writes.cut_back(Index(0));
        self.event(Event::SnapshotInstalled { last_included });
        if reconfigured {
            self.event(Event::ConfigurationChanged { configuration: self.configuration().clone() });
        }
        let reply = SnapshotReply::Installed { match_index: last_included.index };
        self.send(incoming.leader, Message::InstallSnapshotReply { last_included, reply });
    }
}

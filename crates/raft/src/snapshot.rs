//! Snapshots (paper §7): taking note of the caller's, sending one to a follower for whom the log no longer
//! reaches back, and installing one.
//!
//! What a snapshot contains is the caller's business. The core decides when one is sent, keeps the two
//! ends in step chunk by chunk, and says when it takes the place of the log.

use bytes::Bytes;

use crate::progress::{Loading, ProgressState};
use crate::role::Role;
use crate::{
    AppendReply, Effect, EntryId, Event, Index, Message, Node, NodeId, Snapshot, SnapshotReply, Time,
};

/// A snapshot that is arriving.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct IncomingSnapshot {
    snapshot: Snapshot,
    leader: NodeId,
    next_offset: u64,
    step: IncomingStep,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum IncomingStep {
    /// Waiting for the next chunk.
    Receiving,
    /// A chunk is being kept; the last one, if `done`.
    Storing { done: bool },
    /// Complete; what was given out to be applied is finished first.
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
    /// Asks for the next chunk for a follower that receives a snapshot.
    pub(crate) fn continue_snapshot(&mut self, to: NodeId) {
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        // One chunk is asked for at a time, however slow the disk is and however often the follower asks.
        if progress.loading.is_some() {
            return;
        }
        if let ProgressState::Snapshot { last_included, offset, waiting_since: waiting @ None } =
            &mut progress.state
        {
            *waiting = Some(now);
            progress.loading = Some(Loading::Chunk);
            let max_bytes = self.options.snapshot_chunk_bytes;
            let (last_included, offset) = (*last_included, *offset);
            self.effects.push_back(Effect::LoadSnapshotChunk { to, last_included, offset, max_bytes });
        }
    }

    /// A chunk that [`Effect::LoadSnapshotChunk`] asked for; `snapshot` is what it belongs to.
    pub fn on_snapshot_chunk_loaded(
        &mut self,
        now: Time,
        to: NodeId,
        snapshot: Snapshot,
        offset: u64,
        data: Bytes,
        done: bool,
    ) {
        self.now = self.now.max(now);
        let sent_at = self.now;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        progress.loading = None;
        let ProgressState::Snapshot { last_included, offset: expected, waiting_since } = &mut progress.state
        else {
            return;
        };
        if *last_included == snapshot.last_included && *expected == offset {
            // However long the disk took, the follower has had no time yet to answer.
            *waiting_since = Some(sent_at);
            self.send(to, Message::InstallSnapshot { snapshot, offset, data, done });
        }
    }

    /// The snapshot that a chunk was asked of is gone: the follower is sent the newest instead. Of the newest, the chunk
    /// cannot be had now: it is asked for again when the follower has waited long enough.
    pub fn on_snapshot_unavailable(&mut self, now: Time, to: NodeId, last_included: EntryId) {
        self.now = self.now.max(now);
        let newest = self.log.snapshot.last_included;
        assert!(newest >= last_included, "only what was taken is asked for");
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        progress.loading = None;
        if newest > last_included
            && matches!(&progress.state, ProgressState::Snapshot { last_included: sent, .. } if *sent == last_included)
        {
            progress.become_snapshot(newest);
        }
    }

    pub(crate) fn on_snapshot_reply(&mut self, from: NodeId, last_included: EntryId, reply: SnapshotReply) {
        if let SnapshotReply::Installed { match_index } = reply {
            self.on_append_reply(from, AppendReply::Accepted { match_index });
            return;
        }
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.last_heard = now;
        if let SnapshotReply::Received { next_offset } = reply
            && let ProgressState::Snapshot { last_included: sent, offset, waiting_since } =
                &mut progress.state
            && *sent == last_included
            // That chunk is on its way: a doubled answer must not double all that follow.
            && (*offset != next_offset || waiting_since.is_none())
        {
            // The receiver knows best where to go on: it may have started again and lost what it had.
            *offset = next_offset;
            *waiting_since = None;
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

    pub(crate) fn on_install_snapshot(
        &mut self,
        leader: NodeId,
        snapshot: Snapshot,
        offset: u64,
        data: Bytes,
        done: bool,
    ) {
        let last_included = snapshot.last_included;
        let is_possible = last_included.term <= self.current_term() && last_included.index <= Index::LIMIT;
        if !is_possible || !self.is_ready_for_chunk() {
            return;
        }
        if self.log_contains(last_included) {
            self.decline_snapshot(leader, last_included);
            return;
        }
        // Two servers' snapshots of one state need not be the same bytes: what came from another is no
        // beginning of this one.
        let goes_on = |incoming: &IncomingSnapshot| {
            incoming.leader == leader && incoming.snapshot.last_included == last_included
        };
        let mut incoming = self.incoming.take().filter(goes_on).unwrap_or_else(|| IncomingSnapshot {
            snapshot: snapshot.clone(),
            leader,
            next_offset: 0,
            step: IncomingStep::Receiving,
        });
        if offset == incoming.next_offset {
            incoming.next_offset += data.len() as u64;
            incoming.step = IncomingStep::Storing { done };
            self.effects.push_back(Effect::StoreSnapshotChunk { snapshot, offset, data, done });
            self.incoming = Some(incoming);
        } else {
            // A chunk before this one was lost, or this one is doubled: say where to go on.
            self.incoming = Some(incoming);
            self.answer_chunk();
        }
    }

    /// One chunk is kept at a time; the leader asks again for what came too early.
    fn is_ready_for_chunk(&self) -> bool {
        self.incoming.as_ref().is_none_or(|incoming| incoming.step == IncomingStep::Receiving)
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

    fn answer_chunk(&mut self) {
        let Some(incoming) = &self.incoming else { return };
        let last_included = incoming.snapshot.last_included;
        let reply = SnapshotReply::Received { next_offset: incoming.next_offset };
        self.send(incoming.leader, Message::InstallSnapshotReply { last_included, reply });
    }

    /// The chunk that [`Effect::StoreSnapshotChunk`] brought is kept.
    pub fn on_snapshot_chunk_stored(&mut self, now: Time, last_included: EntryId) {
        self.now = self.now.max(now);
        let Some(incoming) = &mut self.incoming else { return };
        let IncomingStep::Storing { done } = incoming.step else { return };
        if incoming.snapshot.last_included != last_included {
            return;
        }
        incoming.step = IncomingStep::Receiving;
        if !done {
            self.answer_chunk();
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

    /// What arrived was damaged: the transfer begins anew. Not at once, though: it may be the leader's disk, which
    /// will give the same again. The leader asks when it has waited for an answer long enough.
    pub fn on_snapshot_damaged(&mut self, now: Time, last_included: EntryId) {
        self.now = self.now.max(now);
        let damaged = self.incoming.as_mut().filter(|it| it.snapshot.last_included == last_included);
        let Some(incoming) = damaged else { return };
        incoming.next_offset = 0;
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

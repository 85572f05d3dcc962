//! Log replication (paper §5.3, §5.4.2): AppendEntries from both sides, heartbeats, and commitment.

use crate::log::Splice;
use crate::progress::{Hole, Loading, Progress, ProgressState};
use crate::quorum::quorum_value;
use crate::role::{Leader, Role};
use crate::{
    AppendReply, Effect, Entry, EntryId, Envelope, Event, Index, LogSlice, Message, Node, NodeId, Payload,
    Quorum, Round, Time,
};

/// The leader's side.
impl Node {
    /// The only place where new entries are made. A leader never overwrites or deletes its own (paper
    /// §5.3, SOURCES R1).
    pub(crate) fn append_as_leader(&mut self, payload: Payload) -> EntryId {
        let id = EntryId { term: self.current_term(), index: self.log.last_index().next() };
        let entry = Entry { id, payload };
        if let Role::Leader(leader) = &mut self.role {
            leader.uncommitted_bytes += entry.size_bytes();
        }
        self.log.append(entry);
        id
    }

    /// What a leader's clock drives: heartbeats, and the end of its patience with its followers, with its
    /// own disk and with a transfer.
    pub(crate) fn on_leader_time(&mut self) {
        self.check_leadership();
        self.abort_late_transfer();
        let now = self.now;
        let interval_us = self.options.heartbeat_interval_us;
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.heartbeat_deadline <= now {
            leader.heartbeat_deadline = now.after(interval_us);
            self.broadcast_heartbeat();
        }
    }

    /// When the leader has something to do next.
    pub(crate) fn leader_deadline(&self, leader: &Leader) -> Time {
        let quorum_deadline = self.quorum_heard_at(leader).after(self.options.election_timeout_us);
        let transfer_deadline = leader.transfer.as_ref().map_or(Time::NEVER, |transfer| transfer.deadline);
        let deadlines = [leader.heartbeat_deadline, quorum_deadline, transfer_deadline, self.disk_deadline()];
        deadlines.into_iter().min().unwrap_or(Time::NEVER)
    }

    /// A heartbeat tells each follower to commit no further than it is known to hold our log: it can
    /// overtake appends, and carries no entry by which the follower could check.
    pub(crate) fn broadcast_heartbeat(&mut self) {
        let commit_index = self.log.commit_index;
        let Role::Leader(leader) = &mut self.role else { return };
        let round = leader.reads.round();
        let mut heartbeats = Vec::with_capacity(leader.progress.len());
        for (&id, progress) in &mut leader.progress {
            let commit_index = commit_index.min(progress.match_index);
            progress.sent_commit = progress.sent_commit.max(commit_index);
            heartbeats.push((id, Message::Heartbeat { commit_index, round }));
        }
        for (id, heartbeat) in heartbeats {
            self.send(id, heartbeat);
        }
    }

    /// Sends every follower what its window allows.
    pub(crate) fn replicate(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let followers: Vec<NodeId> = leader.progress.keys().copied().collect();
        for id in followers {
            while let Some(message) = self.next_append(id) {
                self.send(id, message);
            }
            self.continue_snapshot(id);
        }
    }

    /// The next append for a follower, if there is anything to say and room in its window.
    fn next_append(&mut self, to: NodeId) -> Option<Message> {
        let Role::Leader(leader) = &mut self.role else { return None };
        let progress = leader.progress.get_mut(&to)?;
        let (messages, bytes) = (self.options.max_inflight_messages, self.options.max_inflight_bytes);
        if !progress.may_send(messages, bytes) {
            return None;
        }
        let Some(prev_term) = self.log.term_at(progress.next_index.previous()) else {
            progress.become_snapshot(self.now, self.log.snapshot.clone());
            return None;
        };
        let first = progress.next_index;
        let prev = EntryId { term: prev_term, index: first.previous() };
        let Some(max_bytes) = progress.max_append_bytes(bytes, self.options.max_append_bytes) else {
            return self.append_message(to, prev, Vec::new());
        };
        let streaming = matches!(progress.state, ProgressState::Replicate { .. });
        if streaming && first > self.log.last_index() {
            return commit_notice(progress, self.log.commit_index);
        }
        match self.log.recent_slice(first, max_bytes) {
            Some(entries) => self.append_message(to, prev, entries),
            None if streaming => {
                self.load_entries(to, first, max_bytes);
                None
            }
            // A disk need not be asked before it is known what the follower lacks.
            None => self.append_message(to, prev, Vec::new()),
        }
    }

    /// Books an append as sent and makes the message.
    fn append_message(&mut self, to: NodeId, prev: EntryId, entries: Vec<Entry>) -> Option<Message> {
        let Role::Leader(leader) = &mut self.role else { return None };
        let progress = leader.progress.get_mut(&to)?;
        let slice = LogSlice::parse(prev, entries).expect("entries of one log are contiguous");
        let leader_commit = self.log.commit_index;
        let last = slice.last().index;
        progress.sent(self.now, last, slice.size_bytes());
        progress.sent_commit = progress.sent_commit.max(leader_commit.min(last));
        Some(Message::AppendEntries { slice, leader_commit })
    }

    fn load_entries(&mut self, to: NodeId, first: Index, max_bytes: usize) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        if progress.loading.is_none() {
            progress.loading = Some(Loading::Entries { since: self.now });
            let last = self.log.last_index();
            self.effects.push_back(Effect::LoadEntries { to, first, last, max_bytes });
        }
    }

    /// Entries that [`Effect::LoadEntries`] asked for; none if they are no longer there.
    pub fn on_entries_loaded(&mut self, now: Time, to: NodeId, entries: Vec<Entry>) {
        self.now = self.now.max(now);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        progress.loading = None;
        let still_wanted = matches!(progress.state, ProgressState::Replicate { .. })
            && entries.first().is_some_and(|entry| entry.id.index == progress.next_index)
            && entries.last().is_some_and(|entry| self.log.matches(entry.id))
            && progress.may_send(self.options.max_inflight_messages, self.options.max_inflight_bytes);
        if still_wanted && let Some(prev_term) = self.log.term_at(progress.next_index.previous()) {
            let prev = EntryId { term: prev_term, index: progress.next_index.previous() };
            if let Some(message) = self.append_message(to, prev, entries) {
                self.send(to, message);
            }
        }
    }

    pub(crate) fn on_append_reply(&mut self, from: NodeId, reply: AppendReply) {
        let now = self.now;
        let last_index = self.log.last_index();
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.last_heard = now;
        match reply {
            // Nobody can agree with more than there is.
            AppendReply::Accepted { match_index } if match_index <= last_index => {
                let is_news = progress.accept(now, match_index);
                progress.count_round(now, last_index, self.options.election_timeout_us);
                if is_news
                    && let Some(end) = progress.rest_of_hole()
                    && let Some(term) = self.log.term_at(match_index)
                {
                    self.fill(from, EntryId::new(match_index, term), end);
                }
            }
            AppendReply::Accepted { .. } => {}
            AppendReply::Rejected { prev, hint } => self.on_rejected(from, prev, hint),
        }
    }

    /// The follower lacks `prev`. While probing, go back to where the logs can agree (SOURCES R3, R4);
    /// while streaming, only a message may have been lost or overtaken.
    fn on_rejected(&mut self, from: NodeId, prev: EntryId, hint: EntryId) {
        let now = self.now;
        let shared = self.log.last_not_after(hint);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.release();
        // A follower that refuses what is known to match contradicts itself: it is asked again with the next
        // heartbeat, not at once for ever.
        if prev.index <= progress.match_index {
            if let ProgressState::Probe { sent_at } = &mut progress.state {
                *sent_at = Some(now);
            }
            return;
        }
        // An entry that both logs have with all before it (the Log Matching Property, paper §5.3).
        let has_hint = shared == Some(hint) && hint.index >= progress.match_index;
        let answers_last = prev.index == progress.next_index.previous();
        match &progress.state {
            // Only an append without entries hangs on the last entry sent: it arrived behind all that were sent
            // before it, or those are lost.
            ProgressState::Probe { .. } | ProgressState::Replicate { .. } if answers_last && has_hint => {
                progress.resume_behind(now, hint.index);
            }
            ProgressState::Probe { .. } | ProgressState::Replicate { .. } if answers_last => {
                let next_index = shared.map_or(hint.index, |shared| shared.index.next());
                // At least one step back, never below what is known to match.
                progress.next_index = next_index.min(prev.index).max(progress.match_index.next());
                progress.become_probe();
            }
            ProgressState::Replicate { .. } if has_hint => self.refill_hole(from, hint, prev),
            // An answer to something that was overtaken by events.
            ProgressState::Probe { .. } | ProgressState::Replicate { .. } | ProgressState::Snapshot(_) => {}
        }
    }

    /// Sends once more what lies between the follower's last entry and the append that came early, which
    /// the follower has kept (SOURCES R8). The stream goes on meanwhile.
    fn refill_hole(&mut self, to: NodeId, have: EntryId, early: EntryId) {
        let now = self.now;
        let patience_us = self.options.heartbeat_interval_us;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        let ProgressState::Replicate { hole, .. } = &mut progress.state else { return };
        let old_news =
            hole.is_some_and(|known| have.index < known.end && now.since_us(known.since) < patience_us);
        if old_news {
            return;
        }
        // What this stream has not sent yet is no hole: the append that came early is of one before it.
        let end = early.index.min(progress.next_index.previous());
        if have.index < end {
            *hole = Some(Hole { end, filled: have.index, since: now });
            self.fill(to, have, end);
        }
    }

    /// Sends the next piece of a hole that ends at `end`.
    fn fill(&mut self, to: NodeId, have: EntryId, end: Index) {
        let entries = self.log.recent_slice(have.index.next(), self.options.max_append_bytes);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        let Some(mut entries) = entries else {
            // They have to be read from the disk: the stream begins anew there.
            progress.resume_behind(self.now, have.index);
            return;
        };
        entries.retain(|entry| entry.id.index <= end);
        if let (ProgressState::Replicate { hole: Some(hole), .. }, Some(last)) =
            (&mut progress.state, entries.last())
        {
            (hole.filled, hole.end) = (last.id.index, end);
        }
        if let Some(message) = self.append_message(to, have, entries) {
            self.send(to, message);
        }
    }

    pub(crate) fn on_heartbeat_reply(&mut self, from: NodeId, round: Round) {
        let now = self.now;
        let patience_us = self.options.retransmit_after_us();
        let heartbeat_interval_us = self.options.heartbeat_interval_us;
        let last_index = self.log.last_index();
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.last_heard = now;
        progress.release();
        progress.count_round(now, last_index, self.options.election_timeout_us);
        // Nobody can answer a round that has not begun.
        progress.acked_round = progress.acked_round.max(round.min(leader.reads.round()));
        let is_overdue = progress.is_overdue(now, patience_us);
        match &mut progress.state {
            // The answer is the disk's to give, and rounds for reads may follow each other much faster.
            ProgressState::Probe { sent_at } => {
                *sent_at = sent_at.filter(|&sent_at| now.since_us(sent_at) < heartbeat_interval_us);
            }
            // The follower lives. Without this, the last append before a quiet time would stay lost for ever.
            ProgressState::Replicate { .. } if is_overdue => self.ask(from),
            ProgressState::Snapshot(_) if is_overdue => self.ask_after_snapshot(from),
            ProgressState::Replicate { .. } | ProgressState::Snapshot(_) => {}
        }
    }

    /// Asks how far a follower has come of what was sent to it, with an append that has no entries.
    fn ask(&mut self, to: NodeId) {
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        progress.asked(now);
        let index = progress.next_index.previous();
        let Some(term) = self.log.term_at(index) else {
            // Whatever it has of what was sent, the log does not reach back to the rest.
            progress.become_snapshot(now, self.log.snapshot.clone());
            return;
        };
        if let Some(message) = self.append_message(to, EntryId { term, index }, Vec::new()) {
            self.send(to, message);
        }
    }

    pub(crate) fn on_follower_unreachable(&mut self, peer: NodeId) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&peer) else { return };
        match &mut progress.state {
            ProgressState::Replicate { .. } => progress.become_probe(),
            ProgressState::Probe { .. } => {}
            ProgressState::Snapshot(stream) => stream.ask_anew(),
        }
    }

    /// A message that was given out to be sent has certainly not left: the caller's queue to its receiver is
    /// full. What it carried is sent again once the receiver has answered something.
    pub fn on_not_sent(&mut self, now: Time, envelope: &Envelope) {
        self.observe(now);
        if envelope.term != self.current_term() {
            return;
        }
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&envelope.to) else { return };
        if let Message::AppendEntries { slice, .. } = &envelope.message {
            progress.not_sent_behind(slice.prev().index);
        }
        if let Message::InstallSnapshot { snapshot, chunk } = &envelope.message {
            progress.chunk_not_sent(snapshot.last_included, chunk);
        }
    }

    /// Commits what a quorum holds durably, ourselves counted by what our own disk has finished.
    pub(crate) fn advance_commit_index(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let replicated = quorum_value(self.configuration(), Quorum::Commit, |id| {
            if id == self.id {
                self.log.persisted_index
            } else {
                leader.progress.get(&id).map_or(Index(0), |progress| progress.match_index)
            }
        });
        // Only entries of our own term commit by counting; those before it commit with it (paper §5.4.2,
        // figure 8).
        if replicated > self.log.commit_index && self.log.term_at(replicated) == Some(self.current_term()) {
            self.commit(replicated);
        }
    }

    fn commit(&mut self, index: Index) {
        let newly_committed = self.log.bytes_between(self.log.commit_index.next(), index);
        self.log.commit_to(index);
        if let Role::Leader(leader) = &mut self.role {
            leader.uncommitted_bytes -= newly_committed;
        }
        let commit = self.log.id_at(index);
        self.event(Event::CommitAdvanced { commit });
    }
}

/// Followers answer clients of their own, and would otherwise learn with the next entry or heartbeat what is
/// committed.
fn commit_notice(progress: &mut Progress, commit_index: Index) -> Option<Message> {
    let commit_index = commit_index.min(progress.match_index);
    if commit_index <= progress.sent_commit {
        return None;
    }
    progress.sent_commit = commit_index;
    Some(Message::CommitNotice { commit_index })
}

/// The follower's side.
impl Node {
    pub(crate) fn on_append_entries(&mut self, leader: NodeId, slice: LogSlice, leader_commit: Index) {
        if self.is_installing() {
            // The log is about to be replaced; the leader knows, and goes on once it has been.
            return;
        }
        if slice.last().term > self.current_term() {
            // Nobody can hold entries of a later term than its own: not a message of a leader.
            return;
        }
        // Up to our commit index the leader's log agrees with ours (Leader Completeness, paper §5.4.3), be
        // it compacted here or not.
        let Some(slice) = slice.above(self.log.id_at(self.log.commit_index)) else { return };
        let leader_commit = self.note_leader_commit(leader_commit);
        let Some(verified) = self.splice(slice.clone()) else {
            self.reject_append(leader, slice);
            return;
        };
        let verified = self.splice_early(verified);
        // Not our last index: what lies behind the verified entries may be an old leader's (paper figure
        // 2, AppendEntries 5: "index of last new entry").
        self.follow_commit(leader_commit.min(verified));
        let reply = AppendReply::Accepted { match_index: verified };
        self.send(leader, Message::AppendEntriesReply(reply));
    }

    /// The highest commit index that the leader has named, whatever the order its messages arrive in.
    fn note_leader_commit(&mut self, named: Index) -> Index {
        let Role::Follower(follower) = &mut self.role else { return named };
        follower.leader_commit = follower.leader_commit.max(named);
        follower.leader_commit
    }

    /// Makes the log agree with the slice; returns the last index that does, or none if the slice hangs in
    /// the air.
    fn splice(&mut self, slice: LogSlice) -> Option<Index> {
        let last = slice.last().index;
        let Splice::Done { truncated, reconfigured } = self.log.splice(slice) else { return None };
        if let Some(first) = truncated {
            self.writes.cut_back(first.previous());
            let last_kept = self.log.id_at(first.previous());
            self.event(Event::Truncated { first, last: last_kept });
        }
        if reconfigured {
            self.event(Event::ConfigurationChanged { configuration: self.configuration().clone() });
        }
        Some(last)
    }

    /// Appends what came early and now has its place. It is believed no more than what comes in time: what
    /// contradicts the committed log is ignored.
    fn splice_early(&mut self, mut verified: Index) -> Index {
        while let Role::Follower(follower) = &mut self.role
            && let Some(slice) = follower.early.take_up_to(verified)
        {
            let committed = self.log.id_at(self.log.commit_index);
            if let Some(last) = slice.above(committed).and_then(|slice| self.splice(slice)) {
                verified = verified.max(last);
            }
        }
        verified
    }

    fn reject_append(&mut self, leader: NodeId, slice: LogSlice) {
        let prev = slice.prev();
        let hint = self.log.last_not_after(prev).unwrap_or(self.log.start());
        self.event(Event::AppendRejected { prev });
        if prev.index > self.log.last_index()
            && let Role::Follower(follower) = &mut self.role
        {
            follower.early.keep(slice, self.options.max_early_bytes);
        }
        self.send(leader, Message::AppendEntriesReply(AppendReply::Rejected { prev, hint }));
    }

    pub(crate) fn on_heartbeat(&mut self, leader: NodeId, commit_index: Index, round: Round) {
        self.on_commit_notice(commit_index);
        self.send(leader, Message::HeartbeatReply { round });
    }

    pub(crate) fn on_commit_notice(&mut self, commit_index: Index) {
        if !self.is_installing() {
            self.follow_commit(commit_index.min(self.log.last_index()));
        }
    }

    /// The leader says how far it is safe to apply (SOURCES M9). A late message says less than we know.
    pub(crate) fn follow_commit(&mut self, index: Index) {
        if index > self.log.commit_index {
            self.commit(index);
        }
    }
}

/// To look at.
impl Node {
    /// The lowest index that a follower which still answers needs, so that the caller can keep the log
    /// that far back for a while: of one that receives a snapshot the first behind it. None if this server does not
    /// lead, or nobody answers.
    pub fn oldest_needed_index(&self) -> Option<Index> {
        let needed = self.answering_followers().map(|progress| match &progress.state {
            ProgressState::Snapshot(stream) => stream.snapshot.last_included.index.next(),
            ProgressState::Probe { .. } | ProgressState::Replicate { .. } => progress.match_index.next(),
        });
        needed.min()
    }

    /// The snapshots that are on their way to followers which still answer. Each should be there until it is in its
    /// place: otherwise the transfer begins anew, with a newer one. Empty on other servers.
    pub fn snapshots_sent(&self) -> impl Iterator<Item = EntryId> + '_ {
        self.answering_followers().filter_map(|progress| match &progress.state {
            ProgressState::Snapshot(stream) => Some(stream.snapshot.last_included),
            ProgressState::Probe { .. } | ProgressState::Replicate { .. } => None,
        })
    }

    fn answering_followers(&self) -> impl Iterator<Item = &Progress> + '_ {
        let alive_since = Time(self.now.0.saturating_sub(self.options.election_timeout_us));
        let followers = self.followers().map(|(_, progress)| progress);
        followers.filter(move |progress| progress.last_heard >= alive_since)
    }

    /// What this leader knows of its followers: how far each agrees durably. Empty on other servers.
    pub fn match_indexes(&self) -> impl Iterator<Item = (NodeId, Index)> + '_ {
        self.followers().map(|(id, progress)| (id, progress.match_index))
    }

    /// The followers for whom this leader waits for what it has asked the caller to read:
    /// [`Effect::LoadEntries`] or [`Effect::LoadSnapshotChunk`]. Empty on other servers.
    pub fn loading_for(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.followers().filter(|(_, progress)| progress.loading.is_some()).map(|(id, _)| id)
    }

    fn followers(&self) -> impl Iterator<Item = (NodeId, &Progress)> + '_ {
        let progress = match &self.role {
            Role::Leader(leader) => Some(&leader.progress),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => None,
        };
        progress.into_iter().flatten().map(|(&id, progress)| (id, progress))
    }
}

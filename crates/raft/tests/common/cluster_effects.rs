//! Carrying out what the nodes ask for, and telling them what happened.

use bytes::Bytes;
use tenure_raft::{
    AppendReply, Effect, Entry, EntryId, Envelope, Event, Fate, Index, Message, Node, NodeId, ReadId,
    RoleKind, Snapshot, SnapshotChunk, Time, invariants,
};

use super::{Answer, Cluster, Happening, Image, Machine, Operation, Write};

impl Cluster {
    /// Something happens. What was begun before a server's crash does not reach it any more.
    pub(super) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Deliver(envelope) => {
                let (from, to) = (envelope.from, envelope.to);
                if self.server(to).node.is_some() && !self.network.is_cut(from, to) {
                    self.input(to, |node, now| node.step(now, envelope));
                }
            }
            Happening::DiskDone { id, start } if self.is_running(id, start) => self.on_disk_done(id),
            Happening::Persisted { id, start, token } if self.is_running(id, start) => {
                self.input(id, |node, now| node.on_persisted(now, token));
            }
            Happening::Applied { id, start } if self.is_running(id, start) => self.on_applied(id),
            Happening::ChunkStored { id, start, last_included } if self.is_running(id, start) => {
                self.input(id, |node, now| node.on_snapshot_chunk_stored(now, last_included));
            }
            Happening::ConnectionBroke { id, peer } if self.server(id).node.is_some() => {
                self.input(id, |node, now| node.on_unreachable(now, peer));
            }
            Happening::DiskDone { .. }
            | Happening::Persisted { .. }
            | Happening::Applied { .. }
            | Happening::ChunkStored { .. }
            | Happening::ConnectionBroke { .. } => {}
        }
    }

    fn is_running(&self, id: NodeId, start: u64) -> bool {
        let server = self.server(id);
        server.node.is_some() && server.start == start
    }

    /// One input of a node, with everything that follows from it.
    pub(crate) fn input<R>(&mut self, id: NodeId, input: impl FnOnce(&mut Node, Time) -> R) -> R {
        let result = self.input_before_drain(id, input);
        self.drain(id);
        result
    }

    pub(super) fn input_before_drain<R>(
        &mut self,
        id: NodeId,
        input: impl FnOnce(&mut Node, Time) -> R,
    ) -> R {
        let now = self.now;
        let node = self.server_mut(id).node.as_mut().expect("the server is up");
        let before = invariants::summary(node);
        let result = input(node, now);
        invariants::check(node);
        invariants::check_step(&before, node);
        result
    }

    /// Carries out the effects that a node has ready.
    pub(super) fn drain(&mut self, id: NodeId) {
        while let Some(node) = &mut self.server_mut(id).node
            && let Some(effect) = node.poll_effect()
        {
            invariants::check(node);
            self.carry_out(id, effect);
        }
    }

    fn carry_out(&mut self, id: NodeId, effect: Effect) {
        match effect {
            Effect::Persist { hard_state, entries, token, then_send } => {
                let before = entries.first().and_then(|first| self.entry_before(id, first.id.index));
                self.judges.on_write(before, &entries);
                self.write(id, Write::Log { hard_state, entries, token, then_send });
            }
            Effect::Send(envelope) => self.transmit(&envelope),
            Effect::Apply(entries) => {
                let at = self.now.after(self.world.apply_us);
                let server = self.server_mut(id);
                server.applying = entries;
                let start = server.start;
                self.later(at, Happening::Applied { id, start });
            }
            Effect::ReadReady { read, index } => self.on_read_ready(id, read, index),
            Effect::ReadFailed { read } => {
                if let Some(read) = self.server_mut(id).reads.remove(&read) {
                    self.answer(read.operation, Answer::NotDone);
                }
            }
            Effect::LoadEntries { to, first, last, max_bytes } => {
                *self.seen.entry("entries loaded").or_default() += 1;
                let entries = load_entries(self.disk(id), first, last, max_bytes);
                self.input(id, |node, now| node.on_entries_loaded(now, to, entries));
            }
            Effect::LoadSnapshotChunk { to, last_included, above, offset, max_bytes } => {
                self.load_chunk(id, to, last_included, (above, offset), max_bytes);
            }
            Effect::StoreSnapshotChunk { snapshot, chunk } => {
                self.store_chunk(id, snapshot.last_included, chunk.offset, &chunk.data);
            }
            Effect::InstallSnapshot(snapshot) => {
                let data = Bytes::from(std::mem::take(&mut self.server_mut(id).incoming));
                self.write(id, Write::Install { snapshot, data });
            }
            Effect::Event(event) => self.on_event(id, &event),
        }
    }

    fn entry_before(&self, id: NodeId, index: Index) -> Option<EntryId> {
        let index = index.previous();
        self.node(id).log().term_at(index).map(|term| EntryId::new(index, term))
    }

    // ---- Disk ---------------------------------------------------------------------------------------

    fn write(&mut self, id: NodeId, write: Write) {
        let server = self.server_mut(id);
        server.disk.under_way.push_back(write);
        if server.writing == 0 {
            self.write_all_that_gathered(id);
        }
    }

    fn write_all_that_gathered(&mut self, id: NodeId) {
        let latency_us = self.dice.between(self.world.disk_us.0, self.world.disk_us.1);
        let at = self.now.after(latency_us);
        let server = self.server_mut(id);
        server.writing = server.disk.under_way.len();
        if server.writing > 0 {
            let start = server.start;
            self.later(at, Happening::DiskDone { id, start });
        }
    }

    /// The disk has finished a write: what waited for it leaves, then the core hears of it. Of several in
    /// one, it hears of the last.
    fn on_disk_done(&mut self, id: NodeId) {
        let mut last = None;
        for _ in 0..self.server(id).writing {
            let write = self.server_mut(id).disk.complete_one();
            let durable_term = self.disk(id).hard_state.current_term;
            self.judges.on_durable_term(id, durable_term);
            match write {
                Some(Write::Log { token, then_send, .. }) => {
                    for envelope in then_send {
                        self.transmit(&envelope);
                    }
                    last = Some(token);
                }
                Some(Write::Install { snapshot, data }) => self.install(id, &snapshot, &data),
                None => {}
            }
        }
        if let Some(token) = last {
            let notice_us = self.dice.between(self.world.notice_us.0, self.world.notice_us.1);
            let now = self.now;
            let server = self.server_mut(id);
            server.noticed_at = server.noticed_at.max(now.after(notice_us));
            let (at, start) = (server.noticed_at, server.start);
            self.later(at, Happening::Persisted { id, start, token });
        }
        self.write_all_that_gathered(id);
    }

    fn install(&mut self, id: NodeId, snapshot: &Snapshot, data: &[u8]) {
        assert!(self.server(id).applying.is_empty(), "nothing is applied while a snapshot is put in place");
        let last_included = snapshot.last_included;
        let mut expected = Machine::default();
        for entry in self.judges.executed_up_to(last_included.index) {
            expected.apply(entry);
        }
        let server = self.server_mut(id);
        server.machine = Machine::restore(data, last_included);
        assert_eq!(server.machine, expected, "a snapshot is what the log up to it leads to");
        server.judged_commit = server.judged_commit.max(last_included.index);
        for operation in self.server_mut(id).proposals.on_snapshot_installed(last_included.index) {
            self.answer(operation, Answer::Unknown);
        }
        self.input(id, |node, now| node.on_snapshot_installed(now, last_included));
        self.serve_reads(id);
    }

    fn load_chunk(
        &mut self,
        id: NodeId,
        to: NodeId,
        last_included: EntryId,
        (above, offset): (Index, u64),
        max_bytes: usize,
    ) {
        let image = self.disk(id);
        let (snapshot, all) = (image.snapshot.clone(), image.snapshot_data.clone());
        if snapshot.last_included != last_included {
            self.input(id, |node, now| node.on_snapshot_unavailable(now, to, last_included));
            return;
        }
        let first = (offset as usize).min(all.len());
        let end = (first + max_bytes).min(all.len());
        let done = end == all.len();
        let data = all.slice(first..end);
        let chunk = SnapshotChunk { above, offset, data, done };
        // Whoever drains goes on with what this leads to: chunk upon chunk, each would be one call deeper.
        self.input_before_drain(id, |node, now| node.on_snapshot_chunk_loaded(now, to, snapshot, chunk));
    }

    fn store_chunk(&mut self, id: NodeId, last_included: EntryId, offset: u64, data: &[u8]) {
        let latency_us = self.dice.between(self.world.disk_us.0, self.world.disk_us.1);
        let at = self.now.after(latency_us);
        let server = self.server_mut(id);
        server.incoming.truncate(offset as usize);
        assert_eq!(server.incoming.len() as u64, offset, "chunks follow each other");
        server.incoming.extend_from_slice(data);
        let start = server.start;
        self.later(at, Happening::ChunkStored { id, start, last_included });
    }

    // ---- Network ------------------------------------------------------------------------------------

    fn transmit(&mut self, envelope: &Envelope) {
        self.judges.on_send(envelope, &self.servers[&envelope.from].disk.durable);
        self.judge_acknowledgement(envelope);
        for at in self.network.route(self.now, envelope, &self.world, &mut self.dice) {
            self.later(at, Happening::Deliver(envelope.clone()));
        }
    }

    // ---- Machine ------------------------------------------------------------------------------------

    fn on_applied(&mut self, id: NodeId) {
        let entries = std::mem::take(&mut self.server_mut(id).applying);
        let Some(last) = entries.last().map(|entry| entry.id.index) else { return };
        for entry in entries {
            self.judges.on_apply(id, &entry);
            self.execute(id, &entry);
        }
        self.input(id, |node, now| node.on_applied(now, last));
        self.serve_reads(id);
    }

    fn execute(&mut self, id: NodeId, entry: &Entry) {
        let server = self.server_mut(id);
        let result = server.machine.apply(entry);
        for (fate, operation) in server.proposals.on_applied(entry.id) {
            let answer = match fate {
                Fate::Committed => Answer::Done(result.clone()),
                Fate::NotCommitted => Answer::NotDone,
                Fate::Unknown => Answer::Unknown,
            };
            self.answer(operation, answer);
        }
    }

    fn on_read_ready(&mut self, id: NodeId, read: ReadId, index: Index) {
        if let Some(read) = self.server_mut(id).reads.get_mut(&read) {
            read.ready_at = Some(index);
        }
        self.serve_reads(id);
    }

    fn serve_reads(&mut self, id: NodeId) {
        for operation in self.server_mut(id).take_ready_reads() {
            let key = self.operations[operation].command.trim_start_matches("get ").to_owned();
            let value = self.machine(id).get(&key);
            self.answer(operation, Answer::Done(value));
        }
    }

    // ---- Judges -------------------------------------------------------------------------------------

    fn on_event(&mut self, id: NodeId, event: &Event) {
        let name = match event {
            Event::BecameLeader { term, .. } => {
                let log = self.servers[&id].node().log();
                let holds = |entry: EntryId| entry.index <= log.start().index || log.matches(entry);
                self.judges.on_leader(id, *term, holds);
                "became leader"
            }
            Event::SteppedDown { .. } => {
                self.tell_waiting_clients(id);
                "stepped down"
            }
            Event::CommitAdvanced { commit } => {
                self.judge_commit(id, *commit);
                "commit advanced"
            }
            Event::BecameFollower { .. } => "became follower",
            Event::BecamePreCandidate { .. } => "became pre-candidate",
            Event::BecameCandidate { .. } => "became candidate",
            Event::VoteGranted { .. } => "vote granted",
            Event::VoteRefused { .. } => "vote refused",
            Event::AppendRejected { .. } => "append rejected",
            Event::Truncated { .. } => "truncated",
            Event::ConfigurationChanged { configuration } => {
                self.server_mut(id).in_force = configuration.clone();
                "configuration changed"
            }
            Event::SnapshotInstalled { .. } => "snapshot installed",
            Event::SnapshotDamaged { .. } => "snapshot damaged",
            Event::TransferStarted { .. } => "transfer started",
            Event::TransferAborted { .. } => "transfer aborted",
        };
        *self.seen.entry(name).or_default() += 1;
    }

    /// A server that no longer leads says so to those who wait; what becomes of their entries is open.
    fn tell_waiting_clients(&mut self, id: NodeId) {
        let waits = |operation: &&mut Operation| operation.server == id && operation.answered.is_none();
        for operation in self.operations.iter_mut().filter(waits) {
            operation.leadership_lost = true;
        }
    }

    /// What a follower says it agrees with must be what the leader has there.
    fn judge_acknowledgement(&self, envelope: &Envelope) {
        let Message::AppendEntriesReply(AppendReply::Accepted { match_index }) = envelope.message else {
            return;
        };
        let Some(leader) = &self.servers[&envelope.to].node else { return };
        if leader.role() == RoleKind::Leader
            && leader.current_term() == envelope.term
            && let Some(term) = leader.log().term_at(match_index)
        {
            let entry = EntryId::new(match_index, term);
            assert!(
                self.disk(envelope.from).holds(entry) || match_index.0 == 0,
                "{envelope}: it has no {entry}"
            );
        }
    }

    fn judge_commit(&mut self, id: NodeId, commit: EntryId) {
        let disks = self.servers.iter().map(|(&id, server)| (id, &server.disk.durable)).collect();
        let server = &self.servers[&id];
        let log = server.node().log();
        for index in server.judged_commit.0 + 1..=commit.index.0 {
            let term = log.term_at(Index(index)).expect("what is committed just now is in the log");
            self.judges.on_commit(EntryId::new(Index(index), term), &server.in_force, &disks);
        }
        self.server_mut(id).judged_commit = commit.index;
    }
}

fn load_entries(image: &Image, first: Index, last: Index, max_bytes: usize) -> Vec<Entry> {
    let mut bytes = 0;
    let wanted = (first.0..=last.0).map_while(|index| image.entry(Index(index)));
    let fits = wanted.take_while(|entry| {
        let fits = bytes == 0 || bytes + entry.size_bytes() <= max_bytes;
        bytes += entry.size_bytes();
        fits
    });
    fits.cloned().collect()
}

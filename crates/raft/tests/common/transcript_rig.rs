//! A cluster on a workbench: nothing moves unless a script says so.
//!
//! Messages lie on the wire until they are delivered, in whatever order the script likes. Disks finish
//! their writes at once unless they are held. The clock stands still but for the commands that move it, and
//! even then only the servers that a command names notice. Every line that the servers give out is written
//! down in the one notation.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Display;

use bytes::Bytes;
use tenure_raft::invariants::{check, check_step, summary};
use tenure_raft::{
    Configuration, Effect, Entry, EntryId, Envelope, Event, Fate, Index, Node, NodeId, Options, Pending,
    ReadId, RoleKind, Snapshot, SnapshotChunk, Time,
};

use super::checks::{History, check_log_matching};
use super::disk::{Disk, Machine, Write};

/// One server, with everything around it.
#[derive(Default)]
pub(crate) struct Server {
    /// None while it is crashed.
    pub(crate) node: Option<Node>,
    pub(crate) disk: Disk,
    pub(crate) machine: Machine,
    /// Writes wait for the script.
    pub(crate) disk_held: bool,
    pub(crate) writes: VecDeque<Write>,
    /// What it is asked to read of its log while writes wait.
    pub(crate) reads: VecDeque<Effect>,
    /// How long the disk takes for a write when it is not held.
    pub(crate) disk_us: u64,
    /// The parts of snapshots that arrive wait for the script.
    pub(crate) snapshots_held: bool,
    pub(crate) arriving: VecDeque<Effect>,
    /// The chunks of snapshots that it is to send wait for the script.
    pub(crate) chunks_held: bool,
    leaving: VecDeque<Effect>,
    incoming: Vec<u8>,
    starts: u64,
    pending: Pending<String>,
    /// The configuration that it goes by, as its events tell it.
    in_force: Configuration,
}

impl Server {
    /// The log as it will be when all writes are done.
    pub(crate) fn log(&self) -> Disk {
        let mut log = self.disk.clone();
        self.writes.iter().filter(|write| !write.done).for_each(|write| log.write(write));
        log
    }
}

/// Whether a line tells what happened, or what was sent and written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineKind {
    Event,
    Traffic,
}

/// What time brings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    Write,
    Timer,
}

/// The cluster.
#[derive(Default)]
pub(crate) struct Rig {
    pub(crate) now: Time,
    pub(crate) options: Options,
    pub(crate) servers: BTreeMap<NodeId, Server>,
    pub(crate) wire: Vec<Envelope>,
    /// Links that lose everything, from and to.
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    pub(crate) lines: Vec<(LineKind, String)>,
    history: History,
    reads: Vec<ReadId>,
}

impl Rig {
    // ---- Servers ------------------------------------------------------------------------------------

    /// Puts up servers that have never run, with the same first configuration; and some that are no members
    /// and know nobody.
    pub(crate) fn build(&mut self, options: Options, first: &Configuration, also: &[NodeId]) {
        *self = Rig { options, ..Rig::default() };
        for id in first.members().chain(also.iter().copied()) {
            let configuration = if first.is_member(id) { first.clone() } else { Configuration::default() };
            let snapshot = Snapshot { configuration, ..Snapshot::default() };
            let disk = Disk { snapshot, ..Disk::default() };
            self.servers.insert(id, Server { disk, ..Server::default() });
            self.start(id);
        }
    }

    /// Starts a server from its disk.
    pub(crate) fn start(&mut self, id: NodeId) {
        let (now, options) = (self.now, self.options.clone());
        let server = self.server(id);
        assert!(server.node.is_none(), "{id} runs already");
        server.starts += 1;
        let seed = id.as_u64() * 1_000 + server.starts;
        server.machine = Machine::of_snapshot(&server.disk.snapshot_data);
        let node = Node::new(id, options, seed, server.disk.restored(), now);
        server.in_force = node.configuration().clone();
        server.node = Some(node);
    }

    /// Power is lost: what was not yet durable is gone.
    pub(crate) fn crash(&mut self, id: NodeId) {
        let server = self.server(id);
        assert!(server.node.take().is_some(), "{id} does not run");
        server.writes.clear();
        server.reads.clear();
        (server.disk_held, server.snapshots_held, server.chunks_held) = (false, false, false);
        server.arriving.clear();
        server.leaving.clear();
        server.incoming.clear();
        server.pending = Pending::default();
    }

    pub(crate) fn server(&mut self, id: NodeId) -> &mut Server {
        self.servers.get_mut(&id).unwrap_or_else(|| panic!("there is no {id}"))
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        self.servers[&id].node.as_ref().unwrap_or_else(|| panic!("{id} does not run"))
    }

    /// The servers that run.
    pub(crate) fn running(&self) -> Vec<NodeId> {
        self.servers.iter().filter(|(_, server)| server.node.is_some()).map(|(&id, _)| id).collect()
    }

    // ---- Inputs -------------------------------------------------------------------------------------

    /// Gives a server an input, then carries out what it asks for.
    pub(crate) fn input<T>(&mut self, id: NodeId, input: impl FnOnce(&mut Node, Time) -> T) -> T {
        let answer = self.call(id, input);
        self.drain(id);
        answer
    }

    fn call<T>(&mut self, id: NodeId, input: impl FnOnce(&mut Node, Time) -> T) -> T {
        let now = self.now;
        let node = self.server(id).node.as_mut().unwrap_or_else(|| panic!("{id} does not run"));
        let before = summary(node);
        let answer = input(node, now);
        check(node);
        check_step(&before, node);
        answer
    }

    /// Lets a server's own next deadline pass. The others do not notice the time unless they are told.
    pub(crate) fn fire(&mut self, id: NodeId) {
        self.now = self.now.max(self.node(id).next_deadline());
        self.input(id, Node::on_time);
    }

    /// The next thing that time brings: a server's deadline, or a slow disk's write.
    pub(crate) fn next_deadline(&self) -> Option<(Time, NodeId, Due)> {
        let timers = self.running().into_iter().map(|id| (self.node(id).next_deadline(), id, Due::Timer));
        let slow = self.servers.iter().filter(|(_, server)| !server.disk_held);
        let writes = slow.filter_map(|(&id, server)| Some((server.writes.front()?.due, id, Due::Write)));
        timers.filter(|(at, ..)| *at != Time::NEVER).chain(writes).min()
    }

    /// It happens.
    pub(crate) fn come(&mut self, at: Time, id: NodeId, due: Due) {
        self.now = self.now.max(at);
        match due {
            Due::Timer => self.input(id, Node::on_time),
            Due::Write => {
                self.finish_writes(id, 1);
                self.drain(id);
            }
        }
    }

    /// Proposes commands together; remembers what became of them.
    pub(crate) fn propose(&mut self, id: NodeId, commands: &[String]) -> Result<(), String> {
        for command in commands {
            let answer = self.call(id, |node, now| node.propose(now, Bytes::from(command.clone())));
            let entry = answer.map_err(|error| error.to_string())?;
            self.server(id).pending.insert(entry, command.clone());
            self.say(LineKind::Event, id, format_args!("proposes {entry}={command}"));
        }
        self.drain(id);
        Ok(())
    }

    /// Asks for a read index.
    pub(crate) fn read(&mut self, id: NodeId) -> Result<(), String> {
        let answer = self.call(id, Node::read_index);
        self.reads.push(answer.map_err(|error| error.to_string())?);
        self.drain(id);
        Ok(())
    }

    /// Takes a snapshot of what is applied.
    pub(crate) fn take_snapshot(&mut self, id: NodeId) {
        let data = self.server(id).machine.to_snapshot(id);
        let last_applied = self.node(id).log().last_applied();
        self.input(id, |node, now| node.on_snapshot_taken(now, last_applied));
        let snapshot = self.node(id).log().snapshot().clone();
        let Snapshot { last_included, configuration } = &snapshot;
        self.say(LineKind::Event, id, format_args!("takes snapshot {last_included} {configuration}"));
        let server = self.server(id);
        (server.disk.snapshot, server.disk.snapshot_data) = (snapshot, data);
    }

    /// Drops the log up to `through`, at most up to the snapshot.
    pub(crate) fn compact(&mut self, id: NodeId, through: Index) {
        self.input(id, |node, _| node.compact_log(through));
        let start = self.node(id).log().start().index;
        self.server(id).disk.compact(start);
    }

    // ---- Effects ------------------------------------------------------------------------------------

    fn drain(&mut self, id: NodeId) {
        let mut events = Vec::new();
        while let Some(effect) = self.server(id).node.as_mut().and_then(Node::poll_effect) {
            self.print(id, &effect);
            self.carry_out(id, effect, &mut events);
        }
        check(self.node(id));
        for event in events {
            self.judge(id, &event);
        }
    }

    fn carry_out(&mut self, id: NodeId, effect: Effect, events: &mut Vec<Event>) {
        match effect {
            Effect::Persist { hard_state, entries, token, then_send } => {
                let now = self.now;
                let server = self.server(id);
                let due = server.writes.back().map_or(now, |write| write.due.max(now)).after(server.disk_us);
                server.writes.push_back(Write { hard_state, entries, token, then_send, due, done: false });
                if !server.disk_held && server.disk_us == 0 {
                    self.finish_writes(id, usize::MAX);
                }
            }
            Effect::Send(envelope) => self.send(envelope),
            Effect::Apply(entries) => self.apply(id, &entries, events),
            Effect::ReadReady { .. } | Effect::ReadFailed { .. } => {}
            Effect::LoadEntries { .. } if self.server(id).disk_held => {
                self.server(id).reads.push_back(effect);
            }
            Effect::LoadEntries { to, first, last, max_bytes } => {
                let entries = self.server(id).log().slice(first, last, max_bytes);
                self.call(id, |node, now| node.on_entries_loaded(now, to, entries));
            }
            Effect::LoadSnapshotChunk { .. } => {
                self.server(id).leaving.push_back(effect);
                if !self.server(id).chunks_held {
                    self.load_chunks(id, usize::MAX);
                }
            }
            Effect::StoreSnapshotChunk { .. } | Effect::InstallSnapshot(_) => {
                self.server(id).arriving.push_back(effect);
                if !self.server(id).snapshots_held {
                    self.finish_arriving(id, usize::MAX);
                }
            }
            Effect::Event(event) => events.push(event),
        }
    }

    /// The disk answers again: all held writes are done, one by one, and what was to be read is read.
    pub(crate) fn release_disk(&mut self, id: NodeId) {
        while !self.server(id).writes.is_empty() {
            self.persist(id, 1);
        }
        self.server(id).disk_held = false;
        let mut events = Vec::new();
        for effect in std::mem::take(&mut self.server(id).reads) {
            self.carry_out(id, effect, &mut events);
        }
    }

    /// The disk does some writes and their messages leave. The server does not hear of it yet.
    pub(crate) fn flush(&mut self, id: NodeId, count: usize) {
        let server = self.server(id);
        let mut done = Vec::new();
        for write in server.writes.iter_mut().take(count).filter(|write| !write.done) {
            write.done = true;
            server.disk.write(write);
            done.append(&mut write.then_send);
        }
        for envelope in done {
            self.send(envelope);
        }
    }

    /// The server hears of writes that are done: of several by the last one's token.
    fn finish_writes(&mut self, id: NodeId, count: usize) {
        self.flush(id, count);
        let server = self.server(id);
        let count = count.min(server.writes.len());
        let last = server.writes.drain(..count).next_back();
        if let Some(write) = last {
            self.call(id, |node, now| node.on_persisted(now, write.token));
        }
    }

    /// The held disk finishes some writes.
    pub(crate) fn persist(&mut self, id: NodeId, count: usize) {
        if let Some(last) = self.server(id).writes.iter().take(count).next_back() {
            let token = last.token;
            self.say(LineKind::Event, id, format_args!("has written {token}"));
        }
        self.finish_writes(id, count);
        self.drain(id);
    }

    fn send(&mut self, envelope: Envelope) {
        let link = (envelope.from, envelope.to);
        self.history.on_message(&envelope, &self.servers[&envelope.from].disk);
        if !self.cut.contains(&link) {
            self.wire.push(envelope);
        }
    }

    fn apply(&mut self, id: NodeId, entries: &[Entry], events: &mut Vec<Event>) {
        // What the same drain said before has to be known before this is judged.
        for event in std::mem::take(events) {
            self.judge(id, &event);
        }
        for entry in entries {
            self.history.on_apply(id, entry);
            self.server(id).machine.apply(entry);
            for (fate, command) in self.server(id).pending.on_applied(entry.id) {
                let fate = match fate {
                    Fate::Committed => "committed",
                    Fate::NotCommitted => "certainly not committed",
                    Fate::Unknown => "unknown",
                };
                self.say(LineKind::Event, id, format_args!("proposal {command}: {fate}"));
            }
        }
        let last = entries.last().expect("something is applied").id.index;
        self.call(id, |node, now| node.on_applied(now, last));
    }

    fn load_chunks(&mut self, id: NodeId, count: usize) {
        for _ in 0..count {
            let Some(Effect::LoadSnapshotChunk { to, last_included, above, offset, max_bytes }) =
                self.server(id).leaving.pop_front()
            else {
                return;
            };
            self.load_chunk(id, to, last_included, (above, offset), max_bytes);
        }
    }

    /// Held chunks are read from the disk.
    pub(crate) fn load(&mut self, id: NodeId, count: usize) {
        self.load_chunks(id, count);
        self.drain(id);
    }

    fn load_chunk(
        &mut self,
        id: NodeId,
        to: NodeId,
        last_included: EntryId,
        (above, offset): (Index, u64),
        max_bytes: usize,
    ) {
        let Disk { snapshot, snapshot_data: data, .. } = self.server(id).disk.clone();
        if snapshot.last_included != last_included {
            return self.call(id, |node, now| node.on_snapshot_unavailable(now, to, last_included));
        }
        let begin = (offset as usize).min(data.len());
        let end = (begin + max_bytes).min(data.len());
        let (data, done) = (data.slice(begin..end), end == data.len());
        let chunk = SnapshotChunk { above, offset, data, done };
        self.call(id, |node, now| node.on_snapshot_chunk_loaded(now, to, snapshot, chunk));
    }

    fn finish_arriving(&mut self, id: NodeId, count: usize) {
        for _ in 0..count {
            match self.server(id).arriving.pop_front() {
                Some(Effect::StoreSnapshotChunk { snapshot, chunk }) => {
                    let incoming = &mut self.server(id).incoming;
                    incoming.truncate(chunk.offset as usize);
                    assert_eq!(incoming.len(), chunk.offset as usize, "chunks follow each other");
                    incoming.extend_from_slice(&chunk.data);
                    let last_included = snapshot.last_included;
                    self.call(id, |node, now| node.on_snapshot_chunk_stored(now, last_included));
                }
                Some(Effect::InstallSnapshot(snapshot)) => self.install(id, snapshot),
                Some(_) | None => return,
            }
        }
    }

    fn install(&mut self, id: NodeId, snapshot: Snapshot) {
        let last_included = snapshot.last_included;
        let expected = self.history.state_at(last_included.index);
        let server = self.server(id);
        let data = Bytes::from(std::mem::take(&mut server.incoming));
        server.machine = Machine::of_snapshot(&data);
        assert_eq!(server.machine, expected, "a snapshot holds what was committed up to {last_included}");
        server.disk.install(snapshot, data);
        // What is still to be written belonged to the log that is gone.
        server.writes.iter_mut().for_each(|write| write.entries.clear());
        for command in server.pending.on_snapshot_installed(last_included.index) {
            self.say(LineKind::Event, id, format_args!("proposal {command}: unknown"));
        }
        self.call(id, |node, now| node.on_snapshot_installed(now, last_included));
    }

    /// Held parts of a snapshot are kept, or a held snapshot is installed.
    pub(crate) fn store(&mut self, id: NodeId, count: usize) {
        self.finish_arriving(id, count);
        self.drain(id);
    }

    // ---- Judging and printing -----------------------------------------------------------------------

    fn judge(&mut self, id: NodeId, event: &Event) {
        let log = self.servers[&id].log();
        match event {
            Event::BecameLeader { term, .. } => self.history.on_leader(id, *term, &log),
            Event::CommitAdvanced { commit } => {
                let disks = self.servers.iter().map(|(&id, server)| (id, &server.disk)).collect();
                let node = self.servers[&id].node.as_ref().expect("it has just spoken");
                let counted = (node.role() == RoleKind::Leader).then_some(&self.servers[&id].in_force);
                self.history.on_commit(&log, commit.index, counted, &disks);
            }
            Event::ConfigurationChanged { configuration } => {
                self.server(id).in_force = configuration.clone();
            }
            Event::BecameFollower { .. }
            | Event::BecamePreCandidate { .. }
            | Event::BecameCandidate { .. }
            | Event::SteppedDown { .. }
            | Event::VoteGranted { .. }
            | Event::VoteRefused { .. }
            | Event::AppendRejected { .. }
            | Event::Truncated { .. }
            | Event::SnapshotInstalled { .. }
            | Event::SnapshotDamaged { .. }
            | Event::TransferStarted { .. }
            | Event::TransferAborted { .. } => {}
        }
    }

    /// What must hold between the servers, after every command.
    pub(crate) fn check(&self) {
        let logs: Vec<Disk> = self.servers.values().map(Server::log).collect();
        check_log_matching(&logs);
        let leaders = self.running().into_iter().filter(|&id| self.node(id).role() == RoleKind::Leader);
        let terms: Vec<_> = leaders.map(|id| self.node(id).current_term()).collect();
        let distinct: BTreeSet<_> = terms.iter().collect();
        assert_eq!(terms.len(), distinct.len(), "Election Safety: two lead in one term");
    }

    fn print(&mut self, id: NodeId, effect: &Effect) {
        match effect {
            Effect::Send(envelope) => {
                let lost = self.cut.contains(&(envelope.from, envelope.to));
                let lost = if lost { " (lost)" } else { "" };
                self.line(LineKind::Traffic, format!("{envelope}{lost}"));
            }
            Effect::Event(event) => self.say(LineKind::Event, id, event),
            Effect::ReadReady { .. } | Effect::ReadFailed { .. } => self.say(LineKind::Event, id, effect),
            Effect::Persist { .. }
            | Effect::Apply(_)
            | Effect::LoadEntries { .. }
            | Effect::LoadSnapshotChunk { .. }
            | Effect::StoreSnapshotChunk { .. }
            | Effect::InstallSnapshot(_) => self.say(LineKind::Traffic, id, effect),
        }
    }

    pub(crate) fn say(&mut self, kind: LineKind, id: NodeId, what: impl Display) {
        self.line(kind, format!("{id} {what}"));
    }

    pub(crate) fn line(&mut self, kind: LineKind, line: String) {
        // Reads begin at a random number; a script counts them.
        let named = self.reads.iter().enumerate().fold(line, |line, (position, read)| {
            line.replace(&format!("r{}", read.0), &format!("r{}", position + 1))
        });
        self.lines.push((kind, named));
    }
}

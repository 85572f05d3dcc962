//! A cluster in one process and in simulated time, with judges that watch every step.
//!
//! Nothing here waits: a queue of things that will happen, each at its simulated time, is worked off in
//! order. One seed decides everything, so a failure repeats. The network and the disks do what
//! [`World`] says; a crash leaves a server only what its disk had finished.

#![allow(dead_code, unused_imports, reason = "each test program uses a part of it")]

#[path = "cluster_disk.rs"]
mod disk;
#[path = "cluster_effects.rs"]
mod effects;
#[path = "cluster_judges.rs"]
mod judges;
#[path = "cluster_linear.rs"]
pub(crate) mod linear;
#[path = "cluster_machine.rs"]
mod machine;
#[path = "cluster_network.rs"]
mod network;
#[path = "cluster_server.rs"]
mod server;
#[path = "cluster_single.rs"]
pub(crate) mod single;

use std::collections::BTreeMap;

use tenure_raft::{
    Configuration, EntryId, Envelope, Index, Node, NodeId, Options, ReadError, RoleKind, Term, Time,
    WriteToken, invariants,
};

pub(crate) use disk::{Disk, Image, Write, entries_of};
pub(crate) use judges::Judges;
pub(crate) use machine::Machine;
pub(crate) use network::{Dice, Network, Sent, World};
pub(crate) use server::{Answer, Moment, Operation, OperationId, Server, WaitingRead};

/// The server with this number.
pub(crate) fn n(id: u64) -> NodeId {
    NodeId::new(id).expect("servers are numbered from one")
}

/// Something that will happen.
#[derive(Clone, Debug)]
enum Happening {
    Deliver(Envelope),
    DiskDone { id: NodeId, start: u64 },
    Persisted { id: NodeId, start: u64, token: WriteToken },
    Applied { id: NodeId, start: u64 },
    ChunkStored { id: NodeId, start: u64, last_included: EntryId },
    ConnectionBroke { id: NodeId, peer: NodeId },
}

/// The cluster and the world around it.
pub(crate) struct Cluster {
    pub(crate) now: Time,
    pub(crate) options: Options,
    pub(crate) world: World,
    pub(crate) network: Network,
    pub(crate) judges: Judges,
    pub(crate) servers: BTreeMap<NodeId, Server>,
    pub(crate) operations: Vec<Operation>,
    moments: u64,
    /// How often the rarer things happened: a run that never met them has proved nothing about them.
    pub(crate) seen: BTreeMap<&'static str, usize>,
    /// Whether servers notice when the process of another dies, as over TCP.
    pub(crate) connections_break: bool,
    pub(crate) dice: Dice,
    happenings: BTreeMap<(Time, u64), Happening>,
    next_happening: u64,
    steps_now: usize,
}

/// Making one, and moving its time.
impl Cluster {
    /// Servers 1 to `count` with empty disks, in a calm world.
    pub(crate) fn new(count: u64, seed: u64) -> Cluster {
        let configuration = Configuration::of_voters((1..=count).map(n));
        let images = (1..=count).map(|id| (n(id), Image::new(configuration.clone()))).collect();
        Cluster::with_disks(images, seed, Options::default(), World::default())
    }

    /// Servers that find these disks when they start.
    pub(crate) fn with_disks(
        images: BTreeMap<NodeId, Image>,
        seed: u64,
        options: Options,
        world: World,
    ) -> Cluster {
        let ids: Vec<NodeId> = images.keys().copied().collect();
        let server = |durable| Server { disk: Disk { durable, ..Disk::default() }, ..Server::default() };
        let mut cluster = Cluster {
            now: Time(0),
            options,
            world,
            network: Network::default(),
            judges: Judges::default(),
            servers: images.into_iter().map(|(id, image)| (id, server(image))).collect(),
            operations: Vec::new(),
            moments: 0,
            seen: BTreeMap::new(),
            connections_break: false,
            dice: Dice::new(seed),
            happenings: BTreeMap::new(),
            next_happening: 0,
            steps_now: 0,
        };
        for id in ids {
            let image = &cluster.server(id).disk.durable;
            let (start, entries) = (image.log_start, image.entries.clone());
            cluster.judges.on_write(Some(start), &entries);
            cluster.restart(id);
        }
        cluster
    }

    fn later(&mut self, at: Time, happening: Happening) {
        self.happenings.insert((at, self.next_happening), happening);
        self.next_happening += 1;
    }

    /// The next moment at which anything happens.
    fn next_time(&self) -> Time {
        let deadlines = self.servers.values().filter_map(|server| server.node.as_ref());
        let deadline = deadlines.map(Node::next_deadline).min().unwrap_or(Time::NEVER);
        let happening = self.happenings.first_key_value().map_or(Time::NEVER, |(&(at, _), _)| at);
        deadline.min(happening)
    }

    /// Lets the next thing happen.
    pub(crate) fn step(&mut self) {
        const MOST_STEPS_AT_ONCE: usize = 100_000;
        let next = self.now.max(self.next_time());
        self.steps_now = if next == self.now { self.steps_now + 1 } else { 0 };
        assert!(
            self.steps_now < MOST_STEPS_AT_ONCE,
            "time goes on: a server does not wake itself without end"
        );
        self.now = next;
        let due: Vec<NodeId> = self.up().filter(|&id| self.node(id).next_deadline() <= self.now).collect();
        if let Some(&id) = due.first() {
            self.input(id, Node::on_time);
        } else if let Some((_, happening)) = self.happenings.pop_first() {
            self.happen(happening);
        }
    }

    /// Lets time pass up to `until`.
    pub(crate) fn run_until(&mut self, until: Time) {
        while self.next_time() <= until {
            self.step();
        }
        self.now = self.now.max(until);
    }

    pub(crate) fn run_for_ms(&mut self, duration_ms: u64) {
        self.run_until(self.now.after(duration_ms * 1_000));
    }

    /// Lets time pass until `condition` holds; it must within `limit_ms`. Returns how long it took, in
    /// microseconds.
    pub(crate) fn await_that(
        &mut self,
        limit_ms: u64,
        what: &str,
        condition: impl Fn(&Cluster) -> bool,
    ) -> u64 {
        let began = self.now;
        let limit = began.after(limit_ms * 1_000);
        while !condition(self) {
            assert!(self.next_time() <= limit, "within {limit_ms} ms: {what}");
            self.step();
        }
        self.now.since_us(began)
    }

    /// Waits until there is a leader that a quorum follows; the newest, should an old one not know yet.
    pub(crate) fn await_leader(&mut self) -> NodeId {
        self.await_that(5_000, "a leader is elected", |cluster| {
            cluster.leader().is_some_and(|leader| cluster.is_followed(leader))
        });
        self.leader().expect("it was awaited")
    }

    /// Waits until one of these leads and more than half of all servers follow it.
    pub(crate) fn await_leader_among(&mut self, those: &[NodeId]) -> NodeId {
        self.await_that(5_000, "one of them is elected", |cluster| {
            cluster.leader().is_some_and(|leader| those.contains(&leader) && cluster.is_followed(leader))
        });
        self.leader().expect("it was awaited")
    }

    /// Waits until every member that is up has executed everything that is in the leader's log. Who was removed
    /// need not.
    pub(crate) fn await_equal(&mut self) {
        self.await_that(10_000, "all servers have executed the same log", |cluster| {
            let Some(leader) = cluster.leader() else { return false };
            let last = cluster.node(leader).log().last();
            let configuration = cluster.node(leader).configuration();
            cluster
                .up()
                .filter(|&id| configuration.is_member(id))
                .all(|id| cluster.node(id).log().last() == last && cluster.machine(id).applied == last.index)
        });
    }

    /// Waits for the answer to an operation.
    pub(crate) fn await_answer(&mut self, operation: OperationId) -> Answer {
        self.await_that(5_000, "an operation is answered", |cluster| {
            cluster.operations[operation].answered.is_some()
        });
        self.operations[operation].answer()
    }
}

/// To look at.
impl Cluster {
    pub(crate) fn server(&self, id: NodeId) -> &Server {
        &self.servers[&id]
    }

    fn server_mut(&mut self, id: NodeId) -> &mut Server {
        self.servers.get_mut(&id).expect("a server of this cluster")
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        self.server(id).node()
    }

    pub(crate) fn machine(&self, id: NodeId) -> &Machine {
        &self.server(id).machine
    }

    pub(crate) fn disk(&self, id: NodeId) -> &Image {
        &self.server(id).disk.durable
    }

    /// The servers that run.
    pub(crate) fn up(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.servers.iter().filter(|(_, server)| server.node.is_some()).map(|(&id, _)| id)
    }

    /// All servers but these.
    pub(crate) fn others(&self, those: &[NodeId]) -> Vec<NodeId> {
        self.servers.keys().copied().filter(|id| !those.contains(id)).collect()
    }

    /// Those that believe that they lead.
    pub(crate) fn leaders(&self) -> Vec<NodeId> {
        self.up().filter(|&id| self.node(id).role() == RoleKind::Leader).collect()
    }

    /// The leader of the newest term that has one.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.leaders().into_iter().max_by_key(|&id| self.node(id).current_term())
    }

    /// Whether more than half of all servers follow it.
    pub(crate) fn is_followed(&self, leader: NodeId) -> bool {
        let term = self.node(leader).current_term();
        let follows =
            |&id: &NodeId| self.node(id).leader_id() == Some(leader) && self.node(id).current_term() == term;
        self.up().filter(follows).count() > self.servers.len() / 2
    }

    /// The terms of a server's log, as the paper draws it.
    pub(crate) fn log_terms(&self, id: NodeId) -> Vec<u64> {
        let log = self.node(id).log();
        let indexes = log.first_index().0..=log.last_index().0;
        indexes.filter_map(|index| log.term_at(Index(index))).map(|term| term.0).collect()
    }

    /// The highest term of all.
    pub(crate) fn highest_term(&self) -> Term {
        self.up().map(|id| self.node(id).current_term()).max().unwrap_or_default()
    }
}

/// What clients and fate do to it.
impl Cluster {
    /// A client asks `server`, which must lead, to execute a command.
    pub(crate) fn propose(&mut self, server: NodeId, command: &str) -> OperationId {
        self.try_propose(server, command).expect("the server takes proposals")
    }

    /// A client asks `server` to execute a command.
    pub(crate) fn try_propose(
        &mut self,
        server: NodeId,
        command: &str,
    ) -> Result<OperationId, tenure_raft::ProposeError> {
        let all = self.try_propose_all(server, &[command])?;
        Ok(all[0])
    }

    /// Proposes several commands together: one drain after all of them.
    pub(crate) fn propose_all(&mut self, server: NodeId, commands: &[&str]) -> Vec<OperationId> {
        self.try_propose_all(server, commands).expect("the server takes proposals")
    }

    fn try_propose_all(
        &mut self,
        id: NodeId,
        commands: &[&str],
    ) -> Result<Vec<OperationId>, tenure_raft::ProposeError> {
        let bytes: Vec<bytes::Bytes> = commands.iter().map(|command| (*command).to_owned().into()).collect();
        let entries: Result<Vec<EntryId>, _> = self.input_before_drain(id, |node, now| {
            bytes.into_iter().map(|command| node.propose(now, command)).collect()
        });
        let mut operations = Vec::new();
        for (entry, command) in entries?.into_iter().zip(commands) {
            let operation = self.call(id, command);
            self.server_mut(id).proposals.insert(entry, operation);
            operations.push(operation);
        }
        self.drain(id);
        Ok(operations)
    }

    /// A client asks `server` for a key's value, without an entry in the log.
    pub(crate) fn read(&mut self, id: NodeId, key: &str) -> Result<OperationId, ReadError> {
        let read = self.input_before_drain(id, Node::read_index)?;
        let operation = self.call(id, &format!("get {key}"));
        self.server_mut(id).reads.insert(read, WaitingRead { operation, ready_at: None });
        self.drain(id);
        Ok(operation)
    }

    fn moment(&mut self) -> Moment {
        self.moments += 1;
        Moment { at: self.now, order: self.moments }
    }

    fn call(&mut self, server: NodeId, command: &str) -> OperationId {
        let called = self.moment();
        self.operations.push(Operation {
            server,
            command: command.to_owned(),
            called,
            answered: None,
            leadership_lost: false,
        });
        self.operations.len() - 1
    }

    fn answer(&mut self, operation: OperationId, answer: Answer) {
        let moment = self.moment();
        let operation = &mut self.operations[operation];
        assert!(operation.answered.is_none(), "{} is answered once", operation.command);
        operation.answered = Some((moment, answer));
    }

    /// The server loses power: what its disk had not finished is gone.
    pub(crate) fn crash(&mut self, id: NodeId) {
        self.crash_with_survivors(id, 0);
    }

    /// The same, but the first `survivors` of the writes under way had reached the disk.
    pub(crate) fn crash_with_survivors(&mut self, id: NodeId, survivors: usize) {
        let server = self.server_mut(id);
        server.node = None;
        server.disk.crash(survivors);
        server.incoming.clear();
        server.applying.clear();
        let reads = std::mem::take(&mut server.reads);
        let mut proposals = std::mem::take(&mut server.proposals);
        for operation in proposals.on_snapshot_installed(Index(u64::MAX)) {
            self.answer(operation, Answer::Unknown);
        }
        for read in reads.into_values() {
            self.answer(read.operation, Answer::NotDone);
        }
        if self.connections_break {
            let peers: Vec<NodeId> = self.up().collect();
            for peer in peers {
                let at = self.now.after(self.world.delay_us.0);
                self.later(at, Happening::ConnectionBroke { id: peer, peer: id });
            }
        }
    }

    /// The server starts with what its disk holds.
    pub(crate) fn restart(&mut self, id: NodeId) {
        let (seed, now, options) = (self.dice.next_u64(), self.now, self.options.clone());
        let server = self.server_mut(id);
        assert!(server.node.is_none(), "only a server that is down starts");
        server.start += 1;
        server.writing = 0;
        server.noticed_at = now;
        let image = &server.disk.durable;
        server.machine = Machine::restore(&image.snapshot_data, image.snapshot.last_included);
        server.judged_commit = image.snapshot.last_included.index;
        let node = Node::new(id, options, seed, image.restored(), now);
        invariants::check(&node);
        server.in_force = node.configuration().clone();
        server.node = Some(node);
        self.drain(id);
    }

    /// Only servers in the same group can talk; those in none are alone.
    pub(crate) fn partition(&mut self, groups: &[&[NodeId]]) {
        self.network.heal();
        let ids: Vec<NodeId> = self.servers.keys().copied().collect();
        for &from in &ids {
            for &to in &ids {
                if !groups.iter().any(|group| group.contains(&from) && group.contains(&to)) {
                    self.network.cut(from, to);
                }
            }
        }
    }

    /// Cuts one server off from all others.
    pub(crate) fn isolate(&mut self, id: NodeId) {
        let rest = self.others(&[id]);
        self.partition(&[&rest]);
    }

    /// Takes a snapshot of a server's machine and forgets its log up to there.
    pub(crate) fn compact(&mut self, id: NodeId) {
        let server = self.server_mut(id);
        let applied = server.node().log().last_applied();
        if applied <= server.disk.durable.snapshot.last_included.index {
            return;
        }
        assert_eq!(server.machine.applied, applied, "the machine has executed what was applied");
        let data = server.machine.snapshot();
        self.input(id, |node, now| node.on_snapshot_taken(now, applied));
        let server = self.server_mut(id);
        let snapshot = server.node().log().snapshot().clone();
        server.disk.durable.take_snapshot(snapshot, data);
        self.input(id, |node, _| node.compact_log(applied));
    }

    /// Gives leadership to `target`.
    pub(crate) fn transfer(&mut self, from: NodeId, target: NodeId) {
        self.input(from, |node, now| node.transfer_leadership(now, target)).expect("the server leads");
    }

    /// Delivers a message now, whatever the network would do.
    pub(crate) fn deliver(&mut self, envelope: Envelope) {
        self.happen(Happening::Deliver(envelope));
    }
}

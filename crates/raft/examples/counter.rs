//! A replicated counter: three servers in one process, each a `Node`, an in-memory "disk" and a number.
//!
//! The whole of what a caller owes the core is in `Server::drain`: write, then send; apply, and report. Here
//! messages arrive at once and a crash is a dropped node; a real caller has sockets and files instead.

use std::collections::{BTreeMap, VecDeque};

use tenure_raft::{Configuration, Effect, Entry, Envelope, Node, NodeId, Options, Payload, Restored, Time};

struct Server {
    node: Node,
    disk: Restored,
    count: u64,
}

impl Server {
    fn start(id: NodeId, disk: Restored, seed: u64, now: Time) -> Server {
        Server { node: Node::new(id, Options::default(), seed, disk.clone(), now), disk, count: 0 }
    }

    /// Does what the node asks for; its messages go into the network.
    fn drain(&mut self, now: Time, network: &mut VecDeque<Envelope>) {
        while let Some(effect) = self.node.poll_effect() {
            match effect {
                Effect::Persist { hard_state, entries, token, then_send } => {
                    self.disk.hard_state = hard_state.unwrap_or(self.disk.hard_state);
                    for entry in entries {
                        self.disk.entries.truncate(entry.id.index.0 as usize - 1);
                        self.disk.entries.push(entry);
                    }
                    network.extend(then_send);
                    self.node.on_persisted(now, token);
                }
                Effect::Send(envelope) => network.push_back(envelope),
                Effect::Apply(entries) => {
                    for entry in entries {
                        self.apply(&entry);
                        self.node.on_applied(now, entry.id.index);
                    }
                }
                Effect::Event(event) => println!("{:>9} µs  {} {event}", now.0, self.node.id()),
                other => unreachable!("no reads, no snapshots: {other}"),
            }
        }
    }

    fn apply(&mut self, entry: &Entry) {
        if let Payload::Command(number) = &entry.payload {
            self.count += String::from_utf8_lossy(number).parse::<u64>().expect("only numbers are proposed");
        }
    }
}

/// Time passes to the next deadline of any server; what is sent arrives at once.
fn step(servers: &mut BTreeMap<NodeId, Server>) -> Time {
    let now = servers.values().map(|server| server.node.next_deadline()).min().expect("servers are up");
    let mut network = VecDeque::new();
    for server in servers.values_mut() {
        server.node.on_time(now);
        server.drain(now, &mut network);
    }
    while let Some(envelope) = network.pop_front() {
        if let Some(server) = servers.get_mut(&envelope.to) {
            server.node.step(now, envelope);
            server.drain(now, &mut network);
        }
    }
    now
}

/// Runs a cluster through the loss of its leader.
pub(crate) fn main() {
    let ids = [1, 2, 3].map(|id| NodeId::new(id).expect("not zero"));
    let mut disk = Restored::default();
    disk.snapshot.configuration = Configuration::of_voters(ids);
    let start = |id: NodeId| (id, Server::start(id, disk.clone(), id.as_u64(), Time(0)));
    let mut servers: BTreeMap<NodeId, Server> = ids.into_iter().map(start).collect();
    let mut crashed = None;
    for number in 1..=10_u64 {
        // Whoever leads takes the number; until somebody does, time passes.
        let command = number.to_string();
        while !servers.values_mut().any(|s| s.node.propose(Time(0), command.clone().into()).is_ok()) {
            step(&mut servers);
        }
        let now = step(&mut servers);
        if number == 5 {
            let leader = servers.values().find_map(|server| server.node.leader_id()).expect("one took it");
            crashed = servers.remove(&leader).map(|server| (leader, server.disk));
        } else if number == 9
            && let Some((id, disk)) = crashed.take()
        {
            servers.insert(id, Server::start(id, disk, 99, now));
        }
    }
    for _ in 0..10 {
        step(&mut servers);
    }
    assert!(servers.values().all(|server| server.count == 55), "1 + 2 + … + 10, on each of the three");
}

//! A follower behind a slow, long or busy link catches up in the time that the link takes, and no byte is sent
//! to it twice.
//!
//! The link is a queue in front of a wire: what is sent waits until all before it has left, and arrives a delay
//! later. Nothing is ever lost on it but while it is cut. Heartbeats and answers have a lane of their own.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tenure_raft::{
    Configuration, Effect, Entry, EntryId, Envelope, Index, Message, Node, NodeId, Options, Restored,
    RoleKind, Snapshot, SnapshotChunk, Time, invariants,
};

const MIB: u64 = 1 << 20;
/// How long a disk takes for a write.
const DISK_US: u64 = 1_000;
/// How long a chunk of a snapshot takes that is not synced.
const STORE_US: u64 = 200;
/// What a message takes on the wire besides its entries.
const HEADER_BYTES: u64 = 64;

fn n(number: u64) -> NodeId {
    NodeId::new(number).expect("ids count from one")
}

/// A way from the leader to one follower.
#[derive(Clone, Copy, Debug)]
struct Link {
    bytes_per_s: u64,
    delay_us: u64,
    is_cut: bool,
    free_at_us: u64,
    /// Bytes of entries and of snapshots that were put on it.
    sent_bytes: u64,
    waiting_bytes: u64,
    most_waiting_bytes: u64,
}

impl Link {
    fn new(mib_per_s: u64, delay_us: u64) -> Link {
        Link {
            bytes_per_s: mib_per_s * MIB,
            delay_us,
            is_cut: false,
            free_at_us: 0,
            sent_bytes: 0,
            waiting_bytes: 0,
            most_waiting_bytes: 0,
        }
    }
}

#[derive(Debug)]
enum Event {
    Arrives(Envelope),
    /// It has left the queue of its link.
    Leaves {
        to: usize,
        bytes: u64,
    },
    Written {
        server: usize,
        token: tenure_raft::WriteToken,
        then_send: Vec<Envelope>,
    },
    Stored {
        server: usize,
        last_included: EntryId,
    },
    Installed {
        server: usize,
        last_included: EntryId,
    },
    Timer(usize),
}

/// Three servers, and what is under way between them.
struct Rig {
    nodes: Vec<Node>,
    /// All entries of each server, as its disk has them.
    disks: Vec<Vec<Entry>>,
    /// From the leader, the first server, to each.
    links: Vec<Link>,
    now_us: u64,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    timers: Vec<u64>,
    value: Bytes,
    chunk: Bytes,
    /// How long a snapshot is.
    state_bytes: u64,
    /// Those that were sent.
    snapshots: BTreeSet<EntryId>,
}

impl Rig {
    fn new(links: [Link; 3]) -> Rig {
        let snapshot =
            Snapshot { configuration: Configuration::of_voters([n(1), n(2), n(3)]), ..Snapshot::default() };
        let options = Options {
            // As the server has them: etcd's 1 s, and three quarters of it at the least.
            election_timeout_us: 750_000,
            election_spread_us: 500_000,
            ..Options::default()
        };
        let node = |number| {
            let restored = Restored { snapshot: snapshot.clone(), ..Restored::default() };
            Node::new(n(number), options.clone(), number, restored, Time(0))
        };
        let mut rig = Rig {
            nodes: (1..=3).map(node).collect(),
            disks: vec![Vec::new(); 3],
            links: links.to_vec(),
            now_us: 0,
            events: BTreeMap::new(),
            next_event: 0,
            timers: vec![u64::MAX; 3],
            value: Bytes::from(vec![7; 64 << 10]),
            chunk: Bytes::from(vec![1; Options::default().snapshot_chunk_bytes]),
            state_bytes: 0,
            snapshots: BTreeSet::new(),
        };
        // The first server is the leader: it is the only one whose time passes until then.
        let deadline = rig.nodes[0].next_deadline();
        rig.now_us = deadline.0;
        rig.nodes[0].on_time(deadline);
        for server in 0..3 {
            rig.drain(server);
        }
        rig.run_until(10_000_000, |rig| rig.nodes[0].role() == RoleKind::Leader);
        rig.run_for(1_000_000);
        rig
    }

    fn add(&mut self, at_us: u64, event: Event) {
        self.events.insert((at_us, self.next_event), event);
        self.next_event += 1;
    }

    fn leader(&self) -> &Node {
        &self.nodes[0]
    }

    fn has_all(&self, server: usize) -> bool {
        self.nodes[server].log().persisted_index() == self.leader().log().last_index()
    }

    fn send(&mut self, envelope: Envelope) {
        let to = envelope.to.as_u64() as usize - 1;
        let from = envelope.from.as_u64() as usize - 1;
        let link = &mut self.links[if from == 0 { to } else { from }];
        if link.is_cut {
            return;
        }
        let mut at_us = self.now_us + link.delay_us;
        let bytes = match &envelope.message {
            Message::AppendEntries { slice, .. } => Some(slice.size_bytes() as u64),
            Message::InstallSnapshot { chunk, .. } => Some(chunk.data.len() as u64),
            _ => None,
        };
        if let Some(bytes) = bytes.filter(|_| from == 0) {
            let wire_us = (bytes + HEADER_BYTES) * 1_000_000 / link.bytes_per_s;
            link.free_at_us = link.free_at_us.max(self.now_us) + wire_us;
            link.sent_bytes += bytes;
            link.waiting_bytes += bytes;
            link.most_waiting_bytes = link.most_waiting_bytes.max(link.waiting_bytes);
            at_us = link.free_at_us + link.delay_us;
            let leaves_us = link.free_at_us;
            self.add(leaves_us, Event::Leaves { to, bytes });
        }
        self.add(at_us, Event::Arrives(envelope));
    }

    fn drain(&mut self, server: usize) {
        while let Some(effect) = self.nodes[server].poll_effect() {
            match effect {
                Effect::Send(envelope) => self.send(envelope),
                Effect::Persist { entries, token, then_send, .. } => {
                    if let Some(first) = entries.first() {
                        self.disks[server].truncate(first.id.index.0 as usize - 1);
                        self.disks[server].extend(entries);
                    }
                    self.add(self.now_us + DISK_US, Event::Written { server, token, then_send });
                }
                Effect::Apply(entries) => {
                    let last = entries.last().expect("entries are applied").id.index;
                    self.nodes[server].on_applied(Time(self.now_us), last);
                }
                Effect::LoadEntries { to, first, last, max_bytes } => {
                    let entries = self.load(server, first, last, max_bytes);
                    self.nodes[server].on_entries_loaded(Time(self.now_us), to, entries);
                }
                Effect::LoadSnapshotChunk { to, last_included, above, offset, max_bytes } => {
                    self.snapshots.insert(last_included);
                    let snapshot = self.nodes[server].log().snapshot().clone();
                    let len = (self.state_bytes - offset).min(max_bytes as u64);
                    let done = offset + len == self.state_bytes;
                    let data = self.chunk.slice(..len as usize);
                    let chunk = SnapshotChunk { above, offset, data, done };
                    self.nodes[server].on_snapshot_chunk_loaded(Time(self.now_us), to, snapshot, chunk);
                }
                Effect::StoreSnapshotChunk { snapshot, .. } => {
                    let last_included = snapshot.last_included;
                    self.add(self.now_us + STORE_US, Event::Stored { server, last_included });
                }
                Effect::InstallSnapshot(snapshot) => {
                    let last_included = snapshot.last_included;
                    self.disks[server] = self.disks[0][..last_included.index.0 as usize].to_vec();
                    self.add(self.now_us + DISK_US, Event::Installed { server, last_included });
                }
                Effect::Event(_) => {}
                other => panic!("nothing else happens here: {other:?}"),
            }
        }
        invariants::check(&self.nodes[server]);
        let deadline = self.nodes[server].next_deadline().0;
        if deadline != self.timers[server] && deadline != u64::MAX {
            self.timers[server] = deadline;
            self.add(deadline.max(self.now_us), Event::Timer(server));
        }
    }

    fn load(&self, server: usize, first: Index, last: Index, max_bytes: usize) -> Vec<Entry> {
        let mut bytes = 0;
        let stored = &self.disks[server][first.0 as usize - 1..last.0 as usize];
        let fits = |entry: &&Entry| {
            bytes += entry.size_bytes();
            bytes <= max_bytes.max(entry.size_bytes())
        };
        stored.iter().take_while(fits).cloned().collect()
    }

    fn step(&mut self) {
        let ((at_us, _), event) = self.events.pop_first().expect("time goes on");
        self.now_us = at_us;
        let now = Time(at_us);
        let server = match event {
            Event::Leaves { to, bytes } => {
                self.links[to].waiting_bytes -= bytes;
                return;
            }
            Event::Arrives(envelope) => {
                let server = envelope.to.as_u64() as usize - 1;
                self.nodes[server].step(now, envelope);
                server
            }
            Event::Written { server, token, then_send } => {
                for envelope in then_send {
                    self.send(envelope);
                }
                self.nodes[server].on_persisted(now, token);
                server
            }
            Event::Stored { server, last_included } => {
                self.nodes[server].on_snapshot_chunk_stored(now, last_included);
                server
            }
            Event::Installed { server, last_included } => {
                self.nodes[server].on_snapshot_installed(now, last_included);
                server
            }
            Event::Timer(server) => {
                if self.timers[server] != at_us {
                    return;
                }
                self.timers[server] = u64::MAX;
                self.nodes[server].on_time(now);
                server
            }
        };
        self.drain(server);
    }

    fn run_for(&mut self, time_us: u64) {
        let end_us = self.now_us + time_us;
        while self.events.first_key_value().is_some_and(|(&(at_us, _), _)| at_us <= end_us) {
            self.step();
        }
        self.now_us = end_us;
    }

    /// Returns how long it took.
    fn run_until(&mut self, limit_us: u64, is_done: impl Fn(&Rig) -> bool) -> u64 {
        let from_us = self.now_us;
        while !is_done(self) {
            assert!(self.now_us - from_us <= limit_us, "it takes more than {limit_us} us");
            self.step();
        }
        self.now_us - from_us
    }

    fn propose(&mut self, entries: u64) {
        for _ in 0..entries {
            let value = self.value.clone();
            self.nodes[0].propose(Time(self.now_us), value).expect("the leader takes it");
        }
        self.drain(0);
    }

    /// Has the leader take so many bytes, which the third server confirms.
    fn take(&mut self, bytes: u64) {
        let entries = bytes / self.value.len() as u64;
        for _ in 0..entries.div_ceil(64) {
            self.propose(64.min(entries));
            self.run_until(1_000_000, |rig| {
                rig.leader().log().commit_index() == rig.leader().log().last_index()
            });
        }
    }

    /// Runs under a load, for `least_us` at least, until a server is no further behind than what the load brings
    /// in a round trip and a tenth of a second. Returns how long that took.
    fn run_under_load(&mut self, bytes_per_s: u64, server: usize, least_us: u64, limit_us: u64) -> u64 {
        let from_us = self.now_us;
        let entry_bytes = self.value.len() as u64;
        let fresh_us = 2 * self.links[server].delay_us + 100_000;
        let fresh = bytes_per_s * fresh_us / 1_000_000 / entry_bytes + 1;
        let mut proposed_bytes = 0;
        loop {
            self.run_for(1_000);
            let took_us = self.now_us - from_us;
            let behind = self.leader().log().last_index().0 - self.nodes[server].log().persisted_index().0;
            if took_us >= least_us && behind <= if bytes_per_s == 0 { 0 } else { fresh } {
                return took_us;
            }
            assert!(took_us <= limit_us, "it takes more than {limit_us} us");
            let due_bytes = took_us * bytes_per_s / 1_000_000;
            let entries = (due_bytes - proposed_bytes) / entry_bytes;
            proposed_bytes += entries * entry_bytes;
            self.propose(entries);
        }
    }
}

/// One row: a follower that was away comes back behind a link.
#[derive(Clone, Copy, Debug)]
struct Row {
    mib_per_s: u64,
    behind_mib: u64,
    /// Of what the link carries.
    load_percent: u64,
    round_trip_ms: u64,
}

fn check(row: Row) {
    let Row { mib_per_s, behind_mib, load_percent, round_trip_ms } = row;
    let fast = Link::new(10_000, 50);
    let mut rig = Rig::new([fast, Link::new(mib_per_s, round_trip_ms * 500), fast]);
    rig.links[1].is_cut = true;
    rig.nodes[0].on_unreachable(Time(rig.now_us), n(2));
    rig.drain(0);
    rig.take(behind_mib * MIB);
    rig.links[1].is_cut = false;
    let before_bytes = rig.links[1].sent_bytes;
    let missing = rig.nodes[1].log().last_index();
    // The first heartbeat that is answered begins it; meanwhile the load goes on.
    let begins_us = Options::default().heartbeat_interval_us + 5 * round_trip_ms * 500;
    let load_bytes_per_s = mib_per_s * MIB * load_percent / 100;
    let behind_bytes = behind_mib * MIB + load_bytes_per_s * begins_us / 1_000_000;
    let ideal_us = begins_us + behind_bytes * 1_000_000 / (mib_per_s * MIB - load_bytes_per_s);
    let took_us = rig.run_under_load(load_bytes_per_s, 1, begins_us, 10 * ideal_us + 10_000_000);
    let needed: usize = rig.disks[0][missing.0 as usize..].iter().map(Entry::size_bytes).sum();
    let link = rig.links[1];
    println!("{row:?}: {took_us} us of {ideal_us}, at most {} KiB waited", link.most_waiting_bytes >> 10);
    assert!(took_us <= ideal_us * 12 / 10 + 10_000, "{row:?}: {took_us} us instead of {ideal_us}");
    let twice = (link.sent_bytes - before_bytes).saturating_sub(needed as u64);
    assert!(twice <= 64 << 10, "{row:?}: {twice} bytes were sent twice");
    // The window before anything is measured, or what the link carries in two round trips.
    let window_bytes = (mib_per_s * MIB * (2 * round_trip_ms).max(100) / 1_000 * 5 / 4).max(64 * MIB) + MIB;
    assert!(link.most_waiting_bytes <= window_bytes, "{row:?}: {} bytes waited", link.most_waiting_bytes);
}

#[test]
fn a_follower_catches_up_in_the_time_that_its_link_takes() {
    for mib_per_s in [1, 10, 100] {
        for behind_mib in [15, 100] {
            for load_percent in [0, 50, 80] {
                for round_trip_ms in [1, 50, 200] {
                    if behind_mib / mib_per_s <= 20 {
                        check(Row { mib_per_s, behind_mib, load_percent, round_trip_ms });
                    }
                }
            }
        }
    }
}

#[test]
fn a_gibibyte_over_a_fast_long_link() {
    for (mib_per_s, round_trip_ms) in [(100, 1), (1_000, 1), (1_000, 50), (1_000, 200)] {
        check(Row { mib_per_s, behind_mib: 1024, load_percent: 0, round_trip_ms });
    }
    check(Row { mib_per_s: 1_000, behind_mib: 1024, load_percent: 80, round_trip_ms: 20 });
}

/// A follower for whom the log does not reach back is sent the state in the time that its link takes, and the log
/// behind it meanwhile grows by what the load brings.
#[test]
fn a_snapshot_takes_the_time_that_its_link_takes() {
    for (mib_per_s, round_trip_ms) in
        [(1, 1), (10, 1), (10, 50), (100, 1), (100, 50), (1_000, 50), (500, 200)]
    {
        for load_percent in [0, 50] {
            check_snapshot(mib_per_s, round_trip_ms, load_percent);
        }
    }
}

fn check_snapshot(mib_per_s: u64, round_trip_ms: u64, load_percent: u64) {
    let fast = Link::new(10_000, 50);
    let mut rig = Rig::new([fast, Link::new(mib_per_s, round_trip_ms * 500), fast]);
    rig.links[1].is_cut = true;
    rig.nodes[0].on_unreachable(Time(rig.now_us), n(2));
    rig.drain(0);
    rig.take(MIB);
    let (now, applied) = (Time(rig.now_us), rig.leader().log().last_applied());
    rig.nodes[0].on_snapshot_taken(now, applied);
    rig.nodes[0].compact_log(applied);
    rig.drain(0);
    // Five seconds of the link.
    rig.state_bytes = 5 * mib_per_s * MIB;
    rig.links[1].is_cut = false;
    let before_bytes = rig.links[1].sent_bytes;
    // A heartbeat, then a probe, a question and the first chunk, each of which takes its way.
    let begins_us = Options::default().heartbeat_interval_us + 7 * round_trip_ms * 500;
    let load_bytes_per_s = mib_per_s * MIB * load_percent / 100;
    let behind_bytes = rig.state_bytes + load_bytes_per_s * begins_us / 1_000_000;
    let ideal_us = begins_us + behind_bytes * 1_000_000 / (mib_per_s * MIB - load_bytes_per_s);
    let took_us = rig.run_under_load(load_bytes_per_s, 1, begins_us, 10 * ideal_us + 10_000_000);
    let row = format!("{mib_per_s} MiB/s, {round_trip_ms} ms, a load of {load_percent} %");
    println!("{row}: {took_us} us of {ideal_us}, {:?}", rig.snapshots);
    assert!(took_us <= ideal_us * 12 / 10 + 10_000, "{row}: {took_us} us instead of {ideal_us}");
    assert_eq!(rig.snapshots.len(), 1, "{row}: one snapshot is enough");
    let needed: usize = rig.disks[0][applied.0 as usize..].iter().map(Entry::size_bytes).sum();
    let needed_bytes = rig.state_bytes + needed as u64;
    let twice = (rig.links[1].sent_bytes - before_bytes).saturating_sub(needed_bytes);
    assert!(twice <= 64 << 10, "{row}: {twice} bytes were sent twice");
    let window_bytes = (mib_per_s * MIB * (2 * round_trip_ms).max(100) / 1_000 * 5 / 4).max(64 * MIB) + MIB;
    let waited_bytes = rig.links[1].most_waiting_bytes;
    assert!(waited_bytes <= window_bytes, "{row}: {waited_bytes} bytes waited");
}

/// What is under way when a follower stands still for five seconds is not lost: it is answered when it goes on.
#[test]
fn a_pause_of_five_seconds_costs_what_the_link_takes() {
    let fast = Link::new(10_000, 50);
    let mut rig = Rig::new([fast, Link::new(10, 500), fast]);
    let load_bytes_per_s = 4 * MIB;
    rig.links[1].free_at_us = rig.now_us + 5_000_000;
    let before_bytes = rig.links[1].sent_bytes;
    let took_us = rig.run_under_load(load_bytes_per_s, 1, 5_000_000, 60_000_000);
    // 20 MiB have gathered, and 6 MiB/s are left for them.
    assert!((5_000_000..10_000_000).contains(&took_us), "{took_us}");
    let needed: usize = rig.disks[0].iter().map(Entry::size_bytes).sum();
    assert!(rig.links[1].sent_bytes - before_bytes <= needed as u64, "nothing is sent twice");
}

/// A burst behind two slow links: the service goes on in the time that they take.
#[test]
fn a_burst_over_two_slow_links_ends() {
    let slow = Link::new(10, 500);
    let mut rig = Rig::new([Link::new(10_000, 50), slow, slow]);
    rig.propose(512);
    let last = rig.leader().log().last_index();
    let took_us = rig.run_until(10_000_000, |rig| rig.leader().log().commit_index() >= last);
    assert!(took_us <= 3_900_000, "32 MiB take 3.2 s, not {took_us} us");
    rig.propose(1);
    let last = rig.leader().log().last_index();
    rig.run_until(1_000_000, |rig| rig.leader().log().commit_index() >= last);
}

/// What did not leave, because a queue was full, is sent once more and nothing else is.
#[test]
fn what_was_lost_is_sent_again_and_nothing_else() {
    let fast = Link::new(10_000, 50);
    let mut rig = Rig::new([fast, Link::new(100, 5_000), fast]);
    rig.propose(64);
    // All that is under way is lost on the way; later appends arrive.
    let lost: Vec<_> = rig
        .events
        .iter()
        .filter(|(_, event)| {
            matches!(event, Event::Arrives(Envelope { to, message: Message::AppendEntries { .. }, .. }) if *to == n(2))
        })
        .map(|(&at, _)| at)
        .collect();
    let lost_bytes = rig.links[1].waiting_bytes;
    for at in lost {
        rig.events.remove(&at);
    }
    let before_bytes = rig.links[1].sent_bytes;
    rig.run_until(3_000_000, |rig| rig.has_all(1));
    let again = rig.links[1].sent_bytes - before_bytes;
    assert!(again <= lost_bytes, "{again} bytes for {lost_bytes} that were lost");
}

//! The network: a seeded source of delay, loss, duplication and reordering, with links that can be cut in
//! one direction.

use std::collections::BTreeSet;

use tenure_raft::{Envelope, Message, NodeId, Time};

/// A small seeded generator (SplitMix64), apart from the one in the core.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed ^ 0x5eed_5eed_5eed_5eed)
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next_u64() % (high - low + 1)
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.between(1, 100) <= chance
    }
}

/// How the world behaves. Durations in microseconds, chances in percent.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) delay_us: (u64, u64),
    pub(crate) loss_percent: u64,
    pub(crate) duplicate_percent: u64,
    /// How many messages are very late, and by how much.
    pub(crate) straggler_percent: u64,
    pub(crate) straggler_us: u64,
    /// How long a write takes.
    pub(crate) disk_us: (u64, u64),
    /// How long after the write and its messages the core hears of it.
    pub(crate) notice_us: (u64, u64),
    pub(crate) apply_us: u64,
}

impl Default for World {
    /// A calm one: 1 ms a message, 1 ms a write, nothing is lost or overtaken.
    fn default() -> World {
        World {
            delay_us: (1_000, 1_000),
            loss_percent: 0,
            duplicate_percent: 0,
            straggler_percent: 0,
            straggler_us: 0,
            disk_us: (1_000, 1_000),
            notice_us: (0, 0),
            apply_us: 10,
        }
    }
}

impl World {
    /// One where everything can happen to a message, and disks are slower than the network.
    pub(crate) fn hostile() -> World {
        World {
            delay_us: (500, 20_000),
            loss_percent: 10,
            duplicate_percent: 10,
            straggler_percent: 3,
            straggler_us: 3_000_000,
            disk_us: (100, 30_000),
            notice_us: (0, 10_000),
            apply_us: 20_000,
        }
    }
}

/// A message that was sent, whatever became of it.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Time,
    pub(crate) envelope: Envelope,
}

/// Names some messages.
type Filter = Box<dyn Fn(&Envelope) -> bool>;

/// The links between the servers, and everything that was ever sent over them.
#[derive(Default)]
pub(crate) struct Network {
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Messages that a test takes out of the stream to lose them, or to deliver them later itself.
    catch: Option<Filter>,
    pub(crate) caught: Vec<Envelope>,
    pub(crate) sent: Vec<Sent>,
}

impl Network {
    pub(crate) fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(crate) fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.contains(&(from, to))
    }

    /// From now on messages that `which` names are kept in `caught` instead of being delivered.
    pub(crate) fn catch(&mut self, which: impl Fn(&Envelope) -> bool + 'static) {
        self.catch = Some(Box::new(which));
    }

    pub(crate) fn stop_catching(&mut self) {
        self.catch = None;
    }

    /// The moments at which copies of a message arrive.
    pub(crate) fn route(
        &mut self,
        now: Time,
        envelope: &Envelope,
        world: &World,
        dice: &mut Dice,
    ) -> Vec<Time> {
        self.sent.push(Sent { at: now, envelope: envelope.clone() });
        if self.catch.as_ref().is_some_and(|which| which(envelope)) {
            self.caught.push(envelope.clone());
            return Vec::new();
        }
        if self.is_cut(envelope.from, envelope.to) || dice.percent(world.loss_percent) {
            return Vec::new();
        }
        let copies = if dice.percent(world.duplicate_percent) { 2 } else { 1 };
        (0..copies).map(|_| now.after(Network::delay_us(world, dice))).collect()
    }

    fn delay_us(world: &World, dice: &mut Dice) -> u64 {
        let late_us = if dice.percent(world.straggler_percent) { world.straggler_us } else { 0 };
        dice.between(world.delay_us.0, world.delay_us.1) + dice.between(0, late_us)
    }

    /// A place in the stream of messages, to count from.
    pub(crate) fn mark(&self) -> usize {
        self.sent.len()
    }

    /// How many exchanges began since `mark`: a request and its reply count once.
    pub(crate) fn requests_since(&self, mark: usize) -> usize {
        self.sent[mark..].iter().filter(|sent| sent.envelope.message.is_request()).count()
    }

    /// How many bytes were sent since `mark`, with a fixed overhead for each message and each entry.
    pub(crate) fn bytes_since(&self, mark: usize) -> usize {
        const MESSAGE_OVERHEAD_BYTES: usize = 64;
        let sizes = self.sent[mark..].iter().map(|sent| payload_bytes(&sent.envelope.message));
        sizes.map(|payload| MESSAGE_OVERHEAD_BYTES + payload).sum()
    }
}

fn payload_bytes(message: &Message) -> usize {
    match message {
        Message::AppendEntries { slice, .. } => slice.size_bytes(),
        Message::InstallSnapshot { chunk, .. } => chunk.data.len(),
        Message::PreVote { .. }
        | Message::PreVoteReply { .. }
        | Message::RequestVote { .. }
        | Message::RequestVoteReply { .. }
        | Message::AppendEntriesReply(_)
        | Message::Heartbeat { .. }
        | Message::HeartbeatReply { .. }
        | Message::CommitNotice { .. }
        | Message::InstallSnapshotReply { .. }
        | Message::TimeoutNow
        | Message::ReadIndex { .. }
        | Message::ReadIndexReply { .. } => 0,
    }
}

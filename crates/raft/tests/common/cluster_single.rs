//! One server driven by hand: the test is its network, its disk and its clock.

use bytes::Bytes;
use tenure_raft::{
    Configuration, Effect, Entry, EntryId, Envelope, Event, HardState, Index, LogSlice, Message, Node,
    NodeId, Options, ReadId, Snapshot, SnapshotChunk, Term, Time, WriteToken, invariants,
};

use super::{Image, entries_of, n};

/// A write that the server asked for and the test has not finished.
#[derive(Clone, Debug)]
pub(crate) struct OpenWrite {
    pub(crate) hard_state: Option<HardState>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) token: WriteToken,
    pub(crate) then_send: Vec<Envelope>,
}

/// Server 1, with everything that it has asked for.
pub(crate) struct Single {
    pub(crate) node: Node,
    pub(crate) now: Time,
    pub(crate) writes: Vec<OpenWrite>,
    pub(crate) sent: Vec<Envelope>,
    pub(crate) applied: Vec<Entry>,
    pub(crate) events: Vec<Event>,
    /// Applying takes until the test says that it is done.
    pub(crate) applies_slowly: bool,
    /// Snapshots that were given out to be installed.
    pub(crate) installing: Vec<Snapshot>,
    /// Chunks of them that were given out to be kept.
    pub(crate) storing: Vec<SnapshotChunk>,
    pub(crate) reads_ready: Vec<(ReadId, Index)>,
}

impl Single {
    /// Server 1 of `count`, with the log that has these terms.
    pub(crate) fn new(count: u64, terms: &[u64]) -> Single {
        let configuration = Configuration::of_voters((1..=count).map(n));
        Single::with_image(&Image::new(configuration).with_terms(terms), Options::default())
    }

    pub(crate) fn with_image(image: &Image, options: Options) -> Single {
        let node = Node::new(n(1), options, 1, image.restored(), Time(0));
        Single {
            node,
            now: Time(0),
            writes: Vec::new(),
            sent: Vec::new(),
            applied: Vec::new(),
            events: Vec::new(),
            applies_slowly: false,
            installing: Vec::new(),
            storing: Vec::new(),
            reads_ready: Vec::new(),
        }
    }

    /// An input, without finishing any write.
    pub(crate) fn input<R>(&mut self, input: impl FnOnce(&mut Node, Time) -> R) -> R {
        let before = invariants::summary(&self.node);
        let result = input(&mut self.node, self.now);
        invariants::check(&self.node);
        invariants::check_step(&before, &self.node);
        while let Some(effect) = self.node.poll_effect() {
            invariants::check(&self.node);
            match effect {
                Effect::Persist { hard_state, entries, token, then_send } => {
                    self.writes.push(OpenWrite { hard_state, entries, token, then_send });
                }
                Effect::Send(envelope) => self.sent.push(envelope),
                Effect::Apply(entries) => {
                    let last = entries.last().expect("no empty batch is applied").id.index;
                    self.applied.extend(entries);
                    if !self.applies_slowly {
                        self.node.on_applied(self.now, last);
                    }
                }
                Effect::Event(event) => self.events.push(event),
                Effect::ReadReady { read, index } => self.reads_ready.push((read, index)),
                Effect::ReadFailed { .. } | Effect::LoadEntries { .. } | Effect::LoadSnapshotChunk { .. } => {
                }
                Effect::StoreSnapshotChunk { chunk, .. } => self.storing.push(chunk),
                Effect::InstallSnapshot(snapshot) => self.installing.push(snapshot),
            }
        }
        result
    }

    /// The disk finishes all writes, and what waited for them leaves.
    pub(crate) fn finish_writes(&mut self) {
        while !self.writes.is_empty() {
            let write = self.writes.remove(0);
            self.sent.extend(write.then_send);
            self.input(|node, now| node.on_persisted(now, write.token));
        }
    }

    /// A message arrives; no write is finished.
    pub(crate) fn receive_only(&mut self, from: u64, term: u64, message: Message) {
        let envelope = Envelope { from: n(from), to: n(1), term: Term(term), message };
        self.input(|node, now| node.step(now, envelope));
    }

    /// A message arrives, all writes are finished; returns what was sent since.
    pub(crate) fn receive(&mut self, from: u64, term: u64, message: Message) -> Vec<Envelope> {
        self.sent.clear();
        self.receive_only(from, term, message);
        self.finish_writes();
        std::mem::take(&mut self.sent)
    }

    /// Time passes to the server's own deadline.
    pub(crate) fn run_to_deadline(&mut self) {
        self.now = self.now.max(self.node.next_deadline());
        self.input(Node::on_time);
    }

    /// Lets the server win an election with the votes of 2, 3, …, as many as needed.
    pub(crate) fn lead(&mut self) -> Term {
        self.run_to_deadline();
        let voters: Vec<NodeId> = self.node.configuration().members().filter(|&id| id != n(1)).collect();
        for voter in &voters {
            let term = self.node.current_term();
            let reply = Message::PreVoteReply { proposed_term: term.next(), granted: true };
            self.receive(voter.as_u64(), term.0, reply);
        }
        for voter in &voters {
            let term = self.node.current_term();
            self.receive(voter.as_u64(), term.0, Message::RequestVoteReply { granted: true });
        }
        self.node.current_term()
    }

    /// The server proposes a command, without finishing any write.
    pub(crate) fn propose(&mut self, command: &str) -> EntryId {
        let command = Bytes::from(command.to_owned());
        self.input(|node, now| node.propose(now, command)).expect("it leads")
    }
}

/// The entry id at an index of a term.
pub(crate) fn id(index: u64, term: u64) -> EntryId {
    EntryId::new(Index(index), Term(term))
}

/// AppendEntries with entries of these terms after `prev`.
pub(crate) fn append(prev: EntryId, terms: &[u64], leader_commit: u64) -> Message {
    let slice = LogSlice::parse(prev, entries_of(prev, terms)).expect("the test's entries are contiguous");
    Message::AppendEntries { slice, leader_commit: Index(leader_commit) }
}

/// The messages to `to`.
pub(crate) fn to(sent: &[Envelope], to: u64) -> Vec<&Message> {
    sent.iter().filter(|envelope| envelope.to == n(to)).map(|envelope| &envelope.message).collect()
}

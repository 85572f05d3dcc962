//! Whatever a server is sent, and in whatever order: it never panics, never contradicts itself and never
//! goes back on what it has committed. Messages come from members and from strangers, true and made up, of
//! any term and any index, between the events of its own disk, machine and clock.

#[path = "common/cluster.rs"]
mod cluster;

use std::collections::VecDeque;

use bytes::Bytes;
use cluster::{Disk, Image, Write, n};
use proptest::prelude::*;
use tenure_raft::{
    AppendReply, Configuration, Effect, Entry, EntryId, Envelope, Index, Learner, LogSlice, Message, Node,
    Options, Payload, ReadId, Round, Snapshot, SnapshotChunk, SnapshotReply, Term, Time, Voters, invariants,
};

/// Something that happens to the server.
#[derive(Clone, Debug)]
enum Action {
    Receive { from: u64, term: Term, message: Message },
    Wait { us: u64 },
    WaitToDeadline,
    DiskDone,
    DiskDoneUnnoticed,
    Applied,
    ChunkStored,
    ChunkDamaged,
    Propose { bytes: usize },
    Read,
    Unreachable { peer: u64 },
    Transfer { target: u64 },
    Compact,
    Restart { survivors: usize },
}

/// Mostly small numbers, which meet, and the extremes, which overflow.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        16 => 0_u64..8,
        2 => 8_u64..300,
        1 => prop_oneof![Just(u64::MAX), Just(u64::MAX - 1), Just(1 << 62), Just((1 << 62) + 1), any::<u64>()],
    ]
}

fn index() -> impl Strategy<Value = Index> {
    number().prop_map(Index)
}

fn term() -> impl Strategy<Value = Term> {
    number().prop_map(Term)
}

fn entry_id() -> impl Strategy<Value = EntryId> {
    (index(), term()).prop_map(|(index, term)| EntryId::new(index, term))
}

fn configuration() -> BoxedStrategy<Configuration> {
    let voters = || proptest::collection::vec((1_u64..6, 0_u32..4), 0..5);
    let learner = prop_oneof![Just(Learner::Waits), (1_u32..4).prop_map(|votes| Learner::Joins { votes })];
    let learners = proptest::collection::btree_map((1_u64..6).prop_map(n), learner, 0..3);
    (voters(), proptest::option::of(voters()), learners)
        .prop_map(|(voters, old, learners)| {
            let weighted =
                |votes: Vec<(u64, u32)>| Voters::weighted(votes.into_iter().map(|(id, v)| (n(id), v)));
            Configuration { voters: weighted(voters), old_voters: old.map(weighted), learners }
        })
        .boxed()
}

fn payload() -> BoxedStrategy<Payload> {
    prop_oneof![
        1 => Just(Payload::Empty),
        4 => (0_usize..40).prop_map(|len| Payload::Command(Bytes::from(vec![b'x'; len]))),
        1 => configuration().prop_map(Payload::Configuration),
    ]
    .boxed()
}

/// What parsing lets through: entries without a hole, in terms that never decrease.
fn slice() -> BoxedStrategy<LogSlice> {
    let steps = proptest::collection::vec((0_u64..2, payload()), 0..6);
    (entry_id(), steps)
        .prop_filter_map("no entry stands behind the last index", |(prev, steps)| {
            let mut before = prev;
            let mut entries = Vec::new();
            for (step, payload) in steps {
                let index = Index(before.index.0.checked_add(1)?);
                before = EntryId::new(index, Term(before.term.0.saturating_add(step)));
                entries.push(Entry { id: before, payload });
            }
            LogSlice::parse(prev, entries).ok()
        })
        .boxed()
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    (entry_id(), configuration())
        .prop_map(|(last_included, configuration)| Snapshot { last_included, configuration })
}

fn request() -> BoxedStrategy<Message> {
    prop_oneof![
        1 => (term(), entry_id()).prop_map(|(proposed_term, last)| Message::PreVote { proposed_term, last }),
        1 => (entry_id(), any::<bool>())
            .prop_map(|(last, leadership_transfer)| Message::RequestVote { last, leadership_transfer }),
        6 => (slice(), index()).prop_map(|(slice, leader_commit)| Message::AppendEntries { slice, leader_commit }),
        2 => (index(), number())
            .prop_map(|(commit_index, round)| Message::Heartbeat { commit_index, round: Round(round) }),
        2 => (snapshot(), prop_oneof![Just(0), number()], any::<bool>()).prop_map(|(snapshot, offset, done)| {
            let data = Bytes::from_static(b"abc");
            Message::InstallSnapshot { snapshot, chunk: SnapshotChunk { above: Index(0), offset, data, done } }
        }),
        1 => (snapshot(), number(), index()).prop_map(|(snapshot, offset, above)| {
            let chunk = SnapshotChunk { above, offset, ..SnapshotChunk::default() };
            Message::InstallSnapshot { snapshot, chunk }
        }),
        1 => index().prop_map(|commit_index| Message::CommitNotice { commit_index }),
        1 => Just(Message::TimeoutNow),
        1 => number().prop_map(|read| Message::ReadIndex { read: ReadId(read) }),
    ].boxed()
}

fn reply() -> BoxedStrategy<Message> {
    prop_oneof![
        2 => (term(), any::<bool>())
            .prop_map(|(proposed_term, granted)| Message::PreVoteReply { proposed_term, granted }),
        2 => any::<bool>().prop_map(|granted| Message::RequestVoteReply { granted }),
        4 => index()
            .prop_map(|match_index| Message::AppendEntriesReply(AppendReply::Accepted { match_index })),
        4 => (entry_id(), entry_id())
            .prop_map(|(prev, hint)| Message::AppendEntriesReply(AppendReply::Rejected { prev, hint })),
        2 => number().prop_map(|round| Message::HeartbeatReply { round: Round(round) }),
        2 => (entry_id(), number(), index(), any::<bool>()).prop_map(|(last_included, next_offset, above, lacks)| {
            let reply = if lacks {
                SnapshotReply::Missing { next_offset, above }
            } else {
                SnapshotReply::Received { next_offset, above }
            };
            Message::InstallSnapshotReply { last_included, reply }
        }),
        1 => (entry_id(), index()).prop_map(|(last_included, match_index)| {
            let reply = SnapshotReply::Installed { match_index };
            Message::InstallSnapshotReply { last_included, reply }
        }),
        1 => (number(), proptest::option::of(index()))
            .prop_map(|(read, index)| Message::ReadIndexReply { read: ReadId(read), index }),
    ]
    .boxed()
}

fn action() -> impl Strategy<Value = Action> {
    let receive = (1_u64..7, term(), prop_oneof![request(), reply()]);
    prop_oneof![
        24 => receive.prop_map(|(from, term, message)| Action::Receive { from, term, message }),
        2 => (0_u64..400_000).prop_map(|us| Action::Wait { us }),
        4 => Just(Action::WaitToDeadline),
        8 => Just(Action::DiskDone),
        1 => Just(Action::DiskDoneUnnoticed),
        6 => Just(Action::Applied),
        2 => Just(Action::ChunkStored),
        1 => Just(Action::ChunkDamaged),
        4 => (0_usize..60).prop_map(|bytes| Action::Propose { bytes }),
        2 => Just(Action::Read),
        1 => (1_u64..6).prop_map(|peer| Action::Unreachable { peer }),
        1 => (1_u64..6).prop_map(|target| Action::Transfer { target }),
        2 => Just(Action::Compact),
        1 => (0_usize..3).prop_map(|survivors| Action::Restart { survivors }),
    ]
}

/// The answers of the three other members that let the server win every second time, so that the arbitrary
/// messages meet leaders too.
fn election(term: Term) -> [Action; 6] {
    let receive = |from, term, message| Action::Receive { from, term, message };
    let pre_vote = |from| {
        receive(
            from,
            term,
            Message::PreVoteReply { proposed_term: Term(term.0.saturating_add(1)), granted: true },
        )
    };
    let next = Term(term.0.saturating_add(1));
    let vote = |from| receive(from, next, Message::RequestVoteReply { granted: true });
    [Action::WaitToDeadline, pre_vote(2), pre_vote(3), Action::DiskDone, vote(2), vote(3)]
}

/// The server with its disk and its clock.
struct Rig {
    node: Node,
    options: Options,
    now: Time,
    disk: Disk,
    applying: Option<Index>,
    storing: VecDeque<EntryId>,
    led: bool,
}

impl Rig {
    fn new() -> Rig {
        let options = Options {
            max_append_bytes: 100,
            max_inflight_messages: 2,
            max_inflight_bytes: 200,
            max_uncommitted_bytes: 300,
            max_command_bytes: 50,
            max_apply_bytes: 80,
            max_recent_bytes: 100,
            max_early_bytes: 200,
            snapshot_chunk_bytes: 2,
            max_waiting_reads: 3,
            ..Options::default()
        };
        let durable = Image::new(Configuration::of_voters((1..=3).map(n)));
        let node = Node::new(n(1), options.clone(), 7, durable.restored(), Time(0));
        let disk = Disk { durable, ..Disk::default() };
        Rig { node, options, now: Time(0), disk, applying: None, storing: VecDeque::new(), led: false }
    }

    fn input(&mut self, input: impl FnOnce(&mut Node, Time)) {
        let before = invariants::summary(&self.node);
        input(&mut self.node, self.now);
        invariants::check(&self.node);
        invariants::check_step(&before, &self.node);
        while let Some(effect) = self.node.poll_effect() {
            invariants::check(&self.node);
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist { hard_state, entries, token, then_send } => {
                self.disk.under_way.push_back(Write::Log { hard_state, entries, token, then_send });
            }
            Effect::InstallSnapshot(snapshot) => {
                self.disk.under_way.push_back(Write::Install { snapshot, data: Bytes::new() });
            }
            Effect::Apply(entries) => self.applying = entries.last().map(|entry| entry.id.index),
            Effect::LoadEntries { to, first, last, .. } => {
                let wanted = (first.0..=last.0).map_while(|index| self.disk.durable.entry(Index(index)));
                let entries: Vec<Entry> = wanted.take(2).cloned().collect();
                self.node.on_entries_loaded(self.now, to, entries);
            }
            Effect::LoadSnapshotChunk { to, last_included, above, offset, .. } => {
                let snapshot = self.node.log().snapshot().clone();
                if snapshot.last_included == last_included {
                    let (data, done) = (Bytes::from_static(b"ab"), offset > 4);
                    let chunk = SnapshotChunk { above, offset, data, done };
                    self.node.on_snapshot_chunk_loaded(self.now, to, snapshot, chunk);
                } else {
                    self.node.on_snapshot_unavailable(self.now, to, last_included);
                }
            }
            Effect::StoreSnapshotChunk { snapshot, .. } => self.storing.push_back(snapshot.last_included),
            Effect::Send(envelope) => {
                assert_eq!(envelope.from, n(1));
                assert!(self.disk.durable.hard_state.current_term >= envelope.term, "{envelope}");
            }
            Effect::Event(tenure_raft::Event::BecameLeader { .. }) => self.led = true,
            Effect::ReadReady { .. } | Effect::ReadFailed { .. } | Effect::Event(_) => {}
        }
    }

    fn disk_done(&mut self, notice: bool) {
        match self.disk.complete_one() {
            Some(Write::Log { token, .. }) if notice => self.input(|node, now| node.on_persisted(now, token)),
            Some(Write::Install { snapshot, .. }) => {
                assert_eq!(self.applying, None, "nothing is applied while a snapshot is put in place");
                self.input(|node, now| node.on_snapshot_installed(now, snapshot.last_included));
            }
            Some(Write::Log { .. }) | None => {}
        }
    }

    fn applied(&mut self) {
        if let Some(index) = self.applying.take() {
            self.input(|node, now| node.on_applied(now, index));
        }
    }

    fn compact(&mut self) {
        let applied = self.node.log().last_applied();
        if applied > self.disk.durable.snapshot.last_included.index {
            self.input(|node, now| node.on_snapshot_taken(now, applied));
            let snapshot = self.node.log().snapshot().clone();
            self.disk.durable.take_snapshot(snapshot, Bytes::new());
            self.input(|node, _| node.compact_log(applied));
        }
    }

    fn restart(&mut self, survivors: usize) {
        self.disk.crash(survivors);
        self.applying = None;
        self.storing.clear();
        let restored = self.disk.durable.restored();
        self.node = Node::new(n(1), self.options.clone(), self.now.0, restored, self.now);
        self.input(|_, _| {});
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Receive { from, term, message } => {
                let envelope = Envelope { from: n(from), to: n(1), term, message };
                self.input(|node, now| node.step(now, envelope));
            }
            Action::Wait { us } => {
                self.now = self.now.after(us);
                self.input(Node::on_time);
            }
            Action::WaitToDeadline => {
                if self.node.next_deadline() != Time::NEVER {
                    self.now = self.now.max(self.node.next_deadline());
                }
                self.input(Node::on_time);
            }
            Action::DiskDone => self.disk_done(true),
            Action::DiskDoneUnnoticed => self.disk_done(false),
            Action::Applied => self.applied(),
            Action::ChunkStored => {
                if let Some(last_included) = self.storing.pop_front() {
                    self.input(|node, now| node.on_snapshot_chunk_stored(now, last_included));
                }
            }
            Action::ChunkDamaged => {
                let is_install = |write: &mut Write| matches!(write, Write::Install { .. });
                let installing = self.disk.under_way.pop_back_if(is_install);
                if let Some(last_included) = self.storing.pop_front() {
                    self.input(|node, now| node.on_snapshot_damaged(now, last_included));
                } else if let Some(Write::Install { snapshot, .. }) = installing {
                    self.input(|node, now| node.on_snapshot_damaged(now, snapshot.last_included));
                }
            }
            Action::Propose { bytes } => {
                self.input(|node, now| {
                    let _ = node.propose(now, Bytes::from(vec![b'x'; bytes]));
                });
            }
            Action::Read => self.input(|node, now| {
                let _ = node.read_index(now);
            }),
            Action::Unreachable { peer } => self.input(|node, now| node.on_unreachable(now, n(peer))),
            Action::Transfer { target } => {
                self.input(|node, now| {
                    let _ = node.transfer_leadership(now, n(target));
                });
            }
            Action::Compact => self.compact(),
            Action::Restart { survivors } => self.restart(survivors),
        }
    }
}

fn run(actions: Vec<Action>, elections: &[usize]) -> bool {
    let mut rig = Rig::new();
    for (position, action) in actions.into_iter().enumerate() {
        if elections.contains(&position) && rig.node.current_term() < Term::LIMIT {
            for step in election(rig.node.current_term()) {
                rig.act(step);
            }
        }
        rig.act(action);
    }
    rig.led
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nothing that arrives makes a server panic or contradict itself.
    #[test]
    fn no_message_in_any_order_breaks_a_server(
        actions in proptest::collection::vec(action(), 1..80),
        elections in proptest::collection::vec(0_usize..80, 0..4),
    ) {
        run(actions, &elections);
    }
}

/// The scripted elections do succeed, so that leaders are among those who were sent everything.
#[test]
fn the_arbitrary_messages_meet_leaders() {
    assert!(run(vec![Action::DiskDone; 3], &[0]));
}

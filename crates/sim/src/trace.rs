//! What happened, as lines for a person and as one number for comparing two runs.
//!
//! The lines are in the one notation of the project, the `Display` of its types:
//! `n1@3 → n2 AppendEntries 7@2 [8@3 9@3] commit 7`. They are made only if somebody reads them; the number
//! is kept always, from the same facts, so that "the same seed gives the same run" can be checked cheaply.

use std::fmt;

use tenure_raft::{AppendReply, Envelope, Message, NodeId, SnapshotReply};
use tenure_replica::{Acknowledged, Forward, ForwardLacked, ForwardQuestion, ForwardRefused, PeerMessage};

/// How much of a run is told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Detail {
    /// Changes of state: faults, elections, commitment, what clients were told.
    Short,
    /// Every message and every write as well.
    Full,
}

/// Takes the lines of a trace.
pub type Sink = Box<dyn FnMut(&str)>;

/// The trace of a run.
pub(crate) struct Trace {
    hash: u64,
    reader: Option<(Detail, Sink)>,
}

impl Trace {
    pub(crate) fn new() -> Trace {
        Trace { hash: 0, reader: None }
    }

    /// From now on lines of this detail go to `sink`.
    pub(crate) fn read_by(&mut self, detail: Detail, sink: Sink) {
        self.reader = Some((detail, sink));
    }

    /// A number that two runs share only if the same things happened in them in the same order.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Something happened: `facts` say what, for the number, and `text`, for a reader.
    pub(crate) fn line<const N: usize>(
        &mut self,
        now_us: u64,
        detail: Detail,
        facts: [u64; N],
        text: fmt::Arguments<'_>,
    ) {
        self.fold(now_us);
        for fact in facts {
            self.fold(fact);
        }
        if let Some((wanted, sink)) = &mut self.reader
            && detail <= *wanted
        {
            sink(&format!("{:>5}.{:06} {text}", now_us / 1_000_000, now_us % 1_000_000));
        }
    }

    fn fold(&mut self, fact: u64) {
        const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.hash ^ fact ^ MULTIPLIER) * u128::from(MULTIPLIER);
        self.hash = (product as u64 ^ (product >> 64) as u64).rotate_left(23);
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({:016x})", self.hash)
    }
}

/// A message in the notation of traces.
pub(crate) struct Shown<'a> {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) message: &'a PeerMessage,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message {
            PeerMessage::Raft(envelope) => fmt_envelope(envelope, f),
            PeerMessage::Forward(Forward { term, boot, oldest_attempt, commands }) => write!(
                f,
                "{} → {} Forward for {term} boot {boot} from {oldest_attempt} +{}",
                self.from,
                self.to,
                commands.len()
            ),
            PeerMessage::ForwardRefused(ForwardRefused { term, boot, attempts, why }) => write!(
                f,
                "{} → {} ForwardRefused for {term} boot {boot} {attempts:?}: {why:?}",
                self.from, self.to
            ),
            PeerMessage::ForwardQuestion(ForwardQuestion { term, boot, attempts, .. }) => {
                write!(f, "{} → {} ForwardQuestion for {term} boot {boot} {attempts:?}", self.from, self.to)
            }
            PeerMessage::ForwardLacked(ForwardLacked { term, boot, attempts }) => {
                write!(f, "{} → {} ForwardLacked for {term} boot {boot} {attempts:?}", self.from, self.to)
            }
            PeerMessage::ChangeMembers(asked) => {
                write!(f, "{} → {} ChangeMembers {:?}", self.from, self.to, asked.change)
            }
            PeerMessage::MembersChanged(changed) => {
                write!(f, "{} → {} MembersChanged {:?}", self.from, self.to, changed.answer)
            }
            PeerMessage::Room { is_short } => {
                let room = if *is_short { "is short of room" } else { "has room" };
                write!(f, "{} → {} {room}", self.from, self.to)
            }
            PeerMessage::Acknowledged(Acknowledged { term, members }) => {
                write!(f, "{}@{term} → {} Acknowledged", self.from, self.to)?;
                members.iter().try_for_each(|(id, index)| write!(f, " {id} {index}"))
            }
        }
    }
}

/// As the envelope shows itself, but without the bytes of commands.
fn fmt_envelope(envelope: &Envelope, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Message::AppendEntries { slice, leader_commit } = &envelope.message else {
        return write!(f, "{envelope}");
    };
    let Envelope { from, to, term, .. } = envelope;
    write!(f, "{from}@{term} → {to} AppendEntries {} [", slice.prev())?;
    for (position, entry) in slice.entries().iter().enumerate() {
        let space = if position == 0 { "" } else { " " };
        write!(f, "{space}{}", entry.id)?;
    }
    write!(f, "] commit {leader_commit}")
}

/// What distinguishes a message, as numbers.
pub(crate) fn facts_of(message: &PeerMessage) -> [u64; 4] {
    match message {
        PeerMessage::Raft(envelope) => {
            let [kind, first, second] = facts_of_raft(&envelope.message);
            [kind, envelope.term.0, first, second]
        }
        PeerMessage::Forward(forward) => {
            [20, forward.term.0, forward.oldest_attempt, forward.commands.len() as u64]
        }
        PeerMessage::ForwardRefused(refused) => {
            [21, refused.term.0, refused.boot, refused.attempts.first().copied().unwrap_or(0)]
        }
        PeerMessage::ForwardQuestion(question) => {
            [24, question.term.0, question.oldest_attempt, question.attempts.len() as u64]
        }
        PeerMessage::ForwardLacked(lacked) => [25, lacked.term.0, lacked.boot, lacked.attempts.len() as u64],
        PeerMessage::ChangeMembers(asked) => [22, asked.boot, asked.number.0, asked.change.id().as_u64()],
        PeerMessage::MembersChanged(changed) => [23, changed.boot, changed.number.0, 0],
        PeerMessage::Room { is_short } => [26, u64::from(*is_short), 0, 0],
        PeerMessage::Acknowledged(said) => {
            [27, said.term.0, said.members.len() as u64, said.members.iter().map(|(_, index)| index.0).sum()]
        }
    }
}

fn facts_of_raft(message: &Message) -> [u64; 3] {
    match message {
        Message::PreVote { proposed_term, last } => [1, proposed_term.0, last.index.0],
        Message::PreVoteReply { proposed_term, granted } => [2, proposed_term.0, u64::from(*granted)],
        Message::RequestVote { last, leadership_transfer } => {
            [3, last.index.0, u64::from(*leadership_transfer)]
        }
        Message::RequestVoteReply { granted } => [4, u64::from(*granted), 0],
        Message::AppendEntries { slice, leader_commit } => [5, slice.last().index.0, leader_commit.0],
        Message::AppendEntriesReply(AppendReply::Accepted { match_index }) => [6, match_index.0, 0],
        Message::AppendEntriesReply(AppendReply::Rejected { prev, hint }) => [7, prev.index.0, hint.index.0],
        Message::Heartbeat { commit_index, round } => [8, commit_index.0, round.0],
        Message::HeartbeatReply { round } => [9, round.0, 0],
        Message::CommitNotice { commit_index } => [16, commit_index.0, 0],
        Message::InstallSnapshot { snapshot, chunk } => [10, snapshot.last_included.index.0, chunk.offset],
        Message::InstallSnapshotReply { reply: SnapshotReply::Received { next_offset, above }, .. } => {
            [11, *next_offset, above.0]
        }
        Message::InstallSnapshotReply { reply: SnapshotReply::Missing { next_offset, above }, .. } => {
            [17, *next_offset, above.0]
        }
        Message::InstallSnapshotReply { reply: SnapshotReply::Installed { match_index }, .. } => {
            [12, match_index.0, 0]
        }
        Message::TimeoutNow => [13, 0, 0],
        Message::ReadIndex { read } => [14, read.0, 0],
        Message::ReadIndexReply { read, index } => [15, read.0, index.map_or(0, |index| index.0)],
    }
}

//! Somebody who is no member, knows the cluster, and says to its members what would do harm if they believed it.
//!
//! Where there is a leader, or was one lately, nothing of it may have any effect. A member that has had none for long
//! may have to listen (thesis §4.2.2), and nothing then tells a liar from a member that it does not know yet: to such a
//! member the stranger says what a candidate says, and not what a leader would
//! (docs/adr/0013-strangers.md).

use bytes::Bytes;
use tenure_raft::{
    Entry, EntryId, Envelope, Index, LogSlice, Message, NodeId, Payload, RoleKind, Round, Snapshot,
    SnapshotChunk, Term, Time,
};
use tenure_replica::{
    ChangeAnswer, ChangeMembers, Forward, ForwardRefusal, ForwardRefused, MemberChange, MembersChanged,
    PeerMessage, Replica, RequestId,
};
use tenure_store::{Command, PutRequest};

use crate::coverage::Mark;
use crate::judges::{Verdict, require};
use crate::random::Random;
use crate::trace::{Detail, Shown};
use crate::world::World;

const JUDGE: &str = "a stranger changes nothing";
/// The last of a generation of machines: there are never so many.
const STRANGER: u64 = 64;
/// More attempts and requests than wait at a time.
const NUMBERS: u64 = 64;

impl World {
    /// Says something to a member, or to the leader.
    pub(crate) fn speak_as_stranger(&mut self, leader: Option<usize>) -> Verdict {
        let member = self.nemesis.victim(leader);
        let it = &mut self.members[member];
        let Some(process) = it.process.as_mut().filter(|_| it.held.is_none()) else { return Ok(()) };
        let from = NodeId::new(STRANGER).expect("it is not zero");
        let now = it.clock.shows(self.now_us);
        let lie = lie(&process.replica, from, &mut self.nemesis.random);
        let to = it.id;
        let node = process.replica.node();
        let patience_us = self.plan.replica.raft.election_timeout_us;
        let hears =
            |(leader, at): (NodeId, Time)| node.leader_id() == Some(leader) && now.since_us(at) < patience_us;
        let is_led = node.role() == RoleKind::Leader || process.heard_leader_at.is_some_and(hears);
        let is_heard = !is_led && process.replica.listens_to(now, from, &lie);
        self.trace.line(
            self.now_us,
            Detail::Full,
            [54, member as u64, u64::from(is_heard)],
            format_args!("a stranger: {}", Shown { from, to, message: &lie }),
        );
        if is_heard {
            let PeerMessage::Raft(envelope) = &lie else {
                return require(JUDGE, false, || format!("{to} listens to {lie:?}"));
            };
            let believed_term = process.replica.node().believed_term(from, envelope.term);
            let is_not_believed = believed_term != Some(envelope.term);
            if envelope.message.is_from_leader() || is_not_believed {
                return Ok(());
            }
            self.coverage.reach(Mark::StrangerHeard);
            return self.on_arrival(from, to, lie);
        }
        self.coverage.reach(Mark::StrangerIgnored);
        let before = process.replica.status();
        process.replica.on_peer(now, from, lie);
        let after = process.replica.status();
        require(JUDGE, before == after, || format!("{to} was {before:?} and is {after:?}"))?;
        self.wake(member)
    }
}

fn lie(replica: &Replica, from: NodeId, random: &mut Random) -> PeerMessage {
    let node = replica.node();
    let (to, term, last) = (node.id(), node.current_term(), node.log().last());
    let boot = replica.identity().boot;
    match random.below(6) {
        0 => forward(from, term),
        1 => {
            let why = random.pick(&[
                ForwardRefusal::NotLeader,
                ForwardRefusal::Overloaded,
                ForwardRefusal::Unsupported,
            ]);
            PeerMessage::ForwardRefused(ForwardRefused { term, boot, attempts: (1..NUMBERS).collect(), why })
        }
        2 => {
            let change = MemberChange::Remove { id: to };
            PeerMessage::ChangeMembers(ChangeMembers { boot: 1, number: RequestId(1), change, force: true })
        }
        3 => {
            let number = RequestId(random.below(NUMBERS));
            let answer = ChangeAnswer::Done(last.index);
            PeerMessage::MembersChanged(MembersChanged { boot, number, answer })
        }
        _ => {
            let ahead = random.pick(&[0, 1, 2, 1 << 20, 1 << 32, 1 << 33, 1 << 62]);
            let term = Term(term.0.saturating_add(ahead).min(Term::LIMIT.0));
            let message = consensus(replica, from, term, random);
            PeerMessage::Raft(Envelope { from, to, term, message })
        }
    }
}

fn consensus(replica: &Replica, from: NodeId, term: Term, random: &mut Random) -> Message {
    let node = replica.node();
    let last = node.log().last();
    let far = EntryId::new(Index(last.index.0 + (1 << 20)), term);
    match random.below(10) {
        0 => Message::PreVote { proposed_term: term.next(), last: far },
        1 => Message::PreVoteReply { proposed_term: term.next(), granted: true },
        2 => Message::RequestVote { last: far, leadership_transfer: false },
        3 => Message::RequestVote { last: far, leadership_transfer: true },
        4 => Message::TimeoutNow,
        5 => Message::Heartbeat { commit_index: last.index, round: Round(1) },
        6 => Message::HeartbeatReply { round: Round(u64::MAX) },
        7 => Message::CommitNotice { commit_index: last.index },
        8 => {
            let id = EntryId::new(last.index.next(), term.max(last.term));
            let entry = Entry { id, payload: Payload::Command(command(from, 1)) };
            let slice = LogSlice::parse(last, vec![entry]).expect("it follows");
            Message::AppendEntries { slice, leader_commit: id.index }
        }
        _ => {
            let snapshot = Snapshot { last_included: far, configuration: node.configuration().clone() };
            let chunk =
                SnapshotChunk { data: Bytes::from_static(b"lie"), done: true, ..SnapshotChunk::default() };
            Message::InstallSnapshot { snapshot, chunk }
        }
    }
}

fn forward(from: NodeId, term: Term) -> PeerMessage {
    let commands = vec![command(from, 1), command(from, 2)];
    PeerMessage::Forward(Forward { term, boot: 1, oldest_attempt: 1, commands })
}

/// A write of a key that no client has, as it stands in the log.
fn command(from: NodeId, attempt: u64) -> Bytes {
    let mut bytes = Vec::new();
    for number in [from.as_u64(), 1, attempt] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let key = if attempt == 1 { Bytes::from_static(b"stranger") } else { Bytes::new() };
    Command::Put(PutRequest { key, value: Bytes::from_static(b"lie"), ..PutRequest::default() })
        .encode(&mut bytes);
    bytes.into()
}

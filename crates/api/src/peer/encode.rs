//! Messages into frames. Entries, commands and chunks are copied once, into the frame.

use bytes::{BufMut, BytesMut};
use prost::Message as _;
use tenure_raft::{
    AppendReply, Entry, EntryId, Envelope, Index, LogSlice, Message, NodeId, Snapshot, SnapshotChunk,
    SnapshotReply,
};
use tenure_replica::peers::Standing;
use tenure_replica::{
    Acknowledged, Forward, ForwardLacked, ForwardQuestion, ForwardRefusal, ForwardRefused, PeerMessage,
    record,
};

use super::frame::LENGTH_BYTES;
use super::members::{change_members, members, members_changed};
use super::{FrameTooLarge, Handshake, HandshakeRefusal, HandshakeReply, Lane, MAX_FRAME_BYTES, Members};
use super::{MAX_HANDSHAKE_BYTES, MAX_ITEMS};
use crate::pb::peer as pb;

/// Appends a message, as a frame, to what goes out.
pub fn encode_frame(message: &PeerMessage, out: &mut BytesMut) -> Result<(), FrameTooLarge> {
    let body = match message {
        PeerMessage::Raft(envelope) => pb::frame::Body::Raft(raft(envelope)),
        PeerMessage::Forward(message) => pb::frame::Body::Forward(forward(message)),
        PeerMessage::ForwardRefused(message) => pb::frame::Body::ForwardRefused(forward_refused(message)),
        PeerMessage::ForwardQuestion(message) => pb::frame::Body::ForwardQuestion(forward_question(message)),
        PeerMessage::ForwardLacked(message) => pb::frame::Body::ForwardLacked(forward_lacked(message)),
        PeerMessage::ChangeMembers(asked) => pb::frame::Body::ChangeMembers(change_members(asked)),
        PeerMessage::MembersChanged(changed) => pb::frame::Body::MembersChanged(members_changed(changed)),
        PeerMessage::Room { is_short } => pb::frame::Body::Room(pb::Room { is_short: *is_short }),
        PeerMessage::Acknowledged(message) => pb::frame::Body::Acknowledged(acknowledged(message)),
    };
    put_frame(body, MAX_FRAME_BYTES, out)
}

/// Appends the first frame of a connection. Addresses beyond a bound are left out.
pub fn encode_handshake(handshake: &Handshake, out: &mut BytesMut) {
    let lane = match handshake.lane {
        Lane::Urgent => pb::Lane::Urgent,
        Lane::Bulk => pb::Lane::Bulk,
    };
    let handshake = pb::Handshake {
        protocol_version: handshake.protocol_version,
        cluster_id: handshake.cluster_id,
        from: handshake.from.as_u64(),
        to: handshake.to.as_u64(),
        directory_id: handshake.directory_id,
        lane: lane.into(),
        peer_urls: short_addresses(&handshake.peer_urls),
        standing: Some(standing(handshake.standing)),
    };
    let result = put_frame(pb::frame::Body::Handshake(handshake), MAX_HANDSHAKE_BYTES, out);
    assert!(result.is_ok(), "the addresses were cut to fit");
}

fn standing(standing: Standing) -> pb::Standing {
    let Standing { boot, start_id, began } = standing;
    pb::Standing { boot, start_id, term: began.term.0, index: began.index.0 }
}

/// As many of the addresses as a handshake surely has room for.
fn short_addresses(urls: &[String]) -> Vec<String> {
    const MAX_ADDRESSES_BYTES: usize = MAX_HANDSHAKE_BYTES / 2;
    let mut left = MAX_ADDRESSES_BYTES;
    let fits = |url: &&String| {
        // With the head of its field.
        let rest = left.checked_sub(url.len() + 4);
        left = rest.unwrap_or(0);
        rest.is_some()
    };
    urls.iter().take_while(fits).cloned().collect()
}

/// Appends the question who the members are.
pub fn encode_members_request(protocol_version: u32, out: &mut BytesMut) {
    let request = pb::MembersRequest { protocol_version };
    let result = put_frame(pb::frame::Body::MembersRequest(request), MAX_HANDSHAKE_BYTES, out);
    assert!(result.is_ok(), "a number is short");
}

/// Appends the answer to it.
pub fn encode_members(answer: &Members, out: &mut BytesMut) -> Result<(), FrameTooLarge> {
    put_frame(pb::frame::Body::Members(members(answer)), MAX_FRAME_BYTES, out)
}

/// Appends the answer to a handshake. A detail that is too long is cut.
pub fn encode_handshake_reply(reply: &HandshakeReply, out: &mut BytesMut) {
    const MAX_DETAIL_BYTES: usize = MAX_HANDSHAKE_BYTES / 2;
    let outcome = match reply {
        HandshakeReply::Accepted { directory_id, standing: start } => {
            let (directory_id, standing) = (*directory_id, Some(standing(*start)));
            pb::handshake_reply::Outcome::Accepted(pb::HandshakeAccepted { directory_id, standing })
        }
        HandshakeReply::Refused { reason, detail } => {
            let detail = detail[..detail.floor_char_boundary(MAX_DETAIL_BYTES)].to_owned();
            let reason = handshake_refusal(*reason).into();
            pb::handshake_reply::Outcome::Refused(pb::HandshakeRefused { reason, detail })
        }
    };
    let reply = pb::HandshakeReply { outcome: Some(outcome) };
    let result = put_frame(pb::frame::Body::HandshakeReply(reply), MAX_HANDSHAKE_BYTES, out);
    assert!(result.is_ok(), "the detail was cut to fit");
}

fn put_frame(body: pb::frame::Body, limit_bytes: usize, out: &mut BytesMut) -> Result<(), FrameTooLarge> {
    let frame = pb::Frame { body: Some(body) };
    let found_bytes = frame.encoded_len();
    if found_bytes > limit_bytes {
        return Err(FrameTooLarge { found_bytes, limit_bytes });
    }
    out.reserve(LENGTH_BYTES + found_bytes);
    out.put_u32(found_bytes as u32);
    frame.encode(out).expect("the room was reserved");
    Ok(())
}

fn handshake_refusal(reason: HandshakeRefusal) -> pb::handshake_refused::Reason {
    match reason {
        HandshakeRefusal::ProtocolVersion => pb::handshake_refused::Reason::ProtocolVersion,
        HandshakeRefusal::Cluster => pb::handshake_refused::Reason::Cluster,
        HandshakeRefusal::Member => pb::handshake_refused::Reason::Member,
        HandshakeRefusal::Directory => pb::handshake_refused::Reason::Directory,
        HandshakeRefusal::PutBack => pb::handshake_refused::Reason::PutBack,
        HandshakeRefusal::Removed => pb::handshake_refused::Reason::Removed,
    }
}

fn raft(envelope: &Envelope) -> pb::Raft {
    pb::Raft {
        from: envelope.from.as_u64(),
        to: envelope.to.as_u64(),
        term: envelope.term.0,
        message: Some(message(&envelope.message)),
    }
}

fn message(message: &Message) -> pb::raft::Message {
    use pb::raft::Message as Pb;
    match message {
        Message::PreVote { proposed_term, last } => {
            Pb::PreVote(pb::PreVote { proposed_term: proposed_term.0, last: entry_id(*last) })
        }
        Message::PreVoteReply { proposed_term, granted } => {
            Pb::PreVoteReply(pb::PreVoteReply { proposed_term: proposed_term.0, granted: *granted })
        }
        Message::RequestVote { last, leadership_transfer } => Pb::RequestVote(pb::RequestVote {
            last: entry_id(*last),
            leadership_transfer: *leadership_transfer,
        }),
        Message::RequestVoteReply { granted } => {
            Pb::RequestVoteReply(pb::RequestVoteReply { granted: *granted })
        }
        Message::AppendEntries { slice, leader_commit } => {
            Pb::AppendEntries(append_entries(slice, leader_commit.0))
        }
        Message::AppendEntriesReply(reply) => Pb::AppendEntriesReply(append_entries_reply(*reply)),
        Message::Heartbeat { commit_index, round } => {
            Pb::Heartbeat(pb::Heartbeat { commit_index: commit_index.0, round: round.0 })
        }
        Message::HeartbeatReply { round } => Pb::HeartbeatReply(pb::HeartbeatReply { round: round.0 }),
        Message::CommitNotice { commit_index } => {
            Pb::CommitNotice(pb::CommitNotice { commit_index: commit_index.0 })
        }
        Message::InstallSnapshot { snapshot, chunk } => {
            let Snapshot { last_included, configuration } = snapshot;
            let SnapshotChunk { above, offset, data, done } = chunk;
            Pb::InstallSnapshot(pb::InstallSnapshot {
                last_included: entry_id(*last_included),
                configuration: record::encode_configuration(configuration).into(),
                offset: *offset,
                data: data.clone(),
                done: *done,
                above: above.0,
            })
        }
        Message::InstallSnapshotReply { last_included, reply } => {
            Pb::InstallSnapshotReply(install_snapshot_reply(*last_included, *reply))
        }
        Message::TimeoutNow => Pb::TimeoutNow(pb::TimeoutNow {}),
        Message::ReadIndex { read } => Pb::ReadIndex(pb::ReadIndex { read: read.0 }),
        Message::ReadIndexReply { read, index } => {
            Pb::ReadIndexReply(pb::ReadIndexReply { read: read.0, index: index.map(|index| index.0) })
        }
    }
}

fn append_entries(slice: &LogSlice, leader_commit: u64) -> pb::AppendEntries {
    let entries = slice.entries();
    assert!(entries.len() <= MAX_ITEMS, "the window of the leader is smaller than a message");
    pb::AppendEntries {
        prev: entry_id(slice.prev()),
        entries: entries.iter().map(entry).collect(),
        leader_commit,
    }
}

fn entry(entry: &Entry) -> pb::Entry {
    let (kind, data) = record::to_parts(&entry.payload);
    pb::Entry { term: entry.id.term.0, kind: kind.into(), data }
}

fn append_entries_reply(reply: AppendReply) -> pb::AppendEntriesReply {
    let outcome = match reply {
        AppendReply::Accepted { match_index } => {
            pb::append_entries_reply::Outcome::Accepted(pb::AppendAccepted { match_index: match_index.0 })
        }
        AppendReply::Rejected { prev, hint } => {
            let rejected = pb::AppendRejected { prev: entry_id(prev), hint: entry_id(hint) };
            pb::append_entries_reply::Outcome::Rejected(rejected)
        }
    };
    pb::AppendEntriesReply { outcome: Some(outcome) }
}

fn install_snapshot_reply(last_included: EntryId, reply: SnapshotReply) -> pb::InstallSnapshotReply {
    let outcome = match reply {
        SnapshotReply::Received { next_offset, above: Index(above) } => {
            pb::install_snapshot_reply::Outcome::Received(pb::SnapshotReceived { next_offset, above })
        }
        SnapshotReply::Missing { next_offset, above: Index(above) } => {
            pb::install_snapshot_reply::Outcome::Missing(pb::SnapshotMissing { next_offset, above })
        }
        SnapshotReply::Installed { match_index } => {
            let installed = pb::SnapshotInstalled { match_index: match_index.0 };
            pb::install_snapshot_reply::Outcome::Installed(installed)
        }
    };
    pb::InstallSnapshotReply { last_included: entry_id(last_included), outcome: Some(outcome) }
}

/// Absent for the place before the first entry.
fn entry_id(id: EntryId) -> Option<pb::EntryId> {
    (id != EntryId::ZERO).then_some(pb::EntryId { term: id.term.0, index: id.index.0 })
}

fn forward(forward: &Forward) -> pb::Forward {
    assert!(forward.commands.len() <= MAX_ITEMS, "a member forwards less at a time than a message holds");
    pb::Forward {
        term: forward.term.0,
        boot: forward.boot,
        oldest_attempt: forward.oldest_attempt,
        commands: forward.commands.clone(),
    }
}

fn acknowledged(message: &Acknowledged) -> pb::Acknowledged {
    let member =
        |&(id, index): &(NodeId, Index)| pb::acknowledged::Member { id: id.as_u64(), index: index.0 };
    pb::Acknowledged { term: message.term.0, members: message.members.iter().map(member).collect() }
}

fn forward_refused(refused: &ForwardRefused) -> pb::ForwardRefused {
    let reason = match refused.why {
        ForwardRefusal::NotLeader => pb::forward_refused::Reason::NotLeader,
        ForwardRefusal::Overloaded => pb::forward_refused::Reason::Overloaded,
        ForwardRefusal::NoSpace => pb::forward_refused::Reason::NoSpace,
        ForwardRefusal::Unsupported => pb::forward_refused::Reason::Unsupported,
    };
    pb::ForwardRefused {
        term: refused.term.0,
        boot: refused.boot,
        attempts: refused.attempts.clone(),
        reason: reason.into(),
    }
}

fn forward_question(question: &ForwardQuestion) -> pb::ForwardQuestion {
    assert!(question.attempts.len() <= MAX_ITEMS, "a member asks after less at a time than a message holds");
    pb::ForwardQuestion {
        term: question.term.0,
        boot: question.boot,
        oldest_attempt: question.oldest_attempt,
        attempts: question.attempts.clone(),
    }
}

fn forward_lacked(lacked: &ForwardLacked) -> pb::ForwardLacked {
    pb::ForwardLacked { term: lacked.term.0, boot: lacked.boot, attempts: lacked.attempts.clone() }
}

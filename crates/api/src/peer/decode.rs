//! Frames into messages. Everything is checked: what passes cannot break an invariant of the core by its
//! shape, only be untrue.

use bytes::Bytes;
use prost::Message as _;
use tenure_raft::{
    AppendReply, Entry, EntryId, Envelope, Index, LogSlice, Message, NodeId, ReadId, Round, SliceError,
    Snapshot, SnapshotChunk, SnapshotReply, Term,
};
use tenure_replica::peers::Standing;
use tenure_replica::record::{self, RecordError};
use tenure_replica::{
    Acknowledged, Forward, ForwardLacked, ForwardQuestion, ForwardRefusal, ForwardRefused, PeerMessage,
};

use super::members::{parse_change_members, parse_members, parse_members_changed};
use super::{Frame, Handshake, HandshakeRefusal, HandshakeReply, Lane, MAX_ITEMS};
use crate::pb::peer as pb;

/// No log grows this long, and no snapshot: beyond it, arithmetic could overflow.
const POSITION_LIMIT: u64 = 1 << 62;

/// The lists that could be short on the wire and long in memory, and the numbers of the fields that lead to
/// them from the frame (`proto/peer.proto`).
const LISTS: [(&str, &[usize]); 7] = [
    ("entries", &[3, 8, 2]),
    ("commands", &[4, 4]),
    ("addresses", &[1, 7]),
    ("members", &[7, 2]),
    ("addresses", &[7, 2, 3]),
    ("addresses", &[8, 4, 2]),
    ("addresses", &[8, 6, 2]),
];

/// Bytes that are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is no protobuf message of this protocol.
    #[error("not a message: {0}")]
    Protobuf(prost::DecodeError),
    /// It is not even a list of fields.
    #[error("not a message: a field of an unknown form")]
    Malformed,
    /// A part is missing, or of a kind that this version does not know.
    #[error("{0} is missing or unknown")]
    Missing(&'static str),
    /// A member id is zero.
    #[error("a member id is zero")]
    ZeroId,
    /// A term or an index is beyond every bound.
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
    /// A list is longer than allowed.
    #[error("more than {MAX_ITEMS} {0}")]
    TooMany(&'static str),
    /// An entry cannot be read.
    #[error(transparent)]
    Entry(#[from] RecordError),
    /// The entries do not make a slice of a log.
    #[error(transparent)]
    Slice(#[from] SliceError),
}

impl From<prost::DecodeError> for DecodeError {
    fn from(error: prost::DecodeError) -> DecodeError {
        DecodeError::Protobuf(error)
    }
}

/// Reads a frame (without its length). Commands, entries' data and chunks of snapshots are slices of it.
pub fn decode_frame(frame: Bytes) -> Result<Frame, DecodeError> {
    check_lists(&frame)?;
    let body = pb::Frame::decode(frame)?.body.ok_or(DecodeError::Missing("the body"))?;
    Ok(match body {
        pb::frame::Body::Handshake(handshake) => Frame::Handshake(parse_handshake(handshake)?),
        pb::frame::Body::HandshakeReply(reply) => Frame::HandshakeReply(parse_handshake_reply(reply)?),
        pb::frame::Body::Raft(raft) => Frame::Message(PeerMessage::Raft(parse_raft(raft)?)),
        pb::frame::Body::Forward(forward) => Frame::Message(PeerMessage::Forward(parse_forward(forward)?)),
        pb::frame::Body::ForwardRefused(refused) => {
            Frame::Message(PeerMessage::ForwardRefused(parse_forward_refused(refused)?))
        }
        pb::frame::Body::ForwardQuestion(question) => {
            Frame::Message(PeerMessage::ForwardQuestion(parse_forward_question(question)?))
        }
        pb::frame::Body::ForwardLacked(lacked) => {
            Frame::Message(PeerMessage::ForwardLacked(parse_forward_lacked(lacked)?))
        }
        pb::frame::Body::MembersRequest(pb::MembersRequest { protocol_version }) => {
            Frame::MembersRequest { protocol_version }
        }
        pb::frame::Body::Members(members) => Frame::Members(parse_members(members)?),
        pb::frame::Body::ChangeMembers(asked) => {
            Frame::Message(PeerMessage::ChangeMembers(parse_change_members(asked)?))
        }
        pb::frame::Body::MembersChanged(changed) => {
            Frame::Message(PeerMessage::MembersChanged(parse_members_changed(changed)?))
        }
        pb::frame::Body::Room(pb::Room { is_short }) => Frame::Message(PeerMessage::Room { is_short }),
        pb::frame::Body::Acknowledged(acknowledged) => {
            Frame::Message(PeerMessage::Acknowledged(parse_acknowledged(acknowledged)?))
        }
    })
}

fn parse_handshake(handshake: pb::Handshake) -> Result<Handshake, DecodeError> {
    Ok(Handshake {
        protocol_version: handshake.protocol_version,
        cluster_id: handshake.cluster_id,
        from: node_id(handshake.from)?,
        to: node_id(handshake.to)?,
        directory_id: handshake.directory_id,
        lane: match handshake.lane() {
            pb::Lane::Urgent => Lane::Urgent,
            pb::Lane::Bulk => Lane::Bulk,
            pb::Lane::Unspecified => return Err(DecodeError::Missing("the lane")),
        },
        peer_urls: handshake.peer_urls,
        standing: parse_standing(handshake.standing)?,
    })
}

fn parse_standing(standing: Option<pb::Standing>) -> Result<Standing, DecodeError> {
    let pb::Standing { boot, start_id, term: of, index: last } = standing.unwrap_or_default();
    Ok(Standing { boot, start_id, began: EntryId { term: term(of)?, index: index(last)? } })
}

fn parse_handshake_reply(reply: pb::HandshakeReply) -> Result<HandshakeReply, DecodeError> {
    use pb::handshake_reply::Outcome;
    match reply.outcome.ok_or(DecodeError::Missing("the outcome of a handshake"))? {
        Outcome::Accepted(accepted) => {
            let standing = parse_standing(accepted.standing)?;
            Ok(HandshakeReply::Accepted { directory_id: accepted.directory_id, standing })
        }
        Outcome::Refused(refused) => {
            let reason = parse_handshake_refusal(refused.reason())?;
            Ok(HandshakeReply::Refused { reason, detail: refused.detail })
        }
    }
}

fn parse_handshake_refusal(reason: pb::handshake_refused::Reason) -> Result<HandshakeRefusal, DecodeError> {
    use pb::handshake_refused::Reason;
    match reason {
        Reason::Unspecified => Err(DecodeError::Missing("the reason of a refusal")),
        Reason::ProtocolVersion => Ok(HandshakeRefusal::ProtocolVersion),
        Reason::Cluster => Ok(HandshakeRefusal::Cluster),
        Reason::Member => Ok(HandshakeRefusal::Member),
        Reason::Directory => Ok(HandshakeRefusal::Directory),
        Reason::PutBack => Ok(HandshakeRefusal::PutBack),
        Reason::Removed => Ok(HandshakeRefusal::Removed),
    }
}

fn parse_raft(raft: pb::Raft) -> Result<Envelope, DecodeError> {
    Ok(Envelope {
        from: node_id(raft.from)?,
        to: node_id(raft.to)?,
        term: term(raft.term)?,
        message: parse_message(raft.message.ok_or(DecodeError::Missing("a Raft message"))?)?,
    })
}

fn parse_message(message: pb::raft::Message) -> Result<Message, DecodeError> {
    use pb::raft::Message as Pb;
    Ok(match message {
        Pb::PreVote(message) => {
            Message::PreVote { proposed_term: term(message.proposed_term)?, last: entry_id(message.last)? }
        }
        Pb::PreVoteReply(message) => {
            Message::PreVoteReply { proposed_term: term(message.proposed_term)?, granted: message.granted }
        }
        Pb::RequestVote(message) => Message::RequestVote {
            last: entry_id(message.last)?,
            leadership_transfer: message.leadership_transfer,
        },
        Pb::RequestVoteReply(message) => Message::RequestVoteReply { granted: message.granted },
        Pb::AppendEntries(message) => parse_append_entries(message)?,
        Pb::AppendEntriesReply(message) => Message::AppendEntriesReply(parse_append_entries_reply(message)?),
        Pb::Heartbeat(message) => {
            Message::Heartbeat { commit_index: index(message.commit_index)?, round: Round(message.round) }
        }
        Pb::HeartbeatReply(message) => Message::HeartbeatReply { round: Round(message.round) },
        Pb::CommitNotice(message) => Message::CommitNotice { commit_index: index(message.commit_index)? },
        Pb::InstallSnapshot(message) => parse_install_snapshot(message)?,
        Pb::InstallSnapshotReply(message) => parse_install_snapshot_reply(message)?,
        Pb::TimeoutNow(pb::TimeoutNow {}) => Message::TimeoutNow,
        Pb::ReadIndex(message) => Message::ReadIndex { read: ReadId(message.read) },
        Pb::ReadIndexReply(message) => Message::ReadIndexReply {
            read: ReadId(message.read),
            index: message.index.map(index).transpose()?,
        },
    })
}

fn parse_append_entries(message: pb::AppendEntries) -> Result<Message, DecodeError> {
    let prev = entry_id(message.prev)?;
    // `prev` is below the limit, and the list is short: this cannot overflow.
    let indexes = prev.index.0 + 1..;
    let entries = indexes.zip(message.entries).map(|(index, entry)| parse_entry(index, entry));
    let slice = LogSlice::parse(prev, entries.collect::<Result<_, _>>()?)?;
    Ok(Message::AppendEntries { slice, leader_commit: index(message.leader_commit)? })
}

fn parse_entry(index: u64, entry: pb::Entry) -> Result<Entry, DecodeError> {
    let kind = u8::try_from(entry.kind).map_err(|_| DecodeError::OutOfRange("the kind of an entry"))?;
    Ok(record::from_parts(index, entry.term, kind, entry.data)?)
}

fn parse_append_entries_reply(message: pb::AppendEntriesReply) -> Result<AppendReply, DecodeError> {
    use pb::append_entries_reply::Outcome;
    match message.outcome.ok_or(DecodeError::Missing("the outcome of an append"))? {
        Outcome::Accepted(accepted) => {
            Ok(AppendReply::Accepted { match_index: index(accepted.match_index)? })
        }
        Outcome::Rejected(rejected) => {
            Ok(AppendReply::Rejected { prev: entry_id(rejected.prev)?, hint: entry_id(rejected.hint)? })
        }
    }
}

fn parse_install_snapshot(message: pb::InstallSnapshot) -> Result<Message, DecodeError> {
    let configuration = record::decode_configuration(&message.configuration)?;
    let snapshot = Snapshot { last_included: entry_id(message.last_included)?, configuration };
    let (above, offset) = (index(message.above)?, offset(message.offset)?);
    let chunk = SnapshotChunk { above, offset, data: message.data, done: message.done };
    Ok(Message::InstallSnapshot { snapshot, chunk })
}

fn parse_install_snapshot_reply(message: pb::InstallSnapshotReply) -> Result<Message, DecodeError> {
    use pb::install_snapshot_reply::Outcome;
    let reply = match message.outcome.ok_or(DecodeError::Missing("the outcome of a snapshot's chunk"))? {
        Outcome::Received(received) => {
            let (next_offset, above) = (offset(received.next_offset)?, index(received.above)?);
            SnapshotReply::Received { next_offset, above }
        }
        Outcome::Missing(missing) => {
            let (next_offset, above) = (offset(missing.next_offset)?, index(missing.above)?);
            SnapshotReply::Missing { next_offset, above }
        }
        Outcome::Installed(installed) => {
            SnapshotReply::Installed { match_index: index(installed.match_index)? }
        }
    };
    Ok(Message::InstallSnapshotReply { last_included: entry_id(message.last_included)?, reply })
}

fn parse_acknowledged(acknowledged: pb::Acknowledged) -> Result<Acknowledged, DecodeError> {
    let pb::Acknowledged { term: number, members } = acknowledged;
    let members = members.into_iter().map(|member| Ok((node_id(member.id)?, index(member.index)?)));
    Ok(Acknowledged { term: term(number)?, members: members.collect::<Result<_, DecodeError>>()? })
}

fn parse_forward(forward: pb::Forward) -> Result<Forward, DecodeError> {
    let pb::Forward { term: number, boot, oldest_attempt, commands } = forward;
    Ok(Forward { term: term(number)?, boot, oldest_attempt, commands })
}

fn parse_forward_refused(refused: pb::ForwardRefused) -> Result<ForwardRefused, DecodeError> {
    let why = match refused.reason() {
        pb::forward_refused::Reason::NotLeader => ForwardRefusal::NotLeader,
        pb::forward_refused::Reason::Overloaded => ForwardRefusal::Overloaded,
        pb::forward_refused::Reason::NoSpace => ForwardRefusal::NoSpace,
        pb::forward_refused::Reason::Unsupported => ForwardRefusal::Unsupported,
        pb::forward_refused::Reason::Unspecified => {
            return Err(DecodeError::Missing("the reason of a refusal"));
        }
    };
    let pb::ForwardRefused { term: number, boot, attempts, reason: _ } = refused;
    Ok(ForwardRefused { term: term(number)?, boot, attempts: parse_attempts(attempts)?, why })
}

fn parse_forward_question(question: pb::ForwardQuestion) -> Result<ForwardQuestion, DecodeError> {
    let pb::ForwardQuestion { term: number, boot, oldest_attempt, attempts } = question;
    Ok(ForwardQuestion { term: term(number)?, boot, oldest_attempt, attempts: parse_attempts(attempts)? })
}

fn parse_forward_lacked(lacked: pb::ForwardLacked) -> Result<ForwardLacked, DecodeError> {
    let pb::ForwardLacked { term: number, boot, attempts } = lacked;
    Ok(ForwardLacked { term: term(number)?, boot, attempts: parse_attempts(attempts)? })
}

fn parse_attempts(attempts: Vec<u64>) -> Result<Vec<u64>, DecodeError> {
    if attempts.len() > MAX_ITEMS { Err(DecodeError::TooMany("attempts")) } else { Ok(attempts) }
}

pub(super) fn node_id(id: u64) -> Result<NodeId, DecodeError> {
    NodeId::new(id).ok_or(DecodeError::ZeroId)
}

fn term(term: u64) -> Result<Term, DecodeError> {
    let term = Term(term);
    if term > Term::LIMIT { Err(DecodeError::OutOfRange("a term")) } else { Ok(term) }
}

pub(super) fn index(index: u64) -> Result<Index, DecodeError> {
    if index > POSITION_LIMIT { Err(DecodeError::OutOfRange("an index")) } else { Ok(Index(index)) }
}

fn offset(offset: u64) -> Result<u64, DecodeError> {
    if offset > POSITION_LIMIT { Err(DecodeError::OutOfRange("an offset")) } else { Ok(offset) }
}

/// The place of an entry, or (absent) the one before the first.
fn entry_id(id: Option<pb::EntryId>) -> Result<EntryId, DecodeError> {
    let Some(id) = id else { return Ok(EntryId::ZERO) };
    if id.term == 0 || id.index == 0 {
        return Err(DecodeError::OutOfRange("the place of an entry"));
    }
    Ok(EntryId::new(index(id.index)?, term(id.term)?))
}

/// Counts before anything is decoded: an empty entry is two bytes here, and fifty in memory.
fn check_lists(frame: &[u8]) -> Result<(), DecodeError> {
    for (what, path) in LISTS {
        if count(frame, path)? > MAX_ITEMS {
            return Err(DecodeError::TooMany(what));
        }
    }
    Ok(())
}

/// How often the field at the end of the path occurs. A field may be given in several parts, which protobuf
/// puts together: all of them count.
fn count(mut message: &[u8], path: &[usize]) -> Result<usize, DecodeError> {
    let Some((&field, rest)) = path.split_first() else { return Ok(1) };
    let mut total = 0;
    while !message.is_empty() {
        // A key is a number like a length: the field's number and, in three bits, how it is written.
        let key = prost::decode_length_delimiter(&mut message)?;
        let skipped = match key & 7 {
            VARINT => {
                prost::decode_length_delimiter(&mut message)?;
                0
            }
            FIXED_64 => 8,
            FIXED_32 => 4,
            LENGTH_DELIMITED => {
                let length = prost::decode_length_delimiter(&mut message)?;
                if let Some(inside) = message.get(..length).filter(|_| key >> 3 == field) {
                    total += count(inside, rest)?;
                }
                length
            }
            // Groups, which this protocol does not have.
            _ => return Err(DecodeError::Malformed),
        };
        message = message.get(skipped..).ok_or(DecodeError::Malformed)?;
    }
    Ok(total)
}

const VARINT: usize = 0;
const FIXED_64: usize = 1;
const LENGTH_DELIMITED: usize = 2;
const FIXED_32: usize = 5;

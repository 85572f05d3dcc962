//! How Raft's entries and configurations are written as bytes: in the log, and in a peer's frames.
//!
//! A command is stored as it came: it was encoded once, by the member that took the request, and the same
//! bytes go to every log and to apply.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};
use tenure_raft::{
    Configuration, Entry, EntryId, Index, InvalidConfiguration, Learner, NodeId, Payload, Quorums, Term,
    Voters,
};
use tenure_wal::{Position, Record};

const KIND_EMPTY: u8 = 0;
const KIND_COMMAND: u8 = 1;
const KIND_CONFIGURATION: u8 = 2;
/// More members than any cluster has.
const MAX_MEMBERS: usize = 1024;

/// Bytes that are no entry of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    /// A kind that this version does not know.
    #[error("an entry of the unknown kind {0}")]
    UnknownKind(u8),
    /// A configuration that cannot be read.
    #[error("a configuration that cannot be read")]
    Configuration,
    /// An index or a term of zero, or beyond every bound.
    #[error("an entry without a place")]
    Place,
}

/// The entry as the log keeps it.
pub fn to_record(entry: &Entry) -> Record {
    let (kind, data) = to_parts(&entry.payload);
    Record { index: entry.id.index.0, term: entry.id.term.0, kind, data }
}

/// The entry that the log kept.
pub fn from_record(record: Record) -> Result<Entry, RecordError> {
    from_parts(record.index, record.term, record.kind, record.data)
}

/// The kind and the bytes of a payload.
pub fn to_parts(payload: &Payload) -> (u8, Bytes) {
    match payload {
        Payload::Empty => (KIND_EMPTY, Bytes::new()),
        Payload::Command(command) => (KIND_COMMAND, command.clone()),
        Payload::Configuration(configuration) => {
            (KIND_CONFIGURATION, encode_configuration(configuration).into())
        }
    }
}

/// The entry from its parts, checked.
pub fn from_parts(index: u64, term: u64, kind: u8, data: Bytes) -> Result<Entry, RecordError> {
    if index == 0 || term == 0 || index == u64::MAX || Term(term) > Term::LIMIT {
        return Err(RecordError::Place);
    }
    let payload = match kind {
        KIND_EMPTY => Payload::Empty,
        KIND_COMMAND => Payload::Command(data),
        KIND_CONFIGURATION => Payload::Configuration(decode_configuration(&data)?),
        unknown => return Err(RecordError::UnknownKind(unknown)),
    };
    Ok(Entry { id: EntryId::new(Index(index), Term(term)), payload })
}

/// The log's name for an entry.
pub(crate) fn position(id: EntryId) -> Position {
    Position { index: id.index.0, term: id.term.0 }
}

/// Raft's name for an entry.
pub(crate) fn entry_id(position: Position) -> EntryId {
    EntryId::new(Index(position.index), Term(position.term))
}

/// Voters, old voters if joint, learners; each list with its length, little endian. A voter is its id and its
/// votes, behind the quorums of all if they have some; a learner its id and the votes it will have, zero if it
/// waits to be promoted.
pub fn encode_configuration(configuration: &Configuration) -> Vec<u8> {
    let mut out = Vec::new();
    put_voters(&mut out, &configuration.voters);
    out.put_u8(u8::from(configuration.is_joint()));
    if let Some(old_voters) = &configuration.old_voters {
        put_voters(&mut out, old_voters);
    }
    out.put_u32_le(configuration.learners.len() as u32);
    for (id, learner) in &configuration.learners {
        out.put_u64_le(id.as_u64());
        out.put_u32_le(match *learner {
            Learner::Waits => 0,
            Learner::Joins { votes } => votes,
        });
    }
    out
}

/// The configuration that [`encode_configuration`] wrote.
pub fn decode_configuration(mut bytes: &[u8]) -> Result<Configuration, RecordError> {
    let input = &mut bytes;
    let voters = take_voters(input)?;
    let old_voters = match input.try_get_u8() {
        Ok(0) => None,
        Ok(1) => Some(take_voters(input)?),
        Ok(_) | Err(_) => return Err(RecordError::Configuration),
    };
    let mut learners = BTreeMap::new();
    for _ in 0..take_count(input)? {
        let id = take_id(input)?;
        let learner = match take_u32(input)? {
            0 => Learner::Waits,
            number => Learner::Joins { votes: number },
        };
        learners.insert(id, learner);
    }
    if input.has_remaining() {
        return Err(RecordError::Configuration);
    }
    let configuration = Configuration { voters, old_voters, learners };
    match configuration.check() {
        // By such quorums two leaders could be elected: no leader has made it.
        Err(InvalidConfiguration::QuorumsDoNotMeet { .. }) => Err(RecordError::Configuration),
        // Who joins knows no voter until the log tells it.
        Ok(()) | Err(InvalidConfiguration::NoVoters | InvalidConfiguration::VoterAndLearner { .. }) => {
            Ok(configuration)
        }
    }
}

fn put_voters(out: &mut Vec<u8>, voters: &Voters) {
    out.put_u8(u8::from(voters.quorums().is_some()));
    if let Some(Quorums { election_votes, commit_votes }) = voters.quorums() {
        out.put_u64_le(election_votes);
        out.put_u64_le(commit_votes);
    }
    out.put_u32_le(voters.len() as u32);
    for (id, votes) in voters.iter() {
        out.put_u64_le(id.as_u64());
        out.put_u32_le(votes);
    }
}

fn take_voters(input: &mut &[u8]) -> Result<Voters, RecordError> {
    let quorums = match input.try_get_u8() {
        Ok(0) => None,
        Ok(1) => Some(Quorums { election_votes: take_u64(input)?, commit_votes: take_u64(input)? }),
        Ok(_) | Err(_) => return Err(RecordError::Configuration),
    };
    let mut voters = Vec::new();
    for _ in 0..take_count(input)? {
        voters.push((take_id(input)?, take_u32(input)?));
    }
    Ok(Voters::weighted(voters).with_quorums(quorums))
}

fn take_u32(input: &mut &[u8]) -> Result<u32, RecordError> {
    input.try_get_u32_le().map_err(|_| RecordError::Configuration)
}

fn take_u64(input: &mut &[u8]) -> Result<u64, RecordError> {
    input.try_get_u64_le().map_err(|_| RecordError::Configuration)
}

fn take_count(input: &mut &[u8]) -> Result<usize, RecordError> {
    let count = take_u32(input)? as usize;
    if count > MAX_MEMBERS { Err(RecordError::Configuration) } else { Ok(count) }
}

fn take_id(input: &mut &[u8]) -> Result<NodeId, RecordError> {
    NodeId::new(take_u64(input)?).ok_or(RecordError::Configuration)
}

#[cfg(test)]
mod tests;

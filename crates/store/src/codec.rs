//! Commands as bytes: what an entry of the log carries.
//!
//! ```text
//! command  = version:u8 kind:u8 body
//! put      = flags:u8 key value lease            flags: 1 prev_kv, 2 ignore_value, 4 ignore_lease
//! delete   = flags:u8 key range_end              flags: 1 prev_kv
//! range    = flags:u8 order:u8 target:u8 key range_end limit revision
//!            min_mod max_mod min_create max_create
//!                                                flags: 1 serializable, 2 keys_only, 4 count_only
//! txn      = count compare… count op… count op…  the comparisons, success, failure
//! op       = kind:u8 body                        0 unset, 1 put, 2 delete, 3 txn, 4 range
//! compare  = relation:u8 target:u8 key range_end operand
//! compact  = flags:u8 revision                   flags: 1 physical
//! member   = flags:u8 id [directory_id] name count url… count url…
//!                                                flags: 1 has a directory id
//! peers    = id count url…                       where a member is reached
//! ```
//!
//! Counts, lengths and ids are variable-length numbers, revisions, limits and leases signed ones; byte
//! strings carry their length. Every command has one encoding, apart from numbers with needless zero
//! bytes. Decoding shares the memory of the entry and allocates in proportion to it, whatever it says.

use bytes::Bytes;

use crate::wire::{DecodeError, Reader, put_bytes, put_signed, put_varint};
use crate::{
    Command, Compare, DeleteRangeRequest, MAX_TXN_DEPTH, Member, Operand, PutRequest, RangeRequest, Relation,
    RequestOp, SortOrder, SortTarget, TxnRequest,
};

/// The version of the encoding, in the first byte of each command.
const FORMAT_VERSION: u8 = 1;

const UNSET: u8 = 0;
const PUT: u8 = 1;
const DELETE_RANGE: u8 = 2;
const TXN: u8 = 3;
const RANGE: u8 = 4;
const COMPACT: u8 = 5;
const PUBLISH_MEMBER: u8 = 6;
const SET_PEER_URLS: u8 = 7;

impl Command {
    /// Appends the command's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT_VERSION);
        match self {
            Command::Put(request) => put_put(request, out),
            Command::DeleteRange(request) => put_delete_range(request, out),
            Command::Txn(request) => put_txn(request, out),
            Command::Compact { revision, physical } => {
                out.extend([COMPACT, flags([*physical])]);
                put_signed(*revision, out);
            }
            Command::PublishMember(member) => {
                out.push(PUBLISH_MEMBER);
                put_member(member, out);
            }
            Command::SetPeerUrls { id, peer_urls } => {
                out.push(SET_PEER_URLS);
                put_varint(*id, out);
                put_list(peer_urls, out, put_string);
            }
        }
    }

    /// Reads a command that takes up all of `bytes`. Keys and values share its memory.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::sharing(bytes);
        match reader.byte("format version")? {
            FORMAT_VERSION => {}
            other => return Err(DecodeError::UnknownVersion(other)),
        }
        let command = match reader.byte("command")? {
            PUT => Command::Put(take_put(&mut reader)?),
            DELETE_RANGE => Command::DeleteRange(take_delete_range(&mut reader)?),
            TXN => Command::Txn(take_txn(&mut reader, MAX_TXN_DEPTH)?),
            COMPACT => {
                let [physical] = take_flags(&mut reader)?;
                Command::Compact { revision: reader.signed()?, physical }
            }
            PUBLISH_MEMBER => Command::PublishMember(take_member(&mut reader)?),
            SET_PEER_URLS => {
                Command::SetPeerUrls { id: reader.varint()?, peer_urls: take_list(&mut reader, take_string)? }
            }
            other => return Err(DecodeError::UnknownTag("command", other)),
        };
        reader.finish()?;
        Ok(command)
    }
}

/// Packs booleans into a byte, the first one lowest.
fn flags<const N: usize>(set: [bool; N]) -> u8 {
    const { assert!(N <= 8) };
    set.iter().rev().fold(0, |bits, &flag| bits << 1 | u8::from(flag))
}

fn take_flags<const N: usize>(reader: &mut Reader<'_>) -> Result<[bool; N], DecodeError> {
    let bits = reader.byte("flags")?;
    if N < 8 && bits >> N != 0 {
        return Err(DecodeError::UnknownTag("set of flags", bits));
    }
    Ok(std::array::from_fn(|at| bits >> at & 1 == 1))
}

fn put_put(request: &PutRequest, out: &mut Vec<u8>) {
    let PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease } = request;
    out.extend([PUT, flags([*prev_kv, *ignore_value, *ignore_lease])]);
    put_bytes(key, out);
    put_bytes(value, out);
    put_signed(*lease, out);
}

fn take_put(reader: &mut Reader<'_>) -> Result<PutRequest, DecodeError> {
    let [prev_kv, ignore_value, ignore_lease] = take_flags(reader)?;
    let (key, value, lease) = (reader.bytes()?, reader.bytes()?, reader.signed()?);
    Ok(PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease })
}

fn put_delete_range(request: &DeleteRangeRequest, out: &mut Vec<u8>) {
    let DeleteRangeRequest { key, range_end, prev_kv } = request;
    out.extend([DELETE_RANGE, flags([*prev_kv])]);
    put_bytes(key, out);
    put_bytes(range_end, out);
}

fn take_delete_range(reader: &mut Reader<'_>) -> Result<DeleteRangeRequest, DecodeError> {
    let [prev_kv] = take_flags(reader)?;
    Ok(DeleteRangeRequest { key: reader.bytes()?, range_end: reader.bytes()?, prev_kv })
}

fn put_range(request: &RangeRequest, out: &mut Vec<u8>) {
    let RangeRequest { key, range_end, sort_order, sort_target, .. } = request;
    let order = match sort_order {
        SortOrder::None => 0,
        SortOrder::Ascend => 1,
        SortOrder::Descend => 2,
        SortOrder::Unknown => 3,
    };
    let target = match sort_target {
        SortTarget::Key => 0,
        SortTarget::Version => 1,
        SortTarget::Create => 2,
        SortTarget::Mod => 3,
        SortTarget::Value => 4,
        SortTarget::Unknown => 5,
    };
    out.extend([RANGE, flags([request.serializable, request.keys_only, request.count_only]), order, target]);
    put_bytes(key, out);
    put_bytes(range_end, out);
    put_signed(request.limit, out);
    put_signed(request.revision, out);
    put_signed(request.min_mod_revision, out);
    put_signed(request.max_mod_revision, out);
    put_signed(request.min_create_revision, out);
    put_signed(request.max_create_revision, out);
}

fn take_range(reader: &mut Reader<'_>) -> Result<RangeRequest, DecodeError> {
    let [serializable, keys_only, count_only] = take_flags(reader)?;
    let sort_order = match reader.byte("sort order")? {
        0 => SortOrder::None,
        1 => SortOrder::Ascend,
        2 => SortOrder::Descend,
        3 => SortOrder::Unknown,
        other => return Err(DecodeError::UnknownTag("sort order", other)),
    };
    let sort_target = match reader.byte("sort target")? {
        0 => SortTarget::Key,
        1 => SortTarget::Version,
        2 => SortTarget::Create,
        3 => SortTarget::Mod,
        4 => SortTarget::Value,
        5 => SortTarget::Unknown,
        other => return Err(DecodeError::UnknownTag("sort target", other)),
    };
    Ok(RangeRequest {
        key: reader.bytes()?,
        range_end: reader.bytes()?,
        limit: reader.signed()?,
        revision: reader.signed()?,
        sort_order,
        sort_target,
        serializable,
        keys_only,
        count_only,
        min_mod_revision: reader.signed()?,
        max_mod_revision: reader.signed()?,
        min_create_revision: reader.signed()?,
        max_create_revision: reader.signed()?,
    })
}

fn put_txn(request: &TxnRequest, out: &mut Vec<u8>) {
    let TxnRequest { compare, success, failure } = request;
    out.push(TXN);
    put_list(compare, out, put_compare);
    for branch in [success, failure] {
        put_list(branch, out, put_op);
    }
}

fn take_txn(reader: &mut Reader<'_>, max_depth: usize) -> Result<TxnRequest, DecodeError> {
    let max_depth = max_depth.checked_sub(1).ok_or(DecodeError::TooDeep)?;
    Ok(TxnRequest {
        compare: take_list(reader, take_compare)?,
        success: take_list(reader, |reader| take_op(reader, max_depth))?,
        failure: take_list(reader, |reader| take_op(reader, max_depth))?,
    })
}

fn put_list<T>(list: &[T], out: &mut Vec<u8>, put: impl Fn(&T, &mut Vec<u8>)) {
    put_varint(list.len() as u64, out);
    for element in list {
        put(element, out);
    }
}

/// A count and as many elements. Nothing is set aside for the count: it may be a lie, while each element
/// read has taken at least a byte.
fn take_list<T>(
    reader: &mut Reader<'_>,
    mut take: impl FnMut(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = reader.varint()?;
    if count > reader.remaining() as u64 {
        return Err(DecodeError::Truncated("list"));
    }
    let mut list = Vec::new();
    for _ in 0..count {
        list.push(take(reader)?);
    }
    Ok(list)
}

fn put_op(op: &RequestOp, out: &mut Vec<u8>) {
    match op {
        RequestOp::Range(request) => put_range(request, out),
        RequestOp::Put(request) => put_put(request, out),
        RequestOp::DeleteRange(request) => put_delete_range(request, out),
        RequestOp::Txn(request) => put_txn(request, out),
        RequestOp::Unset => out.push(UNSET),
    }
}

fn take_op(reader: &mut Reader<'_>, max_depth: usize) -> Result<RequestOp, DecodeError> {
    Ok(match reader.byte("operation")? {
        UNSET => RequestOp::Unset,
        PUT => RequestOp::Put(take_put(reader)?),
        DELETE_RANGE => RequestOp::DeleteRange(take_delete_range(reader)?),
        TXN => RequestOp::Txn(take_txn(reader, max_depth)?),
        RANGE => RequestOp::Range(take_range(reader)?),
        other => return Err(DecodeError::UnknownTag("operation", other)),
    })
}

fn put_compare(compare: &Compare, out: &mut Vec<u8>) {
    let Compare { key, range_end, relation, operand } = compare;
    out.push(match relation {
        Relation::Equal => 0,
        Relation::Greater => 1,
        Relation::Less => 2,
        Relation::NotEqual => 3,
        Relation::Unknown => 4,
    });
    out.push(match operand {
        Operand::Version(_) => 0,
        Operand::CreateRevision(_) => 1,
        Operand::ModRevision(_) => 2,
        Operand::Value(_) => 3,
        Operand::Lease(_) => 4,
        Operand::Unknown => 5,
    });
    put_bytes(key, out);
    put_bytes(range_end, out);
    match operand {
        Operand::Version(given)
        | Operand::CreateRevision(given)
        | Operand::ModRevision(given)
        | Operand::Lease(given) => put_signed(*given, out),
        Operand::Value(given) => put_bytes(given, out),
        Operand::Unknown => {}
    }
}

fn take_compare(reader: &mut Reader<'_>) -> Result<Compare, DecodeError> {
    let relation = match reader.byte("relation")? {
        0 => Relation::Equal,
        1 => Relation::Greater,
        2 => Relation::Less,
        3 => Relation::NotEqual,
        4 => Relation::Unknown,
        other => return Err(DecodeError::UnknownTag("relation", other)),
    };
    let target = reader.byte("comparison target")?;
    let (key, range_end) = (reader.bytes()?, reader.bytes()?);
    let operand = match target {
        0 => Operand::Version(reader.signed()?),
        1 => Operand::CreateRevision(reader.signed()?),
        2 => Operand::ModRevision(reader.signed()?),
        3 => Operand::Value(reader.bytes()?),
        4 => Operand::Lease(reader.signed()?),
        5 => Operand::Unknown,
        other => return Err(DecodeError::UnknownTag("comparison target", other)),
    };
    Ok(Compare { key, range_end, relation, operand })
}

/// Appends a member, as commands and checkpoints carry it.
pub(crate) fn put_member(member: &Member, out: &mut Vec<u8>) {
    let Member { id, directory_id, name, peer_urls, client_urls } = member;
    out.push(flags([directory_id.is_some()]));
    put_varint(*id, out);
    if let Some(directory_id) = directory_id {
        put_varint(*directory_id, out);
    }
    put_bytes(name.as_bytes(), out);
    for urls in [peer_urls, client_urls] {
        put_list(urls, out, put_string);
    }
}

fn put_string(text: &String, out: &mut Vec<u8>) {
    put_bytes(text.as_bytes(), out);
}

fn take_string(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    reader.string()
}

pub(crate) fn take_member(reader: &mut Reader<'_>) -> Result<Member, DecodeError> {
    let [has_directory_id] = take_flags(reader)?;
    Ok(Member {
        id: reader.varint()?,
        directory_id: if has_directory_id { Some(reader.varint()?) } else { None },
        name: reader.string()?,
        peer_urls: take_list(reader, take_string)?,
        client_urls: take_list(reader, take_string)?,
    })
}

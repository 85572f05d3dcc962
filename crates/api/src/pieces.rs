//! Large answers in pieces: the bytes that protobuf makes of the whole message, without ever holding the message.
//!
//! gRPC says how long a message is before it begins. So the lengths are summed up first, and then pairs are made,
//! encoded and dropped a piece at a time, as fast as the client takes them. A large value is passed on as it lies in
//! the store.
//!
//! The order of fields is that of their numbers, and zero values are left out, as prost has it; a test compares.

use std::collections::VecDeque;
use std::vec;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tenure_store as store;

use crate::pb::etcdserverpb as pb;
use crate::pb::mvccpb;
use crate::response::Responder;

/// The longest message that etcd sends: what it says when one is longer is [`TooLong`].
pub const MAX_MESSAGE_BYTES: usize = i32::MAX as usize;
/// A value of this size is not copied.
const LONG_VALUE_BYTES: usize = 16 << 10;

/// Numbers of fields.
const RANGE_KVS: u32 = 2;
const DELETE_PREV_KVS: u32 = 3;
const TXN_RESPONSES: u32 = 3;
const OP_RANGE: u32 = 1;
const OP_PUT: u32 = 2;
const OP_DELETE_RANGE: u32 = 3;
const OP_TXN: u32 = 4;

/// The answer is longer than gRPC's clients take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("trying to send message larger than max ({found} vs. {MAX_MESSAGE_BYTES})")]
pub struct TooLong {
    /// At least so long.
    pub found: usize,
}

/// A message that is still to be encoded.
#[derive(Debug, Default)]
pub struct Pieces {
    segments: VecDeque<Segment>,
    len: usize,
}

#[derive(Debug)]
enum Segment {
    Encoded(Bytes),
    Selected {
        field: u32,
        pairs: store::Pairs,
    },
    Shown {
        field: u32,
        pairs: vec::IntoIter<store::KeyValue>,
    },
    /// The message of a range, whose length was found by doing it once.
    Later {
        later: store::Later,
        len: usize,
    },
}

impl Pieces {
    /// The answer to a range.
    pub fn range(responder: Responder, selection: store::Selection) -> Result<Pieces, TooLong> {
        Pieces::of_selection(responder.header(selection.revision), selection).bounded()
    }

    /// The answer to a delete.
    pub fn delete_range(
        responder: Responder,
        response: store::DeleteRangeResponse,
    ) -> Result<Pieces, TooLong> {
        Pieces::of_delete(responder.header(response.revision), response).bounded()
    }

    /// The answer to a transaction. Takes as long as its reads do.
    pub fn txn(responder: Responder, response: store::TxnResponse) -> Result<Pieces, TooLong> {
        Pieces::of_txn(responder.header(response.revision), response)
    }

    /// How long the rest is.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no rest.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The next piece, of about `at_most` bytes; a single pair or value may make it longer.
    pub fn next_piece(&mut self, at_most: usize) -> Option<Bytes> {
        let mut piece = BytesMut::with_capacity(at_most.min(self.len));
        while piece.len() < at_most
            && let Some(segment) = self.segments.front_mut()
        {
            match segment {
                Segment::Encoded(bytes) if bytes.len() >= LONG_VALUE_BYTES && !piece.is_empty() => break,
                Segment::Encoded(bytes) if bytes.len() >= LONG_VALUE_BYTES => {
                    let bytes = bytes.split_to(bytes.len().min(at_most));
                    self.drop_empty();
                    self.len -= bytes.len();
                    return Some(bytes);
                }
                Segment::Encoded(bytes) => {
                    piece.put(std::mem::take(bytes));
                    self.segments.pop_front();
                }
                Segment::Selected { field, pairs } => {
                    let (field, pair) = (*field, pairs.next());
                    self.on_pair(field, pair, &mut piece);
                }
                Segment::Shown { field, pairs } => {
                    let (field, pair) = (*field, pairs.next());
                    self.on_pair(field, pair, &mut piece);
                }
                Segment::Later { later, len } => {
                    let range = Pieces::of_later(later);
                    assert_eq!(range.len, *len, "a state that is kept shows the same again");
                    self.segments.pop_front();
                    range.segments.into_iter().rev().for_each(|segment| self.segments.push_front(segment));
                }
            }
        }
        self.len -= piece.len();
        (!piece.is_empty()).then(|| piece.freeze())
    }

    fn drop_empty(&mut self) {
        if matches!(self.segments.front(), Some(Segment::Encoded(bytes)) if bytes.is_empty()) {
            self.segments.pop_front();
        }
    }

    /// Encodes a pair, or passes on from the segment that has none any more.
    fn on_pair(&mut self, field: u32, pair: Option<store::KeyValue>, piece: &mut BytesMut) {
        let Some(pair) = pair else {
            self.segments.pop_front();
            return;
        };
        if pair.value.len() < LONG_VALUE_BYTES {
            prost::encoding::message::encode(field, &mvccpb::KeyValue::from(pair), piece);
            return;
        }
        let [front, value, back] = with_long_value(field, pair);
        piece.put(front);
        self.segments.push_front(Segment::Encoded(back));
        self.segments.push_front(Segment::Encoded(value));
        self.drop_empty();
    }

    fn of_later(later: &store::Later) -> Pieces {
        let selection = later.select();
        let header = pb::ResponseHeader { revision: selection.revision, ..Default::default() };
        Pieces::of_selection(header, selection)
    }

    fn of_selection(header: pb::ResponseHeader, selection: store::Selection) -> Pieces {
        let store::Selection { revision: _, more, count, pairs } = selection;
        let mut pieces = Pieces::default();
        pieces.push(&pb::RangeResponse { header: Some(header), ..Default::default() });
        pieces.len += pairs.iter().map(|pair| pair_len(RANGE_KVS, pair)).sum::<usize>();
        pieces.segments.push_back(Segment::Selected { field: RANGE_KVS, pairs });
        pieces.push(&pb::RangeResponse { more, count, ..Default::default() });
        pieces
    }

    fn of_range(header: pb::ResponseHeader, response: store::RangeResponse) -> Pieces {
        let store::RangeResponse { revision: _, kvs, more, count } = response;
        let mut pieces = Pieces::default();
        pieces.push(&pb::RangeResponse { header: Some(header), ..Default::default() });
        pieces.show(RANGE_KVS, kvs);
        pieces.push(&pb::RangeResponse { more, count, ..Default::default() });
        pieces
    }

    fn of_delete(header: pb::ResponseHeader, response: store::DeleteRangeResponse) -> Pieces {
        let store::DeleteRangeResponse { revision: _, deleted, prev_kvs } = response;
        let mut pieces = Pieces::default();
        pieces.push(&pb::DeleteRangeResponse { header: Some(header), deleted, prev_kvs: Vec::new() });
        pieces.show(DELETE_PREV_KVS, prev_kvs);
        pieces
    }

    fn of_put(header: pb::ResponseHeader, response: store::PutResponse) -> Pieces {
        let mut pieces = Pieces::default();
        pieces.push(&pb::PutResponse { header: Some(header), prev_kv: response.prev_kv.map(Into::into) });
        pieces
    }

    fn of_txn(header: pb::ResponseHeader, response: store::TxnResponse) -> Result<Pieces, TooLong> {
        let store::TxnResponse { revision: _, succeeded, responses } = response;
        let mut pieces = Pieces::default();
        pieces.push(&pb::TxnResponse { header: Some(header), succeeded, responses: Vec::new() });
        for response in responses {
            pieces.append(Pieces::of_op(response)?.within(TXN_RESPONSES));
            // What comes behind does not have to be read any more.
            pieces = pieces.bounded()?;
        }
        Ok(pieces)
    }

    /// Inside a transaction a header carries nothing but the revision.
    fn of_op(response: store::ResponseOp) -> Result<Pieces, TooLong> {
        let header = |revision| pb::ResponseHeader { revision, ..Default::default() };
        Ok(match response {
            store::ResponseOp::Range(response) => {
                Pieces::of_range(header(response.revision), response).within(OP_RANGE)
            }
            store::ResponseOp::Later(later) => {
                let len = Pieces::of_later(&later).len;
                let segments = VecDeque::from([Segment::Later { later, len }]);
                Pieces { segments, len }.within(OP_RANGE)
            }
            store::ResponseOp::Put(response) => {
                Pieces::of_put(header(response.revision), response).within(OP_PUT)
            }
            store::ResponseOp::DeleteRange(response) => {
                Pieces::of_delete(header(response.revision), response).within(OP_DELETE_RANGE)
            }
            store::ResponseOp::Txn(response) => {
                Pieces::of_txn(header(response.revision), response)?.within(OP_TXN)
            }
        })
    }

    fn push(&mut self, message: &impl Message) {
        let bytes = Bytes::from(message.encode_to_vec());
        self.len += bytes.len();
        if !bytes.is_empty() {
            self.segments.push_back(Segment::Encoded(bytes));
        }
    }

    fn show(&mut self, field: u32, pairs: Vec<store::KeyValue>) {
        self.len += pairs.iter().map(|pair| pair_len(field, pair.clone())).sum::<usize>();
        self.segments.push_back(Segment::Shown { field, pairs: pairs.into_iter() });
    }

    fn append(&mut self, mut other: Pieces) {
        self.len += other.len;
        self.segments.append(&mut other.segments);
    }

    /// The message as a field of another.
    fn within(mut self, field: u32) -> Pieces {
        let mut front = BytesMut::with_capacity(16);
        encode_key(field, WireType::LengthDelimited, &mut front);
        encode_varint(self.len as u64, &mut front);
        self.len += front.len();
        self.segments.push_front(Segment::Encoded(front.freeze()));
        self
    }

    fn bounded(self) -> Result<Pieces, TooLong> {
        if self.len > MAX_MESSAGE_BYTES { Err(TooLong { found: self.len }) } else { Ok(self) }
    }
}

fn pair_len(field: u32, pair: store::KeyValue) -> usize {
    prost::encoding::message::encoded_len(field, &mvccpb::KeyValue::from(pair))
}

/// What comes before the value of a pair, the value, and what comes after it.
fn with_long_value(field: u32, pair: store::KeyValue) -> [Bytes; 3] {
    const VALUE: u32 = 5;
    let mut pair = mvccpb::KeyValue::from(pair);
    let value = std::mem::take(&mut pair.value);
    let back = mvccpb::KeyValue { lease: std::mem::take(&mut pair.lease), ..Default::default() };
    let value_len = key_len(VALUE) + encoded_len_varint(value.len() as u64) + value.len();
    let len = pair.encoded_len() + value_len + back.encoded_len();
    let mut front = BytesMut::with_capacity(pair.key.len() + 64);
    encode_key(field, WireType::LengthDelimited, &mut front);
    encode_varint(len as u64, &mut front);
    pair.encode(&mut front).expect("a buffer grows");
    encode_key(VALUE, WireType::LengthDelimited, &mut front);
    encode_varint(value.len() as u64, &mut front);
    [front.freeze(), value, back.encode_to_vec().into()]
}

#[cfg(test)]
mod tests {
    use store::{Command, PutRequest, RangeRequest, RequestOp, Store, TxnRequest};

    use super::*;

    const RESPONDER: Responder = Responder { cluster_id: 1, member_id: 2, raft_term: 3 };

    fn put(key: String, value_bytes: usize) -> PutRequest {
        PutRequest { key: key.into(), value: vec![7; value_bytes].into(), ..PutRequest::default() }
    }

    fn apply(store: &mut Store, command: &Command) -> store::Response {
        store.apply_lazily(store.applied_index() + 1, command).result.expect("it is applied")
    }

    /// Values of all lengths, some of them long.
    fn store() -> Store {
        let mut store = Store::new();
        for number in 0..1_000 {
            let value_bytes = if number % 97 == 0 { LONG_VALUE_BYTES + number } else { number % 300 };
            apply(&mut store, &Command::Put(put(format!("{number:04}"), value_bytes)));
        }
        store
    }

    fn all() -> RangeRequest {
        RangeRequest { key: "0".into(), range_end: "1".into(), ..RangeRequest::default() }
    }

    fn put_together(mut pieces: Pieces, at_most: usize) -> Vec<u8> {
        let (len, mut whole) = (pieces.len(), Vec::new());
        while let Some(piece) = pieces.next_piece(at_most) {
            assert!(piece.len() <= at_most + LONG_VALUE_BYTES + 64, "{} of {at_most}", piece.len());
            whole.extend_from_slice(&piece);
            assert_eq!(whole.len() + pieces.len(), len);
        }
        assert_eq!(whole.len(), len);
        whole
    }

    #[test]
    fn the_pieces_of_a_range_put_together_are_the_message() {
        let state = store().snapshot();
        for request in [
            all(),
            RangeRequest { keys_only: true, ..all() },
            RangeRequest { limit: 7, ..all() },
            RangeRequest { count_only: true, ..all() },
            RangeRequest { key: "nothing".into(), ..RangeRequest::default() },
        ] {
            let selection = state.select(&request).expect("it is there");
            let whole = RESPONDER.range(state.range(&request).expect("it is there")).encode_to_vec();
            for at_most in [1, 1_000, 100_000, 1 << 30] {
                let pieces = Pieces::range(RESPONDER, selection.clone()).expect("it is short enough");
                assert!(put_together(pieces, at_most) == whole, "{request:?} in pieces of {at_most}");
            }
        }
    }

    #[test]
    fn the_pieces_of_a_transaction_put_together_are_the_message() {
        let mut store = store();
        let inner = TxnRequest {
            success: vec![RequestOp::Range(all()), RequestOp::Put(put("0000".to_owned(), 3))],
            ..TxnRequest::default()
        };
        let delete = store::DeleteRangeRequest { key: "1".into(), range_end: "2".into(), prev_kv: true };
        apply(&mut store, &Command::Put(put("1".to_owned(), LONG_VALUE_BYTES)));
        let point = RangeRequest { key: "0001".into(), ..RangeRequest::default() };
        let success = vec![
            RequestOp::Put(PutRequest { prev_kv: true, ..put("0097".to_owned(), 1) }),
            RequestOp::Range(all()),
            RequestOp::Txn(inner),
            RequestOp::DeleteRange(delete),
            RequestOp::Range(point),
        ];
        let command = Command::Txn(TxnRequest { success, ..TxnRequest::default() });
        let store::Response::Txn(response) = apply(&mut store, &command) else { panic!("of a transaction") };
        assert!(matches!(response.responses[1], store::ResponseOp::Later(_)));
        let whole = RESPONDER.txn(response.clone()).encode_to_vec();
        let pieces = Pieces::txn(RESPONDER, response).expect("it is short enough");
        assert!(put_together(pieces, 5_000) == whole);
    }

    #[test]
    fn the_pieces_of_a_delete_put_together_are_the_message() {
        let mut store = store();
        let delete = store::DeleteRangeRequest { key: "0".into(), range_end: "1".into(), prev_kv: true };
        let store::Response::DeleteRange(response) = apply(&mut store, &Command::DeleteRange(delete)) else {
            panic!("of a delete")
        };
        let whole = RESPONDER.delete_range(response.clone()).encode_to_vec();
        let pieces = Pieces::delete_range(RESPONDER, response).expect("it is short enough");
        assert!(put_together(pieces, 5_000) == whole);
    }

    /// 127 lists of 20 MB are more than a client takes; nobody makes them to find that out.
    #[test]
    fn an_answer_that_is_too_long_is_refused_before_it_is_made() {
        let mut store = Store::new();
        for number in 0..200 {
            apply(&mut store, &Command::Put(put(format!("{number:04}"), 100_000)));
        }
        let success = vec![RequestOp::Range(all()); 127];
        let command = Command::Txn(TxnRequest { success, ..TxnRequest::default() });
        let store::Response::Txn(response) = apply(&mut store, &command) else { panic!("of a transaction") };
        let refused = Pieces::txn(RESPONDER, response).expect_err("2.5 GB");
        assert!(refused.found > MAX_MESSAGE_BYTES && refused.found < MAX_MESSAGE_BYTES + (21 << 20));
    }
}

//! From answers to text: what a client can tell from them, and no ids or terms.

use std::fmt::Write;

use tenure_store::{
    DeleteRangeResponse, Event, EventKind, HashKv, KeyValue, PutResponse, RangeResponse, Rejection, Response,
    ResponseOp, TxnResponse,
};

/// The text that etcd's clients see.
pub(crate) fn rejection(rejection: Rejection) -> String {
    let message = match rejection {
        Rejection::EmptyKey => "key is not provided",
        Rejection::KeyNotFound => "key not found",
        Rejection::ValueProvided => "value is provided",
        Rejection::LeaseProvided => "lease is provided",
        Rejection::LeaseNotFound => "requested lease not found",
        Rejection::TooManyOps => "too many operations in txn request",
        Rejection::DuplicateKey => "duplicate key given in txn request",
        Rejection::Compacted => "mvcc: required revision has been compacted",
        Rejection::FutureRevision => "mvcc: required revision is a future revision",
        Rejection::InvalidSortOption => "invalid sort option",
        Rejection::MemberRemoved => "member not found",
    };
    format!("error: etcdserver: {message}")
}

pub(crate) fn response(response: &Response, revision: i64) -> String {
    match response {
        Response::Put(response) => put(response),
        Response::DeleteRange(response) => delete_range(response),
        Response::Txn(response) => txn(response),
        Response::Compact => format!("compact rev={revision}"),
        Response::PublishMember => "member".to_owned(),
        Response::SetPeerUrls => "peers".to_owned(),
    }
}

pub(crate) fn escape(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, &byte| {
        if byte.is_ascii_alphanumeric() || b"_-./".contains(&byte) {
            text.push(byte.into());
        } else {
            write!(text, "\\x{byte:02x}").expect("a string takes all");
        }
        text
    })
}

/// Key, value, and the create revision, mod revision, version and lease.
fn kv(kv: &KeyValue) -> String {
    let KeyValue { key, create_revision, mod_revision, version, value, lease } = kv;
    format!("[{}={} c{create_revision} m{mod_revision} v{version} l{lease}]", escape(key), escape(value))
}

/// A space before each.
fn spaced(texts: impl Iterator<Item = String>) -> String {
    texts.fold(String::new(), |all, text| all + " " + &text)
}

fn kvs(kvs: &[KeyValue]) -> String {
    spaced(kvs.iter().map(kv))
}

fn put(response: &PutResponse) -> String {
    let prev = response.prev_kv.as_ref().map(|prev| format!(" prev {}", kv(prev))).unwrap_or_default();
    format!("put rev={}{prev}", response.revision)
}

fn delete_range(response: &DeleteRangeResponse) -> String {
    format!("del rev={} deleted={}{}", response.revision, response.deleted, kvs(&response.prev_kvs))
}

pub(crate) fn range(response: &RangeResponse) -> String {
    let RangeResponse { revision, count, more, .. } = response;
    format!("range rev={revision} count={count} more={more}{}", kvs(&response.kvs))
}

pub(crate) fn txn(response: &TxnResponse) -> String {
    let ops = spaced(response.responses.iter().map(|response| format!("( {} )", op(response))));
    format!("txn rev={} succeeded={}{ops}", response.revision, response.succeeded)
}

fn op(response: &ResponseOp) -> String {
    match response {
        ResponseOp::Range(response) => range(response),
        ResponseOp::Later(later) => range(&later.select().into_response()),
        ResponseOp::Put(response) => put(response),
        ResponseOp::DeleteRange(response) => delete_range(response),
        ResponseOp::Txn(response) => txn(response),
    }
}

pub(crate) fn hash_kv(revision: i64, hash: &HashKv) -> String {
    let HashKv { hash, compact_revision, hash_revision } = hash;
    format!("hashkv rev={revision} hash={hash:08x} compact={compact_revision} hash_rev={hash_revision}")
}

pub(crate) fn event(event: &Event) -> String {
    let kind = match event.kind {
        EventKind::Put => "put",
        EventKind::Delete => "delete",
    };
    format!("{kind} {}", kv(&event.kv))
}

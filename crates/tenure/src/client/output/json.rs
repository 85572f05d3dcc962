//! `-w json`: the messages as Go's encoding/json writes etcd's structures: numbers as numbers, bytes in
//! base64, fields that are zero left out. (Not the protobuf JSON of the HTTP gateway.)

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tenure_api::pb::etcdserverpb::response_op::Response;
use tenure_api::pb::etcdserverpb::{
    DeleteRangeResponse, HashKvResponse, Member, PutResponse, RangeResponse, ResponseHeader, ResponseOp,
    StatusResponse, TxnResponse,
};
use tenure_api::pb::mvccpb::KeyValue;

use crate::client::cluster::{Answer, Health};
use crate::client::duration;

/// A JSON value, written out.
struct Json(String);

/// An object being written. Fields that are zero or empty are left out.
struct Object(String);

impl Object {
    fn new() -> Self {
        Self("{".to_owned())
    }

    fn field(mut self, name: &str, value: Option<Json>) -> Self {
        if let Some(Json(value)) = value {
            let comma = if self.0.len() > 1 { "," } else { "" };
            write!(self.0, "{comma}\"{name}\":{value}").expect("a String takes everything");
        }
        self
    }

    fn number(self, name: &str, value: impl Into<i128>) -> Self {
        let value = value.into();
        self.field(name, (value != 0).then(|| Json(value.to_string())))
    }

    fn flag(self, name: &str, value: bool) -> Self {
        self.field(name, value.then(|| Json("true".to_owned())))
    }

    fn text(self, name: &str, value: &str) -> Self {
        self.field(name, (!value.is_empty()).then(|| quoted(value)))
    }

    fn bytes(self, name: &str, value: &[u8]) -> Self {
        self.text(name, &STANDARD.encode(value))
    }

    fn list<T>(self, name: &str, items: &[T], to_json: impl Fn(&T) -> Json) -> Self {
        self.field(name, (!items.is_empty()).then(|| list(items, to_json)))
    }

    fn done(mut self) -> Json {
        self.0.push('}');
        Json(self.0)
    }
}

fn list<T>(items: &[T], to_json: impl Fn(&T) -> Json) -> Json {
    let items: Vec<String> = items.iter().map(|item| to_json(item).0).collect();
    Json(format!("[{}]", items.join(",")))
}

/// A string as Go escapes it: also what HTML or JavaScript would stumble over.
fn quoted(text: &str) -> Json {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            c if c < ' ' || matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') => {
                write!(quoted, "\\u{:04x}", c as u32).expect("a String takes everything");
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    Json(quoted)
}

/// The value and the end of its line.
pub(super) fn line(text: &str) -> Vec<u8> {
    format!("{text}\n").into_bytes()
}

pub(super) fn put(response: &PutResponse) -> String {
    put_json(response).0
}

pub(super) fn range(response: &RangeResponse) -> String {
    range_json(response).0
}

pub(super) fn delete_range(response: &DeleteRangeResponse) -> String {
    delete_range_json(response).0
}

pub(super) fn txn(response: &TxnResponse) -> String {
    txn_json(response).0
}

/// All members, and the one that was added, if one was. `--hex` is for ids only, and here only for these.
pub(super) fn members(
    header: Option<&ResponseHeader>,
    added: Option<&Member>,
    members: &[Member],
    hex: bool,
) -> String {
    let object = Object::new();
    let object = if hex {
        let header = header.map_or(Json("null".to_owned()), hex_header);
        object
            .field("header", Some(header))
            .field("member", added.map(hex_member))
            .field("members", Some(list(members, hex_member)))
    } else {
        object
            .field("header", header.map(plain_header))
            .field("member", added.map(member))
            .list("members", members, member)
    };
    object.done().0
}

pub(super) fn status(answers: &[Answer<StatusResponse>]) -> String {
    of_endpoints(answers, "Status", |response| {
        let downgrade = response.downgrade_info.as_ref().map(|info| {
            let object = Object::new().flag("enabled", info.enabled);
            object.text("targetVersion", &info.target_version).done()
        });
        Object::new()
            .field("header", response.header.as_ref().map(plain_header))
            .text("version", &response.version)
            .number("dbSize", response.db_size)
            .number("leader", response.leader)
            .number("raftIndex", response.raft_index)
            .number("raftTerm", response.raft_term)
            .number("raftAppliedIndex", response.raft_applied_index)
            .list("errors", &response.errors, |error| quoted(error))
            .number("dbSizeInUse", response.db_size_in_use)
            .flag("isLearner", response.is_learner)
            .text("storageVersion", &response.storage_version)
            .number("dbSizeQuota", response.db_size_quota)
            .field("downgradeInfo", downgrade)
            .done()
    })
}

pub(super) fn health(answers: &[Health]) -> String {
    let one = |Health { endpoint, took, error }: &Health| {
        let health = if error.is_none() { "true" } else { "false" };
        Object::new()
            .field("endpoint", Some(quoted(endpoint)))
            .field("health", Some(Json(health.to_owned())))
            .field("took", Some(quoted(&duration::text(*took))))
            .field("error", error.as_deref().map(quoted))
            .done()
    };
    list(answers, one).0
}

pub(super) fn hash(answers: &[Answer<HashKvResponse>]) -> String {
    of_endpoints(answers, "HashKV", |response| {
        Object::new()
            .field("header", response.header.as_ref().map(plain_header))
            .number("hash", response.hash)
            .number("compact_revision", response.compact_revision)
            .number("hash_revision", response.hash_revision)
            .done()
    })
}

fn of_endpoints<T>(answers: &[Answer<T>], name: &str, to_json: impl Fn(&T) -> Json) -> String {
    if answers.is_empty() {
        // What Go makes of a list that was never begun.
        return "null".to_owned();
    }
    let one = |answer: &Answer<T>| {
        let object = Object::new().field("Endpoint", Some(quoted(&answer.endpoint)));
        object.field(name, Some(to_json(&answer.response))).done()
    };
    list(answers, one).0
}

fn put_json(response: &PutResponse) -> Json {
    Object::new()
        .field("header", response.header.as_ref().map(plain_header))
        .field("prev_kv", response.prev_kv.as_ref().map(pair))
        .done()
}

fn range_json(response: &RangeResponse) -> Json {
    Object::new()
        .field("header", response.header.as_ref().map(plain_header))
        .list("kvs", &response.kvs, pair)
        .flag("more", response.more)
        .number("count", response.count)
        .done()
}

fn delete_range_json(response: &DeleteRangeResponse) -> Json {
    Object::new()
        .field("header", response.header.as_ref().map(plain_header))
        .number("deleted", response.deleted)
        .list("prev_kvs", &response.prev_kvs, pair)
        .done()
}

fn txn_json(response: &TxnResponse) -> Json {
    Object::new()
        .field("header", response.header.as_ref().map(plain_header))
        .flag("succeeded", response.succeeded)
        .list("responses", &response.responses, operation)
        .done()
}

fn operation(operation: &ResponseOp) -> Json {
    let (name, value) = match &operation.response {
        Some(Response::ResponseRange(range)) => ("response_range", Some(range_json(range))),
        Some(Response::ResponsePut(put)) => ("response_put", Some(put_json(put))),
        Some(Response::ResponseDeleteRange(delete)) => {
            ("response_delete_range", Some(delete_range_json(delete)))
        }
        Some(Response::ResponseTxn(txn)) => ("response_txn", Some(txn_json(txn))),
        None => ("", None),
    };
    Object::new().field("Response", Some(Object::new().field(name, value).done())).done()
}

fn plain_header(header: &ResponseHeader) -> Json {
    Object::new()
        .number("cluster_id", header.cluster_id)
        .number("member_id", header.member_id)
        .number("revision", header.revision)
        .number("raft_term", header.raft_term)
        .done()
}

fn hex_header(header: &ResponseHeader) -> Json {
    Object::new()
        .text("cluster_id", &format!("{:x}", header.cluster_id))
        .text("member_id", &format!("{:x}", header.member_id))
        .number("revision", header.revision)
        .number("raft_term", header.raft_term)
        .done()
}

fn pair(pair: &KeyValue) -> Json {
    Object::new()
        .bytes("key", &pair.key)
        .number("create_revision", pair.create_revision)
        .number("mod_revision", pair.mod_revision)
        .number("version", pair.version)
        .bytes("value", &pair.value)
        .number("lease", pair.lease)
        .done()
}

fn member(member: &Member) -> Json {
    described(Object::new().number("ID", member.id), member)
}

fn hex_member(member: &Member) -> Json {
    described(Object::new().text("ID", &format!("{:x}", member.id)), member)
}

fn described(object: Object, member: &Member) -> Json {
    object
        .text("name", &member.name)
        .list("peerURLs", &member.peer_urls, |url| quoted(url))
        .list("clientURLs", &member.client_urls, |url| quoted(url))
        .flag("isLearner", member.is_learner)
        .done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_escapes_them() {
        // The right side was printed by Go's json.Marshal.
        let text = "a\"\\\n\t\u{8}\u{1}<&>\u{2028}é\u{7f}";
        assert_eq!(quoted(text).0, "\"a\\\"\\\\\\n\\t\\b\\u0001\\u003c\\u0026\\u003e\\u2028é\u{7f}\"");
    }
}

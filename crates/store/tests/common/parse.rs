//! From text to requests. `tests/etcd/record/op.go` describes the notation.

use std::collections::BTreeMap;

use bytes::Bytes;
use tenure_store::{
    Command, Compare, DeleteRangeRequest, Member, Operand, PutRequest, RangeRequest, Relation, RequestOp,
    SortOrder, SortTarget, TxnRequest,
};

use super::Operation;

/// The words of a line that are left.
struct Words<'a>(std::iter::Peekable<std::str::SplitWhitespace<'a>>);

/// Reads a line.
pub(crate) fn operation(line: &str) -> Operation {
    let mut words = Words(line.split_whitespace().peekable());
    let operation = match words.next() {
        "put" => Operation::Command(Command::Put(put(&words.arguments()))),
        "del" => Operation::Command(Command::DeleteRange(delete_range(&words.arguments()))),
        "txn" => Operation::Command(Command::Txn(txn(&mut words))),
        "compact" => {
            let revision = number(words.arguments().get("rev"));
            Operation::Command(Command::Compact { revision, physical: true })
        }
        "member" => Operation::Command(Command::PublishMember(member(&words.arguments()))),
        "peers" => {
            let arguments = words.arguments();
            let peer_urls = arguments
                .get("urls")
                .map_or_else(Vec::new, |urls| urls.split(',').map(str::to_owned).collect());
            Operation::Command(Command::SetPeerUrls { id: number(arguments.get("id")) as u64, peer_urls })
        }
        "range" => Operation::Range(range(&words.arguments())),
        "hashkv" => Operation::HashKv { revision: number(words.arguments().get("rev")) },
        "restart" => Operation::Restart,
        other => panic!("{other:?} is no operation"),
    };
    assert!(words.0.peek().is_none(), "words are left in {line:?}");
    operation
}

type Arguments<'a> = BTreeMap<&'a str, &'a str>;

impl<'a> Words<'a> {
    fn next(&mut self) -> &'a str {
        self.0.next().unwrap_or_default()
    }

    fn expect(&mut self, word: &str) {
        assert_eq!(self.next(), word);
    }

    fn take(&mut self, word: &str) -> bool {
        self.0.next_if_eq(&word).is_some()
    }

    /// `name=value` and `name` words up to the next bracket or the end.
    fn arguments(&mut self) -> Arguments<'a> {
        let mut arguments = Arguments::new();
        while let Some(word) = self.0.next_if(|word| !["(", ")"].contains(word)) {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            arguments.insert(name, value);
        }
        arguments
    }
}

/// `\xNN` is a byte.
fn unescape(text: Option<&&str>) -> Bytes {
    let mut bytes = Vec::new();
    let mut rest = text.copied().unwrap_or_default();
    while let Some((before, after)) = rest.split_once("\\x") {
        bytes.extend_from_slice(before.as_bytes());
        bytes.push(u8::from_str_radix(&after[..2], 16).expect("two hexadecimal digits"));
        rest = &after[2..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes.into()
}

fn number(text: Option<&&str>) -> i64 {
    text.map_or(0, |text| text.parse().expect("a number"))
}

fn put(arguments: &Arguments<'_>) -> PutRequest {
    PutRequest {
        key: unescape(arguments.get("k")),
        value: unescape(arguments.get("v")),
        lease: number(arguments.get("lease")),
        prev_kv: arguments.contains_key("prev"),
        ignore_value: arguments.contains_key("ignore_value"),
        ignore_lease: arguments.contains_key("ignore_lease"),
    }
}

fn delete_range(arguments: &Arguments<'_>) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: unescape(arguments.get("k")),
        range_end: unescape(arguments.get("e")),
        prev_kv: arguments.contains_key("prev"),
    }
}

fn range(arguments: &Arguments<'_>) -> RangeRequest {
    let sort = arguments.get("sort").copied().unwrap_or_default();
    let (target, order) = sort.split_once('/').unwrap_or((sort, ""));
    RangeRequest {
        key: unescape(arguments.get("k")),
        range_end: unescape(arguments.get("e")),
        limit: number(arguments.get("limit")),
        revision: number(arguments.get("rev")),
        sort_order: sort_order(order),
        sort_target: sort_target(target),
        serializable: arguments.contains_key("serializable"),
        keys_only: arguments.contains_key("keys_only"),
        count_only: arguments.contains_key("count_only"),
        min_mod_revision: number(arguments.get("min_mod")),
        max_mod_revision: number(arguments.get("max_mod")),
        min_create_revision: number(arguments.get("min_create")),
        max_create_revision: number(arguments.get("max_create")),
    }
}

fn sort_order(word: &str) -> SortOrder {
    match word {
        "" | "none" => SortOrder::None,
        "ascend" => SortOrder::Ascend,
        "descend" => SortOrder::Descend,
        "undefined" => SortOrder::Unknown,
        other => panic!("{other:?} is no sort order"),
    }
}

fn sort_target(word: &str) -> SortTarget {
    match word {
        "" | "key" => SortTarget::Key,
        "version" => SortTarget::Version,
        "create" => SortTarget::Create,
        "mod" => SortTarget::Mod,
        "value" => SortTarget::Value,
        "undefined" => SortTarget::Unknown,
        other => panic!("{other:?} is no sort target"),
    }
}

fn txn(words: &mut Words<'_>) -> TxnRequest {
    words.expect("if");
    let mut comparisons = Vec::new();
    while words.take("(") {
        comparisons.push(compare(words));
        words.expect(")");
    }
    words.expect("then");
    let success = ops(words);
    words.expect("else");
    let failure = ops(words);
    TxnRequest { compare: comparisons, success, failure }
}

fn ops(words: &mut Words<'_>) -> Vec<RequestOp> {
    let mut ops = Vec::new();
    while words.take("(") {
        ops.push(match words.next() {
            "put" => RequestOp::Put(put(&words.arguments())),
            "del" => RequestOp::DeleteRange(delete_range(&words.arguments())),
            "range" => RequestOp::Range(range(&words.arguments())),
            "txn" => RequestOp::Txn(txn(words)),
            "unset" => RequestOp::Unset,
            other => panic!("{other:?} is no operation of a transaction"),
        });
        words.expect(")");
    }
    ops
}

/// `target key relation operand`; a range goes into the key as `key..end`.
fn compare(words: &mut Words<'_>) -> Compare {
    let (target, keys, relation, operand) = (words.next(), words.next(), words.next(), words.next());
    let (key, range_end) = keys.split_once("..").unwrap_or((keys, ""));
    let given = Some(&operand);
    Compare {
        key: unescape(Some(&key)),
        range_end: unescape(Some(&range_end)),
        relation: match relation {
            "=" => Relation::Equal,
            ">" => Relation::Greater,
            "<" => Relation::Less,
            "!=" => Relation::NotEqual,
            "undefined" => Relation::Unknown,
            other => panic!("{other:?} is no relation"),
        },
        operand: match target {
            "version" => Operand::Version(number(given)),
            "create" => Operand::CreateRevision(number(given)),
            "mod" => Operand::ModRevision(number(given)),
            "lease" => Operand::Lease(number(given)),
            // A sign before the value, so that an empty one is a word too.
            "value" => Operand::Value(unescape(operand.strip_prefix('=').as_ref())),
            "undefined" => Operand::Unknown,
            other => panic!("{other:?} is no comparison target"),
        },
    }
}

fn member(arguments: &Arguments<'_>) -> Member {
    let text = |name| arguments.get(name).copied().unwrap_or_default().to_owned();
    Member {
        id: number(arguments.get("id")) as u64,
        directory_id: arguments.get("directory").map(|id| id.parse().expect("a number")),
        name: text("name"),
        peer_urls: vec![text("peer")],
        client_urls: vec![text("client")],
    }
}

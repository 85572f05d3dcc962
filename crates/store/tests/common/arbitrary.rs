//! Random requests that often meet: few keys, revisions near the present ones.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use tenure_store::{
    Command, Compare, DeleteRangeRequest, Member, Operand, PutRequest, RangeRequest, Relation, RequestOp,
    SortOrder, SortTarget, TxnRequest,
};

fn key() -> impl Strategy<Value = Bytes> {
    const KEYS: [&[u8]; 7] = [b"a", b"a\0", b"ab", b"b", b"c", b"d", b"\xff"];
    prop::sample::select(&KEYS[..]).prop_map(Bytes::from_static)
}

fn range_end() -> impl Strategy<Value = Bytes> {
    prop_oneof![Just(Bytes::new()), Just(Bytes::from_static(b"\0")), key()]
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![9 => vec(any::<u8>(), 0..4), 1 => vec(any::<u8>(), 0..300)].prop_map(Bytes::from)
}

fn revision() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 0..40_i64, 1 => Just(-1), 1 => any::<i64>()]
}

fn put() -> impl Strategy<Value = PutRequest> {
    let lease = prop_oneof![12 => Just(0), 1 => any::<i64>()];
    let rarely = || prop::bool::weighted(0.1);
    (key(), value(), lease, any::<bool>(), rarely(), rarely()).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| PutRequest {
            key,
            value: if ignore_value { Bytes::new() } else { value },
            lease: if ignore_lease { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn delete_range() -> impl Strategy<Value = DeleteRangeRequest> {
    (key(), range_end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn filter() -> impl Strategy<Value = i64> {
    prop_oneof![4 => Just(0), 1 => revision()]
}

pub(crate) fn range() -> impl Strategy<Value = RangeRequest> {
    use SortOrder::{Ascend, Descend, None};
    use SortTarget::{Create, Key, Mod, Value, Version};
    let sort = (
        prop::sample::select(&[None, Ascend, Descend][..]),
        prop::sample::select(&[Key, Version, Create, Mod, Value][..]),
    );
    let flags = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.1));
    (key(), range_end(), -1..6_i64, filter(), sort, flags, [filter(), filter(), filter(), filter()]).prop_map(
        |(key, range_end, limit, revision, (sort_order, sort_target), flags, filters)| RangeRequest {
            key,
            range_end,
            limit,
            revision,
            sort_order,
            sort_target,
            serializable: flags.0,
            keys_only: flags.1,
            count_only: flags.2,
            min_mod_revision: filters[0],
            max_mod_revision: filters[1],
            min_create_revision: filters[2],
            max_create_revision: filters[3],
        },
    )
}

fn compare() -> impl Strategy<Value = Compare> {
    use Relation::{Equal, Greater, Less, NotEqual, Unknown};
    let operand = prop_oneof![
        (0..4_i64).prop_map(Operand::Version),
        revision().prop_map(Operand::CreateRevision),
        revision().prop_map(Operand::ModRevision),
        value().prop_map(Operand::Value),
        (0..2_i64).prop_map(Operand::Lease),
        Just(Operand::Unknown),
    ];
    let relation = prop::sample::select(&[Equal, Greater, Less, NotEqual, Unknown][..]);
    (key(), range_end(), relation, operand).prop_map(|(key, range_end, relation, operand)| Compare {
        key,
        range_end,
        relation,
        operand,
    })
}

fn op() -> impl Strategy<Value = RequestOp> {
    let leaf = prop_oneof![
        6 => range().prop_map(RequestOp::Range),
        8 => put().prop_map(RequestOp::Put),
        6 => delete_range().prop_map(RequestOp::DeleteRange),
        1 => Just(RequestOp::Unset),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| txn_of(inner).prop_map(RequestOp::Txn))
}

fn txn_of(op: impl Strategy<Value = RequestOp> + Clone) -> impl Strategy<Value = TxnRequest> {
    (vec(compare(), 0..3), vec(op.clone(), 0..4), vec(op, 0..4))
        .prop_map(|(compare, success, failure)| TxnRequest { compare, success, failure })
}

fn member() -> impl Strategy<Value = Member> {
    (0..4_u64, any::<Option<u64>>(), ".{0,5}", vec(".{0,9}", 0..3)).prop_map(
        |(id, directory_id, name, urls)| Member {
            id,
            directory_id,
            name,
            peer_urls: urls.clone(),
            client_urls: urls,
        },
    )
}

/// Any command, also ones that the checks refuse: what is applied does not depend on the checks.
pub(crate) fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        8 => put().prop_map(Command::Put),
        4 => delete_range().prop_map(Command::DeleteRange),
        6 => txn_of(op().boxed()).prop_map(Command::Txn),
        2 => (revision(), any::<bool>()).prop_map(|(revision, physical)| Command::Compact { revision, physical }),
        1 => member().prop_map(Command::PublishMember),
        1 => (0..4_u64, vec(".{0,9}", 0..3))
            .prop_map(|(id, peer_urls)| Command::SetPeerUrls { id, peer_urls }),
    ]
}

/// A command as a member with a bug could make it: a key is empty, or is changed twice in a transaction.
pub(crate) fn spoiled_command() -> impl Strategy<Value = Command> {
    (command(), any::<bool>()).prop_map(|(command, doubles)| match command {
        Command::Put(put) => Command::Put(PutRequest { key: Bytes::new(), ..put }),
        Command::DeleteRange(delete) => {
            Command::DeleteRange(DeleteRangeRequest { key: Bytes::new(), ..delete })
        }
        Command::Txn(mut txn) if doubles => {
            txn.success.extend(txn.success.clone());
            txn.failure.extend(txn.failure.clone());
            Command::Txn(txn)
        }
        Command::Txn(mut txn) => {
            let put = PutRequest { value: Bytes::from_static(b"v"), ..PutRequest::default() };
            txn.success.push(RequestOp::Put(put.clone()));
            txn.failure.push(RequestOp::Put(put));
            Command::Txn(txn)
        }
        Command::Compact { .. } | Command::PublishMember(_) | Command::SetPeerUrls { .. } => command,
    })
}

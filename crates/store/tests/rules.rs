//! What the callers of the store can rely on, and what they must not do.

mod common;

use bytes::Bytes;
use tenure_store::{
    Command, Compare, DecodeError, DeleteRangeRequest, Limits, MAX_COMPARED_KEYS, MAX_REMOVED_MEMBERS,
    MAX_TXN_DEPTH, Member, Operand, PutRequest, RangeRequest, Rejection, Relation, RequestOp, Response,
    ResponseOp, Snapshot, Store, TxnRequest, check,
};

fn put(key: &'static str, value: Bytes) -> Command {
    Command::Put(PutRequest { key: key.into(), value, ..PutRequest::default() })
}

fn nested(depth: usize) -> Command {
    let innermost = TxnRequest::default();
    let txn = (1..depth)
        .fold(innermost, |txn, _| TxnRequest { success: vec![RequestOp::Txn(txn)], ..TxnRequest::default() });
    Command::Txn(txn)
}

#[test]
#[should_panic(expected = "entries are applied in order: 3 comes where 2 should")]
fn an_entry_cannot_be_left_out() {
    let mut store = Store::new();
    store.apply_nothing(1);
    store.apply_nothing(3);
}

#[test]
#[should_panic(expected = "entries are applied in order: 1 comes where 2 should")]
fn an_entry_cannot_be_applied_twice() {
    let mut store = Store::new();
    let _ = store.apply(1, &put("a", Bytes::new()));
    let _ = store.apply(1, &put("a", Bytes::new()));
}

#[test]
fn an_entry_without_a_command_moves_only_the_index() {
    let mut store = Store::new();
    let before = store.state_hash();
    store.apply_nothing(1);
    assert_eq!((store.applied_index(), store.revision(), store.state_hash()), (1, 1, before));
}

/// A slice of the entry would keep the whole buffer that it came in.
#[test]
fn keys_and_values_are_copied_out_of_the_entry() {
    let entry = Bytes::from(vec![7_u8; 1000]);
    let mut store = Store::new();
    let request = PutRequest { key: entry.slice(..10), value: entry.slice(10..), ..PutRequest::default() };
    let _ = store.apply(1, &Command::Put(request));
    assert!(entry.is_unique(), "the store holds no part of the entry");
}

#[test]
fn a_snapshot_may_go_to_another_thread() {
    fn can_travel<T: Send + Sync + Clone + 'static>(_: &T) {}
    can_travel(&Store::new().snapshot());
}

#[test]
fn transactions_are_nested_to_a_bound_and_not_deeper() {
    let limits = Limits { max_txn_ops: usize::MAX };
    let mut bytes = Vec::new();
    nested(MAX_TXN_DEPTH).encode(&mut bytes);
    assert_eq!(check(&nested(MAX_TXN_DEPTH), &limits), Ok(()));
    assert_eq!(Command::decode(&bytes.into()), Ok(nested(MAX_TXN_DEPTH)));

    let mut bytes = Vec::new();
    nested(MAX_TXN_DEPTH + 1).encode(&mut bytes);
    assert_eq!(check(&nested(MAX_TXN_DEPTH + 1), &limits), Err(Rejection::TooManyOps));
    assert_eq!(Command::decode(&bytes.into()), Err(DecodeError::TooDeep));
}

/// The bytes of this many transactions within each other would overflow the stack of a decoder without bound.
#[test]
fn a_million_transactions_within_each_other_are_refused() {
    let mut bytes = vec![1, 3];
    bytes.extend([0, 1, 3].repeat(1_000_000));
    assert_eq!(Command::decode(&bytes.into()), Err(DecodeError::TooDeep));
}

/// The count says four thousand million operations, the entry has none.
#[test]
fn a_count_beyond_the_entry_allocates_nothing() {
    let bytes = Bytes::from_static(&[1, 3, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert_eq!(Command::decode(&bytes), Err(DecodeError::Truncated("list")));
}

#[test]
fn a_command_of_a_later_format_is_refused_by_name() {
    assert_eq!(Command::decode(&Bytes::from_static(&[2, 1])), Err(DecodeError::UnknownVersion(2)));
}

/// etcd answers such a transaction from local state, which the client did not ask for.
#[test]
fn a_transaction_of_comparisons_alone_is_no_stale_read() {
    assert!(TxnRequest::default().is_read_only());
    assert!(!TxnRequest::default().is_serializable());
    let read = |serializable| RequestOp::Range(RangeRequest { serializable, ..RangeRequest::default() });
    let txn = |success| TxnRequest { success, ..TxnRequest::default() };
    assert!(txn(vec![read(true), read(true)]).is_serializable());
    assert!(!txn(vec![read(true), read(false)]).is_serializable());
    assert!(
        !txn(vec![RequestOp::Txn(TxnRequest::default())]).is_read_only(),
        "one within counts as a write, as in etcd"
    );
}

#[test]
#[should_panic(expected = "a transaction that writes goes through the log")]
fn a_snapshot_runs_no_transaction_that_writes() {
    let put = RequestOp::Put(PutRequest { key: "a".into(), ..PutRequest::default() });
    let txn = TxnRequest { success: vec![put], ..TxnRequest::default() };
    let _ = Store::new().snapshot().read_txn(&txn);
}

/// The hash is compared between members of different versions of Tenure, so what it is of a given state may
/// never change unnoticed.
#[test]
fn the_state_hash_is_the_same_in_every_version() {
    assert_eq!(Store::new().state_hash().to_string(), "322b48f3068dc6d5");
    let mut machine = common::Machine::new(Limits::default());
    for line in [
        "put k=a v=1",
        "put k=a v=2",
        "del k=a",
        "put k=b v=12345678",
        "compact rev=3",
        "member id=1 name=m1",
    ] {
        machine.run(&common::parse::operation(line));
    }
    assert_eq!(machine.store.state_hash().to_string(), "287c4eb845273703");
}

/// Far enough to go from milestone to milestone, with deletes between, and across a compaction.
#[test]
fn every_value_of_a_key_that_changed_a_thousand_times_is_found() {
    let mut store = Store::new();
    let mut expected = vec![None; 2];
    for n in 0..1000_u64 {
        let command = if n % 10 == 9 {
            Command::DeleteRange(DeleteRangeRequest { key: "k".into(), ..DeleteRangeRequest::default() })
        } else {
            put("k", Bytes::from(n.to_string()))
        };
        assert!(store.apply(n + 1, &command).result.is_ok());
        expected.push((n % 10 != 9).then(|| n.to_string()));
    }
    let check_from = |store: &Store, first: i64| {
        for revision in first..=store.revision() {
            let request = RangeRequest { key: "k".into(), revision, ..RangeRequest::default() };
            let answer = store.snapshot().range(&request).expect("not compacted");
            let value = answer.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned());
            assert_eq!(value, expected[revision as usize], "at {revision}");
        }
    };
    check_from(&store, 1);
    assert!(store.apply(1001, &Command::Compact { revision: 457, physical: false }).result.is_ok());
    check_from(&store, 457);
    check_from(&common::restore(&common::checkpoint(&store)).expect("a checkpoint can be read"), 457);
}

fn peers(id: u64, url: &str) -> Command {
    Command::SetPeerUrls { id, peer_urls: vec![url.to_owned()] }
}

/// A server that missed its removal may still send what it wanted published.
#[test]
fn a_removed_member_is_forgotten_and_never_known_again() {
    let mut store = Store::new();
    assert!(store.apply(1, &peers(7, "http://a")).result.is_ok());
    assert!(store.apply(2, &peers(8, "http://b")).result.is_ok());
    let before = store.state_hash();
    store.apply_removal(3, &[7]);
    store.check_invariants();
    assert_ne!(store.state_hash(), before);
    assert_eq!((store.member(7), store.is_removed(7), store.is_removed(8)), (None, true, false));
    let member = Member { id: 7, name: "m7".into(), ..Member::default() };
    for (index, command) in [(4, peers(7, "http://c")), (5, Command::PublishMember(member))] {
        assert_eq!(store.apply(index, &command).result, Err(Rejection::MemberRemoved));
    }
    assert_eq!(store.members().map(|member| member.id).collect::<Vec<_>>(), [8]);
    store.apply_removal(6, &[7]);
    assert_eq!(store.snapshot().removed_members(), [7], "it goes once");
    store.check_invariants();
}

#[test]
fn who_was_removed_longest_ago_is_forgotten_first() {
    let mut store = Store::new();
    for id in 1..=MAX_REMOVED_MEMBERS as u64 + 1 {
        store.apply_removal(id, &[id]);
    }
    store.check_invariants();
    assert!(!store.is_removed(1) && store.is_removed(2), "the bound holds, and the oldest went");
    let restored = common::restore(&common::checkpoint(&store)).expect("a checkpoint can be read");
    assert_eq!(restored.state_hash(), store.state_hash());
}

/// So many keys, in one revision each.
fn with_keys(keys: u64) -> Store {
    let mut store = Store::new();
    for index in 1..=keys {
        let put =
            PutRequest { key: format!("{index:06}").into(), value: "v".into(), ..PutRequest::default() };
        assert!(store.apply(index, &Command::Put(put)).result.is_ok());
    }
    store
}

fn all() -> RangeRequest {
    RangeRequest { key: "0".into(), range_end: "1".into(), ..RangeRequest::default() }
}

/// A large read sees what was written before it in its transaction, and nothing that came after it: neither there nor
/// in a later entry.
#[test]
fn a_read_that_is_put_off_shows_the_state_at_its_place() {
    let [mut at_once, mut lazy] = [with_keys(3_000), with_keys(3_000)];
    let one = |value: &'static str| {
        RequestOp::Put(PutRequest { key: "000001".into(), value: value.into(), ..PutRequest::default() })
    };
    let delete = RequestOp::DeleteRange(DeleteRangeRequest {
        key: "000002".into(),
        range_end: "000100".into(),
        prev_kv: false,
    });
    let success =
        vec![RequestOp::Range(all()), one("first"), RequestOp::Range(all()), delete, RequestOp::Range(all())];
    let command = Command::Txn(TxnRequest { success, ..TxnRequest::default() });
    let (whole, later) = (at_once.apply(3_001, &command), lazy.apply_lazily(3_001, &command));
    let second = Command::Txn(TxnRequest { success: vec![one("second")], ..TxnRequest::default() });
    assert!(lazy.apply_lazily(3_002, &second).result.is_ok());
    let (Ok(Response::Txn(whole)), Ok(Response::Txn(later))) = (whole.result, later.result) else {
        panic!("answers to transactions")
    };
    let mut reads = 0;
    for (whole, later) in whole.responses.into_iter().zip(later.responses) {
        match (whole, later) {
            (ResponseOp::Range(range), ResponseOp::Later(later)) => {
                assert!(later.select().into_response() == range);
                reads += 1;
            }
            (whole, other) => assert_eq!(whole, other),
        }
    }
    assert_eq!(reads, 3);
}

/// Five kilobytes that ask for 25 million pairs cost nothing where nobody waits, and next to nothing where somebody does.
#[test]
fn a_transaction_of_many_lists_is_applied_without_making_them() {
    let mut store = with_keys(10_000);
    let success = vec![RequestOp::Range(all()); 100_000];
    let command = Command::Txn(TxnRequest { success, ..TxnRequest::default() });
    assert!(store.apply_unheard(10_001, &command).result.is_ok());
    let Ok(Response::Txn(response)) = store.apply_lazily(10_002, &command).result else {
        panic!("an answer")
    };
    assert!(response.responses.iter().all(|op| matches!(op, ResponseOp::Later(_))));
    assert_eq!(response.size_bytes(), usize::MAX);
}

#[test]
fn a_transaction_that_writes_compares_so_many_keys_and_no_more() {
    const COMPARES: usize = 128;
    let holds_for_all = Compare {
        key: "0".into(),
        range_end: "1".into(),
        relation: Relation::Greater,
        operand: Operand::Version(0),
    };
    let fails_at_once = Compare { operand: Operand::Version(5), ..holds_for_all.clone() };
    let keys = (MAX_COMPARED_KEYS / COMPARES) as u64;
    let mut store = with_keys(keys);
    let success = vec![RequestOp::Put(PutRequest { key: "1".into(), ..PutRequest::default() })];
    let txn = |compare: Vec<Compare>| {
        Command::Txn(TxnRequest { compare, success: success.clone(), failure: vec![] })
    };
    let succeeded = |store: &mut Store, command: &Command| {
        store.apply(store.applied_index() + 1, command).result.map(|response| match response {
            Response::Txn(response) => response.succeeded,
            _ => panic!("an answer to a transaction"),
        })
    };
    assert_eq!(succeeded(&mut store, &txn(vec![holds_for_all.clone(); COMPARES])), Ok(true));
    let before = store.state_hash();
    let one_more = [vec![holds_for_all.clone(); COMPARES], vec![holds_for_all.clone()]].concat();
    assert_eq!(succeeded(&mut store, &txn(one_more)), Err(Rejection::TooManyOps));
    assert_eq!(store.state_hash(), before, "what is refused changes nothing");
    // One that fails costs what it has looked at.
    assert_eq!(
        succeeded(&mut store, &txn([vec![fails_at_once; 1], vec![holds_for_all; 1_000]].concat())),
        Ok(false)
    );
}

/// Many keys go another way than a few; what is left, and what can be read of the past, is the same.
#[test]
fn a_delete_of_many_keys_does_what_deletes_of_each_do() {
    const KEYS: u64 = 3_000;
    for (first, end) in [("000500", "002900"), ("0", "1"), ("001000", "001500"), ("002000", "\0")] {
        let mut store = with_keys(KEYS);
        let span = DeleteRangeRequest { key: first.into(), range_end: end.into(), prev_kv: false };
        let present = store.snapshot().range(&all()).expect("the latest revision").kvs;
        let goes = |key: &[u8]| key >= first.as_bytes() && (end == "\0" || key < end.as_bytes());
        assert!(store.apply(KEYS + 1, &Command::DeleteRange(span)).result.is_ok());
        store.check_invariants();
        let left = store.snapshot().range(&all()).expect("the latest revision").kvs;
        assert_eq!(left, present.iter().filter(|pair| !goes(&pair.key)).cloned().collect::<Vec<_>>());
        let revision = store.revision() - 1;
        let before = store.snapshot().range(&RangeRequest { revision, ..all() }).expect("not compacted").kvs;
        assert_eq!(before, present);
        drop(store.take_garbage());
        store.check_invariants();
    }
}

/// What etcd 3.7.3 answered while it remembered its compactions, after the same commands.
#[test]
fn a_compaction_hashes_what_it_finds_as_etcd_does() {
    let delete = |key: &'static str| {
        Command::DeleteRange(DeleteRangeRequest { key: key.into(), ..DeleteRangeRequest::default() })
    };
    let mut store = Store::new();
    let mut index = 0;
    let mut apply = |command: &Command| {
        index += 1;
        let before = store.snapshot();
        store.apply(index, command).result.expect("it is possible");
        before
    };
    let compact = |apply: &mut dyn FnMut(&Command) -> Snapshot, revision| {
        let before = apply(&Command::Compact { revision, physical: true });
        let hash = before.hash_kv_at_compaction(revision);
        assert_eq!(hash.hash_revision, revision);
        (hash.hash, hash.compact_revision)
    };
    for value in ["v1", "v2", "v3", "v4", "v5", "v6"] {
        apply(&put("k", value.into()));
    }
    assert_eq!(compact(&mut apply, 4), (1_828_632_844, -1));
    apply(&put("a", "1".into()));
    apply(&put("b", "2".into()));
    apply(&delete("a"));
    assert_eq!(compact(&mut apply, 10), (107_826_040, 4));
    // Nothing is left but the delete of the compact revision itself, which a compaction keeps.
    apply(&delete("k"));
    apply(&delete("b"));
    assert_eq!(compact(&mut apply, 12), (471_351_464, 10));
    apply(&put("z", "1".into()));
    apply(&delete("z"));
    apply(&put("z", "2".into()));
    assert_eq!(compact(&mut apply, 14), (1_495_317_303, 12));
    assert_eq!(compact(&mut apply, 15), (3_473_955_865, 14));
}

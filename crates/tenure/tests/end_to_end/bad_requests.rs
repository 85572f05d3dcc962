//! Requests that cannot be served: etcd's code and text for each, and the cluster goes on.

use prost::Message;
use tenure_api::pb::etcdserverpb::request_op::Request;
use tenure_api::pb::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use tonic::{Code, Status};

use crate::client::Client;
use crate::cluster::Cluster;
use crate::process::resident_bytes;

const MAX_REQUEST_BYTES: usize = 1_572_864;

fn put_of(key: &str, value_bytes: usize) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: vec![b'v'; value_bytes].into(), ..PutRequest::default() }
}

fn txn_of(requests: impl IntoIterator<Item = Request>) -> TxnRequest {
    let success = requests.into_iter().map(|request| RequestOp { request: Some(request) }).collect();
    TxnRequest { success, ..TxnRequest::default() }
}

fn puts(count: usize) -> TxnRequest {
    txn_of((0..count).map(|number| Request::RequestPut(put_of(&format!("k{number}"), 1))))
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, text: &str) {
    let status = result.expect_err(text);
    assert_eq!((status.code(), status.message()), (code, text));
}

/// Nothing was done, and the member serves as before.
async fn assert_unharmed(client: &Client) {
    assert_eq!(client.range("a", "z").await.expect("a range"), []);
    let revision = client.put("zz", "v").await.expect("a put");
    assert_eq!(revision, 2, "something was written");
}

#[tokio::test]
async fn a_request_without_a_key_is_refused() {
    let cluster = Cluster::with_flags(1, &[]).await;
    let client = cluster.members[0].client();
    let mut kv = client.kv.clone();
    let text = "etcdserver: key is not provided";
    assert_refused(kv.put(put_of("", 1)).await, Code::InvalidArgument, text);
    assert_refused(kv.range(RangeRequest::default()).await, Code::InvalidArgument, text);
    assert_refused(kv.delete_range(DeleteRangeRequest::default()).await, Code::InvalidArgument, text);
    let txn = txn_of([Request::RequestPut(put_of("a", 1)), Request::RequestPut(put_of("", 1))]);
    assert_refused(kv.txn(txn).await, Code::InvalidArgument, text);
    assert_unharmed(&client).await;
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_by_every_member() {
    let cluster = Cluster::of_three().await;
    for client in cluster.clients() {
        let mut kv = client.kv.clone();
        let too_large = "etcdserver: request is too large";
        let request = put_of("a", MAX_REQUEST_BYTES);
        assert_refused(kv.put(request.clone()).await, Code::InvalidArgument, too_large);
        let txn = txn_of([Request::RequestPut(request)]);
        assert_refused(kv.txn(txn).await, Code::InvalidArgument, too_large);
        for value_bytes in [MAX_REQUEST_BYTES + (600 << 10), 40 << 20] {
            let request = put_of("a", value_bytes);
            let found = request.encoded_len();
            let text = format!("grpc: received message larger than max ({found} vs. 2097152)");
            assert_refused(kv.put(request).await, Code::ResourceExhausted, &text);
        }
        kv.put(put_of("zzz", MAX_REQUEST_BYTES - 100)).await.expect("just small enough");
        assert_eq!(client.range("a", "b").await.expect("a range"), []);
    }
    cluster.assert_equal().await;
}

#[tokio::test]
async fn a_transaction_with_too_many_operations_is_refused() {
    let cluster = Cluster::with_flags(1, &[]).await;
    let client = cluster.members[0].client();
    let text = "etcdserver: too many operations in txn request";
    assert_refused(client.kv.clone().txn(puts(129)).await, Code::InvalidArgument, text);
    let twice = txn_of([Request::RequestPut(put_of("a", 1)), Request::RequestPut(put_of("a", 1))]);
    let text = "etcdserver: duplicate key given in txn request";
    assert_refused(client.kv.clone().txn(twice).await, Code::InvalidArgument, text);
    assert_unharmed(&client).await;
    client.kv.clone().txn(puts(128)).await.expect("as many as may be");
}

#[tokio::test]
async fn what_is_short_on_the_wire_and_long_in_memory_is_refused_by_its_length() {
    let mut cluster = Cluster::with_flags(1, &[]).await;
    let client = cluster.members[0].client();
    let id = cluster.members[0].process().id();
    // Operations that are none: two bytes each.
    let request = TxnRequest { success: vec![RequestOp::default(); 8 << 20], ..TxnRequest::default() };
    let before = resident_bytes(id);
    let status = client.kv.clone().txn(request).await.expect_err("16 MiB");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let grown = resident_bytes(id).saturating_sub(before);
    assert!(grown < 256 << 20, "memory grew by {grown} bytes");
    assert_unharmed(&client).await;
}

#[tokio::test]
async fn the_limits_can_be_set() {
    let cluster = Cluster::with_flags(1, &["--max-txn-ops", "2", "--max-request-bytes=1000"]).await;
    let client = cluster.members[0].client();
    let text = "etcdserver: too many operations in txn request";
    assert_refused(client.kv.clone().txn(puts(3)).await, Code::InvalidArgument, text);
    let text = "etcdserver: request is too large";
    assert_refused(client.kv.clone().put(put_of("a", 1000)).await, Code::InvalidArgument, text);
    assert_unharmed(&client).await;
    client.kv.clone().txn(puts(2)).await.expect("as many as may be");
}

#[tokio::test]
async fn a_read_of_what_is_not_there_is_refused() {
    let cluster = Cluster::with_flags(1, &[]).await;
    let client = cluster.members[0].client();
    let mut revision = 0;
    for _ in 0..5 {
        revision = client.put("k", "v").await.expect("a put");
    }
    let at = |revision| RangeRequest { key: "k".into(), revision, ..RangeRequest::default() };
    let text = "etcdserver: mvcc: required revision is a future revision";
    assert_refused(client.kv.clone().range(at(revision + 1)).await, Code::OutOfRange, text);
    assert_refused(client.compact(revision + 1).await, Code::OutOfRange, text);
    client.compact(revision).await.expect("a compaction");
    let text = "etcdserver: mvcc: required revision has been compacted";
    assert_refused(client.kv.clone().range(at(revision - 1)).await, Code::OutOfRange, text);
    assert_refused(client.compact(revision).await, Code::OutOfRange, text);
    client.kv.clone().range(at(revision)).await.expect("the compacted revision itself can be read");
}

//! gRPC below the messages, as servers made with Go do it: methods that are not there, compression, time limits.

use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use tenure_api::pb::etcdserverpb::kv_client::KvClient;
use tenure_api::pb::etcdserverpb::{PutRequest, RangeRequest};
use tokio::net::TcpStream;
use tonic::codec::CompressionEncoding;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use crate::PATIENCE;
use crate::cluster::Cluster;

/// A `RangeRequest` of the key `k`, and the same in gzip.
const RANGE: [u8; 3] = [0x0a, 0x01, b'k'];
const RANGE_IN_GZIP: [u8; 23] = [
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xe3, 0x62, 0xcc, 0x06, 0x00, 0x55, 0xd5,
    0xad, 0x31, 0x03, 0x00, 0x00, 0x00,
];

/// What a call brought.
struct Answer {
    headers: HeaderMap,
    body: BytesMut,
    status: Status,
}

/// A connection of HTTP/2 on which nothing is done by itself.
pub(crate) async fn connect(port: u16) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the member listens");
    let (sender, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
    // It ends with the test.
    tokio::spawn(async move { drop(connection.await) });
    sender
}

/// Calls a method with one message.
async fn call(port: u16, path: &str, headers: &[(&str, &str)], message: &[u8]) -> Answer {
    let mut sender = connect(port).await.ready().await.expect("a stream");
    let mut request = Request::post(format!("http://localhost{path}"));
    request = request.header("content-type", "application/grpc").header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).expect("a request");
    let (response, mut body) = sender.send_request(request, false).expect("it can be sent");
    let is_compressed = headers.iter().any(|(name, _)| *name == "grpc-encoding");
    let mut data = BytesMut::new();
    data.put_u8(u8::from(is_compressed));
    data.put_u32(message.len() as u32);
    data.put_slice(message);
    // What is refused at once may be answered before all is sent.
    let _ = body.send_data(data.freeze(), true);
    let response = tokio::time::timeout(PATIENCE, response).await.expect("in time").expect("an answer");
    let (head, mut incoming) = response.into_parts();
    let mut body = BytesMut::new();
    while let Some(data) = incoming.data().await {
        let data = data.expect("the rest of the answer");
        incoming.flow_control().release_capacity(data.len()).expect("it was taken up");
        body.put(data);
    }
    let trailers = incoming.trailers().await.expect("the end of the answer").unwrap_or_default();
    let status = Status::from_header_map(&head.headers).or_else(|| Status::from_header_map(&trailers));
    Answer { headers: head.headers, body, status: status.expect("a status") }
}

#[tokio::test]
async fn a_method_or_service_that_is_not_there_is_named() {
    let cluster = Cluster::with_flags(1, &[]).await;
    for (path, text) in [
        ("/etcdserverpb.KV/Nope", "unknown method Nope for service etcdserverpb.KV"),
        ("/grpc.health.v1.Health/Nope", "unknown method Nope for service grpc.health.v1.Health"),
        ("/etcdserverpb.Nope/Range", "unknown service etcdserverpb.Nope"),
        ("/nothing", "malformed method name: \"/nothing\""),
    ] {
        let status = call(cluster.members[0].client_port, path, &[], &[]).await.status;
        assert_eq!((status.code(), status.message()), (Code::Unimplemented, text));
    }
}

#[tokio::test]
async fn a_request_may_be_compressed_and_then_its_answer_is() {
    const RANGE_PATH: &str = "/etcdserverpb.KV/Range";
    let cluster = Cluster::with_flags(1, &[]).await;
    let port = cluster.members[0].client_port;
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).expect("a URL");
    let gzip = CompressionEncoding::Gzip;
    let mut kv = KvClient::new(endpoint.connect_lazy()).send_compressed(gzip).accept_compressed(gzip);
    let value = Bytes::from(vec![b'v'; 100_000]);
    let put = PutRequest { key: "k".into(), value: value.clone(), ..PutRequest::default() };
    kv.put(put).await.expect("a put");
    let get = RangeRequest { key: "k".into(), ..RangeRequest::default() };
    assert_eq!(kv.range(get).await.expect("a range").into_inner().kvs[0].value, value);

    let compressed = call(port, RANGE_PATH, &[("grpc-encoding", "gzip")], &RANGE_IN_GZIP).await;
    assert_eq!(compressed.headers.get("grpc-encoding").expect("it says so"), "gzip");
    assert_eq!((compressed.body[0], compressed.status.code()), (1, Code::Ok));
    assert!(compressed.body.len() < 10_000);
    let plain = call(port, RANGE_PATH, &[("grpc-accept-encoding", "gzip")], &RANGE).await;
    assert!(!plain.headers.contains_key("grpc-encoding"), "{:?}", plain.headers);
    assert_eq!((plain.body[0], plain.status.code()), (0, Code::Ok));
    let unknown = call(port, RANGE_PATH, &[("grpc-encoding", "snappy")], &RANGE).await.status;
    let text = "grpc: Decompressor is not installed for grpc-encoding \"snappy\"";
    assert_eq!((unknown.code(), unknown.message()), (Code::Unimplemented, text));

    // What is small on the wire and too long in memory.
    let too_long = PutRequest { key: "k".into(), value: vec![0; 3 << 20].into(), ..PutRequest::default() };
    let status = kv.put(too_long).await.expect_err("too long");
    let text = "grpc: received message after decompression larger than max 2097152";
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, text));
}

#[tokio::test]
async fn a_request_waits_no_longer_than_its_client() {
    let mut cluster = Cluster::of(3, &[]);
    // Alone it can serve nothing that has to be up to date.
    cluster.launch(0);
    let port = cluster.members[0].client_port;
    crate::eventually("it listens", async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
    let started = Instant::now();
    let answer = call(port, "/etcdserverpb.KV/Range", &[("grpc-timeout", "100m")], &RANGE).await;
    let text = "context deadline exceeded";
    assert_eq!((answer.status.code(), answer.status.message()), (Code::DeadlineExceeded, text));
    let without = call(port, "/etcdserverpb.KV/Range", &[], &RANGE).await;
    assert_eq!(without.status.code(), Code::Unavailable);
    assert!(started.elapsed().as_millis() >= 100);
}

/// What etcd 3.7.3 answers after the same commands.
#[tokio::test]
async fn the_hash_of_a_compaction_is_remembered_until_the_member_stops() {
    let mut cluster = Cluster::with_flags(1, &[]).await;
    let client = cluster.members[0].client();
    for value in ["v1", "v2", "v3", "v4", "v5", "v6"] {
        client.put("k", value).await.expect("a put");
    }
    client.compact(4).await.expect("a compaction");
    let remembered = (1_828_632_844, -1);
    assert_eq!(client.hash_kv(4).await.expect("a hash"), remembered);
    assert_eq!(client.hash_kv(0).await.expect("a hash"), (3_404_881_082, 4));
    assert!(cluster.members[0].terminate().await.success());
    cluster.start().await;
    let (hash, compact_revision) = cluster.members[0].client().hash_kv(4).await.expect("a hash");
    assert_eq!(compact_revision, 4, "it is gone");
    assert_ne!(hash, remembered.0);
}

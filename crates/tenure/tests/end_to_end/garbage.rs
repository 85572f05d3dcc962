//! Bytes that make no sense, at both ports: the connection is closed, the member goes on.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tenure_api::peer::{
    Frame, FrameDecoder, Handshake, HandshakeRefusal, HandshakeReply, Lane, PROTOCOL_VERSION, Standing,
    decode_frame, encode_handshake,
};
use tenure_raft::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::PATIENCE;
use crate::cluster::Cluster;
use crate::process::resident_bytes;

/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How much is read of an answer.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Bytes without any order, the same in every run.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..count).map(|_| next()).collect()
}

/// Sends bytes and reads until the member closes the connection; what it answered.
async fn send(port: u16, bytes: &[u8]) -> Vec<u8> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        // It may be closed before all is sent.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        while answer.len() < MAX_ANSWER_BYTES {
            match stream.read(&mut chunk).await {
                Ok(0) => break,
                Ok(count) => answer.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Err(error) => return Err(error),
            }
        }
        Ok(answer)
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await.expect("the connection is closed");
    answer.unwrap_or_else(|error: io::Error| panic!("port {port}: {error}"))
}

/// Nobody noticed: the same leader, the same term, and it serves.
async fn assert_unharmed(cluster: &Cluster, term_before: u64) {
    for client in cluster.clients() {
        client.put("k", "v").await.expect("a put");
        assert_eq!(client.status().await.expect("a status").raft_term, term_before, "there was an election");
    }
    cluster.assert_equal().await;
}

async fn term(cluster: &Cluster) -> u64 {
    let leader = cluster.leader().await;
    cluster.members[leader].client().status().await.expect("a status").raft_term
}

#[tokio::test]
async fn garbage_at_the_client_port_does_no_harm() {
    let cluster = Cluster::of_three().await;
    let term = term(&cluster).await;
    let port = cluster.members[0].client_port;
    let http = |head: &str| head.replace('\n', "\r\n").into_bytes();
    for bytes in [
        noise(64 << 10),
        vec![0; 64 << 10],
        http("GARBAGE\n\n"),
        http("GET /health HTTP/9.9\n\n"),
        http("GET / HTTP/1.1\nContent-Length: nonsense\n\n"),
        [PREFACE, &noise(4096)].concat(),
        // A frame of HTTP/2 that claims 16 MiB.
        [PREFACE, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat(),
    ] {
        send(port, &bytes).await;
    }
    // gRPC that is none: a message that claims 4 GiB, one that is compressed by nobody knows what.
    let grpc = "POST /etcdserverpb.KV/Put HTTP/1.1\nConnection: close\nContent-Type: application/grpc\n\
                Content-Length: 5\n\n";
    for message in [[0, 0xff, 0xff, 0xff, 0xff], [9, 0, 0, 0, 0]] {
        send(port, &[&http(grpc)[..], &message].concat()).await;
    }
    let answer = send(port, &http("GET /nothing HTTP/1.1\nConnection: close\n\n")).await;
    assert!(answer.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&answer));
    assert_unharmed(&cluster, term).await;
}

#[tokio::test]
async fn garbage_at_the_peer_port_does_no_harm() {
    let cluster = Cluster::of_three().await;
    let term = term(&cluster).await;
    let leader = cluster.leader().await;
    let port = cluster.members[leader].peer_port;
    for bytes in [
        noise(64 << 10),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        // A frame of nothing, one of nonsense.
        vec![0; 4],
        [&[0, 0, 0, 200][..], &noise(200)].concat(),
        // Closed in the middle is what a broken connection looks like.
        [&[0, 0, 0, 200][..], &noise(10)].concat(),
    ] {
        assert_eq!(send(port, &bytes).await, b"", "nothing is said to a stranger");
    }
    assert_unharmed(&cluster, term).await;
}

#[tokio::test]
async fn a_frame_that_claims_four_gibibytes_is_refused_before_it_is_read() {
    let mut cluster = Cluster::of_three().await;
    let term = term(&cluster).await;
    let before = resident_bytes(cluster.members[0].process().id());
    for _ in 0..20 {
        assert_eq!(send(cluster.members[0].peer_port, &[0xff; 4]).await, b"");
    }
    let after = resident_bytes(cluster.members[0].process().id());
    assert!(after < before + (64 << 20), "memory grew from {before} to {after} bytes");
    let log = cluster.members[0].log();
    assert!(log.contains("4294967295"), "the log does not say what was claimed:\n{log}");
    assert_unharmed(&cluster, term).await;
}

#[tokio::test]
async fn strangers_at_the_peer_port_are_told_why_they_are_refused() {
    let cluster = Cluster::of_three().await;
    let term = term(&cluster).await;
    let member_id = |status: tenure_api::pb::etcdserverpb::StatusResponse| status.header.expect("a header");
    let mut headers = Vec::new();
    for client in cluster.clients() {
        headers.push(member_id(client.status().await.expect("a status")));
    }
    let node = |id: u64| NodeId::new(id).expect("not zero");
    let good = Handshake {
        protocol_version: PROTOCOL_VERSION,
        cluster_id: headers[0].cluster_id,
        from: node(headers[1].member_id),
        to: node(headers[0].member_id),
        directory_id: 7,
        lane: Lane::Urgent,
        peer_urls: Vec::new(),
        standing: Standing::default(),
    };
    for (handshake, expected) in [
        (Handshake { protocol_version: 99, ..good.clone() }, HandshakeRefusal::ProtocolVersion),
        (Handshake { cluster_id: 1, ..good.clone() }, HandshakeRefusal::Cluster),
        (Handshake { to: node(1), ..good.clone() }, HandshakeRefusal::Member),
        // Who says to be a member that is known with another data directory.
        (good, HandshakeRefusal::Directory),
    ] {
        let mut bytes = BytesMut::new();
        encode_handshake(&handshake, &mut bytes);
        let answer = send(cluster.members[0].peer_port, &bytes).await;
        let mut decoder = FrameDecoder::new();
        decoder.push(&answer);
        let frame = decoder.next_frame().expect("a frame").expect("a whole one");
        let Ok(Frame::HandshakeReply(HandshakeReply::Refused { reason, detail })) = decode_frame(frame)
        else {
            panic!("{handshake:?}: no refusal");
        };
        assert_eq!(reason, expected, "{detail}");
        assert!(!detail.is_empty());
    }
    assert_unharmed(&cluster, term).await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let cluster = Cluster::of_three().await;
    let started = std::time::Instant::now();
    assert_eq!(send(cluster.members[0].peer_port, b"").await, b"");
    assert!(started.elapsed() > Duration::from_secs(1), "members need time to say who they are");
}

#[tokio::test]
async fn strangers_who_say_nothing_keep_no_member_out() {
    /// More than twice as many as are let in at a time.
    const STRANGERS: usize = 600;
    let cluster = Cluster::of_three().await;
    let term = term(&cluster).await;
    let port = cluster.members[0].peer_port;
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS {
        strangers.push(TcpStream::connect(("127.0.0.1", port)).await.expect("a connection"));
    }
    let handshake = Handshake {
        protocol_version: 99,
        cluster_id: 1,
        from: NodeId::new(1).expect("not zero"),
        to: NodeId::new(2).expect("not zero"),
        directory_id: 3,
        lane: Lane::Urgent,
        peer_urls: Vec::new(),
        standing: Standing::default(),
    };
    let mut bytes = BytesMut::new();
    encode_handshake(&handshake, &mut bytes);
    let started = std::time::Instant::now();
    assert!(!send(port, &bytes).await.is_empty(), "whoever says who he is gets an answer");
    let took = started.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}: only when the strangers were closed for their silence");
    assert_unharmed(&cluster, term).await;
}

//! Who is no member, and knows of the cluster what every answer to a client says.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tenure_api::pb::etcdserverpb::ResponseHeader;
use tenure_api::peer::{
    Frame, FrameDecoder, Handshake, HandshakeReply, Lane, PROTOCOL_VERSION, Standing, decode_frame,
    encode_frame, encode_handshake,
};
use tenure_raft::{EntryId, Envelope, Index, LogSlice, Message, NodeId, Round, Term};
use tenure_replica::{Forward, PeerMessage};
use tenure_store::{Command, PutRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::eventually;

fn node(id: u64) -> NodeId {
    NodeId::new(id).expect("not zero")
}

/// Says good day, as a server does that nobody has heard of.
async fn introduce(
    port: u16,
    header: &ResponseHeader,
    from: NodeId,
    lane: Lane,
) -> std::io::Result<TcpStream> {
    let handshake = Handshake {
        protocol_version: PROTOCOL_VERSION,
        cluster_id: header.cluster_id,
        from,
        to: node(header.member_id),
        directory_id: 1,
        lane,
        // Nobody is to be sent there.
        peer_urls: vec!["http://127.0.0.1:1".to_owned()],
        standing: Standing::default(),
    };
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut bytes = BytesMut::new();
    encode_handshake(&handshake, &mut bytes);
    stream.write_all(&bytes).await?;
    let mut decoder = FrameDecoder::new();
    loop {
        if let Some(frame) = decoder.next_frame().expect("a frame") {
            let reply = decode_frame(frame).expect("a reply");
            assert!(matches!(reply, Frame::HandshakeReply(HandshakeReply::Accepted { .. })), "{reply:?}");
            return Ok(stream);
        }
        if stream.read_buf(decoder.buffer()).await? == 0 {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
    }
}

async fn headers(cluster: &Cluster) -> Vec<ResponseHeader> {
    let mut headers = Vec::new();
    for client in cluster.clients() {
        headers.push(client.status().await.expect("a status").header.expect("a header"));
    }
    headers
}

fn put(member: NodeId, attempt: u64, key: &'static str) -> Bytes {
    let mut bytes = Vec::new();
    for number in [member.as_u64(), 1, attempt] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let put = PutRequest { key: key.into(), value: "by a stranger".into(), ..PutRequest::default() };
    Command::Put(put).encode(&mut bytes);
    bytes.into()
}

#[tokio::test]
async fn a_stranger_moves_no_term_and_writes_nothing() {
    let cluster = Cluster::of_three().await;
    cluster.leader().await;
    let headers = headers(&cluster).await;
    let stranger = node(0x5715_11a7);
    let far = EntryId::new(Index(1 << 40), Term(1 << 40));
    let votes = [1_u64 << 62, headers[0].raft_term + 1];
    let mut connections = Vec::new();
    for (header, member) in headers.iter().zip(&cluster.members) {
        let consensus = votes.iter().flat_map(|&term| {
            let slice = LogSlice::parse(EntryId::new(Index(0), Term(0)), Vec::new()).expect("a slice");
            [
                Message::RequestVote { last: far, leadership_transfer: true },
                Message::RequestVote { last: far, leadership_transfer: false },
                Message::AppendEntries { slice, leader_commit: Index(0) },
                Message::Heartbeat { commit_index: Index(0), round: Round(0) },
                Message::TimeoutNow,
            ]
            .map(|message| {
                let (from, to, term) = (stranger, node(header.member_id), Term(term));
                PeerMessage::Raft(Envelope { from, to, term, message })
            })
        });
        let (term, boot) = (Term(header.raft_term), 1);
        let commands = vec![put(stranger, 1, "hello"), put(stranger, 2, "")];
        let forward = PeerMessage::Forward(Forward { term, boot, oldest_attempt: 1, commands });
        let mut bytes = BytesMut::new();
        for message in consensus.chain([forward]) {
            encode_frame(&message, &mut bytes).expect("it is short");
        }
        let mut stream = introduce(member.peer_port, header, stranger, Lane::Bulk).await.expect("let in");
        stream.write_all(&bytes).await.expect("nobody minds");
        connections.push(stream);
    }
    // What comes later on the connections shows that the earlier was read: a second handshake ends them.
    for (stream, header) in connections.iter_mut().zip(&headers) {
        let mut bytes = BytesMut::new();
        let (from, to) = (stranger, node(header.member_id));
        let (protocol_version, cluster_id) = (PROTOCOL_VERSION, header.cluster_id);
        let (directory_id, lane, peer_urls, standing) = (1, Lane::Bulk, Vec::new(), Standing::default());
        let again =
            Handshake { protocol_version, cluster_id, from, to, directory_id, lane, peer_urls, standing };
        encode_handshake(&again, &mut bytes);
        stream.write_all(&bytes).await.expect("nobody minds");
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0, "it is closed");
    }
    for client in cluster.clients() {
        client.put("k", "v").await.expect("a put");
        let term = client.status().await.expect("a status").raft_term;
        assert_eq!(term, headers[0].raft_term, "there was an election");
        assert_eq!(client.get("hello").await.expect("a read"), None);
    }
    cluster.assert_equal().await;
}

/// Connects again as soon as it is sent away.
async fn besiege(port: u16, header: ResponseHeader, number: u64) {
    loop {
        if let Ok(mut stream) = introduce(port, &header, node(1_000_000 + number), Lane::Urgent).await {
            let _ = stream.read(&mut [0]).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn strangers_who_come_back_again_and_again_keep_no_member_out() {
    /// More than there are places for, members' and strangers'.
    const STRANGERS: u64 = 300;
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let restarted = (leader + 1) % 3;
    let headers = headers(&cluster).await;
    let mut siege = JoinSet::new();
    for (position, member) in
        cluster.members.iter().enumerate().filter(|(position, _)| *position != restarted)
    {
        for number in 0..STRANGERS {
            siege.spawn(besiege(member.peer_port, headers[position], number));
        }
    }
    let say = async |cluster: &Cluster| cluster.members[leader].client().put("k", "v").await;
    say(&cluster).await.expect("the siege has begun");
    cluster.members[restarted].kill();
    cluster.launch(restarted);
    let client = cluster.members[restarted].client();
    let value = eventually("the member is let in", async || {
        client.put("k", "through the crowd").await.ok()?;
        client.get("k").await.ok()?
    });
    assert_eq!(value.await, "through the crowd");
    cluster.assert_equal().await;
    siege.shutdown().await;
}

//! Clients and strangers that are too many, too quiet, or gone; and a log that nobody reads.

use std::process::{Command, Stdio};

use bytes::Bytes;
use http::Request;
use rustix::process::{Pid, Signal, kill_process};
use tenure_api::pb::etcdserverpb::PutRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::cluster::Cluster;
use crate::eventually;
use crate::grpc::connect;

/// A member that may open so many files and sockets, and no more.
fn with_limit(limit: u32, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    for (variable, value) in command.get_envs().filter(|(_, value)| value.is_none()) {
        assert_eq!(value, None);
        shell.env_remove(variable);
    }
    shell
}

#[tokio::test]
async fn idle_connections_take_no_descriptor_that_the_member_needs() {
    let mut cluster = Cluster::of(1, &["--snapshot-count", "20"]);
    let command = with_limit(256, &cluster.command(0));
    cluster.members[0].launch(command);
    cluster.healthy().await;
    let port = cluster.members[0].client_port;
    let client = cluster.members[0].client();
    client.put("before", "v").await.expect("a put");
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpStream::connect(("127.0.0.1", port)).await.expect("the backlog has room"));
    }
    let mut puts: JoinSet<Result<_, tonic::Status>> = JoinSet::new();
    for number in 0..200 {
        // More at a time than may wait to be committed would be refused.
        if puts.len() == 50 {
            puts.join_next().await.expect("it is there").expect("no panic").expect("a put");
        }
        let mut kv = client.kv.clone();
        let key = format!("k{number}").into();
        let put = PutRequest { key, value: vec![b'v'; 600_000].into(), ..PutRequest::default() };
        puts.spawn(async move { kv.put(put).await });
    }
    while let Some(put) = puts.join_next().await {
        put.expect("no panic").expect("a put");
    }
    let log = eventually("it says that others wait", async || {
        Some(cluster.members[0].log()).filter(|log| log.contains("others wait"))
    })
    .await;
    assert_eq!(log.matches("others wait").count(), 1, "it says so once");
    // Those that wait come in when others leave.
    drop(idle);
    cluster.members[0].client().put("after", "v").await.expect("a put");
    assert!(cluster.members[0].terminate().await.success());
}

#[tokio::test]
async fn a_limit_that_cannot_work_is_refused_with_a_sentence() {
    let mut cluster = Cluster::of(1, &[]);
    let command = with_limit(100, &cluster.command(0));
    cluster.members[0].launch(command);
    assert_eq!(cluster.members[0].ended().await.code(), Some(1));
    let log = cluster.members[0].log();
    assert!(
        log.contains("this process may open 100 files and sockets, and a member needs 192 at least"),
        "{log}"
    );
}

#[tokio::test]
async fn whoever_only_looks_whether_a_member_listens_is_no_line_of_its_log() {
    let mut cluster = Cluster::of_three().await;
    let port = cluster.members[0].peer_port;
    for _ in 0..10 {
        drop(TcpStream::connect(("127.0.0.1", port)).await.expect("it listens"));
    }
    // Of this one there is a line, after those that there are not.
    let mut noise = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    noise.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("it reads");
    let _ = noise.read_to_end(&mut Vec::new()).await;
    let line = "a connection at the peer port was closed";
    let log =
        eventually("a line", async || Some(cluster.members[0].log()).filter(|log| log.contains(line))).await;
    assert_eq!(log.matches("at the peer port").count(), 1, "{log}");
    cluster.healthy().await;
}

/// A client calls off hundreds of requests while the member stands still.
#[tokio::test]
async fn requests_that_are_called_off_during_a_pause_take_no_others_with_them() {
    let mut cluster = Cluster::with_flags(1, &[]).await;
    let sender = connect(cluster.members[0].client_port).await;
    let send = async |message: Bytes| {
        let request = Request::post("http://localhost/etcdserverpb.KV/Range")
            .header("content-type", "application/grpc")
            .body(())
            .expect("a request");
        let mut sender = sender.clone().ready().await.expect("the connection is there");
        let (response, mut body) = sender.send_request(request, false).expect("the connection is there");
        body.send_data(message, true).expect("the connection is there");
        (response, body)
    };
    let range = Bytes::from_static(&[0, 0, 0, 0, 3, 0x0a, 0x01, b'k']);
    cluster.members[0].process().signal(Signal::STOP);
    for _ in 0..500 {
        let (_, mut body) = send(range.clone()).await;
        // It leaves before it is called off.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        body.send_reset(h2::Reason::CANCEL);
    }
    let (response, _body) = send(range).await;
    cluster.members[0].process().signal(Signal::CONT);
    let response = response.await.expect("the connection lives");
    assert_eq!(response.status(), 200);
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The next frame's kind, flags and stream.
async fn read_frame(connection: &mut TcpStream) -> (u8, u8, u32) {
    let mut head = [0; 9];
    connection.read_exact(&mut head).await.expect("the connection lives");
    let [l0, l1, l2, kind, flags, stream @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
    connection.read_exact(&mut payload).await.expect("the connection lives");
    (kind, flags, u32::from_be_bytes(stream))
}

/// What is left of uploads that were refused arrives when their streams are forgotten.
#[tokio::test]
async fn what_comes_too_late_for_its_request_takes_no_others_with_it() {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const GOAWAY: u8 = 7;
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;
    // GET, http, /
    let get = |stream| frame(HEADERS, END_STREAM | END_HEADERS, stream, &[0x82, 0x86, 0x84]);
    let cluster = Cluster::with_flags(1, &["--max-concurrent-streams", "2000"]).await;
    let port = cluster.members[0].client_port;
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // So many as the library would bear by itself, and some more.
    let streams = || (0..1100).map(|number| 2 * number + 1);
    let mut begin = [&preface[..], &frame(SETTINGS, 0, 0, &[])].concat();
    begin.extend(streams().flat_map(get));
    connection.write_all(&begin).await.expect("it reads");
    let mut open = streams().count();
    while open > 0 {
        let (_, flags, stream) = read_frame(&mut connection).await;
        open -= usize::from(stream > 0 && flags & END_STREAM != 0);
    }
    let mut late: Vec<u8> = streams().flat_map(|stream| frame(DATA, 0, stream, b"x")).collect();
    let last = 2 * 1100 + 1;
    late.extend(get(last));
    connection.write_all(&late).await.expect("it reads");
    loop {
        let (kind, _, stream) = read_frame(&mut connection).await;
        assert_ne!(kind, GOAWAY);
        if (kind, stream) == (HEADERS, last) {
            break;
        }
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_neither_requests_nor_the_end() {
    let cluster = Cluster::of(1, &[]);
    let mut command = cluster.command(0);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
    let client = cluster.members[0].client();
    eventually("it serves", async || client.get("k").await.ok()).await;
    // Each is a line, all together more than a pipe holds.
    for _ in 0..1500 {
        let mut noise =
            TcpStream::connect(("127.0.0.1", cluster.members[0].peer_port)).await.expect("it listens");
        let _ = noise.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
        let _ = noise.read_to_end(&mut Vec::new()).await;
    }
    client.put("k", "v").await.expect("a put");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("the process is there");
    let status = eventually("it ends", async || child.try_wait().expect("a child can be waited for")).await;
    assert!(status.success());
}

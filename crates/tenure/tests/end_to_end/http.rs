//! The endpoints that are no gRPC: what probes and dashboards ask.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::Cluster;
use crate::eventually;

/// Asks for a path; the status and the body of the answer.
pub(crate) async fn get(port: u16, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the member listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

async fn get_json(port: u16, path: &str) -> (u16, serde_json::Value) {
    let (status, body) = get(port, path).await;
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}")))
}

/// The value of a metric.
async fn metric(port: u16, name: &str) -> Option<u64> {
    let (_, text) = get(port, "/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.parse().ok()
}

#[tokio::test]
async fn probes_and_dashboards_get_their_answers() {
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let port = cluster.members[leader].client_port;
    let revision = cluster.members[leader].client().put("k", "v").await.expect("a put");
    let (status, version) = get_json(port, "/version").await;
    assert_eq!((status, &version["etcdserver"]), (200, &"3.7.3".into()));
    let healthy = serde_json::json!({ "health": "true", "reason": "" });
    assert_eq!(get_json(port, "/health").await, (200, healthy.clone()));
    for (name, value) in [
        ("etcd_server_has_leader", 1),
        ("etcd_server_is_leader", 1),
        ("etcd_debugging_mvcc_current_revision", revision as u64),
    ] {
        assert_eq!(metric(port, name).await, Some(value), "{name}");
    }
    assert_eq!(get(port, "/nothing").await.0, 404);

    for (_, member) in cluster.members.iter_mut().enumerate().filter(|(position, _)| *position != leader) {
        member.kill();
    }
    let sick = serde_json::json!({ "health": "false", "reason": "RAFT NO LEADER" });
    eventually("the leader gives up", async || {
        (get_json(port, "/health").await == (503, sick.clone())).then_some(())
    })
    .await;
    assert_eq!(get_json(port, "/health?serializable=true").await, (200, healthy), "alone, it is well");
    assert_eq!(metric(port, "etcd_server_has_leader").await, Some(0));
}

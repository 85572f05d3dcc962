//! Whoever has started a member is told when it serves, and not before; and what probes are told.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;

use crate::cluster::Cluster;
use crate::eventually;
use crate::http::get;
use crate::process::tenure;

/// The next notification, as soon as there is one.
async fn next(socket: &UnixDatagram) -> String {
    eventually("a notification", async || take(socket)).await
}

/// A notification that is there.
fn take(socket: &UnixDatagram) -> Option<String> {
    let mut buffer = [0; 1024];
    let count = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..count]).into_owned())
}

#[tokio::test]
async fn systemd_is_told_of_the_start_and_of_the_stop() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("notify");
    let abstract_name = format!("tenure-test-{}", process::id());
    let address = SocketAddr::from_abstract_name(&abstract_name).expect("a name");
    for (name, socket) in [
        (path.display().to_string(), UnixDatagram::bind(&path)),
        (format!("@{abstract_name}"), UnixDatagram::bind_addr(&address)),
    ] {
        let socket = socket.expect("a socket");
        socket.set_nonblocking(true).expect("a socket's flag");
        let mut cluster = Cluster::of(1, &[]);
        let mut command = cluster.command(0);
        command.env("NOTIFY_SOCKET", &name);
        cluster.members[0].launch(command);
        assert!(next(&socket).await.starts_with("READY=1"), "{name}");
        let is_said =
            async || cluster.members[0].log().contains("ready to serve client requests").then_some(());
        eventually("it says that it is ready", is_said).await;
        cluster.members[0].client().get("k").await.expect("it serves");
        assert!(cluster.members[0].terminate().await.success());
        assert!(next(&socket).await.starts_with("STOPPING=1"), "{name}");
        assert_eq!(take(&socket), None);
    }
}

#[tokio::test]
async fn a_member_that_joins_is_not_ready_before_it_has_a_vote() {
    let mut cluster = Cluster::of_three().await;
    cluster.members[0].client().put("k", "v").await.expect("a put");
    let position = cluster.push_member();
    let name = cluster.members[position].name.clone();
    let urls = format!("--peer-urls={}", cluster.members[position].peer_url());
    let ask = |words: &[&str]| {
        let mut command = tenure();
        command.args(words).args(["--endpoints", &cluster.endpoints()]);
        let output = command.output().expect("it starts");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let said = ask(&["member", "add", &name, "--learner", &urls]).expect("a new member");
    let id = said.split_whitespace().nth(1).expect("the second word is the id").to_owned();

    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_nonblocking(true).expect("a socket's flag");
    let members = cluster.members.iter().map(|member| format!("{}={}", member.name, member.peer_url()));
    let members = members.collect::<Vec<_>>().join(",");
    let mut command = cluster.command(position);
    command.args(["--initial-cluster", &members, "--initial-cluster-state", "existing"]);
    command.env("NOTIFY_SOCKET", &path);
    cluster.members[position].launch(command);

    let first = next(&socket).await;
    assert!(
        first.contains("STATUS=joining as a learner") && first.contains("EXTEND_TIMEOUT_USEC="),
        "{first}"
    );
    let port = cluster.members[position].client_port;
    let (status, body) = eventually("it has caught up", async || {
        let (status, body) = get(port, "/readyz").await;
        (!body.contains("_read failed")).then_some((status, body))
    })
    .await;
    assert_eq!(status, 503);
    assert!(
        body.contains("[+]linearizable_read ok\n[-]non_learner failed: not supported for learner\n\n"),
        "{body}"
    );
    assert_eq!(get(port, "/livez").await, (200, "ok\n".to_owned()));
    let log = cluster.members[position].log();
    assert!(log.contains("not ready to serve yet: joining as a learner"), "{log}");
    assert!(!log.contains("ready to serve client requests"), "{log}");

    let promote = async || {
        let mut command = tenure();
        command.args(["member", "promote", &id, "--endpoints", &cluster.endpoints()]);
        command.output().expect("it starts").status.success().then_some(())
    };
    eventually("it is promoted", promote).await;
    eventually("it is ready", async || take(&socket).filter(|told| told.starts_with("READY=1"))).await;
    assert_eq!(get(port, "/readyz").await, (200, "ok\n".to_owned()));
    let is_said =
        async || cluster.members[position].log().contains("ready to serve client requests").then_some(());
    eventually("it says that it is ready", is_said).await;
}

#[tokio::test]
async fn probes_are_answered_as_by_etcd() {
    let mut cluster = Cluster::with_flags(3, &[]).await;
    let leader = cluster.leader().await;
    let port = cluster.members[leader].client_port;
    let all =
        "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n";
    let some = "[+]data_corruption ok\n[+]serializable_read ok\n[+]non_learner ok\nok\n";
    for (path, body) in [
        ("/livez", "ok\n"),
        ("/livez?verbose", "[+]serializable_read ok\nok\n"),
        ("/livez/serializable_read", "ok\n"),
        ("/readyz", "ok\n"),
        ("/readyz?verbose=0", all),
        ("/readyz?verbose&exclude=linearizable_read&exclude=read_index", some),
        ("/readyz/data_corruption", "ok\n"),
        ("/readyz/serializable_read?verbose", "[+]serializable_read ok\nok\n"),
        ("/readyz/linearizable_read?exclude=linearizable_read&verbose", "[+]linearizable_read ok\nok\n"),
        ("/readyz/non_learner", "ok\n"),
    ] {
        assert_eq!(get(port, path).await, (200, body.to_owned()), "{path}");
    }
    for path in ["/readyz/read_index", "/livez/non_learner", "/readyz/"] {
        assert_eq!(get(port, path).await.0, 404, "{path}");
    }
    for (_, member) in cluster.members.iter_mut().enumerate().filter(|(position, _)| *position != leader) {
        member.kill();
    }
    let (status, body) = get(port, "/readyz").await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("[+]serializable_read ok\n[-]linearizable_read failed: etcdserver: "), "{body}");
    assert!(body.ends_with("[+]non_learner ok\n\n"), "{body}");
    assert_eq!(get(port, "/livez").await, (200, "ok\n".to_owned()), "alone, it lives");
}

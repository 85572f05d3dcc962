//! The client commands, through each member.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::cluster::Cluster;
use crate::process::tenure;

fn run(mut command: Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    assert!(status.success(), "{command:?}: {status}\n{}", text(stderr));
    text(stdout)
}

/// The standard output of a command that succeeds.
fn tenure_at(endpoints: &str, words: &[&str], input: &str) -> String {
    let mut command = tenure();
    command.args(words).args(["--endpoints", endpoints]);
    run(command, input)
}

#[test]
fn whoever_reads_may_close_the_output() {
    for words in [&["completions", "bash"][..], &["sim", "--seed", "7", "--short", "--seconds", "1"]] {
        let mut command = tenure();
        command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        drop(child.stdout.take());
        let Output { status, stderr, .. } = child.wait_with_output().expect("it ends");
        assert!(status.success() && stderr.is_empty(), "{words:?}: {}", String::from_utf8_lossy(&stderr));
    }
}

#[tokio::test]
async fn every_member_serves_every_request() {
    let cluster = Cluster::of_three().await;
    let endpoints: Vec<_> =
        cluster.members.iter().map(|member| format!("127.0.0.1:{}", member.client_port)).collect();
    for (number, at) in endpoints.iter().enumerate() {
        let key = format!("key{number}");
        assert_eq!(tenure_at(at, &["put", &key, "one"], ""), "OK\n");
        assert_eq!(tenure_at(at, &["put", &key, "two", "--prev-kv"], ""), format!("OK\n{key}\none\n"));
        for other in &endpoints {
            assert_eq!(tenure_at(other, &["get", &key], ""), format!("{key}\ntwo\n"), "by {other}");
        }
        let txn = format!("value(\"{key}\") = \"two\"\n\nput {key} three\nget {key}\n\nget {key}\n\n");
        assert_eq!(tenure_at(at, &["txn"], &txn), format!("SUCCESS\n\nOK\n\n{key}\nthree\n"));
        assert_eq!(tenure_at(at, &["txn"], &txn), format!("FAILURE\n\n{key}\nthree\n"));
        assert_eq!(tenure_at(at, &["del", &key], ""), "1\n");
        // Four writes a round, after the empty store's revision 1.
        let revision = (4 * (number + 1)).to_string();
        assert_eq!(tenure_at(at, &["compact", &revision], ""), format!("compacted revision {revision}\n"));
        assert_eq!(tenure_at(at, &["get", &key, "--rev", &revision], ""), format!("{key}\nthree\n"));
    }
    let hashes = tenure_at(&cluster.endpoints(), &["hash"], "");
    let hashes: Vec<_> = hashes.lines().map(|line| line.split_once(", ").expect("two columns").1).collect();
    assert_eq!(hashes.len(), 3);
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "{hashes:?}");
    let members = tenure_at(&endpoints[0], &["members"], "");
    for member in &cluster.members {
        assert!(members.contains(&format!("started, {}, {}", member.name, member.peer_url())), "{members}");
    }
    cluster.assert_equal().await;
}

#[test]
fn a_comparison_with_a_program_that_is_not_there_does_not_begin() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = tenure();
    command.args(["bench", "cluster", "--etcd-binary", "no-such-program"]).current_dir(folder.path());
    let Output { status, stderr, .. } = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&stderr);
    assert!(!status.success() && said.contains("there is no program at no-such-program"), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "something was left");
}

#[tokio::test]
async fn the_environment_speaks_to_the_client_commands_alone() {
    let cluster = Cluster::with_flags(1, &[]).await;
    let with = |name: &str, value: &str, words: &[&str]| {
        let mut command = tenure();
        command.env("ETCDCTL_ENDPOINTS", cluster.endpoints()).env(name, value).args(words);
        run(command, "")
    };
    assert_eq!(with("TENURE_DIAL_TIMEOUT", "1s", &["put", "k", "v"]), "OK\n");
    for (value, expected) in [("true", "\\x6b\n\\x76\n"), ("1", "\\x6b\n\\x76\n"), ("false", "k\nv\n")] {
        assert_eq!(with("ETCDCTL_HEX", value, &["get", "k"]), expected);
    }
    with("ETCDCTL_HEX", "true", &["serve", "--help"]);
    with("ETCDCTL_WRITE_OUT", "fields", &["bench", "put", "--help"]);
}

#[tokio::test]
async fn a_member_alone_is_a_cluster() {
    let mut cluster = Cluster::with_flags(1, &[]).await;
    let endpoint = cluster.endpoints();
    let status = cluster.members[0].client().status().await.expect("a status");
    assert!(status.db_size > 0, "etcdctl 3.7 divides by the size, also of an empty store");
    assert_eq!(tenure_at(&endpoint, &["put", "k", "v"], ""), "OK\n");
    assert!(cluster.members[0].terminate().await.success());
    // Manifests say so from the second start on.
    let mut command = cluster.command(0);
    command.args(["--initial-cluster-state", "existing"]);
    cluster.members[0].launch(command);
    cluster.healthy().await;
    assert_eq!(tenure_at(&endpoint, &["get", "k"], ""), "k\nv\n");
}

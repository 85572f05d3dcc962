//! Members that cannot start: they say why in one line and exit.

use std::net::TcpListener;
use std::process::Output;

use crate::cluster::Cluster;
use crate::ports::free_ports;
use crate::process::tenure;

/// Runs `serve` with the flags, which cannot work; what it said.
fn refused(flags: &[&str], environment: &[(&str, &str)]) -> String {
    failed(flags, environment, 2)
}

/// Runs `serve` with the flags, which must end with the code; what it said.
fn failed(flags: &[&str], environment: &[(&str, &str)], exit_code: i32) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = tenure();
    command.arg("serve").args(flags).envs(environment.iter().copied()).current_dir(folder.path());
    let Output { status, stdout, stderr } = command.output().expect("it starts");
    let said = String::from_utf8(stderr).expect("text");
    assert_eq!(status.code(), Some(exit_code), "{flags:?}: {said}");
    assert!(stdout.is_empty(), "errors go to standard error");
    let left = std::fs::read_dir(folder.path()).expect("the folder is there").count();
    assert_eq!(left, 0, "{flags:?} left something behind");
    said
}

#[test]
fn flags_that_cannot_work_are_named() {
    let url = "http://127.0.0.1:20000";
    for (flags, said) in [
        (&["--frobnicate"][..], "flag provided but not defined: -frobnicate"),
        (&["positional"], "\"positional\" is not a valid flag"),
        (&["--name"], "flag needs an argument: --name"),
        (&["--cert-file", "x"], "--cert-file is a setting of etcd that Tenure does not support yet"),
        (
            &["--heartbeat-interval", "soon"],
            "invalid value \"soon\" for --heartbeat-interval: expected a number",
        ),
        (&["--listen-peer-urls", "https://127.0.0.1:1"], "https and Unix sockets are not supported yet"),
        (&["--listen-peer-urls=http://127.0.0.1:1/"], "a URL must not contain a path"),
        (&["--name="], "--name must not be empty"),
        (&["--log-format", "xml"], "[possible values: console, json]"),
        (
            &["--listen-client-urls", url],
            "--advertise-client-urls is required when --listen-client-urls is set",
        ),
        (&["--election-timeout", "499"], "should be at least as 5 times as --heartbeat-interval[100ms]"),
        (&["--election-timeout", "50001"], "--election-timeout[50001ms] is too long"),
        (&["--max-txn-ops", "0"], "--max-txn-ops must be at least 1"),
        (
            &["--name", "x", "--initial-cluster", "a=http://127.0.0.1:2380"],
            "couldn't find local name \"x\" in the initial cluster configuration (a)",
        ),
        (
            &["--name", "a", "--initial-cluster", "a=http://127.0.0.1:2389"],
            "--initial-cluster has a=http://127.0.0.1:2389 but missing from --initial-advertise-peer-urls",
        ),
        (&["--name=a", "--initial-cluster=a"], "--initial-cluster: \"a\": expected name=url"),
        (
            &["--name=a", "--initial-cluster=a=http://localhost:2380,b=http://localhost:2380"],
            "--initial-cluster names http://localhost:2380 twice",
        ),
    ] {
        let found = refused(flags, &[]);
        assert!(found.contains(said), "{flags:?}: {found}");
    }
    let said = failed(&["--initial-cluster-state", "existing"], &[], 1);
    assert!(said.contains("needs the members of the cluster in --initial-cluster"), "{said}");
}

#[test]
fn a_variable_that_contradicts_a_flag_is_refused() {
    let said = refused(&["--name", "a"], &[("ETCD_NAME", "b")]);
    assert!(said.contains("conflicting environment variable is shadowed by corresponding command-line flag"));
}

#[test]
fn in_json_an_error_is_an_object_too() {
    let said =
        refused(&["--log-format=json", "--max-txn-ops=0", "--max-wals=5"], &[("ETCD_FROBNICATE", "1")]);
    let lines: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).expect("every line is an object")).collect();
    let levels: Vec<_> = lines.iter().map(|line| line["level"].as_str().expect("a level")).collect();
    assert_eq!(levels, ["WARN", "WARN", "ERROR"]);
    assert_eq!(lines[0]["message"], "unrecognized environment variable ETCD_FROBNICATE");
    assert_eq!(lines[2]["message"], "--max-txn-ops must be at least 1");
}

#[test]
fn a_port_in_use_is_named() {
    let port = free_ports(3);
    let _taken = TcpListener::bind(("127.0.0.1", port)).expect("it was free");
    let [taken, free, other] = [port, port + 1, port + 2].map(|port| format!("http://127.0.0.1:{port}"));
    let serve = |client_url: &str, peer_url: &str| {
        failed(
            &[
                "--listen-client-urls",
                client_url,
                "--advertise-client-urls",
                client_url,
                "--listen-peer-urls",
                peer_url,
                "--initial-advertise-peer-urls",
                peer_url,
            ],
            &[],
            1,
        )
    };
    let said = serve(&taken, &free);
    assert!(said.contains(&format!("cannot listen for clients at {taken}")), "{said}");
    assert!(said.contains("--listen-client-urls"), "{said}");
    let said = serve(&other, &taken);
    assert!(said.contains(&format!("cannot listen for peers at {taken}")), "{said}");
    assert!(said.contains("--listen-peer-urls"), "{said}");
}

#[tokio::test]
async fn a_second_process_on_the_same_data_is_refused() {
    let cluster = Cluster::with_flags(1, &[]).await;
    let mut second = tenure();
    let port = free_ports(2);
    let urls = [port, port + 1].map(|port| format!("http://127.0.0.1:{port}"));
    second.arg("serve").arg("--data-dir").arg(&cluster.members[0].data_dir);
    second.args(["--listen-client-urls", &urls[0], "--advertise-client-urls", &urls[0]]);
    second.args(["--listen-peer-urls", &urls[1], "--initial-advertise-peer-urls", &urls[1]]);
    let Output { status, stderr, .. } = second.output().expect("it starts");
    let said = String::from_utf8_lossy(&stderr);
    assert!(!status.success(), "{said}");
    assert!(said.contains("is in use by another process"), "{said}");
    cluster.members[0].client().put("k", "v").await.expect("the first one is unharmed");
}

#[tokio::test]
async fn the_environment_configures_a_member() {
    let mut cluster = Cluster::of(1, &["--max-wals", "5", "--auto-tls=false"]);
    let mut command = cluster.command(0);
    command.env("ETCD_MAX_TXN_OPS", "1").env("TENURE_LOG_LEVEL", "debug").env("ETCD_UNHEARD_OF", "x");
    cluster.members[0].launch(command);
    cluster.healthy().await;
    let log = cluster.members[0].log();
    assert!(log.contains("WARN unrecognized environment variable ETCD_UNHEARD_OF"), "{log}");
    assert!(log.contains("WARN --max-wals is a setting of etcd that has no effect here"), "{log}");
}

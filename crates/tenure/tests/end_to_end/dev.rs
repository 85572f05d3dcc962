//! `tenure dev`: three members by one command.

use std::path::Path;

use rustix::process::Signal;

use crate::client::Client;
use crate::eventually;
use crate::ports::free_ports;
use crate::process::{Process, tenure};

struct Dev {
    process: Process,
    base_port: u16,
}

impl Dev {
    /// Starts it, and waits until it says who leads.
    async fn start(folder: &Path, base_port: u16, flags: &[&str]) -> Dev {
        let mut command = tenure();
        command.arg("dev").arg("--data").arg(folder.join("data"));
        command.args(["--base-port", &base_port.to_string()]).args(flags);
        // What is meant for another server is not meant for these.
        command.env("ETCD_NAME", "other").env("TENURE_DATA_DIR", "elsewhere");
        let log_path = folder.join("output");
        let before = std::fs::read_to_string(&log_path).unwrap_or_default().len();
        let process = Process::start(command, &log_path);
        eventually("somebody leads", async || process.log()[before..].contains(" leads term ").then_some(()))
            .await;
        Dev { process, base_port }
    }

    fn client(&self, position: u16) -> Client {
        Client::new(self.base_port + 2 * position)
    }

    /// The process id of a member, as the output names it last.
    fn member_id(&self, name: &str) -> i32 {
        let log = self.process.log();
        let start = format!("  {name}  pid ");
        let line = log.lines().rfind(|line| line.starts_with(&start)).expect("the output names the member");
        let id = line[start.len()..].split_whitespace().next().expect("a number");
        id.parse().expect("a number")
    }

    fn kill_member(&self, name: &str) {
        let id = rustix::process::Pid::from_raw(self.member_id(name)).expect("a process id");
        rustix::process::kill_process(id, Signal::KILL).expect("it runs");
    }
}

#[tokio::test]
async fn dev_serves_stops_and_starts_again_on_the_same_data() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let port = free_ports(6);
    let mut dev = Dev::start(folder.path(), port, &[]).await;
    for position in 0..3 {
        dev.client(position).put(&format!("k{position}"), "v").await.expect("a put");
    }
    dev.process.signal(Signal::INT);
    assert!(dev.process.ended().await.success(), "{}", dev.process.log());

    let mut dev = Dev::start(folder.path(), port, &[]).await;
    assert_eq!(dev.client(0).range("k", "l").await.expect("a range").len(), 3);
    dev.process.signal(Signal::TERM);
    assert!(dev.process.ended().await.success(), "{}", dev.process.log());
    for name in ["n1", "n2", "n3"] {
        let log = std::fs::read_to_string(folder.path().join("data").join(name).join("log")).expect("a log");
        assert!(log.trim_end().ends_with("stopped"), "{log}");
    }
}

#[tokio::test]
async fn members_of_dev_do_not_outlive_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let port = free_ports(6);
    let dev = Dev::start(folder.path(), port, &[]).await;
    dev.process.kill();
    // Their ports are free again only when they are gone.
    let dev = eventually("the members stop", async || {
        let is_free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        (port..port + 6).all(is_free).then_some(())
    });
    dev.await;
    Dev::start(folder.path(), port, &[]).await;
}

#[tokio::test]
async fn a_member_that_dies_is_reported_and_started_again_only_if_wanted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let port = free_ports(6);
    let mut dev = Dev::start(folder.path(), port, &[]).await;
    dev.kill_member("n2");
    eventually("the death is reported", async || dev.process.log().contains("n2 died").then_some(())).await;
    assert!(dev.process.log().contains("n2/log"), "where its log is: {}", dev.process.log());
    dev.client(0).put("k", "v").await.expect("the others serve");
    dev.process.signal(Signal::INT);
    assert!(dev.process.ended().await.success(), "{}", dev.process.log());

    let dev = Dev::start(folder.path(), port, &["--restart"]).await;
    dev.kill_member("n2");
    eventually("the member is back", async || dev.client(1).get("k").await.ok()).await;
}

#[tokio::test]
async fn dev_says_why_it_cannot_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let port = free_ports(6);
    let dev = Dev::start(folder.path(), port, &[]).await;
    let again = |port: u16| {
        let mut command = tenure();
        command.arg("dev").arg("--data").arg(folder.path().join("data"));
        command.args(["--base-port", &port.to_string()]).output().expect("it starts")
    };
    let output = again(port);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(
        said.contains(&format!("cannot listen at port {port}")) && said.contains("--base-port"),
        "{said}"
    );
    dev.process.kill();

    let output = again(free_ports(6));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains(&format!("was made with --base-port {port}")), "{said}");
}

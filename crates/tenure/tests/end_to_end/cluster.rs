//! A cluster of processes, each of which can be killed and started again.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Once;
use std::thread;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::Client;
use crate::eventually;
use crate::ports::free_ports;
use crate::process::{Process, tenure};

/// One member: where it is, and its process while it runs.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) client_port: u16,
    pub(crate) peer_port: u16,
    pub(crate) data_dir: PathBuf,
    log_path: PathBuf,
    process: Option<Process>,
}

/// All members. Their data goes when this does.
pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    flags: Vec<String>,
    folder: TempDir,
}

impl Cluster {
    /// Three members that serve.
    pub(crate) async fn of_three() -> Cluster {
        Cluster::with_flags(3, &[]).await
    }

    /// `count` members that serve, each with the flags.
    pub(crate) async fn with_flags(count: u16, flags: &[&str]) -> Cluster {
        let mut cluster = Cluster::of(count, flags);
        cluster.start().await;
        cluster
    }

    /// `count` members that have not been started.
    pub(crate) fn of(count: u16, flags: &[&str]) -> Cluster {
        settle();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ports = free_ports(2 * count);
        let members: Vec<_> = (0..count)
            .map(|position| Member::new(folder.path(), position + 1, ports + 2 * position))
            .collect();
        let members_of_cluster =
            members.iter().map(|member| format!("{}={}", member.name, member.peer_url()));
        let initial_cluster = members_of_cluster.collect::<Vec<_>>().join(",");
        let mut all_flags = vec!["--initial-cluster".to_owned(), initial_cluster];
        all_flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        Cluster { members, flags: all_flags, folder }
    }

    /// Starts those that do not run, and waits until all serve.
    pub(crate) async fn start(&mut self) {
        for position in 0..self.members.len() {
            if !self.members[position].is_running() {
                self.launch(position);
            }
        }
        self.healthy().await;
    }

    /// Starts one.
    pub(crate) fn launch(&mut self, position: usize) {
        let command = self.command(position);
        self.members[position].launch(command);
    }

    /// How one is started.
    pub(crate) fn command(&self, position: usize) -> Command {
        let mut command = self.members[position].command();
        command.args(&self.flags);
        command
    }

    /// One more member, which has not been started; its position.
    pub(crate) fn push_member(&mut self) -> usize {
        let number = self.members.len() as u16 + 1;
        self.members.push(Member::new(self.folder.path(), number, free_ports(2)));
        self.members.len() - 1
    }

    /// Starts one that joins the others.
    pub(crate) fn launch_joining(&mut self, position: usize) {
        let mut command = self.command(position);
        let members = self.members.iter().map(|member| format!("{}={}", member.name, member.peer_url()));
        command.args(["--initial-cluster", &members.collect::<Vec<_>>().join(",")]);
        command.args(["--initial-cluster-state", "existing"]);
        self.members[position].launch(command);
    }

    /// Waits until all that run serve.
    pub(crate) async fn healthy(&mut self) {
        for member in self.members.iter_mut().filter(|member| member.is_running()) {
            member.healthy().await;
        }
    }

    /// Clients of all members, running or not.
    pub(crate) fn clients(&self) -> Vec<Client> {
        self.members.iter().map(Member::client).collect()
    }

    /// `--endpoints` of all members.
    pub(crate) fn endpoints(&self) -> String {
        let endpoints = self.members.iter().map(|member| format!("127.0.0.1:{}", member.client_port));
        endpoints.collect::<Vec<_>>().join(",")
    }

    /// Waits until all that run know the same leader, and it is one of them. Its position.
    pub(crate) async fn leader(&self) -> usize {
        eventually("all members follow one leader", async || {
            let mut position = None;
            let mut leaders = Vec::new();
            for (at, member) in self.members.iter().enumerate().filter(|(_, member)| member.process.is_some())
            {
                let status = member.client().status().await.ok()?;
                if status.header?.member_id == status.leader {
                    position = Some(at);
                }
                leaders.push((status.leader, status.raft_term));
            }
            position.filter(|_| leaders.windows(2).all(|pair| pair[0] == pair[1]))
        })
        .await
    }

    /// Waits until all members have applied the same, and asserts that they have become the same by it.
    pub(crate) async fn assert_equal(&self) {
        let (applied, state) = eventually("all members have applied the same", async || {
            let mut all = Vec::new();
            for member in &self.members {
                let client = member.client();
                let before = client.status().await.ok()?.raft_applied_index;
                let state = (client.hash_kv(0).await.ok()?, client.hash().await.ok()?);
                let status = client.status().await.ok()?;
                // A hash says something only of a state that stood still around it.
                let stood_still = status.raft_applied_index == before && status.raft_index == before;
                all.push(stood_still.then_some((before, state))?);
            }
            all.windows(2).all(|pair| pair[0].0 == pair[1].0).then_some(())?;
            let states: Vec<_> = all.iter().map(|(_, state)| *state).collect();
            Some((all[0].0, states))
        })
        .await;
        assert!(state.windows(2).all(|pair| pair[0] == pair[1]), "hashes at {applied} differ: {state:?}");
    }
}

/// What the compiler wrote may still be on its way to the disk, and a member's first sync would wait for all
/// of it, for longer than elections do.
fn settle() {
    static SETTLED: Once = Once::new();
    SETTLED.call_once(rustix::fs::sync);
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            for member in &self.members {
                if let Ok(log) = std::fs::read_to_string(&member.log_path) {
                    eprintln!("---- the log of {}\n{log}", member.name);
                }
            }
        }
    }
}

impl Member {
    fn new(folder: &Path, number: u16, client_port: u16) -> Member {
        let name = format!("n{number}");
        Member {
            client_port,
            peer_port: client_port + 1,
            data_dir: folder.join(&name),
            log_path: folder.join(format!("{name}.log")),
            process: None,
            name,
        }
    }

    fn client_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    pub(crate) fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    fn command(&self) -> Command {
        let mut command = tenure();
        command
            .args(["serve", "--name", &self.name])
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(["--listen-client-urls", &self.client_url(), "--advertise-client-urls", &self.client_url()])
            .args(["--listen-peer-urls", &self.peer_url()])
            .args(["--initial-advertise-peer-urls", &self.peer_url()]);
        command
    }

    /// Starts it in its own way.
    pub(crate) fn launch(&mut self, command: Command) {
        self.process = Some(Process::start(command, &self.log_path));
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started")
    }

    /// All that it has written, over all its starts.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log_path).expect("the log can be read")
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.client_port)
    }

    /// Waits until it serves: it knows a leader and can read what was written last.
    pub(crate) async fn healthy(&mut self) {
        let client = self.client();
        let name = self.name.clone();
        eventually(&format!("{name} serves"), async || client.get("health").await.ok()).await;
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.process.take().expect("it was started").kill();
    }

    /// SIGTERM; how it ended.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("it was started");
        process.signal(Signal::TERM);
        process.ended().await
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("it was started");
        process.ended().await
    }
}

//! The members: real processes, each with a disk, a proxy before its peer port, and a log in a file.

use std::fs::{self, OpenOptions};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::address::{at, url};
use crate::client::Client;
use crate::disk::Disk;
use crate::network::Network;

/// Below the ports that systems give to outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Of clients, of peers, and of the proxy.
const PORTS_OF_MEMBER: u16 = 3;
/// How often it is looked whether something has happened that nobody tells.
pub(crate) const LOOK: Duration = Duration::from_millis(20);
/// Where a binary with planted faults reads which one is on.
const PLANTED: &str = "TENURE_PLANTED";
/// How much of a log is shown.
const TAIL_LINES: usize = 12;

/// What all members are started with.
pub(crate) struct Settings {
    pub(crate) binary: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) snapshot_count: u64,
    pub(crate) snapshot_catchup_entries: u64,
    /// Whether a proxy stands before each peer port.
    pub(crate) has_proxies: bool,
    /// Flags of `serve` beside these.
    pub(crate) flags: Vec<String>,
}

/// One member.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) client_port: u16,
    pub(crate) peer_port: u16,
    pub(crate) proxy_port: u16,
    pub(crate) disk: Disk,
    log: PathBuf,
    process: Option<Child>,
    /// Whether it was added to a cluster that was there.
    pub(crate) has_joined: bool,
}

/// All of them. Their processes end with this.
pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    pub(crate) network: Network,
    settings: Settings,
}

impl Cluster {
    /// Members on these disks, which do not run yet.
    pub(crate) fn new(settings: Settings, disks: Vec<Disk>) -> io::Result<Cluster> {
        let first = free_ports(PORTS_OF_MEMBER * disks.len() as u16)?;
        let member = |(port, (number, disk)): (u16, (u16, Disk))| Member {
            name: format!("n{number}"),
            client_port: port,
            peer_port: port + 1,
            proxy_port: if settings.has_proxies { port + 2 } else { port + 1 },
            log: settings.folder.join(format!("n{number}.log")),
            disk,
            process: None,
            has_joined: false,
        };
        let ports = (first..).step_by(usize::from(PORTS_OF_MEMBER));
        let members: Vec<Member> = ports.zip((1..).zip(disks)).map(member).collect();
        let proxied = members.iter().filter(|_| settings.has_proxies);
        let ports: Vec<_> = proxied.map(|member| (member.proxy_port, member.peer_port)).collect();
        Ok(Cluster { network: Network::start(&ports)?, members, settings })
    }

    /// Starts one that does not run.
    pub(crate) fn start(&mut self, at: usize) -> io::Result<()> {
        let command = self.command(at);
        let member = &mut self.members[at];
        assert!(member.process.is_none(), "{} runs", member.name);
        member.process = Some(spawn(command, &member.log)?);
        Ok(())
    }

    fn command(&self, at: usize) -> Command {
        let Member { name, client_port, peer_port, proxy_port, disk, has_joined, .. } = &self.members[at];
        let all = self.members.iter().map(|member| format!("{}={}", member.name, url(member.proxy_port)));
        // Whoever kills this program kills the members: the kernel sees to it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(&self.settings.binary).arg("serve");
        command.args(["--name", name, "--initial-cluster", &all.collect::<Vec<_>>().join(",")]);
        command.arg("--data-dir").arg(disk.data_dir());
        command.args([
            "--listen-client-urls",
            &url(*client_port),
            "--advertise-client-urls",
            &url(*client_port),
        ]);
        command.args([
            "--listen-peer-urls",
            &url(*peer_port),
            "--initial-advertise-peer-urls",
            &url(*proxy_port),
        ]);
        if *has_joined {
            command.args(["--initial-cluster-state", "existing"]);
        }
        let Settings { snapshot_count, snapshot_catchup_entries, flags, .. } = &self.settings;
        command.args(["--snapshot-count", &snapshot_count.to_string()]);
        command.args(["--snapshot-catchup-entries", &snapshot_catchup_entries.to_string()]);
        command.args(flags);
        command
    }

    /// Waits until a member answers a read that no stale member can answer; an error says that it did not.
    pub(crate) async fn serves(&mut self, at: usize, within: Duration) -> Result<(), String> {
        let give_up = Instant::now() + within;
        loop {
            let member = &mut self.members[at];
            if let Some(how) = member.ended().map_err(|error| error.to_string())? {
                return Err(format!("{} ended by itself, {how}:\n{}", member.name, member.log_tail()));
            }
            if reads(member.client_port, within.max(LOOK)).await {
                return Ok(());
            }
            if Instant::now() >= give_up {
                let (name, log) = (&member.name, member.log_tail());
                return Err(format!("{name} does not answer a linearizable read within {within:?}:\n{log}"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn reads(port: u16, timeout: Duration) -> bool {
    match Client::connect(port, timeout).await {
        Some(client) => client.reads().await,
        None => false,
    }
}

fn spawn(mut command: Command, log: &Path) -> io::Result<Child> {
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        // What switches a planted fault on is for the members (docs/faults.md).
        if (name.starts_with("ETCD") || name.starts_with("TENURE")) && name != PLANTED {
            command.env_remove(&variable);
        }
    }
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
}

impl Member {
    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// The number of its process, if there is one.
    pub(crate) fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Sends the process a signal, if there is one.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            // It may have ended; whoever looks next will see it.
            let _ = kill_process(Pid::from_child(process), signal);
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// How the process ended, if it did: then there is none any more.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(process) = &mut self.process else { return Ok(None) };
        let status = process.try_wait()?;
        if status.is_some() {
            self.process = None;
        }
        Ok(status)
    }

    /// Waits until the process ends, so long.
    pub(crate) async fn ends(&mut self, within: Duration) -> io::Result<Option<ExitStatus>> {
        let give_up = Instant::now() + within;
        loop {
            let status = self.ended()?;
            if status.is_some() || Instant::now() >= give_up || !self.is_running() {
                return Ok(status);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// All that the member has ever logged.
    pub(crate) fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines of it.
    pub(crate) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The first of so many ports in a row that nobody uses.
fn free_ports(count: u16) -> io::Result<u16> {
    let is_free = |port| TcpListener::bind(at(port)).is_ok();
    let mut firsts = (PORTS.start..PORTS.end - count).step_by(usize::from(count));
    firsts.find(|&first| (first..first + count).all(is_free)).ok_or(io::ErrorKind::AddrInUse.into())
}

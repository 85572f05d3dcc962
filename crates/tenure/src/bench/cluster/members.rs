//! Three members as child processes: started, found ready, signalled, started again, stopped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use prost::Message;
use rustix::process::{Pid, Signal, kill_process};
use tenure_api::pb::etcdserverpb as pb;
use tokio::process::{Child, Command};

use super::super::connection::{Connection, Rpc, frame};
use crate::serve::notify;

/// How many members a cluster has.
pub(crate) const MEMBERS: usize = 3;
/// By then a cluster must serve.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is asked whether it does.
const READY_POLL: Duration = Duration::from_millis(50);
/// How long a call may take while it is asked.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a member may take to stop when it is asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Which server, and its program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Tenure(PathBuf),
    Etcd(PathBuf),
}

impl System {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            System::Tenure(_) => "tenure",
            System::Etcd(_) => "etcd",
        }
    }

    fn command(&self) -> Command {
        match self {
            System::Tenure(program) => {
                let mut command = Command::new(program);
                command.arg("serve");
                command
            }
            System::Etcd(program) => Command::new(program),
        }
    }
}

/// A cluster that runs. When it is dropped its processes are killed.
pub(crate) struct Cluster {
    system: System,
    folder: PathBuf,
    base_port: u16,
    members: Vec<Option<Child>>,
}

impl Cluster {
    /// Starts a cluster in an empty folder.
    pub(crate) fn start(system: &System, folder: &Path, base_port: u16) -> Result<Cluster, String> {
        fs::create_dir_all(folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
        let mut cluster =
            Cluster { system: system.clone(), folder: folder.to_owned(), base_port, members: Vec::new() };
        for number in 0..MEMBERS {
            let child = cluster.spawn(number)?;
            cluster.members.push(Some(child));
        }
        Ok(cluster)
    }

    /// Where clients reach a member.
    pub(crate) fn endpoint(&self, number: usize) -> String {
        format!("127.0.0.1:{}", self.base_port + number as u16)
    }

    /// Where clients reach the members.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        (0..MEMBERS).map(|number| self.endpoint(number)).collect()
    }

    /// The process ids of the members that run.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.members.iter().flatten().filter_map(Child::id).collect()
    }

    fn peer_url(&self, number: usize) -> String {
        format!("http://127.0.0.1:{}", self.base_port + (MEMBERS + number) as u16)
    }

    /// Starts a member. Both systems take etcd's flags.
    fn spawn(&self, number: usize) -> Result<Child, String> {
        let name = format!("m{number}");
        let log = self.folder.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(&log);
        let log = log.map_err(|error| format!("cannot create the log of {name}: {error}"))?;
        let errors = log.try_clone().map_err(|error| format!("cannot open the log of {name}: {error}"))?;
        let client_url = format!("http://{}", self.endpoint(number));
        let peer_url = self.peer_url(number);
        let cluster: Vec<String> =
            (0..MEMBERS).map(|number| format!("m{number}={}", self.peer_url(number))).collect();
        let mut command = self.system.command();
        command.args(["--name", &name]).arg("--data-dir").arg(self.folder.join(&name));
        command.args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
        command.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
        command.args(["--initial-cluster", &cluster.join(","), "--initial-cluster-state", "new"]);
        // Settings of whoever runs this must not change what is measured.
        for (variable, _) in std::env::vars_os() {
            let name = variable.to_string_lossy();
            if name.starts_with("ETCD_") || name.starts_with("TENURE_") {
                command.env_remove(&variable);
            }
        }
        command.env_remove(notify::VARIABLE);
        command.stdin(Stdio::null()).stdout(log).stderr(errors).kill_on_drop(true);
        command.spawn().map_err(|error| format!("cannot start {}: {error}", self.system.name()))
    }

    /// Resolves when every member takes writes and has caught up.
    pub(crate) async fn ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            let why = match self.is_ready().await {
                Ok(()) => return Ok(()),
                Err(why) => why,
            };
            for (number, member) in self.members.iter_mut().enumerate() {
                if let Some(status) = member.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                    return Err(format!("member m{number} of {} ended: {status}", self.system.name()));
                }
            }
            if Instant::now() > deadline {
                return Err(format!("{} is not ready after {READY_TIMEOUT:?}: {why}", self.system.name()));
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    async fn is_ready(&self) -> Result<(), String> {
        let mut newest = 0;
        for number in 0..MEMBERS {
            let put = pb::PutRequest { key: "bench/ready".into(), ..pb::PutRequest::default() };
            self.call(number, Rpc::Put, &put).await?;
            newest = newest.max(self.status(number).await?.raft_index);
        }
        for number in 0..MEMBERS {
            let status = self.status(number).await?;
            if status.leader == 0 || status.raft_applied_index < newest {
                return Err(format!("member m{number} is behind"));
            }
        }
        Ok(())
    }

    /// Which member leads.
    pub(crate) async fn leader(&self) -> Result<usize, String> {
        for number in 0..MEMBERS {
            let status = self.status(number).await?;
            let id = status.header.map_or(0, |header| header.member_id);
            if id != 0 && id == status.leader {
                return Ok(number);
            }
        }
        Err("no member says that it leads".to_owned())
    }

    async fn status(&self, number: usize) -> Result<pb::StatusResponse, String> {
        let answer = self.call(number, Rpc::Status, &pb::StatusRequest::default()).await?;
        pb::StatusResponse::decode(answer).map_err(|error| format!("a status that cannot be read: {error}"))
    }

    async fn call(&self, number: usize, rpc: Rpc, message: &impl Message) -> Result<bytes::Bytes, String> {
        let call = async {
            let connection = Connection::open(&self.endpoint(number)).await?;
            let head = connection.head(rpc)?;
            connection.call(&head, frame(message)).await.map_err(|error| error.to_string())
        };
        let answer = tokio::time::timeout(CALL_TIMEOUT, call).await;
        answer.map_err(|_| format!("m{number} does not answer within {CALL_TIMEOUT:?}"))?
    }

    /// Sends a member a signal.
    pub(crate) fn signal(&self, number: usize, signal: Signal) -> Result<(), String> {
        let pid = self.members[number].as_ref().and_then(Child::id);
        let pid = pid.and_then(|pid| Pid::from_raw(pid as i32));
        let pid = pid.ok_or_else(|| format!("member m{number} does not run"))?;
        kill_process(pid, signal).map_err(|error| format!("cannot signal member m{number}: {error}"))
    }

    /// Waits until a member that was told to stop has done so, and starts it on its data again.
    pub(crate) async fn restart(&mut self, number: usize) -> Result<(), String> {
        if let Some(mut child) = self.members[number].take()
            && tokio::time::timeout(STOP_TIMEOUT, child.wait()).await.is_err()
        {
            return Err(format!("member m{number} does not stop within {STOP_TIMEOUT:?}"));
        }
        self.members[number] = Some(self.spawn(number)?);
        Ok(())
    }

    /// Ends all members and waits until they have ended.
    pub(crate) async fn kill(mut self) {
        for member in self.members.iter_mut().flatten() {
            // It fails only if the process has ended already.
            let _ = member.kill().await;
        }
    }
}

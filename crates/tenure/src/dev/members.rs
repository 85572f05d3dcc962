//! The members as processes: started, noticed when they die, stopped.
//!
//! Each holds the end of a pipe whose other end is here, as its standard input. When that closes, be it on
//! purpose or because this process is no more, the member stops in good order.

use std::env;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use tokio::process::{ChildStdin, Command};
use tokio::task::JoinSet;

use super::plan::{MemberPlan, Plan};
use crate::serve::notify;

/// A member that takes longer to stop is killed: nothing acknowledged is lost by that.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// The end of a log in which the last line is sought.
const LOG_TAIL_BYTES: u64 = 4096;

/// The processes of all members.
pub(crate) struct Members<'a> {
    plan: &'a Plan,
    initial_cluster: String,
    /// One a member: the pipe that keeps it running, if it runs.
    lifelines: Vec<Option<ChildStdin>>,
    /// Wait for the processes, and kill them if this process panics.
    waiting: JoinSet<(usize, std::io::Result<ExitStatus>)>,
}

impl<'a> Members<'a> {
    /// Nobody runs yet.
    pub(crate) fn new(plan: &'a Plan) -> anyhow::Result<Members<'a>> {
        for member in &plan.members {
            member.create_folder()?;
        }
        let lifelines = plan.members.iter().map(|_| None).collect();
        Ok(Members { plan, initial_cluster: plan.initial_cluster(), lifelines, waiting: JoinSet::new() })
    }

    /// Starts those that do not run; a line about each.
    pub(crate) fn start_missing(&mut self) -> anyhow::Result<Vec<String>> {
        let mut lines = Vec::new();
        for (position, member) in self.plan.members.iter().enumerate() {
            if self.lifelines[position].is_none() {
                let mut child = self.command(member)?.spawn().context("cannot start a member")?;
                let id = child.id().unwrap_or_default();
                lines.push(format!("  {}  pid {id:<7}  {}", member.name, member.client_url()));
                self.lifelines[position] = child.stdin.take();
                self.waiting.spawn(async move { (position, child.wait().await) });
            }
        }
        Ok(lines)
    }

    fn command(&self, member: &MemberPlan) -> anyhow::Result<Command> {
        let program = env::current_exe().context("cannot find this program's file")?;
        let path = member.log_path();
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("cannot open {}", path.display()))?;
        let mut command = Command::new(program);
        command
            .args(["serve", "--name", member.name, "--stop-with-stdin"])
            .arg("--data-dir")
            .arg(&member.folder)
            .args(["--listen-client-urls", &member.client_url()])
            .args(["--advertise-client-urls", &member.client_url()])
            .args(["--listen-peer-urls", &member.peer_url()])
            .args(["--initial-advertise-peer-urls", &member.peer_url()])
            .args(["--initial-cluster", &self.initial_cluster])
            .args(["--initial-cluster-token", "tenure-dev"])
            // Ctrl-C at the terminal is for this process alone; the members are told in their own way.
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // That this cluster serves is not for one of its members to say.
            .env_remove(notify::VARIABLE);
        // What is meant for another server must not contradict the flags.
        for (variable, _) in env::vars_os() {
            let name = variable.to_string_lossy();
            if name.starts_with("ETCD_") || name.starts_with("TENURE_") {
                command.env_remove(&variable);
            }
        }
        Ok(command)
    }

    /// Waits until a member dies, and says what is known of it.
    pub(crate) async fn next_death(&mut self) -> String {
        let Some(ended) = self.waiting.join_next().await else { return std::future::pending().await };
        let (position, status) = ended.expect("waiting for a process does not panic");
        self.lifelines[position] = None;
        let member = &self.plan.members[position];
        let path = member.log_path();
        let how = match status {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let last_line = last_line(&path).map(|line| format!("\n  {line}")).unwrap_or_default();
        format!("{} died ({how}), its log is {}{last_line}", member.name, path.display())
    }

    /// Whether nobody runs any more.
    pub(crate) fn are_all_dead(&self) -> bool {
        self.lifelines.iter().all(Option::is_none)
    }

    /// Stops all, and waits until they have.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.lifelines.clear();
        let all = async {
            let mut failed = Vec::new();
            while let Some(ended) = self.waiting.join_next().await {
                let (position, status) = ended.expect("waiting for a process does not panic");
                if !status.is_ok_and(|status| status.success()) {
                    failed.push(self.plan.members[position].name);
                }
            }
            failed
        };
        let failed = tokio::time::timeout(STOP_TIMEOUT, all).await.context("a member had to be killed")?;
        anyhow::ensure!(failed.is_empty(), "{} did not stop in good order: see the log", failed.join(", "));
        Ok(())
    }
}

/// The last line of a file, if it can be read.
fn last_line(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let len_bytes = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len_bytes.saturating_sub(LOG_TAIL_BYTES))).ok()?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail);
    tail.lines().rfind(|line| !line.trim().is_empty()).map(str::to_owned)
}

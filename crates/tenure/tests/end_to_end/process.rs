//! The binary as a process.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::eventually;

/// The binary, with an environment that says nothing to it.
pub(crate) fn tenure() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenure"));
    for (variable, _) in env::vars_os() {
        let name = variable.to_string_lossy();
        if name.starts_with("ETCD") || name.starts_with("TENURE") {
            command.env_remove(&variable);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// A process that writes its log into a file, and does not outlive the test.
pub(crate) struct Process {
    child: Child,
    log_path: PathBuf,
}

impl Process {
    /// Starts it; its output goes to the end of the file.
    pub(crate) fn start(mut command: Command, log_path: &Path) -> Process {
        let log = OpenOptions::new().create(true).append(true).open(log_path).expect("a log file");
        let output: File = log.try_clone().expect("another handle");
        let child = command.stdout(output).stderr(log).spawn().expect("the binary starts");
        Process { child, log_path: log_path.to_owned() }
    }

    /// All that it and those before it have written.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log_path).expect("the log can be read")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let log_path = self.log_path.display().to_string();
        eventually(&format!("the process of {log_path} ends"), async || {
            self.child.try_wait().expect("a child can be waited for")
        })
        .await
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        self.child.wait().expect("a killed process ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a process has had in memory at the most, where the system tells.
pub(crate) fn resident_bytes(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

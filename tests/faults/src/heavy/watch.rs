//! What becomes of everybody else while a heavy request is served.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::requests::{self, Connection};
use crate::cluster::Cluster;

/// How often a small put is sent to each member.
const PUT_EVERY: Duration = Duration::from_millis(20);
const PUT_TIMEOUT: Duration = Duration::from_mins(1);
/// How long members may take to agree on a term again.
const SETTLE: Duration = Duration::from_secs(30);

/// A look at the members that goes on until it is ended.
pub(super) struct Watch {
    ports: Vec<u16>,
    term: u64,
    before_bytes: u64,
    puts: Arc<Puts>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Puts {
    count: AtomicU64,
    refused: AtomicU64,
    worst_us: AtomicU64,
    is_over: AtomicBool,
}

/// What was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    /// Before and after.
    pub(super) terms: (u64, u64),
    pub(super) puts: u64,
    pub(super) refused_puts: u64,
    pub(super) worst_put: Duration,
    /// Of the largest member.
    pub(super) before_bytes: u64,
    pub(super) peak_bytes: u64,
}

impl Seen {
    pub(super) fn term_changed(&self) -> bool {
        self.terms.0 != self.terms.1
    }

    /// Whether a member took more than its state once more, and `extra_bytes`.
    pub(super) fn is_over(&self, extra_bytes: u64) -> bool {
        self.peak_bytes > 2 * self.before_bytes + extra_bytes
    }
}

impl Watch {
    pub(super) async fn start(cluster: &Cluster, ports: &[u16]) -> Result<Watch, String> {
        let term = requests::term(ports, SETTLE).await?;
        let mut before_bytes = 0;
        for member in &cluster.members {
            if let Some(id) = member.process_id() {
                forget_peak(id);
                before_bytes = before_bytes.max(memory(id, "VmRSS:"));
            }
        }
        let puts = Arc::new(Puts::default());
        let mut tasks = JoinSet::new();
        for &port in ports {
            tasks.spawn(put_all_the_time(port, puts.clone()));
        }
        Ok(Watch { ports: ports.to_vec(), term, before_bytes, puts, tasks })
    }

    pub(super) async fn end(mut self, cluster: &Cluster) -> Result<Seen, String> {
        self.puts.is_over.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        let ids = cluster.members.iter().filter_map(crate::cluster::Member::process_id);
        let peak_bytes = ids.map(|id| memory(id, "VmHWM:")).max().unwrap_or_default();
        let after = requests::term(&self.ports, SETTLE).await?;
        Ok(Seen {
            terms: (self.term, after),
            puts: self.puts.count.load(Ordering::Relaxed),
            refused_puts: self.puts.refused.load(Ordering::Relaxed),
            worst_put: Duration::from_micros(self.puts.worst_us.load(Ordering::Relaxed)),
            before_bytes: self.before_bytes,
            peak_bytes,
        })
    }
}

/// Puts, and notes how long each took. A member that is not there is left alone.
async fn put_all_the_time(port: u16, puts: Arc<Puts>) {
    let mut connection: Option<Connection> = None;
    while !puts.is_over.load(Ordering::Relaxed) {
        if let Some(connection) = &mut connection {
            let started = Instant::now();
            let is_done = connection.small_put(port, PUT_TIMEOUT).await;
            puts.count.fetch_add(1, Ordering::Relaxed);
            puts.worst_us.fetch_max(started.elapsed().as_micros() as u64, Ordering::Relaxed);
            if !is_done {
                puts.refused.fetch_add(1, Ordering::Relaxed);
            }
        } else {
            connection = Connection::open(port).await.ok();
        }
        tokio::time::sleep(PUT_EVERY).await;
    }
}

/// A line of what Linux says of a process, in bytes.
fn memory(process: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    parse(&status, name).unwrap_or_default()
}

fn parse(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// The most that the process took is counted anew from now on.
fn forget_peak(process: u32) {
    // Where that is not allowed, the peak is that of an earlier row: too much, and not too little.
    let _ = fs::write(format!("/proc/{process}/clear_refs"), "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_term_and_too_much_memory_are_seen() {
        let seen = Seen {
            terms: (2, 2),
            puts: 9,
            refused_puts: 0,
            worst_put: Duration::ZERO,
            before_bytes: 100,
            peak_bytes: 250,
        };
        assert!(!seen.term_changed() && !seen.is_over(50) && seen.is_over(49));
        assert!(Seen { terms: (2, 3), ..seen }.term_changed());
    }

    #[test]
    fn memory_is_read_from_the_kernels_table() {
        let status = "Name:\ttenure\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n";
        assert_eq!(parse(status, "VmRSS:"), Some(10 << 20));
        assert_eq!(parse(status, "VmHWM:"), Some(20 << 20));
        assert_eq!(parse(status, "VmSwap:"), None);
        assert!(memory(std::process::id(), "VmRSS:") > 0);
    }
}

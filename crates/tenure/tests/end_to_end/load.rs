//! Clients that write all the time, and remember what they were told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tonic::Status;

use crate::client::Client;
use crate::eventually;

const WRITERS: usize = 8;
/// How long a writer waits after a failure before it goes on with another member.
const PAUSE: Duration = Duration::from_millis(10);
/// Errors that promise that nothing was done (clients repeat on them).
const CERTAIN: [&str; 2] = ["etcdserver: leader changed", "etcdserver: no leader"];

/// What came of one write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// Done at this revision.
    Acknowledged(i64),
    /// Not done, and never will be.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// Writers at work.
pub(crate) struct Load {
    is_over: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    writers: JoinSet<BTreeMap<String, Outcome>>,
}

/// What they wrote. Every key is written once.
pub(crate) struct Written {
    outcomes: BTreeMap<String, Outcome>,
}

impl Load {
    /// Begins to write to all members.
    pub(crate) fn start(clients: &[Client]) -> Load {
        let is_over = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let mut writers = JoinSet::new();
        for number in 0..WRITERS {
            let (is_over, acknowledged) = (is_over.clone(), acknowledged.clone());
            writers.spawn(write(number, clients.to_vec(), is_over, acknowledged));
        }
        Load { is_over, acknowledged, writers }
    }

    /// Waits until `count` more writes are acknowledged.
    pub(crate) async fn progress(&self, count: u64) {
        let target = self.acknowledged.load(Ordering::Relaxed) + count;
        eventually("writes are acknowledged", async || {
            (self.acknowledged.load(Ordering::Relaxed) >= target).then_some(())
        })
        .await;
    }

    /// Ends it.
    pub(crate) async fn finish(self) -> Written {
        self.is_over.store(true, Ordering::Relaxed);
        let outcomes = self.writers.join_all().await.into_iter().flatten().collect();
        Written { outcomes }
    }
}

async fn write(
    number: usize,
    clients: Vec<Client>,
    is_over: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) -> BTreeMap<String, Outcome> {
    let mut outcomes = BTreeMap::new();
    let mut failures = 0;
    for count in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("load/{number}/{count:06}");
        let outcome = match clients[(number + failures) % clients.len()].put(&key, &key).await {
            Ok(revision) => {
                acknowledged.fetch_add(1, Ordering::Relaxed);
                Outcome::Acknowledged(revision)
            }
            Err(status) => {
                failures += 1;
                tokio::time::sleep(PAUSE).await;
                outcome_of(&status)
            }
        };
        outcomes.insert(key, outcome);
    }
    outcomes
}

fn outcome_of(status: &Status) -> Outcome {
    if CERTAIN.contains(&status.message()) { Outcome::Refused } else { Outcome::Unknown }
}

impl Written {
    /// Asserts that a member has everything that was acknowledged, nothing that was refused, and nothing
    /// twice.
    pub(crate) async fn assert_kept(&self, client: &Client) {
        let pairs = client.range("load/", "load0").await.expect("the member reads");
        let mut found = BTreeMap::new();
        for pair in pairs {
            let key = String::from_utf8(pair.key.to_vec()).expect("keys are text");
            assert_eq!(pair.value, key, "the value of another write");
            assert_eq!(pair.version, 1, "{key} was written more than once");
            assert!(self.outcomes.contains_key(&key), "{key} was never written");
            found.insert(key, pair.mod_revision);
        }
        for (key, outcome) in &self.outcomes {
            match outcome {
                Outcome::Acknowledged(revision) => {
                    assert_eq!(found.get(key), Some(revision), "{key} was acknowledged");
                }
                Outcome::Refused => assert_eq!(found.get(key), None, "{key} was refused"),
                Outcome::Unknown => {}
            }
        }
    }
}

//! The write gap: for how long no write is acknowledged when the leader is struck.
//!
//! A handful of clients at the members that survive start a write every few milliseconds, whether the earlier
//! ones were answered or not (a closed loop would stand still behind the writes that the old leader took with
//! it). The gap is the longest time between two acknowledgements after the blow, as seen by all together.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::super::connection::{Connection, Head};
use super::super::workload::{Operation, Requests};
use super::members::{Cluster, MEMBERS};

/// How many clients.
const CLIENTS: u32 = 4;
/// How often each starts a write. They take turns, so that one is started every millisecond.
const INTERVAL: Duration = Duration::from_millis(4);
/// How long they write before the blow.
const BEFORE: Duration = Duration::from_millis(500);
/// How long they write after it at least.
const AFTER: Duration = Duration::from_secs(2);
/// The gap is over when writes have been acknowledged for this long.
const CALM: Duration = Duration::from_millis(500);
/// A gap is not waited for any longer.
const LIMIT: Duration = Duration::from_secs(20);

/// What happens to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Blow {
    /// Nothing: the longest silence that machine and disk make by themselves, to hold the others against.
    None,
    /// `kill -9`.
    Kill,
    /// The process stands still, its connections stay open.
    Stop,
    /// It is asked to end.
    Terminate,
}

impl Blow {
    pub(crate) const ALL: [Blow; 4] = [Blow::None, Blow::Kill, Blow::Stop, Blow::Terminate];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Blow::None => "nothing",
            Blow::Kill => "SIGKILL",
            Blow::Stop => "SIGSTOP",
            Blow::Terminate => "SIGTERM",
        }
    }

    fn signal(self) -> Option<Signal> {
        match self {
            Blow::None => None,
            Blow::Kill => Some(Signal::KILL),
            Blow::Stop => Some(Signal::STOP),
            Blow::Terminate => Some(Signal::TERM),
        }
    }
}

/// Strikes the leader, measures the gap, and brings the member back.
pub(crate) async fn measure(cluster: &mut Cluster, blow: Blow) -> Result<Duration, String> {
    cluster.ready().await?;
    let leader = cluster.leader().await?;
    let acknowledged = Rc::new(RefCell::new(Vec::new()));
    let mut probes = start_probes(cluster, leader, &acknowledged).await?;
    tokio::time::sleep(BEFORE).await;
    if let Some(signal) = blow.signal() {
        cluster.signal(leader, signal)?;
    }
    let struck = Instant::now();
    let gap = await_gap(struck, &acknowledged).await;
    probes.shutdown().await;
    match blow {
        Blow::None => {}
        Blow::Kill | Blow::Terminate => cluster.restart(leader).await?,
        Blow::Stop => cluster.signal(leader, Signal::CONT)?,
    }
    cluster.ready().await?;
    gap
}

type Acknowledged = Rc<RefCell<Vec<Instant>>>;

/// The clients, at the members other than `leader`.
async fn start_probes(
    cluster: &Cluster,
    leader: usize,
    acknowledged: &Acknowledged,
) -> Result<JoinSet<()>, String> {
    let survivors: Vec<usize> = (0..MEMBERS).filter(|&number| number != leader).collect();
    let mut probes = JoinSet::new();
    for number in 0..CLIENTS {
        let survivor = survivors[number as usize % survivors.len()];
        let connection = Connection::open(&cluster.endpoint(survivor)).await?;
        let head = connection.head(Operation::Put.rpc())?;
        let delay = INTERVAL * number / CLIENTS;
        let requests = Requests::new(Operation::Put, 256, 1000, number.into());
        probes.spawn_local(probe(connection, head, requests, delay, acknowledged.clone()));
    }
    Ok(probes)
}

/// One client. It ends when it is dropped, and the writes that it waits for with it.
async fn probe(
    connection: Connection,
    head: Head,
    mut requests: Requests,
    delay: Duration,
    acknowledged: Acknowledged,
) {
    let connection = Rc::new(connection);
    let mut writes = JoinSet::new();
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + delay, INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        while writes.try_join_next().is_some() {}
        let (connection, head, frame) = (connection.clone(), head.clone(), requests.next());
        let acknowledged = acknowledged.clone();
        writes.spawn_local(async move {
            // A refused write or one of unknown outcome is none that was acknowledged.
            if connection.call(&head, frame).await.is_ok() {
                acknowledged.borrow_mut().push(Instant::now());
            }
        });
    }
}

/// Waits until the gap is over for certain.
async fn await_gap(struck: Instant, acknowledged: &Acknowledged) -> Result<Duration, String> {
    tokio::time::sleep(AFTER).await;
    loop {
        let gap = longest_gap(struck, &acknowledged.borrow());
        match gap {
            Some(Gap { longest, ended }) if ended.elapsed() >= CALM => return Ok(longest),
            Some(_) | None if struck.elapsed() > LIMIT => {
                return Err(format!("no steady writes within {LIMIT:?} after the blow"));
            }
            Some(_) | None => tokio::time::sleep(CALM).await,
        }
    }
}

struct Gap {
    longest: Duration,
    ended: Instant,
}

/// The longest time between two acknowledgements of which the second came after the blow.
fn longest_gap(struck: Instant, acknowledged: &[Instant]) -> Option<Gap> {
    let pairs = acknowledged.iter().zip(acknowledged.iter().skip(1));
    let gaps =
        pairs.filter(|&(_, &second)| second >= struck).map(|(&first, &second)| (second - first, second));
    gaps.max_by_key(|&(longest, _)| longest).map(|(longest, ended)| Gap { longest, ended })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_the_longest_silence_that_ends_after_the_blow() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let times: Vec<Instant> = [0, 500, 501, 640, 700, 701].into_iter().map(at).collect();
        let gap = longest_gap(at(502), &times).expect("writes came after the blow");
        assert_eq!(gap.longest, Duration::from_millis(139));
        assert_eq!(gap.ended, at(640));
        assert!(longest_gap(at(702), &times).is_none(), "no write came after the blow");
    }
}

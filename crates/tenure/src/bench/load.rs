//! Runs a load: clients in a closed loop, a warm-up that is not counted, and a window that is.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use super::connection::{CallError, Connection, Head};
use super::cpu;
use super::workload::{Operation, Requests};

/// How long the last requests may take when the window is over.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How many requests are under way while the key space is filled.
const FILL_CLIENTS: u32 = 64;

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) operation: Operation,
    pub(crate) endpoints: Vec<String>,
    pub(crate) clients: usize,
    pub(crate) connections: usize,
    pub(crate) value_bytes: usize,
    pub(crate) key_space: u32,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
    pub(crate) pids: Vec<u32>,
}

/// What was seen in the window.
#[derive(Clone, Debug)]
pub(crate) struct Measurement {
    pub(crate) window: Duration,
    /// Of the requests that were answered in the window.
    pub(crate) latency_us: Histogram<u64>,
    /// How often each error came, the warm-up included.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Of the servers; none if nobody said which they are.
    pub(crate) servers_cpu_us: Option<u64>,
    pub(crate) own_cpu_us: u64,
}

impl Measurement {
    /// Requests answered in a second.
    pub(crate) fn throughput(&self) -> f64 {
        self.latency_us.len() as f64 / self.window.as_secs_f64()
    }

    /// The part of a total that one request had.
    pub(crate) fn per_operation(&self, total_us: u64) -> f64 {
        total_us as f64 / (self.latency_us.len().max(1)) as f64
    }

    /// How many processors a total kept busy.
    pub(crate) fn cores(&self, total_us: u64) -> f64 {
        total_us as f64 / 1e6 / self.window.as_secs_f64()
    }
}

/// What all clients write down. There is one thread, so nobody waits for it.
struct Tally {
    counting: Cell<bool>,
    over: Cell<bool>,
    latency_us: RefCell<Histogram<u64>>,
    errors: RefCell<BTreeMap<String, u64>>,
}

impl Tally {
    fn new() -> Tally {
        let latency_us = Histogram::new(3).expect("three digits are allowed");
        Tally {
            counting: Cell::new(false),
            over: Cell::new(false),
            latency_us: RefCell::new(latency_us),
            errors: RefCell::default(),
        }
    }

    fn on_answer(&self, latency: Duration) {
        if self.counting.get() {
            let latency_us = latency.as_micros() as u64;
            // It grows as needed, so that every value has its place.
            self.latency_us.borrow_mut().record(latency_us).expect("the histogram grows");
        }
    }

    fn on_error(&self, error: String) {
        *self.errors.borrow_mut().entry(error).or_default() += 1;
    }
}

/// Runs the load.
pub(crate) async fn run(load: &Load) -> Result<Measurement, String> {
    let connections = connect(load).await?;
    let tally = Rc::new(Tally::new());
    let mut clients = JoinSet::new();
    for number in 0..load.clients {
        let mut lines = Vec::new();
        for connection in connections.iter().skip(number % connections.len()).step_by(load.clients) {
            lines.push((connection.clone(), connection.head(load.operation.rpc())?));
        }
        let requests = Requests::new(load.operation, load.value_bytes, load.key_space, number as u64);
        clients.spawn_local(client(lines, requests, tally.clone()));
    }
    tokio::time::sleep(load.warm_up).await;
    let before = Clocks::read(&load.pids)?;
    tally.counting.set(true);
    tokio::time::sleep(load.duration).await;
    tally.counting.set(false);
    let after = Clocks::read(&load.pids)?;
    tally.over.set(true);
    let drained = async { while clients.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tally.on_error(format!("no answer within {DRAIN_TIMEOUT:?} after the end"));
    }
    let measurement = Measurement {
        window: after.at - before.at,
        latency_us: tally.latency_us.borrow().clone(),
        errors: tally.errors.borrow().clone(),
        servers_cpu_us: (!load.pids.is_empty()).then(|| after.servers_us - before.servers_us),
        own_cpu_us: after.own_us - before.own_us,
    };
    Ok(measurement)
}

/// Puts every key of the key space once, so that gets find something.
pub(crate) async fn fill(load: &Load) -> Result<(), String> {
    let connections = connect(load).await?;
    let mut clients = JoinSet::new();
    for first in 0..FILL_CLIENTS {
        let connection = connections[first as usize % connections.len()].clone();
        let requests = Requests::new(Operation::Put, load.value_bytes, load.key_space, first.into());
        let head = connection.head(Operation::Put.rpc())?;
        let numbers = (first..load.key_space).step_by(FILL_CLIENTS as usize);
        clients.spawn_local(async move {
            for number in numbers {
                connection.call(&head, requests.of_key(number)).await?;
            }
            Ok(())
        });
    }
    while let Some(done) = clients.join_next().await {
        let done: Result<(), CallError> = done.map_err(|error| error.to_string())?;
        done.map_err(|error| format!("cannot fill the key space: {error}"))?;
    }
    Ok(())
}

/// The connections, in turn to each endpoint.
async fn connect(load: &Load) -> Result<Vec<Rc<Connection>>, String> {
    let mut connections = Vec::new();
    for endpoint in load.endpoints.iter().cycle().take(load.connections) {
        connections.push(Rc::new(Connection::open(endpoint).await?));
    }
    Ok(connections)
}

/// One client: asks, waits for the answer, asks again. If it has several connections it takes them in turn,
/// so that a single client sees all members, not the leader alone or a follower alone.
async fn client(lines: Vec<(Rc<Connection>, Head)>, mut requests: Requests, tally: Rc<Tally>) {
    for (connection, head) in lines.iter().cycle() {
        if tally.over.get() {
            return;
        }
        let frame = requests.next();
        let started = Instant::now();
        match connection.call(head, frame).await {
            Ok(answer) if requests.is_plausible(answer.len()) => tally.on_answer(started.elapsed()),
            Ok(_) => tally.on_error("the key was not found, or its value is shorter".to_owned()),
            Err(error @ CallError::Refused(_)) => tally.on_error(error.to_string()),
            Err(error @ CallError::Broken(_)) => {
                tally.on_error(error.to_string());
                return;
            }
        }
    }
}

/// What all clocks show at one time.
struct Clocks {
    at: Instant,
    servers_us: u64,
    own_us: u64,
}

impl Clocks {
    fn read(pids: &[u32]) -> Result<Clocks, String> {
        let servers_us = cpu::used_us(pids)?;
        let own_us = cpu::used_us(&[std::process::id()])?;
        Ok(Clocks { at: Instant::now(), servers_us, own_us })
    }
}

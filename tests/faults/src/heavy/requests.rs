//! The heavy requests, and the small ones beside them.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use tenure_api::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use tenure_api::pb::etcdserverpb::kv_client::KvClient;
use tenure_api::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use tenure_api::pb::etcdserverpb::request_op::Request;
use tenure_api::pb::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest, PutRequest, RangeRequest, RequestOp,
    StatusRequest, StatusResponse, TxnRequest,
};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::address::url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than any request should take.
const TIMEOUT: Duration = Duration::from_mins(2);
/// Puts in a transaction while the store is filled, and transactions at a time.
const TXN_PUTS: u64 = 128;
const FILLERS: u64 = 16;
const VALUE_BYTES: usize = 100;
/// Connections that many small requests share.
const CONNECTIONS: usize = 16;
/// Answers are large: a small window would measure the way.
const WINDOW_BYTES: u32 = 8 << 20;
const MB: usize = 1_000_000;

/// A connection to a member.
#[derive(Clone)]
pub(super) struct Connection {
    kv: KvClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
}

impl Connection {
    pub(super) async fn open(port: u16) -> Result<Connection, String> {
        let endpoint = Endpoint::from_shared(url(port)).map_err(|error| error.to_string())?;
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT);
        let endpoint = endpoint.initial_stream_window_size(WINDOW_BYTES);
        let endpoint = endpoint.initial_connection_window_size(WINDOW_BYTES);
        let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
        let kv = KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
        Ok(Connection { kv, maintenance: MaintenanceClient::new(channel) })
    }

    /// A put that should not have to wait; whether it was done.
    pub(super) async fn small_put(&mut self, number: u16, timeout: Duration) -> bool {
        let request =
            PutRequest { key: format!("small/{number}").into(), value: "x".into(), ..Default::default() };
        tokio::time::timeout(timeout, self.kv.put(request)).await.is_ok_and(|result| result.is_ok())
    }

    async fn status(&mut self) -> Result<StatusResponse, Status> {
        self.maintenance.status(StatusRequest {}).await.map(tonic::Response::into_inner)
    }
}

/// What came of some requests: how many answers of which kind.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Outcome {
    answers: BTreeMap<String, u64>,
}

impl Outcome {
    fn count(&mut self, answer: Result<(), Status>) {
        let answer = match answer {
            Ok(()) => "ok".to_owned(),
            Err(status) => format!("{:?}: {}", status.code(), status.message()),
        };
        *self.answers.entry(answer).or_default() += 1;
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answers: Vec<String> =
            self.answers.iter().map(|(answer, count)| format!("{count} {answer}")).collect();
        write!(f, "{}", answers.join(", "))
    }
}

/// Connections to all members.
pub(super) struct Clients {
    ports: Vec<u16>,
}

/// A first key, and the one after the last.
pub(super) type Span = (Vec<u8>, Vec<u8>);

/// All keys that were filled in.
pub(super) fn all() -> Span {
    (b"key/".to_vec(), b"key0".to_vec())
}

/// The first fifth of them.
pub(super) fn fifth(keys: u64) -> Span {
    (key(0), key(keys / 5))
}

fn key(number: u64) -> Vec<u8> {
    format!("key/{number:012}").into_bytes()
}

/// The term that all agree on.
pub(super) async fn term(ports: &[u16], within: Duration) -> Result<u64, String> {
    let give_up = Instant::now() + within;
    loop {
        let mut terms = Vec::new();
        for &port in ports {
            if let Ok(mut connection) = Connection::open(port).await
                && let Ok(status) = connection.status().await
                && status.leader != 0
            {
                terms.push(status.raft_term);
            }
        }
        if terms.len() == ports.len() && terms.iter().all(|term| *term == terms[0]) {
            return Ok(terms[0]);
        }
        if Instant::now() >= give_up {
            return Err(format!("the members do not agree on a term: {terms:?}"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Does it all at the same time.
async fn at_once<F>(requests: impl Iterator<Item = F>) -> Outcome
where
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for request in requests {
        tasks.spawn(async {
            let too_late = |_| Status::deadline_exceeded("no answer in time");
            tokio::time::timeout(TIMEOUT, request).await.map_err(too_late).flatten()
        });
    }
    let mut outcome = Outcome::default();
    while let Some(result) = tasks.join_next().await {
        outcome.count(result.unwrap_or_else(|error| Err(Status::internal(error.to_string()))));
    }
    outcome
}

impl Clients {
    pub(super) async fn connect(ports: &[u16]) -> Result<Clients, String> {
        term(ports, TIMEOUT).await?;
        Ok(Clients { ports: ports.to_vec() })
    }

    /// Which member leads.
    pub(super) async fn leader(&self) -> Result<usize, String> {
        for (at, &port) in self.ports.iter().enumerate() {
            let mut connection = Connection::open(port).await?;
            let status = connection.status().await.map_err(|status| status.to_string())?;
            if status.header.is_some_and(|header| header.member_id == status.leader) {
                return Ok(at);
            }
        }
        Err("nobody leads".to_owned())
    }

    /// Connections to the member that leads: there it hurts most.
    async fn to_leader(&self, count: usize) -> Vec<Connection> {
        let mut connections = Vec::new();
        if let Ok(leader) = self.leader().await {
            for _ in 0..count {
                connections.extend(Connection::open(self.ports[leader]).await.ok());
            }
        }
        connections
    }

    /// Puts all keys, each with a value of its own.
    pub(super) async fn fill(&self, keys: u64) -> Outcome {
        let connections = self.to_leader(FILLERS as usize).await;
        let share = keys.div_ceil(FILLERS);
        at_once(connections.into_iter().zip(0..).map(|(mut connection, filler)| async move {
            let (mut next, end) = (filler * share, ((filler + 1) * share).min(keys));
            while next < end {
                let until = (next + TXN_PUTS).min(end);
                let success = (next..until).map(|number| put(key(number), vec![b'v'; VALUE_BYTES])).collect();
                let request = TxnRequest { success, ..TxnRequest::default() };
                connection.kv.txn(request).await?;
                next = until;
            }
            Ok(())
        }))
        .await
    }

    pub(super) async fn lists(&self, count: usize) -> Outcome {
        let (key, range_end) = all();
        let request =
            RangeRequest { key: key.into(), range_end: range_end.into(), ..RangeRequest::default() };
        self.ranges(count, count, &request).await
    }

    pub(super) async fn counts(&self, count: usize) -> Outcome {
        let (key, range_end) = all();
        let (key, range_end) = (key.into(), range_end.into());
        let request = RangeRequest { key, range_end, count_only: true, ..RangeRequest::default() };
        self.ranges(count, CONNECTIONS, &request).await
    }

    /// Whoever is told that there are too many has its answer.
    async fn ranges(&self, count: usize, connections: usize, request: &RangeRequest) -> Outcome {
        let connections = self.to_leader(connections).await;
        at_once(connections.into_iter().cycle().take(count).map(|mut connection| {
            let request = request.clone();
            async move {
                let response = connection.kv.range(request).await?.into_inner();
                let expected =
                    if response.kvs.is_empty() { response.count } else { response.kvs.len() as i64 };
                if response.count == expected { Ok(()) } else { Err(Status::data_loss("a part of the keys")) }
            }
        }))
        .await
    }

    pub(super) async fn hashes(&self, count: usize) -> Outcome {
        let connections = self.to_leader(CONNECTIONS).await;
        at_once(connections.into_iter().cycle().take(count).map(|mut connection| async move {
            connection.maintenance.hash_kv(HashKvRequest { revision: 0 }).await.map(drop)
        }))
        .await
    }

    /// Compares all keys 128 times, and none of the comparisons is over before the last key.
    pub(super) async fn compares(&self, keys: u64, has_write: bool) -> Outcome {
        let (first, end) = all();
        let compare = Compare {
            result: CompareResult::Greater.into(),
            target: CompareTarget::Version.into(),
            key: first.into(),
            range_end: end.into(),
            target_union: Some(TargetUnion::Version(0)),
        };
        let write = put(b"compared".to_vec(), keys.to_string().into_bytes());
        let success = if has_write { vec![write] } else { Vec::new() };
        let request = TxnRequest { compare: vec![compare; 128], success, failure: Vec::new() };
        let connections = self.to_leader(1).await;
        at_once(connections.into_iter().map(|mut connection| {
            let request = request.clone();
            async move { connection.kv.txn(request).await.map(drop) }
        }))
        .await
    }

    /// A small transaction with a large answer: a fifth of all keys, 127 times.
    pub(super) async fn poison(&self, keys: u64) -> Outcome {
        let (first, end) = fifth(keys);
        let range = RangeRequest { key: first.into(), range_end: end.into(), ..RangeRequest::default() };
        let range = RequestOp { request: Some(Request::RequestRange(range)) };
        let mut success = vec![range; 127];
        success.push(put(b"poison".to_vec(), Vec::new()));
        let request = TxnRequest { success, ..TxnRequest::default() };
        let connections = self.to_leader(1).await;
        at_once(connections.into_iter().map(|mut connection| {
            let request = request.clone();
            async move { connection.kv.txn(request).await.map(drop) }
        }))
        .await
    }

    pub(super) async fn reads(&self, count: u64, keys: u64) -> Outcome {
        let connections = self.to_leader(CONNECTIONS).await;
        at_once(connections.into_iter().cycle().zip(0..count).map(|(mut connection, number)| async move {
            let key = key(number * 7919 % keys).into();
            connection.kv.range(RangeRequest { key, ..RangeRequest::default() }).await.map(drop)
        }))
        .await
    }

    pub(super) async fn puts(&self, count: u64) -> Outcome {
        let connections = self.to_leader(CONNECTIONS).await;
        at_once(connections.into_iter().cycle().zip(0..count).map(|(mut connection, number)| async move {
            let key = format!("many/{number}").into();
            let value = vec![b'v'; VALUE_BYTES].into();
            connection.kv.put(PutRequest { key, value, ..PutRequest::default() }).await.map(drop)
        }))
        .await
    }

    /// Writes so many entries by the members that are there.
    pub(super) async fn move_the_log_on(&self, away: usize, entries: u64) -> Outcome {
        let port = self.ports[(away + 1) % self.ports.len()];
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.extend(Connection::open(port).await.ok());
        }
        let share = entries / CONNECTIONS as u64;
        let lanes = 0..CONNECTIONS as u64 * 8;
        at_once(connections.into_iter().cycle().zip(lanes).map(|(mut connection, lane)| async move {
            for _ in 0..share / 8 {
                let key = format!("away/{lane}").into();
                connection.kv.put(PutRequest { key, ..PutRequest::default() }).await?;
            }
            Ok(())
        }))
        .await
    }

    /// Forgets all that was superseded.
    pub(super) async fn compact(&self) -> Outcome {
        let connections = self.to_leader(1).await;
        at_once(connections.into_iter().map(|mut connection| async move {
            let status = connection.status().await?;
            let revision = status.header.map_or(0, |header| header.revision);
            let request = CompactionRequest { revision, physical: true };
            connection.kv.compact(request).await.map(drop)
        }))
        .await
    }

    pub(super) async fn delete(&self, (first, end): &Span) -> Outcome {
        let connections = self.to_leader(1).await;
        at_once(connections.into_iter().map(|mut connection| {
            let (key, range_end) = (first.clone().into(), end.clone().into());
            async move {
                let request = DeleteRangeRequest { key, range_end, ..DeleteRangeRequest::default() };
                let deleted = connection.kv.delete_range(request).await?.into_inner().deleted;
                if deleted > 0 { Ok(()) } else { Err(Status::not_found("nothing was deleted")) }
            }
        }))
        .await
    }

    pub(super) async fn large_puts(&self) -> Outcome {
        let sizes = [8, 12, 16, 20, 25, 29, 33];
        let connections = self.to_leader(sizes.len()).await;
        at_once(connections.into_iter().zip(sizes).map(|(mut connection, size)| async move {
            let (key, value) = (format!("large/{size}").into(), vec![b'l'; size * MB].into());
            connection.kv.put(PutRequest { key, value, ..PutRequest::default() }).await.map(drop)
        }))
        .await
    }
}

fn put(key: Vec<u8>, value: Vec<u8>) -> RequestOp {
    let request = PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() };
    RequestOp { request: Some(Request::RequestPut(request)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_what_they_say() {
        let mut outcome = Outcome::default();
        outcome.count(Ok(()));
        outcome.count(Err(Status::unavailable("no leader")));
        outcome.count(Ok(()));
        assert_eq!(outcome.to_string(), "1 Unavailable: no leader, 2 ok");
    }

    #[test]
    fn a_fifth_of_the_keys_is_the_first_fifth() {
        let (first, end) = fifth(1_000);
        assert!(all().0 < first && end < all().1);
        assert_eq!(
            (0..1_000).filter(|&number| (first.clone()..end.clone()).contains(&key(number))).count(),
            200
        );
    }
}

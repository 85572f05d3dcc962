//! One connection to one member: what is asked of a group, as etcd's requests, and the answers, read with care.

use std::time::Duration;

use tenure_api::ApiError;
use tenure_api::pb::etcdserverpb::cluster_client::ClusterClient;
use tenure_api::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use tenure_api::pb::etcdserverpb::kv_client::KvClient;
use tenure_api::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use tenure_api::pb::etcdserverpb::request_op::Request;
use tenure_api::pb::etcdserverpb::response_op::Response;
use tenure_api::pb::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest, HashRequest, MemberAddRequest,
    MemberRemoveRequest, MoveLeaderRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader,
    StatusRequest, StatusResponse, TxnRequest, TxnResponse,
};
use tenure_api::pb::mvccpb::KeyValue;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::address::url;
use crate::history::{Answer, Ask, Guard, KEYS, Pair, Scope, Seen};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A few values are long, so that the log and the checkpoints grow.
const LONG_VALUE_EVERY: u64 = 40;
const LONG_VALUE_BYTES: u64 = 16 << 10;

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// It was certainly not done.
    Refused,
    /// It may have been done, or be done later.
    Unknown,
    /// No server may say this.
    Nonsense(String),
}

/// A connection.
#[derive(Clone)]
pub(crate) struct Client {
    kv: KvClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
    cluster: ClusterClient<Channel>,
    timeout: Duration,
}

impl Client {
    /// Connects to the member that listens there. Every request has so long; none if nobody listens.
    pub(crate) async fn connect(port: u16, timeout: Duration) -> Option<Client> {
        let endpoint = Endpoint::from_shared(url(port)).expect("a URL");
        let channel = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect()).await.ok()?.ok()?;
        let kv = KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
        let (maintenance, cluster) = (MaintenanceClient::new(channel.clone()), ClusterClient::new(channel));
        Some(Client { kv, maintenance, cluster, timeout })
    }

    /// Asks, on behalf of the operation `id`.
    pub(crate) async fn ask(
        &self,
        group: u32,
        ask: Ask,
        id: u64,
        is_linearizable: bool,
    ) -> Result<Answer, Failure> {
        let mut kv = self.kv.clone();
        let work = async {
            match ask {
                Ask::Get(scope) => {
                    let request = RangeRequest { serializable: !is_linearizable, ..range(group, scope) };
                    let response = kv.range(request).await.map_err(|status| failure(&status))?.into_inner();
                    let seen = pairs_of(group, scope, &response.kvs)?;
                    Ok(Answer { revision: revision(response.header)?, wrote: false, seen })
                }
                Ask::Put(key) => {
                    let response = kv.put(put(group, key, id)).await.map_err(|status| failure(&status))?;
                    let response = response.into_inner();
                    let seen = pairs_of(group, Scope::One(key), response.prev_kv.as_slice())?;
                    Ok(Answer { revision: revision(response.header)?, wrote: true, seen })
                }
                Ask::Delete(scope) => {
                    let response = kv.delete_range(delete(group, scope)).await;
                    let response = response.map_err(|status| failure(&status))?.into_inner();
                    let seen = pairs_of(group, scope, &response.prev_kvs)?;
                    if response.deleted != response.prev_kvs.len() as i64 {
                        return Err(nonsense("as many keys deleted as shown"));
                    }
                    let wrote = response.deleted > 0;
                    Ok(Answer { revision: revision(response.header)?, wrote, seen })
                }
                Ask::Swap { key, guard, also } => {
                    let response = kv.txn(swap(group, key, guard, also, id)).await;
                    swapped(group, key, also, response.map_err(|status| failure(&status))?.into_inner())
                }
            }
        };
        tokio::time::timeout(self.timeout, work).await.unwrap_or(Err(Failure::Unknown))
    }

    /// Writes a large value where nobody looks, so that the log grows.
    pub(crate) async fn weigh_down(&self, bytes: usize) -> Result<(), Status> {
        let request =
            PutRequest { key: "weight".into(), value: vec![b'w'; bytes].into(), ..PutRequest::default() };
        self.in_time(self.kv.clone().put(request)).await.map(drop)
    }

    /// Forgets the history before a revision.
    pub(crate) async fn compact(&self, revision: i64) -> Result<(), Status> {
        let request = CompactionRequest { revision, physical: false };
        self.in_time(self.kv.clone().compact(request)).await.map(drop)
    }

    /// Whether a linearizable read is answered.
    pub(crate) async fn reads(&self) -> bool {
        self.in_time(self.kv.clone().range(range(0, Scope::All))).await.is_ok()
    }

    /// How the member is.
    pub(crate) async fn status(&self) -> Result<StatusResponse, Status> {
        self.in_time(self.maintenance.clone().status(StatusRequest {})).await
    }

    /// The hash of the keys and their history up to a revision, and how far that is compacted.
    pub(crate) async fn hash_kv(&self, revision: i64) -> Result<(u32, i64), Status> {
        let request = HashKvRequest { revision };
        let response = self.in_time(self.maintenance.clone().hash_kv(request)).await?;
        Ok((response.hash, response.compact_revision))
    }

    /// The hash of the whole state.
    pub(crate) async fn hash(&self) -> Result<u32, Status> {
        Ok(self.in_time(self.maintenance.clone().hash(HashRequest {})).await?.hash)
    }

    /// Has another member lead.
    pub(crate) async fn move_leader(&self, target: u64) -> Result<(), Status> {
        let request = MoveLeaderRequest { target_id: target };
        self.in_time(self.maintenance.clone().move_leader(request)).await.map(drop)
    }

    /// Removes a member.
    pub(crate) async fn remove_member(&self, id: u64) -> Result<(), Status> {
        let request = MemberRemoveRequest { id };
        self.in_time(self.cluster.clone().member_remove(request)).await.map(drop)
    }

    /// Adds a member, which votes as soon as it has caught up.
    pub(crate) async fn add_member(&self, peer_url: &str) -> Result<(), Status> {
        let request = MemberAddRequest { peer_urls: vec![peer_url.to_owned()], is_learner: false };
        self.in_time(self.cluster.clone().member_add(request)).await.map(drop)
    }

    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Status> {
        let too_late = |_| Status::deadline_exceeded("no answer in time");
        tokio::time::timeout(self.timeout, call).await.map_err(too_late)?.map(tonic::Response::into_inner)
    }
}

/// What a status says of the operation. Only what Tenure promises in docs/protocol.md, "Forwarded writes", is
/// certain; a connection that breaks says nothing.
fn failure(status: &Status) -> Failure {
    match ApiError::from_message(status.message()) {
        Some(
            ApiError::NoLeader
            | ApiError::LeaderChanged
            | ApiError::TooManyRequests
            // It has just been added.
            | ApiError::NotSupportedForLearner,
        ) => Failure::Refused,
        Some(ApiError::Timeout | ApiError::TimeoutDueToLeaderFail | ApiError::Stopped) | None => {
            Failure::Unknown
        }
        Some(other) => Failure::Nonsense(format!("the error {other:?}")),
    }
}

fn nonsense(expected: &str) -> Failure {
    Failure::Nonsense(format!("an answer without {expected}"))
}

fn revision(header: Option<ResponseHeader>) -> Result<i64, Failure> {
    header.map(|header| header.revision).filter(|&revision| revision > 0).ok_or(nonsense("a revision"))
}

/// A key's name.
fn name(group: u32, key: u8) -> Vec<u8> {
    format!("{group:06}/{key}").into_bytes()
}

/// The first key, and what comes after the last; nothing if there is only one.
fn bounds(group: u32, scope: Scope) -> (Vec<u8>, Vec<u8>) {
    match scope {
        Scope::One(key) => (name(group, key), Vec::new()),
        Scope::All => (name(group, 0), name(group, KEYS)),
    }
}

/// The value that an operation writes: its name, and after that as much as its name says.
pub(crate) fn value(id: u64) -> Vec<u8> {
    let length = if id.is_multiple_of(LONG_VALUE_EVERY) { id * 7919 % LONG_VALUE_BYTES } else { id % 64 };
    let mut value = format!("{id}:").into_bytes();
    value.resize(value.len() + length as usize, b'a' + (id % 26) as u8);
    value
}

/// Who wrote a value, if it is whole.
fn writer(found: &[u8]) -> Option<u64> {
    let end = found.iter().position(|&byte| byte == b':')?;
    let id = std::str::from_utf8(&found[..end]).ok()?.parse().ok()?;
    (value(id) == found).then_some(id)
}

fn range(group: u32, scope: Scope) -> RangeRequest {
    let (key, range_end) = bounds(group, scope);
    RangeRequest { key: key.into(), range_end: range_end.into(), ..RangeRequest::default() }
}

fn put(group: u32, key: u8, id: u64) -> PutRequest {
    let (key, value) = (name(group, key).into(), value(id).into());
    PutRequest { key, value, prev_kv: true, ..PutRequest::default() }
}

fn delete(group: u32, scope: Scope) -> DeleteRangeRequest {
    let (key, range_end) = bounds(group, scope);
    DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: true }
}

fn swap(group: u32, key: u8, guard: Guard, also: u8, id: u64) -> TxnRequest {
    let (target, union) = match guard {
        Guard::ModRevision(revision) => (CompareTarget::Mod, TargetUnion::ModRevision(revision)),
        Guard::Writer(id) => (CompareTarget::Value, TargetUnion::Value(value(id).into())),
    };
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: name(group, key).into(),
        target_union: Some(union),
        ..Compare::default()
    };
    let of = |request| RequestOp { request: Some(request) };
    TxnRequest {
        compare: vec![compare],
        success: [key, also].map(|key| of(Request::RequestPut(put(group, key, id)))).to_vec(),
        failure: vec![of(Request::RequestRange(range(group, Scope::All)))],
    }
}

fn swapped(group: u32, key: u8, also: u8, response: TxnResponse) -> Result<Answer, Failure> {
    let revision = revision(response.header)?;
    let responses: Vec<Response> = response.responses.into_iter().filter_map(|op| op.response).collect();
    let seen = match (response.succeeded, responses.as_slice()) {
        (true, [Response::ResponsePut(first), Response::ResponsePut(second)]) => {
            let mut seen = pairs_of(group, Scope::One(key), first.prev_kv.as_slice())?;
            seen.extend(pairs_of(group, Scope::One(also), second.prev_kv.as_slice())?);
            seen
        }
        (false, [Response::ResponseRange(range)]) => pairs_of(group, Scope::All, &range.kvs)?,
        (true | false, _) => return Err(nonsense("what the transaction asked for")),
    };
    Ok(Answer { revision, wrote: response.succeeded, seen })
}

/// For each key of the scope what was shown of it.
fn pairs_of(group: u32, scope: Scope, found: &[KeyValue]) -> Result<Vec<Seen>, Failure> {
    let mut rest = found.iter().peekable();
    let mut seen = Vec::new();
    for key in scope.keys() {
        let pair = rest.next_if(|pair| pair.key == name(group, key));
        seen.push(Seen { key, pair: pair.map(parse).transpose()? });
    }
    rest.next().map_or(Ok(seen), |_| Err(nonsense("only what was asked for, in order")))
}

fn parse(pair: &KeyValue) -> Result<Pair, Failure> {
    let &KeyValue { create_revision, mod_revision, version, ref value, .. } = pair;
    let writer = writer(value).ok_or_else(|| nonsense("a value that a client wrote"))?;
    Ok(Pair { writer, create_revision, mod_revision, version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_its_writer_only_while_it_is_whole() {
        for id in [0, 1, 39, 40, 4711, 80_000] {
            let mut bytes = value(id);
            assert_eq!(writer(&bytes), Some(id));
            bytes.push(b'x');
            assert_eq!(writer(&bytes), None);
        }
        assert_eq!(writer(b"no name"), None);
    }

    #[test]
    fn an_answer_with_a_pair_too_many_is_nonsense() {
        let pair = |key, id| KeyValue {
            key: name(7, key).into(),
            value: value(id).into(),
            create_revision: 2,
            mod_revision: 2,
            version: 1,
            ..KeyValue::default()
        };
        let seen = pairs_of(7, Scope::All, &[pair(0, 1), pair(2, 3)]).expect("pairs");
        assert_eq!(seen.iter().map(|seen| seen.pair.is_some()).collect::<Vec<_>>(), [true, false, true]);
        assert!(pairs_of(7, Scope::One(0), &[pair(0, 1), pair(2, 3)]).is_err());
        assert!(pairs_of(7, Scope::All, &[pair(2, 3), pair(0, 1)]).is_err(), "not in order");
    }
}

//! A client of one member.

use std::time::Duration;

use tenure_api::pb::etcdserverpb::kv_client::KvClient;
use tenure_api::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use tenure_api::pb::etcdserverpb::{
    CompactionRequest, HashKvRequest, HashRequest, PutRequest, RangeRequest, StatusRequest, StatusResponse,
};
use tenure_api::pb::mvccpb::KeyValue;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// Longer than a member ever lets a request wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Talks to one member, again when it is back.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) kv: KvClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
}

impl Client {
    pub(crate) fn new(port: u16) -> Client {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).expect("a URL");
        let channel = endpoint.timeout(REQUEST_TIMEOUT).connect_lazy();
        let kv = KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
        Client { kv, maintenance: MaintenanceClient::new(channel) }
    }

    /// Puts a key; the revision at which that was done.
    pub(crate) async fn put(&self, key: &str, value: &str) -> Result<i64, Status> {
        let request = PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..PutRequest::default()
        };
        let response = self.kv.clone().put(request).await?.into_inner();
        Ok(response.header.expect("a header").revision)
    }

    /// The key's value.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<String>, Status> {
        let request = RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() };
        let response = self.kv.clone().range(request).await?.into_inner();
        Ok(response.kvs.first().map(|pair| String::from_utf8_lossy(&pair.value).into_owned()))
    }

    /// All pairs between two keys.
    pub(crate) async fn range(&self, start: &str, end: &str) -> Result<Vec<KeyValue>, Status> {
        let (key, range_end) = (start.to_owned().into(), end.to_owned().into());
        let request = RangeRequest { key, range_end, ..RangeRequest::default() };
        Ok(self.kv.clone().range(request).await?.into_inner().kvs)
    }

    pub(crate) async fn compact(&self, revision: i64) -> Result<(), Status> {
        let request = CompactionRequest { revision, physical: true };
        self.kv.clone().compact(request).await.map(drop)
    }

    pub(crate) async fn status(&self) -> Result<StatusResponse, Status> {
        Ok(self.maintenance.clone().status(StatusRequest {}).await?.into_inner())
    }

    /// The hash of the keys and their history up to a revision.
    pub(crate) async fn hash_kv(&self, revision: i64) -> Result<(u32, i64), Status> {
        let response = self.maintenance.clone().hash_kv(HashKvRequest { revision }).await?.into_inner();
        Ok((response.hash, response.compact_revision))
    }

    /// The hash of everything.
    pub(crate) async fn hash(&self) -> Result<u32, Status> {
        Ok(self.maintenance.clone().hash(HashRequest {}).await?.into_inner().hash)
    }
}

//! What comes of a request when endpoints refuse, hang or break, and what is said about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tenure_api::pb::etcdserverpb::kv_client::KvClient;
use tenure_api::pb::etcdserverpb::kv_server::{Kv, KvServer};
use tenure_api::pb::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RangeStreamResponse, TxnRequest, TxnResponse,
};
use tokio::net::TcpListener;
use tonic::codegen::BoxStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response};

use super::*;
use crate::client::options::tests::defaults;

/// How a [`Member`] answers.
#[derive(Clone, Copy)]
enum Behaviour {
    Answer,
    Refuse(ApiError),
    Hang,
}

/// A server of the KV service that counts its requests.
#[derive(Clone)]
struct Member {
    behaviour: Behaviour,
    requests: Arc<AtomicUsize>,
}

impl Member {
    /// Starts one; its address, and its count.
    async fn start(behaviour: Behaviour) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let requests = Arc::new(AtomicUsize::new(0));
        let member = Self { behaviour, requests: Arc::clone(&requests) };
        let server = Server::builder().add_service(KvServer::new(member));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        (address, requests)
    }

    async fn answer<T: Default>(&self) -> Result<Response<T>, Status> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        match self.behaviour {
            Behaviour::Answer => Ok(Response::new(T::default())),
            Behaviour::Refuse(error) => Err(error.into()),
            Behaviour::Hang => std::future::pending().await,
        }
    }
}

#[tonic::async_trait]
impl Kv for Member {
    type RangeStreamStream = BoxStream<RangeStreamResponse>;

    async fn range(&self, _: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        self.answer().await
    }

    async fn range_stream(
        &self,
        _: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn put(&self, _: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        self.answer().await
    }

    async fn delete_range(
        &self,
        _: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        self.answer().await
    }

    async fn txn(&self, _: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        self.answer().await
    }

    async fn compact(&self, _: Request<CompactionRequest>) -> Result<Response<CompactionResponse>, Status> {
        self.answer().await
    }
}

fn options_for(endpoints: &[&str]) -> Options {
    Options { endpoints: endpoints.iter().map(ToString::to_string).collect(), ..defaults() }
}

async fn put(options: &Options) -> Result<Response<PutResponse>, Failure> {
    let call = async |channel| KvClient::new(channel).put(PutRequest::default()).await;
    request(options, Kind::Write, call).await
}

async fn get(options: &Options) -> Result<Response<RangeResponse>, Failure> {
    let call = async |channel| KvClient::new(channel).range(RangeRequest::default()).await;
    request(options, Kind::Read, call).await
}

/// Port 1 of loopback: nobody listens there without being root.
const NOBODY: &str = "127.0.0.1:1";

#[tokio::test]
async fn the_first_endpoint_that_can_be_reached_is_taken() {
    let (member, requests) = Member::start(Behaviour::Answer).await;
    let (other, requests_of_other) = Member::start(Behaviour::Answer).await;
    let options = options_for(&[NOBODY, &member, &other]);
    put(&options).await.expect("an answer");
    get(&options).await.expect("an answer");
    assert_eq!((requests.load(Ordering::Relaxed), requests_of_other.load(Ordering::Relaxed)), (2, 0));
}

#[tokio::test]
async fn a_read_goes_on_to_the_next_endpoint_and_a_write_does_not() {
    let (leaderless, _) = Member::start(Behaviour::Refuse(ApiError::Timeout)).await;
    let (member, requests) = Member::start(Behaviour::Answer).await;
    let options = options_for(&[&leaderless, &member]);
    get(&options).await.expect("the second one answers");
    assert_eq!(requests.load(Ordering::Relaxed), 1);
    let failure = put(&options).await.expect_err("the first one refuses");
    assert!(
        failure.to_string().starts_with("Error: etcdserver: request timed out\nThe write may"),
        "{failure}"
    );
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_given_up() {
    let (silent, _) = Member::start(Behaviour::Hang).await;
    let options = Options { command_timeout: Duration::from_millis(20), ..options_for(&[&silent]) };
    let failure = put(&options).await.expect_err("nobody answers").to_string();
    assert!(failure.starts_with("Error: context deadline exceeded (no answer within 20ms)"), "{failure}");
    assert!(failure.contains("may have been done"), "{failure}");
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_a_write_unknown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            drop(connection);
        }
    });
    let failure = put(&options_for(&[&address])).await.expect_err("nobody answers").to_string();
    // Whether the end of the connection shows before or after the request is sent is a race.
    let never_connected = failure.starts_with("Error: no endpoint answers");
    assert!(never_connected || failure.contains("may have been done"), "{failure}");
}

#[test]
fn errors_of_etcd_are_shown_as_etcdctl_shows_them() {
    let status = Status::from(ApiError::Compacted);
    let failure = refused("a:1", Kind::Write, &status);
    assert_eq!(failure.to_string(), "Error: etcdserver: mvcc: required revision has been compacted");
    let status = Status::unimplemented("no such call");
    let failure = refused("a:1", Kind::Read, &status);
    assert_eq!(failure.to_string(), "Error: rpc error: code = Unimplemented desc = no such call");
}

#[test]
fn a_write_without_an_answer_is_said_to_be_of_unknown_outcome() {
    for status in [Status::from(ApiError::Timeout), Status::deadline_exceeded("no answer within 5s")] {
        let write = refused("a:1", Kind::Write, &status).to_string();
        assert!(write.contains("may have been done all the same"), "{write}");
        let read = refused("a:1", Kind::Read, &status).to_string();
        assert!(!read.contains("may have been done"), "{read}");
        assert!(read.contains("tenure status --endpoints a:1"), "{read}");
    }
    let definite = refused("a:1", Kind::Write, &Status::from(ApiError::NoLeader)).to_string();
    assert_eq!(definite, "Error: etcdserver: no leader");
}

#[tokio::test]
async fn an_endpoint_that_nobody_listens_on_is_named() {
    let options = options_for(&[NOBODY, "https://127.0.0.1:1"]);
    let failure = request(&options, Kind::Read, async |_| Ok(())).await.expect_err("nobody listens");
    let text = failure.to_string();
    assert!(text.starts_with("Error: no endpoint answers\n  127.0.0.1:1: Connection refused"), "{text}");
    assert!(text.contains("https:// is not supported"), "{text}");
    assert!(text.contains("tenure dev"), "{text}");
}

#[tokio::test]
async fn an_endpoint_without_a_port_is_told_so() {
    for endpoint in
        ["127.0.0.1", "http://localhost/", "127.0.0.1:99999", "127.0.0.1:", "127.0.0.1:0", "unix:/socket"]
    {
        let failure = request(&options_for(&[endpoint]), Kind::Read, async |_| Ok(())).await;
        let text = failure.expect_err(endpoint).to_string();
        assert!(text.contains(&format!("{endpoint}: the port is missing")), "{text}");
    }
}

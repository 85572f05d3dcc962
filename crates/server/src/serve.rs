//! Starts a member, runs it, and stops it in good order.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::{Next, from_fn, map_response};
use axum::response::Response;
use tenure_api::pb::etcdserverpb::cluster_server::ClusterServer;
use tenure_api::pb::etcdserverpb::kv_server::KvServer;
use tenure_api::pb::etcdserverpb::maintenance_server::MaintenanceServer;
use tenure_replica::identity::IdentityError;
use tenure_replica::{RecoveryError, Started};
use tenure_store::Limits;
use tenure_wal::WalError;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};

use crate::client_port::ClientPort;
use crate::clock::Clock;
use crate::cluster::{ClusterService, own_member};
use crate::compaction_hashes::CompactionHashes;
use crate::config::{Config, ConfigError};
use crate::core::{self, Leadership, Surroundings};
use crate::descriptors::{Descriptors, TooFewDescriptors};
use crate::handle::{Handle, Shared};
use crate::heavy::Heavy;
use crate::input::{Input, MAX_WAITING, Stop};
use crate::kv::KvService;
use crate::maintenance::MaintenanceService;
use crate::metrics::Metrics;
use crate::opening::{Opened, find_origin, open, read_flags};
use crate::peer::Peers;
use crate::readiness::{OnPhase, Phase};
use crate::requests::RequestBudget;
use crate::url::Url;
use crate::version::{API_VERSION, VERSION};
use crate::workers::{Ended, LOG_THREAD};
use crate::{deadline, descriptors, grpc, health, http, large, oversize, peer, readiness, requests, workers};

/// How long requests under way may take when the member stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long those that are left may take to hear that it has.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a disk is waited for at the end. What was acknowledged is safe on it.
const DISK_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a member did not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The limit of open files leaves nothing to work with.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    /// The data directory is not this member's.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The data directory cannot be opened.
    #[error(transparent)]
    Disk(#[from] WalError),
    /// The data directory is etcd's.
    #[error(
        "{path} holds the data of an etcd, which Tenure cannot read, and leaves alone: --data-dir takes another \
         directory"
    )]
    EtcdData {
        /// What was found in it.
        path: PathBuf,
    },
    /// The data cannot be recovered.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// An address cannot be listened at.
    #[error(
        "cannot listen for {whom} at {url}: {source}. Is another process running there? --{flag} takes another \
         address"
    )]
    Listen {
        /// Clients or peers.
        whom: &'static str,
        /// The flag that says where.
        flag: &'static str,
        /// The address.
        url: String,
        /// What the system said.
        r#source: io::Error,
    },
    /// A file of the data directory cannot be read or written.
    #[error("cannot {op} {path}: {source}")]
    File {
        /// What was attempted.
        op: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        r#source: io::Error,
    },
    /// The system gives no more threads or randomness.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// What the system said.
        r#source: io::Error,
    },
    /// The disk is full, and nothing was left to give up.
    #[error(
        "there is no room to start, though very little is needed ({why}): free a megabyte on the volume of --data-dir"
    )]
    NoRoom {
        /// What was attempted, and what the system said.
        why: String,
    },
    /// The cluster that is to be joined does not know this member, or cannot be asked.
    #[error("{0}")]
    Join(String),
    /// The member was removed from the cluster: there is nothing that it could go on with.
    #[error(
        "this member has been permanently removed from the cluster; its data in {data_dir} is of no more use, and \
         must be removed before a new member can begin there"
    )]
    Removed {
        /// Where the data is.
        data_dir: PathBuf,
    },
    /// The member ran, and could not go on.
    #[error("{0}")]
    Stopped(String),
}

/// Runs a member until `shutdown` resolves, then hands its leadership over and stops.
pub async fn serve(
    config: Config,
    shutdown: impl Future<Output = ()>,
    on_phase: OnPhase,
) -> Result<(), ServeError> {
    config.check()?;
    let founders = read_flags(&config)?;
    let descriptors = Descriptors::raise()?;
    let clock = Clock::start();
    let peer_listeners = listen(&config.listen_peer_urls, "peers", "listen-peer-urls").await?;
    let client_listeners = listen(&config.listen_client_urls, "clients", "listen-client-urls").await?;
    let origin = find_origin(&config, founders).await?;
    let opened = open(&config, &origin, clock)?;
    let mut running = Running::start(&config, clock, opened, descriptors, peer_listeners)?;
    running.serve_clients(&config, descriptors, client_listeners).await;
    running.announce(&config, on_phase.clone());
    let end = tokio::select! {
        result = &mut running.core => Some(of_core(result)),
        Some(Ended { result, .. }) = running.ended.recv() => Some(of_thread(result, &mut running.core).await),
        () = shutdown => None,
    };
    on_phase(Phase::Stopping);
    running.stop(&config, end).await.map_err(|stop| why_stopped(stop, &config))
}

/// A member that runs: its core, and what has to be told or awaited when it stops.
struct Running {
    core: JoinHandle<Result<(), Stop>>,
    /// Where it runs, with the connections to the peers.
    core_runtime: Runtime,
    inputs: mpsc::Sender<Input>,
    handle: Handle,
    leadership: watch::Receiver<Leadership>,
    /// The ends of its threads.
    ended: mpsc::UnboundedReceiver<Ended>,
    /// What listens to peers, and the like.
    tasks: JoinSet<()>,
    clients: JoinSet<()>,
    stop_clients: watch::Sender<bool>,
}

impl Running {
    fn start(
        config: &Config,
        clock: Clock,
        opened: Opened,
        descriptors: Descriptors,
        peer_listeners: Vec<TcpListener>,
    ) -> Result<Running, ServeError> {
        let Opened { started, gate, pins, member_disk_id, first_members, own_peer_urls } = opened;
        let Started { replica, log, checkpoints, .. } = started;
        let identity = *replica.identity();
        let (inputs, queue) = mpsc::channel(MAX_WAITING);
        let (requests, requested) = mpsc::channel(MAX_WAITING);
        let metrics = Metrics::new(API_VERSION);
        let thread_error = |source| ServeError::Io { what: "cannot start a thread", source };
        let (ends, ended) = mpsc::unbounded_channel();
        let log =
            workers::start_log(log, inputs.clone(), metrics.clone(), ends.clone()).map_err(thread_error)?;
        let checkpoints =
            workers::start_checkpoints(checkpoints, inputs.clone(), ends.clone()).map_err(thread_error)?;
        let apply = workers::start_apply(inputs.clone(), ends.clone()).map_err(thread_error)?;
        let garbage = workers::start_garbage(ends.clone()).map_err(thread_error)?;
        workers::start_pins(pins, ends).map_err(thread_error)?;
        let core_runtime = core_runtime().map_err(thread_error)?;
        let peers = Peers::new(gate.clone(), inputs.clone());
        let mut tasks = JoinSet::new();
        for listener in peer_listeners {
            let accept = peer::accept(listener, descriptors, gate.clone(), inputs.clone());
            tasks.spawn_on(accept, core_runtime.handle());
        }
        let first = Leadership { leader_id: None, raft_term: 0, is_leader: false, is_learner: false };
        let (leadership, leadership_seen) = watch::channel(first);
        let heavy = Heavy::start().map_err(thread_error)?;
        let compaction_hashes = Arc::new(CompactionHashes::new(heavy.clone()));
        let shared = Shared {
            identity,
            limits: Limits { max_txn_ops: config.max_txn_ops },
            max_request_bytes: config.max_request_bytes,
            first_members: first_members.clone(),
            leadership: leadership_seen.clone(),
            metrics: metrics.clone(),
            heavy,
            compaction_hashes: compaction_hashes.clone(),
        };
        let surroundings = Surroundings {
            clock,
            inputs: queue,
            requests: requested,
            inputs_of_core: inputs.clone(),
            log,
            checkpoints,
            apply,
            garbage,
            gate,
            peers,
            first_members,
            leadership,
            metrics,
            compaction_hashes,
        };
        let member = own_member(config, identity.member_id, member_disk_id, own_peer_urls);
        Ok(Running {
            core: core_runtime.spawn(core::run(replica, member, surroundings)),
            core_runtime,
            handle: Handle::new(Arc::new(shared), requests),
            inputs,
            leadership: leadership_seen,
            ended,
            tasks,
            clients: JoinSet::new(),
            stop_clients: watch::channel(false).0,
        })
    }

    async fn serve_clients(
        &mut self,
        config: &Config,
        descriptors: Descriptors,
        listeners: Vec<TcpListener>,
    ) {
        let router = router(&self.handle, config).await;
        let requests = RequestBudget::new(oversize::max_message_bytes(config.max_request_bytes));
        let port = ClientPort::new(router, descriptors.clients, requests, config);
        for listener in listeners {
            self.clients.spawn(port.clone().serve(listener, self.stop_clients.subscribe()));
        }
    }

    /// Tells the log that the member has started, and who waits for it when it may serve.
    fn announce(&mut self, config: &Config, on_phase: OnPhase) {
        let identity = self.handle.shared.identity;
        tracing::info!(
            version = VERSION,
            name = config.name,
            member = format!("{:x}", identity.member_id.as_u64()),
            cluster = format!("{:x}", identity.cluster_id),
            data_dir = %config.data_dir.display(),
            "started"
        );
        let urls = texts(&config.advertise_client_urls);
        self.tasks.spawn(readiness::announce(self.handle.clone(), urls, on_phase));
    }

    /// Stops what still runs: in good order, unless something has ended by itself already.
    async fn stop(mut self, config: &Config, end: Option<Result<(), Stop>>) -> Result<(), Stop> {
        let end = if let Some(end) = end {
            self.core.abort();
            end
        } else {
            self.leave(config).await
        };
        let _ = self.stop_clients.send(true);
        // With the core, everyone who waits for it has heard that it stopped; the answers take a moment.
        let _ = tokio::time::timeout(FAREWELL_TIMEOUT, all(&mut self.clients)).await;
        self.tasks.shutdown().await;
        self.clients.shutdown().await;
        let (mut ended, mut threads) = (BTreeSet::new(), Ok(()));
        let all = all_threads(&mut self.ended, &mut ended, &mut threads);
        if tokio::time::timeout(DISK_TIMEOUT, all).await.is_err() {
            if ended.contains(LOG_THREAD) {
                // It is written whole or does not count, and the log has what it would have held.
                tracing::info!("stopping without waiting for what is under way in the background");
            } else if threads.is_ok() {
                threads = Err("the disk does not answer: stopped without closing the log".to_owned());
            }
        }
        self.core_runtime.shutdown_background();
        end.and(threads.map_err(Stop::Failed))
    }

    /// Hands leadership over and lets what is under way end; then the core stops.
    async fn leave(&mut self, config: &Config) -> Result<(), Stop> {
        hand_over(&self.handle, &mut self.leadership, config).await;
        // Nobody listens any more: that is what was wanted.
        let _ = self.stop_clients.send(true);
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, all(&mut self.clients)).await;
        let _ = self.inputs.send(Input::Stop).await;
        of_core((&mut self.core).await)
    }
}

fn why_stopped(stop: Stop, config: &Config) -> ServeError {
    match stop {
        Stop::Removed => ServeError::Removed { data_dir: config.data_dir.clone() },
        Stop::Failed(why) => ServeError::Stopped(why),
    }
}

/// A thread for the core and its peers alone, on any number of cores: nothing that clients ask for may hold up a
/// heartbeat.
fn core_runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(1).thread_name("core").enable_all().build()
}

/// How the core's task ended.
fn of_core(result: Result<Result<(), Stop>, JoinError>) -> Result<(), Stop> {
    match result {
        Ok(result) => result,
        Err(error) => Err(Stop::Failed(format!("a bug in this program: {error}"))),
    }
}

/// What it means that a thread has ended: it cannot go on, or the core is gone, which then says why.
async fn of_thread(result: Result<(), String>, core: &mut JoinHandle<Result<(), Stop>>) -> Result<(), Stop> {
    match result {
        Ok(()) => of_core(core.await),
        Err(why) => Err(Stop::Failed(why)),
    }
}

async fn all(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}

/// Waits until the threads have ended; says which have, and what the first one had to complain of.
async fn all_threads(
    ends: &mut mpsc::UnboundedReceiver<Ended>,
    ended: &mut BTreeSet<&'static str>,
    result: &mut Result<(), String>,
) {
    while let Some(Ended { name, result: end }) = ends.recv().await {
        tracing::debug!(name, "a thread has ended");
        ended.insert(name);
        if result.is_ok() {
            *result = end;
        }
    }
}

async fn listen(
    urls: &[Url],
    whom: &'static str,
    flag: &'static str,
) -> Result<Vec<TcpListener>, ServeError> {
    let mut listeners = Vec::new();
    for url in urls {
        let error = |source| ServeError::Listen { whom, flag, url: url.to_string(), source };
        let address = url.address().await.map_err(error)?;
        listeners.push(descriptors::listen(address).map_err(error)?);
    }
    Ok(listeners)
}

/// All services of the client port.
async fn router(handle: &Handle, config: &Config) -> axum::Router {
    let max_bytes = oversize::max_message_bytes(config.max_request_bytes);
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let kv = KvServer::new(KvService { handle: handle.clone() }).max_decoding_message_size(max_bytes);
    let transfer_timeout = Duration::from_millis(config.election_timeout_ms * 2);
    let maintenance = MaintenanceServer::new(MaintenanceService { handle: handle.clone(), transfer_timeout });
    let cluster = ClusterServer::new(ClusterService { handle: handle.clone() });
    let encoding = grpc::ENCODING;
    let grpc = tonic::service::Routes::new(kv.accept_compressed(encoding).send_compressed(encoding))
        .add_service(maintenance.accept_compressed(encoding).send_compressed(encoding))
        .add_service(cluster.accept_compressed(encoding).send_compressed(encoding))
        .add_service(health_service.accept_compressed(encoding).send_compressed(encoding));
    let grpc = grpc.prepare().into_axum_router();
    let grpc = grpc.layer(map_response(oversize::in_etcds_words)).layer(from_fn(around));
    let grpc = grpc.layer(map_response(large::unfold));
    grpc.merge(http::router(handle.clone())).merge(health::router(handle.clone())).fallback(http::not_found)
}

/// What is done for each call of gRPC, whatever its service: from the outermost on.
async fn around(request: Request, next: Next) -> Response {
    let run = |request| next.run(request);
    let call = |request| grpc::as_grpc_go(request, run);
    let bounded = |request| requests::bounded(request, call);
    deadline::kept(request, bounded).await
}

/// Gives leadership to another member, if there is one to take it, and waits until it has.
async fn hand_over(handle: &Handle, leadership: &mut watch::Receiver<Leadership>, config: &Config) {
    if !leadership.borrow().is_leader {
        return;
    }
    // Alone there is nobody to hand it to.
    let is_alone =
        async { handle.state().await.is_ok_and(|(_, status)| status.configuration.voters.len() == 1) };
    if is_alone.await {
        return;
    }
    tracing::info!("handing leadership over");
    if let Ok(Ok(())) = handle.transfer(None).await {
        let gone = leadership.wait_for(|leadership| !leadership.is_leader && leadership.leader_id.is_some());
        let timeout = Duration::from_millis(config.election_timeout_ms);
        if tokio::time::timeout(timeout, gone).await.is_err() {
            tracing::warn!("nobody took leadership over in time");
        }
    }
}

fn texts(urls: &[Url]) -> String {
    urls.iter().map(Url::to_string).collect::<Vec<_>>().join(",")
}

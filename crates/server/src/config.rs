//! What a member is started with, checked.
//!
//! The names are those of etcd's flags. How they come from a command line or an environment is the
//! binary's business.

use std::path::PathBuf;
use std::time::Duration;

use tenure_api::peer::MAX_FRAME_BYTES;
use tenure_wal::MAX_BATCH_BYTES;

use crate::url::Url;

/// What a command may be longer than the request that it comes from.
pub(crate) const COMMAND_SLACK_BYTES: usize = 16 << 20;

/// The settings of a member.
#[derive(Clone, Debug)]
pub struct Config {
    /// The member's name, by which it finds itself in `initial_cluster`.
    pub name: String,
    /// Where it keeps its data.
    pub data_dir: PathBuf,
    /// Where it listens for clients.
    pub listen_client_urls: Vec<Url>,
    /// Where it listens for the other members.
    pub listen_peer_urls: Vec<Url>,
    /// What clients are told.
    pub advertise_client_urls: Vec<Url>,
    /// What the other members are told; etcd's default if nothing was said.
    pub initial_advertise_peer_urls: Option<Vec<Url>>,
    /// The members of a new cluster and their peer URLs, as they were written; this member alone if nothing was. It
    /// is read by a member that begins: to one that has begun it says nothing, so neither can it be wrong there.
    pub initial_cluster: Option<String>,
    /// Tells apart clusters that would otherwise have the same ids; etcd's default if nothing was said.
    pub initial_cluster_token: Option<String>,
    /// Whether the cluster exists already, and knows this member: then it is joined, not made.
    pub is_cluster_existing: bool,
    /// How many learners there may be that wait for somebody to promote them.
    pub max_learners: usize,
    /// How often a leader makes itself heard, in milliseconds.
    pub heartbeat_interval_ms: u64,
    /// How long a follower waits for the leader, in milliseconds.
    pub election_timeout_ms: u64,
    /// The largest request, in bytes.
    pub max_request_bytes: usize,
    /// The most operations of a transaction.
    pub max_txn_ops: usize,
    /// How many requests a client may have under way on one connection.
    pub max_concurrent_streams: u32,
    /// How long a client's connection is silent before the client is asked whether it is there; 0 never asks.
    pub grpc_keepalive_interval: Duration,
    /// How long it may take to answer that; 0 never asks.
    pub grpc_keepalive_timeout: Duration,
    /// After how many entries a checkpoint is taken.
    pub snapshot_count: u64,
    /// How many entries before a checkpoint are kept for followers that are a little behind.
    pub snapshot_catchup_entries: u64,
}

/// Settings that cannot work.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// The member does not find itself.
    #[error(
        "couldn't find local name {name:?} in the initial cluster configuration ({known}): check --name and \
         --initial-cluster"
    )]
    NameNotInCluster {
        /// The name.
        name: String,
        /// The names that are there.
        known: String,
    },
    /// The member would be sought where it is not.
    #[error(
        "--initial-cluster has {name}={in_cluster} but missing from --initial-advertise-peer-urls={advertised}"
    )]
    PeerUrlsDiffer {
        /// The name.
        name: String,
        /// Its URLs in `--initial-cluster`.
        in_cluster: String,
        /// Its URLs in `--initial-advertise-peer-urls`.
        advertised: String,
    },
    /// Two members at one address.
    #[error("--initial-cluster names {url} twice: every member needs a peer URL of its own")]
    DuplicateUrl {
        /// The address.
        url: String,
    },
    /// It cannot be read.
    #[error("--initial-cluster: {0}")]
    InitialCluster(String),
    /// A flag that needs a value has none.
    #[error("--{flag} must not be empty")]
    Empty {
        /// The flag.
        flag: &'static str,
    },
    /// Followers would campaign between two heartbeats.
    #[error(
        "--election-timeout[{election_timeout_ms}ms] should be at least as 5 times as \
         --heartbeat-interval[{heartbeat_interval_ms}ms]"
    )]
    ElectionTooShort {
        /// The election timeout.
        election_timeout_ms: u64,
        /// The heartbeat interval.
        heartbeat_interval_ms: u64,
    },
    /// etcd's bound.
    #[error("--election-timeout[{0}ms] is too long, and should be set less than 50000ms")]
    ElectionTooLong(u64),
    /// A request that would fit into no message between members, and no write of the log.
    #[error("--max-request-bytes={found_bytes} is too large: at most {limit_bytes} are possible")]
    RequestTooLarge {
        /// What was asked for.
        found_bytes: usize,
        /// What is possible.
        limit_bytes: usize,
    },
    /// Clients would be sent to an address where nobody listens.
    #[error("--advertise-client-urls is required when --listen-client-urls is set explicitly")]
    NothingAdvertised,
    /// A bound of zero.
    #[error("--{flag} must be at least 1")]
    Zero {
        /// The flag.
        flag: &'static str,
    },
}

/// Where etcd's peers are when nothing is said.
const DEFAULT_PEER_URL: &str = "http://localhost:2380";
/// etcd's token when nothing is said.
const DEFAULT_TOKEN: &str = "etcd-cluster";
const MAX_ELECTION_TIMEOUT_MS: u64 = 50_000;
/// With what its encoding adds, a request of this size is a command that fits into a frame.
const MAX_REQUEST_BYTES: usize = 32 << 20;
const _: () = assert!(MAX_REQUEST_BYTES + COMMAND_SLACK_BYTES < MAX_FRAME_BYTES);
const _: () = assert!(((MAX_REQUEST_BYTES + COMMAND_SLACK_BYTES) as u64) < MAX_BATCH_BYTES);

impl Config {
    /// Checks that the settings fit together.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Config { heartbeat_interval_ms, election_timeout_ms, .. } = *self;
        for (flag, value) in [
            ("heartbeat-interval", heartbeat_interval_ms),
            ("max-request-bytes", self.max_request_bytes as u64),
            ("max-txn-ops", self.max_txn_ops as u64),
            ("snapshot-count", self.snapshot_count),
        ] {
            if value == 0 {
                return Err(ConfigError::Zero { flag });
            }
        }
        // Clients take a member without a name for one that has not started.
        if self.name.is_empty() {
            return Err(ConfigError::Empty { flag: "name" });
        }
        if heartbeat_interval_ms.saturating_mul(5) > election_timeout_ms {
            return Err(ConfigError::ElectionTooShort { election_timeout_ms, heartbeat_interval_ms });
        }
        if self.max_request_bytes > MAX_REQUEST_BYTES {
            let (found_bytes, limit_bytes) = (self.max_request_bytes, MAX_REQUEST_BYTES);
            return Err(ConfigError::RequestTooLarge { found_bytes, limit_bytes });
        }
        if election_timeout_ms > MAX_ELECTION_TIMEOUT_MS {
            return Err(ConfigError::ElectionTooLong(election_timeout_ms));
        }
        for (flag, urls) in [
            ("listen-client-urls", &self.listen_client_urls),
            ("listen-peer-urls", &self.listen_peer_urls),
            ("advertise-client-urls", &self.advertise_client_urls),
        ] {
            if urls.is_empty() {
                return Err(ConfigError::Empty { flag });
            }
        }
        Ok(())
    }

    /// What the other members are told.
    pub(crate) fn advertised_peer_urls(&self) -> Vec<Url> {
        let default = || vec![DEFAULT_PEER_URL.parse().expect("the default is a URL")];
        self.initial_advertise_peer_urls.clone().unwrap_or_else(default)
    }

    /// The cluster's token.
    pub(crate) fn token(&self) -> &str {
        self.initial_cluster_token.as_deref().unwrap_or(DEFAULT_TOKEN)
    }
}

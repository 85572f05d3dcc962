//! What a member is started with, checked.
//!
//! The names are those of etcd's flags. How they come from a command line or an environment is the
//! binary's business.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use sha1::{Digest, Sha1};
use tenure_api::peer::MAX_FRAME_BYTES;
use tenure_raft::NodeId;
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
    /// What the other members are told.
    pub initial_advertise_peer_urls: Vec<Url>,
    /// The members of a new cluster and their peer URLs.
    pub initial_cluster: BTreeMap<String, Vec<Url>>,
    /// Tells apart clusters that would otherwise have the same ids.
    pub initial_cluster_token: String,
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
    /// A bound of zero.
    #[error("--{flag} must be at least 1")]
    Zero {
        /// The flag.
        flag: &'static str,
    },
}

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
            ("initial-advertise-peer-urls", &self.initial_advertise_peer_urls),
        ] {
            if urls.is_empty() {
                return Err(ConfigError::Empty { flag });
            }
        }
        self.check_cluster()
    }

    fn check_cluster(&self) -> Result<(), ConfigError> {
        let Some(own) = self.initial_cluster.get(&self.name) else {
            let known = self.initial_cluster.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(ConfigError::NameNotInCluster { name: self.name.clone(), known });
        };
        if sorted(own) != sorted(&self.initial_advertise_peer_urls) {
            return Err(ConfigError::PeerUrlsDiffer {
                name: self.name.clone(),
                in_cluster: join(own),
                advertised: join(&self.initial_advertise_peer_urls),
            });
        }
        let mut all: Vec<String> = self.initial_cluster.values().flatten().map(Url::to_string).collect();
        all.sort();
        match all.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(ConfigError::DuplicateUrl { url: pair[0].clone() }),
            None => Ok(()),
        }
    }

    /// The ids of the first members, with their names.
    pub fn first_members(&self) -> BTreeMap<NodeId, String> {
        let id = |urls: &[Url]| member_id(urls, &self.initial_cluster_token);
        self.initial_cluster.iter().map(|(name, urls)| (id(urls), name.clone())).collect()
    }

    /// This member's id in a new cluster.
    pub fn member_id(&self) -> NodeId {
        member_id(&self.initial_advertise_peer_urls, &self.initial_cluster_token)
    }

    /// A new cluster's id: the same on every member without a word exchanged, as in etcd.
    pub fn cluster_id(&self) -> u64 {
        let mut hash = Sha1::new();
        for id in self.first_members().keys() {
            hash.update(id.as_u64().to_be_bytes());
        }
        first_word(&hash.finalize())
    }
}

/// etcd's member id: a hash of the sorted peer URLs and the cluster's token.
fn member_id(urls: &[Url], token: &str) -> NodeId {
    let mut hash = Sha1::new();
    for url in sorted(urls) {
        hash.update(url);
    }
    hash.update(token);
    // Zero, which means "none", comes up once in 2^64.
    NodeId::new(first_word(&hash.finalize()).max(1)).expect("not zero")
}

fn first_word(digest: &[u8]) -> u64 {
    u64::from_be_bytes(digest[..8].try_into().expect("a SHA-1 digest has 20 bytes"))
}

fn sorted(urls: &[Url]) -> Vec<String> {
    let mut texts: Vec<String> = urls.iter().map(Url::to_string).collect();
    texts.sort();
    texts
}

fn join(urls: &[Url]) -> String {
    sorted(urls).join(",")
}

//! The flags of `serve`: etcd's names, defaults and texts; from them, the settings of a member.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use tenure_server::{Config, ConfigError, Url};

use super::go;

/// Where etcd listens for clients and peers when nothing is said.
const DEFAULT_CLIENT_URL: &str = "http://localhost:2379";
const DEFAULT_PEER_URL: &str = "http://localhost:2380";
/// etcd has no bound. Clients keep to this one by themselves: they open the next stream when another ends.
const DEFAULT_CONCURRENT_STREAMS: u32 = 1 << 16;

const DEFAULT_SNAPSHOT_COUNT: u64 = 10_000;
const DEFAULT_CATCHUP_ENTRIES: u64 = 5_000;

/// `tenure serve`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServeArguments {
    /// Name of this member, under which --initial-cluster lists it
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) name: String,
    /// Where this member keeps its data [default: NAME.tenure]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where to listen for clients, separated by commas [default: http://localhost:2379]
    #[arg(long, value_name = "URLS")]
    listen_client_urls: Option<Urls>,
    /// What clients are told to connect to; needed when --listen-client-urls is set [default: http://localhost:2379]
    #[arg(long, value_name = "URLS")]
    advertise_client_urls: Option<Urls>,
    /// Where to listen for the other members
    #[arg(long, value_name = "URLS", default_value = DEFAULT_PEER_URL)]
    listen_peer_urls: Urls,
    /// What the other members connect to, said when it begins [default: http://localhost:2380]
    #[arg(long, value_name = "URLS")]
    initial_advertise_peer_urls: Option<Urls>,
    /// All members of a new cluster, the same on each of them: name=url,name=url [default: this member alone]
    #[arg(long, value_name = "MEMBERS")]
    initial_cluster: Option<String>,
    /// Tells clusters apart that would otherwise look alike [default: etcd-cluster]
    #[arg(long, value_name = "TOKEN")]
    initial_cluster_token: Option<String>,
    /// Whether the cluster is new, or exists and knows this member by its peer URLs (see `member add`)
    #[arg(long, value_name = "STATE", default_value = "new")]
    initial_cluster_state: ClusterState,
    /// Most learners that wait to be promoted
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    max_learners: usize,
    /// How often a leader makes itself heard, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 100)]
    heartbeat_interval: u64,
    /// How long a follower waits for the leader, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    election_timeout: u64,
    /// Take a checkpoint after this many entries
    #[arg(long, value_name = "ENTRIES", default_value_t = DEFAULT_SNAPSHOT_COUNT)]
    snapshot_count: u64,
    /// Keep this many entries before a checkpoint, for members that are a little behind
    #[arg(long, value_name = "ENTRIES", default_value_t = DEFAULT_CATCHUP_ENTRIES)]
    snapshot_catchup_entries: u64,
    /// Largest request to take, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1_572_864)]
    max_request_bytes: usize,
    /// Most operations in one transaction
    #[arg(long, value_name = "COUNT", default_value_t = 128)]
    max_txn_ops: usize,
    /// Most requests that a client may have under way on one connection
    #[arg(long, value_name = "COUNT", default_value_t = DEFAULT_CONCURRENT_STREAMS)]
    max_concurrent_streams: u32,
    /// How long a client's connection may be silent before the client is asked whether it is there; 0 never asks
    #[arg(long, value_name = "DURATION", default_value = "2h", value_parser = keepalive)]
    grpc_keepalive_interval: Duration,
    /// How long a client may take to answer that, before its connection is closed; 0 never asks
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = keepalive)]
    grpc_keepalive_timeout: Duration,
    /// How the log on standard error is written
    #[arg(long, value_name = "FORMAT", default_value = "console")]
    pub(crate) log_format: LogFormat,
    /// What is worth a line in the log
    #[arg(long, value_name = "LEVEL", default_value = "info", ignore_case = true)]
    pub(crate) log_level: LogLevel,
    /// Threads that serve requests; 1 is best on two cores [default: half the cores]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) worker_threads: Option<u16>,
    /// Stop when standard input is closed: `dev` holds the other end, so no member outlives it
    #[arg(long, hide = true)]
    pub(crate) stop_with_stdin: bool,
    /// What the parser had to say, to be logged once there is a log.
    #[arg(skip)]
    pub(crate) warnings: Vec<String>,
}

/// A duration as Go reads it. What is not above zero turns the pings off, as in etcd.
fn keepalive(text: &str) -> Result<Duration, String> {
    let ns = go::duration_ns(text).ok_or_else(|| format!("invalid duration {text:?}"))?;
    Ok(Duration::from_nanos(u64::try_from(ns).unwrap_or(0)))
}

impl ServeArguments {
    /// The settings that the flags stand for, or which flag is missing.
    pub(crate) fn config(&self) -> Result<Config, ConfigError> {
        // Else clients would be sent to an address where nobody listens.
        if self.listen_client_urls.is_some() && self.advertise_client_urls.is_none() {
            return Err(ConfigError::NothingAdvertised);
        }
        let client_urls = |urls: &Option<Urls>| urls.as_ref().map_or_else(Vec::new, |urls| urls.0.clone());
        // No URL leaves the default where it is.
        let or_url = |urls: Vec<Url>, default: &str| {
            if urls.is_empty() { vec![default.parse().expect("the default is a URL")] } else { urls }
        };
        // In etcd zero stands for the default, as in a configuration where nothing is said.
        let or_default = |entries, default| if entries == 0 { default } else { entries };
        Ok(Config {
            name: self.name.clone(),
            data_dir: match self.data_dir.as_deref() {
                None | Some("") => format!("{}.tenure", self.name).into(),
                Some(folder) => folder.into(),
            },
            listen_client_urls: or_url(client_urls(&self.listen_client_urls), DEFAULT_CLIENT_URL),
            listen_peer_urls: or_url(self.listen_peer_urls.0.clone(), DEFAULT_PEER_URL),
            advertise_client_urls: or_url(client_urls(&self.advertise_client_urls), DEFAULT_CLIENT_URL),
            initial_advertise_peer_urls: self
                .initial_advertise_peer_urls
                .as_ref()
                .map(|urls| or_url(urls.0.clone(), DEFAULT_PEER_URL)),
            initial_cluster: self.initial_cluster.clone(),
            initial_cluster_token: self.initial_cluster_token.clone(),
            is_cluster_existing: self.initial_cluster_state == ClusterState::Existing,
            max_learners: self.max_learners,
            heartbeat_interval_ms: self.heartbeat_interval,
            election_timeout_ms: self.election_timeout,
            max_request_bytes: self.max_request_bytes,
            max_txn_ops: self.max_txn_ops,
            max_concurrent_streams: self.max_concurrent_streams,
            grpc_keepalive_interval: self.grpc_keepalive_interval,
            grpc_keepalive_timeout: self.grpc_keepalive_timeout,
            snapshot_count: or_default(self.snapshot_count, DEFAULT_SNAPSHOT_COUNT),
            snapshot_catchup_entries: or_default(self.snapshot_catchup_entries, DEFAULT_CATCHUP_ENTRIES),
        })
    }
}

/// Several URLs, separated by commas: in order, and each once. Nothing stands for the default, as in etcd.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Urls(Vec<Url>);

impl FromStr for Urls {
    type Err = String;

    fn from_str(text: &str) -> Result<Urls, String> {
        if text.is_empty() {
            return Ok(Urls(Vec::new()));
        }
        let parse = |url: &str| url.parse::<Url>().map_err(|error| error.to_string());
        let urls: BTreeSet<Url> = text.split(',').map(parse).collect::<Result<_, _>>()?;
        Ok(Urls(urls.into_iter().collect()))
    }
}

/// `--initial-cluster-state`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum ClusterState {
    New,
    Existing,
}

/// `--log-format`: lines for people, or one JSON object a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    #[value(alias = "")]
    Console,
    Json,
}

/// `--log-level`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl ValueEnum for LogLevel {
    fn value_variants<'a>() -> &'a [LogLevel] {
        &[LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            LogLevel::Trace => PossibleValue::new("trace"),
            LogLevel::Debug => PossibleValue::new("debug"),
            // Nothing said is etcd's default, too.
            LogLevel::Info => PossibleValue::new("info").alias(""),
            LogLevel::Warn => PossibleValue::new("warn").alias("warning"),
            // etcd has three above; here errors are the highest there is.
            LogLevel::Error => PossibleValue::new("error").aliases(["dpanic", "panic", "fatal"]),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use clap::{Command, FromArgMatches};

    use super::*;

    fn arguments(words: &str) -> Result<ServeArguments, clap::Error> {
        let command = ServeArguments::augment_args(Command::new("serve").no_binary_name(true));
        ServeArguments::from_arg_matches(&command.try_get_matches_from(words.split_whitespace())?)
    }

    fn config(words: &str) -> Config {
        arguments(words).expect("arguments").config().expect("a configuration")
    }

    fn texts(urls: &[Url]) -> Vec<String> {
        urls.iter().map(Url::to_string).collect()
    }

    #[test]
    fn without_flags_a_member_is_a_cluster_of_its_own_with_etcds_defaults() {
        let config = config("");
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.name, "default");
        assert_eq!(config.data_dir, PathBuf::from("default.tenure"));
        assert_eq!(texts(&config.listen_client_urls), [DEFAULT_CLIENT_URL]);
        assert_eq!(config.initial_cluster, None);
        assert_eq!((config.heartbeat_interval_ms, config.election_timeout_ms), (100, 1000));
        assert_eq!((config.max_request_bytes, config.max_txn_ops), (1_572_864, 128));
        assert_eq!((config.snapshot_count, config.snapshot_catchup_entries), (10_000, 5_000));
        let hours = Duration::from_hours;
        let keepalive = (config.grpc_keepalive_interval, config.grpc_keepalive_timeout);
        assert_eq!(keepalive, (hours(2), Duration::from_secs(20)));
    }

    #[test]
    fn urls_are_a_set() {
        let config = config("--listen-peer-urls http://10.0.0.2:1,http://10.0.0.1:1,http://10.0.0.2:1");
        assert_eq!(texts(&config.listen_peer_urls), ["http://10.0.0.1:1", "http://10.0.0.2:1"]);
    }

    #[test]
    fn zero_stands_for_a_default_where_it_does_in_etcd() {
        let config = config("--snapshot-count 0 --snapshot-catchup-entries 0 --data-dir=");
        assert_eq!((config.snapshot_count, config.snapshot_catchup_entries), (10_000, 5_000));
        assert_eq!(config.data_dir, PathBuf::from("default.tenure"));
    }

    #[test]
    fn clients_must_be_told_an_address_when_the_default_is_not_listened_at() {
        let arguments = arguments("--listen-client-urls http://0.0.0.0:2379").expect("arguments");
        let error = arguments.config().expect_err("nothing advertised");
        assert_eq!(error, ConfigError::NothingAdvertised);
    }

    #[test]
    fn values_that_are_none_are_refused() {
        for words in [
            "--listen-peer-urls foo:1",
            "--listen-peer-urls http://h:1,",
            "--initial-cluster-state old",
            "--heartbeat-interval x",
            "--heartbeat-interval -1",
            "--max-txn-ops 1.5",
            "--log-format xml",
            "--log-level loud",
            "--worker-threads 0",
        ] {
            assert!(arguments(words).is_err(), "{words}");
        }
    }
}

//! The flags of etcd 3.7, with the forms of their values, and what becomes of those that Tenure does not have itself.
//!
//! A flag that changes nothing here is accepted, so that manifests go on working; its value is checked all the same,
//! since a typing error is one with either server. A flag that promises something which is not kept yet (encryption,
//! quotas, authentication) is refused with any value that asks for it: a member that starts without them would be worse
//! than one that does not start. With a value that asks for nothing, or for what is so anyway, it is accepted.

use super::go;

/// A flag of etcd.
pub(crate) struct EtcdFlag {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) effect: Effect,
}

/// How a value is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Needs no value, and takes one only behind a `=`.
    Bool,
    /// The same, whatever the value: a flag that etcd itself ignores.
    Anything,
    Text,
    Unsigned {
        bits: u32,
    },
    Signed,
    Duration,
    /// URLs, separated by commas. Nothing leaves what was there before.
    Urls,
    /// One of some words.
    Word(&'static [&'static str]),
    /// Several of some words, separated by commas.
    Words(&'static [&'static str]),
    /// `name=boolean`, separated by commas.
    FeatureGates,
}

/// What a flag does here, unless `serve` has it.
#[derive(Clone, Copy)]
pub(crate) enum Effect {
    /// It is one of ours.
    Ours,
    /// None: it is a setting of how etcd is made, or of something that cannot be asked for.
    None,
    /// None, with a value for which this is true; with any other it is refused.
    NoneIf(fn(&str) -> bool),
}

const fn flag(name: &'static str, kind: Kind, effect: Effect) -> EtcdFlag {
    EtcdFlag { name, kind, effect }
}

const UINT: Kind = Kind::Unsigned { bits: 64 };
const OFF: Effect = Effect::NoneIf(|value| go::boolean(value) == Some(false));
const EMPTY: Effect = Effect::NoneIf(str::is_empty);
const TLS_VERSIONS: &[&str] = &["", "TLS1.2", "TLS1.3"];

/// The flags, in the order of etcd's own list.
pub(crate) const FLAGS: &[EtcdFlag] = &[
    // Member.
    flag("data-dir", Kind::Text, Effect::Ours),
    flag("wal-dir", Kind::Text, EMPTY),
    flag("listen-peer-urls", Kind::Urls, Effect::Ours),
    flag("listen-client-urls", Kind::Urls, Effect::Ours),
    flag("listen-client-http-urls", Kind::Urls, EMPTY),
    flag("listen-metrics-urls", Kind::Urls, EMPTY),
    flag("max-snapshots", UINT, Effect::None),
    flag("max-wals", UINT, Effect::None),
    flag("name", Kind::Text, Effect::Ours),
    flag("snapshot-count", UINT, Effect::Ours),
    flag("heartbeat-interval", UINT, Effect::Ours),
    flag("election-timeout", UINT, Effect::Ours),
    flag("initial-election-tick-advance", Kind::Bool, Effect::None),
    flag("quota-backend-bytes", Kind::Signed, Effect::NoneIf(is_no_quota)),
    flag("backend-bbolt-freelist-type", Kind::Text, Effect::None),
    flag("backend-batch-interval", Kind::Duration, Effect::None),
    flag("backend-batch-limit", Kind::Signed, Effect::None),
    flag("max-txn-ops", UINT, Effect::Ours),
    flag("max-request-bytes", UINT, Effect::Ours),
    flag("grpc-keepalive-min-time", Kind::Duration, Effect::None),
    flag("grpc-keepalive-interval", Kind::Duration, Effect::Ours),
    flag("grpc-keepalive-timeout", Kind::Duration, Effect::Ours),
    flag("socket-reuse-port", Kind::Bool, OFF),
    flag("socket-reuse-address", Kind::Bool, Effect::None),
    flag("max-concurrent-streams", Kind::Unsigned { bits: 32 }, Effect::Ours),
    flag("raft-read-timeout", Kind::Duration, Effect::None),
    flag("raft-write-timeout", Kind::Duration, Effect::None),
    // Clustering.
    flag("initial-advertise-peer-urls", Kind::Urls, Effect::Ours),
    flag("advertise-client-urls", Kind::Urls, Effect::Ours),
    flag("discovery-endpoints", Kind::Text, Effect::NoneIf(|_| false)),
    flag("discovery-token", Kind::Text, EMPTY),
    // These say how to reach a service that only the two above ask for.
    flag("discovery-dial-timeout", Kind::Duration, Effect::None),
    flag("discovery-request-timeout", Kind::Duration, Effect::None),
    flag("discovery-keepalive-time", Kind::Duration, Effect::None),
    flag("discovery-keepalive-timeout", Kind::Duration, Effect::None),
    flag("discovery-insecure-transport", Kind::Bool, Effect::None),
    flag("discovery-insecure-skip-tls-verify", Kind::Bool, Effect::None),
    flag("discovery-cert", Kind::Text, Effect::None),
    flag("discovery-key", Kind::Text, Effect::None),
    flag("discovery-cacert", Kind::Text, Effect::None),
    flag("discovery-user", Kind::Text, Effect::None),
    flag("discovery-password", Kind::Text, Effect::None),
    flag("discovery-fallback", Kind::Word(&["exit", "proxy"]), Effect::NoneIf(|value| value == "exit")),
    flag("discovery-srv", Kind::Text, EMPTY),
    flag("discovery-srv-name", Kind::Text, EMPTY),
    flag("initial-cluster", Kind::Text, Effect::Ours),
    flag("initial-cluster-state", Kind::Word(&["new", "existing"]), Effect::Ours),
    flag("initial-cluster-token", Kind::Text, Effect::Ours),
    flag("strict-reconfig-check", Kind::Bool, Effect::None),
    flag("pre-vote", Kind::Bool, Effect::None),
    // Security.
    flag("cert-file", Kind::Text, EMPTY),
    flag("key-file", Kind::Text, EMPTY),
    flag("client-cert-file", Kind::Text, EMPTY),
    flag("client-key-file", Kind::Text, EMPTY),
    flag("client-cert-auth", Kind::Bool, OFF),
    flag("client-crl-file", Kind::Text, EMPTY),
    flag("client-cert-allowed-hostname", Kind::Text, EMPTY),
    flag("trusted-ca-file", Kind::Text, EMPTY),
    flag("auto-tls", Kind::Bool, OFF),
    flag("peer-cert-file", Kind::Text, EMPTY),
    flag("peer-key-file", Kind::Text, EMPTY),
    flag("peer-client-cert-file", Kind::Text, EMPTY),
    flag("peer-client-key-file", Kind::Text, EMPTY),
    flag("peer-client-cert-auth", Kind::Bool, OFF),
    flag("peer-trusted-ca-file", Kind::Text, EMPTY),
    flag("peer-auto-tls", Kind::Bool, OFF),
    flag("self-signed-cert-validity", UINT, Effect::None),
    flag("peer-crl-file", Kind::Text, EMPTY),
    flag("peer-cert-allowed-cn", Kind::Text, EMPTY),
    flag("peer-cert-allowed-hostname", Kind::Text, EMPTY),
    flag("cipher-suites", Kind::Text, EMPTY),
    flag("peer-skip-client-san-verification", Kind::Bool, OFF),
    // Without encryption neither says anything.
    flag("tls-min-version", Kind::Word(TLS_VERSIONS), Effect::None),
    flag("tls-max-version", Kind::Word(TLS_VERSIONS), Effect::None),
    flag("cors", Kind::Text, Effect::NoneIf(|value| value == "*")),
    flag("host-whitelist", Kind::Text, Effect::NoneIf(are_all_hosts)),
    // Logging.
    flag("logger", Kind::Text, Effect::NoneIf(|value| value == "zap")),
    flag("log-outputs", Kind::Text, Effect::NoneIf(is_standard_error)),
    flag("log-level", Kind::Text, Effect::Ours),
    flag("log-format", Kind::Text, Effect::Ours),
    flag("enable-log-rotation", Kind::Bool, OFF),
    flag("log-rotation-config-json", Kind::Text, Effect::None),
    // History.
    flag("auto-compaction-retention", Kind::Text, Effect::NoneIf(is_no_retention)),
    flag("auto-compaction-mode", Kind::Word(&["periodic", "revision"]), Effect::None),
    // What is shown.
    flag("enable-pprof", Kind::Bool, Effect::None),
    flag("metrics", Kind::Text, Effect::None),
    flag("enable-distributed-tracing", Kind::Bool, OFF),
    flag("distributed-tracing-address", Kind::Text, Effect::None),
    flag("distributed-tracing-service-name", Kind::Text, Effect::None),
    flag("distributed-tracing-instance-id", Kind::Text, Effect::None),
    flag("distributed-tracing-sampling-rate", Kind::Signed, Effect::None),
    // Users.
    flag("auth-token", Kind::Text, Effect::NoneIf(|value| ["", "simple"].contains(&value))),
    flag("bcrypt-cost", UINT, Effect::None),
    flag("auth-token-ttl", UINT, Effect::None),
    // The rest.
    flag("enable-grpc-gateway", Kind::Bool, Effect::None),
    flag("corrupt-check-time", Kind::Duration, Effect::None),
    flag("compact-hash-check-time", Kind::Duration, Effect::None),
    flag("compaction-batch-limit", Kind::Signed, Effect::None),
    flag("compaction-sleep-interval", Kind::Duration, Effect::None),
    flag("watch-progress-notify-interval", Kind::Duration, Effect::None),
    flag("downgrade-check-time", Kind::Duration, Effect::None),
    flag("warning-apply-duration", Kind::Duration, Effect::None),
    flag("warning-unary-request-duration", Kind::Duration, Effect::None),
    flag("memory-mlock", Kind::Bool, OFF),
    flag("bootstrap-defrag-threshold-megabytes", UINT, Effect::None),
    flag("max-learners", Kind::Signed, Effect::Ours),
    flag("snapshot-catchup-entries", UINT, Effect::Ours),
    // Every acknowledged write is synced, with or without it.
    flag("unsafe-no-fsync", Kind::Bool, Effect::None),
    flag("force-new-cluster", Kind::Bool, OFF),
    flag("feature-gates", Kind::FeatureGates, Effect::NoneIf(are_no_features)),
    flag("config-file", Kind::Text, EMPTY),
    flag("v2-deprecation", Kind::Words(V2_STAGES), Effect::None),
    flag("version", Kind::Bool, Effect::Ours),
    // What etcd itself ignores.
    flag("cluster-active-size", Kind::Anything, Effect::None),
    flag("cluster-remove-delay", Kind::Anything, Effect::None),
    flag("cluster-sync-interval", Kind::Anything, Effect::None),
    flag("config", Kind::Anything, Effect::None),
    flag("force", Kind::Anything, Effect::None),
    flag("max-result-buffer", Kind::Anything, Effect::None),
    flag("max-retry-attempts", Kind::Anything, Effect::None),
    flag("peer-heartbeat-interval", Kind::Anything, Effect::None),
    flag("peer-election-timeout", Kind::Anything, Effect::None),
    flag("retry-interval", Kind::Anything, Effect::None),
    flag("snapshot", Kind::Anything, Effect::None),
    flag("v", Kind::Anything, Effect::None),
    flag("vv", Kind::Anything, Effect::None),
    flag("test.coverprofile", Kind::Anything, Effect::None),
    flag("test.outputdir", Kind::Anything, Effect::None),
    // What earlier versions of it had.
    flag("experimental-compact-hash-check-enabled", Kind::Bool, Effect::None),
    flag("experimental-compact-hash-check-time", Kind::Duration, Effect::None),
    flag("experimental-compaction-batch-limit", Kind::Signed, Effect::None),
    flag("experimental-corrupt-check-time", Kind::Duration, Effect::None),
    flag("experimental-initial-corrupt-check", Kind::Bool, Effect::None),
    flag("experimental-snapshot-catchup-entries", UINT, Effect::None),
    flag("experimental-warning-apply-duration", Kind::Duration, Effect::None),
    flag("experimental-warning-unary-request-duration", Kind::Duration, Effect::None),
    flag("experimental-watch-progress-notify-interval", Kind::Duration, Effect::None),
];

const V2_STAGES: &[&str] = &["write-only", "write-only-skip-check", "write-only-drop-data", "gone"];

/// The feature gates of etcd 3.7. One of them asks for something that would be seen; the others choose between ways to do
/// the same, or for checks that are made anyway.
const FEATURES: [&str; 11] = [
    "AllAlpha",
    "AllBeta",
    "CompactHashCheck",
    "FastLeaseKeepAlive",
    "InitialCorruptCheck",
    "LeaseCheckpoint",
    "LeaseCheckpointPersist",
    "PriorityRequest",
    LOCAL_ADDRESS,
    "StopGRPCServiceOnDefrag",
    "TxnModeWriteWithSharedBuffer",
];
/// Has peers be spoken to from the address that is advertised to them.
const LOCAL_ADDRESS: &str = "SetMemberLocalAddr";

impl EtcdFlag {
    /// The flag of that name.
    pub(crate) fn named(name: &str) -> Option<&'static EtcdFlag> {
        FLAGS.iter().find(|flag| flag.name == name)
    }

    /// Whether it needs no value, and so takes none from the next word.
    pub(crate) fn is_switch(&self) -> bool {
        matches!(self.kind, Kind::Bool | Kind::Anything)
    }

    /// The value in the one form that we know it in, or why it is none.
    pub(crate) fn read(&self, value: &str) -> Result<String, String> {
        let same = |is_one: bool, why: &str| if is_one { Ok(value.to_owned()) } else { Err(why.to_owned()) };
        match self.kind {
            // Those URLs that mean something here are read by who uses them.
            Kind::Anything | Kind::Text | Kind::Urls => Ok(value.to_owned()),
            Kind::Bool => match go::boolean(value) {
                Some(value) => Ok(value.to_string()),
                None => Err("expected a boolean: true or false, 1 or 0, t or f".to_owned()),
            },
            Kind::Unsigned { bits } => match go::unsigned(value, bits) {
                Some(number) => Ok(number.to_string()),
                None => Err("expected a number that is not negative, and not too large".to_owned()),
            },
            Kind::Signed => match go::signed(value) {
                Some(number) => Ok(number.to_string()),
                None => Err("expected a number".to_owned()),
            },
            Kind::Duration => {
                same(go::duration_ns(value).is_some(), "expected a duration such as 300ms, 1.5h or 2h45m")
            }
            Kind::Word(words) => same(words.contains(&value), &format!("expected one of {words:?}")),
            Kind::Words(words) => same(
                value.split(',').all(|word| words.contains(&word)),
                &format!("expected some of {words:?}"),
            ),
            Kind::FeatureGates => features(value).map(|_| value.to_owned()),
        }
    }
}

/// The features that are named, with whether each is wanted; the last word on each counts.
fn features(text: &str) -> Result<Vec<(&str, bool)>, String> {
    let mut features: Vec<(&str, bool)> = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, value) =
            part.split_once('=').ok_or_else(|| format!("missing bool value for {}", part.trim()))?;
        let (name, value) = (name.trim(), value.trim());
        let value = go::boolean(value).ok_or_else(|| format!("invalid value of {name}={value}"))?;
        if !FEATURES.contains(&name) {
            return Err(format!("unrecognized feature gate: {name}"));
        }
        features.retain(|(known, _)| *known != name);
        features.push((name, value));
    }
    Ok(features)
}

fn are_no_features(text: &str) -> bool {
    let Ok(features) = features(text) else { return false };
    let said = |name: &str| features.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let all = said("AllAlpha").unwrap_or(false);
    let wants = |name: &str| said(name).unwrap_or(all);
    // etcd's own condition is the second one.
    !wants(LOCAL_ADDRESS) && (!wants("LeaseCheckpointPersist") || wants("LeaseCheckpoint"))
}

/// Nothing keeps the state from growing, which is what etcd makes of a negative number; its own bound stands for 0, and
/// for no flag.
fn is_no_quota(value: &str) -> bool {
    go::signed(value).is_some_and(|bytes| bytes <= 0)
}

/// Where the log goes anyway.
fn is_standard_error(value: &str) -> bool {
    let mut outputs: Vec<&str> = value.split(',').collect();
    outputs.dedup();
    // etcd takes its `default` only alone.
    matches!(outputs[..], ["stderr" | "default"])
}

fn are_all_hosts(value: &str) -> bool {
    value.is_empty() || value.split(',').any(|host| host == "*")
}

fn is_no_retention(value: &str) -> bool {
    let is_decimal = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    value.is_empty()
        || (is_decimal && value.bytes().all(|byte| byte == b'0'))
        || go::duration_ns(value) == Some(0)
}

/// What values say together that each alone does not; `value_of` is what a flag was given.
pub(crate) fn contradiction<'a>(value_of: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    let is_positive = |value| go::duration_ns(value).is_none_or(|ns| ns > 0);
    if let Some(value) = value_of("compact-hash-check-time").filter(|value| !is_positive(value)) {
        return Some(format!("--compact-hash-check-time must be >0 (set to {value})"));
    }
    let (min, max) =
        (value_of("tls-min-version").unwrap_or("TLS1.2"), value_of("tls-max-version").unwrap_or(""));
    if !max.is_empty() && min > max {
        return Some(format!("min version ({min}) is greater than max version ({max})"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flag_is_there_twice() {
        let mut names: Vec<_> = FLAGS.iter().map(|flag| flag.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}

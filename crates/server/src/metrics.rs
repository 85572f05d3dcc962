//! The first metrics, under etcd's names, so that its dashboards and alerts work.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tenure_raft::Event;
use tenure_replica::{ReplicaStatus, Reply};

use crate::exposition;

/// etcd's buckets: a millisecond, doubled 13 times.
const FSYNC_BUCKETS: usize = 14;

/// A handle to all metrics.
#[derive(Clone)]
pub(crate) struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    all: All,
}

/// The metrics themselves; the registry knows them by name.
#[derive(Clone)]
struct All {
    has_leader: Gauge,
    is_leader: Gauge,
    leader_changes: Counter,
    proposals_committed: Gauge,
    proposals_applied: Gauge,
    proposals_pending: Gauge,
    proposals_failed: Counter,
    fsync_seconds: Histogram,
    store_bytes: Gauge,
    store_bytes_in_use: Gauge,
    revision: Gauge,
}

impl Metrics {
    pub(crate) fn new(version: &str) -> Metrics {
        let mut registry = Registry::default();
        let fsync_seconds = Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(
            0.001,
            2.0,
            FSYNC_BUCKETS as u16,
        ));
        let metrics = All {
            has_leader: Gauge::default(),
            is_leader: Gauge::default(),
            leader_changes: Counter::default(),
            proposals_committed: Gauge::default(),
            proposals_applied: Gauge::default(),
            proposals_pending: Gauge::default(),
            proposals_failed: Counter::default(),
            fsync_seconds,
            store_bytes: Gauge::default(),
            store_bytes_in_use: Gauge::default(),
            revision: Gauge::default(),
        };
        registry.register("etcd_server_has_leader", "Whether a leader is known", metrics.has_leader.clone());
        registry.register("etcd_server_is_leader", "Whether this member leads", metrics.is_leader.clone());
        registry.register(
            "etcd_server_leader_changes_seen",
            "How often another leader was seen",
            metrics.leader_changes.clone(),
        );
        registry.register(
            "etcd_server_proposals_committed_total",
            "The index of the last committed entry",
            metrics.proposals_committed.clone(),
        );
        registry.register(
            "etcd_server_proposals_applied_total",
            "The index of the last applied entry",
            metrics.proposals_applied.clone(),
        );
        registry.register(
            "etcd_server_proposals_pending",
            "Clients' writes that wait to be committed",
            metrics.proposals_pending.clone(),
        );
        registry.register(
            "etcd_server_proposals_failed",
            "Clients' requests that were not answered in time or not taken",
            metrics.proposals_failed.clone(),
        );
        registry.register(
            "etcd_disk_wal_fsync_duration_seconds",
            "How long writes of the log take, with their sync",
            metrics.fsync_seconds.clone(),
        );
        registry.register(
            "etcd_mvcc_db_total_size_in_bytes",
            "What the store takes in memory, about",
            metrics.store_bytes.clone(),
        );
        registry.register(
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            "The same: there is nothing to defragment",
            metrics.store_bytes_in_use.clone(),
        );
        registry.register(
            "etcd_debugging_mvcc_current_revision",
            "The store's revision",
            metrics.revision.clone(),
        );
        let server_version = Family::<Vec<(&'static str, String)>, Gauge>::default();
        server_version.get_or_create(&vec![("server_version", version.to_owned())]).set(1);
        registry.register("etcd_server_version", "The version of the server", server_version);
        Metrics { inner: Arc::new(Inner { registry, all: metrics }) }
    }

    pub(crate) fn on_event(&self, event: &Event) {
        if matches!(event, Event::BecameLeader { .. } | Event::BecameFollower { leader_id: Some(_), .. }) {
            self.inner.all.leader_changes.inc();
        }
    }

    pub(crate) fn on_reply(&self, reply: &Reply) {
        if let Reply::Failed(_) = reply {
            self.inner.all.proposals_failed.inc();
        }
    }

    pub(crate) fn on_fsync(&self, duration: Duration) {
        self.inner.all.fsync_seconds.observe(duration.as_secs_f64());
    }

    /// All metrics as text, with the gauges as `status` has them.
    pub(crate) fn text(&self, status: &ReplicaStatus) -> String {
        let set = |gauge: &Gauge, value: u64| gauge.set(value as i64);
        set(&self.inner.all.has_leader, u64::from(status.raft.leader_id.is_some()));
        set(&self.inner.all.is_leader, u64::from(status.raft.leader_id == Some(status.raft.id)));
        set(&self.inner.all.proposals_committed, status.raft.commit_index.0);
        set(&self.inner.all.proposals_applied, status.raft.last_applied.0);
        set(&self.inner.all.proposals_pending, status.pending_writes as u64);
        set(&self.inner.all.revision, status.revision as u64);
        set(&self.inner.all.store_bytes, status.store_bytes);
        set(&self.inner.all.store_bytes_in_use, status.store_bytes);
        self.exposition()
    }

    /// All metrics as text, with the gauges as they were set last.
    pub(crate) fn exposition(&self) -> String {
        exposition::text(&self.inner.registry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::tests::families;

    #[test]
    fn the_metrics_of_a_member_keep_the_rules_of_the_format_and_have_etcds_names_and_types() {
        let text = Metrics::new("3.7.3").exposition();
        let families = families(&text);
        for family in [
            ("etcd_server_has_leader", "gauge"),
            ("etcd_server_is_leader", "gauge"),
            ("etcd_server_leader_changes_seen_total", "counter"),
            ("etcd_server_proposals_committed_total", "gauge"),
            ("etcd_server_proposals_failed_total", "counter"),
            ("etcd_disk_wal_fsync_duration_seconds", "histogram"),
            ("etcd_server_version", "gauge"),
        ] {
            assert!(families.contains(&family), "{family:?} is not in {families:?}");
        }
        assert!(text.contains("\netcd_server_version{server_version=\"3.7.3\"} 1\n"), "{text}");
        assert!(text.contains("\netcd_server_leader_changes_seen_total 0\n"), "{text}");
        assert!(!text.contains("EOF"), "{text}");
    }
}

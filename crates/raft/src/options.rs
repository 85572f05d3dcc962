//! What can be set, with the bounds that every queue has.

/// Settings of a [`Node`](crate::Node). Durations are in microseconds, sizes in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// How long a follower waits for a leader at least (SOURCES E1). Also how long a leader goes on without
    /// answers from a quorum, and how long a voter refuses others after it heard a leader.
    pub election_timeout_us: u64,
    /// How much longer than that it waits at the most. Each wait is drawn anew, so that split votes are
    /// rare (paper §5.2): much longer than an election takes, or the second begins before the first has
    /// ended (SOURCES E5).
    pub election_spread_us: u64,
    /// How often a leader makes itself heard. Much less than the election timeout (SOURCES E6).
    pub heartbeat_interval_us: u64,
    /// After its connection to the leader broke, a follower asks for an election within this time.
    pub broken_connection_spread_us: u64,
    /// A leader whose own disk has not finished a write for this long steps down.
    pub disk_stall_timeout_us: u64,
    /// The most bytes of entries in one AppendEntries (one entry may be larger).
    pub max_append_bytes: usize,
    /// How many appends may be under way to one follower.
    pub max_inflight_messages: usize,
    /// How many bytes of appends may be under way to one follower at the most. How many are is measured: what
    /// the way to it carries in two round trips.
    pub max_inflight_bytes: usize,
    /// How many bytes of its entries a leader keeps uncommitted before it refuses more.
    pub max_uncommitted_bytes: usize,
    /// The largest command.
    pub max_command_bytes: usize,
    /// How many bytes are given out to be applied at a time.
    pub max_apply_bytes: usize,
    /// How many bytes of applied entries stay in memory for followers that are a little behind.
    pub max_recent_bytes: usize,
    /// How many bytes of appends that arrived before their predecessors a follower keeps.
    pub max_early_bytes: usize,
    /// The size of a snapshot's chunks.
    pub snapshot_chunk_bytes: usize,
    /// How many reads may wait for confirmation.
    pub max_waiting_reads: usize,
}

impl Default for Options {
    /// etcd's timeouts (1 s and 100 ms), and bounds for a server that shares its machine.
    fn default() -> Options {
        Options {
            election_timeout_us: 1_000_000,
            election_spread_us: 1_000_000,
            heartbeat_interval_us: 100_000,
            broken_connection_spread_us: 20_000,
            disk_stall_timeout_us: 2_000_000,
            max_append_bytes: 1 << 20,
            max_inflight_messages: 1024,
            max_inflight_bytes: 512 << 20,
            max_uncommitted_bytes: 64 << 20,
            max_command_bytes: 2 << 20,
            max_apply_bytes: 4 << 20,
            max_recent_bytes: 32 << 20,
            max_early_bytes: 4 << 20,
            snapshot_chunk_bytes: 256 << 10,
            max_waiting_reads: 1 << 16,
        }
    }
}

impl Options {
    /// What is wrong with the settings, if anything.
    pub fn check(&self) -> Result<(), OptionsError> {
        if self.heartbeat_interval_us == 0 || self.heartbeat_interval_us * 2 > self.election_timeout_us {
            return Err(OptionsError::HeartbeatTooSlow);
        }
        let bounds = [
            self.max_append_bytes,
            self.max_inflight_messages,
            self.max_inflight_bytes,
            self.max_uncommitted_bytes,
            self.max_command_bytes,
            self.max_apply_bytes,
            self.snapshot_chunk_bytes,
            self.max_waiting_reads,
        ];
        if bounds.contains(&0) { Err(OptionsError::ZeroBound) } else { Ok(()) }
    }

    /// How long a follower may answer nothing of what was sent to it before it is asked how far it has come.
    pub(crate) fn retransmit_after_us(&self) -> u64 {
        (3 * self.heartbeat_interval_us).max(self.election_timeout_us / 2)
    }
}

/// Settings that cannot work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OptionsError {
    /// Followers would campaign between two heartbeats.
    #[error("the heartbeat interval must not be zero, nor more than half of the election timeout")]
    HeartbeatTooSlow,
    /// A bound of zero would block for ever.
    #[error("bounds must not be zero")]
    ZeroBound,
}

//! What can be set.

/// Settings of a [`Replica`](crate::Replica). Durations are in microseconds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The settings of consensus.
    pub raft: tenure_raft::Options,
    /// After this a request is answered, be it that nothing is known of it.
    pub request_timeout_us: u64,
    /// The question that reads wait for is asked again if the leader has not answered it after this.
    pub read_retry_us: u64,
    /// When none of the forwarded writes has come to an end for this long, the leader is asked which of them it
    /// lacks; the wait is doubled each time. A change of the members is asked for again after it. Each is executed
    /// once all the same.
    pub forward_repeat_us: u64,
    /// How many bytes of forwarded writes may be under way to the leader (one write more is let in).
    pub max_forwarded_bytes: usize,
    /// A write that the leader refused is offered again after this.
    pub forward_retry_us: u64,
    /// How many members may be learners until somebody promotes them. (etcd's bound; each costs the leader as much
    /// as a voter.)
    pub max_learners: usize,
    /// How many requests may wait; more are refused.
    pub max_requests: usize,
    /// The most bytes of forwarded writes in one message (one write may be larger).
    pub max_forward_bytes: usize,
    /// A command that touches more keys than this is executed by a worker.
    pub max_inline_keys: usize,
    /// The most bytes of entries in one write to the log (one entry may be larger).
    pub max_write_bytes: usize,
    /// A checkpoint is taken after this many entries…
    pub checkpoint_entries: u64,
    /// …or this many bytes of entries, whichever comes first.
    pub checkpoint_bytes: u64,
    /// A checkpoint is written anew when the files of the last one hold more than twice what is alive, and this many
    /// bytes more.
    pub max_dead_checkpoint_bytes: u64,
    /// While a checkpoint is on its way to a follower, the next one waits until the log has grown by this many times as
    /// much as would have been enough: both would be slower.
    pub max_checkpoint_delay: u64,
    /// So much of the room that is kept for the next checkpoint is for what is written while clients' puts are refused:
    /// deletes, and what was under way.
    pub reserve_bytes: u64,
    /// How often a member looks whether a disk that was short of room still is, and says so to the others.
    pub room_retry_us: u64,
    /// How often a leader tells all members what each of them has of the log.
    pub acknowledged_us: u64,
    /// This many entries before a checkpoint stay in the log, for followers that are a little behind…
    pub catch_up_entries: u64,
    /// …but no more than this many bytes of them.
    pub catch_up_bytes: u64,
    /// What a follower that answers needs of the log stays, too, that of one which is being sent a checkpoint from
    /// there on: as much as twice the state, but no more than this many bytes. (Otherwise a follower that takes longer
    /// to be sent a checkpoint than two of them are apart would never catch up.)
    pub max_held_log_bytes: u64,
}

impl Options {
    /// For how long a member must have been without a leader before it hears who is no member as far as it knows.
    /// Elections take less, so this is for a member that is so far behind that all it knows are gone.
    pub(crate) fn stranger_patience_us(&self) -> u64 {
        4 * self.raft.election_timeout_us
    }
}

impl Options {
    /// How exactly the log is weighed.
    pub(crate) fn log_mark_bytes(&self) -> u64 {
        const LEAST_BYTES: u64 = 256;
        (self.max_held_log_bytes / 4_096).min(self.catch_up_bytes / 64).max(LEAST_BYTES)
    }

    /// How much of the log stays for a follower, beside a state of so many bytes: more would take longer to be sent
    /// than the state.
    pub(crate) fn held_log_bytes(&self, state_bytes: u64) -> u64 {
        state_bytes.saturating_mul(2).max(self.checkpoint_bytes).min(self.max_held_log_bytes)
    }
}

impl Default for Options {
    /// etcd's values where it has them: 7 s (5 s and two election timeouts), a checkpoint every 10,000
    /// entries, 5,000 entries kept. The log of a follower that needs it may grow to 1 GiB.
    fn default() -> Options {
        Options {
            raft: tenure_raft::Options::default(),
            request_timeout_us: 7_000_000,
            read_retry_us: 500_000,
            forward_repeat_us: 500_000,
            max_forwarded_bytes: 16 << 20,
            forward_retry_us: 10_000,
            max_learners: 1,
            max_requests: 1 << 16,
            max_forward_bytes: 1 << 20,
            max_inline_keys: 256,
            max_write_bytes: 8 << 20,
            checkpoint_entries: 10_000,
            checkpoint_bytes: 64 << 20,
            max_dead_checkpoint_bytes: 1 << 20,
            max_checkpoint_delay: 8,
            reserve_bytes: 16 << 20,
            room_retry_us: 1_000_000,
            acknowledged_us: 1_000_000,
            catch_up_entries: 5_000,
            catch_up_bytes: 64 << 20,
            max_held_log_bytes: 1 << 30,
        }
    }
}

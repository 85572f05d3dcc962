//! Resources: every queue has a bound, at every moment; and where nothing goes wrong no more is said than has to be
//! (a budget of messages, as the course on which many learn Raft checks it: MIT 6.824, "RPC byte count").
//!
//! What waits inside of the core is bounded by the invariants of `tenure-raft`.

use tenure_raft::Node;
use tenure_replica::{Options, ReplicaStatus};

use super::{Verdict, require};

const JUDGE: &str = "resources";
const CALM: &str = "calm";
/// How many checkpoints may be taken of what was durable when a disk began to stand still.
const MAX_COMPACTIONS: usize = 32;
/// How many entries to one follower may be on their way when leadership is handed over.
const MAX_HANDED_OVER: u64 = 8;

/// What waits for a member's workers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queued {
    pub(crate) log_jobs: usize,
    /// Besides: of the log, each behind a checkpoint that was taken while the log's disk stood still. (What such a disk
    /// has not stored is not applied, so there is an end to it.)
    pub(crate) compactions: usize,
    pub(crate) checkpoint_jobs: usize,
    /// Besides: pieces of a checkpoint that arrive.
    pub(crate) chunks: usize,
    pub(crate) chunk_bytes: usize,
}

/// Checks a member among `machines`.
pub(crate) fn check(status: &ReplicaStatus, queued: Queued, options: &Options, machines: usize) -> Verdict {
    let ReplicaStatus { pending_writes, pending_reads, .. } = *status;
    let within = pending_writes <= options.max_requests && pending_reads <= options.max_requests;
    require(JUDGE, within, || {
        let (id, bound) = (status.raft.id, options.max_requests);
        format!("at {id} wait {pending_writes} writes and {pending_reads} reads, of {bound} that may")
    })?;
    // A read for each follower, and one each of what there can only be one of.
    let (log_jobs, checkpoint_jobs) = (machines + 4, machines + 4);
    let within = queued.log_jobs <= log_jobs
        && queued.compactions <= MAX_COMPACTIONS
        && queued.checkpoint_jobs <= checkpoint_jobs
        // No more than the leader's window, in which the last one may be too large.
        && queued.chunks <= options.raft.max_inflight_messages
        && queued.chunk_bytes <= options.raft.max_inflight_bytes + options.raft.snapshot_chunk_bytes;
    require(JUDGE, within, || format!("the workers of {} have a queue: {queued:?}", status.raft.id))
}

/// Checks a member whose workers have nothing to do: then there is nothing that it can wait for from them.
pub(crate) fn check_idle(node: &Node) -> Verdict {
    let waits_for = node.loading_for().next();
    require(JUDGE, waits_for.is_none(), || {
        let follower = waits_for.expect("somebody is waited for");
        format!("{} waits for what nobody reads for {follower}", node.id())
    })
}

/// What the members of a run said to each other.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Said {
    pub(crate) messages: u64,
    /// Entries in appends, each time that one is sent.
    pub(crate) entries: u64,
}

/// What there was to say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToSay {
    pub(crate) members: u64,
    pub(crate) heartbeats: u64,
    pub(crate) entries: u64,
    pub(crate) reads: u64,
    pub(crate) elections: u64,
}

/// Checks a run in which nothing was lost and nobody failed.
pub(crate) fn check_budget(said: Said, to_say: ToSay) -> Verdict {
    let ToSay { members, heartbeats, entries, reads, elections } = to_say;
    let followers = members - 1;
    // Each entry once to each follower. What is on its way when leadership changes hands is sent by both leaders, and
    // once more where the second one's came first.
    let handed_over = MAX_HANDED_OVER * (elections - 1);
    require(CALM, said.entries <= followers * (entries + handed_over), || {
        format!(
            "nothing was lost, and {} entries were sent for {entries} and {followers} followers",
            said.entries
        )
    })?;
    // A heartbeat or a round for reads is a message and its answer; an entry an append, its answer and word of the
    // commitment. A follower passes a client's request on, and may be told something. An election is two votes.
    let to_each = 2 * heartbeats + 3 * entries + 2 * reads + 8 * elections;
    let budget = followers * to_each + 2 * (entries + reads);
    require(CALM, said.messages <= budget, || {
        format!(
            "nothing was lost, and {} messages were sent, where {budget} are enough: {to_say:?}",
            said.messages
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_twice_is_seen() {
        let to_say = ToSay { members: 3, heartbeats: 10, entries: 5, reads: 2, elections: 1 };
        check_budget(Said { messages: 100, entries: 10 }, to_say).unwrap();
        assert_eq!(check_budget(Said { messages: 100, entries: 11 }, to_say).unwrap_err().judge, CALM);
        check_budget(Said { messages: 100, entries: 11 }, ToSay { elections: 2, ..to_say }).unwrap();
        assert!(check_budget(Said { messages: 200, entries: 10 }, to_say).is_err());
    }
}

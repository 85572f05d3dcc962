//! What must hold after every input, and between two. Run by the tests and the simulator.
//!
//! The chain of the log's pointers, stated once:
//! `first ≤ snapshot + 1`, `snapshot ≤ applied ≤ applying ≤ commit ≤ last`, `applying ≤ persisted ≤ last`.
//! `commit ≤ persisted` is *not* required: a quorum can commit what this server's disk has yet to finish.

use crate::node::MAX_AFTER_DISK;
use crate::progress::{Progress, ProgressState};
use crate::role::Role;
use crate::{EntryId, HardState, Index, Node};

/// What is compared between two moments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    hard_state: HardState,
    commit: EntryId,
    last_applied: Index,
    leads: bool,
    last: EntryId,
    uncommitted_bytes: usize,
}

/// Takes down what [`check_step`] compares.
pub fn summary(node: &Node) -> Summary {
    Summary {
        hard_state: node.hard_state,
        commit: node.log.id_at(node.log.commit_index),
        last_applied: node.log.last_applied,
        leads: matches!(node.role, Role::Leader(_)),
        last: node.log.last(),
        uncommitted_bytes: uncommitted_bytes(node),
    }
}

fn uncommitted_bytes(node: &Node) -> usize {
    match &node.role {
        Role::Leader(leader) => leader.uncommitted_bytes,
        Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => 0,
    }
}

/// Panics if the node contradicts itself.
pub fn check(node: &Node) {
    let log = &node.log;
    let snapshot = log.snapshot().last_included.index;
    assert!(log.first_index() <= snapshot.next(), "the log reaches back to the snapshot");
    assert!(snapshot <= log.last_applied, "a snapshot holds applied entries only");
    assert!(log.last_applied <= log.applying_index, "applied entries were given out");
    assert!(log.applying_index <= log.commit_index, "only committed entries are applied");
    assert!(log.applying_index <= log.persisted_index, "only durable entries are applied");
    assert!(log.commit_index <= log.last_index(), "only existing entries are committed");
    assert!(log.persisted_index <= log.last_index(), "only existing entries are durable");
    assert!(log.last().term <= node.current_term(), "no entry is of a later term than the server");
    assert!(
        node.durable_hard_state.current_term <= node.current_term(),
        "what is durable is not ahead of what is in force"
    );
    check_bounds(node);
    if let Role::Leader(leader) = &node.role {
        for id in node.configuration().members().filter(|&id| id != node.id) {
            assert!(leader.progress.contains_key(&id), "a leader replicates to every member");
        }
        assert_eq!(node.hard_state.voted_for, Some(node.id), "a leader voted for itself");
        let expected = log.bytes_between(log.commit_index.next(), log.last_index());
        assert_eq!(leader.uncommitted_bytes, expected, "uncommitted bytes are counted exactly");
        for progress in leader.progress.values() {
            assert!(progress.match_index < progress.next_index, "match is behind next");
            assert!(progress.match_index <= log.last_index(), "nobody agrees with more than there is");
            if let ProgressState::Snapshot(stream) = &progress.state {
                assert!(
                    stream.snapshot.last_included.index <= snapshot,
                    "only a snapshot that exists is sent"
                );
            }
        }
    }
}

/// Whatever arrives, and however slow disks and followers are: nothing grows without end.
fn check_bounds(node: &Node) {
    let options = &node.options;
    assert!(node.after_disk.len() <= MAX_AFTER_DISK, "messages that wait for the disk are bounded");
    match &node.role {
        Role::Follower(follower) => {
            assert!(follower.early.bytes() <= options.max_early_bytes, "appends that came early are bounded");
            assert_eq!(
                follower.early.bytes(),
                follower.early.sum_bytes(),
                "early appends are counted exactly"
            );
            assert!(follower.reads.len() <= options.max_waiting_reads, "a follower's reads are bounded");
        }
        Role::Leader(leader) => {
            assert!(leader.reads.len() <= options.max_waiting_reads, "a leader's reads are bounded");
            let window = (options.max_inflight_messages, options.max_inflight_bytes);
            let keeps_to = |progress: &Progress| progress.keeps_to(window.0, window.1);
            assert!(leader.progress.values().all(keeps_to), "appends keep to their window");
        }
        Role::PreCandidate(_) | Role::Candidate(_) => {}
    }
}

/// Panics if something went back that only goes forward.
pub fn check_step(before: &Summary, node: &Node) {
    let (old, new) = (before.hard_state, node.hard_state);
    assert!(new.current_term >= old.current_term, "terms only grow (paper §5.1)");
    if new.current_term == old.current_term && old.voted_for.is_some() {
        assert_eq!(new.voted_for, old.voted_for, "one vote a term (paper §5.2)");
    }
    assert!(node.log.commit_index >= before.commit.index, "the commit index never decreases");
    assert!(node.log.last_applied >= before.last_applied, "the state machine never goes back");
    if before.commit.index >= node.log.start().index {
        assert!(node.log.matches(before.commit), "a committed entry stays (paper §5.4.3)");
    }
    let still_leads = before.leads && matches!(node.role, Role::Leader(_)) && old == new;
    if still_leads && before.last.index >= node.log.start().index {
        assert!(node.log.matches(before.last), "a leader never deletes its entries (paper §5.3)");
    }
    if still_leads {
        check_taken(before, node);
    }
}

/// A leader takes commands while they fit, one that is larger only when nothing else waits, and what it needs itself.
fn check_taken(before: &Summary, node: &Node) {
    const OWN_BYTES: usize = 4 << 10;
    let limit = node.options.max_uncommitted_bytes.max(before.uncommitted_bytes);
    let now = uncommitted_bytes(node);
    if now > limit + OWN_BYTES {
        let (first, last) = (node.log.commit_index.next(), node.log.last_index());
        let sizes = (first.0..=last.0).map(|index| node.log.bytes_between(Index(index), Index(index)));
        let largest = sizes.max().unwrap_or(0);
        assert!(
            now <= limit + OWN_BYTES + largest,
            "what waits to be committed is bounded: {now} of {limit}"
        );
    }
}

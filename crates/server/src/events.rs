//! Consensus events as log lines.

use tenure_raft::{Event, NodeId};

/// Writes down what an operator wants to know; the rest is for debugging.
pub(crate) fn log(member: NodeId, event: &Event) {
    let member = format_args!("{:x}", member.as_u64()).to_string();
    match event {
        Event::BecameLeader { .. }
        | Event::BecameFollower { .. }
        | Event::BecameCandidate { .. }
        | Event::ConfigurationChanged { .. }
        | Event::SnapshotInstalled { .. }
        | Event::TransferStarted { .. } => tracing::info!(member, "{event}"),
        Event::SteppedDown { .. }
        | Event::TransferAborted { .. }
        | Event::Truncated { .. }
        | Event::SnapshotDamaged { .. } => {
            tracing::warn!(member, "{event}");
        }
        Event::BecamePreCandidate { .. }
        | Event::VoteGranted { .. }
        | Event::VoteRefused { .. }
        | Event::AppendRejected { .. } => tracing::debug!(member, "{event}"),
        Event::CommitAdvanced { .. } => tracing::trace!(member, "{event}"),
    }
}

//! When a member may serve, and who is told: whoever started it, and the log.
//!
//! A member that comes back or joins can be far behind. It may serve when it has a vote and has read, by way of the
//! leader, what was written last: until then clients would wait at it, or be turned away.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::core::Leadership;
use crate::handle::Handle;

/// How long to wait before a read that failed is tried again, if nothing else changes.
const RETRY: Duration = Duration::from_millis(200);
/// How often a member that is not ready says how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

/// Where a member is in its life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Phase {
    /// It is not ready yet. To be told again and again as long as it is so.
    CatchingUp {
        /// How far it is, for a person to read.
        progress: String,
    },
    /// It has caught up, and serves.
    Ready,
    /// It was told to stop.
    Stopping,
}

/// Takes what a member says of its phase; must not wait.
pub type OnPhase = Arc<dyn Fn(Phase) + Send + Sync>;

/// Waits until the member may serve, and says so; until then it says how far it is.
pub(crate) async fn announce(handle: Handle, clients: String, on_phase: OnPhase) {
    let mut progress = tokio::time::interval(PROGRESS);
    // The first tick comes at once: too early to be late.
    progress.tick().await;
    let caught_up = catch_up(&handle);
    tokio::pin!(caught_up);
    let mut was_learner = false;
    let mut leadership = handle.shared.leadership.clone();
    loop {
        tokio::select! {
            is_ready = &mut caught_up => {
                if is_ready {
                    tracing::info!(clients, "ready to serve client requests");
                    on_phase(Phase::Ready);
                }
                return;
            }
            Ok(()) = joins(&mut leadership), if !was_learner => {
                was_learner = true;
                tell_progress(&handle, &on_phase).await;
            }
            _ = progress.tick() => tell_progress(&handle, &on_phase).await,
        }
    }
}

/// Resolves when the member hears a leader and has no vote.
async fn joins(leadership: &mut watch::Receiver<Leadership>) -> Result<(), watch::error::RecvError> {
    leadership.wait_for(|now| now.is_learner && now.leader_id.is_some()).await.map(drop)
}

/// Resolves when the member has a vote and has everything that was written before; false if it stops.
async fn catch_up(handle: &Handle) -> bool {
    let mut leadership = handle.shared.leadership.clone();
    loop {
        let may_serve = |now: &Leadership| now.leader_id.is_some() && !now.is_learner;
        if leadership.wait_for(may_serve).await.map(drop).is_err() {
            return false;
        }
        if handle.read().await.is_ok() {
            return true;
        }
        let _ = tokio::time::timeout(RETRY, leadership.changed()).await;
    }
}

async fn tell_progress(handle: &Handle, on_phase: &OnPhase) {
    let now = *handle.shared.leadership.borrow();
    let Ok((_, status)) = handle.state().await else { return };
    let (applied, committed) = (status.raft.last_applied.0, status.raft.commit_index.0);
    let what = match (now.leader_id, now.is_learner) {
        (None, _) => "waiting for a leader",
        (Some(_), true) => "joining as a learner, which has no vote yet",
        (Some(_), false) => "catching up with the leader",
    };
    tracing::info!(applied, committed, "not ready to serve yet: {what}");
    on_phase(Phase::CatchingUp { progress: format!("{what}: {applied} entries applied") });
}

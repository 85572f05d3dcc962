//! One lane to one peer as two tasks share it: the core puts messages in and never waits, the sender takes them out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tenure_raft::Time;
use tenure_replica::{Lane, LaneBounds, PeerMessage};
use tokio::sync::Notify;

/// How many bytes the sender takes at a time: what it has taken no longer counts as waiting.
const MAX_TAKEN_BYTES: usize = 256 << 10;

/// A queue and the two ends of it.
pub(crate) fn queue(bounds: LaneBounds) -> (Entrance, Exit) {
    let lane = Waiting { lane: Lane::new(bounds), is_closed: false };
    let shared = Arc::new(Shared { waiting: Mutex::new(lane), changed: Notify::new() });
    (Entrance { shared: shared.clone() }, Exit { shared })
}

struct Shared {
    waiting: Mutex<Waiting>,
    /// Something waits, or nothing more will.
    changed: Notify,
}

struct Waiting {
    lane: Lane,
    is_closed: bool,
}

impl Shared {
    /// Held for a moment: nobody does anything else meanwhile.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where messages go in. When it is dropped, what waits is still sent.
pub(crate) struct Entrance {
    shared: Arc<Shared>,
}

impl Entrance {
    /// Takes a message, or gives it back if there is no room.
    pub(crate) fn push(&self, now: Time, message: PeerMessage) -> Option<PeerMessage> {
        let refused = self.shared.waiting().lane.push(now, message);
        self.shared.changed.notify_one();
        refused
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        self.shared.waiting().is_closed = true;
        self.shared.changed.notify_one();
    }
}

/// Where they come out.
pub(crate) struct Exit {
    shared: Arc<Shared>,
}

impl Exit {
    /// Waits until there is something, and takes some of it. Returns false when there will be nothing more.
    pub(crate) async fn take(&mut self, messages: &mut Vec<PeerMessage>) -> bool {
        loop {
            let is_closed = {
                let mut waiting = self.shared.waiting();
                let mut bytes = 0;
                while bytes < MAX_TAKEN_BYTES
                    && let Some(message) = waiting.lane.pop()
                {
                    bytes += message.size_bytes();
                    messages.push(message);
                }
                waiting.is_closed
            };
            if !messages.is_empty() || is_closed {
                return !messages.is_empty();
            }
            self.shared.changed.notified().await;
        }
    }
}

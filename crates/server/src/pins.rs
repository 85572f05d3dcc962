//! The pins of the peers' data directories, kept by a thread of their own: nobody who only wants to know one waits for a
//! disk that is busy with another.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tenure_raft::NodeId;
use tenure_replica::peers::{DirectoryChanged, PinnedPeers};
use tenure_wal::RealDisk;
use tokio::sync::oneshot;

/// What is pinned, durably, and the way to the thread that pins more.
pub(crate) struct Pins {
    known: Arc<Mutex<PinnedPeers>>,
    jobs: Sender<Job>,
}

/// Whose directory cannot be pinned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PinError {
    /// It is not the one that was met under this id.
    #[error(transparent)]
    Changed(#[from] DirectoryChanged),
    /// Our own disk failed, which is final (docs/adr/0005-failed-fsync-is-final.md).
    #[error("a peer's data directory cannot be written down: {0}")]
    Disk(io::Error),
}

impl From<io::Error> for PinError {
    fn from(error: io::Error) -> PinError {
        PinError::Disk(error)
    }
}

enum Job {
    Pin { peer: NodeId, directory_id: u64, reply: oneshot::Sender<Result<(), PinError>> },
    Forget { members: BTreeSet<NodeId> },
}

/// The thread's part: the file, and what is to be done with it.
pub(crate) struct PinKeeper {
    disk: RealDisk,
    pins: PinnedPeers,
    known: Arc<Mutex<PinnedPeers>>,
    jobs: Receiver<Job>,
}

/// The pins that were loaded from `disk`, and who keeps them there; until that runs, nobody new is pinned.
pub(crate) fn keep(disk: RealDisk, pins: PinnedPeers) -> (Pins, PinKeeper) {
    let (sender, jobs) = channel();
    let known = Arc::new(Mutex::new(pins.clone()));
    (Pins { known: known.clone(), jobs: sender }, PinKeeper { disk, pins, known, jobs })
}

fn lock(known: &Mutex<PinnedPeers>) -> MutexGuard<'_, PinnedPeers> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pins {
    /// Whether a peer may come from this directory.
    pub(crate) fn check(&self, peer: NodeId, directory_id: u64) -> Result<(), DirectoryChanged> {
        lock(&self.known).check(peer, directory_id)
    }

    /// Pins a peer to its directory, durably when it returns: at once if it is pinned already.
    pub(crate) async fn pin(&self, peer: NodeId, directory_id: u64) -> Result<(), PinError> {
        if lock(&self.known).is_pinned(peer) {
            return Ok(self.check(peer, directory_id)?);
        }
        let (reply, answer) = oneshot::channel();
        let ended = || io::Error::other("the thread that pins has ended");
        self.jobs.send(Job::Pin { peer, directory_id, reply }).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// Has the pins of members that are gone dropped, soon.
    pub(crate) fn forget(&self, members: &BTreeSet<NodeId>) {
        let known = lock(&self.known);
        let pinned: BTreeSet<NodeId> =
            members.iter().copied().filter(|&member| known.is_pinned(member)).collect();
        if !pinned.is_empty() {
            // If the thread has ended, the member is about to stop.
            let _ = self.jobs.send(Job::Forget { members: pinned });
        }
    }
}

impl PinKeeper {
    /// Does what it is asked for, until nobody can ask any more. An error is final.
    pub(crate) fn run(mut self) -> Result<(), String> {
        while let Ok(job) = self.jobs.recv() {
            match job {
                Job::Pin { peer, directory_id, reply } => {
                    let result = self.pin(peer, directory_id);
                    let failure = match &result {
                        Err(error @ PinError::Disk(_)) => Some(error.to_string()),
                        Ok(()) | Err(PinError::Changed(_)) => None,
                    };
                    // Who asked may have gone.
                    let _ = reply.send(result);
                    if let Some(failure) = failure {
                        return Err(failure);
                    }
                }
                Job::Forget { members } => {
                    let forgotten = self.pins.forget(&self.disk, |member| members.contains(&member));
                    forgotten.map_err(|error| format!("a removed peer cannot be forgotten: {error}"))?;
                }
            }
            lock(&self.known).clone_from(&self.pins);
        }
        Ok(())
    }

    fn pin(&mut self, peer: NodeId, directory_id: u64) -> Result<(), PinError> {
        // Two connections of one peer may have asked at the same time.
        self.pins.check(peer, directory_id)?;
        self.pins.pin(&self.disk, peer, directory_id)?;
        // Known before whoever waits goes on.
        lock(&self.known).clone_from(&self.pins);
        Ok(())
    }
}

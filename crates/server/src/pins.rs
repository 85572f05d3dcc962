//! The pins of the peers, kept by a thread of their own: nobody who only wants to know one waits for a disk that is busy
//! with another, and what is noted of them waits for nothing.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tenure_raft::{EntryId, NodeId};
use tenure_replica::peers::{NotTheSame, PinnedPeers, Standing};
use tenure_wal::{RealDisk, lacks_room};
use tokio::sync::oneshot;

/// What is pinned, durably, and the way to the thread that pins more.
pub(crate) struct Pins {
    known: Arc<Mutex<PinnedPeers>>,
    jobs: Sender<Job>,
}

/// Who cannot be pinned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PinError {
    /// It is not the one that was met under this id.
    #[error(transparent)]
    Changed(#[from] NotTheSame),
    /// Our own disk failed, which is final (docs/adr/0005-failed-fsync-is-final.md).
    #[error("a peer's data directory cannot be written down: {0}")]
    Disk(io::Error),
    /// Our own disk has no room for it now: the peer will come again.
    #[error("a peer's data directory cannot be written down yet: {0}")]
    NoRoom(io::Error),
}

impl From<io::Error> for PinError {
    fn from(error: io::Error) -> PinError {
        if lacks_room(&error) { PinError::NoRoom(error) } else { PinError::Disk(error) }
    }
}

enum Job {
    Pin {
        peer: NodeId,
        directory_id: u64,
        standing: Standing,
        reply: oneshot::Sender<Result<(), PinError>>,
    },
    /// A peer that is pinned has started again.
    Meet {
        peer: NodeId,
        directory_id: u64,
        standing: Standing,
    },
    Note {
        acknowledged: Vec<(NodeId, EntryId)>,
    },
    Forget {
        members: BTreeSet<NodeId>,
    },
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
    /// Whether a peer may come from this directory, in this start.
    pub(crate) fn check(
        &self,
        peer: NodeId,
        directory_id: u64,
        standing: Standing,
    ) -> Result<(), NotTheSame> {
        lock(&self.known).check(peer, directory_id, standing)
    }

    /// Pins a peer to its directory, durably when it returns: at once if it is pinned already. Its start is written down
    /// soon.
    pub(crate) async fn pin(
        &self,
        peer: NodeId,
        directory_id: u64,
        standing: Standing,
    ) -> Result<(), PinError> {
        let (is_pinned, has_met) = {
            let known = lock(&self.known);
            (known.is_pinned(peer), known.has_met(peer, standing.boot))
        };
        if is_pinned {
            self.check(peer, directory_id, standing)?;
            if !has_met {
                // If the thread has ended, the member is about to stop.
                let _ = self.jobs.send(Job::Meet { peer, directory_id, standing });
            }
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        let ended = || PinError::Disk(io::Error::other("the thread that pins has ended"));
        self.jobs.send(Job::Pin { peer, directory_id, standing, reply }).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// Has it written down up to where others have acknowledged the log, soon.
    pub(crate) fn note(&self, acknowledged: Vec<(NodeId, EntryId)>) {
        if !acknowledged.is_empty() {
            // If the thread has ended, the member is about to stop.
            let _ = self.jobs.send(Job::Note { acknowledged });
        }
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
                Job::Pin { peer, directory_id, standing, reply } => {
                    let result = self.pin(peer, directory_id, standing);
                    let failure = match &result {
                        Err(error @ PinError::Disk(_)) => Some(error.to_string()),
                        Ok(()) | Err(PinError::Changed(_) | PinError::NoRoom(_)) => None,
                    };
                    // Who asked may have gone.
                    let _ = reply.send(result);
                    if let Some(failure) = failure {
                        return Err(failure);
                    }
                }
                Job::Meet { peer, directory_id, standing } => {
                    let met = match self.pins.check(peer, directory_id, standing) {
                        // It was forgotten meanwhile, or another start of it was faster.
                        Ok(()) if !self.pins.is_pinned(peer) => Ok(()),
                        Err(_) => Ok(()),
                        Ok(()) => self.pins.pin(&self.disk, peer, directory_id, standing),
                    };
                    written(met.and_then(|()| self.pins.save(&self.disk)))?;
                }
                Job::Note { acknowledged } => {
                    acknowledged.into_iter().for_each(|(member, id)| self.pins.note(member, id));
                    written(self.pins.save(&self.disk))?;
                }
                Job::Forget { members } => {
                    written(self.pins.forget(&self.disk, |member| members.contains(&member)))?;
                }
            }
            lock(&self.known).clone_from(&self.pins);
        }
        Ok(())
    }

    fn pin(&mut self, peer: NodeId, directory_id: u64, standing: Standing) -> Result<(), PinError> {
        // Two connections of one peer may have asked at the same time.
        self.pins.check(peer, directory_id, standing)?;
        self.pins.pin(&self.disk, peer, directory_id, standing)?;
        // Known before whoever waits goes on.
        lock(&self.known).clone_from(&self.pins);
        Ok(())
    }
}

/// What is only written down aside may wait for room: it is done with the next change.
fn written(result: io::Result<()>) -> Result<(), String> {
    match result {
        Err(error) if !lacks_room(&error) => {
            Err(format!("what is known of the peers cannot be written down: {error}"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

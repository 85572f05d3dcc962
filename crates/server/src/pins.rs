//! The pins of the peers, kept by a thread of their own: nobody who only wants to know one waits for a disk that is busy
//! with another, and what is noted of them waits for nothing.
//!
//! The same thread looks whether the data directory is still ours. Locks keep a second process out, but not one that comes
//! by way of another file system, whose locks are its own (a FUSE mount of the same folder): two would write to one log.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tenure_raft::{EntryId, NodeId};
use tenure_replica::identity::{self, Identity};
use tenure_replica::peers::{NotTheSame, PinnedPeers, Standing};
use tenure_wal::{Disk, RealDisk, lacks_room};
use tokio::sync::oneshot;

/// How often it is looked whether the directory is still ours.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

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
    Look,
}

/// The thread's part: the file, and what is to be done with it.
pub(crate) struct PinKeeper {
    disk: RealDisk,
    identity: Identity,
    pins: PinnedPeers,
    known: Arc<Mutex<PinnedPeers>>,
    jobs: Receiver<Job>,
}

/// The pins that were loaded from `disk`, which is that of `identity`, and who keeps them there; until that runs, nobody
/// new is pinned.
pub(crate) fn keep(disk: RealDisk, identity: Identity, pins: PinnedPeers) -> (Pins, PinKeeper) {
    let (sender, jobs) = channel();
    let known = Arc::new(Mutex::new(pins.clone()));
    (Pins { known: known.clone(), jobs: sender }, PinKeeper { disk, identity, pins, known, jobs })
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

    /// Has it looked at once whether the directory is still ours.
    pub(crate) fn look(&self) {
        // If the thread has ended, the member is about to stop.
        let _ = self.jobs.send(Job::Look);
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
        loop {
            let job = match self.jobs.recv_timeout(LOOK_INTERVAL) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => Job::Look,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
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
                    for (member, id) in acknowledged {
                        self.pins.note(member, id);
                    }
                    written(self.pins.save(&self.disk))?;
                }
                Job::Look => self.check_directory()?,
                Job::Forget { members } => {
                    written(self.pins.forget(&self.disk, |member| members.contains(&member)))?;
                }
            }
            lock(&self.known).clone_from(&self.pins);
        }
    }

    /// Each start writes its number into the directory before anything else: whoever finds a later one is not alone.
    fn check_directory(&self) -> Result<(), String> {
        match identity::read(&self.disk) {
            Ok(found) if found != self.identity => Err(format!(
                "another process has been started on {} (start number {}, this is number {}): two must never write to \
                 one log, so this one stops",
                self.disk.path_of("").display(),
                found.boot,
                self.identity.boot
            )),
            // What cannot be read for once is no other process.
            Ok(_) | Err(_) => Ok(()),
        }
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

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn who_finds_a_later_start_in_its_directory_stops() {
        let folder = TempDir::new().expect("a folder");
        let member = NodeId::new(1).expect("not zero");
        let disk = RealDisk::open(folder.path()).expect("a folder");
        let first = identity::claim(&disk, 7, member, 10).expect("it is new");
        let second = identity::claim(&disk, 7, member, 10).expect("it is the same member's");
        let (pins, keeper) = keep(disk, second, PinnedPeers::default());
        pins.look();
        drop(pins);
        assert_eq!(keeper.run(), Ok(()), "it is alone");
        let disk = RealDisk::open(folder.path()).expect("it is free");
        // By way of another mount, say, the folder is not seen to be in use.
        let (pins, keeper) = keep(disk, first, PinnedPeers::default());
        pins.look();
        let why = keeper.run().expect_err("it is not alone");
        assert!(why.contains("start number 2, this is number 1"), "{why}");
    }
}

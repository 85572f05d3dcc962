//! Does the jobs of the checkpoints: writes the state down, reads pieces for followers, keeps pieces that
//! arrive, installs what arrived.
//!
//! A checkpoint is one or more segments (the store's bytes, see docs/checkpoint-format.md) and a manifest that
//! names them. The manifest is renamed into place after the segments are durable, so a checkpoint is whole or not
//! there. A new one shares segments with the one before it, as [`crate::segments`] decides. To a follower the
//! segments that it lacks are one sequence of bytes, which it keeps as one segment behind its own, or, if they are all,
//! in their place (docs/adr/0017-what-a-follower-lacks.md). The newest two checkpoints are kept, and those
//! that are on their way to followers.
//!
//! Room for the next checkpoint is kept in a file of its own, and given up when that is written and there is no other.
//! A disk without room is no reason to stop: the checkpoint is taken later. See docs/adr/0012-a-full-disk.md.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use tenure_raft::{EntryId, Index, NodeId, Snapshot, SnapshotChunk};
use tenure_store::Store;
use tenure_store::checkpoint::{CheckpointError, Reader, Verifier, Writer};
use tenure_wal::{Disk, DiskFile, is_full, lacks_room};

use crate::checkpoint_files::{
    MANIFEST_SUFFIX, SEGMENT_SUFFIX, age, id_of, manifest_name, read_exact, read_segment, segment_name,
};
use crate::job::{CheckpointDone, CheckpointJob};
use crate::manifest::Manifest;
use crate::segments::{MAX_SEGMENTS, Segment, kept_segments, segment_at};
use crate::sending::Sending;
use crate::small_files::{remove_if_there, replace_file, reserve};

const INCOMING_FILE: &str = "incoming.segment";
const TEMPORARY_SEGMENT: &str = "segment.new";
const TEMPORARY_MANIFEST: &str = "manifest.new";
/// Takes the room that is kept for the next checkpoint, and holds nothing.
const RESERVE_FILE: &str = "reserve";
const KEPT_CHECKPOINTS: usize = 2;
/// No manifest is longer.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointFault {
    /// The disk failed.
    #[error("a checkpoint failed: cannot {op} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        op: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        r#source: io::Error,
    },
    /// What was being written could not be read back: a bug, or memory that failed. Nothing of it counts.
    #[error(
        "a bug in this program, or memory that failed: a checkpoint that was being written could not be read back \
         ({why}). It is not used; the checkpoint before it and the log are as they were"
    )]
    Unreadable {
        /// What a reader would have against it.
        why: CheckpointError,
    },
    /// The newest checkpoint is damaged.
    #[error(
        "checkpoint {} is damaged ({why}): this member cannot start from it. Remove the member from the \
         cluster, empty its data directory and add it again; the others will send it the state", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl CheckpointFault {
    /// Whether there may be another end to it later.
    fn lacks_room(&self) -> bool {
        match self {
            Self::Io { source, .. } => lacks_room(source),
            Self::Unreadable { .. } | Self::Damaged { .. } => false,
        }
    }
}

/// The checkpoints of a member, in a directory of their own.
pub struct CheckpointWorker<D: Disk> {
    disk: D,
    max_dead_bytes: u64,
    incoming: Option<D::File>,
    /// The newest, oldest first.
    checkpoints: Vec<Manifest>,
    /// Those of them that followers are being sent.
    sent: Vec<EntryId>,
    /// The segment that has its name already, while the manifest that names it is written.
    unlisted: Option<String>,
    sending: Sending,
    /// Something of the newest checkpoint cannot be read any more: the next one shares nothing with it.
    is_suspect: bool,
    /// For how much the disk keeps room.
    reserved_bytes: u64,
}

/// A piece of a checkpoint, or why there is none.
enum Loaded {
    Piece {
        snapshot: Snapshot,
        data: Bytes,
        done: bool,
    },
    /// There is a newer one, or it must wait.
    NotNow,
    Unreadable(String),
}

impl<D: Disk> CheckpointWorker<D> {
    /// Opens the directory and reads the newest checkpoint, if there is one. What an interrupted job left
    /// behind is removed. For `max_dead_bytes` see [`Options::max_dead_checkpoint_bytes`].
    ///
    /// [`Options::max_dead_checkpoint_bytes`]: crate::Options::max_dead_checkpoint_bytes
    pub fn open(disk: D, max_dead_bytes: u64) -> Result<(Self, Option<(Snapshot, Store)>), CheckpointFault> {
        let mut worker = CheckpointWorker {
            disk,
            max_dead_bytes,
            incoming: None,
            checkpoints: Vec::new(),
            sent: Vec::new(),
            unlisted: None,
            sending: Sending::default(),
            is_suspect: false,
            reserved_bytes: 0,
        };
        // A process that died may have left names that only the page cache knows: nothing may rest on them.
        worker.sync_directory()?;
        Self::clear_leftovers(&worker.disk)?;
        let newest =
            match worker.names()?.iter().filter_map(|name| id_of(name, MANIFEST_SUFFIX)).max_by_key(age) {
                Some(last_included) => {
                    let manifest = worker.read_manifest(last_included)?;
                    let store = worker.read_checkpoint(&manifest)?;
                    let snapshot = manifest.snapshot.clone();
                    worker.checkpoints.push(manifest);
                    Some((snapshot, store))
                }
                None => None,
            };
        worker.remove_old(KEPT_CHECKPOINTS)?;
        Ok((worker, newest))
    }

    /// Removes what an interrupted job left behind in a directory that nobody has opened.
    pub fn clear_leftovers(disk: &D) -> Result<(), CheckpointFault> {
        for name in [INCOMING_FILE, TEMPORARY_SEGMENT, TEMPORARY_MANIFEST] {
            remove_if_there(disk, name).map_err(fault("remove", disk.path_of(name)))?;
        }
        Ok(())
    }

    /// Gives the room for the next checkpoint up, in a directory that nobody has opened. Answers whether there was any.
    pub fn give_up_reserve(disk: &D) -> Result<bool, CheckpointFault> {
        remove_if_there(disk, RESERVE_FILE).map_err(fault("remove", disk.path_of(RESERVE_FILE)))
    }

    /// Does a job whole. An error is final: the member must stop.
    pub fn run(&mut self, job: CheckpointJob) -> Result<CheckpointDone, CheckpointFault> {
        match job {
            CheckpointJob::Take { snapshot, state, sent } => {
                self.sent = sent;
                let last_included = snapshot.last_included;
                match self.take(snapshot, *state) {
                    Err(fault) if fault.lacks_room() => {
                        self.abandon()?;
                        Ok(CheckpointDone::NotTaken { last_included, why: fault.to_string() })
                    }
                    done => done,
                }
            }
            CheckpointJob::Load { to, last_included, above, offset, max_bytes } => {
                Ok(match self.load(to, last_included, above, offset, max_bytes) {
                    Loaded::Piece { snapshot, data, done } => {
                        let chunk = SnapshotChunk { above, offset, data, done };
                        CheckpointDone::Loaded { to, snapshot, chunk }
                    }
                    Loaded::NotNow => CheckpointDone::Unavailable { to, last_included, unreadable: None },
                    Loaded::Unreadable(why) => {
                        self.is_suspect = true;
                        CheckpointDone::Unavailable { to, last_included, unreadable: Some(why) }
                    }
                })
            }
            CheckpointJob::Store { snapshot, chunk } => {
                let last_included = snapshot.last_included;
                match self.keep(chunk.offset, &chunk.data) {
                    Err(fault) if fault.lacks_room() => self.give_incoming_up(last_included, &fault),
                    kept => kept.map(|()| CheckpointDone::Stored { last_included }),
                }
            }
            CheckpointJob::Install { snapshot, state } => match self.install(&snapshot, *state) {
                Err(fault) if fault.lacks_room() => {
                    self.abandon()?;
                    self.give_incoming_up(snapshot.last_included, &fault)
                }
                done => done,
            },
            CheckpointJob::Reserve { bytes } => self.reserve(bytes),
        }
    }

    fn take(
        &mut self,
        snapshot: Snapshot,
        state: tenure_store::Snapshot,
    ) -> Result<CheckpointDone, CheckpointFault> {
        let path = self.disk.path_of(TEMPORARY_SEGMENT);
        remove_if_there(&self.disk, TEMPORARY_SEGMENT).map_err(fault("remove", path.clone()))?;
        let mut file = self.disk.create(TEMPORARY_SEGMENT).map_err(fault("create", path.clone()))?;
        let newest = self.checkpoints.last().map_or(&[][..], |newest| &newest.segments);
        let kept = if self.is_suspect { 0 } else { kept_segments(newest, &state, self.max_dead_bytes) };
        let mut segments = newest[..kept].to_vec();
        let revision = state.revision();
        let since = segments.last().map_or(0, |last| last.revision);
        let mut verifier = Verifier::new(state.clone(), since);
        let writer = match segments.last() {
            Some(_) => Writer::part(state, since),
            None => Writer::new(state),
        };
        let mut offset = 0;
        let mut checksum = 0;
        for block in writer {
            // A checkpoint that cannot be read would be found out at the next start, by all members at once.
            verifier.push(&block).map_err(unreadable)?;
            self.write(&mut file, offset, &block).map_err(fault("write", path.clone()))?;
            checksum = crc32c::crc32c_append(checksum, &block);
            offset += block.len() as u64;
        }
        verifier.finish().map_err(unreadable)?;
        file.sync().map_err(fault("sync", path))?;
        let last_included = snapshot.last_included;
        segments.push(Segment { last_included, revision, len_bytes: offset, crc: checksum });
        let done = CheckpointDone::Taken {
            last_included,
            base_revision: segments[0].revision,
            segments: segments.len(),
            written_bytes: offset,
        };
        self.publish(TEMPORARY_SEGMENT, Manifest { snapshot, segments })?;
        self.is_suspect = false;
        Ok(done)
    }

    /// Writes to a file of a checkpoint to be, and gives up for it what can be done without.
    fn write(&mut self, file: &mut D::File, offset: u64, data: &[u8]) -> io::Result<()> {
        loop {
            match file.write_at(offset, data) {
                Err(error) if is_full(&error) && self.give_something_up()? => {}
                result => return result,
            }
        }
    }

    /// Gives up the room that was kept, or else all checkpoints but the newest. Answers whether there was any of it.
    fn give_something_up(&mut self) -> io::Result<bool> {
        if self.give_reserve_up()? {
            return Ok(true);
        }
        let has_old = self.checkpoints.len() > 1;
        if has_old && let Err(CheckpointFault::Io { source, .. }) = self.remove_old(1) {
            return Err(source);
        }
        Ok(has_old)
    }

    /// Gives a durable segment, the last of those in the manifest, its name; makes the manifest durable; and removes
    /// what is older than it need be.
    fn publish(&mut self, temporary: &str, manifest: Manifest) -> Result<(), CheckpointFault> {
        let segment = segment_name(manifest.snapshot.last_included);
        self.disk.rename(temporary, &segment).map_err(fault("rename", self.disk.path_of(temporary)))?;
        // Who makes room for the manifest must not take it for an old one.
        self.unlisted = Some(segment);
        let listed = self.list_in(manifest);
        self.unlisted = None;
        listed?;
        match self.remove_old(KEPT_CHECKPOINTS) {
            // It stays until the next one.
            Err(fault) if fault.lacks_room() => Ok(()),
            removed => removed,
        }
    }

    /// Makes the manifest durable; then the checkpoint is there.
    fn list_in(&mut self, manifest: Manifest) -> Result<(), CheckpointFault> {
        self.sync_directory()?;
        let name = manifest_name(manifest.snapshot.last_included);
        let bytes = manifest.encode();
        while let Err(error) = replace_file(&self.disk, &name, TEMPORARY_MANIFEST, &bytes) {
            let io = fault("write", self.disk.path_of(&name));
            if !is_full(&error) || !self.give_something_up().map_err(&io)? {
                return Err(io(error));
            }
        }
        self.checkpoints.push(manifest);
        Ok(())
    }

    /// Removes what was written of a checkpoint that came to nothing: it would hold the room that is missing.
    fn abandon(&mut self) -> Result<(), CheckpointFault> {
        for name in [TEMPORARY_SEGMENT, TEMPORARY_MANIFEST] {
            remove_if_there(&self.disk, name).map_err(fault("remove", self.disk.path_of(name)))?;
        }
        self.remove_old(KEPT_CHECKPOINTS)
    }

    fn give_incoming_up(
        &mut self,
        last_included: EntryId,
        why: &CheckpointFault,
    ) -> Result<CheckpointDone, CheckpointFault> {
        self.incoming = None;
        let path = self.disk.path_of(INCOMING_FILE);
        remove_if_there(&self.disk, INCOMING_FILE).map_err(fault("remove", path))?;
        Ok(CheckpointDone::NotKept { last_included, why: why.to_string() })
    }

    /// Has the disk keep room for so much. If that is more than there is, it keeps what it kept.
    fn reserve(&mut self, bytes: u64) -> Result<CheckpointDone, CheckpointFault> {
        let mut result = self.try_reserve(bytes);
        let is_refused = matches!(&result, Err(error) if is_full(error));
        if is_refused && self.checkpoints.len() > 1 {
            // The older one is kept for whoever is being sent it, who can be sent the newer one.
            match self.remove_old(1) {
                Err(fault) if !fault.lacks_room() => return Err(fault),
                Ok(()) | Err(_) => result = self.try_reserve(bytes),
            }
        }
        let result = match result {
            Err(error) if is_full(&error) => {
                let kept_bytes = self.reserved_bytes;
                // Some file systems have taken a part of it.
                self.give_reserve_up().and_then(|_| self.try_reserve(kept_bytes))
            }
            result => result,
        };
        match result {
            // Too many files are open, say: what was kept is still there.
            Err(error) if !lacks_room(&error) => {
                Err(fault("keep room in", self.disk.path_of(RESERVE_FILE))(error))
            }
            Ok(()) | Err(_) => Ok(CheckpointDone::Reserved { bytes: self.reserved_bytes }),
        }
    }

    fn try_reserve(&mut self, bytes: u64) -> io::Result<()> {
        if bytes < self.reserved_bytes {
            self.give_reserve_up()?;
        }
        if bytes > 0 {
            // What cannot be read now is tried again later: only what cannot be written stops a member.
            let Ok(names) = self.disk.list() else { return Ok(()) };
            let mut file = if names.iter().any(|name| name == RESERVE_FILE) {
                let Ok(file) = self.disk.open(RESERVE_FILE) else { return Ok(()) };
                file
            } else {
                self.disk.create(RESERVE_FILE)?
            };
            reserve(&mut file, bytes)?;
            self.reserved_bytes = bytes;
        }
        Ok(())
    }

    /// Answers whether there was any.
    fn give_reserve_up(&mut self) -> io::Result<bool> {
        let was_there = remove_if_there(&self.disk, RESERVE_FILE)?;
        self.reserved_bytes = 0;
        Ok(was_there)
    }

    /// A piece ends with its segment, if not before. What cannot be read concerns nobody but who is to be sent it: it
    /// is written anew, from memory.
    fn load(
        &mut self,
        to: NodeId,
        last_included: EntryId,
        above: Index,
        offset: u64,
        max_bytes: usize,
    ) -> Loaded {
        let is_asked_for = |manifest: &&Manifest| manifest.snapshot.last_included == last_included;
        let Some(manifest) = self.checkpoints.iter().find(is_asked_for) else { return Loaded::NotNow };
        let snapshot = manifest.snapshot.clone();
        let sent = manifest.segments_above(above);
        let sent_bytes: u64 = sent.iter().map(|segment| segment.len_bytes).sum();
        let Some((segment, within)) = segment_at(sent, offset) else {
            return Loaded::Piece { snapshot, data: Bytes::new(), done: true };
        };
        let len = (segment.len_bytes - within).min(max_bytes as u64);
        let name = segment_name(segment.last_included);
        let path = self.disk.path_of(&name);
        let rotten = || Loaded::Unreadable(format!("{} is not what was written", path.display()));
        if self.sending.is_rotten(segment) {
            return rotten();
        }
        let read = self.disk.open(&name).and_then(|file| read_exact(&file, within, len as usize));
        match read {
            Ok(data) if self.sending.on_read(to, segment, within, &data) => {
                let done = offset + len == sent_bytes;
                Loaded::Piece { snapshot, data: data.into(), done }
            }
            Ok(_) => rotten(),
            Err(error) if lacks_room(&error) => Loaded::NotNow,
            Err(error) => Loaded::Unreadable(format!("cannot read {}: {error}", path.display())),
        }
    }

    fn keep(&mut self, offset: u64, data: &[u8]) -> Result<(), CheckpointFault> {
        let path = self.disk.path_of(INCOMING_FILE);
        if offset == 0 {
            self.incoming = None;
            remove_if_there(&self.disk, INCOMING_FILE).map_err(fault("remove", path.clone()))?;
            self.incoming = Some(self.disk.create(INCOMING_FILE).map_err(fault("create", path.clone()))?);
        }
        // The beginning may have been lost with an earlier start; the checksum will say so.
        let Some(mut file) = self.incoming.take() else { return Ok(()) };
        let written = self.write(&mut file, offset, data);
        self.incoming = Some(file);
        written.map_err(fault("write", path))
    }

    fn install(&mut self, snapshot: &Snapshot, state: Store) -> Result<CheckpointDone, CheckpointFault> {
        let last_included = snapshot.last_included;
        let path = self.disk.path_of(INCOMING_FILE);
        let Some(mut file) = self.incoming.take() else {
            return Ok(CheckpointDone::Damaged { last_included });
        };
        let mut reader = Reader::onto(state);
        let len_bytes = file.len_bytes().map_err(fault("read", path.clone()))?;
        let read = read_segment(&file, len_bytes, &mut reader).map_err(fault("read", path.clone()))?;
        // What goes on from our own checkpoint goes behind it.
        let mut segments = match self.checkpoints.last() {
            Some(newest) if !reader.is_whole() => newest.segments.clone(),
            Some(_) | None => Vec::new(),
        };
        let can_follow = segments.len() < MAX_SEGMENTS && (segments.is_empty() || !self.is_suspect);
        let (Ok(crc), Ok(store)) = (read, reader.finish()) else {
            return Ok(CheckpointDone::Damaged { last_included });
        };
        if store.applied_index() != last_included.index.0 {
            return Ok(CheckpointDone::Damaged { last_included });
        }
        if !can_follow {
            return Ok(CheckpointDone::CannotFollow { last_included });
        }
        file.sync().map_err(fault("sync", path))?;
        drop(file);
        segments.push(Segment { last_included, revision: store.revision(), len_bytes, crc });
        self.publish(INCOMING_FILE, Manifest { snapshot: snapshot.clone(), segments })?;
        self.is_suspect = false;
        Ok(CheckpointDone::Installed { last_included, store: Box::new(store) })
    }

    fn read_checkpoint(&self, manifest: &Manifest) -> Result<Store, CheckpointFault> {
        let mut reader = Reader::new();
        for segment in &manifest.segments {
            let name = segment_name(segment.last_included);
            let path = self.disk.path_of(&name);
            let io = fault("read", path.clone());
            let damaged = |why: String| CheckpointFault::Damaged { path: path.clone(), why };
            let file = self.disk.open(&name).map_err(&io)?;
            let found_bytes = file.len_bytes().map_err(&io)?;
            if found_bytes != segment.len_bytes {
                return Err(damaged(format!("{found_bytes} bytes instead of {}", segment.len_bytes)));
            }
            let read = read_segment(&file, found_bytes, &mut reader).map_err(&io)?;
            if read.map_err(|error| damaged(error.to_string()))? != segment.crc {
                return Err(damaged("it is not the segment that its manifest names".into()));
            }
        }
        let last_included = manifest.snapshot.last_included;
        let path = self.disk.path_of(&manifest_name(last_included));
        let damaged = |why: String| CheckpointFault::Damaged { path: path.clone(), why };
        let store = reader.finish().map_err(|error| damaged(error.to_string()))?;
        if store.applied_index() != last_included.index.0 {
            return Err(damaged("its segments are not the checkpoint that it names".into()));
        }
        Ok(store)
    }

    fn read_manifest(&self, last_included: EntryId) -> Result<Manifest, CheckpointFault> {
        let name = manifest_name(last_included);
        let path = self.disk.path_of(&name);
        let io = fault("read", path.clone());
        let file = self.disk.open(&name).map_err(&io)?;
        let len = file.len_bytes().map_err(&io)?.min(MAX_MANIFEST_BYTES);
        let bytes = read_exact(&file, 0, len as usize).map_err(&io)?;
        match Manifest::decode(&bytes) {
            Ok(manifest) if manifest.snapshot.last_included == last_included => Ok(manifest),
            Ok(_) => Err(CheckpointFault::Damaged { path, why: "it names another checkpoint".into() }),
            Err(error) => Err(CheckpointFault::Damaged { path, why: error.to_string() }),
        }
    }

    /// Removes all but the newest checkpoints and those that are being sent (if it need not be fewer than usual),
    /// manifests first, and segments that no manifest names.
    fn remove_old(&mut self, kept_checkpoints: usize) -> Result<(), CheckpointFault> {
        let sent = if kept_checkpoints < KEPT_CHECKPOINTS { &[][..] } else { &self.sent[..] };
        let mut newer = self.checkpoints.len();
        self.checkpoints.retain(|manifest| {
            newer -= 1;
            newer < kept_checkpoints || sent.contains(&manifest.snapshot.last_included)
        });
        let listed = self.checkpoints.iter().flat_map(Manifest::file_names);
        let kept: BTreeSet<String> = listed.chain(self.unlisted.clone()).collect();
        self.sending.retain(|segment| kept.contains(&segment_name(segment)));
        if self.remove_others(MANIFEST_SUFFIX, &kept)? {
            self.sync_directory()?;
        }
        self.remove_others(SEGMENT_SUFFIX, &kept)?;
        Ok(())
    }

    /// Removes the files of a kind that are not `kept`. Answers whether there were any.
    fn remove_others(&self, suffix: &str, kept: &BTreeSet<String>) -> Result<bool, CheckpointFault> {
        let mut others = self.names()?;
        others.retain(|name| id_of(name, suffix).is_some() && !kept.contains(name));
        for name in &others {
            self.disk.remove(name).map_err(fault("remove", self.disk.path_of(name)))?;
        }
        Ok(!others.is_empty())
    }

    fn names(&self) -> Result<Vec<String>, CheckpointFault> {
        self.disk.list().map_err(fault("list", self.disk.path_of("")))
    }

    fn sync_directory(&self) -> Result<(), CheckpointFault> {
        self.disk.sync_directory().map_err(fault("sync the directory", self.disk.path_of("")))
    }
}

impl Manifest {
    /// Its own, and its segments'.
    fn file_names(&self) -> impl Iterator<Item = String> {
        let segments = self.segments.iter().map(|segment| segment_name(segment.last_included));
        segments.chain([manifest_name(self.snapshot.last_included)])
    }
}

fn fault(op: &'static str, path: PathBuf) -> impl Fn(io::Error) -> CheckpointFault + use<> {
    move |source| CheckpointFault::Io { op, path: path.clone(), source }
}

fn unreadable(why: CheckpointError) -> CheckpointFault {
    CheckpointFault::Unreadable { why }
}

#[cfg(test)]
mod tests;

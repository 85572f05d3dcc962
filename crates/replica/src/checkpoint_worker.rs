//! Does the jobs of the checkpoints: writes the state down, reads pieces for followers, keeps pieces that
//! arrive, installs what arrived.
//!
//! A checkpoint is one or more segments (the store's bytes, see docs/checkpoint-format.md) and a manifest that
//! names them. The manifest is renamed into place after the segments are durable, so a checkpoint is whole or not
//! there. A new one shares segments with the one before it, as [`crate::segments`] decides. To a follower the
//! segments that it lacks are one sequence of bytes, which it keeps as one segment behind its own, or, if they are all,
//! in their place (docs/adr/0017-what-a-follower-lacks.md). The newest two checkpoints are kept, and those
//! that are on their way to followers.

use std::collections::BTreeSet;
use std::io;

use bytes::Bytes;
use tenure_raft::{EntryId, Index, Snapshot, SnapshotChunk, Term};
use tenure_store::Store;
use tenure_store::checkpoint::{CheckpointError, Reader, Verifier, Writer};
use tenure_wal::{Disk, DiskFile};

use crate::identity::replace_file;
use crate::job::{CheckpointDone, CheckpointJob};
use crate::manifest::Manifest;
use crate::segments::{MAX_SEGMENTS, Segment, kept_segments};

const INCOMING_FILE: &str = "incoming.segment";
const TEMPORARY_SEGMENT: &str = "segment.new";
const TEMPORARY_MANIFEST: &str = "manifest.new";
const SEGMENT_SUFFIX: &str = ".segment";
const MANIFEST_SUFFIX: &str = ".manifest";
const KEPT_CHECKPOINTS: usize = 2;
/// How much is read at a time.
const READ_BYTES: usize = 256 << 10;
/// No manifest is longer.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointFault {
    /// The disk failed.
    #[error("checkpoint {name}: {source}")]
    Io {
        /// The file.
        name: String,
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
        "checkpoint {name} is damaged ({why}): this member cannot start from it. Remove the member from the \
         cluster, empty its data directory and add it again; the others will send it the state"
    )]
    Damaged {
        /// The file.
        name: String,
        /// What is wrong with it.
        why: String,
    },
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
        };
        // A process that died may have left names that only the page cache knows: nothing may rest on them.
        worker.disk.sync_directory().map_err(fault("directory"))?;
        let names = worker.names()?;
        for name in [INCOMING_FILE, TEMPORARY_SEGMENT, TEMPORARY_MANIFEST] {
            if names.iter().any(|existing| existing == name) {
                worker.disk.remove(name).map_err(fault(name))?;
            }
        }
        let newest = match names.iter().filter_map(|name| id_of(name, MANIFEST_SUFFIX)).max_by_key(age) {
            Some(last_included) => {
                let manifest = worker.read_manifest(last_included)?;
                let store = worker.read_checkpoint(&manifest)?;
                let snapshot = manifest.snapshot.clone();
                worker.checkpoints.push(manifest);
                Some((snapshot, store))
            }
            None => None,
        };
        worker.remove_old()?;
        Ok((worker, newest))
    }

    /// Does a job whole. An error is final: the member must stop.
    pub fn run(&mut self, job: CheckpointJob) -> Result<CheckpointDone, CheckpointFault> {
        match job {
            CheckpointJob::Take { snapshot, state, sent } => {
                self.sent = sent;
                self.take(snapshot, state)
            }
            CheckpointJob::Load { to, last_included, above, offset, max_bytes } => {
                let loaded = self.load(last_included, above, offset, max_bytes)?;
                Ok(match loaded {
                    Some((snapshot, data, done)) => {
                        let chunk = SnapshotChunk { above, offset, data, done };
                        CheckpointDone::Loaded { to, snapshot, chunk }
                    }
                    None => CheckpointDone::Unavailable { to, last_included },
                })
            }
            CheckpointJob::Store { snapshot, chunk } => {
                self.keep(chunk.offset, &chunk.data)?;
                Ok(CheckpointDone::Stored { last_included: snapshot.last_included })
            }
            CheckpointJob::Install { snapshot, state } => self.install(&snapshot, *state),
        }
    }

    fn take(
        &mut self,
        snapshot: Snapshot,
        state: tenure_store::Snapshot,
    ) -> Result<CheckpointDone, CheckpointFault> {
        let io = fault(TEMPORARY_SEGMENT);
        if self.names()?.iter().any(|name| name == TEMPORARY_SEGMENT) {
            self.disk.remove(TEMPORARY_SEGMENT).map_err(&io)?;
        }
        let mut file = self.disk.create(TEMPORARY_SEGMENT).map_err(&io)?;
        let newest = self.checkpoints.last().map_or(&[][..], |newest| &newest.segments);
        let mut segments = newest[..kept_segments(newest, &state, self.max_dead_bytes)].to_vec();
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
            file.write_at(offset, &block).map_err(&io)?;
            checksum = crc32c::crc32c_append(checksum, &block);
            offset += block.len() as u64;
        }
        verifier.finish().map_err(unreadable)?;
        file.sync().map_err(&io)?;
        let last_included = snapshot.last_included;
        segments.push(Segment { last_included, revision, len_bytes: offset, crc: checksum });
        let done = CheckpointDone::Taken {
            last_included,
            base_revision: segments[0].revision,
            segments: segments.len(),
            written_bytes: offset,
        };
        self.publish(TEMPORARY_SEGMENT, Manifest { snapshot, segments })?;
        Ok(done)
    }

    /// Gives a durable segment, the last of those in the manifest, its name; makes the manifest durable; and removes
    /// what is older than it need be.
    fn publish(&mut self, temporary: &str, manifest: Manifest) -> Result<(), CheckpointFault> {
        let last_included = manifest.snapshot.last_included;
        let name = segment_name(last_included);
        self.disk.rename(temporary, &name).map_err(fault(&name))?;
        self.disk.sync_directory().map_err(fault(&name))?;
        let name = manifest_name(last_included);
        replace_file(&self.disk, &name, TEMPORARY_MANIFEST, &manifest.encode()).map_err(fault(&name))?;
        self.checkpoints.push(manifest);
        self.remove_old()
    }

    /// A piece ends with its segment, if not before.
    fn load(
        &self,
        last_included: EntryId,
        above: Index,
        offset: u64,
        max_bytes: usize,
    ) -> Result<Option<(Snapshot, Bytes, bool)>, CheckpointFault> {
        let is_asked_for = |manifest: &&Manifest| manifest.snapshot.last_included == last_included;
        let Some(manifest) = self.checkpoints.iter().find(is_asked_for) else { return Ok(None) };
        let sent = manifest.segments_above(above);
        let Some((segment, within)) = segment_at(sent, offset) else {
            return Ok(Some((manifest.snapshot.clone(), Bytes::new(), true)));
        };
        let len = (segment.len_bytes - within).min(max_bytes as u64);
        let name = segment_name(segment.last_included);
        let file = self.disk.open(&name).map_err(fault(&name))?;
        let data = read_exact(&file, within, len as usize).map_err(fault(&name))?;
        let sent_bytes: u64 = sent.iter().map(|segment| segment.len_bytes).sum();
        Ok(Some((manifest.snapshot.clone(), data.into(), offset + len == sent_bytes)))
    }

    fn keep(&mut self, offset: u64, data: &[u8]) -> Result<(), CheckpointFault> {
        let io = fault(INCOMING_FILE);
        if offset == 0 {
            self.incoming = None;
            if self.names()?.iter().any(|name| name == INCOMING_FILE) {
                self.disk.remove(INCOMING_FILE).map_err(&io)?;
            }
            self.incoming = Some(self.disk.create(INCOMING_FILE).map_err(&io)?);
        }
        match &mut self.incoming {
            Some(file) => file.write_at(offset, data).map_err(&io),
            // The beginning was lost with an earlier start; the checksum will say so.
            None => Ok(()),
        }
    }

    fn install(&mut self, snapshot: &Snapshot, state: Store) -> Result<CheckpointDone, CheckpointFault> {
        let last_included = snapshot.last_included;
        let io = fault(INCOMING_FILE);
        let Some(mut file) = self.incoming.take() else {
            return Ok(CheckpointDone::Damaged { last_included });
        };
        let mut reader = Reader::onto(state);
        let len_bytes = file.len_bytes().map_err(&io)?;
        let read = read_segment(&file, len_bytes, &mut reader).map_err(&io)?;
        // What goes on from our own checkpoint goes behind it.
        let mut segments = match self.checkpoints.last() {
            Some(newest) if !reader.is_whole() => newest.segments.clone(),
            Some(_) | None => Vec::new(),
        };
        let has_room = segments.len() < MAX_SEGMENTS;
        let (Ok(crc), Ok(store)) = (read, reader.finish()) else {
            return Ok(CheckpointDone::Damaged { last_included });
        };
        if store.applied_index() != last_included.index.0 || !has_room {
            return Ok(CheckpointDone::Damaged { last_included });
        }
        file.sync().map_err(&io)?;
        drop(file);
        segments.push(Segment { last_included, revision: store.revision(), len_bytes, crc });
        self.publish(INCOMING_FILE, Manifest { snapshot: snapshot.clone(), segments })?;
        Ok(CheckpointDone::Installed { last_included, store: Box::new(store) })
    }

    fn read_checkpoint(&self, manifest: &Manifest) -> Result<Store, CheckpointFault> {
        let mut reader = Reader::new();
        for segment in &manifest.segments {
            let name = segment_name(segment.last_included);
            let damaged = |why: String| CheckpointFault::Damaged { name: name.clone(), why };
            let file = self.disk.open(&name).map_err(fault(&name))?;
            let found_bytes = file.len_bytes().map_err(fault(&name))?;
            if found_bytes != segment.len_bytes {
                return Err(damaged(format!("{found_bytes} bytes instead of {}", segment.len_bytes)));
            }
            let read = read_segment(&file, found_bytes, &mut reader).map_err(fault(&name))?;
            if read.map_err(|error| damaged(error.to_string()))? != segment.crc {
                return Err(damaged("it is not the segment that its manifest names".into()));
            }
        }
        let last_included = manifest.snapshot.last_included;
        let damaged = |why: String| CheckpointFault::Damaged { name: manifest_name(last_included), why };
        let store = reader.finish().map_err(|error| damaged(error.to_string()))?;
        if store.applied_index() != last_included.index.0 {
            return Err(damaged("its segments are not the checkpoint that it names".into()));
        }
        Ok(store)
    }

    fn read_manifest(&self, last_included: EntryId) -> Result<Manifest, CheckpointFault> {
        let name = manifest_name(last_included);
        let file = self.disk.open(&name).map_err(fault(&name))?;
        let len = file.len_bytes().map_err(fault(&name))?.min(MAX_MANIFEST_BYTES);
        let bytes = read_exact(&file, 0, len as usize).map_err(fault(&name))?;
        match Manifest::decode(&bytes) {
            Ok(manifest) if manifest.snapshot.last_included == last_included => Ok(manifest),
            Ok(_) => Err(CheckpointFault::Damaged { name, why: "it names another checkpoint".into() }),
            Err(error) => Err(CheckpointFault::Damaged { name, why: error.to_string() }),
        }
    }

    /// Removes all but the newest checkpoints and those that are being sent, manifests first, and segments that no
    /// manifest names.
    fn remove_old(&mut self) -> Result<(), CheckpointFault> {
        let mut newer = self.checkpoints.len();
        self.checkpoints.retain(|manifest| {
            newer -= 1;
            newer < KEPT_CHECKPOINTS || self.sent.contains(&manifest.snapshot.last_included)
        });
        let kept: BTreeSet<String> = self.checkpoints.iter().flat_map(Manifest::file_names).collect();
        if self.remove_others(MANIFEST_SUFFIX, &kept)? {
            self.disk.sync_directory().map_err(fault("directory"))?;
        }
        self.remove_others(SEGMENT_SUFFIX, &kept)?;
        Ok(())
    }

    /// Removes the files of a kind that are not `kept`. Answers whether there were any.
    fn remove_others(&self, suffix: &str, kept: &BTreeSet<String>) -> Result<bool, CheckpointFault> {
        let mut others = self.names()?;
        others.retain(|name| id_of(name, suffix).is_some() && !kept.contains(name));
        for name in &others {
            self.disk.remove(name).map_err(fault(name))?;
        }
        Ok(!others.is_empty())
    }

    fn names(&self) -> Result<Vec<String>, CheckpointFault> {
        self.disk.list().map_err(fault("directory"))
    }
}

/// `index-term`, in hexadecimal digits that sort like the numbers.
fn name_of(id: EntryId) -> String {
    format!("{:016x}-{:016x}", id.index.0, id.term.0)
}

fn segment_name(id: EntryId) -> String {
    name_of(id) + SEGMENT_SUFFIX
}

fn manifest_name(id: EntryId) -> String {
    name_of(id) + MANIFEST_SUFFIX
}

impl Manifest {
    /// Its own, and its segments'.
    fn file_names(&self) -> impl Iterator<Item = String> {
        let segments = self.segments.iter().map(|segment| segment_name(segment.last_included));
        segments.chain([manifest_name(self.snapshot.last_included)])
    }
}

/// What a file of this kind stands for; none if it is no such file.
fn id_of(name: &str, suffix: &str) -> Option<EntryId> {
    let name = name.strip_suffix(suffix)?;
    let (index, term) = name.split_once('-')?;
    let id =
        EntryId::new(Index(u64::from_str_radix(index, 16).ok()?), Term(u64::from_str_radix(term, 16).ok()?));
    (name_of(id) == name).then_some(id)
}

fn age(id: &EntryId) -> (Index, Term) {
    (id.index, id.term)
}

/// The segment that holds the byte at `offset` of them all, and where in it.
fn segment_at(segments: &[Segment], mut offset: u64) -> Option<(&Segment, u64)> {
    for segment in segments {
        if offset < segment.len_bytes {
            return Some((segment, offset));
        }
        offset -= segment.len_bytes;
    }
    None
}

fn fault(name: &str) -> impl Fn(io::Error) -> CheckpointFault + use<> {
    let name = name.to_owned();
    move |source| CheckpointFault::Io { name: name.clone(), source }
}

fn unreadable(why: CheckpointError) -> CheckpointFault {
    CheckpointFault::Unreadable { why }
}

fn read_exact<F: DiskFile>(file: &F, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(offset + filled as u64, &mut bytes[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(bytes)
}

/// Gives a segment's bytes to the reader. Answers their checksum, or what the reader had against them.
fn read_segment<F: DiskFile>(
    file: &F,
    len: u64,
    reader: &mut Reader,
) -> io::Result<Result<u32, CheckpointError>> {
    let mut checksum = 0;
    let mut offset = 0;
    while offset < len {
        let bytes = read_exact(file, offset, (len - offset).min(READ_BYTES as u64) as usize)?;
        checksum = crc32c::crc32c_append(checksum, &bytes);
        offset += bytes.len() as u64;
        if let Err(error) = reader.push(&bytes) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(checksum))
}

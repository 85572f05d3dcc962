//! Does the jobs of the checkpoints: writes the state down, reads pieces for followers, keeps pieces that
//! arrive, installs what arrived.
//!
//! A checkpoint is a segment (the store's bytes, see docs/checkpoint-format.md) and a manifest that names
//! it. The manifest is renamed into place after the segment is durable, so a checkpoint is whole or not
//! there. The newest two are kept: the one before the newest may be on its way to a follower.

use std::io;

use bytes::Bytes;
use tenure_raft::{EntryId, Index, Snapshot, Term};
use tenure_store::Store;
use tenure_store::checkpoint::{CheckpointError, Reader, Writer};
use tenure_wal::{Disk, DiskFile};

use crate::identity::replace_file;
use crate::job::{CheckpointDone, CheckpointJob};
use crate::manifest::Manifest;

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
        source: io::Error,
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
    incoming: Option<D::File>,
}

impl<D: Disk> CheckpointWorker<D> {
    /// Opens the directory and reads the newest checkpoint, if there is one. What an interrupted job left
    /// behind is removed.
    pub fn open(disk: D) -> Result<(Self, Option<(Snapshot, Store)>), CheckpointFault> {
        let mut worker = CheckpointWorker { disk, incoming: None };
        // A process that died may have left names that only the page cache knows: nothing may rest on them.
        worker.disk.sync_directory().map_err(fault("directory"))?;
        let names = worker.names()?;
        for name in [INCOMING_FILE, TEMPORARY_SEGMENT, TEMPORARY_MANIFEST] {
            if names.iter().any(|existing| existing == name) {
                worker.disk.remove(name).map_err(fault(name))?;
            }
        }
        let newest = match worker.checkpoints()?.last() {
            Some(&last_included) => Some(worker.read_checkpoint(last_included)?),
            None => None,
        };
        worker.remove_old()?;
        Ok((worker, newest))
    }

    /// Does a job whole. An error is final: the member must stop.
    pub fn run(&mut self, job: CheckpointJob) -> Result<CheckpointDone, CheckpointFault> {
        match job {
            CheckpointJob::Take { snapshot, state } => {
                self.take(&snapshot, state)?;
                Ok(CheckpointDone::Taken { last_included: snapshot.last_included })
            }
            CheckpointJob::Load { to, last_included, offset, max_bytes } => {
                let loaded = self.load(last_included, offset, max_bytes)?;
                Ok(match loaded {
                    Some((snapshot, data, done)) => {
                        CheckpointDone::Loaded { to, snapshot, offset, data, done }
                    }
                    None => CheckpointDone::Unavailable { to, last_included },
                })
            }
            CheckpointJob::Store { snapshot, offset, data } => {
                self.keep(offset, &data)?;
                Ok(CheckpointDone::Stored { last_included: snapshot.last_included })
            }
            CheckpointJob::Install { snapshot } => self.install(&snapshot),
        }
    }

    fn take(&mut self, snapshot: &Snapshot, state: tenure_store::Snapshot) -> Result<(), CheckpointFault> {
        let io = fault(TEMPORARY_SEGMENT);
        if self.names()?.iter().any(|name| name == TEMPORARY_SEGMENT) {
            self.disk.remove(TEMPORARY_SEGMENT).map_err(&io)?;
        }
        let mut file = self.disk.create(TEMPORARY_SEGMENT).map_err(&io)?;
        let mut offset = 0;
        let mut checksum = 0;
        for block in Writer::new(state) {
            file.write_at(offset, &block).map_err(&io)?;
            checksum = crc32c::crc32c_append(checksum, &block);
            offset += block.len() as u64;
        }
        file.sync().map_err(&io)?;
        self.publish(TEMPORARY_SEGMENT, snapshot, offset, checksum)
    }

    /// Gives a durable segment its name and its manifest, and removes what is older than it need be.
    fn publish(
        &mut self,
        temporary: &str,
        snapshot: &Snapshot,
        segment_bytes: u64,
        segment_crc: u32,
    ) -> Result<(), CheckpointFault> {
        let name = segment_name(snapshot.last_included);
        self.disk.rename(temporary, &name).map_err(fault(&name))?;
        self.disk.sync_directory().map_err(fault(&name))?;
        let manifest = Manifest { snapshot: snapshot.clone(), segment_bytes, segment_crc };
        let name = manifest_name(snapshot.last_included);
        replace_file(&self.disk, &name, TEMPORARY_MANIFEST, &manifest.encode()).map_err(fault(&name))?;
        self.remove_old()
    }

    fn load(
        &self,
        last_included: EntryId,
        offset: u64,
        max_bytes: usize,
    ) -> Result<Option<(Snapshot, Bytes, bool)>, CheckpointFault> {
        if !self.checkpoints()?.contains(&last_included) {
            return Ok(None);
        }
        let manifest = self.read_manifest(last_included)?;
        let name = segment_name(last_included);
        let offset = offset.min(manifest.segment_bytes);
        let len = (manifest.segment_bytes - offset).min(max_bytes as u64);
        let file = self.disk.open(&name).map_err(fault(&name))?;
        let data = read_exact(&file, offset, len as usize).map_err(fault(&name))?;
        Ok(Some((manifest.snapshot, data.into(), offset + len == manifest.segment_bytes)))
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

    fn install(&mut self, snapshot: &Snapshot) -> Result<CheckpointDone, CheckpointFault> {
        let last_included = snapshot.last_included;
        let io = fault(INCOMING_FILE);
        let Some(mut file) = self.incoming.take() else {
            return Ok(CheckpointDone::Damaged { last_included });
        };
        let segment_bytes = file.len_bytes().map_err(&io)?;
        let Some((store, segment_crc)) = read_store(&file, segment_bytes).map_err(&io)?.ok() else {
            return Ok(CheckpointDone::Damaged { last_included });
        };
        if store.applied_index() != last_included.index.0 {
            return Ok(CheckpointDone::Damaged { last_included });
        }
        file.sync().map_err(&io)?;
        drop(file);
        self.publish(INCOMING_FILE, snapshot, segment_bytes, segment_crc)?;
        Ok(CheckpointDone::Installed { last_included, store: Box::new(store) })
    }

    fn read_checkpoint(&self, last_included: EntryId) -> Result<(Snapshot, Store), CheckpointFault> {
        let manifest = self.read_manifest(last_included)?;
        let name = segment_name(last_included);
        let damaged = |why: String| CheckpointFault::Damaged { name: name.clone(), why };
        let file = self.disk.open(&name).map_err(fault(&name))?;
        let found_bytes = file.len_bytes().map_err(fault(&name))?;
        if found_bytes != manifest.segment_bytes {
            return Err(damaged(format!("{found_bytes} bytes instead of {}", manifest.segment_bytes)));
        }
        let (store, crc) = read_store(&file, found_bytes)
            .map_err(fault(&name))?
            .map_err(|error| damaged(error.to_string()))?;
        if crc != manifest.segment_crc || store.applied_index() != last_included.index.0 {
            return Err(damaged("it is not the segment that its manifest names".into()));
        }
        Ok((manifest.snapshot, store))
    }

    fn read_manifest(&self, last_included: EntryId) -> Result<Manifest, CheckpointFault> {
        let name = manifest_name(last_included);
        let file = self.disk.open(&name).map_err(fault(&name))?;
        let len = file.len_bytes().map_err(fault(&name))?.min(MAX_MANIFEST_BYTES);
        let bytes = read_exact(&file, 0, len as usize).map_err(fault(&name))?;
        match Manifest::decode(&bytes) {
            Some(manifest) if manifest.snapshot.last_included == last_included => Ok(manifest),
            Some(_) => Err(CheckpointFault::Damaged { name, why: "it names another checkpoint".into() }),
            None => Err(CheckpointFault::Damaged { name, why: "its checksum is wrong".into() }),
        }
    }

    /// The checkpoints that have a manifest, oldest first.
    fn checkpoints(&self) -> Result<Vec<EntryId>, CheckpointFault> {
        let names = self.names()?;
        let mut found: Vec<EntryId> =
            names.iter().filter_map(|name| parse_name(name.strip_suffix(MANIFEST_SUFFIX)?)).collect();
        found.sort_by_key(|id| (id.index, id.term));
        Ok(found)
    }

    /// Removes all but the newest checkpoints, manifests first, and segments that no manifest names.
    fn remove_old(&mut self) -> Result<(), CheckpointFault> {
        let checkpoints = self.checkpoints()?;
        let (old, kept) = checkpoints.split_at(checkpoints.len().saturating_sub(KEPT_CHECKPOINTS));
        for &id in old {
            let name = manifest_name(id);
            self.disk.remove(&name).map_err(fault(&name))?;
        }
        self.disk.sync_directory().map_err(fault("directory"))?;
        for name in self.names()? {
            let segment = name.strip_suffix(SEGMENT_SUFFIX).and_then(parse_name);
            if segment.is_some_and(|id| !kept.contains(&id)) {
                self.disk.remove(&name).map_err(fault(&name))?;
            }
        }
        Ok(())
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

fn parse_name(name: &str) -> Option<EntryId> {
    let (index, term) = name.split_once('-')?;
    let id =
        EntryId::new(Index(u64::from_str_radix(index, 16).ok()?), Term(u64::from_str_radix(term, 16).ok()?));
    (name_of(id) == name).then_some(id)
}

fn fault(name: &str) -> impl Fn(io::Error) -> CheckpointFault + use<> {
    let name = name.to_owned();
    move |source| CheckpointFault::Io { name: name.clone(), source }
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

/// Reads a segment's state, and the checksum of its bytes.
fn read_store<F: DiskFile>(file: &F, len: u64) -> io::Result<Result<(Store, u32), CheckpointError>> {
    let mut reader = Reader::new();
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
    Ok(reader.finish().map(|store| (store, checksum)))
}

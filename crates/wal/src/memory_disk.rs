//! A disk in memory that forgets what was not synced, tears what was half written, and fails when told to.
//!
//! The model is POSIX at its least helpful. A write may be read back at once. Until the file is synced, a
//! loss of power leaves in each 512-byte sector any of the contents that it has had since the last sync,
//! each sector for itself: so writes are torn, reordered and dropped. A file that has grown may have its
//! old length again. Creations, renames and removals that no sync of the directory has followed are each kept or
//! lost, whatever becomes of those of other names; what follows a lost one under the same name is lost with it.
//! A sync that fails leaves everything as uncertain as it was, and a second sync will claim success without
//! making it any more certain, as Linux does (Rebello et al., "Can Applications Recover from fsync Failures?",
//! ATC 2020), until the sector is written again.
//!
//! Everything that chance decides is drawn from a seed, or from a function of the caller, so that a test can
//! walk through all outcomes. Stalls are the caller's business: there is no time here.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use rustix::io::Errno;

use crate::disk::Disk;

mod file;
mod inode;
mod random;

pub use file::MemoryFile;
use inode::Inode;
pub use inode::SECTOR_BYTES;
use random::SplitMix64;

/// What ends: the process alone, or the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// All that was written can still be read, though it is no more durable than before.
    Process,
    /// Of what was not synced, anything may be left.
    Power,
}

/// The operations that can be made to fail, and that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// [`DiskFile::read_at`](crate::DiskFile::read_at).
    Read,
    /// [`DiskFile::write_at`](crate::DiskFile::write_at).
    Write,
    /// [`DiskFile::allocate`](crate::DiskFile::allocate).
    Allocate,
    /// [`DiskFile::sync`](crate::DiskFile::sync).
    Sync,
    /// [`Disk::create`].
    Create,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::remove`].
    Remove,
    /// [`Disk::sync_directory`].
    SyncDirectory,
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// EIO. Of a write, something may still have reached the disk.
    InputOutput,
    /// ENOSPC, without any effect.
    NoSpace,
    /// EMFILE, without any effect.
    TooManyFiles,
}

/// One failure to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which operation will fail.
    pub operation: Operation,
    /// How many of these will go well before one fails.
    pub after: u64,
    /// How it fails.
    pub kind: FaultKind,
}

/// A simulated directory. Clones are handles on the same one; [`MemoryDisk::fork`] makes a copy.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Rc<RefCell<State>>,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// Grows with each crash: files opened before it are useless after it.
    generation: u64,
    next_inode: u64,
    inodes: BTreeMap<u64, Inode>,
    /// How many handles there are on each file.
    open_files: BTreeMap<u64, usize>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    unsynced_names: Vec<NameChange>,
    faults: Vec<Fault>,
    capacity_bytes: Option<u64>,
    counts: BTreeMap<Operation, u64>,
    read_bytes: u64,
    changes_until_power_fails: Option<u64>,
    power_failed: bool,
}

#[derive(Clone, Debug)]
enum NameChange {
    Create { name: String, inode: u64 },
    Rename { from: String, to: String },
    Remove { name: String },
}

/// Whether an operation is the one during which the power fails.
#[derive(PartialEq, Eq)]
enum Power {
    On,
    Failing,
}

impl MemoryDisk {
    /// An empty directory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk of its own with the same state, to try several futures.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { state: Rc::new(RefCell::new(self.state.borrow().clone())) }
    }

    /// Crashes; what chance decides is drawn from `seed`. Files that were open are useless afterwards.
    pub fn crash(&self, crash: Crash, seed: u64) {
        let mut random = SplitMix64(seed);
        self.crash_choosing(crash, &mut |bound| random.below(bound));
    }

    /// Crashes; what chance decides is asked of `choose`, which is given a bound and returns a number below it:
    /// first, for each unsynced change of names that does not hang on a lost one, whether it is kept (1); then, for
    /// each file, whether it keeps its new length (1) and which of its contents each unsynced sector has, from the
    /// oldest to the newest.
    pub fn crash_choosing(&self, crash: Crash, choose: &mut dyn FnMut(u64) -> u64) {
        let mut state = self.state.borrow_mut();
        state.generation += 1;
        state.power_failed = false;
        state.changes_until_power_fails = None;
        if crash == Crash::Power {
            state.lose_unsynced(choose);
        }
    }

    /// Lets one operation fail.
    pub fn inject(&self, fault: Fault) {
        self.state.borrow_mut().faults.push(fault);
    }

    /// Takes back all faults that have not happened yet.
    pub fn clear_faults(&self) {
        self.state.borrow_mut().faults.clear();
    }

    /// Lets the power fail in the midst of a coming change (anything but a read), after `changes` more have
    /// gone well. From then on every operation fails, until [`crash`](Self::crash) brings the disk back.
    pub fn fail_power_after(&self, changes: u64) {
        self.state.borrow_mut().changes_until_power_fails = Some(changes);
    }

    /// Whether the power has failed (see [`fail_power_after`](Self::fail_power_after)).
    pub fn has_power_failed(&self) -> bool {
        self.state.borrow().power_failed
    }

    /// Limits the sum of what all files take.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.state.borrow_mut().capacity_bytes = capacity_bytes;
    }

    /// The limit that was set.
    pub fn capacity_bytes(&self) -> Option<u64> {
        self.state.borrow().capacity_bytes
    }

    /// How much all files take.
    pub fn used_bytes(&self) -> u64 {
        self.state.borrow().used_bytes() as u64
    }

    /// How often an operation was called, failures included.
    pub fn count(&self, operation: Operation) -> u64 {
        self.state.borrow().counts.get(&operation).copied().unwrap_or(0)
    }

    /// How many bytes were read.
    pub fn read_bytes(&self) -> u64 {
        self.state.borrow().read_bytes
    }

    /// How many changes (anything but a read) there were, failures included.
    pub fn change_count(&self) -> u64 {
        self.state
            .borrow()
            .counts
            .iter()
            .filter(|(operation, _)| **operation != Operation::Read)
            .map(|(_, n)| n)
            .sum()
    }

    /// How many sectors would be uncertain if the power failed now.
    pub fn unsynced_sector_count(&self) -> usize {
        self.state.borrow().inodes.values().map(Inode::unsynced_sector_count).sum()
    }

    /// The names that would not be there, or would stand for something else, if the power failed now and nothing that
    /// was not synced were kept.
    pub fn unsynced_names(&self) -> Vec<String> {
        let state = self.state.borrow();
        let unsynced =
            state.names.iter().filter(|(name, inode)| state.durable_names.get(*name) != Some(inode));
        unsynced.map(|(name, _)| name.clone()).collect()
    }

    /// The names of all files.
    pub fn names(&self) -> Vec<String> {
        self.state.borrow().names.keys().cloned().collect()
    }

    /// A bit of a file turns over on the medium, counted from the file's first: what was synced is no longer what it
    /// was. For a disk that has just crashed, so that nothing waits for a sync.
    ///
    /// # Panics
    ///
    /// If there is no such bit.
    pub fn rot(&self, name: &str, bit: u64) {
        let mut state = self.state.borrow_mut();
        let inode = state.names[name];
        state.inode(inode).content[(bit / 8) as usize] ^= 1 << (bit % 8);
    }

    /// A file is gone from the medium, with its name. For a disk that has just crashed.
    pub fn lose(&self, name: &str) {
        let mut state = self.state.borrow_mut();
        state.names.remove(name);
        state.durable_names.remove(name);
        state.drop_unreachable();
    }

    /// The content of a file as it would be read now.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state.borrow();
        state.names.get(name).map(|inode| state.inodes[inode].content.clone())
    }

    /// Changes a byte behind everyone's back, durably: `xor` says which bits.
    pub fn flip(&self, name: &str, offset: usize, xor: u8) {
        let mut state = self.state.borrow_mut();
        let inode = state.names[name];
        let inode = state.inodes.get_mut(&inode).expect("every name has an inode");
        inode.content[offset] ^= xor;
    }

    /// Puts a file there as if it had always been there, durably.
    pub fn place(&self, name: &str, content: &[u8]) {
        let mut state = self.state.borrow_mut();
        let inode = state.add_inode();
        let file = state.inodes.get_mut(&inode).expect("just added");
        file.content = content.to_vec();
        file.durable_len = content.len();
        state.names.insert(name.to_owned(), inode);
        state.durable_names.insert(name.to_owned(), inode);
    }

    fn file(&self, inode: u64) -> MemoryFile {
        MemoryFile::new(&self.state, inode)
    }
}

impl State {
    fn add_inode(&mut self) -> u64 {
        let inode = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(inode, Inode::default());
        inode
    }

    /// Counts an operation, and fails it if its time has come.
    fn enter(&mut self, operation: Operation) -> Result<Power, Failure> {
        if self.power_failed {
            return Err(Failure::PowerIsOff);
        }
        *self.counts.entry(operation).or_default() += 1;
        self.take_fault(operation)?;
        if operation == Operation::Read {
            return Ok(Power::On);
        }
        match &mut self.changes_until_power_fails {
            None => Ok(Power::On),
            Some(0) => {
                self.power_failed = true;
                Ok(Power::Failing)
            }
            Some(left) => {
                *left -= 1;
                Ok(Power::On)
            }
        }
    }

    fn take_fault(&mut self, operation: Operation) -> Result<(), Failure> {
        let mut due = None;
        for (place, fault) in self.faults.iter_mut().enumerate() {
            if fault.operation != operation {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
            } else if due.is_none() {
                due = Some(place);
            }
        }
        due.map_or(Ok(()), |place| Err(Failure::Fault(self.faults.remove(place).kind)))
    }

    fn change_names(&mut self, operation: Operation, change: NameChange) -> io::Result<()> {
        let power = self.enter(operation)?;
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
        power.into_result()
    }

    fn lose_unsynced(&mut self, choose: &mut dyn FnMut(u64) -> u64) {
        let mut lost: Vec<String> = Vec::new();
        for change in std::mem::take(&mut self.unsynced_names) {
            let hangs_on_lost = change.names().any(|name| lost.iter().any(|lost| lost == name));
            if !hangs_on_lost && choose(2) == 1 {
                change.apply(&mut self.durable_names);
            } else {
                lost.extend(change.names().map(str::to_owned));
            }
        }
        self.names = self.durable_names.clone();
        let names = &self.names;
        self.inodes.retain(|inode, _| names.values().any(|named| named == inode));
        for inode in self.inodes.values_mut() {
            inode.lose_unsynced(choose);
        }
    }

    fn ensure_room(&self, more_bytes: usize) -> Result<(), Failure> {
        match self.capacity_bytes {
            // After a crash there may be more than there was room for: what had been removed is there again. What needs no
            // more of it can be written all the same.
            Some(capacity) if more_bytes > 0 && (self.used_bytes() + more_bytes) as u64 > capacity => {
                Err(Failure::Fault(FaultKind::NoSpace))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn used_bytes(&self) -> usize {
        self.names.values().map(|inode| self.inodes[inode].used_bytes()).sum()
    }
}

impl NameChange {
    fn names(&self) -> impl Iterator<Item = &str> {
        let (first, second) = match self {
            Self::Create { name, .. } | Self::Remove { name } => (name, None),
            Self::Rename { from, to } => (from, Some(to)),
        };
        std::iter::once(first).chain(second).map(String::as_str)
    }

    fn creates(&self, created: u64) -> bool {
        matches!(self, Self::Create { inode, .. } if *inode == created)
    }

    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Create { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename { from, to } => {
                let inode = names.remove(from).expect("changes of one name are kept in order");
                names.insert(to.clone(), inode);
            }
            Self::Remove { name } => {
                names.remove(name);
            }
        }
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.state.borrow_mut();
        state.enter(Operation::Read)?;
        Ok(state.names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<MemoryFile> {
        let inode = {
            let mut state = self.state.borrow_mut();
            state.enter(Operation::Read)?;
            *state.names.get(name).ok_or(io::ErrorKind::NotFound)?
        };
        Ok(self.file(inode))
    }

    fn create(&self, name: &str) -> io::Result<MemoryFile> {
        let inode = {
            let mut state = self.state.borrow_mut();
            if state.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let inode = state.add_inode();
            state.change_names(Operation::Create, NameChange::Create { name: name.to_owned(), inode })?;
            inode
        };
        Ok(self.file(inode))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let change = NameChange::Rename { from: from.to_owned(), to: to.to_owned() };
        state.change_names(Operation::Rename, change)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_names(Operation::Remove, NameChange::Remove { name: name.to_owned() })
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        state.enter(Operation::SyncDirectory)?.into_result()?;
        state.unsynced_names.clear();
        state.durable_names = state.names.clone();
        state.drop_unreachable();
        Ok(())
    }
}

impl State {
    /// A file that has no name, neither now nor after any crash, and that nobody has open is gone.
    fn drop_unreachable(&mut self) {
        let State { inodes, names, durable_names, unsynced_names, open_files, .. } = self;
        inodes.retain(|inode, _| {
            open_files.contains_key(inode)
                || names.values().any(|named| named == inode)
                || durable_names.values().any(|named| named == inode)
                || unsynced_names.iter().any(|change| change.creates(*inode))
        });
    }

    fn inode(&mut self, inode: u64) -> &mut Inode {
        self.inodes.get_mut(&inode).expect("an inode lives as long as somebody has it open")
    }
}

/// Why an operation of the simulated disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Fault(FaultKind),
    PowerIsOff,
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Fault(FaultKind::InputOutput) => Errno::IO.into(),
            Failure::Fault(FaultKind::NoSpace) => Errno::NOSPC.into(),
            Failure::Fault(FaultKind::TooManyFiles) => Errno::MFILE.into(),
            Failure::PowerIsOff => Self::other("the power is off"),
        }
    }
}

impl Power {
    fn into_result(self) -> io::Result<()> {
        match self {
            Self::On => Ok(()),
            Self::Failing => Err(Failure::PowerIsOff.into()),
        }
    }
}

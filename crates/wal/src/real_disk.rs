//! A directory of the operating system: the only file of this crate that touches one.
//!
//! It adds to the plain calls a lock against a second process and places that are really there when
//! they have been allocated. It leaves out io_uring and direct I/O: one write and one `fdatasync` an
//! append is what the log needs.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the one place where files are files"
)]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock, fstatvfs};
#[cfg(target_os = "linux")]
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::{Errno, retry_on_intr};

use crate::disk::{Disk, DiskFile};
use crate::error::WalError;

/// The file whose lock says that a process is using the directory.
const LOCK_FILE: &str = "lock";
/// The unit in which the system says what a file takes.
const STAT_BLOCK_BYTES: u64 = 512;
/// How much is zeroed with one write.
const ZERO_CHUNK_BYTES: usize = 1 << 20;

/// A directory that this process alone is using.
#[derive(Debug)]
pub struct RealDisk {
    path: PathBuf,
    /// Held open for syncs of the directory.
    directory: File,
    /// Held open for its lock, which ends with the process however that ends.
    _lock: File,
}

impl RealDisk {
    /// Takes a directory into use, creating it (for this user only) if there is none.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, WalError> {
        let path = path.into();
        let io = |op| {
            let path = path.clone();
            move |source| WalError::Io { op, path, source }
        };
        create_directory(&path)?;
        let directory = File::open(&path).map_err(io("open"))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join(LOCK_FILE))
            .map_err(io("open the lock file of"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path, directory, _lock: lock }),
            Err(Errno::WOULDBLOCK) => Err(WalError::InUse { path }),
            Err(errno) => Err(io("lock")(errno.into())),
        }
    }
}

impl RealDisk {
    /// [`open`](Self::open), for files that are written again and again in the place that they have.
    ///
    /// A file system that never overwrites (btrfs) would take new room for each of those writes, so that what was
    /// allocated would promise nothing. It is asked to overwrite in this directory; the log's records have checksums of
    /// their own. Others do not know the wish, and have always done so.
    pub fn open_for_log(path: impl Into<PathBuf>) -> Result<Self, WalError> {
        let disk = Self::open(path)?;
        #[cfg(target_os = "linux")]
        if let Ok(flags) = ioctl_getflags(&disk.directory)
            && !flags.contains(IFlags::NOCOW)
        {
            let _ = ioctl_setflags(&disk.directory, flags | IFlags::NOCOW);
        }
        Ok(disk)
    }
}

/// Creates a directory and what is missing above it, each of them durable in its parent.
fn create_directory(path: &Path) -> Result<(), WalError> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    let io = |op, path: &Path| {
        let path = path.to_owned();
        move |source| WalError::Io { op, path, source }
    };
    let sync_parent = || File::open(parent)?.sync_all();
    if path.is_dir() {
        // An earlier start may have created it, and have died before it could do this.
        return match sync_parent() {
            // A parent that is not ours to read is not where we have put it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced.map_err(io("sync the directory", parent)),
        };
    }
    create_directory(parent)?;
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io("create", path)(error)),
        Ok(()) | Err(_) => {}
    }
    sync_parent().map_err(io("sync the directory", parent))
}

impl Disk for RealDisk {
    type File = RealFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            // Directories are no part of a flat one. Any other link stands for a file that somebody has put
            // elsewhere: not to see it would be to forget what is in it.
            let is_directory = kind.is_dir() || kind.is_symlink() && entry.path().is_dir();
            // What has no UTF-8 name is not ours.
            if !is_directory
                && let Ok(name) = entry.file_name().into_string()
                && name != LOCK_FILE
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<RealFile> {
        let file = OpenOptions::new().read(true).write(true).open(self.path.join(name))?;
        Ok(RealFile { file })
    }

    fn create(&self, name: &str) -> io::Result<RealFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        Ok(RealFile { file: options.open(self.path.join(name))? })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn path_of(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.path.clone() } else { self.path.join(name) }
    }
}

/// An open file of a [`RealDisk`].
#[derive(Debug)]
pub struct RealFile {
    file: File,
}

impl DiskFile for RealFile {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn allocate(&mut self, len_bytes: u64) -> io::Result<()> {
        let mut filled_bytes = self.len_bytes()?;
        if filled_bytes >= len_bytes {
            return Ok(());
        }
        let missing_bytes = len_bytes - filled_bytes;
        let reserve = || fallocate(&self.file, FallocateFlags::empty(), filled_bytes, missing_bytes);
        // A signal to the process is no fault of the disk.
        match retry_on_intr(reserve) {
            // Where a file system cannot reserve, the zeros below take the place.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno.into()),
        }
        // A reserved block that was never written costs a change of metadata when it is, and so a journal
        // commit in the fdatasync after it: so write it now, when nobody waits.
        let zeros = vec![0; ZERO_CHUNK_BYTES];
        while filled_bytes < len_bytes {
            let count = (len_bytes - filled_bytes).min(zeros.len() as u64);
            self.file.write_all_at(&zeros[..count as usize], filled_bytes)?;
            filled_bytes += count;
        }
        Ok(())
    }

    fn reserve(&mut self, len_bytes: u64) -> io::Result<bool> {
        // Some would take all that there is before they say that it is too little; others must not meet that.
        let volume = fstatvfs(&self.file)?;
        let held_bytes = self.file.metadata()?.blocks().saturating_mul(STAT_BLOCK_BYTES);
        let free_bytes = volume.f_bavail.saturating_mul(volume.f_frsize);
        if volume.f_blocks > 0 && free_bytes < len_bytes.saturating_sub(held_bytes) {
            return Err(Errno::NOSPC.into());
        }
        let reserve = || fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, len_bytes);
        // A signal to the process is no fault of the disk.
        match retry_on_intr(reserve) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

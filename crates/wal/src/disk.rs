//! The few calls that the log makes of a disk: one flat directory of files.
//!
//! [`RealDisk`](crate::RealDisk) answers them with the operating system, [`MemoryDisk`](crate::MemoryDisk)
//! with a simulation down to the sector. The traits promise no more than POSIX does: what was written
//! may be read back at once, but survives a loss of power only after [`DiskFile::sync`], and a name that
//! was created, renamed or removed only after [`Disk::sync_directory`].

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

/// One flat directory.
pub trait Disk {
    /// An open file of this disk.
    type File: DiskFile;

    /// The names of all files, in ascending order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Creates an empty file; fails if there is one of that name.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Renames a file, replacing `to` if it exists.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes all creations, renames and removals so far survive a loss of power.
    fn sync_directory(&self) -> io::Result<()>;
    /// How a person would name this file, for error messages; the directory, if the name is empty.
    fn path_of(&self, name: &str) -> PathBuf {
        PathBuf::from(name)
    }
}

/// One open file.
pub trait DiskFile {
    /// The length of the file.
    fn len_bytes(&self) -> io::Result<u64>;
    /// Reads at `offset` into `buffer`; returns how many bytes there were, 0 at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `data` at `offset`.
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Makes the file at least `len_bytes` long. The new part reads as zeros and has its place on the
    /// disk, so that overwriting it later can neither run out of space nor needs a change of metadata.
    fn allocate(&mut self, len_bytes: u64) -> io::Result<()>;
    /// Has the disk keep room for the file up to `len_bytes`, all of it or none; content and length stay as they are.
    /// Answers whether there is such a promise: some file systems know none.
    fn reserve(&mut self, len_bytes: u64) -> io::Result<bool>;
    /// Makes the content, and the length, survive a loss of power (`fdatasync`).
    fn sync(&mut self) -> io::Result<()>;
}

/// Whether an operation failed for want of something that may be there again later: room on the disk, or a file that
/// the process, or the machine, may have open. It had no effect that a second attempt would not undo.
pub fn lacks_room(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    let has_too_many_open =
        errno == Some(Errno::MFILE.raw_os_error()) || errno == Some(Errno::NFILE.raw_os_error());
    has_too_many_open || is_full(error)
}

/// Whether an operation failed because the disk is full, or a quota spent.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Reads exactly `buffer.len()` bytes, or fails with `UnexpectedEof`.
pub(crate) fn read_exact_at(file: &impl DiskFile, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        let count = file.read_at(offset + filled as u64, &mut buffer[filled..])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += count;
    }
    Ok(())
}

//! Where a member keeps its data: a folder of the real disk, or a small file system in memory that can be filled.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Room for the log with its spare segments, and for some checkpoints.
const SMALL_BYTES: u64 = 400 << 20;
const BALLAST_CHUNK_BYTES: usize = 1 << 20;

/// A disk.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
    is_small: bool,
}

impl Disk {
    /// A folder of the disk that there is.
    pub(crate) fn folder(folder: PathBuf) -> io::Result<Disk> {
        fs::create_dir_all(&folder)?;
        Ok(Disk { folder, is_small: false })
    }

    /// A small one, mounted there.
    pub(crate) fn small(folder: PathBuf) -> io::Result<Disk> {
        fs::create_dir_all(&folder)?;
        let size = std::ffi::CString::new(format!("size={SMALL_BYTES}")).expect("no zero in it");
        mount("tmpfs", &folder, "tmpfs", MountFlags::empty(), size.as_c_str())?;
        Ok(Disk { folder, is_small: true })
    }

    /// Whether it can be filled without harm to anybody else.
    pub(crate) fn is_small(&self) -> bool {
        self.is_small
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Removes what is on it.
    pub(crate) fn wipe(&self) -> io::Result<()> {
        fs::remove_dir_all(self.data_dir())
    }

    /// Leaves no room on it.
    pub(crate) fn fill(&self) -> io::Result<()> {
        assert!(self.is_small, "only a small disk is filled");
        let mut ballast = File::create(self.ballast())?;
        let mut chunk = vec![0_u8; BALLAST_CHUNK_BYTES];
        // Down to the last page.
        while !chunk.is_empty() {
            match ballast.write(&chunk) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => chunk.truncate(chunk.len() / 2),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes room again.
    pub(crate) fn free(&self) -> io::Result<()> {
        fs::remove_file(self.ballast())
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }

    /// Copies what a member has left behind, to be looked at.
    pub(crate) fn keep(&self, to: &Path) -> io::Result<()> {
        if self.is_small { copy(&self.data_dir(), to) } else { Ok(()) }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_small {
            // Detached: a process that is about to end may still have files open. What is left goes with the
            // namespace of this program.
            let _ = unmount(&self.folder, UnmountFlags::DETACH);
        }
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

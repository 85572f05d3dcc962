//! The files of the disk in memory: reads, writes and syncs, each of which may fail.

use std::cell::{RefCell, RefMut};
use std::io;
use std::rc::Rc;

use super::{Failure, FaultKind, Operation, State};
use crate::disk::DiskFile;

/// An open file of a [`MemoryDisk`](super::MemoryDisk).
#[derive(Debug)]
pub struct MemoryFile {
    state: Rc<RefCell<State>>,
    inode: u64,
    generation: u64,
}

impl MemoryFile {
    pub(super) fn new(state: &Rc<RefCell<State>>, inode: u64) -> MemoryFile {
        *state.borrow_mut().open_files.entry(inode).or_default() += 1;
        MemoryFile { state: Rc::clone(state), inode, generation: state.borrow().generation }
    }

    fn state(&self) -> io::Result<RefMut<'_, State>> {
        let state = self.state.borrow_mut();
        if state.generation == self.generation {
            Ok(state)
        } else {
            Err(io::Error::other("the process that opened this file has crashed"))
        }
    }

    fn change(&mut self, offset: u64, data: &[u8], operation: Operation) -> io::Result<()> {
        let inode = self.inode;
        let mut state = self.state()?;
        let power = match state.enter(operation) {
            Ok(power) => power,
            // Some or all of a failed write may have reached the disk.
            Err(failure @ Failure::Fault(FaultKind::InputOutput)) => {
                state.inode(inode).write(offset as usize, data);
                return Err(failure.into());
            }
            Err(
                failure
                @ (Failure::Fault(FaultKind::NoSpace | FaultKind::TooManyFiles) | Failure::PowerIsOff),
            ) => {
                return Err(failure.into());
            }
        };
        let grown = (offset as usize + data.len()).saturating_sub(state.inode(inode).used_bytes());
        state.ensure_room(grown)?;
        state.inode(inode).write(offset as usize, data);
        power.into_result()
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state.try_borrow_mut()
            && let Some(handles) = state.open_files.get_mut(&self.inode)
        {
            *handles -= 1;
            if *handles == 0 {
                state.open_files.remove(&self.inode);
            }
        }
    }
}

impl DiskFile for MemoryFile {
    fn len_bytes(&self) -> io::Result<u64> {
        let mut state = self.state()?;
        state.enter(Operation::Read)?;
        Ok(state.inode(self.inode).content.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state()?;
        state.enter(Operation::Read)?;
        let content = &state.inode(self.inode).content;
        let start = content.len().min(offset as usize);
        let count = buffer.len().min(content.len() - start);
        buffer[..count].copy_from_slice(&content[start..start + count]);
        state.read_bytes += count as u64;
        Ok(count)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(offset, data, Operation::Write)
    }

    fn allocate(&mut self, len_bytes: u64) -> io::Result<()> {
        self.change(len_bytes, &[], Operation::Allocate)
    }

    /// Survives every crash at once, which makes no difference to anybody.
    fn reserve(&mut self, len_bytes: u64) -> io::Result<bool> {
        let inode = self.inode;
        let mut state = self.state()?;
        let power = state.enter(Operation::Allocate)?;
        let grown = (len_bytes as usize).saturating_sub(state.inode(inode).used_bytes());
        state.ensure_room(grown)?;
        let file = state.inode(inode);
        file.reserved_len = file.reserved_len.max(len_bytes as usize);
        power.into_result().map(|()| true)
    }

    fn sync(&mut self) -> io::Result<()> {
        let inode = self.inode;
        let mut state = self.state()?;
        match state.enter(Operation::Sync) {
            Ok(power) => power.into_result()?,
            Err(failure) => {
                state.inode(inode).fail_sync();
                return Err(failure.into());
            }
        }
        state.inode(inode).sync();
        Ok(())
    }
}

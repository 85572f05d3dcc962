//! Files that are replaced whole, and a little room that is kept for that: a member must be able to start, and to pin a
//! peer, on a disk that others have filled.

use std::io;

use tenure_wal::{Disk, DiskFile, is_full};

/// The file that takes room, and holds nothing.
pub const ROOM_FILE: &str = "room";
/// More than a new file and its name take on any file system.
const ROOM_BYTES: u64 = 1 << 20;

/// Puts `bytes` in the place of a small file, durably: a crash leaves the old content or the new.
pub(crate) fn replace_file<D: Disk>(disk: &D, name: &str, temporary: &str, bytes: &[u8]) -> io::Result<()> {
    let result = match write(disk, temporary, bytes) {
        Err(error) if is_full(&error) && remove_if_there(disk, ROOM_FILE)? => write(disk, temporary, bytes),
        result => result,
    };
    if let Err(error) = result {
        if is_full(&error) {
            // What is half written would hold the room that somebody else needs.
            let _ = disk.remove(temporary);
        }
        return Err(error);
    }
    disk.rename(temporary, name)?;
    disk.sync_directory()
}

fn write<D: Disk>(disk: &D, temporary: &str, bytes: &[u8]) -> io::Result<()> {
    remove_if_there(disk, temporary)?;
    let mut file = disk.create(temporary)?;
    file.write_at(0, bytes)?;
    file.sync()
}

/// What stands around the content of a small file: who it is, its format's version (4 bytes, little endian), and at the
/// end a CRC32C over all of it.
pub(crate) struct Format {
    pub(crate) magic: &'static [u8; 8],
    pub(crate) version: u32,
    /// No such file is longer.
    pub(crate) max_bytes: usize,
}

impl Format {
    const HEAD_BYTES: usize = 12;
    const CHECKSUM_BYTES: usize = 4;

    pub(crate) fn wrap(&self, content: &[u8]) -> Vec<u8> {
        let mut bytes = [&self.magic[..], &self.version.to_le_bytes(), content].concat();
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The content of a file, if it is whole; none in a directory that has no such file.
    pub(crate) fn load<D: Disk>(&self, disk: &D, name: &str) -> io::Result<Option<Vec<u8>>> {
        if !disk.list()?.iter().any(|existing| existing == name) {
            return Ok(None);
        }
        let file = disk.open(name)?;
        let len = file.len_bytes()? as usize;
        if !(Self::HEAD_BYTES + Self::CHECKSUM_BYTES..=self.max_bytes).contains(&len) {
            return Err(damaged());
        }
        let mut bytes = vec![0; len];
        if file.read_at(0, &mut bytes)? != len {
            return Err(damaged());
        }
        let (body, checksum) = bytes.split_at(len - Self::CHECKSUM_BYTES);
        let (head, content) = body.split_at(Self::HEAD_BYTES);
        let is_whole = crc32c::crc32c(body).to_le_bytes() == checksum;
        if !is_whole || head != [&self.magic[..], &self.version.to_le_bytes()].concat() {
            return Err(damaged());
        }
        Ok(Some(content.to_vec()))
    }
}

/// What is said of a small file that is not what was written.
pub(crate) fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is damaged")
}

/// Removes a file. Answers whether it was there.
pub(crate) fn remove_if_there<D: Disk>(disk: &D, name: &str) -> io::Result<bool> {
    let is_there = disk.list()?.iter().any(|existing| existing == name);
    if is_there {
        disk.remove(name)?;
    }
    Ok(is_there)
}

/// Sees to it that there is some room for small files, as far as there is any.
pub fn keep_room<D: Disk>(disk: &D) -> io::Result<()> {
    let is_there = disk.list()?.iter().any(|existing| existing == ROOM_FILE);
    let opened = if is_there { disk.open(ROOM_FILE) } else { disk.create(ROOM_FILE) };
    let kept = opened.and_then(|mut file| {
        reserve(&mut file, ROOM_BYTES)?;
        // What is not synced may be somebody else's after a loss of power.
        file.sync()
    });
    match kept {
        Ok(()) if is_there => Ok(()),
        Ok(()) => disk.sync_directory(),
        Err(error) if is_full(&error) => remove_if_there(disk, ROOM_FILE).map(drop),
        Err(error) => Err(error),
    }
}

/// Has the disk keep room for a file.
pub(crate) fn reserve<F: DiskFile>(file: &mut F, bytes: u64) -> io::Result<()> {
    // Where nothing can be reserved, zeros take the room.
    if file.reserve(bytes)? { Ok(()) } else { file.allocate(bytes) }
}

/// Removes what an earlier process, of which this directory is free now, did not finish.
pub fn clear_leftovers<D: Disk>(disk: &D) -> io::Result<()> {
    const TEMPORARY_SUFFIX: &str = ".new";
    for name in disk.list()?.iter().filter(|name| name.ends_with(TEMPORARY_SUFFIX)) {
        disk.remove(name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tenure_wal::MemoryDisk;

    use super::*;

    fn replace(disk: &MemoryDisk, bytes: &[u8]) -> io::Result<()> {
        replace_file(disk, "file", "file.new", bytes)
    }

    #[test]
    fn a_small_file_is_replaced_on_a_disk_that_others_have_filled() {
        let disk = MemoryDisk::new();
        keep_room(&disk).expect("there is room");
        replace(&disk, b"old").expect("there is room");
        disk.set_capacity_bytes(Some(ROOM_BYTES + 3));
        replace(&disk, b"new").expect("room was kept for this");
        assert_eq!(disk.content("file").as_deref(), Some(&b"new"[..]));
        assert_eq!(disk.names(), ["file"], "the room is given up");
        disk.set_capacity_bytes(Some(3));
        keep_room(&disk).expect("it can be without");
        let error = replace(&disk, b"newer").expect_err("there is no more room");
        assert!(is_full(&error), "{error}");
        assert_eq!(disk.names(), ["file"], "nothing half written is left");
        disk.set_capacity_bytes(None);
        keep_room(&disk).expect("there is room again");
        assert_eq!(disk.names(), ["file", ROOM_FILE]);
        assert!(disk.unsynced_names().is_empty());
    }

    #[test]
    fn what_was_not_finished_is_removed() {
        let disk = MemoryDisk::new();
        for name in ["file", "file.new", "other.new"] {
            disk.place(name, b"");
        }
        clear_leftovers(&disk).expect("nothing fails");
        assert_eq!(disk.names(), ["file"]);
    }
}

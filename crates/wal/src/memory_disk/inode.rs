//! One file of the simulated disk: what it holds, and what it held before each write that is not durable yet.

use std::collections::BTreeMap;

/// The unit in which a disk writes: never torn itself.
pub const SECTOR_BYTES: usize = 512;

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) content: Vec<u8>,
    pub(super) durable_len: usize,
    /// What the disk keeps room for, be the file that long or not.
    pub(super) reserved_len: usize,
    /// What dirty sectors held before each write since they were last durable, oldest first.
    unsynced: BTreeMap<usize, Vec<OldSector>>,
}

#[derive(Clone, Debug)]
struct OldSector {
    bytes: [u8; SECTOR_BYTES],
    /// A sync of the write that replaced this has failed, and the system has forgotten about it.
    taken_for_clean: bool,
}

impl Inode {
    /// What it takes on the disk.
    pub(super) fn used_bytes(&self) -> usize {
        self.content.len().max(self.reserved_len)
    }

    pub(super) fn unsynced_sector_count(&self) -> usize {
        self.unsynced.len()
    }

    pub(super) fn write(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        if end > self.content.len() {
            self.content.resize(end, 0);
        }
        if data.is_empty() {
            return;
        }
        for sector in offset / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES {
            let start = sector * SECTOR_BYTES;
            let old = &self.content[start..self.content.len().min(start + SECTOR_BYTES)];
            let mut bytes = [0; SECTOR_BYTES];
            bytes[..old.len()].copy_from_slice(old);
            self.unsynced.entry(sector).or_default().push(OldSector { bytes, taken_for_clean: false });
        }
        self.content[offset..end].copy_from_slice(data);
    }

    pub(super) fn sync(&mut self) {
        self.durable_len = self.content.len();
        // A sector that was written since a failed sync is written out whole; one that was not stays lost.
        self.unsynced.retain(|_, versions| versions.iter().all(|version| version.taken_for_clean));
    }

    pub(super) fn fail_sync(&mut self) {
        for version in self.unsynced.values_mut().flatten() {
            version.taken_for_clean = true;
        }
    }

    pub(super) fn lose_unsynced(&mut self, choose: &mut dyn FnMut(u64) -> u64) {
        if self.content.len() != self.durable_len && choose(2) == 0 {
            self.content.resize(self.durable_len, 0);
        }
        for (sector, versions) in std::mem::take(&mut self.unsynced) {
            let start = sector * SECTOR_BYTES;
            if start >= self.content.len() {
                continue;
            }
            if let Some(version) = versions.get(choose(versions.len() as u64 + 1) as usize) {
                let end = self.content.len().min(start + SECTOR_BYTES);
                self.content[start..end].copy_from_slice(&version.bytes[..end - start]);
            }
        }
        self.durable_len = self.content.len();
    }
}

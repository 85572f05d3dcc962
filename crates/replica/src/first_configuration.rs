//! The configuration that a member began with, kept beside its identity.
//!
//! That of a new cluster is in no log, and flags change over the years. A server that joined began with none: it
//! learns from the log who the members are, and must not take what its flags say for a configuration.
//!
//! The file `first` holds "TENUREFC", the format's version (4 bytes, little endian), the configuration as the log
//! has it, and a CRC32C.

use std::io;

use tenure_raft::Configuration;
use tenure_wal::Disk;

use crate::record::{decode_configuration, encode_configuration};
use crate::small_files::{Format, damaged, replace_file};

/// The file's name in a member's folder.
pub const FILE: &str = "first";
pub(crate) const TEMPORARY_FILE: &str = "first.new";
const FORMAT: Format = Format { magic: b"TENUREFC", version: 1, max_bytes: 64 << 10 };

/// Writes it down, durably, unless it stands there already; to be done before the directory has an identity.
pub fn keep<D: Disk>(disk: &D, configuration: &Configuration) -> io::Result<()> {
    if load(disk)?.as_ref() == Some(configuration) {
        // It may stand there since a start that died before this.
        return disk.sync_directory();
    }
    replace_file(disk, FILE, TEMPORARY_FILE, &FORMAT.wrap(&encode_configuration(configuration)))
}

/// Reads it; none in a directory that has no such file.
pub fn load<D: Disk>(disk: &D) -> io::Result<Option<Configuration>> {
    let content = FORMAT.load(disk, FILE)?;
    content.map(|content| decode_configuration(&content).map_err(|_| damaged())).transpose()
}

#[cfg(test)]
mod tests {
    use tenure_raft::NodeId;
    use tenure_wal::{DiskFile, MemoryDisk};

    use super::*;

    #[test]
    fn it_comes_back_and_damage_is_noticed() {
        let id = |number| NodeId::new(number).expect("not zero");
        for configuration in [Configuration::default(), Configuration::of_voters((1..=3).map(id))] {
            let disk = MemoryDisk::default();
            assert_eq!(load(&disk).expect("a disk"), None);
            keep(&disk, &configuration).expect("a disk");
            assert_eq!(load(&disk).expect("a disk").as_ref(), Some(&configuration));
            disk.set_capacity_bytes(Some(0));
            keep(&disk, &configuration).expect("a full disk is no reason to stop: it is there");
            disk.set_capacity_bytes(None);
            let mut file = disk.open(FILE).expect("the file");
            let mut byte = [0];
            file.read_at(13, &mut byte).expect("a byte");
            file.write_at(13, &[byte[0] ^ 1]).expect("a byte");
            assert!(load(&disk).is_err());
        }
    }
}

//! A directory is taken by one member of one cluster, and every start is counted.

use tenure_wal::{Crash, MemoryDisk};

use super::*;

fn member(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

#[test]
fn an_empty_directory_gets_an_identity_and_every_start_another_boot() {
    let disk = MemoryDisk::new();
    for boot in 1..5 {
        // The id is drawn anew by every start, and counts for the first one only.
        let identity = claim(&disk, 7, member(1), 100 + boot).unwrap();
        assert_eq!(identity, Identity { cluster_id: 7, member_id: member(1), directory_id: 101, boot });
        disk.crash(Crash::Power, boot);
        assert_eq!(read(&disk).unwrap(), identity, "durable when it returns");
    }
}

#[test]
fn a_directory_stays_whose_it_is_whoever_asks_for_it() {
    let disk = MemoryDisk::new();
    let identity = claim(&disk, 7, member(1), 100).unwrap();
    for (boot, cluster_id, member_id) in [(2, 8, member(1)), (3, 7, member(2)), (4, 7, member(1))] {
        let found = claim(&disk, cluster_id, member_id, 200).unwrap();
        assert_eq!(found, Identity { boot, ..identity });
    }
}

#[test]
fn files_without_an_identity_are_not_taken_for_an_empty_directory() {
    let disk = MemoryDisk::new();
    disk.place("peers", b"");
    let error = claim(&disk, 7, member(1), 100).unwrap_err();
    assert!(matches!(error, IdentityError::Missing { .. }), "{error}");
}

#[test]
fn what_a_crash_left_of_the_first_identity_is_no_data() {
    let disk = MemoryDisk::new();
    disk.place(TEMPORARY_FILE, b"half");
    assert_eq!(claim(&disk, 7, member(1), 100).unwrap().boot, 1);
}

#[test]
fn any_flipped_bit_and_any_missing_byte_is_noticed() {
    let disk = MemoryDisk::new();
    claim(&disk, 7, member(1), 100).unwrap();
    let content = disk.content(FILE).unwrap();
    assert_eq!(content.len(), LEN_BYTES);
    for offset in 0..LEN_BYTES {
        for bit in 0..8 {
            let damaged = disk.fork();
            damaged.flip(FILE, offset, 1 << bit);
            let error = claim(&damaged, 7, member(1), 100).unwrap_err();
            let is_noticed = matches!(error, IdentityError::Damaged { .. } | IdentityError::Version { .. });
            assert!(is_noticed, "byte {offset}, bit {bit}: {error}");
        }
        let short = MemoryDisk::new();
        short.place(FILE, &content[..offset]);
        let error = claim(&short, 7, member(1), 100).unwrap_err();
        assert!(matches!(error, IdentityError::Damaged { .. }), "{offset} bytes: {error}");
    }
}

//! A peer stays the one that it was when it was met.

use tenure_wal::{Crash, MemoryDisk};

use super::*;

fn member(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

#[test]
fn the_first_directory_of_a_member_is_pinned_and_no_other_passes() {
    let disk = MemoryDisk::new();
    let mut pins = PinnedPeers::load(&disk).unwrap();
    assert_eq!(pins.check(member(2), 20), Ok(()), "never met");
    pins.pin(&disk, member(2), 20).unwrap();
    pins.pin(&disk, member(3), 30).unwrap();
    disk.crash(Crash::Power, 1);
    let pins = PinnedPeers::load(&disk).unwrap();
    assert_eq!(pins.check(member(2), 20), Ok(()));
    let changed = DirectoryChanged { member: 2, pinned: 20, found: 21 };
    assert_eq!(pins.check(member(2), 21), Err(changed));
    assert_eq!(pins.check(member(3), 30), Ok(()));
    assert_eq!(pins.check(member(4), 40), Ok(()));
}

#[test]
fn who_is_pinned_already_costs_no_write() {
    let disk = MemoryDisk::new();
    let mut pins = PinnedPeers::default();
    pins.pin(&disk, member(2), 20).unwrap();
    let changes = disk.change_count();
    pins.pin(&disk, member(2), 20).unwrap();
    assert_eq!(disk.change_count(), changes);
}

#[test]
fn a_pin_that_the_disk_did_not_take_is_none() {
    let disk = MemoryDisk::new();
    let mut pins = PinnedPeers::default();
    disk.fail_power_after(0);
    assert!(pins.pin(&disk, member(2), 20).is_err());
    assert_eq!(pins, PinnedPeers::default());
}

#[test]
fn any_flipped_bit_and_any_missing_byte_is_noticed() {
    let disk = MemoryDisk::new();
    let mut pins = PinnedPeers::default();
    pins.pin(&disk, member(2), 20).unwrap();
    pins.pin(&disk, member(3), 30).unwrap();
    let content = disk.content(FILE).unwrap();
    assert_eq!(content.len(), 2 * PIN_BYTES + 4);
    for offset in 0..content.len() {
        for bit in 0..8 {
            let damaged = disk.fork();
            damaged.flip(FILE, offset, 1 << bit);
            assert!(PinnedPeers::load(&damaged).is_err(), "byte {offset}, bit {bit}");
        }
        let short = MemoryDisk::new();
        short.place(FILE, &content[..offset]);
        assert!(PinnedPeers::load(&short).is_err(), "{offset} bytes");
    }
}

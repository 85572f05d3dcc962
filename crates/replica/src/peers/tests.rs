//! A peer stays the one that it was when it was met.

use tenure_wal::{Crash, MemoryDisk};

use super::*;

const STANDING: Standing = Standing { boot: 3, start_id: 33, began: EntryId::ZERO };

fn at(term: u64, index: u64) -> EntryId {
    EntryId { term: Term(term), index: Index(index) }
}

fn member(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

#[test]
fn the_first_directory_of_a_member_is_pinned_and_no_other_passes() {
    let disk = MemoryDisk::new();
    let mut pins = PinnedPeers::load(&disk).unwrap();
    assert_eq!(pins.check(member(2), 20, STANDING), Ok(()), "never met");
    pins.pin(&disk, member(2), 20, STANDING).unwrap();
    pins.pin(&disk, member(3), 30, STANDING).unwrap();
    disk.crash(Crash::Power, 1);
    let pins = PinnedPeers::load(&disk).unwrap();
    assert_eq!(pins.check(member(2), 20, STANDING), Ok(()));
    let changed = NotTheSame::Directory { member: 2, pinned: 20, found: 21 };
    assert_eq!(pins.check(member(2), 21, STANDING), Err(changed));
    assert_eq!(pins.check(member(3), 30, STANDING), Ok(()));
    assert_eq!(pins.check(member(4), 40, STANDING), Ok(()));
}

#[test]
fn who_is_pinned_already_costs_no_write() {
    let disk = MemoryDisk::new();
    let mut pins = PinnedPeers::default();
    pins.pin(&disk, member(2), 20, STANDING).unwrap();
    let changes = disk.change_count();
    pins.pin(&disk, member(2), 20, STANDING).unwrap();
    assert_eq!(disk.change_count(), changes);
}

#[test]
fn a_pin_that_the_disk_did_not_take_is_none() {
    let disk = MemoryDisk::new();
    let mut pins = PinnedPeers::default();
    disk.fail_power_after(0);
    assert!(pins.pin(&disk, member(2), 20, STANDING).is_err());
    assert_eq!(pins, PinnedPeers::default());
}

#[test]
fn any_flipped_bit_and_any_missing_byte_is_noticed() {
    let disk = MemoryDisk::new();
    let mut pins = PinnedPeers::default();
    pins.pin(&disk, member(2), 20, STANDING).unwrap();
    pins.pin(&disk, member(3), 30, STANDING).unwrap();
    let content = disk.content(FILE).unwrap();
    assert_eq!(content.len(), HEAD_BYTES + 2 * PIN_BYTES + 4);
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

#[test]
fn an_older_copy_of_a_directory_is_turned_away_and_a_later_start_is_not() {
    let disk = MemoryDisk::new();
    let mut pins = PinnedPeers::default();
    // Each start has an id of its own.
    let start = |boot, began| Standing { boot, start_id: 11 * boot, began };
    let check = |pins: &PinnedPeers, boot, began| pins.check(member(2), 20, start(boot, began));
    pins.pin(&disk, member(2), 20, STANDING).unwrap();
    pins.note(member(2), at(5, 100));
    pins.note(member(2), at(4, 200));
    pins.save(&disk).unwrap();
    disk.crash(Crash::Power, 1);
    let mut pins = PinnedPeers::load(&disk).unwrap();
    assert!(matches!(check(&pins, 2, at(5, 100)), Err(NotTheSame::Start { met: 3, found: 2, .. })));
    for began in [at(4, 200), at(5, 99), EntryId::ZERO] {
        let error = check(&pins, 4, began).unwrap_err();
        assert_eq!(error, NotTheSame::Log { member: 2, boot: 4, had: at(5, 100), found: began });
        assert!(error.to_string().contains("put back to an older copy"), "{error}");
    }
    // What was acknowledged may have been cut off in a later term; and the start in which it was met began earlier.
    for (boot, began) in
        [(4, at(5, 100)), (4, at(5, 101)), (4, at(6, 1)), (3, EntryId::ZERO), (0, EntryId::ZERO)]
    {
        assert_eq!(check(&pins, boot, began), Ok(()), "start {boot} with {began}");
    }
    // The directory was copied before its third start, and the copy is started a third time.
    let twice = Standing { start_id: 34, ..STANDING };
    assert_eq!(pins.check(member(2), 20, twice), Err(NotTheSame::Twice { member: 2, boot: 3 }));
    // A later start is remembered.
    pins.pin(&disk, member(2), 20, start(4, at(5, 100))).unwrap();
    pins.save(&disk).unwrap();
    let pins = PinnedPeers::load(&disk).unwrap();
    assert!(check(&pins, 3, at(5, 100)).is_err());
    assert_eq!(check(&pins, 4, at(5, 100)), Ok(()));
    assert!(pins.check(member(2), 20, Standing { boot: 4, ..twice }).is_err());
}

#[test]
fn what_is_noted_costs_a_write_only_when_it_is_saved_and_only_once() {
    let disk = MemoryDisk::new();
    let mut pins = PinnedPeers::default();
    pins.pin(&disk, member(2), 20, STANDING).unwrap();
    let changes = disk.change_count();
    (0..100).for_each(|index| pins.note(member(2), at(1, index)));
    pins.note(member(9), at(1, 1));
    assert_eq!(disk.change_count(), changes);
    pins.save(&disk).unwrap();
    let changes = disk.change_count();
    pins.note(member(2), at(1, 99));
    pins.save(&disk).unwrap();
    assert_eq!(disk.change_count(), changes);
}

#[test]
fn pins_of_version_1_are_read() {
    let disk = MemoryDisk::new();
    let mut bytes: Vec<u8> = [2_u64, 20, 3, 30].iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    disk.place(FILE, &bytes);
    let mut pins = PinnedPeers::load(&disk).unwrap();
    assert_eq!(pins.check(member(2), 20, STANDING), Ok(()));
    assert!(matches!(pins.check(member(3), 31, STANDING), Err(NotTheSame::Directory { .. })));
    pins.pin(&disk, member(2), 20, STANDING).unwrap();
    pins.save(&disk).unwrap();
    let pins = PinnedPeers::load(&disk).unwrap();
    assert!(pins.has_met(member(2), 3) && pins.is_pinned(member(3)));
}

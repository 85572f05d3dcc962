//! A disk that refuses: what fails once has failed for good, and what was acknowledged before is safe.

mod common;

use common::{Contents, Model, Op, Pair, SMALL, after_power_loss, hard_state, record, records};
use tenure_wal::{
    Crash, Disk, DiskFile, Fault, FaultKind, MAX_BATCH_BYTES, MemoryDisk, Operation, Options, Position, Wal,
    WalError,
};

fn append(data_bytes: usize) -> Op {
    Op::Append { back: 0, count: 1, data_bytes, next_term: false, vote: false }
}

fn pair(disk: &MemoryDisk) -> Pair<MemoryDisk> {
    Pair::open(disk.clone(), SMALL, Model::default()).unwrap_or_else(|(_, error)| panic!("{error}"))
}

fn assert_poisoned(wal: &mut Wal<MemoryDisk>) {
    assert!(matches!(wal.append(Some(hard_state(9, 1)), &[]), Err(WalError::Poisoned)));
    assert!(matches!(wal.sync(), Err(WalError::Poisoned)));
    assert!(matches!(wal.read(1, 1, 1), Err(WalError::Poisoned)));
    assert!(matches!(wal.compact(Position { index: 1, term: 1 }), Err(WalError::Poisoned)));
    assert!(matches!(wal.reset(Position { index: 9, term: 1 }), Err(WalError::Poisoned)));
    assert!(matches!(wal.prepare(1), Err(WalError::Poisoned)));
}

#[test]
fn a_failed_sync_is_final() {
    let disk = MemoryDisk::new();
    let mut pair = pair(&disk);
    pair.apply(&append(10)).expect("nothing fails");
    disk.inject(Fault { operation: Operation::Sync, after: 0, kind: FaultKind::InputOutput });
    let error = pair.wal.sync().expect_err("the sync fails");
    assert!(error.to_string().starts_with("cannot sync segment-0000000000000001: "), "{error}");
    let syncs = disk.count(Operation::Sync);
    assert_poisoned(&mut pair.wal);
    assert_eq!(disk.count(Operation::Sync), syncs, "the sync is not tried again");
    assert!(matches!(pair.wal.close(), Err(WalError::Poisoned)));
}

#[test]
fn a_failed_write_is_final_and_what_was_synced_is_safe() {
    for kind in [FaultKind::InputOutput, FaultKind::NoSpace] {
        let disk = MemoryDisk::new();
        let mut pair = pair(&disk);
        pair.apply(&append(10)).expect("nothing fails");
        pair.apply(&Op::Sync).expect("nothing fails");
        disk.inject(Fault { operation: Operation::Write, after: 0, kind });
        let error = pair.apply(&append(20)).expect_err("the write fails");
        assert!(error.to_string().starts_with("cannot write segment-0000000000000001: "), "{error}");
        assert_poisoned(&mut pair.wal);
        for seed in 0..20 {
            let found = after_power_loss(&disk, SMALL, seed).expect("a torn tail at most");
            assert!(pair.model.states.contains(&found));
        }
    }
}

#[test]
fn what_a_failed_sync_left_in_the_cache_is_not_trusted() {
    let disk = MemoryDisk::new();
    let mut pair = pair(&disk);
    pair.apply(&append(1000)).expect("nothing fails");
    disk.inject(Fault { operation: Operation::Sync, after: 0, kind: FaultKind::InputOutput });
    pair.wal.sync().expect_err("the sync fails");
    // The process is started again. It reads the entry, and its own sync succeeds; but the system had
    // written off those pages, so the log must write them once more before it says that the entry is there.
    disk.crash(Crash::Process, 0);
    let (_, recovered) = Wal::open(disk.clone(), SMALL).expect("the entry can be read");
    let recovered = Contents::from(recovered);
    assert_eq!(recovered.entries.len(), 1);
    for seed in 0..50 {
        assert_eq!(after_power_loss(&disk, SMALL, seed).expect("sound"), recovered);
    }
}

#[test]
fn every_operation_may_fail() {
    let operations = [
        Operation::Write,
        Operation::Allocate,
        Operation::Sync,
        Operation::Create,
        Operation::Rename,
        Operation::SyncDirectory,
    ];
    for operation in operations {
        for after in 0..8 {
            let disk = MemoryDisk::new();
            disk.inject(Fault { operation, after, kind: FaultKind::InputOutput });
            let mut model = Model::default();
            match Pair::open(disk.clone(), SMALL, model.clone()) {
                Ok(mut pair) => {
                    let ops = [
                        append(2000),
                        Op::Sync,
                        append(2000),
                        append(3000),
                        Op::Compact { sixteenths: 16 },
                        append(9000),
                        Op::Sync,
                    ];
                    if ops.iter().try_for_each(|op| pair.apply(op)).is_err() {
                        assert!(matches!(pair.wal.sync(), Err(WalError::Poisoned)));
                    }
                    model = pair.model;
                }
                Err((_, error)) => assert!(matches!(error, WalError::Io { .. }), "{error}"),
            }
            disk.clear_faults();
            for seed in 0..10 {
                let found = after_power_loss(&disk, SMALL, seed).expect("a torn tail at most");
                assert!(model.states.contains(&found), "{operation:?} {after} {seed}");
            }
        }
    }
}

#[test]
fn a_read_that_fails_is_not_taken_for_an_end() {
    let disk = MemoryDisk::new();
    let mut pair = pair(&disk);
    pair.apply(&append(100)).expect("nothing fails");
    pair.wal.close().expect("nothing fails");
    for after in 0.. {
        disk.clear_faults();
        disk.inject(Fault { operation: Operation::Read, after, kind: FaultKind::InputOutput });
        match Wal::open(disk.fork(), SMALL) {
            Err(error) => assert!(matches!(error, WalError::Io { .. }), "{error}"),
            Ok((_, recovered)) => {
                assert_eq!(recovered.entries.len(), 1);
                assert!(after > 3, "opening reads more than {after} times");
                break;
            }
        }
    }
}

#[test]
fn a_full_disk_is_a_clear_error_and_nothing_is_lost() {
    let disk = MemoryDisk::new();
    let mut pair = pair(&disk);
    disk.set_capacity_bytes(Some(12_000));
    pair.apply(&append(3000)).expect("there is room in the first segment");
    // The model is not told: this append has no effect at all.
    let entries = records(2, 1, 1, 3000);
    for _ in 0..2 {
        let error = pair.wal.append(None, &entries).expect_err("there is no room for a second");
        assert!(matches!(error, WalError::NoSpace { needed_bytes: 8192, .. }), "{error}");
        assert!(error.to_string().contains("free some space on its volume"), "{error}");
        pair.check();
    }
    // There is still room for something small, and the log goes on when there is room for a segment.
    pair.apply(&append(10)).expect("it fits");
    disk.set_capacity_bytes(None);
    pair.apply(&append(3000)).expect("there is room again");
    pair.apply(&Op::Sync).expect("nothing fails");
    assert_eq!(after_power_loss(&disk, SMALL, 0).expect("sound"), *pair.model.now());
}

#[test]
fn a_log_without_room_for_another_segment_can_say_what_it_no_longer_needs() {
    // However full the segment is: a compaction still fits in, and gives the room.
    for data_bytes in (1000..1400).step_by(8) {
        let disk = MemoryDisk::new();
        let mut pair = pair(&disk);
        pair.apply(&append(3000)).expect("it fits");
        pair.apply(&append(2000)).expect("there is room for a second segment");
        disk.set_capacity_bytes(Some(2 * SMALL.segment_bytes));
        assert!(pair.wal.prepare(u64::MAX).expect("it is not needed yet"));
        assert!(pair.wal.lacks_room());
        while pair.wal.append(None, &records(pair.wal.last().index + 1, 1, 1, data_bytes)).is_ok() {}
        pair.wal.compact(pair.wal.last()).expect("there is room for this");
        assert!(!pair.wal.lacks_room(), "a segment became a spare");
        pair.wal.append(None, &records(pair.wal.last().index + 1, 1, 1, 3000)).expect("there is room again");
        pair.wal.close().expect("nothing fails");
    }
}

#[test]
fn room_for_the_next_segment_is_had_whole_or_not_at_all() {
    let disk = MemoryDisk::new();
    let mut pair = pair(&disk);
    disk.set_capacity_bytes(Some(2 * SMALL.segment_bytes));
    assert!(!pair.wal.prepare(1000).expect("there is room"), "the rest is still to be filled");
    disk.place("of-somebody-else", b"");
    let mut file = disk.open("of-somebody-else").expect("it was placed");
    assert!(file.write_at(0, &[7]).is_err(), "though little of it is filled, the room is taken");
    while !pair.wal.prepare(1000).expect("it has the room") {}
    assert!(!pair.wal.lacks_room());
}

#[test]
fn that_too_many_files_are_open_is_no_reason_to_stop_or_to_give_a_spare_back() {
    let disk = MemoryDisk::new();
    let mut pair = pair(&disk);
    let fault = |operation| Fault { operation, after: 0, kind: FaultKind::TooManyFiles };
    disk.inject(fault(Operation::Create));
    assert!(pair.wal.prepare(u64::MAX).expect("it is not needed yet"));
    assert!(pair.wal.lacks_room());
    pair.wal.try_again();
    assert!(pair.wal.prepare(u64::MAX).expect("there is nothing in the way"));
    pair.apply(&append(3000)).expect("it fits");
    disk.inject(fault(Operation::Read));
    let error = pair.wal.append(None, &records(2, 1, 1, 3000)).expect_err("the spare cannot be opened");
    assert!(matches!(error, WalError::NoSpace { .. }), "{error}");
    assert_eq!(disk.list().expect("nothing fails").len(), 2, "the spare is still there");
    pair.apply(&append(3000)).expect("now it can");
}

#[test]
fn a_log_on_a_full_disk_is_closed_in_good_order() {
    let disk = MemoryDisk::new();
    let mut pair = pair(&disk);
    disk.set_capacity_bytes(Some(SMALL.segment_bytes));
    while pair.wal.append(None, &records(pair.wal.last().index + 1, 1, 0, 8)).is_ok() {}
    let last = pair.wal.last();
    pair.wal.close().expect("all is durable, and nothing more is needed");
    disk.set_capacity_bytes(None);
    let (wal, _) = Wal::open(disk, SMALL).expect("sound");
    assert_eq!(wal.last(), last);
}

#[test]
fn spares_are_given_up_but_the_next_segment_is_not() {
    let disk = MemoryDisk::new();
    let options = Options { max_spares: 2, ..SMALL };
    let opened = Pair::open(disk.clone(), options, Model::default());
    let mut pair = opened.unwrap_or_else(|(_, error)| panic!("{error}"));
    for _ in 0..4 {
        pair.apply(&append(3000)).expect("nothing fails");
    }
    pair.apply(&Op::Sync).expect("nothing fails");
    pair.apply(&Op::Compact { sixteenths: 16 }).expect("nothing fails");
    assert_eq!(disk.list().expect("nothing fails").len(), 3);
    pair.wal.give_up_spares().expect("nothing fails");
    assert_eq!(disk.list().expect("nothing fails").len(), 2);
    let (creations, allocations) = (disk.count(Operation::Create), disk.count(Operation::Allocate));
    pair.apply(&append(3000)).expect("nothing fails");
    assert_eq!((disk.count(Operation::Create), disk.count(Operation::Allocate)), (creations, allocations));
    // One in preparation, and one that was in use: the latter is ready.
    pair.wal.prepare(1000).expect("nothing fails");
    pair.apply(&Op::Sync).expect("nothing fails");
    pair.apply(&Op::Compact { sixteenths: 16 }).expect("nothing fails");
    pair.apply(&append(1)).expect("nothing fails");
    pair.wal.give_up_spares().expect("nothing fails");
    let lengths: Vec<usize> = disk.names().iter().map(|name| disk.content(name).unwrap().len()).collect();
    assert_eq!(lengths, [SMALL.segment_bytes as usize; 2]);
}

#[test]
fn a_spare_that_was_not_to_be_had_and_cannot_be_given_back_is_used_later() {
    let disk = MemoryDisk::new();
    let mut pair = pair(&disk);
    pair.apply(&append(3000)).expect("there is room in the first segment");
    disk.inject(Fault { operation: Operation::Allocate, after: 0, kind: FaultKind::NoSpace });
    disk.inject(Fault { operation: Operation::Remove, after: 0, kind: FaultKind::InputOutput });
    let error = pair.wal.append(None, &records(2, 1, 1, 3000)).expect_err("there is no room for a second");
    assert!(matches!(error, WalError::NoSpace { .. }), "{error}");
    pair.apply(&append(3000)).expect("there is room again, and the file that stayed behind is used");
    assert_eq!(disk.list().expect("nothing fails").len(), 2);
}

#[test]
fn a_prepared_spare_that_is_given_back_is_prepared_again() {
    let disk = MemoryDisk::new();
    let mut pair = pair(&disk);
    while !pair.wal.prepare(u64::MAX).expect("nothing fails") {}
    disk.set_capacity_bytes(Some(2 * SMALL.segment_bytes));
    let error = pair.wal.append(None, &records(1, 1, 0, 9000)).expect_err("the spare cannot be lengthened");
    assert!(matches!(error, WalError::NoSpace { .. }), "{error}");
    assert_eq!(disk.list().expect("nothing fails").len(), 1, "the spare is given back");
    while !pair.wal.prepare(1000).expect("there is room for a spare of the usual size") {}
    assert_eq!(disk.list().expect("nothing fails").len(), 2);
}

#[test]
fn a_full_disk_does_not_stop_a_log_whose_segment_has_room() {
    let disk = MemoryDisk::new();
    let mut pair = pair(&disk);
    pair.apply(&append(3000)).expect("there is room");
    pair.apply(&append(3000)).expect("there is room for a second segment");
    disk.set_capacity_bytes(Some(2 * SMALL.segment_bytes + 5000));
    while !pair.wal.prepare(1000).expect("it is not needed yet") {}
    assert_eq!(disk.list().expect("nothing fails").len(), 2, "what was taken is given back");
    let attempts = disk.count(Operation::Create);
    pair.apply(&append(100)).expect("there is room in the segment");
    assert!(pair.wal.prepare(1000).expect("it is not needed yet"));
    assert_eq!(disk.count(Operation::Create), attempts, "nothing has changed, so it is not tried again");
    // A compaction gives the room that was missing.
    pair.apply(&Op::Compact { sixteenths: 16 }).expect("there is room in the segment");
    while !pair.wal.prepare(1000).expect("a segment became a spare") {}
    pair.apply(&append(3000)).expect("there is room");
    assert_eq!(disk.count(Operation::Create), attempts);
}

#[test]
fn a_batch_beyond_the_bound_is_refused_and_one_at_the_bound_is_not() {
    let disk = MemoryDisk::new();
    let mut pair = pair(&disk);
    pair.apply(&Op::HardState).expect("nothing fails");
    let largest = MAX_BATCH_BYTES as usize - 88 - 16;
    let error = pair.wal.append(None, &[record(1, 1, vec![7; largest + 1])]).expect_err("too large");
    assert!(matches!(error, WalError::BatchTooLarge { limit_bytes: MAX_BATCH_BYTES, .. }), "{error}");
    pair.check();
    let entry = record(1, 1, vec![7; largest]);
    pair.wal.append(None, std::slice::from_ref(&entry)).expect("it has a segment of its own size");
    pair.wal.sync().expect("nothing fails");
    assert_eq!(pair.wal.read(1, 1, 0).expect("it is there"), std::slice::from_ref(&entry));
    let (_, recovered) = Wal::open(disk, SMALL).expect("sound");
    assert_eq!(recovered.entries, [entry]);
}

#[test]
fn segments_are_reused_and_spares_are_few() {
    let disk = MemoryDisk::new();
    let mut pair = pair(&disk);
    let mut creations = 0;
    for round in 0..50 {
        pair.apply(&append(2500)).expect("nothing fails");
        pair.apply(&Op::Sync).expect("nothing fails");
        pair.apply(&Op::Compact { sixteenths: 16 }).expect("nothing fails");
        assert!(pair.wal.size_bytes() <= 3 * SMALL.segment_bytes, "{}", pair.wal.size_bytes());
        if round == 10 {
            creations = disk.count(Operation::Create);
        }
    }
    assert_eq!(disk.count(Operation::Create), creations, "old files are used again");
}

#[test]
fn a_prepared_segment_costs_the_append_no_allocation() {
    let disk = MemoryDisk::new();
    let mut pair = pair(&disk);
    while !pair.wal.prepare(1000).expect("nothing fails") {}
    let (creations, allocations) = (disk.count(Operation::Create), disk.count(Operation::Allocate));
    pair.apply(&append(3000)).expect("nothing fails");
    pair.apply(&append(3000)).expect("nothing fails");
    assert_eq!(disk.count(Operation::Rename), 2, "the second segment has begun");
    assert_eq!((disk.count(Operation::Create), disk.count(Operation::Allocate)), (creations, allocations));
    while !pair.wal.prepare(1000).expect("nothing fails") {}
    assert_eq!(disk.count(Operation::Create), creations + 1, "the segment after it is prepared as well");
}

mod bugs_of_the_caller {
    use super::*;

    fn broken_rule(bug: impl FnOnce(&mut Wal<MemoryDisk>)) -> String {
        let mut pair = pair(&MemoryDisk::new());
        let ops = [append(1), append(1), append(1), Op::HardState, Op::Compact { sixteenths: 6 }];
        for op in &ops {
            pair.apply(op).expect("nothing fails");
        }
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| bug(&mut pair.wal)))
            .expect_err("the rule is checked");
        pair.check();
        panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
            .expect("a panic has a message")
    }

    /// The log holds entries 2 and 3 of term 1, and the hard state is term 2 with a vote for 2.
    #[test]
    fn panic_with_the_rule_and_change_nothing() {
        type Bug = fn(&mut Wal<MemoryDisk>);
        let bugs: [(&str, Bug); 10] = [
            ("the log has no holes", |wal| drop(wal.append(None, &records(5, 1, 2, 1)))),
            ("the entries of a batch follow each other", |wal| {
                drop(wal.append(None, &[record(4, 2, "a"), record(6, 2, "b")]));
            }),
            ("entries that were compacted are not overwritten", |wal| {
                drop(wal.append(None, &records(1, 1, 2, 1)));
            }),
            ("an entry is of a later term than the hard state", |wal| {
                drop(wal.append(None, &records(4, 1, 3, 1)));
            }),
            ("the terms of the entries go backwards", |wal| {
                drop(wal.append(None, &[record(4, 2, "a"), record(5, 1, "b")]));
            }),
            ("the term goes backwards", |wal| drop(wal.append(Some(hard_state(1, 0)), &[]))),
            ("the vote changes within a term", |wal| drop(wal.append(Some(hard_state(2, 3)), &[]))),
            ("the vote changes within a term", |wal| drop(wal.append(Some(hard_state(2, 0)), &[]))),
            ("the log is compacted through one of its entries", |wal| {
                drop(wal.compact(Position { index: 4, term: 1 }));
            }),
            ("a snapshot does not lead back behind an older one", |wal| {
                drop(wal.reset(Position { index: 0, term: 0 }));
            }),
        ];
        for (rule, bug) in bugs {
            let message = broken_rule(bug);
            assert!(message.contains(rule), "{message:?} is not about {rule:?}");
        }
    }
}

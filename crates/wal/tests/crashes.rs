//! The power fails during each change that a workload makes to the disk in turn, and then during each change
//! that the recovery from that makes. Everything synced must be there, and nothing by halves.

mod common;

use common::{Model, Op, Pair, SMALL};
use tenure_wal::{Crash, Disk, MemoryDisk, Operation, Options, WalError};

/// Appends, overwrites, votes, fills segments, compacts, and is sent a snapshot.
fn workload() -> Vec<Op> {
    let append = |back, count, data_bytes, next_term| Op::Append {
        back,
        count,
        data_bytes,
        next_term,
        vote: next_term,
    };
    vec![
        append(0, 2, 20, true),
        Op::Sync,
        append(0, 3, 700, false),
        append(0, 1, 10, false),
        Op::Sync,
        append(2, 3, 300, true),
        Op::HardState,
        append(0, 3, 900, false),
        Op::Sync,
        append(0, 4, 800, false),
        Op::Compact { sixteenths: 10 },
        append(1, 1, 5000, true),
        Op::Sync,
        Op::Prepare { max_bytes: 3000 },
        append(0, 2, 1500, false),
        Op::Sync,
        Op::Compact { sixteenths: 16 },
        append(0, 2, 100, false),
        Op::Reset { ahead: 20 },
        append(0, 2, 1800, false),
        append(1, 1, 60, true),
        Op::Sync,
    ]
}

/// Runs the workload until it is through or the power fails, and returns what may then be found.
fn run(disk: &MemoryDisk, options: Options) -> (Model, bool) {
    let mut pair = match Pair::open(disk.clone(), options, Model::default()) {
        Ok(pair) => pair,
        Err((model, _)) => return (model, false),
    };
    for op in workload() {
        if let Err(error) = pair.apply(&op) {
            assert!(disk.has_power_failed(), "nothing else goes wrong: {error}");
            assert!(matches!(pair.wal.sync(), Err(WalError::Poisoned)));
            return (pair.model, false);
        }
    }
    (pair.model, true)
}

fn reopen(disk: &MemoryDisk, model: Model) -> Pair<MemoryDisk> {
    Pair::open(disk.clone(), SMALL, model)
        .unwrap_or_else(|(_, error)| panic!("the log opens after a crash: {error}"))
}

/// A log that was recovered is a log like any other.
fn go_on(mut pair: Pair<MemoryDisk>, disk: &MemoryDisk, seed: u64) {
    let op = Op::Append { back: 1, count: 2, data_bytes: 40, next_term: true, vote: true };
    pair.apply(&op).expect("a recovered log takes entries");
    pair.apply(&Op::Sync).expect("a recovered log syncs");
    disk.crash(Crash::Power, seed);
    reopen(disk, pair.model);
}

#[test]
fn the_power_may_fail_during_any_change() {
    let mut interrupted = 0;
    for changes in 0.. {
        let disk = MemoryDisk::new();
        disk.fail_power_after(changes);
        let (model, through) = run(&disk, SMALL);
        for seed in 0..30 {
            let disk = disk.fork();
            disk.crash(Crash::Power, seed);
            go_on(reopen(&disk, model.clone()), &disk, seed);
        }
        if through {
            break;
        }
        interrupted += 1;
    }
    assert!(interrupted > 60, "the workload changes the disk often, not only {interrupted} times");
}

#[test]
fn the_process_may_die_during_any_change_and_the_power_fail_later() {
    for changes in 0.. {
        let disk = MemoryDisk::new();
        disk.fail_power_after(changes);
        let (model, through) = run(&disk, SMALL);
        disk.crash(Crash::Process, 0);
        let crashed = disk.fork();
        let pair = reopen(&disk, model);
        // What recovery has returned is durable, though it was not synced by those who wrote it.
        let model = pair.model.clone();
        for seed in 0..10 {
            let disk = disk.fork();
            disk.crash(Crash::Power, seed);
            reopen(&disk, model.clone());
        }
        // Nor does what comes after it rest on anything that the dead process had left undone.
        for seed in 0..10 {
            let disk = crashed.fork();
            go_on(reopen(&disk, model.clone()), &disk, seed);
        }
        if through {
            break;
        }
    }
}

#[test]
fn the_power_may_fail_during_any_change_of_a_recovery() {
    for changes in (0..).step_by(3) {
        let disk = MemoryDisk::new();
        disk.fail_power_after(changes);
        let (model, through) = run(&disk, SMALL);
        disk.crash(Crash::Power, changes);
        for recovery_changes in 0.. {
            let disk = disk.fork();
            disk.fail_power_after(recovery_changes);
            let opened = Pair::open(disk.clone(), SMALL, model.clone());
            let done = opened.is_ok();
            let model = opened.map_or_else(|(model, _)| model, |pair| pair.model);
            for seed in 0..8 {
                let disk = disk.fork();
                disk.crash(Crash::Power, seed);
                go_on(reopen(&disk, model.clone()), &disk, seed);
            }
            if done {
                break;
            }
        }
        if through {
            break;
        }
    }
}

/// Walks through all sequences of choices, like the digits of a number whose bases become known on the way.
#[derive(Default)]
struct AllChoices {
    digits: Vec<(u64, u64)>,
    place: usize,
}

impl AllChoices {
    fn choose(&mut self, bound: u64) -> u64 {
        if self.place == self.digits.len() {
            self.digits.push((0, bound));
        }
        let (digit, known_bound) = self.digits[self.place];
        assert_eq!(known_bound, bound, "the same choices lead to the same questions");
        self.place += 1;
        digit
    }

    fn next(&mut self) -> bool {
        self.place = 0;
        while let Some((digit, bound)) = self.digits.pop() {
            if digit + 1 < bound {
                self.digits.push((digit + 1, bound));
                return true;
            }
        }
        false
    }
}

#[test]
fn every_subset_of_unsynced_sectors_may_survive() {
    let disk = MemoryDisk::new();
    let mut pair = reopen(&disk, Model::default());
    let append =
        |back, data_bytes| Op::Append { back, count: 1, data_bytes, next_term: back > 0, vote: true };
    for op in [append(0, 100), Op::Sync, append(0, 1300), append(0, 300), append(1, 900), append(0, 20)] {
        pair.apply(&op).expect("nothing fails yet");
    }
    assert!(disk.unsynced_sector_count() > 4);
    let (mut choices, mut futures, mut found) = (AllChoices::default(), 0, vec![0; pair.model.states.len()]);
    loop {
        let future = disk.fork();
        future.crash_choosing(Crash::Power, &mut |bound| choices.choose(bound));
        let state = reopen(&future, pair.model.clone()).model.now().clone();
        let place = pair.model.states.iter().position(|known| *known == state).expect("checked when opened");
        found[place] += 1;
        futures += 1;
        if !choices.next() {
            break;
        }
    }
    assert!(futures >= 300, "there were only {futures} futures");
    assert!(found.iter().all(|count| *count > 0), "each state must be possible: {found:?}");
}

#[test]
fn one_sync_makes_an_append_durable() {
    let disk = MemoryDisk::new();
    let mut pair = reopen(&disk, Model::default());
    let append = Op::Append { back: 0, count: 3, data_bytes: 50, next_term: true, vote: true };
    pair.apply(&append).expect("nothing fails");
    let (changes, writes, syncs) =
        (disk.change_count(), disk.count(Operation::Write), disk.count(Operation::Sync));
    pair.apply(&append).expect("nothing fails");
    assert_eq!(disk.count(Operation::Write), writes + 1, "entries and hard state are one write");
    pair.apply(&Op::Sync).expect("nothing fails");
    pair.apply(&Op::Sync).expect("nothing fails");
    assert_eq!(disk.count(Operation::Sync), syncs + 1, "what is synced needs no further sync");
    assert_eq!(disk.change_count(), changes + 2);
}

#[test]
fn names_that_are_not_synced_may_be_gone_after_a_loss_of_power() {
    let disk = MemoryDisk::new();
    drop(disk.create("old").unwrap());
    disk.sync_directory().unwrap();
    disk.rename("old", "new").unwrap();
    drop(disk.create("other").unwrap());
    assert_eq!(disk.unsynced_names(), ["new", "other"]);
    let future = disk.fork();
    future.crash_choosing(Crash::Power, &mut |_| 0);
    assert_eq!(future.names(), ["old"]);
    disk.sync_directory().unwrap();
    assert_eq!(disk.unsynced_names(), [""; 0]);
}

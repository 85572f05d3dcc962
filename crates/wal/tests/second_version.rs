//! Random histories of appends, overwrites, compactions, resets and crashes, on the log and on a version of
//! it that is a list in memory. Whatever happens, both must be in the same state.

mod common;

use common::{Model, Op, Pair, SMALL, after_power_loss};
use proptest::prelude::*;
use tenure_wal::{Crash, MemoryDisk};

#[derive(Clone, Debug)]
enum Step {
    Op(Op),
    Close,
    Crash(Crash, u64),
}

fn op() -> impl Strategy<Value = Op> {
    let append = (0..4u64, 0..6u64, 0..600usize, any::<bool>(), any::<bool>()).prop_map(
        |(back, count, data_bytes, next_term, vote)| {
            // Most appends go on at the end.
            let back = if next_term { back } else { 0 };
            Op::Append { back, count, data_bytes, next_term, vote }
        },
    );
    prop_oneof![
        10 => append,
        1 => (5000..20_000usize).prop_map(|data_bytes| Op::Append { back: 0, count: 1, data_bytes, next_term: false, vote: false }),
        1 => Just(Op::HardState),
        5 => Just(Op::Sync),
        2 => (0..17u64).prop_map(|sixteenths| Op::Compact { sixteenths }),
        1 => (0..30u64).prop_map(|ahead| Op::Reset { ahead }),
        1 => (1..10_000u64).prop_map(|max_bytes| Op::Prepare { max_bytes }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        16 => op().prop_map(Step::Op),
        1 => Just(Step::Close),
        1 => any::<u64>().prop_map(|seed| Step::Crash(Crash::Process, seed)),
        2 => any::<u64>().prop_map(|seed| Step::Crash(Crash::Power, seed)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_what_a_list_in_memory_would_be(steps in prop::collection::vec(step(), 1..60)) {
        let disk = MemoryDisk::new();
        let mut pair = Pair::open(disk.clone(), SMALL, Model::default()).map_err(|(_, error)| error)?;
        for step in steps {
            match step {
                Step::Op(op) => pair.apply(&op)?,
                Step::Close => {
                    pair.wal.close()?;
                    pair.model.sync();
                    pair = Pair::open(disk.clone(), SMALL, pair.model).map_err(|(_, error)| error)?;
                }
                Step::Crash(crash, seed) => {
                    disk.crash(crash, seed);
                    if crash == Crash::Process {
                        // The page cache outlives the process: nothing may be missing.
                        pair.model.sync();
                    }
                    pair = Pair::open(disk.clone(), SMALL, pair.model).map_err(|(_, error)| error)?;
                }
            }
        }
    }

    #[test]
    fn what_was_synced_survives_any_loss_of_power(
        ops in prop::collection::vec(op(), 1..30),
        seeds in prop::collection::vec(any::<u64>(), 4),
    ) {
        let disk = MemoryDisk::new();
        let mut pair = Pair::open(disk.clone(), SMALL, Model::default()).map_err(|(_, error)| error)?;
        for op in ops {
            pair.apply(&op)?;
            for seed in &seeds {
                let found = after_power_loss(&disk, SMALL, *seed)?;
                prop_assert!(pair.model.states.contains(&found), "{found:?} is none of {:#?}", pair.model.states);
            }
        }
    }

    #[test]
    fn a_part_of_the_log_is_read_up_to_the_bound(
        ops in prop::collection::vec(op(), 1..20),
        wanted in (0..40u64, 0..20u64, 0..5000usize),
    ) {
        let disk = MemoryDisk::new();
        let mut pair = Pair::open(disk, SMALL, Model::default()).map_err(|(_, error)| error)?;
        for op in ops {
            pair.apply(&op)?;
        }
        let (first_index, count, max_bytes) = wanted;
        let (first_index, last_index) = (first_index, first_index + count);
        let held = pair.wal.first_index()..=pair.wal.last().index;
        let result = pair.wal.read(first_index, last_index, max_bytes);
        if held.contains(&first_index) && held.contains(&last_index) {
            let entries = result?;
            let all = &pair.model.now().entries[(first_index - held.start()) as usize..];
            prop_assert_eq!(&entries[..], &all[..entries.len()]);
            let size = |count: usize| all[..count].iter().map(|entry| entry.data.len()).sum::<usize>();
            prop_assert!(entries.len() == 1 || size(entries.len()) <= max_bytes);
            let is_complete = entries.len() as u64 == count + 1;
            prop_assert!(is_complete || size(entries.len() + 1) > max_bytes, "more would have fitted");
        } else {
            prop_assert!(result.is_err());
        }
    }
}

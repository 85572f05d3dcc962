//! The same seed gives the same run, byte for byte.

use std::cell::RefCell;
use std::rc::Rc;

use tenure_sim::{Detail, Plan, run, run_traced};

fn traced(seed: u64) -> (String, u64) {
    let mut plan = Plan::of_seed(seed);
    plan.faults_us = 5_000_000;
    let lines = Rc::new(RefCell::new(String::new()));
    let writer = Rc::clone(&lines);
    let sink = Box::new(move |line: &str| {
        let mut lines = writer.borrow_mut();
        lines.push_str(line);
        lines.push('\n');
    });
    let report = run_traced(plan, Detail::Full, sink).unwrap();
    (lines.take(), report.trace_hash)
}

#[test]
fn one_seed_twice_is_one_trace() {
    for seed in 1..=12 {
        let (first, first_hash) = traced(seed);
        let (second, second_hash) = traced(seed);
        assert!(first.lines().count() > 50, "seed {seed} tells something");
        let difference = first.lines().zip(second.lines()).find(|(one, other)| one != other);
        assert_eq!(difference, None, "seed {seed}");
        assert_eq!(first.len(), second.len(), "seed {seed}");
        assert_eq!(first_hash, second_hash, "seed {seed}");
    }
}

#[test]
fn a_reader_changes_nothing_and_another_seed_everything() {
    let untold = |seed| {
        let mut plan = Plan::of_seed(seed);
        plan.faults_us = 5_000_000;
        run(plan).unwrap().trace_hash
    };
    assert_eq!(untold(3), traced(3).1);
    assert_ne!(untold(3), untold(4));
}

//! Seeds as they come, shortened: whatever a seed draws, no judge has anything to say.

use tenure_sim::{Coverage, Mark, Plan, run};

/// Runs the seeds from `first` on, each with only so much time for faults, and adds up what they exercised.
fn run_seeds(first: u64, count: u64, faults_us: u64, plan_of: impl Fn(u64) -> Plan) -> Coverage {
    let mut coverage = Coverage::default();
    for seed in first..first + count {
        let mut plan = plan_of(seed);
        plan.faults_us = plan.faults_us.min(faults_us);
        match run(plan) {
            Ok(report) => coverage.add(&report.coverage),
            Err(failure) => panic!("{failure}\nin a run that was cut to {faults_us} us of faults"),
        }
    }
    coverage
}

#[test]
fn f1_a_hundred_short_seeds_break_no_rule() {
    let coverage = run_seeds(1, 100, 6_000_000, Plan::of_seed);
    // A net that was never cast has caught nothing. Some things are rare in so short a time: a write that is
    // cut in two just so, and a disk that stands still for longer than a leader waits.
    let missing = coverage.missing();
    let rare = [Mark::TornTail, Mark::DiskStalled];
    let cast = missing.iter().all(|mark| rare.contains(mark));
    assert!(cast, "{missing:?} never happened, in\n{coverage}");
}

#[test]
fn e7_without_faults_there_is_one_election() {
    let coverage = run_seeds(1, 20, 10_000_000, Plan::calm);
    assert!(coverage.count(Mark::Elected) >= 20);
}

#[test]
fn the_mix_whose_speed_is_measured_breaks_no_rule() {
    let coverage = run_seeds(1, 10, 10_000_000, Plan::typical);
    assert!(coverage.count(Mark::ProcessCrashed) > 0 && coverage.count(Mark::PowerLost) > 0);
}

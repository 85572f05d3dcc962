//! Seeds as they come, shortened: whatever a seed draws, no judge has anything to say.

use tenure_sim::{Coverage, FaultPlan, Mark, Plan, run};

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
    let coverage = run_seeds(201, 100, 6_000_000, Plan::of_seed);
    // A net that was never cast has caught nothing. Some things are rare in so short a time: a write that is
    // cut in two just so, a disk that stands still for longer than a leader waits, and one that reads wrong.
    let missing = coverage.missing();
    let rare = [Mark::TornTail, Mark::DiskStalled, Mark::Misread, Mark::SnapshotDamaged];
    let cast = missing.iter().all(|mark| rare.contains(mark));
    assert!(cast, "{missing:?} never happened, in\n{coverage}");
}

#[test]
fn e7_without_faults_there_is_one_election() {
    assert!((1..=1_000).all(|seed| Plan::calm(seed).is_calm()), "only what is calm is judged as such");
    let coverage = run_seeds(1, 20, 10_000_000, Plan::calm);
    assert!(coverage.count(Mark::Elected) >= 20);
}

#[test]
fn the_mix_whose_speed_is_measured_breaks_no_rule() {
    let coverage = run_seeds(1, 10, 10_000_000, Plan::typical);
    assert!(coverage.count(Mark::ProcessCrashed) > 0 && coverage.count(Mark::PowerLost) > 0);
}

/// Small pieces over a slow network, checkpoints all the time, and clients that never rest: a member that is far
/// behind must come to the end of a checkpoint, and find the log behind it still there.
#[test]
fn p2_a_member_far_behind_catches_up_under_load() {
    for seed in 1..=5 {
        let mut plan = Plan::typical(seed);
        plan.faults_us = 20_000_000;
        plan.faults =
            FaultPlan { process_crash_us: Some(4_000_000), mean_down_us: 8_000_000, ..FaultPlan::default() };
        plan.network.min_delay_us = 5_000;
        plan.network.in_order = true;
        plan.clients.value_bytes = 700;
        plan.clients.weights.compact = 0;
        plan.replica.raft.snapshot_chunk_bytes = 1_000;
        (plan.replica.checkpoint_entries, plan.replica.catch_up_entries) = (10, 0);
        plan.replica.max_checkpoint_delay = 1;
        plan.other_catch_up_entries = 0;
        let faults_us = plan.faults_us;
        let report = run(plan).unwrap_or_else(|failure| panic!("{failure}"));
        let took_us = report.simulated_us - faults_us;
        assert!(report.coverage.count(Mark::SnapshotInstalled) > 0);
        assert!(took_us < 60_000_000, "seed {seed}: equal only after {took_us} us");
    }
}

//! Scenarios of what is kept on disks and of what clients may rely on, by the numbers of `docs/behaviours.md`. The
//! judges see to it that no rule is broken; each test sees to it that what it is about has happened.

use tenure_sim::{ClientPlan, Coverage, DiskPlan, FaultPlan, Mark, Plan, Report, run};

const SECOND_US: u64 = 1_000_000;

/// Plays some seeds of the typical mix, changed, and adds up what they exercised.
fn play(first_seed: u64, seeds: u64, change: impl Fn(&mut Plan)) -> (Coverage, Vec<Report>) {
    let mut coverage = Coverage::default();
    let mut reports = Vec::new();
    for seed in first_seed..first_seed + seeds {
        let mut plan = Plan::typical(seed);
        plan.faults_us = 10 * SECOND_US;
        change(&mut plan);
        let report = run(plan).unwrap_or_else(|failure| panic!("{failure}"));
        coverage.add(&report.coverage);
        reports.push(report);
    }
    (coverage, reports)
}

fn assert_reached(coverage: &Coverage, marks: &[Mark]) {
    for &mark in marks {
        assert!(coverage.count(mark) > 0, "{mark:?} never happened, in\n{coverage}");
    }
}

/// The judges compare every message with what is on the disk of who sends it, and what comes back after a crash with
/// what was said to be there.
#[test]
fn p1_nothing_is_said_that_the_disk_does_not_hold() {
    let (coverage, _) = play(11_000, 10, |plan| {
        plan.disks = DiskPlan { mean_sync_us: 5_000, ..plan.disks.clone() };
        plan.faults = FaultPlan {
            power_loss_us: Some(2 * SECOND_US),
            process_crash_us: Some(4 * SECOND_US),
            mid_job_ppm: 700_000,
            recovery_crash_ppm: 300_000,
            mean_down_us: SECOND_US / 2,
            at_leader_ppm: 500_000,
            ..FaultPlan::default()
        };
        plan.clients.think_us = 20_000;
    });
    assert_reached(
        &coverage,
        &[Mark::PowerLost, Mark::ProcessCrashed, Mark::CrashedMidJob, Mark::CrashedInRecovery],
    );
}

#[test]
fn p2_who_comes_back_catches_up_by_the_log_or_by_a_checkpoint() {
    let (coverage, _) = play(12_000, 10, |plan| {
        plan.faults = FaultPlan {
            process_crash_us: Some(3 * SECOND_US),
            mean_down_us: 2 * SECOND_US,
            ..FaultPlan::default()
        };
        plan.clients.think_us = 20_000;
        (plan.replica.checkpoint_entries, plan.replica.catch_up_entries) = (50, 10);
        plan.replica.raft.max_recent_bytes = 2_000;
    });
    assert_reached(&coverage, &[Mark::EntriesLoaded, Mark::SnapshotInstalled, Mark::CheckpointExtended]);
}

/// What is never compacted is a state that grows, and of which each checkpoint finds only the end changed: some tens
/// of kilobytes behind a megabyte. Were it written whole each time, a run would write fifty times of what it commits.
#[test]
fn p3_checkpoints_cost_in_proportion_to_what_changed_and_bound_the_log() {
    const VALUE_BYTES: usize = 700;
    let (coverage, reports) = play(13_000, 8, |plan| {
        plan.faults_us = 20 * SECOND_US;
        plan.clients = ClientPlan { think_us: 20_000, value_bytes: VALUE_BYTES, ..plan.clients.clone() };
        plan.clients.weights.compact = 0;
        // That the log is never longer than this, and a bounded part for who is behind, is judged in each run.
        (plan.replica.checkpoint_entries, plan.replica.catch_up_entries) = (20, 0);
        plan.replica.max_checkpoint_delay = 8;
        plan.replica.max_dead_checkpoint_bytes = 0;
    });
    assert_reached(&coverage, &[Mark::CheckpointExtended, Mark::SnapshotInstalled, Mark::PowerLost]);
    for report in reports {
        let changed_bytes = 3 * report.committed * VALUE_BYTES as u64;
        let (written, checkpoints) = (report.checkpoint_bytes, report.coverage.count(Mark::CheckpointTaken));
        assert!(checkpoints > 100, "only {checkpoints} checkpoints");
        // Each byte is written as often as the number of checkpoints has binary digits, at most.
        assert!(written < 4 * changed_bytes, "{written} bytes for {changed_bytes}");
    }
}

/// Deletes that are compacted away between two checkpoints, and crashes that show what the checkpoints hold.
#[test]
fn p3_what_was_deleted_and_compacted_away_does_not_come_back() {
    let (coverage, _) = play(14_000, 15, |plan| {
        plan.faults = FaultPlan {
            process_crash_us: Some(SECOND_US),
            power_loss_us: Some(2 * SECOND_US),
            mean_down_us: SECOND_US / 4,
            ..FaultPlan::default()
        };
        plan.clients.think_us = 10_000;
        plan.clients.keys = 12;
        (plan.clients.weights.delete, plan.clients.weights.compact) = (30, 10);
        (plan.replica.checkpoint_entries, plan.replica.catch_up_entries) = (40, 0);
    });
    assert_reached(&coverage, &[Mark::CheckpointExtended, Mark::PowerLost]);
}

#[test]
fn l1_operations_on_any_member_seem_to_happen_one_after_the_other() {
    let (coverage, reports) = play(15_000, 10, |plan| {
        plan.faults = FaultPlan {
            partition_us: Some(2 * SECOND_US),
            mean_partition_us: SECOND_US,
            pause_us: Some(3 * SECOND_US),
            mean_pause_us: 2 * SECOND_US,
            connection_loss_us: Some(SECOND_US),
            at_leader_ppm: 700_000,
            ..FaultPlan::default()
        };
        plan.clients.think_us = 20_000;
        plan.clients.loyalty_ppm = 0;
    });
    assert_reached(
        &coverage,
        &[Mark::Partitioned, Mark::Paused, Mark::ReadAnswered, Mark::Forwarded, Mark::Unknown],
    );
    let answered: u64 = reports.iter().map(|report| report.answered).sum();
    assert!(answered > 5_000, "only {answered} operations were answered");
}

/// Leaders that do not know that they are none any more, and leaders that have only just begun, are asked for reads.
#[test]
fn l3_a_read_that_is_not_in_the_log_is_never_stale() {
    let (coverage, _) = play(16_000, 15, |plan| {
        plan.faults = FaultPlan {
            partition_us: Some(2 * SECOND_US),
            mean_partition_us: 3 * SECOND_US,
            transfer_us: Some(SECOND_US),
            pause_us: Some(3 * SECOND_US),
            mean_pause_us: 3 * SECOND_US,
            at_leader_ppm: 900_000,
            ambush_ppm: 300_000,
            ..FaultPlan::default()
        };
        plan.clients.think_us = 10_000;
        (plan.clients.weights.get, plan.clients.weights.put) = (60, 20);
    });
    assert_reached(
        &coverage,
        &[Mark::ReadAnswered, Mark::LostQuorum, Mark::TransferStarted, Mark::Partitioned, Mark::Paused],
    );
}

//! Scenarios of changing members, by the numbers of `docs/behaviours.md`: operators ask for other members, votes
//! and quorums every few election timeouts, while everything else breaks too. The judges see to it that no rule is
//! broken; each test sees to it that what it is about has happened.

use tenure_sim::{Coverage, Mark, Plan, run};

/// Plays some seeds, with operators that never rest.
fn changing(first_seed: u64, seeds: u64, change: impl Fn(&mut Plan)) -> (Coverage, u64) {
    let mut coverage = Coverage::default();
    let mut answered = 0;
    for seed in first_seed..first_seed + seeds {
        let mut plan = Plan::of_seed(seed);
        (plan.members, plan.spares) = (3, 2);
        plan.faults_us = 8_000_000;
        let timeout_us = plan.replica.raft.election_timeout_us;
        plan.faults.member_change_us = Some(2 * timeout_us);
        change(&mut plan);
        let report = run(plan).unwrap_or_else(|failure| panic!("{failure}"));
        coverage.add(&report.coverage);
        answered += report.answered;
    }
    (coverage, answered)
}

fn assert_reached(coverage: &Coverage, marks: &[Mark]) {
    for &mark in marks {
        assert!(coverage.count(mark) > 0, "{mark:?} never happened, in\n{coverage}");
    }
}

#[test]
fn c1_a_change_is_joint_and_goes_on_under_another_leader() {
    let (coverage, _) = changing(1_000, 30, |plan| plan.faults.ambush_ppm = 600_000);
    assert_reached(&coverage, &[Mark::Joint, Mark::ElectedWhileJoint]);
}

#[test]
fn c2_a_configuration_is_in_force_when_appended_and_rolled_back_with_its_entry() {
    let (coverage, _) = changing(2_000, 25, |plan| {
        plan.faults.at_leader_ppm = 900_000;
        plan.faults.partition_us = Some(3 * plan.replica.raft.election_timeout_us);
    });
    assert_reached(&coverage, &[Mark::Joint, Mark::Truncated]);
}

#[test]
fn c3_no_two_leaders_are_elected_in_a_term_during_a_change() {
    let (coverage, _) = changing(3_000, 25, |plan| {
        let timeout_us = plan.replica.raft.election_timeout_us;
        plan.faults.partition_us = Some(2 * timeout_us);
        plan.faults.power_loss_us = Some(4 * timeout_us);
    });
    assert_reached(&coverage, &[Mark::Joint, Mark::Elected, Mark::Partitioned]);
}

#[test]
fn c4_who_is_removed_goes_and_disturbs_nobody() {
    let (coverage, _) = changing(4_000, 25, |plan| plan.spares = 3);
    assert_reached(&coverage, &[Mark::LeaderRemoved, Mark::Recycled]);
}

#[test]
fn c5_the_service_runs_on_while_members_change() {
    let (coverage, answered) = changing(5_000, 30, |plan| {
        let member_change_us = plan.faults.member_change_us;
        plan.faults = tenure_sim::FaultPlan { member_change_us, ..tenure_sim::FaultPlan::default() };
    });
    assert_reached(&coverage, &[Mark::Joint, Mark::ReadAnswered]);
    assert!(answered > 1_000, "only {answered} operations were answered");
}

#[test]
fn c5_operators_may_ask_any_member_and_are_told_the_truth() {
    let (coverage, _) = changing(7_000, 50, |plan| {
        plan.faults.asks_any_member = true;
        plan.faults.disk_loss_us = None;
    });
    assert_reached(&coverage, &[Mark::Joint, Mark::MembersChanged, Mark::QuorumKept]);
}

#[test]
fn q5_votes_and_quorums_can_be_set_while_everything_breaks() {
    // One operator in eight sets votes, one in four quorums: among so many some do.
    let (coverage, _) = changing(6_000, 25, |plan| plan.members = 5);
    assert_reached(&coverage, &[Mark::Joint, Mark::QuorumKept]);
}

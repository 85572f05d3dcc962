//! Makes a run that fails smaller, until it is small enough to read: fewer kinds of faults, fewer members and
//! clients, a better network, a shorter time.
//!
//! Each step changes one number of the plan and plays it again. Chance takes another course then, so most steps
//! lose the failure; those that keep a failure of the same judge are kept. What is left is the seed and a few
//! settings, by name, so that one command plays it.

use crate::plan::{FaultPlan, Plan};
use crate::run::{Failure, run};

/// More runs than anybody waits for.
const MAX_RUNS: usize = 400;

/// A number of a plan that is not the one that its seed has drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    name: &'static str,
    value: u64,
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

/// What is no setting.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a setting is NAME=NUMBER, with a NAME of {}", names())]
pub struct UnknownSetting;

impl std::str::FromStr for Setting {
    type Err = UnknownSetting;

    fn from_str(text: &str) -> Result<Setting, UnknownSetting> {
        let (wanted, value) = text.split_once('=').ok_or(UnknownSetting)?;
        let value = value.parse().map_err(|_| UnknownSetting)?;
        let known = SETTINGS.iter().find(|(name, _)| *name == wanted);
        known.map(|&(name, _)| Setting { name, value }).ok_or(UnknownSetting)
    }
}

impl Setting {
    /// Puts the number into a plan.
    pub fn apply(self, plan: &mut Plan) {
        if let Some((_, set)) = SETTINGS.iter().find(|(name, _)| *name == self.name) {
            set(plan, self.value);
        }
    }
}

type Set = fn(&mut Plan, u64);

/// Everything that can be set. Of what happens every so often, zero means never.
const SETTINGS: &[(&str, Set)] = &[
    ("process-crash-ms", |plan, ms| plan.faults.process_crash_us = every(ms)),
    ("power-loss-ms", |plan, ms| plan.faults.power_loss_us = every(ms)),
    ("total-outage-ms", |plan, ms| plan.faults.total_outage_us = every(ms)),
    ("partition-ms", |plan, ms| plan.faults.partition_us = every(ms)),
    ("pause-ms", |plan, ms| plan.faults.pause_us = every(ms)),
    ("disk-stall-ms", |plan, ms| plan.faults.disk_stall_us = every(ms)),
    ("disk-error-ms", |plan, ms| plan.faults.disk_error_us = every(ms)),
    ("transfer-ms", |plan, ms| plan.faults.transfer_us = every(ms)),
    ("connection-loss-ms", |plan, ms| plan.faults.connection_loss_us = every(ms)),
    ("clock-change-ms", |plan, ms| plan.faults.clock_change_us = every(ms)),
    ("member-change-ms", |plan, ms| plan.faults.member_change_us = every(ms)),
    ("disk-loss-ms", |plan, ms| plan.faults.disk_loss_us = every(ms)),
    ("rot-ms", |plan, ms| plan.faults.rot_us = every(ms)),
    ("full-disk-ms", |plan, ms| plan.faults.full_disk_us = every(ms)),
    ("stranger-ms", |plan, ms| plan.faults.stranger_us = every(ms)),
    ("asks-any-member", |plan, yes| plan.faults.asks_any_member = yes > 0),
    ("ambush-ppm", |plan, ppm| plan.faults.ambush_ppm = ppm as u32),
    ("mid-job-ppm", |plan, ppm| plan.faults.mid_job_ppm = ppm as u32),
    ("recovery-crash-ppm", |plan, ppm| plan.faults.recovery_crash_ppm = ppm as u32),
    ("loss-ppm", |plan, ppm| plan.network.loss_ppm = ppm as u32),
    ("duplication-ppm", |plan, ppm| plan.network.duplication_ppm = ppm as u32),
    ("tail-ppm", |plan, ppm| plan.network.tail_ppm = ppm as u32),
    ("in-order", |plan, yes| plan.network.in_order = yes > 0),
    ("stall-ppm", |plan, ppm| plan.disks.stall_ppm = ppm as u32),
    ("misread-ppm", |plan, ppm| plan.disks.misread_ppm = ppm as u32),
    ("batching-us", |plan, us| plan.max_batching_us = us),
    ("apply-us", |plan, us| plan.mean_apply_us = us),
    ("clock-drift-ppm", |plan, ppm| plan.max_clock_drift_ppm = ppm.min(500_000)),
    ("spares", |plan, spares| plan.spares = spares.min(MAX_MACHINES) as usize),
    ("members", |plan, members| plan.members = members.clamp(1, MAX_MACHINES) as usize),
    ("clients", |plan, clients| plan.clients.count = clients.min(1_000) as usize),
    ("faults-ms", |plan, ms| plan.faults_us = ms * 1_000),
];
const MAX_MACHINES: u64 = 15;

fn every(ms: u64) -> Option<u64> {
    (ms > 0).then_some(ms * 1_000)
}

fn names() -> String {
    SETTINGS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// The smallest run that was found.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What is set otherwise than the seed has drawn.
    pub settings: Vec<Setting>,
    /// How it fails.
    pub failure: Failure,
    /// How many runs it took.
    pub runs: usize,
}

/// Shrinks a plan that fails like this.
pub fn shrink(plan: &Plan, failure: Failure) -> Shrunk {
    let mut shrunk = Shrunk { settings: Vec::new(), failure, runs: 0 };
    let mut plan = plan.clone();
    loop {
        let settled = shrunk.settings.len();
        let before = shrunk.failure.at_us;
        for candidate in candidates(&plan, &shrunk.failure) {
            if shrunk.runs == MAX_RUNS {
                return shrunk;
            }
            try_one(&mut plan, candidate, &mut shrunk);
        }
        if shrunk.settings.len() == settled && shrunk.failure.at_us >= before {
            return shrunk;
        }
    }
}

/// Keeps a step if the same judge still has something to say.
fn try_one(plan: &mut Plan, candidate: Setting, shrunk: &mut Shrunk) {
    let mut smaller = plan.clone();
    candidate.apply(&mut smaller);
    shrunk.runs += 1;
    let Err(failure) = run(smaller.clone()) else { return };
    if failure.violation.judge == shrunk.failure.violation.judge {
        *plan = smaller;
        shrunk.failure = failure;
        shrunk.settings.retain(|setting| setting.name != candidate.name);
        shrunk.settings.push(candidate);
    }
}

/// What could be left out of a plan, most telling first.
fn candidates(plan: &Plan, failure: &Failure) -> Vec<Setting> {
    let mut candidates = Vec::new();
    let mut add = |name: &'static str, value: u64| candidates.push(Setting { name, value });
    if failure.at_us < plan.faults_us {
        add("faults-ms", failure.at_us / 1_000 + 1);
    }
    let happening = what_happens(&plan.faults).into_iter().filter(|(_, interval_us)| interval_us.is_some());
    happening.for_each(|(name, _)| add(name, 0));
    let present = amounts(plan).into_iter().filter(|&(_, amount)| amount > 0);
    present.for_each(|(name, _)| add(name, 0));
    if !plan.network.in_order {
        add("in-order", 1);
    }
    (1..plan.members as u64).for_each(|members| add("members", members));
    for clients in [1, plan.clients.count as u64 / 2] {
        if clients < plan.clients.count as u64 {
            add("clients", clients);
        }
    }
    add("faults-ms", plan.faults_us / 2_000);
    candidates
}

/// What a plan lets happen every so often, or never.
fn what_happens(faults: &FaultPlan) -> [(&'static str, Option<u64>); 15] {
    [
        ("rot-ms", faults.rot_us),
        ("full-disk-ms", faults.full_disk_us),
        ("stranger-ms", faults.stranger_us),
        ("disk-loss-ms", faults.disk_loss_us),
        ("member-change-ms", faults.member_change_us),
        ("clock-change-ms", faults.clock_change_us),
        ("disk-error-ms", faults.disk_error_us),
        ("disk-stall-ms", faults.disk_stall_us),
        ("total-outage-ms", faults.total_outage_us),
        ("connection-loss-ms", faults.connection_loss_us),
        ("transfer-ms", faults.transfer_us),
        ("pause-ms", faults.pause_us),
        ("partition-ms", faults.partition_us),
        ("power-loss-ms", faults.power_loss_us),
        ("process-crash-ms", faults.process_crash_us),
    ]
}

/// Of what else there is how much in a plan.
fn amounts(plan: &Plan) -> [(&'static str, u64); 12] {
    [
        ("ambush-ppm", u64::from(plan.faults.ambush_ppm)),
        ("mid-job-ppm", u64::from(plan.faults.mid_job_ppm)),
        ("recovery-crash-ppm", u64::from(plan.faults.recovery_crash_ppm)),
        ("loss-ppm", u64::from(plan.network.loss_ppm)),
        ("duplication-ppm", u64::from(plan.network.duplication_ppm)),
        ("tail-ppm", u64::from(plan.network.tail_ppm)),
        ("stall-ppm", u64::from(plan.disks.stall_ppm)),
        ("misread-ppm", u64::from(plan.disks.misread_ppm)),
        ("batching-us", plan.max_batching_us),
        ("apply-us", plan.mean_apply_us),
        ("clock-drift-ppm", plan.max_clock_drift_ppm),
        ("spares", plan.spares as u64),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judges::Violation;

    #[test]
    fn settings_are_read_as_they_are_written() {
        let setting: Setting = "partition-ms=250".parse().unwrap();
        assert_eq!(setting.to_string(), "partition-ms=250");
        let mut plan = Plan::of_seed(1);
        setting.apply(&mut plan);
        assert_eq!(plan.faults.partition_us, Some(250_000));
        "partition-ms=0".parse::<Setting>().unwrap().apply(&mut plan);
        assert_eq!(plan.faults.partition_us, None);
        for wrong in ["partition-ms", "partition=1", "members=-1", ""] {
            assert!(wrong.parse::<Setting>().is_err(), "{wrong}");
        }
    }

    /// A run in which progress is asked for at once fails whatever else is in it: all of that can go.
    #[test]
    fn what_has_no_part_in_a_failure_goes() {
        let mut plan = Plan::of_seed(3);
        (plan.progress_within_us, plan.faults_us) = (0, 1_000_000);
        let failure = run(plan.clone()).unwrap_err();
        assert_eq!(failure.violation.judge, "progress");
        let shrunk = shrink(&plan, failure);
        let mut smaller = plan;
        shrunk.settings.iter().for_each(|setting| setting.apply(&mut smaller));
        assert_eq!(smaller.clients.count, 0);
        assert!(smaller.faults.process_crash_us.is_none() && smaller.faults_us < 1_000_000);
        let Violation { judge, .. } = run(smaller).unwrap_err().violation;
        assert_eq!(judge, "progress");
    }
}

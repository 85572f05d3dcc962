//! Who breaks things: when each kind of fault happens next, whom it hits and how long it lasts.
//!
//! It only decides. [`World`](crate::World) does it.

use tenure_wal::{Crash, FaultKind as DiskFaultKind, Operation};

use crate::network::Cut;
use crate::plan::{FaultPlan, Plan};
use crate::random::{CERTAIN_PPM, Random};

/// How long a process is gone that is started again at once, on average.
const BLINK_US: u64 = 2_000;

/// The kinds of faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FaultKind {
    ProcessCrash,
    PowerLoss,
    TotalOutage,
    Partition,
    Pause,
    DiskStall,
    DiskError,
    Transfer,
    ConnectionLoss,
    ClockChange,
    MemberChange,
    DiskLoss,
    Rot,
    FullDisk,
    Stranger,
}

impl FaultKind {
    pub(crate) const ALL: [FaultKind; 15] = [
        FaultKind::ProcessCrash,
        FaultKind::PowerLoss,
        FaultKind::TotalOutage,
        FaultKind::Partition,
        FaultKind::Pause,
        FaultKind::DiskStall,
        FaultKind::DiskError,
        FaultKind::Transfer,
        FaultKind::ConnectionLoss,
        FaultKind::ClockChange,
        FaultKind::MemberChange,
        FaultKind::DiskLoss,
        FaultKind::Rot,
        FaultKind::FullDisk,
        FaultKind::Stranger,
    ];

    fn interval_us(self, plan: &FaultPlan) -> Option<u64> {
        match self {
            FaultKind::ProcessCrash => plan.process_crash_us,
            FaultKind::PowerLoss => plan.power_loss_us,
            FaultKind::TotalOutage => plan.total_outage_us,
            FaultKind::Partition => plan.partition_us,
            FaultKind::Pause => plan.pause_us,
            FaultKind::DiskStall => plan.disk_stall_us,
            FaultKind::DiskError => plan.disk_error_us,
            FaultKind::Transfer => plan.transfer_us,
            FaultKind::ConnectionLoss => plan.connection_loss_us,
            FaultKind::ClockChange => plan.clock_change_us,
            FaultKind::MemberChange => plan.member_change_us,
            FaultKind::DiskLoss => plan.disk_loss_us,
            FaultKind::Rot => plan.rot_us,
            FaultKind::FullDisk => plan.full_disk_us,
            FaultKind::Stranger => plan.stranger_us,
        }
    }
}

/// Which disk of a member stands still.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StalledDisk {
    Log,
    Checkpoints,
}

/// The source of faults.
#[derive(Debug)]
pub(crate) struct Nemesis {
    plan: FaultPlan,
    /// How many machines there are.
    members: usize,
    max_clock_drift_ppm: u64,
    pub(crate) random: Random,
    /// The clients' time is over: nothing breaks any more.
    pub(crate) is_over: bool,
}

/// How a fault of a disk shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DiskError {
    /// Of the log's disk, or of the checkpoints'.
    pub(crate) at_log: bool,
    pub(crate) fault: tenure_wal::Fault,
}

impl Nemesis {
    pub(crate) fn new(plan: &Plan, random: Random) -> Nemesis {
        Nemesis {
            plan: plan.faults.clone(),
            members: plan.machines(),
            max_clock_drift_ppm: plan.max_clock_drift_ppm,
            random,
            is_over: false,
        }
    }

    /// How long until the next fault of this kind; none if there is none.
    pub(crate) fn next_in_us(&mut self, kind: FaultKind) -> Option<u64> {
        if self.is_over {
            return None;
        }
        kind.interval_us(&self.plan).map(|interval_us| self.random.exponential(interval_us))
    }

    /// Whom a fault hits.
    pub(crate) fn victim(&mut self, leader: Option<usize>) -> usize {
        let anyone = self.random.below(self.members as u64) as usize;
        if self.random.chance(self.plan.at_leader_ppm) { leader.unwrap_or(anyone) } else { anyone }
    }

    /// How many more crashes follow one, each soon after the member has started.
    pub(crate) fn crashes_in_a_row(&mut self) -> u64 {
        if self.random.chance(CERTAIN_PPM / 8) { self.random.between(1, 5) } else { 0 }
    }

    /// Whether a crash waits for the midst of a job.
    pub(crate) fn is_mid_job(&mut self) -> bool {
        self.random.chance(self.plan.mid_job_ppm)
    }

    /// Whether a member that has just begun something is hit, and how soon.
    pub(crate) fn ambush_in_us(&mut self, network_us: u64, disk_us: u64) -> Option<u64> {
        if self.is_over || !self.random.chance(self.plan.ambush_ppm) {
            return None;
        }
        // While its first entry is on its way: to the followers, to a disk, or back.
        let mean_us = self.random.pick(&[network_us, disk_us, 2 * network_us + disk_us]);
        Some(self.random.exponential(mean_us))
    }

    /// Whether a recovery will be interrupted.
    pub(crate) fn interrupts_recovery(&mut self) -> bool {
        !self.is_over && self.random.chance(self.plan.recovery_crash_ppm)
    }

    /// One of the two ways to crash.
    pub(crate) fn any_crash(&mut self) -> Crash {
        self.random.pick(&[Crash::Process, Crash::Power])
    }

    /// How long a member stays down. Some come back before anybody has noticed.
    pub(crate) fn down_us(&mut self) -> u64 {
        let mean_us = if self.random.chance(CERTAIN_PPM / 8) { BLINK_US } else { self.plan.mean_down_us };
        self.random.exponential(mean_us)
    }

    /// Whether a member that has asked another one for something dies before the answer comes.
    pub(crate) fn hits_asker(&mut self) -> bool {
        !self.is_over && self.random.chance(self.plan.ambush_ppm / 16)
    }

    /// Which disk stands still, and how long.
    pub(crate) fn disk_stall(&mut self) -> (StalledDisk, u64) {
        let disk = self.random.pick(&[StalledDisk::Log, StalledDisk::Checkpoints]);
        (disk, self.random.exponential(self.plan.mean_disk_stall_us))
    }

    /// How long a disk is full, and whether all are: members are often built alike.
    pub(crate) fn full_disk(&mut self) -> (u64, bool) {
        let lasts_us = self.random.exponential(self.plan.mean_full_disk_us);
        (lasts_us, self.random.chance(CERTAIN_PPM / 3))
    }

    pub(crate) fn pause_us(&mut self) -> u64 {
        self.random.exponential(self.plan.mean_pause_us)
    }

    /// A part of the network, and how long it is cut; none if one member has nobody to be cut from.
    pub(crate) fn partition(&mut self, leader: Option<usize>) -> Option<(Cut, u64)> {
        if self.members < 2 {
            return None;
        }
        let members = self.members;
        let victim = self.victim(leader);
        let cut = match self.random.below(5) {
            0 if members > 2 => {
                let mut others: Vec<usize> = (0..members).filter(|&member| member != victim).collect();
                let side = others.split_off(1 + self.random.below(others.len() as u64 - 1) as usize);
                Cut::bridge(members, victim, &side)
            }
            1 => Cut::split(members, &self.side()),
            _ => return Some(self.isolation(victim)),
        };
        Some((cut, self.random.exponential(self.plan.mean_partition_us)))
    }

    /// Some of the links between one part and the other, in one direction or both.
    pub(crate) fn some_links(&mut self, one: &[usize], other: &[usize]) -> Cut {
        let mut links = Vec::new();
        let both_ways = self.random.chance(CERTAIN_PPM / 2);
        for (&from, &to) in one.iter().flat_map(|from| other.iter().map(move |to| (from, to))) {
            let forth = self.random.chance(CERTAIN_PPM / 2);
            let back = if both_ways { forth } else { self.random.chance(CERTAIN_PPM / 2) };
            links.extend([(from, to)].into_iter().filter(|_| forth));
            links.extend([(to, from)].into_iter().filter(|_| back));
        }
        Cut { name: format!("{} links", links.len()), links }
    }

    /// Whether a cut comes and goes.
    pub(crate) fn flaps(&mut self) -> bool {
        self.random.chance(CERTAIN_PPM / 5)
    }

    /// Everything between one member and the others, and how long it is cut.
    pub(crate) fn isolation(&mut self, victim: usize) -> (Cut, u64) {
        let members = self.members;
        let cut = match self.random.below(3) {
            0 => Cut::muted(members, &[victim]),
            1 => Cut::deafened(members, &[victim]),
            _ => Cut::split(members, &[victim]),
        };
        (cut, self.random.exponential(self.plan.mean_partition_us))
    }

    /// Some members, but not all.
    fn side(&mut self) -> Vec<usize> {
        let side = self.random.between(1, (1 << self.members) - 2);
        (0..self.members).filter(|member| side >> member & 1 == 1).collect()
    }

    pub(crate) fn disk_error(&mut self) -> DiskError {
        let operation = self.random.pick(&[
            Operation::Write,
            Operation::Write,
            Operation::Sync,
            Operation::Sync,
            Operation::Allocate,
            Operation::Create,
            Operation::Rename,
            Operation::Remove,
            Operation::SyncDirectory,
            Operation::Read,
        ]);
        let kind = self.random.pick(&[DiskFaultKind::InputOutput, DiskFaultKind::NoSpace]);
        let after = self.random.below(8);
        let at_log = self.random.chance(600_000);
        DiskError { at_log, fault: tenure_wal::Fault { operation, after, kind } }
    }

    /// A clock's new rate, and by how much it jumps ahead.
    pub(crate) fn clock_change(&mut self) -> (u64, u64) {
        let jump_us = if self.random.chance(300_000) { self.random.exponential(500_000) } else { 0 };
        (self.clock_rate_ppm(), jump_us)
    }

    pub(crate) fn clock_rate_ppm(&mut self) -> u64 {
        1_000_000 - self.max_clock_drift_ppm + self.random.below(2 * self.max_clock_drift_ppm + 1)
    }
}

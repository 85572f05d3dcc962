//! How a member's process ends and begins: crashes, failed disks, recovery; and what else is done to it from outside.

use tenure_raft::NodeId;
use tenure_replica::RecoveryError;
use tenure_wal::{Crash, WalError};

use crate::coverage::Mark;
use crate::event::Event;
use crate::judges::{Answer, Verdict, Violation, require};
use crate::member::{Asker, Doom, Member, recovered};
use crate::plan::Plan;
use crate::trace::Detail;
use crate::world::World;

impl World {
    // ---- Crash and recovery -------------------------------------------------------------------------

    /// A disk gave an error: the member stops. If the error was a planned crash, that is what it was.
    pub(crate) fn on_disk_failed(&mut self, member: usize, error: &RecoveryError) -> Verdict {
        let it = &mut self.members[member];
        if it.disks.has_power_failed() {
            let Some(Doom::InChange(crash) | Doom::BeforeSync(crash)) = it.doom else {
                panic!("a disk fails like this only when that was planned");
            };
            self.coverage.reach(Mark::CrashedMidJob);
            self.crash(member, crash);
            return Ok(());
        }
        check_was_injected(it.id, error)?;
        check_is_not_for_room(it, true, &self.plan, error)?;
        self.coverage.reach(Mark::DiskFailed);
        let id = it.id;
        self.trace.line(self.now_us, Detail::Short, [60, member as u64], format_args!("{id} stops: {error}"));
        self.crash(member, Crash::Process);
        Ok(())
    }

    /// The process ends; with it, if it is the power that went, all that was not synced.
    pub(crate) fn crash(&mut self, member: usize, crash: Crash) {
        let it = &mut self.members[member];
        let Some(process) = it.process.take() else { return };
        it.last_in_force = process.in_force.clone();
        it.start += 1;
        it.doom = None;
        it.held = None;
        it.disks.crash(crash, &mut self.random);
        let (id, start) = (it.id, it.start);
        self.network.forget(member);
        self.coverage.reach(match crash {
            Crash::Process => Mark::ProcessCrashed,
            Crash::Power => Mark::PowerLost,
        });
        let facts = [61, member as u64, crash as u64];
        self.trace.line(self.now_us, Detail::Short, facts, format_args!("{id} crashes ({crash:?})"));
        for Asker { client, operation, .. } in process.requests.into_values() {
            self.answer(client, operation, Answer::Unknown);
        }
        for peer in 0..self.members.len() {
            if peer != member && crash == Crash::Process && self.network.is_noticed() {
                let delay_us = self.network.delay_us();
                self.add_unreachable(delay_us, peer, member);
            }
        }
        if self.kept_up.contains(&member) {
            let it = &self.members[member];
            let is_again = it.crashes_left > 0 || it.pressed > 0;
            let down_us = if is_again { self.network.delay_us() } else { self.nemesis.down_us() };
            self.add_in(down_us, Event::Boot { member, start });
        }
    }

    /// Starts a member that is down.
    pub(crate) fn boot(&mut self, member: usize) -> Verdict {
        if self.members[member].process.is_some() || self.members[member].is_lost {
            return Ok(());
        }
        let is_doomed = self.nemesis.interrupts_recovery();
        let crash = self.nemesis.any_crash();
        let it = &mut self.members[member];
        it.start += 1;
        if is_doomed {
            it.disks.doom_recovery(&mut self.nemesis.random);
        }
        let (id, start) = (it.id, it.start);
        // A first start has nothing to begin with, and one that lost its power may have used what there was.
        let had_room = std::mem::replace(&mut it.has_kept_room, false);
        if let Err(error) = it.boot(&self.plan, self.now_us, &mut self.random) {
            if it.disks.has_power_failed() {
                self.coverage.reach(Mark::CrashedInRecovery);
            } else {
                check_was_injected(id, &error)?;
                check_is_not_for_room(it, had_room, &self.plan, &error)?;
            }
            self.trace.line(
                self.now_us,
                Detail::Short,
                [62, member as u64],
                format_args!("{id} cannot start: {error}"),
            );
            it.disks.crash(crash, &mut self.random);
            let down_us = self.nemesis.down_us();
            self.add_in(down_us, Event::Boot { member, start });
            return Ok(());
        }
        it.has_kept_room = it.disks.has_room();
        it.disks.reprieve();
        self.on_booted(member)?;
        self.crash_again(member);
        if self.members[member].pressed > 0 && !self.nemesis.is_over {
            self.ask_for_change(Some(member))?;
        }
        self.drain(member)
    }

    /// What a process said when it last lived may arrive while it lives again: some die and come back at once, many
    /// times in a row.
    fn crash_again(&mut self, member: usize) {
        let it = &mut self.members[member];
        if it.crashes_left > 0 {
            it.crashes_left -= 1;
            let start = it.start;
            let lives_us = self.network.delay_us() + self.network.delay_us() + self.plan.disks.mean_sync_us;
            let crash = self.nemesis.any_crash();
            let in_us = self.nemesis.random.pick(&[1, 4, 16]) * self.nemesis.random.exponential(lives_us);
            self.add_in(in_us, Event::Crash { member, start, crash });
        }
    }

    /// A disk gives back something else than was synced. If the member notices when it starts it says so and does not
    /// start any more, and the cluster has to bear its loss; if it does start, nothing may be missing.
    pub(crate) fn rot(&mut self, leader: Option<usize>) -> Verdict {
        let member = self.nemesis.victim(leader);
        if !self.can_be_lost(member) {
            return Ok(());
        }
        let running = self.members[member].process.as_ref();
        let vouched_bytes = running.map_or(0, |process| process.log.wal().vouched_bytes());
        self.crash(member, Crash::Power);
        let it = &mut self.members[member];
        for disk in it.disks.all() {
            disk.clear_faults();
        }
        it.disks.reprieve();
        let Some(what) = it.disks.rot(vouched_bytes, &mut self.nemesis.random) else { return Ok(()) };
        let id = it.id;
        let facts = [76, member as u64];
        self.trace.line(self.now_us, Detail::Short, facts, format_args!("on the disk of {id} {what}"));
        let it = &mut self.members[member];
        it.start += 1;
        match it.boot(&self.plan, self.now_us, &mut self.random) {
            Ok(()) => {
                self.on_booted(member)?;
                self.drain(member)
            }
            Err(error) => {
                self.coverage.reach(Mark::DamageFound);
                self.trace.line(self.now_us, Detail::Short, [77], format_args!("{id} cannot start: {error}"));
                self.members[member].is_lost = true;
                self.kept_up.retain(|&other| other != member);
                Ok(())
            }
        }
    }

    fn on_booted(&mut self, member: usize) -> Verdict {
        let it = &self.members[member];
        let Some(process) = &it.process else { return Ok(()) };
        if process.torn_tail {
            self.coverage.reach(Mark::TornTail);
        }
        let checkpoint = process.replica.node().log().snapshot().last_included;
        let found = recovered(&process.log);
        let hash = process.replica.store().state_hash();
        let status = process.replica.status().raft;
        self.trace.line(
            self.now_us,
            Detail::Short,
            [63, member as u64, status.last.index.0, status.last.term.0, hash.0],
            format_args!(
                "{} starts: {}, checkpoint {checkpoint}, last {}",
                it.id, status.hard_state, status.last
            ),
        );
        for disk in it.disks.all() {
            let names = disk.unsynced_names();
            require("durability", names.is_empty(), || {
                format!("{} starts from what the next loss of power may take: {}", it.id, names.join(", "))
            })?;
        }
        self.judges.on_snapshot(it.id, process.replica.node().log().snapshot())?;
        self.judges.on_recovered(it.id, &found, checkpoint, hash)
    }

    // ---- Other things that are done to a member -----------------------------------------------------

    /// An operator hands leadership to somebody else.
    pub(crate) fn transfer(&mut self, leader: Option<usize>) -> Verdict {
        let Some(member) = leader else { return Ok(()) };
        let target = self.nemesis.victim(None);
        let target = self.nemesis.random.chance(700_000).then(|| self.members[target].id);
        self.hand_over(member, target)
    }

    /// An operator has `member` hand leadership to `target`, or to whom it thinks best.
    pub(crate) fn hand_over(&mut self, member: usize, target: Option<NodeId>) -> Verdict {
        let it = &mut self.members[member];
        let Some(process) = it.process.as_mut().filter(|_| it.held.is_none()) else { return Ok(()) };
        if self.plan.is_calm() && process.hands_over {
            // Who changes its mind in the midst of it is not calm.
            return Ok(());
        }
        // Refused when it is too late: then there is nothing to see.
        let _ = process.replica.transfer_leadership(it.clock.shows(self.now_us), target);
        self.wake(member)
    }

    pub(crate) fn change_clock(&mut self, member: usize, rate_ppm: u64, jump_us: u64) {
        let it = &mut self.members[member];
        it.clock.change(self.now_us, rate_ppm, jump_us);
        let id = it.id;
        let facts = [64, member as u64, rate_ppm, jump_us];
        self.trace.line(
            self.now_us,
            Detail::Short,
            facts,
            format_args!("{id} clock runs at {rate_ppm} ppm, after a jump of {jump_us} us"),
        );
        self.reset_timer(member);
    }

    /// What the timer was set for no longer means anything.
    pub(crate) fn reset_timer(&mut self, member: usize) {
        if let Some(process) = &mut self.members[member].process {
            process.timer_at_us = None;
        }
        self.set_timer(member);
    }
}

/// A full disk is no reason to stop, nor not to start.
fn check_is_not_for_room(it: &Member, has_room: bool, plan: &Plan, error: &RecoveryError) -> Verdict {
    // A write into the place that it has can be told that there is none: then something has failed.
    let may_be_a_fault = plan.faults.disk_error_us.is_some();
    // Who starts says so in the log, and here nothing else can be given up for a segment that this would need.
    let is_for_a_segment = matches!(error, RecoveryError::Log(WalError::NoSpace { .. }));
    let is_borne = it.disks.is_full() && has_room;
    require("full disks", may_be_a_fault || is_for_a_segment || !is_borne, || {
        format!("{} stops because its disk is full: {error}", it.id)
    })
}

/// A member may stop for a fault of its disk that was planned, and for nothing else.
fn check_was_injected(id: NodeId, error: &RecoveryError) -> Verdict {
    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;
    let is_planned = match error {
        RecoveryError::Log(_) | RecoveryError::Checkpoint(_) => {
            let io_error = error.io_error();
            io_error.is_some_and(|error| matches!(error.raw_os_error(), Some(EIO | ENOSPC)))
        }
        RecoveryError::LogMissing { .. } => false,
        // The identity's file; its errors come as text.
        RecoveryError::Mismatch(text) => text.contains("os error"),
    };
    if is_planned {
        return Ok(());
    }
    Err(Violation { judge: "recovery", cause: format!("{id} stops without cause: {error}") })
}

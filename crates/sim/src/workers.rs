//! The workers of a member, log and checkpoints: each does one job at a time, which takes its time.

use bytes::Bytes;
use tenure_replica::{ApplyJob, Begun, CheckpointDone, CheckpointJob, LogDone, LogJob, RecoveryError};
use tenure_wal::WalError;

use crate::coverage::Mark;
use crate::event::{Event, Input};
use crate::judges::{Verdict, kept, require};
use crate::member::Doom;
use crate::plan::DiskPlan;
use crate::random::{CERTAIN_PPM, Random};
use crate::trace::Detail;
use crate::world::World;

/// How many times as long as the mean a sync takes at the most.
const LONGEST_SYNC: u64 = 3;
/// How many times as long as the mean an execution takes at the most.
const LONGEST_APPLY: u64 = 3;
/// A job of a worker that needs no disk takes no longer than this.
const MAX_CPU_US: u64 = 50;
/// The next segment of a log is prepared in pieces of this size.
const PREPARE_BYTES: u64 = 16 << 10;

impl World {
    // ---- The log's worker ---------------------------------------------------------------------------

    pub(crate) fn start_log_job(&mut self, member: usize) -> Verdict {
        let it = &mut self.members[member];
        let Some(process) = it.process.as_mut().filter(|process| process.log_running.is_none()) else {
            return Ok(());
        };
        let Some(job) = process.log.pick(&mut process.log_jobs) else { return Ok(()) };
        let is_overtaking = process.log.is_waiting();
        self.judges.on_log_begin(it.id, &job)?;
        let takes_us = match &job {
            LogJob::Write { .. } | LogJob::Reset { .. } => sync_us(&self.plan.disks, &mut self.random),
            LogJob::Read { .. } | LogJob::Compact { .. } | LogJob::GiveUpSpares => {
                self.random.below(MAX_CPU_US)
            }
        };
        let takes_us = takes_us.max(it.log_stalled_until_us.saturating_sub(self.now_us));
        if let LogJob::Read { .. } = job {
            self.coverage.reach(Mark::EntriesLoaded);
        }
        self.trace.line(
            self.now_us,
            Detail::Full,
            [54, member as u64, takes_us],
            format_args!("{} log begins {}, for {takes_us} us", it.id, ShownLogJob(&job)),
        );
        let begun = process.log.begin(job);
        if !is_overtaking && process.log.is_waiting() {
            self.coverage.reach(Mark::LogWaited);
        }
        self.run_log_job(member, begun, takes_us)
    }

    /// A job of the log has begun, or waits for room.
    fn run_log_job(
        &mut self,
        member: usize,
        begun: Result<Option<Begun>, WalError>,
        takes_us: u64,
    ) -> Verdict {
        let it = &mut self.members[member];
        let Some(process) = &mut it.process else { return Ok(()) };
        match begun {
            Ok(Some(begun)) => {
                process.log_running = Some(begun);
                let start = it.start;
                if let Some(Doom::BeforeSync(crash)) = it.doom {
                    self.coverage.reach(Mark::CrashedMidJob);
                    let in_us = self.random.below(takes_us);
                    self.add_in(in_us, Event::Crash { member, start, crash });
                }
                self.add_in(takes_us, Event::To { member, start, input: Input::LogDone });
                Ok(())
            }
            Ok(None) => self.look_at_log_room(member),
            Err(error) => self.on_disk_failed(member, &RecoveryError::Log(error)),
        }
    }

    /// The replica is told whether the log has room, and while it has none it is tried again now and then.
    fn look_at_log_room(&mut self, member: usize) -> Verdict {
        let it = &mut self.members[member];
        let Some(process) = &mut it.process else { return Ok(()) };
        let is_lacking = process.log.lacks_room();
        let room = &mut process.log_room;
        let sets_retry = is_lacking && !room.is_retry_set;
        room.is_retry_set |= sets_retry;
        let is_news = std::mem::replace(&mut room.told, is_lacking) != is_lacking;
        if sets_retry {
            let retry = Event::To { member, start: it.start, input: Input::LogRetry };
            let retry_us = self.plan.replica.room_retry_us;
            self.add_in(retry_us, retry);
        }
        if is_news {
            let it = &mut self.members[member];
            let now = it.clock.shows(self.now_us);
            let Some(process) = &mut it.process else { return Ok(()) };
            process.replica.on_log_done(now, LogDone::Room { is_lacking });
            return self.wake(member);
        }
        Ok(())
    }

    pub(crate) fn on_log_retry(&mut self, member: usize) -> Verdict {
        let it = &mut self.members[member];
        let Some(process) = &mut it.process else { return Ok(()) };
        process.log_room.is_retry_set = false;
        process.log.try_again();
        if process.log_running.is_some() {
            return self.look_at_log_room(member);
        }
        if process.log.is_waiting() {
            let begun = process.log.retry();
            let takes_us = sync_us(&self.plan.disks, &mut self.random);
            return self.run_log_job(member, begun, takes_us);
        }
        self.prepare_log(member)
    }

    fn prepare_log(&mut self, member: usize) -> Verdict {
        let Some(process) = &mut self.members[member].process else { return Ok(()) };
        match process.log.prepare(PREPARE_BYTES) {
            Ok(_) => self.look_at_log_room(member),
            Err(error) => self.on_disk_failed(member, &RecoveryError::Log(error)),
        }
    }

    pub(crate) fn on_log_done(&mut self, member: usize) -> Verdict {
        let it = &mut self.members[member];
        let Some(process) = &mut it.process else { return Ok(()) };
        let begun = process.log_running.take().expect("a job was running");
        match process.log.finish(begun) {
            Ok(done) => {
                self.judges.on_log_done(it.id)?;
                process.replica.on_log_done(it.clock.shows(self.now_us), done);
                let id = it.id;
                self.trace.line(
                    self.now_us,
                    Detail::Full,
                    [55, member as u64],
                    format_args!("{id} log is done"),
                );
            }
            Err(error) => return self.on_disk_failed(member, &RecoveryError::Log(error)),
        }
        if process.log.is_waiting() {
            // What has overtaken it may have given the room.
            let begun = process.log.retry();
            let takes_us = sync_us(&self.plan.disks, &mut self.random);
            self.run_log_job(member, begun, takes_us)?;
        } else if process.log_jobs.is_empty() {
            self.prepare_log(member)?;
        }
        self.wake(member)
    }

    // ---- The worker that executes entries ------------------------------------------------------------

    /// What takes long takes as long as the plan says, and the member goes on meanwhile.
    pub(crate) fn begin_to_apply(&mut self, member: usize, job: ApplyJob) {
        self.coverage.reach(Mark::AppliedBeside);
        let mean_us = self.plan.mean_apply_us;
        // Most are short: all of them long would only be a slow cluster.
        let is_long = self.random.chance(CERTAIN_PPM / 16);
        let takes_us =
            if is_long { self.random.exponential(mean_us).min(LONGEST_APPLY * mean_us) } else { MAX_CPU_US };
        let it = &mut self.members[member];
        let Some(process) = &mut it.process else { return };
        assert!(process.apply_running.is_none(), "one batch at a time is executed");
        process.apply_running = Some(job.run());
        let (id, start) = (it.id, it.start);
        let facts = [58, member as u64, takes_us];
        self.trace.line(self.now_us, Detail::Full, facts, format_args!("{id} executes, for {takes_us} us"));
        self.add_in(takes_us, Event::To { member, start, input: Input::ApplyDone });
    }

    // ---- The checkpoints' worker --------------------------------------------------------------------

    pub(crate) fn start_checkpoint_job(&mut self, member: usize) -> Verdict {
        let it = &mut self.members[member];
        let Some(process) = it.process.as_mut().filter(|process| process.checkpoint_running.is_none()) else {
            return Ok(());
        };
        let Some(job) = process.checkpoint_jobs.pop_front() else { return Ok(()) };
        if let CheckpointJob::Take { state, snapshot, .. } = &job {
            self.judges.on_snapshot(it.id, snapshot)?;
            self.judges.on_checkpoint(it.id, state.applied_index(), state.state_hash())?;
            self.coverage.reach(Mark::CheckpointTaken);
        }
        if let CheckpointJob::Install { snapshot, .. } = &job {
            kept::check_needed(process.replica.node(), snapshot.last_included)?;
        }
        let takes_us = self.lie_in_wait_at(member, &job);
        let it = &mut self.members[member];
        let takes_us = takes_us.max(it.checkpoints_stalled_until_us.saturating_sub(self.now_us));
        let Some(process) = &mut it.process else { return Ok(()) };
        self.trace.line(
            self.now_us,
            Detail::Full,
            [56, member as u64, takes_us],
            format_args!("{} checkpoints begin {}, for {takes_us} us", it.id, ShownCheckpointJob(&job)),
        );
        match process.checkpoints.run(job) {
            Ok(mut done) => {
                if let CheckpointDone::Loaded { chunk, .. } = &mut done
                    && self.random.chance(self.plan.disks.misread_ppm)
                {
                    self.coverage.reach(Mark::Misread);
                    chunk.data = misread(&chunk.data, &mut self.random);
                }
                process.checkpoint_running = Some(done);
                let event = Event::To { member, start: it.start, input: Input::CheckpointDone };
                self.add_in(takes_us, event);
                self.look_at_checkpoint(member)
            }
            Err(error) => self.on_disk_failed(member, &RecoveryError::Checkpoint(error)),
        }
    }

    /// Somebody may be hit in the midst of the job that a member begins. Answers how long the job takes: now and then
    /// a disk stalls under it.
    fn lie_in_wait_at(&mut self, member: usize, job: &CheckpointJob) -> u64 {
        let lurks = match job {
            CheckpointJob::Install { .. } => true,
            CheckpointJob::Store { .. } => self.nemesis.random.chance(CERTAIN_PPM / 16),
            CheckpointJob::Take { .. } | CheckpointJob::Load { .. } | CheckpointJob::Reserve { .. } => false,
        };
        if lurks {
            // Whom the snapshot is from, or for.
            let hit = self.leader().filter(|_| self.nemesis.random.chance(CERTAIN_PPM / 2)).unwrap_or(member);
            self.lie_in_wait(hit);
        }
        match job {
            CheckpointJob::Take { .. } | CheckpointJob::Install { .. } => {
                3 * sync_us(&self.plan.disks, &mut self.random)
            }
            CheckpointJob::Store { .. } if lurks => sync_us(&self.plan.disks, &mut self.random),
            CheckpointJob::Load { .. } | CheckpointJob::Store { .. } | CheckpointJob::Reserve { .. } => {
                self.random.below(MAX_CPU_US)
            }
        }
    }

    /// What a job has brought about.
    fn look_at_checkpoint(&mut self, member: usize) -> Verdict {
        let it = &self.members[member];
        let done = it.process.as_ref().and_then(|process| process.checkpoint_running.as_ref());
        match done {
            Some(CheckpointDone::Installed { last_included, store }) => {
                self.judges.on_checkpoint(it.id, last_included.index.0, store.state_hash())
            }
            Some(CheckpointDone::Taken { segments, written_bytes, .. }) => {
                self.checkpoint_bytes += written_bytes;
                if *segments > 1 {
                    self.coverage.reach(Mark::CheckpointExtended);
                }
                Ok(())
            }
            // Nothing turns bits over on the way: what arrives is what a member has read.
            Some(CheckpointDone::Damaged { last_included }) => {
                let is_explained = self.coverage.count(Mark::Misread) > 0;
                require("recovery", is_explained, || {
                    format!("what {} is sent as {last_included} is no checkpoint", it.id)
                })
            }
            Some(CheckpointDone::Stored { .. }) => {
                self.pieces_kept += 1;
                Ok(())
            }
            Some(CheckpointDone::NotTaken { .. } | CheckpointDone::NotKept { .. }) => {
                self.coverage.reach(Mark::NoCheckpoint);
                Ok(())
            }
            None
            | Some(
                CheckpointDone::Loaded { .. }
                | CheckpointDone::Unavailable { .. }
                | CheckpointDone::CannotFollow { .. }
                | CheckpointDone::Reserved { .. },
            ) => Ok(()),
        }
    }
}

/// How long a sync takes: now and then a disk stalls, but not for so long that healing the member would not help.
fn sync_us(disks: &DiskPlan, random: &mut Random) -> u64 {
    let mean_us = if random.chance(disks.stall_ppm) { disks.mean_stall_us } else { disks.mean_sync_us };
    random.exponential(mean_us).min(LONGEST_SYNC * mean_us)
}

/// What is read with one bit turned over.
fn misread(data: &Bytes, random: &mut Random) -> Bytes {
    let mut data = data.to_vec();
    if !data.is_empty() {
        let bit = random.below(8 * data.len() as u64);
        data[(bit / 8) as usize] ^= 1 << (bit % 8);
    }
    data.into()
}

struct ShownLogJob<'a>(&'a LogJob);

impl std::fmt::Display for ShownLogJob<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            LogJob::Write { hard_state, entries, token } => {
                write!(f, "write {token}")?;
                if let Some(hard_state) = hard_state {
                    write!(f, " {hard_state}")?;
                }
                for entry in entries {
                    write!(f, " {}", entry.id)?;
                }
                Ok(())
            }
            LogJob::Read { to, first, last, .. } => write!(f, "read {first}..={last} for {to}"),
            LogJob::Compact { through } => write!(f, "compact through {through}"),
            LogJob::Reset { start } => write!(f, "reset to {start}"),
            LogJob::GiveUpSpares => write!(f, "give up spares"),
        }
    }
}

struct ShownCheckpointJob<'a>(&'a CheckpointJob);

impl std::fmt::Display for ShownCheckpointJob<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            CheckpointJob::Take { snapshot, .. } => write!(f, "take {}", snapshot.last_included),
            CheckpointJob::Load { to, last_included, offset, .. } => {
                write!(f, "load {last_included} at {offset} for {to}")
            }
            CheckpointJob::Store { snapshot, chunk } => {
                write!(f, "store {}{chunk}", snapshot.last_included)
            }
            CheckpointJob::Install { snapshot, .. } => write!(f, "install {}", snapshot.last_included),
            CheckpointJob::Reserve { bytes } => write!(f, "reserve {bytes}"),
        }
    }
}

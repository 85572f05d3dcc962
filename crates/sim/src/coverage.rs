//! What a run has exercised. A run that never reached what it was made for has shown nothing.

use std::fmt;

use tenure_raft::{Event, StepDownReason};

/// Something worth having happened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mark {
    /// A leader was elected.
    Elected,
    /// A leader stepped down because no quorum answered.
    LostQuorum,
    /// A leader stepped down because its disk stalled.
    DiskStalled,
    /// A follower cut off entries for a new leader's.
    Truncated,
    /// A follower refused an append.
    AppendRejected,
    /// A snapshot took the place of a member's log.
    SnapshotInstalled,
    /// A snapshot arrived that was none.
    SnapshotDamaged,
    /// A checkpoint was taken.
    CheckpointTaken,
    /// A checkpoint was taken that holds only what is new since an earlier one.
    CheckpointExtended,
    /// A member read entries from its log for a slow follower.
    EntriesLoaded,
    /// A process died.
    ProcessCrashed,
    /// A machine lost power.
    PowerLost,
    /// A crash hit in the midst of a job.
    CrashedMidJob,
    /// A crash hit in the midst of a recovery.
    CrashedInRecovery,
    /// A write of the log was found half done, and cut off.
    TornTail,
    /// A disk failed, and its member stopped.
    DiskFailed,
    /// A disk was full for a while.
    DiskFull,
    /// A write of the log waited for room.
    LogWaited,
    /// There was no room for a checkpoint, or a piece of one.
    NoCheckpoint,
    /// A member told another one whether it is short of room.
    ToldOfRoom,
    /// The network was split.
    Partitioned,
    /// A process was paused.
    Paused,
    /// Leadership was handed over on purpose.
    TransferStarted,
    /// A joint configuration came into force.
    Joint,
    /// A leader left the voters and stepped down.
    LeaderRemoved,
    /// A leader was elected while its configuration was joint.
    ElectedWhileJoint,
    /// A machine that was no member any more was emptied, for another to come.
    Recycled,
    /// A member was gone for good.
    DiskLost,
    /// A member said that a change of the members is done.
    MembersChanged,
    /// A member found its disk damaged, and did not start.
    DamageFound,
    /// A piece of a checkpoint was read with a bit turned over.
    Misread,
    /// A change of members was refused for want of a quorum.
    QuorumKept,
    /// A linearizable read was answered.
    ReadAnswered,
    /// A leader was asked for a read index while it handed over.
    ReadDuringTransfer,
    /// A stranger was not heard.
    StrangerIgnored,
    /// A stranger was heard, as a member may have to where there has been no leader for long.
    StrangerHeard,
    /// The network was cut and mended many times in a row.
    Flapped,
    /// A write was passed on to the leader.
    Forwarded,
    /// The leader sent back what was passed on.
    ForwardRefused,
    /// A client was told that something is certainly not done.
    NotDone,
    /// A client does not know what became of an operation.
    Unknown,
    /// A lane was full, and gave back what was to be sent.
    LaneFull,
    /// A leader said that it lacks what was passed on to it.
    ForwardLacked,
    /// A worker executed what takes long, while its member went on.
    AppliedBeside,
}

const MARKS: [Mark; 44] = [
    Mark::Elected,
    Mark::LostQuorum,
    Mark::DiskStalled,
    Mark::Truncated,
    Mark::AppendRejected,
    Mark::SnapshotInstalled,
    Mark::SnapshotDamaged,
    Mark::CheckpointTaken,
    Mark::CheckpointExtended,
    Mark::EntriesLoaded,
    Mark::ProcessCrashed,
    Mark::PowerLost,
    Mark::CrashedMidJob,
    Mark::CrashedInRecovery,
    Mark::TornTail,
    Mark::DiskFailed,
    Mark::DiskFull,
    Mark::LogWaited,
    Mark::NoCheckpoint,
    Mark::ToldOfRoom,
    Mark::Partitioned,
    Mark::Paused,
    Mark::TransferStarted,
    Mark::Joint,
    Mark::LeaderRemoved,
    Mark::ElectedWhileJoint,
    Mark::Recycled,
    Mark::DiskLost,
    Mark::MembersChanged,
    Mark::DamageFound,
    Mark::Misread,
    Mark::QuorumKept,
    Mark::ReadAnswered,
    Mark::ReadDuringTransfer,
    Mark::StrangerIgnored,
    Mark::StrangerHeard,
    Mark::Flapped,
    Mark::Forwarded,
    Mark::ForwardRefused,
    Mark::NotDone,
    Mark::Unknown,
    Mark::LaneFull,
    Mark::ForwardLacked,
    Mark::AppliedBeside,
];

/// How often each mark was reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Coverage {
    counts: [u64; MARKS.len()],
}

impl Default for Coverage {
    fn default() -> Coverage {
        Coverage { counts: [0; MARKS.len()] }
    }
}

impl Coverage {
    pub(crate) fn reach(&mut self, mark: Mark) {
        self.counts[mark as usize] += 1;
    }

    pub(crate) fn on_event(&mut self, event: &Event) {
        let mark = match event {
            Event::BecameLeader { .. } => Mark::Elected,
            Event::SteppedDown { reason: StepDownReason::LostQuorum, .. } => Mark::LostQuorum,
            Event::SteppedDown { reason: StepDownReason::DiskStalled, .. } => Mark::DiskStalled,
            Event::SteppedDown { reason: StepDownReason::Removed, .. } => Mark::LeaderRemoved,
            Event::Truncated { .. } => Mark::Truncated,
            Event::AppendRejected { .. } => Mark::AppendRejected,
            Event::SnapshotInstalled { .. } => Mark::SnapshotInstalled,
            Event::SnapshotDamaged { .. } => Mark::SnapshotDamaged,
            Event::TransferStarted { .. } => Mark::TransferStarted,
            Event::ConfigurationChanged { configuration } if configuration.is_joint() => Mark::Joint,
            Event::ConfigurationChanged { .. }
            | Event::SteppedDown { reason: StepDownReason::HigherTerm, .. }
            | Event::BecameFollower { .. }
            | Event::BecamePreCandidate { .. }
            | Event::BecameCandidate { .. }
            | Event::VoteGranted { .. }
            | Event::VoteRefused { .. }
            | Event::CommitAdvanced { .. }
            | Event::TransferAborted { .. } => return,
        };
        self.reach(mark);
    }

    /// How often a mark was reached.
    pub fn count(&self, mark: Mark) -> u64 {
        self.counts[mark as usize]
    }

    /// Adds what another run has reached.
    pub fn add(&mut self, other: &Coverage) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
    }

    /// The marks that were never reached.
    pub fn missing(&self) -> Vec<Mark> {
        MARKS.into_iter().filter(|&mark| self.count(mark) == 0).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mark in MARKS {
            writeln!(f, "{:>12} {mark:?}", self.count(mark))?;
        }
        Ok(())
    }
}

//! Whether there is room on the disks, this member's and the others'.
//!
//! A member needs room for the next segment of its log and for its next checkpoint, which may have to be written whole.
//! Both are kept before they are needed; while one of them is not to be had, the member's disk is *short*. It says so to
//! the others, again and again, so that what they believe of a member that is gone comes to an end by itself. What
//! follows from it is decided where writes are taken. See docs/adr/0012-a-full-disk.md.

use std::collections::BTreeMap;

use tenure_raft::{NodeId, Time};
use tenure_store::{Command, RequestOp, TxnRequest};

use crate::Options;

/// For so many repetitions a member is believed to be as short as it said.
const BELIEVED_REPETITIONS: u64 = 4;

/// What is known of the room on the disks.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Room {
    /// There was none for the log's next segment.
    is_log_full: bool,
    /// For how much of the next checkpoint there is room; none if that is not known, or may have changed.
    reserved_bytes: Option<u64>,
    /// The last time that was less than was asked for. (That a state has outgrown what is kept shows no lack of room: the
    /// worker may have been busy.)
    is_refused: bool,
    /// After an attempt that came to nothing the next one waits until then.
    retry_at: Option<Time>,
    /// No checkpoint is taken before this for the log's sake alone.
    urgent_from: Time,
    is_short: bool,
    under_way: UnderWay,
    /// When the others were last told that it is short.
    told_at: Option<Time>,
    /// Who else is short, and until when that is believed.
    others: BTreeMap<NodeId, Time>,
}

/// What the workers were asked for, and have not answered yet.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct UnderWay {
    /// The checkpoints' worker: to keep so much room.
    asked_bytes: Option<u64>,
    /// The log's: to give some up.
    is_giving_up: bool,
}

impl Room {
    /// Whether this member's disk is short.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short
    }

    /// Whether a checkpoint should be taken for the log's sake: it may be what lets the log give a segment back. Now and
    /// then only, if it does not.
    pub(crate) fn is_urgent(&self, now: Time) -> bool {
        self.is_log_full && self.urgent_from <= now
    }

    /// That was done.
    pub(crate) fn on_urgent(&mut self, now: Time, options: &Options) {
        self.urgent_from = now.after(options.room_retry_us);
    }

    /// Whether the log is to give room up now; not while it does.
    pub(crate) fn begin_giving_up(&mut self) -> bool {
        !std::mem::replace(&mut self.under_way.is_giving_up, true)
    }

    /// It has.
    pub(crate) fn on_gave_up(&mut self) {
        self.under_way.is_giving_up = false;
    }

    /// Whether anybody's disk is short.
    pub(crate) fn is_anybody_short(&self) -> bool {
        self.is_short || !self.others.is_empty()
    }

    /// Whether another member's disk is short.
    pub(crate) fn is_other_short(&self, other: NodeId) -> bool {
        self.others.contains_key(&other)
    }

    /// Who else is short.
    pub(crate) fn others(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.others.keys().copied()
    }

    /// The log's worker has found room for the next segment, or none.
    pub(crate) fn on_log_room(&mut self, is_lacking: bool) {
        self.is_log_full = is_lacking;
    }

    /// A checkpoint was written, or not: it may have used what was kept for it.
    pub(crate) fn on_reserve_used(&mut self) {
        // Not to know it is no reason to wait.
        (self.reserved_bytes, self.retry_at) = (None, None);
    }

    /// The checkpoints' worker keeps so much. Answers whether others should give something up for it.
    pub(crate) fn on_reserved(
        &mut self,
        now: Time,
        bytes: u64,
        needed_bytes: u64,
        options: &Options,
    ) -> bool {
        self.reserved_bytes = Some(bytes);
        self.is_refused = self.under_way.asked_bytes.take().is_some_and(|asked| bytes < asked);
        let is_lacking = self.is_refused && is_too_little(bytes, needed_bytes, options);
        if is_lacking {
            self.retry_at = Some(now.after(options.room_retry_us));
        }
        is_lacking
    }

    /// For how much room is to be kept now, if that is to be changed, where `needed_bytes` are needed at least.
    pub(crate) fn ask(&mut self, now: Time, needed_bytes: u64, options: &Options) -> Option<u64> {
        if self.under_way.asked_bytes.is_some() || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        self.retry_at = None;
        // What lies between this and what is needed lets the state grow while more is asked for.
        let wanted = needed_bytes + options.reserve_bytes;
        let is_enough = self.reserved_bytes.is_some_and(|reserved| {
            !is_too_little(reserved, needed_bytes, options) && reserved <= 2 * wanted
        });
        if is_enough {
            return None;
        }
        self.under_way.asked_bytes = Some(wanted);
        Some(wanted)
    }

    /// Finds out whether the disk is short where so much is needed; answers whether that is news.
    pub(crate) fn judge(&mut self, needed_bytes: u64) -> bool {
        let was_short = self.is_short;
        self.is_short = match self.reserved_bytes {
            Some(reserved) => self.is_log_full || self.is_refused && reserved < needed_bytes,
            // Not known at the moment.
            None => self.is_log_full || was_short,
        };
        self.is_short != was_short
    }

    /// What the others are to be told now, if anything.
    pub(crate) fn tell(&mut self, now: Time, is_news: bool, options: &Options) -> Option<bool> {
        let is_due = self.told_at.is_some_and(|at| at.after(options.room_retry_us) <= now);
        if is_news || self.is_short && is_due {
            self.told_at = self.is_short.then_some(now);
            Some(self.is_short)
        } else {
            None
        }
    }

    /// Another member has told whether it is short.
    pub(crate) fn on_told(&mut self, now: Time, from: NodeId, is_short: bool, options: &Options) {
        if is_short {
            self.others.insert(from, now.after(BELIEVED_REPETITIONS * options.room_retry_us));
        } else {
            self.others.remove(&from);
        }
    }

    /// Time has passed.
    pub(crate) fn expire(&mut self, now: Time) {
        self.others.retain(|_, until| *until > now);
    }

    /// When there may be something to do.
    pub(crate) fn next_deadline(&self, options: &Options) -> Time {
        let tell = self.told_at.map_or(Time::NEVER, |at| at.after(options.room_retry_us));
        let ask = self.retry_at.unwrap_or(Time::NEVER);
        self.others.values().copied().chain([tell, ask]).min().unwrap_or(Time::NEVER)
    }
}

/// Whether more is to be had before it is needed.
fn is_too_little(reserved_bytes: u64, needed_bytes: u64, options: &Options) -> bool {
    reserved_bytes < needed_bytes + options.reserve_bytes / 2
}

/// Whether a command makes the state larger than by a mark: to delete and to compact is the way out of a full disk, and
/// who the members are is never in question.
pub(crate) fn needs_room(command: &Command) -> bool {
    match command {
        Command::Put(_) => true,
        Command::Txn(txn) => has_puts(txn),
        Command::DeleteRange(_)
        | Command::Compact { .. }
        | Command::PublishMember(_)
        | Command::SetPeerUrls { .. } => false,
    }
}

fn has_puts(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|operation| match operation {
        RequestOp::Put(_) => true,
        RequestOp::Txn(txn) => has_puts(txn),
        RequestOp::Range(_) | RequestOp::DeleteRange(_) | RequestOp::Unset => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn only_a_disk_that_refuses_room_is_short() {
        let options = Options::default();
        let mut room = Room::default();
        let at = Time(1);
        let asked = room.ask(at, 20 * MIB, &options).expect("nothing is kept yet");
        assert_eq!(asked, 20 * MIB + options.reserve_bytes);
        assert!(!room.judge(20 * MIB), "it is not known");
        // While the worker was busy the state has outgrown what was asked for.
        assert!(!room.on_reserved(at, asked, 200 * MIB, &options));
        assert!(!room.judge(200 * MIB) && !room.is_short());
        let asked = room.ask(at, 200 * MIB, &options).expect("at once");
        assert!(!room.judge(300 * MIB) && !room.is_short(), "it is being asked for");
        // Now there is no more.
        assert!(room.on_reserved(at, 40 * MIB, 300 * MIB, &options));
        assert!(room.judge(300 * MIB) && room.is_short());
        assert_eq!(room.ask(at, 300 * MIB, &options), None, "later");
        let later = at.after(options.room_retry_us);
        assert!(room.ask(later, 300 * MIB, &options).is_some_and(|again| again > asked));
        assert!(!room.judge(300 * MIB) && room.is_short(), "until it is known better");
        assert!(!room.on_reserved(later, 300 * MIB + options.reserve_bytes, 300 * MIB, &options));
        assert!(room.judge(300 * MIB) && !room.is_short());
    }
}

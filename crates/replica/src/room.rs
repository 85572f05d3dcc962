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
    log_lacks_room: bool,
    /// For how much of the next checkpoint there is room; none if that is not known, or may have changed.
    reserved_bytes: Option<u64>,
    is_asking: bool,
    /// After an attempt that came to nothing the next one waits until then.
    retry_at: Option<Time>,
    /// No checkpoint is taken before this for the log's sake alone.
    urgent_from: Time,
    is_short: bool,
    /// The log is giving room up.
    is_giving_up: bool,
    /// When the others were last told that it is short.
    told_at: Option<Time>,
    /// Who else is short, and until when that is believed.
    others: BTreeMap<NodeId, Time>,
}

impl Room {
    /// Whether this member's disk is short.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short
    }

    /// Whether a checkpoint should be taken for the log's sake: it may be what lets the log give a segment back. Now and
    /// then only, if it does not.
    pub(crate) fn is_urgent(&self, now: Time) -> bool {
        self.log_lacks_room && self.urgent_from <= now
    }

    /// That was done.
    pub(crate) fn on_urgent(&mut self, now: Time, options: &Options) {
        self.urgent_from = now.after(options.room_retry_us);
    }

    /// Whether the log is to give room up now; not while it does.
    pub(crate) fn begin_giving_up(&mut self) -> bool {
        !std::mem::replace(&mut self.is_giving_up, true)
    }

    /// It has.
    pub(crate) fn on_gave_up(&mut self) {
        self.is_giving_up = false;
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
        self.log_lacks_room = is_lacking;
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
        self.is_asking = false;
        let is_too_little = is_too_little(bytes, needed_bytes, options);
        if is_too_little {
            self.retry_at = Some(now.after(options.room_retry_us));
        }
        is_too_little
    }

    /// For how much room is to be kept now, if that is to be changed, where `needed_bytes` are needed at least.
    pub(crate) fn ask(&mut self, now: Time, needed_bytes: u64, options: &Options) -> Option<u64> {
        if self.is_asking || self.retry_at.is_some_and(|at| now < at) {
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
        self.is_asking = true;
        Some(wanted)
    }

    /// Finds out whether the disk is short where so much is needed; answers whether that is news.
    pub(crate) fn judge(&mut self, needed_bytes: u64) -> bool {
        let was_short = self.is_short;
        self.is_short = match self.reserved_bytes {
            Some(reserved) => self.log_lacks_room || reserved < needed_bytes,
            // Not known at the moment.
            None => self.log_lacks_room || was_short,
        };
        self.is_short != was_short
    }

    /// What the others are to be told now, if anything.
    pub(crate) fn tell(&mut self, now: Time, is_news: bool, options: &Options) -> Option<bool> {
        let is_due = self.told_at.is_some_and(|at| at.after(options.room_retry_us) <= now);
        if !is_news && !(self.is_short && is_due) {
            return None;
        }
        self.told_at = self.is_short.then_some(now);
        Some(self.is_short)
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

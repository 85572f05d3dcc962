//! Which writes are under way, and what each may claim once it is done.
//!
//! A write's completion says "everything up to there is durable". That was true of the log as it stood when
//! the write was asked for. If the log was cut back since, the same indexes may hold other entries whose
//! writes are still under way (the append ABA race):
//!
//! 1. B appends 5@2 (write a).
//! 2. Leader C replaces it by 5@3 (write b).
//! 3. Leader D replaces that by 5@2 again (write c).
//! 4. Write a completes: 5@2 is in B's log and on its disk, but b is about to overwrite it. If B now
//!    answered D "5 accepted" and lost power after b, the entry would be lost though counted.
//!
//! So a truncation cuts back what every earlier write may claim. The transcript
//! `an_old_write_cannot_vouch_for_a_rewritten_index` plays it.

use std::collections::VecDeque;

use crate::{EntryId, HardState, Index, Time, WriteToken};

#[derive(Clone, PartialEq, Eq, Debug)]
struct PendingWrite {
    token: WriteToken,
    hard_state: HardState,
    /// Up to here the log is durable once this write is.
    claim: Index,
    since: Time,
}

/// What a completed write made durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Durable {
    pub(crate) hard_state: HardState,
    pub(crate) last_index: Index,
}

/// The writes under way, in the order they were asked for.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Writes {
    attempts: u64,
    pending: VecDeque<PendingWrite>,
}

impl Writes {
    /// Names a new write of the hard state and of the log up to `last`.
    pub(crate) fn begin(&mut self, now: Time, hard_state: HardState, last: EntryId) -> WriteToken {
        self.attempts += 1;
        let token = WriteToken { attempt: self.attempts, last };
        self.pending.push_back(PendingWrite { token, hard_state, claim: last.index, since: now });
        token
    }

    /// The write `token` and all before it are durable. None if it was reported already.
    pub(crate) fn complete(&mut self, token: WriteToken) -> Option<Durable> {
        assert!(token.attempt <= self.attempts, "only writes that were asked for complete");
        let mut durable = None;
        while let Some(write) = self.pending.pop_front_if(|write| write.token <= token) {
            durable = Some(Durable { hard_state: write.hard_state, last_index: write.claim });
        }
        durable
    }

    /// The log was cut back: writes under way no longer speak for what lies above `last_index`.
    pub(crate) fn cut_back(&mut self, last_index: Index) {
        for write in &mut self.pending {
            write.claim = write.claim.min(last_index);
        }
    }

    /// Since when the oldest write has been under way.
    pub(crate) fn oldest_since(&self) -> Option<Time> {
        self.pending.front().map(|write| write.since)
    }
}

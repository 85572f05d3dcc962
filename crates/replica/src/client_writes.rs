//! The books of clients' writes: which waits for what, and what may be said of it.
//!
//! A write goes from *parked* (no leader known, or the last one refused it) to *proposed* (in the leader's
//! log, or on its way there) and is over when this member applies it. Each time it is offered to a leader
//! it becomes a new *attempt*, meant for one term only. Two things end an attempt without execution, both
//! certain: the leader refuses it, or an entry of a later term is applied. In a log terms only grow, so
//! behind that entry none of the attempt's term can follow, and before it the attempt was not. Only then
//! is the write parked again. Losing the leader alone proves nothing.
//!
//! While the leader of its term leads and has brought none of the attempts to an end for long, it is asked, by their
//! numbers, which of them it lacks: the message that carried them may have been lost with a connection. Only those
//! are sent once more, as they were; the leader knows what became of each (see [`crate::forwards`]). An attempt that
//! is merely old is not lost: on a slow link it waits behind others.

use std::collections::BTreeMap;

use bytes::Bytes;
use tenure_raft::{NodeId, Term, Time};

use crate::command::{Origin, with_origin};
use crate::job::{Failure, RequestId};

/// Where a write is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// In no log. It may be offered to a leader from `not_before` on, or to one of a term later than
    /// `refused_in` at once.
    Parked { not_before: Time, refused_in: Term },
    /// Offered to the leader of `term`. Once more than one message may carry it, that one was not sent proves
    /// nothing.
    Proposed { term: Term, attempt: u64, is_repeated: bool },
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Write {
    /// The command, with the origin of the latest attempt.
    command: Bytes,
    deadline: Time,
    stage: Stage,
    /// A leader had it and lost its place before it was committed.
    lost_leader: bool,
}

/// An attempt to be offered to a leader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Attempt {
    pub(crate) request: RequestId,
    pub(crate) number: u64,
    pub(crate) command: Bytes,
}

/// The writes that this member's clients wait for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ClientWrites {
    member: NodeId,
    boot: u64,
    next_attempt: u64,
    /// In the order they came, which is the order of their deadlines.
    writes: BTreeMap<RequestId, Write>,
    /// The attempts that a leader may have.
    attempts: BTreeMap<u64, RequestId>,
    /// How many are parked: usually none, and then nothing is searched.
    parked: usize,
    /// The sum of the commands' lengths.
    bytes: usize,
    /// The same of those that a leader may have.
    offered_bytes: usize,
    /// When an attempt was last offered while there was no other, or brought to an end, or asked after.
    silent_since: Time,
    /// How many questions in a row have brought no end to any.
    unanswered: u32,
    /// The latest term of which an entry was applied.
    applied_term: Term,
}

impl ClientWrites {
    pub(crate) fn new(member: NodeId, boot: u64) -> ClientWrites {
        ClientWrites {
            member,
            boot,
            next_attempt: 1,
            writes: BTreeMap::new(),
            attempts: BTreeMap::new(),
            parked: 0,
            bytes: 0,
            offered_bytes: 0,
            silent_since: Time(0),
            unanswered: 0,
            applied_term: Term(0),
        }
    }

    /// Takes a new write, encoded with any origin; it is parked.
    pub(crate) fn insert(&mut self, now: Time, deadline: Time, request: RequestId, command: Bytes) {
        self.bytes += command.len();
        let stage = Stage::Parked { not_before: now, refused_in: Term(0) };
        self.writes.insert(request, Write { command, deadline, stage, lost_leader: false });
        self.parked += 1;
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.writes.len()
    }

    /// The sum of the lengths of the commands that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first attempt that is not over.
    pub(crate) fn oldest_attempt(&self) -> u64 {
        self.attempts.first_key_value().map_or(self.next_attempt, |(&attempt, _)| attempt)
    }

    /// When the first write has waited long enough.
    pub(crate) fn next_deadline(&self) -> Time {
        self.writes.first_key_value().map_or(Time::NEVER, |(_, write)| write.deadline)
    }

    /// When a parked write may next be offered. As long as the leader has `max_offered_bytes`, that waits for it.
    pub(crate) fn next_offer(&self, max_offered_bytes: usize) -> Time {
        if self.parked == 0 || self.offered_bytes >= max_offered_bytes {
            return Time::NEVER;
        }
        let parked = self.writes.values().filter_map(|write| match write.stage {
            Stage::Parked { not_before, .. } => Some(not_before),
            Stage::Proposed { .. } => None,
        });
        parked.min().unwrap_or(Time::NEVER)
    }

    /// The parked writes that may be offered now, each as a new attempt for `term`, oldest first, until a leader may
    /// have `max_offered_bytes` (and one more). What is not taken after all must be given back with
    /// [`ClientWrites::refused`].
    pub(crate) fn offer(&mut self, now: Time, term: Term, max_offered_bytes: usize) -> Vec<Attempt> {
        let mut offered = self.offerable(now, term);
        let mut room = max_offered_bytes.saturating_sub(self.offered_bytes);
        let mut fits = |request: &RequestId| {
            let has_room = room > 0;
            room = room.saturating_sub(self.writes.get(request).map_or(0, |write| write.command.len()));
            has_room
        };
        let count = offered.iter().take_while(|request| fits(request)).count();
        offered.truncate(count);
        if !offered.is_empty() && self.attempts.is_empty() {
            (self.silent_since, self.unanswered) = (now, 0);
        }
        offered.into_iter().map(|request| self.begin_attempt(request, term)).collect()
    }

    /// The parked writes whose time has come, oldest first.
    fn offerable(&self, now: Time, term: Term) -> Vec<RequestId> {
        let mut offered = Vec::new();
        // New writes are the last, so the usual few are found from behind.
        let mut left = self.parked;
        for (&request, write) in self.writes.iter().rev() {
            if left == 0 {
                break;
            }
            let Stage::Parked { not_before, refused_in } = write.stage else { continue };
            left -= 1;
            if not_before <= now || refused_in < term {
                offered.push(request);
            }
        }
        offered.reverse();
        offered
    }

    fn begin_attempt(&mut self, request: RequestId, term: Term) -> Attempt {
        let (member, boot, number) = (self.member, self.boot, self.next_attempt);
        self.next_attempt += 1;
        self.parked -= 1;
        let write = self.writes.get_mut(&request).expect("it is parked");
        let command = std::mem::take(&mut write.command);
        write.command = with_origin(command, Origin { member, boot, attempt: number });
        write.stage = Stage::Proposed { term, attempt: number, is_repeated: false };
        self.offered_bytes += write.command.len();
        self.attempts.insert(number, request);
        Attempt { request, number, command: write.command.clone() }
    }

    /// When another leader may have to be asked which attempts it lacks.
    pub(crate) fn next_question(&self, after_us: u64) -> Time {
        /// How often the wait is doubled at the most.
        const MAX_BACK_OFF: u32 = 5;
        if self.attempts.is_empty() {
            return Time::NEVER;
        }
        self.silent_since.after(after_us << self.unanswered.min(MAX_BACK_OFF))
    }

    /// The attempts of which the leader of `term` is to be asked now whether it lacks them, oldest first and not too
    /// many at a time.
    pub(crate) fn ask(&mut self, now: Time, term: Term, after_us: u64) -> Vec<u64> {
        const MAX_ASKED: usize = 4_096;
        if self.next_question(after_us) > now {
            return Vec::new();
        }
        (self.silent_since, self.unanswered) = (now, self.unanswered + 1);
        let is_of_term = |&(_, request): &(&u64, &RequestId)| {
            let stage = self.writes.get(request).map(|write| write.stage);
            matches!(stage, Some(Stage::Proposed { term: offered_in, .. }) if offered_in == term)
        };
        let attempts = self.attempts.iter().filter(is_of_term).map(|(&number, _)| number);
        attempts.take(MAX_ASKED).collect()
    }

    /// The leader of `term` lacks these attempts: those that still wait are to be sent to it once more.
    pub(crate) fn repeat(&mut self, term: Term, lacked: &[u64]) -> Vec<Attempt> {
        let mut repeated = Vec::new();
        for &number in lacked {
            let Some(&request) = self.attempts.get(&number) else { continue };
            let Some(write) = self.writes.get_mut(&request) else { continue };
            if let Stage::Proposed { term: offered_in, is_repeated, .. } = &mut write.stage
                && *offered_in == term
            {
                *is_repeated = true;
                repeated.push(Attempt { request, number, command: write.command.clone() });
            }
        }
        repeated
    }

    /// The connection to the leader broke: what is under way may be lost, and it is asked soon.
    pub(crate) fn on_unreachable(&mut self) {
        self.unanswered = 0;
    }

    /// A message with the attempt did not leave. If there was no other, the write may be offered again.
    pub(crate) fn not_sent(&mut self, attempt: u64, not_before: Time) {
        let write = self.attempts.get(&attempt).and_then(|request| self.writes.get(request));
        if write.is_some_and(|write| !matches!(write.stage, Stage::Proposed { is_repeated: true, .. })) {
            self.refused(attempt, not_before);
        }
    }

    /// The leader did not take the attempt, and never will: the write may be offered again.
    pub(crate) fn refused(&mut self, attempt: u64, not_before: Time) {
        let Some(request) = self.attempts.remove(&attempt) else { return };
        if let Some(write) = self.writes.get_mut(&request)
            && let Stage::Proposed { term: refused_in, .. } = write.stage
        {
            write.stage = Stage::Parked { not_before, refused_in };
            self.parked += 1;
            self.offered_bytes -= write.command.len();
        }
    }

    /// Gives a write up; its attempt, if it has one, may still be executed.
    pub(crate) fn remove(&mut self, request: RequestId) {
        let Some(write) = self.writes.remove(&request) else { return };
        self.bytes -= write.command.len();
        match write.stage {
            Stage::Parked { .. } => self.parked -= 1,
            Stage::Proposed { attempt, .. } => {
                self.attempts.remove(&attempt);
                self.offered_bytes -= write.command.len();
            }
        }
    }

    /// The request whose attempt this is.
    pub(crate) fn request_of(&self, attempt: u64) -> Option<RequestId> {
        self.attempts.get(&attempt).copied()
    }

    /// Whether a client waits for the attempt.
    pub(crate) fn awaits(&self, origin: Origin) -> bool {
        origin.member == self.member && origin.boot == self.boot && self.request_of(origin.attempt).is_some()
    }

    /// An entry was applied. Returns the request that waited for it, which is over. (M4: by its origin, so
    /// that no client gets another's answer.)
    pub(crate) fn on_applied(&mut self, now: Time, term: Term, origin: Option<Origin>) -> Option<RequestId> {
        if term > self.applied_term {
            self.applied_term = term;
            self.park_overtaken(now, term);
        }
        let origin = origin.filter(|origin| origin.member == self.member && origin.boot == self.boot)?;
        let request = self.request_of(origin.attempt)?;
        self.remove(request);
        (self.silent_since, self.unanswered) = (now, 0);
        Some(request)
    }

    /// An entry of `term` is applied: the attempts of earlier terms that were not are certainly over.
    fn park_overtaken(&mut self, now: Time, term: Term) {
        for write in self.writes.values_mut() {
            if let Stage::Proposed { term: proposed, attempt, .. } = write.stage
                && proposed < term
            {
                write.stage = Stage::Parked { not_before: now, refused_in: proposed };
                write.lost_leader = true;
                self.attempts.remove(&attempt);
                self.parked += 1;
                self.offered_bytes -= write.command.len();
            }
        }
    }

    /// A snapshot took the place of entries up to one of `term`: whether the attempts of that term or
    /// earlier were among them cannot be told. Returns those requests, which are over.
    pub(crate) fn on_snapshot_installed(&mut self, term: Term) -> Vec<RequestId> {
        self.applied_term = self.applied_term.max(term);
        let unknown: Vec<RequestId> = self
            .writes
            .iter()
            .filter(|(_, write)| matches!(write.stage, Stage::Proposed { term: proposed, .. } if proposed <= term))
            .map(|(&request, _)| request)
            .collect();
        for &request in &unknown {
            self.remove(request);
        }
        unknown
    }

    /// The writes that have waited long enough, which are over, and what may be said of each.
    pub(crate) fn expire(&mut self, now: Time, has_leader: bool) -> Vec<(RequestId, Failure)> {
        let mut expired = Vec::new();
        while let Some((&request, write)) = self.writes.first_key_value()
            && write.deadline <= now
        {
            let failure = match write.stage {
                Stage::Parked { .. } if write.lost_leader => Failure::LeaderChanged,
                // The way to the leader was full all the time.
                Stage::Parked { .. } if has_leader => Failure::TooManyRequests,
                Stage::Parked { .. } => Failure::NoLeader,
                Stage::Proposed { .. } => Failure::TimedOut,
            };
            self.remove(request);
            expired.push((request, failure));
        }
        expired
    }
}

#[cfg(test)]
mod tests;

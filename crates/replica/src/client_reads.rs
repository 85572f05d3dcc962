//! The books of clients' linearizable reads.
//!
//! Reads that wait share one question to the leader; those that come while it is open share the next. A
//! read has no effect, so a question that was lost or refused is simply asked again.

use std::collections::BTreeMap;

use tenure_raft::{Index, ReadId, Time};

use crate::job::RequestId;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Read {
    request: RequestId,
    deadline: Time,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Question {
    read: ReadId,
    asked_at: Time,
    reads: Vec<Read>,
}

/// The reads that this member's clients wait for.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct ClientReads {
    /// For the next question.
    waiting: Vec<Read>,
    question: Option<Question>,
    /// Confirmed from an index on that is not applied yet.
    confirmed: BTreeMap<Index, Vec<Read>>,
    count: usize,
    /// No deadline is earlier.
    next_deadline: Option<Time>,
}

impl ClientReads {
    pub(crate) fn insert(&mut self, deadline: Time, request: RequestId) {
        self.waiting.push(Read { request, deadline });
        self.count += 1;
        self.next_deadline = Some(self.next_deadline.map_or(deadline, |next| next.min(deadline)));
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Whether the leader should be asked now.
    pub(crate) fn wants_to_ask(&self) -> bool {
        self.question.is_none() && !self.waiting.is_empty()
    }

    /// The leader is being asked on behalf of all that wait.
    pub(crate) fn asked(&mut self, now: Time, read: ReadId) {
        let reads = std::mem::take(&mut self.waiting);
        self.question = Some(Question { read, asked_at: now, reads });
    }

    /// The leader confirmed: the reads may be served once `index` is applied.
    pub(crate) fn on_ready(&mut self, read: ReadId, index: Index) {
        if let Some(question) = self.question.take_if(|question| question.read == read) {
            self.confirmed.entry(index).or_default().extend(question.reads);
        }
    }

    /// The question came to nothing; it will be asked again.
    pub(crate) fn on_failed(&mut self, read: ReadId) {
        if let Some(question) = self.question.take_if(|question| question.read == read) {
            self.ask_again(question);
        }
    }

    fn ask_again(&mut self, mut question: Question) {
        question.reads.append(&mut self.waiting);
        self.waiting = question.reads;
    }

    /// The reads that can be served now that `applied` is, which are over.
    pub(crate) fn take_ready(&mut self, applied: Index) -> Vec<RequestId> {
        let mut ready = Vec::new();
        while let Some(entry) = self.confirmed.first_entry()
            && *entry.key() <= applied
        {
            ready.extend(entry.remove().into_iter().map(|read| read.request));
        }
        self.count -= ready.len();
        ready
    }

    /// When something is to be done next.
    pub(crate) fn next_deadline(&self, retry_us: u64) -> Time {
        let retry = self.question.as_ref().map_or(Time::NEVER, |question| question.asked_at.after(retry_us));
        if self.count == 0 { retry } else { self.next_deadline.unwrap_or(Time::NEVER).min(retry) }
    }

    /// Takes back a question that was open too long, and returns the reads that have waited too long,
    /// which are over.
    pub(crate) fn expire(&mut self, now: Time, retry_us: u64) -> Vec<RequestId> {
        if let Some(question) = self.question.take_if(|question| question.asked_at.after(retry_us) <= now) {
            self.ask_again(question);
        }
        if self.next_deadline.is_none_or(|deadline| deadline > now) {
            return Vec::new();
        }
        let mut expired = Vec::new();
        let mut next_deadline = None;
        let mut sort = |read: &Read| {
            let is_over = read.deadline <= now;
            if is_over {
                expired.push(read.request);
            } else {
                next_deadline =
                    Some(next_deadline.map_or(read.deadline, |next: Time| next.min(read.deadline)));
            }
            !is_over
        };
        self.waiting.retain(&mut sort);
        if let Some(question) = &mut self.question {
            question.reads.retain(&mut sort);
        }
        for reads in self.confirmed.values_mut() {
            reads.retain(&mut sort);
        }
        self.next_deadline = next_deadline;
        self.count -= expired.len();
        expired
    }
}

#[cfg(test)]
mod tests;

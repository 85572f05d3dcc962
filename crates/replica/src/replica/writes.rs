//! Clients' writes on their way into the leader's log: offered to ourselves or passed on, and those that other
//! members pass on to us.
//!
//! What may be said of each is in [`client_writes`](crate::client_writes), what makes a forwarded one
//! at-most-once in [`forwards`](crate::forwards); docs/protocol.md tells it in one piece.

use bytes::Bytes;
use tenure_raft::{NodeId, ProposeError, RoleKind, Term};
use tenure_store::{Command, Limits};

use super::Replica;
use crate::Identity;
use crate::client_writes::Attempt;
use crate::command::{self, Origin};
use crate::forwards::Fate;
use crate::job::{Failure, Job, Reply, RequestId};
use crate::message::{Forward, ForwardLacked, ForwardQuestion, ForwardRefusal, ForwardRefused, PeerMessage};
use crate::room::needs_room;

/// How many bytes of clients' writes may wait (one more write is let in); the leader's own bound, on what is
/// not committed, is lower.
const MAX_WAITING_BYTES: usize = 256 << 20;

impl Replica {
    /// Takes a write into the books, or says why not: certainly not done.
    pub(super) fn take_write(&mut self, request: RequestId, command: &Command) -> Result<(), Failure> {
        if needs_room(command) && self.refuses_puts() {
            return Err(Failure::NoSpace);
        }
        if self.writes.len() >= self.options.max_requests || self.writes.bytes() >= MAX_WAITING_BYTES {
            return Err(Failure::TooManyRequests);
        }
        let Identity { member_id: member, boot, .. } = self.identity;
        let command = command::encode(Origin { member, boot, attempt: 0 }, command);
        if command.len() > self.options.raft.max_command_bytes {
            return Err(Failure::TooLarge);
        }
        let deadline = self.now.after(self.options.request_timeout_us);
        self.writes.insert(self.now, deadline, request, command);
        Ok(())
    }

    /// Offers what is parked to the leader: ourselves, or another.
    pub(super) fn offer_writes(&mut self) {
        let Some(leader_id) = self.node.leader_id() else { return };
        let term = self.node.current_term();
        if leader_id == self.node.id() {
            for attempt in self.writes.offer(self.now, term, usize::MAX) {
                self.propose(&attempt);
            }
            return;
        }
        let attempts = self.writes.offer(self.now, term, self.options.max_forwarded_bytes);
        self.forward(leader_id, term, attempts);
        let attempts = self.writes.ask(self.now, term, self.options.forward_repeat_us);
        if !attempts.is_empty() {
            let (boot, oldest_attempt) = (self.identity.boot, self.writes.oldest_attempt());
            let question = ForwardQuestion { term, boot, oldest_attempt, attempts };
            self.jobs.push_back(Job::Send { to: leader_id, message: PeerMessage::ForwardQuestion(question) });
        }
    }

    fn propose(&mut self, attempt: &Attempt) {
        match self.node.propose(self.now, attempt.command.clone()) {
            Ok(_) => {}
            // It entered no log: certainly not done, and it may be tried again.
            Err(ProposeError::NotLeader { .. } | ProposeError::TransferInProgress { .. }) => {
                let later = self.now.after(self.options.forward_retry_us);
                self.writes.refused(attempt.number, later);
            }
            Err(ProposeError::TooManyUncommitted { .. }) => {
                self.fail_write(attempt.request, Failure::TooManyRequests);
            }
            Err(ProposeError::TooLarge { .. }) => self.fail_write(attempt.request, Failure::TooLarge),
        }
    }

    fn fail_write(&mut self, request: RequestId, failure: Failure) {
        self.writes.remove(request);
        self.reply(request, Reply::Failed(failure));
    }

    fn fail_attempt(&mut self, attempt: u64, failure: Failure) {
        if let Some(request) = self.writes.request_of(attempt) {
            self.fail_write(request, failure);
        }
    }

    fn forward(&mut self, leader_id: NodeId, term: Term, attempts: Vec<Attempt>) {
        let oldest_attempt = self.writes.oldest_attempt();
        let boot = self.identity.boot;
        let mut commands = Vec::new();
        let mut bytes = 0;
        let mut messages = Vec::new();
        for attempt in attempts {
            if bytes > 0 && bytes + attempt.command.len() > self.options.max_forward_bytes {
                messages.push(std::mem::take(&mut commands));
                bytes = 0;
            }
            bytes += attempt.command.len();
            commands.push(attempt.command);
        }
        if !commands.is_empty() {
            messages.push(commands);
        }
        for commands in messages {
            let message = PeerMessage::Forward(Forward { term, boot, oldest_attempt, commands });
            self.jobs.push_back(Job::Send { to: leader_id, message });
        }
    }

    /// A member passes writes on to us, as the leader of a term.
    pub(super) fn on_forward(&mut self, from: NodeId, forward: Forward) {
        let Forward { term, boot, oldest_attempt, commands } = forward;
        let leads = self.node.role() == RoleKind::Leader && self.node.current_term() == term;
        if leads {
            self.forwards.lead(term);
        }
        if !self.forwards.begin(term, from, boot, oldest_attempt) {
            return;
        }
        let mut refused = Vec::new();
        for command in commands {
            let Some(origin) = command::decode_origin(&command) else { continue };
            if (origin.member, origin.boot) != (from, boot) {
                continue;
            }
            if let Some(why) = self.take_forwarded(origin, command, leads) {
                refused.push((origin.attempt, why));
            }
        }
        self.refuse_forwards(from, term, boot, &refused);
    }

    /// Takes a forwarded write into the log, if that has not been done, and returns why it is refused, if it
    /// is. Of the same attempt always the same is said.
    fn take_forwarded(&mut self, origin: Origin, command: Bytes, leads: bool) -> Option<ForwardRefusal> {
        let Origin { member, attempt, .. } = origin;
        match self.forwards.fate(member, attempt) {
            Fate::New => {}
            Fate::Refused(why) => return Some(why),
            Fate::Taken | Fate::Over => return None,
        }
        if !self.forwards.has_room(member, self.options.max_requests) {
            return None;
        }
        if leads && let Some(why) = self.why_refused(&command) {
            self.forwards.refuse(member, attempt, why);
            return Some(why);
        }
        // The term that it was for is over here, for good: another one that this member may lead is not meant.
        let proposed = if leads { Some(self.node.propose(self.now, command)) } else { None };
        let why = match proposed {
            Some(Ok(_)) => {
                self.forwards.take(member, attempt);
                return None;
            }
            None | Some(Err(ProposeError::NotLeader { .. } | ProposeError::TransferInProgress { .. })) => {
                ForwardRefusal::NotLeader
            }
            Some(Err(ProposeError::TooManyUncommitted { .. } | ProposeError::TooLarge { .. })) => {
                ForwardRefusal::Overloaded
            }
        };
        self.forwards.refuse(member, attempt, why);
        Some(why)
    }

    /// Why the leader does not take this into its log, where every member would have to execute it. Its sender has checked
    /// it by limits of its own.
    fn why_refused(&self, command: &Bytes) -> Option<ForwardRefusal> {
        match command::decode(command) {
            Some((_, decoded)) if tenure_store::check(&decoded, &Limits::NONE).is_ok() => {
                (needs_room(&decoded) && self.refuses_puts()).then_some(ForwardRefusal::NoSpace)
            }
            Some(_) | None => Some(ForwardRefusal::Unsupported),
        }
    }

    /// A member asks which of its attempts we lack, as the leader of a term.
    pub(super) fn on_forward_question(&mut self, from: NodeId, question: ForwardQuestion) {
        let ForwardQuestion { term, boot, oldest_attempt, attempts } = question;
        let leads = self.node.role() == RoleKind::Leader && self.node.current_term() == term;
        if leads {
            self.forwards.lead(term);
        }
        if !self.forwards.begin(term, from, boot, oldest_attempt) {
            return;
        }
        let (mut lacked, mut refused) = (Vec::new(), Vec::new());
        for attempt in attempts {
            match self.forwards.fate(from, attempt) {
                Fate::New if leads => lacked.push(attempt),
                Fate::New if self.forwards.has_room(from, self.options.max_requests) => {
                    // It was for a term that is over here, for good.
                    self.forwards.refuse(from, attempt, ForwardRefusal::NotLeader);
                    refused.push((attempt, ForwardRefusal::NotLeader));
                }
                // The word of it was lost.
                Fate::Refused(why) => refused.push((attempt, why)),
                Fate::New | Fate::Taken | Fate::Over => {}
            }
        }
        self.refuse_forwards(from, term, boot, &refused);
        if !lacked.is_empty() {
            let message = PeerMessage::ForwardLacked(ForwardLacked { term, boot, attempts: lacked });
            self.jobs.push_back(Job::Send { to: from, message });
        }
    }

    /// The leader lacks some of our attempts.
    pub(super) fn on_forward_lacked(&mut self, from: NodeId, lacked: &ForwardLacked) {
        let is_leader = self.node.leader_id() == Some(from) && self.node.current_term() == lacked.term;
        if lacked.boot == self.identity.boot && is_leader {
            let repeated = self.writes.repeat(lacked.term, &lacked.attempts);
            self.forward(from, lacked.term, repeated);
        }
    }

    fn refuse_forwards(&mut self, to: NodeId, term: Term, boot: u64, refused: &[(u64, ForwardRefusal)]) {
        let reasons = [
            ForwardRefusal::NotLeader,
            ForwardRefusal::Overloaded,
            ForwardRefusal::NoSpace,
            ForwardRefusal::Unsupported,
        ];
        for why in reasons {
            let of_kind = refused.iter().filter(|(_, other)| *other == why);
            let attempts: Vec<u64> = of_kind.map(|&(attempt, _)| attempt).collect();
            if !attempts.is_empty() {
                let message = PeerMessage::ForwardRefused(ForwardRefused { term, boot, attempts, why });
                self.jobs.push_back(Job::Send { to, message });
            }
        }
    }

    /// Definite: the attempts entered no log and never will.
    pub(super) fn on_forward_refused(&mut self, refused: &ForwardRefused) {
        if refused.boot != self.identity.boot {
            return;
        }
        for &attempt in &refused.attempts {
            match refused.why {
                ForwardRefusal::NotLeader => {
                    let later = self.now.after(self.options.forward_retry_us);
                    self.writes.refused(attempt, later);
                }
                ForwardRefusal::Overloaded => self.fail_attempt(attempt, Failure::TooManyRequests),
                ForwardRefusal::NoSpace => self.fail_attempt(attempt, Failure::NoSpace),
                ForwardRefusal::Unsupported => self.fail_attempt(attempt, Failure::Unsupported),
            }
        }
    }

    /// A message with these writes has certainly not left.
    pub(super) fn on_forward_not_sent(&mut self, forward: &Forward) {
        let later = self.now.after(self.options.forward_retry_us);
        for origin in forward.commands.iter().filter_map(command::decode_origin) {
            self.writes.not_sent(origin.attempt, later);
        }
    }
}

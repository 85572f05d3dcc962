//! The judges: what must hold in every run, whatever breaks. One file each, named for the property.
//!
//! They look at what the members externalise (messages, events, answers) and at what has reached their
//! disks, never at what the members believe about each other. All are incremental: a few comparisons for
//! each event, no scan of logs. What they share is here: the registry of all entries that were ever made,
//! and the shadow of each member's disk.

mod addresses;
mod agreement;
pub(crate) mod asked;
mod committed;
mod durability;
mod elections;
mod externalization;
pub(crate) mod kept;
mod leader_completeness;
mod log_matching;
mod membership;
mod model;
mod operations;
mod quorum;
mod reads;
pub(crate) mod resources;
mod state_machine;
mod votes;

use std::fmt;

use tenure_raft::{
    Configuration, EntryId, Envelope, Index, Node, NodeId, Payload, RoleKind, Snapshot as RaftSnapshot, Term,
};
use tenure_replica::{ChangeRefusal, LogJob, MemberChange, PeerMessage};
use tenure_store::StateHash;

pub(crate) use durability::Recovered;
pub(crate) use operations::{Action, Answer, OperationId, Operations};
pub(crate) use quorum::is_quorum;

use crate::change_requests::first_urls;
use agreement::{Agreement, Before};
use asked::{Asked, Begun, Wanted};
use committed::Committed;
use durability::Durability;
use elections::Elections;
use leader_completeness::LeaderLogs;
use log_matching::LogMatching;
use membership::Membership;
use reads::Reads;
use state_machine::StateMachines;
use votes::Votes;

/// A property that was broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which judge saw it.
    pub judge: &'static str,
    /// What it saw.
    pub cause: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.judge, self.cause)
    }
}

/// What a judge says.
pub(crate) type Verdict<T = ()> = Result<T, Violation>;

/// A verdict of `judge`, unless the rule holds. The cause is only made when it does not.
pub(crate) fn require(judge: &'static str, holds: bool, cause: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Violation { judge, cause: cause() }) }
}

/// All judges of one run.
pub(crate) struct Judges {
    elections: Elections,
    votes: Votes,
    leader_logs: LeaderLogs,
    log_matching: LogMatching,
    agreement: Agreement,
    durability: Durability,
    committed: Committed,
    membership: Membership,
    asked: Asked,
    reads: Reads,
    state_machines: StateMachines,
    pub(crate) operations: Operations,
}

impl Judges {
    pub(crate) fn new(
        first: Configuration,
        ids_are_used_once: bool,
        max_learners: usize,
        operations: Operations,
    ) -> Judges {
        Judges {
            elections: Elections::default(),
            votes: Votes::default(),
            leader_logs: LeaderLogs::default(),
            log_matching: LogMatching::default(),
            agreement: Agreement::default(),
            durability: Durability::default(),
            committed: Committed::default(),
            membership: Membership::new(first, ids_are_used_once),
            asked: Asked::new(max_learners),
            reads: Reads::default(),
            state_machines: StateMachines::default(),
            operations,
        }
    }

    /// A member hands a message to the network.
    pub(crate) fn on_send(&mut self, from: NodeId, to: NodeId, message: &PeerMessage) -> Verdict {
        let PeerMessage::Raft(envelope) = message else { return Ok(()) };
        self.elections.on_send(envelope)?;
        self.votes.on_send(envelope)?;
        self.log_matching.on_send(envelope)?;
        let Judges { durability, leader_logs, log_matching, committed, agreement, reads, .. } = self;
        Membership::on_send(envelope, leader_logs.first_of(envelope.term), committed.last_index())?;
        let disk = durability.shadow(from);
        externalization::check(disk, envelope, |index| {
            leader_logs.term_at(log_matching, envelope.term, index)
        })?;
        agreement.on_send(envelope)?;
        reads.on_send(envelope, committed.last_index())?;
        require("elections", envelope.from == from && envelope.to == to, || {
            format!("{from} sends what it says {} sends", envelope.from)
        })
    }

    /// A message is about to reach a member.
    pub(crate) fn on_arrival(&mut self, node: &Node, envelope: &Envelope) -> Before {
        self.agreement.on_arrival(node, envelope);
        Before::of(node)
    }

    /// It has reached the member, which was in another state before.
    pub(crate) fn on_arrived(
        &self,
        before: &Before,
        node: &Node,
        term: Term,
        is_known: bool,
        may_be_unheard: bool,
    ) -> Verdict {
        self.agreement.on_arrived(before, node, term, is_known, may_be_unheard)
    }

    /// A member has done what it wanted to do.
    pub(crate) fn on_step(&self, node: &Node) -> Verdict {
        agreement::check_known(node, &self.durability)
    }

    /// A member that goes by `configuration` won its term.
    pub(crate) fn on_leader(&mut self, node: &Node, term: Term, configuration: &Configuration) -> Verdict {
        self.elections.on_leader(node.id(), term)?;
        self.votes.on_self_vote(node.id(), term)?;
        self.votes.check_won(node.id(), term, configuration)?;
        self.leader_logs.on_leader(&self.committed, node, term)
    }

    /// A member that goes by `configuration` says that `commit` is committed.
    pub(crate) fn on_commit(
        &mut self,
        now_us: u64,
        node: &Node,
        commit: EntryId,
        configuration: &Configuration,
    ) -> Verdict {
        let Judges {
            durability, committed, leader_logs, log_matching, membership, asked, operations, ..
        } = self;
        if node.role() == RoleKind::Leader {
            quorum::check_term(node.id(), node.current_term(), commit)?;
        }
        if !committed.is_news(commit) {
            return committed.check_known(node.id(), commit);
        }
        quorum::check(durability, configuration, commit, node.id())?;
        leader_logs.on_committed(log_matching, commit)?;
        asked.on_committed(now_us, commit.index);
        committed.advance(node, commit, |id| {
            let payload = log_matching.payload_of(id).ok_or_else(|| Violation {
                judge: "log matching",
                cause: format!("{id} is committed, and nobody ever proposed it"),
            })?;
            membership.on_committed(id, payload)?;
            operations.on_committed(id.index.0, payload)?;
            if let Some((member, urls)) = operations.addresses.at(id.index.0) {
                let is_flag = urls == first_urls(member) && operations.addresses.was_always(member, urls);
                asked.check_addresses(id.term, member, urls, is_flag)?;
                operations.addresses.check_apart(membership.newest())?;
            }
            if matches!(payload, Payload::Configuration(_)) {
                operations.addresses.check_apart(membership.newest())?;
            }
            Ok(())
        })
    }

    /// The leader of `term` is asked for other members.
    pub(crate) fn on_asked(&mut self, term: Term, wanted: Wanted, force: bool) {
        self.asked.on_asked(term, wanted, force);
    }

    /// A leader goes by a configuration of its own making. `answers` says who has answered it lately; learners may
    /// lack what came in within `lag_us`.
    pub(crate) fn on_change_begun(
        &self,
        now_us: u64,
        node: &Node,
        answers: impl Fn(NodeId) -> bool,
        lag_us: u64,
    ) -> Verdict {
        let log = node.log();
        let (before, next) =
            (log.configuration_at(log.configuration_index().previous()), node.configuration());
        if before.is_joint() {
            // That one was judged when it began.
            return Ok(());
        }
        let begun = Begun { leader: node.id(), term: node.current_term(), before, next };
        self.asked.check_begun(&begun, answers)?;
        self.asked.check_caught_up(&begun, now_us, lag_us, |id, index| {
            let entry = self.committed.id_at(index);
            if id == node.id() { log.matches(entry) } else { self.durability.shadow(id).holds(entry) }
        })
    }

    /// Whether the first leader had rivals in its term.
    pub(crate) fn is_first_contested(&self) -> bool {
        self.elections.is_first_contested()
    }

    /// Whether this one was a member, and is none any more.
    pub(crate) fn was_removed(&self, id: NodeId) -> bool {
        self.was_member(id) && !self.configuration().is_member(id)
    }

    /// Whether all that `from` has is on the disk of `to`, which it tells to take over. (Whoever is in a later term may
    /// have cut it off, and does as it is told no more.)
    pub(crate) fn on_handed_over(&self, from: &Node, to: NodeId) -> Verdict {
        let (last, disk) = (from.log().last(), self.durability.shadow(to));
        let is_over = disk.hard_state().current_term > from.current_term();
        require("who takes over has everything", is_over || disk.holds(last), || {
            format!("{} tells {to} to take over, which lacks {last}", from.id())
        })
    }

    /// An operator who asked for a change when the log was committed up to `asked` is told that it is not made.
    pub(crate) fn on_change_refused(
        &self,
        asked: u64,
        max_learners: usize,
        change: &MemberChange,
        force: bool,
        refusal: &ChangeRefusal,
    ) -> Verdict {
        if let ChangeRefusal::PeerUrlExists = refusal
            && let MemberChange::Add { id, peer_urls, .. } | MemberChange::Update { id, peer_urls } = change
            && self.operations.addresses.were_taken(peer_urls, *id)
        {
            return Ok(());
        }
        asked::check_refusal(self.membership.history(), Index(asked), max_learners, change, force, refusal)
    }

    /// A member goes by another configuration than before. Answers whether that could be judged.
    pub(crate) fn on_in_force(&self, node: &Node, configuration: &Configuration) -> Verdict<bool> {
        Membership::on_in_force(node, configuration, &self.log_matching)
    }

    /// The newest configuration that is committed.
    pub(crate) fn configuration(&self) -> &Configuration {
        self.membership.newest()
    }

    /// How many configurations were committed.
    pub(crate) fn configuration_changes(&self) -> usize {
        self.membership.history().len()
    }

    /// Whether a committed configuration has ever named this member.
    pub(crate) fn was_member(&self, id: NodeId) -> bool {
        self.membership.was_member(id)
    }

    /// A member that has applied `applied` says that the members are as was asked for when `committed` was committed.
    pub(crate) fn on_members_changed(
        &self,
        member: NodeId,
        committed: u64,
        applied: u64,
        holds: &dyn Fn(&Configuration) -> bool,
    ) -> Verdict {
        self.membership.on_changed(member, Index(committed), Index(applied), holds)
    }

    /// Whether the disk of a member holds all that is committed.
    pub(crate) fn holds_committed(&self, member: NodeId) -> bool {
        self.committed.last().is_none_or(|last| self.durability.shadow(member).holds(last))
    }

    /// The last entry on the disk of a member.
    pub(crate) fn last_on_disk(&self, member: NodeId) -> EntryId {
        self.durability.shadow(member).last()
    }

    /// A snapshot up to `last_included` took the place of a member's log.
    pub(crate) fn on_installed(&mut self, member: NodeId, last_included: EntryId) -> Verdict {
        self.committed.check_known(member, last_included)
    }

    /// The worker of a log begins a job.
    pub(crate) fn on_log_begin(&mut self, member: NodeId, job: &LogJob) -> Verdict {
        if let LogJob::Write { entries, .. } = job {
            let written = self.durability.shadow(member);
            self.log_matching.on_write(entries, |index| written.term_at(index))?;
        }
        self.durability.begin(member, job);
        Ok(())
    }

    /// The job that was begun is done.
    pub(crate) fn on_log_done(&mut self, member: NodeId) -> Verdict {
        let before = self.log_before(member);
        self.durability.finish(member);
        before.check(member, self.durability.shadow(member))
    }

    fn log_before(&self, member: NodeId) -> kept::Before {
        let Judges { durability, leader_logs, log_matching, .. } = self;
        let disk = durability.shadow(member);
        let term = disk.hard_state().current_term;
        if leader_logs.knows(term) {
            kept::Before::of(disk, |index| leader_logs.term_at(log_matching, term, index))
        } else {
            kept::Before::leaderless(disk)
        }
    }

    /// A member has applied the log up to `index`.
    pub(crate) fn on_applied(&mut self, node: &Node, index: u64, hash: StateHash) -> Verdict {
        require("committed", index <= self.committed.last_index().0, || {
            format!(
                "{} has applied {index}, but only {} is committed",
                node.id(),
                self.committed.last_index()
            )
        })?;
        self.state_machines.on_applied(node.id(), index, hash)
    }

    /// A member answers a read with its state at `applied`; it took it when `committed` was committed.
    pub(crate) fn on_read(member: NodeId, committed: u64, applied: u64) -> Verdict {
        Reads::on_answered(member, Index(committed), Index(applied))
    }

    /// A member takes a snapshot, or starts from one.
    pub(crate) fn on_snapshot(&self, member: NodeId, snapshot: &RaftSnapshot) -> Verdict {
        self.membership.on_snapshot(member, snapshot)
    }

    /// A member wrote down, or read back, the state at `index`.
    pub(crate) fn on_checkpoint(&mut self, member: NodeId, index: u64, hash: StateHash) -> Verdict {
        self.state_machines.on_state(member, index, hash)
    }

    /// A member has started, with this on its disk and the state of a checkpoint.
    pub(crate) fn on_recovered(
        &mut self,
        member: NodeId,
        recovered: &Recovered,
        checkpoint: EntryId,
        hash: StateHash,
    ) -> Verdict {
        self.committed.check_known(member, checkpoint)?;
        for &(id, ref entry, prev) in &recovered.entries {
            self.log_matching.observe(prev, id, entry)?;
        }
        let before = self.log_before(member);
        self.durability.on_recovered(member, recovered, checkpoint)?;
        before.check(member, self.durability.shadow(member))?;
        self.agreement.on_started(member);
        self.reads.on_started(member);
        self.state_machines.on_started(member, checkpoint.index.0);
        self.state_machines.on_state(member, checkpoint.index.0, hash)
    }

    /// The last entry known to be committed.
    pub(crate) fn last_committed(&self) -> u64 {
        self.committed.last_index().0
    }
}

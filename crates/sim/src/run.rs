//! A run from beginning to end: faults, then half a recovery, then a whole one.
//!
//! 1. Faults happen for a while. The judges of safety look on.
//! 2. A bare majority is healed; the others are as badly off as before, or worse. The majority must make
//!    progress within a bound (SOURCES F2, Q3).
//! 3. Everything is healed and the clients stop. All members must become equal, and nothing may be left
//!    waiting.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tenure_raft::{Node, RoleKind, Status};
use tenure_replica::{MemberChange, Options, ReplicaStatus};
use tenure_wal::Crash;

use crate::change_requests::peer_urls;
use crate::clients::{Purpose, Waiting};
use crate::coverage::{Coverage, Mark};
use crate::event::Event;
use crate::judges::resources::{self, ToSay};
use crate::judges::{Verdict, Violation, require};
use crate::member::Member;
use crate::nemesis::{FaultKind, StalledDisk};
use crate::network::Cut;
use crate::plan::Plan;
use crate::random::CERTAIN_PPM;
use crate::trace::{Detail, Sink};
use crate::world::World;

const PROGRESS: &str = "progress";
const CONVERGENCE: &str = "convergence";
const CALM: &str = "calm";
const CHANGE: &str = "a change is made";
const RESOURCES: &str = "resources";
const MEMBERSHIP: &str = "who leads has a vote";
/// One of the seven ways in which members are neglected.
const SOME_LINKS: u64 = 5;
/// How often it is looked whether a phase is over.
const LOOK_US: u64 = 10_000;
/// The number of the address at which a member is reached in the end.
const LAST_ADDRESS: u64 = 9;
/// A backlog may take this many times as long as one entry may.
const MAX_BACKLOG: u64 = 5;

/// A run that went well.
#[derive(Clone, Debug)]
pub struct Report {
    /// How long it was, in simulated time.
    pub simulated_us: u64,
    /// How many events there were.
    pub events: u64,
    /// How many operations clients began.
    pub operations: u64,
    /// How many of them were answered.
    pub answered: u64,
    /// How many entries were committed.
    pub committed: u64,
    /// How many bytes all members have written to checkpoints of their own.
    pub checkpoint_bytes: u64,
    /// A number that two runs share only if the same happened in them.
    pub trace_hash: u64,
    /// What was exercised.
    pub coverage: Coverage,
}

/// A run that went wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The seed that shows it.
    pub seed: u64,
    /// When it was seen, in simulated time.
    pub at_us: u64,
    /// Which judge saw it, and what.
    pub violation: Violation,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (seconds, micros) = (self.at_us / 1_000_000, self.at_us % 1_000_000);
        write!(f, "seed {} fails after {seconds}.{micros:06} s: {}", self.seed, self.violation)
    }
}

/// Runs a plan.
pub fn run(plan: Plan) -> Result<Report, Failure> {
    run_world(World::new(plan))
}

/// Runs a plan, and tells `sink` what happens, line by line.
pub fn run_traced(plan: Plan, detail: Detail, sink: Sink) -> Result<Report, Failure> {
    let mut world = World::new(plan);
    world.read_trace(detail, sink);
    run_world(world)
}

fn run_world(mut world: World) -> Result<Report, Failure> {
    // An assertion in the members is a finding like any other.
    let verdict = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
        Err(Violation { judge: "assertion", cause: text.to_owned() })
    });
    match verdict {
        Ok(()) => Ok(world.report()),
        Err(violation) => Err(Failure { seed: world.plan.seed, at_us: world.now_us, violation }),
    }
}

impl World {
    fn run(&mut self) -> Verdict {
        self.begin()?;
        self.run_until(self.plan.faults_us)?;
        self.check_calm()?;
        self.begin_last_change()?;
        let core = self.core();
        self.heal(&core)?;
        self.await_progress(&core)?;
        self.heal_all()?;
        self.await_convergence()
    }

    fn report(&self) -> Report {
        let (operations, _) = self.judges.operations.counts();
        Report {
            simulated_us: self.now_us,
            events: self.events,
            operations: operations as u64,
            answered: self.clients.answered,
            committed: self.judges.last_committed(),
            checkpoint_bytes: self.checkpoint_bytes,
            trace_hash: self.trace.hash(),
            coverage: self.coverage.clone(),
        }
    }

    fn begin(&mut self) -> Verdict {
        for member in 0..self.plan.members {
            self.boot(member)?;
        }
        for client in 0..self.clients.each.len() {
            let in_us = self.clients.first_act_us();
            self.add_in(in_us, Event::Act { client });
        }
        for kind in FaultKind::ALL {
            if let Some(in_us) = self.nemesis.next_in_us(kind) {
                self.add_in(in_us, Event::Fault(kind));
            }
        }
        Ok(())
    }

    /// Where nothing goes wrong, nobody campaigns but once (SOURCES E7, E10) and when leadership is handed over (L4),
    /// everybody is answered, and nothing is said twice.
    fn check_calm(&self) -> Verdict {
        if !self.plan.is_calm() {
            return Ok(());
        }
        let (elections, transfers) =
            (self.coverage.count(Mark::Elected), self.coverage.count(Mark::TransferStarted));
        let hands_over = self.members.iter().any(|it| it.process.as_ref().is_some_and(|it| it.hands_over));
        // A rival of the first leader that has not heard of it yet may depose it; nobody leads for a while then.
        let is_deposed = self.judges.is_first_contested() && elections == 2 + transfers;
        let is_in_time = elections == 1 + transfers || (hands_over && elections == transfers);
        require(CALM, is_in_time || is_deposed, || {
            format!("nothing went wrong, and there were {elections} elections and {transfers} transfers")
        })?;
        let unknown = self.coverage.count(Mark::Unknown);
        require(CALM, unknown == 0 || is_deposed, || {
            format!("nothing went wrong, and {unknown} operations were not answered")
        })?;
        let to_say = ToSay {
            members: self.plan.members as u64,
            heartbeats: self.now_us / self.plan.replica.raft.heartbeat_interval_us,
            entries: self.longest_log(),
            reads: self.coverage.count(Mark::ReadAnswered),
            elections,
        };
        resources::check_budget(self.said, to_say)
    }

    fn longest_log(&self) -> u64 {
        let running = self.members.iter().filter_map(|member| member.process.as_ref());
        running.map(|process| process.replica.node().log().last_index().0).max().unwrap_or(0)
    }

    /// Many a run is healed in the midst of a change of the members.
    fn begin_last_change(&mut self) -> Verdict {
        if self.plan.faults.member_change_us.is_none() || !self.nemesis.random.chance(CERTAIN_PPM / 2) {
            return Ok(());
        }
        self.begin_change(self.leader())?;
        // The leader has taken it in by then.
        let in_us = self.nemesis.random.exponential(2 * self.plan.network.round_trip_us());
        self.run_until(self.now_us + self.plan.max_batching_us + 1 + in_us)
    }

    /// From now on nothing breaks any more, and the members of `core` run and hear each other.
    fn heal(&mut self, core: &[usize]) -> Verdict {
        self.nemesis.is_over = true;
        self.network.calm_down();
        self.plan.disks.stall_ppm = 0;
        self.plan.disks.misread_ppm = 0;
        self.say(&format!("members {core:?} (from 0) are healed"));
        self.network.mend_between(core);
        self.kept_up = core.to_vec();
        self.clients.reachable = core.to_vec();
        for &member in core {
            self.mend_member(member)?;
        }
        self.neglect_others(core);
        Ok(())
    }

    fn mend_member(&mut self, member: usize) -> Verdict {
        if self.members[member].disks.has_power_failed() {
            self.crash(member, Crash::Power);
        }
        let it = &mut self.members[member];
        if it.is_stalled(self.now_us) {
            // A machine whose disk does not answer is switched off and on again.
            (it.log_stalled_until_us, it.checkpoints_stalled_until_us) = (0, 0);
            self.crash(member, Crash::Power);
        }
        let it = &mut self.members[member];
        for disk in it.disks.all() {
            disk.clear_faults();
        }
        it.disks.empty();
        it.disks.reprieve();
        it.doom = None;
        self.resume(member);
        self.boot(member)
    }

    /// The others are down, cut off altogether or in part, or can speak and not hear, or hear and not speak, or their
    /// disks do not answer.
    fn neglect_others(&mut self, core: &[usize]) {
        let members = self.members.len();
        let others: Vec<usize> = (0..members).filter(|member| !core.contains(member)).collect();
        if others.is_empty() || core.is_empty() {
            return;
        }
        // A leader that some of the others still hear is the most trouble.
        let is_left_out = self.leader().is_some_and(|leader| others.contains(&leader));
        let how = if is_left_out && self.nemesis.random.chance(CERTAIN_PPM / 2) {
            SOME_LINKS
        } else {
            self.nemesis.random.below(7)
        };
        match how {
            0 => {
                for member in others {
                    let crash = self.nemesis.any_crash();
                    self.crash(member, crash);
                }
            }
            1 => self.cut(&Cut::split(members, &others)),
            2 => self.cut(&Cut::muted(members, &others)),
            3 => self.cut(&Cut::deafened(members, &others)),
            4 => {
                for member in others {
                    self.stall(member, StalledDisk::Log, u64::MAX);
                }
            }
            SOME_LINKS => {
                let cut = self.nemesis.some_links(core, &others);
                self.cut(&cut);
            }
            // As they are: some down, some paused, some cut off.
            _ => {}
        }
    }

    /// The healed majority must answer a write that begins now. Not every member of it: one may have to
    /// catch up with the others while they go on.
    fn await_progress(&mut self, core: &[usize]) -> Verdict {
        let probes = self.send_probes(core);
        self.await_that(PROGRESS, self.plan.progress_within_us, core, |world| {
            probes.iter().any(|&probe| world.is_done(probe))
        })?;
        self.clients.give_up(&probes);
        Ok(())
    }

    /// How far these members have come, all together: grows as long as anything is replicated.
    fn reached(&self, core: &[usize]) -> u64 {
        let running = core.iter().filter_map(|&member| self.members[member].process.as_ref());
        let logs: u64 = running.map(|process| process.replica.node().log().last_index().0).sum();
        self.judges.last_committed() + logs + self.pieces_kept
    }

    fn send_probes(&mut self, members: &[usize]) -> Vec<usize> {
        let mut probes = Vec::new();
        for &member in members {
            let client = self.clients.add_probe(member);
            self.add_in(0, Event::Act { client });
            probes.push(client);
        }
        probes
    }

    fn is_done(&self, probe: usize) -> bool {
        self.clients.each[probe].purpose == Purpose::Answered
    }

    fn heal_all(&mut self) -> Verdict {
        let all: Vec<usize> = (0..self.members.len()).collect();
        self.say("all members are healed");
        self.network.mend_between(&all);
        self.clients.closed = true;
        // Spares that no configuration names stay what they are.
        for member in 0..self.members.len() {
            let id = self.members[member].id;
            let is_named = self.members.iter().any(|other| other.in_force().is_member(id));
            if is_named && !self.kept_up.contains(&member) {
                self.kept_up.push(member);
            }
        }
        self.clients.reachable.clone_from(&self.kept_up);
        for member in self.kept_up.clone() {
            self.mend_member(member)?;
        }
        Ok(())
    }

    /// Every member must answer once more, and then all must be equal and at rest.
    fn await_convergence(&mut self) -> Verdict {
        let (patience_us, all) = (self.plan.convergence_within_us, self.kept_up.clone());
        self.await_that(CONVERGENCE, patience_us, &all, World::is_settled)?;
        let probes = self.send_probes(&self.committed_members());
        self.await_that(CONVERGENCE, patience_us, &all, |world| {
            // What was asked for earlier may still have removed somebody.
            let members = world.committed_members();
            let is_gone = |probe: usize| !members.contains(&world.clients.each[probe].member);
            probes.iter().all(|&probe| world.is_done(probe) || is_gone(probe)) && world.is_at_rest()
        })?;
        self.await_change(patience_us)?;
        self.await_that(CONVERGENCE, patience_us, &all, World::is_at_rest)?;
        let mut hash = None;
        for member in self.committed_members() {
            let Member { id, process, .. } = &self.members[member];
            let Some(process) = process else { continue };
            let its = process.replica.state().hash_kv(0);
            require(CONVERGENCE, *hash.get_or_insert(its) == its, || {
                format!("the keys of {id} have another hash than those of others: {its:?}, not {hash:?}")
            })?;
            process.replica.store().check_invariants();
            self.judges.operations.check_state(*id, &process.replica.state())?;
            self.judges.operations.addresses.check_known(*id, process.replica.store())?;
            self.check_log_is_short(process.replica.node())?;
        }
        self.check_leader_votes()
    }

    /// At rest: while leadership is handed over a follower is asked for a change, which is made all the same, by whoever
    /// leads next, if not by who did.
    fn await_change(&mut self, patience_us: u64) -> Verdict {
        // What a former leader has said too often may still be on the wire, and the request behind it.
        let members = self.committed_members();
        self.await_that(CHANGE, patience_us, &members, |world| world.network.is_idle(world.now_us))?;
        self.await_that(CHANGE, patience_us, &members, |world| world.agreed_leader().is_some())?;
        let leader = self.agreed_leader();
        let may_move = |member: usize| {
            let process = self.members[member].process.as_ref();
            Some(member) != leader && process.is_some_and(|process| !process.replica.is_removed())
        };
        let mut others = members.iter().copied().filter(|&member| may_move(member));
        let (Some(leader), Some(follower)) = (leader, others.next()) else { return Ok(()) };
        let id = self.members[follower].id;
        let before = self.changes_made;
        self.hand_over(leader, None)?;
        self.ask(follower, &MemberChange::Update { id, peer_urls: peer_urls(id, LAST_ADDRESS) }, false)?;
        let within_us = self.plan.replica.request_timeout_us.min(patience_us);
        let deadline_us = self.now_us + within_us;
        // What was asked for earlier may still remove it.
        while self.changes_made == before && self.judges.configuration().is_member(id) {
            require(CHANGE, self.now_us < deadline_us, || {
                format!("{id} could not be moved within {within_us} us: {}", self.describe())
            })?;
            self.run_until(self.now_us + LOOK_US)?;
        }
        Ok(())
    }

    /// The machine of whom all members hold for their leader.
    fn agreed_leader(&self) -> Option<usize> {
        let leader = self.leader()?;
        let follows = |&member: &usize| {
            let process = self.members[member].process.as_ref();
            process.is_some_and(|it| it.replica.node().leader_id() == Some(self.members[leader].id))
        };
        self.committed_members().iter().all(follows).then_some(leader)
    }

    /// The log does not grow without end: a checkpoint takes its place as often as the options say, or a bounded
    /// number of times later where a follower needs it.
    fn check_log_is_short(&self, node: &Node) -> Verdict {
        let Options { checkpoint_entries, max_checkpoint_delay, .. } = self.plan.replica;
        let entries = node.log().last_applied().0 - node.log().snapshot().last_included.index.0;
        require(RESOURCES, entries <= checkpoint_entries.saturating_mul(max_checkpoint_delay), || {
            format!("{} is at rest, and its last checkpoint is {entries} entries old", node.id())
        })
    }

    /// A leader that left the voters goes when its change is done (paper §6, SOURCES C4).
    fn check_leader_votes(&self) -> Verdict {
        let running = self.members.iter().filter_map(|member| member.process.as_ref());
        let leaders =
            running.map(|process| process.replica.node()).filter(|node| node.role() == RoleKind::Leader);
        let Some(leader) = leaders.max_by_key(|node| node.current_term()) else { return Ok(()) };
        let configuration = self.judges.configuration();
        require(MEMBERSHIP, configuration.is_voter(leader.id()), || {
            format!("at rest {} leads {configuration}, and has no vote", leader.id())
        })
    }

    /// Whether all members have applied all that is committed, and nobody waits for anything.
    fn is_at_rest(&self) -> bool {
        let last = self.judges.last_committed();
        self.clients.are_idle(&self.committed_members())
            && self.is_settled()
            && self.committed_members().iter().all(|&member| {
                self.members[member].process.as_ref().is_some_and(|process| {
                    let status = process.replica.status();
                    process.replica.store().applied_index() == last
                        && status.raft.last.index.0 == last
                        && process.is_known()
                        && status.pending_writes == 0
                        && status.pending_reads == 0
                        && !process.is_busy()
                        // Its disk may have room again and it has not looked yet.
                        && !process.replica.is_short_of_room()
                })
            })
    }

    /// Waits until `is_over`. As long as logs grow and entries are committed patience is renewed: a backlog takes
    /// the time that it takes, but not for ever.
    fn await_that(
        &mut self,
        judge: &'static str,
        patience_us: u64,
        members: &[usize],
        is_over: impl Fn(&World) -> bool,
    ) -> Verdict {
        let last_deadline_us = self.now_us + MAX_BACKLOG * patience_us;
        let (mut reached, mut since_us) = (self.reached(members), self.now_us);
        while !is_over(self) {
            if self.reached(members) > reached {
                (reached, since_us) = (self.reached(members), self.now_us);
            }
            let deadline_us = last_deadline_us.min(since_us + patience_us);
            require(judge, self.now_us < deadline_us, || {
                format!("nothing for {} s: {}", (self.now_us - since_us) / 1_000_000, self.describe())
            })?;
            self.run_until(self.now_us + LOOK_US)?;
        }
        Ok(())
    }

    /// Where everybody stands, for who wonders why nothing moves.
    fn describe(&self) -> String {
        let mut parts = vec![format!("{} is committed", self.judges.last_committed())];
        parts.extend(self.members.iter().map(describe_member));
        let waiting = self.clients.each.iter().filter(|client| client.waiting != Waiting::Idle).count();
        parts.push(format!("{waiting} clients wait"));
        parts.join("; ")
    }

    fn say(&mut self, text: &str) {
        self.trace.line(self.now_us, Detail::Short, [70], format_args!("{text}"));
    }
}

fn describe_member(member: &Member) -> String {
    let id = member.id;
    let Some(process) = &member.process else { return format!("{id} is down") };
    if member.held.is_some() {
        return format!("{id} is paused");
    }
    let ReplicaStatus { raft, pending_writes, pending_reads, .. } = process.replica.status();
    let Status { role, hard_state, last, commit_index, last_applied, .. } = raft;
    format!(
        "{id} is {role} in {hard_state}, last {last}, commit {commit_index}, applied {last_applied}, \
         {pending_writes} writes and {pending_reads} reads wait"
    )
}

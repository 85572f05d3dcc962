//! The simulated world: members, network, clients and whoever breaks things, moved by one queue of events.
//!
//! One thread, one seed, no clock: the time is the time of the next event. What an event does to a member
//! is in [`host`](crate::host), how a run begins and ends in [`run`](crate::run).

use std::collections::BTreeSet;

use tenure_raft::{Node, NodeId, RoleKind};
use tenure_wal::Crash;

use crate::clients::{Clients, Waiting};
use crate::clock::Clock;
use crate::coverage::{Coverage, Mark};
use crate::event::{Event, Input};
use crate::judges::resources::Said;
use crate::judges::{Action, Answer, Judges, OperationId, Operations, Verdict};
use crate::member::{Disks, Doom, Member, number_of};
use crate::nemesis::{FaultKind, Nemesis, StalledDisk};
use crate::network::{Cut, Network};
use crate::plan::Plan;
use crate::queue::Queue;
use crate::random::{CERTAIN_PPM, Random};
use crate::trace::{Detail, Sink, Trace};

/// How long a client waits before it tries another member.
const REFUSED_US: u64 = 200;
/// A crash that waits for the midst of a job comes at the latest after this.
const DOOM_US: u64 = 500_000;
/// How often a network comes and goes in the time of a cut.
const FLAPS: u32 = 8;

/// A cluster with everything around it.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) now_us: u64,
    pub(crate) queue: Queue<Event>,
    pub(crate) network: Network,
    pub(crate) members: Vec<Member>,
    pub(crate) clients: Clients,
    pub(crate) nemesis: Nemesis,
    pub(crate) judges: Judges,
    pub(crate) coverage: Coverage,
    pub(crate) trace: Trace,
    /// For what happens inside of members: the time of disks, batching, seeds of starts.
    pub(crate) random: Random,
    /// The members that are started again when they crash.
    pub(crate) kept_up: Vec<usize>,
    /// How many changes were asked for of which nobody knows what has become, or will.
    pub(crate) open_changes: u64,
    /// Whom operators have had proposed as members, and after how many changes.
    pub(crate) proposed: BTreeSet<(NodeId, usize)>,
    /// How many changes operators were told are done.
    pub(crate) changes_made: u64,
    pub(crate) events: u64,
    /// What all members have written to checkpoints of their own.
    pub(crate) checkpoint_bytes: u64,
    /// How many pieces of others' checkpoints the members have kept.
    pub(crate) pieces_kept: u64,
    pub(crate) said: Said,
}

impl World {
    pub(crate) fn new(plan: Plan) -> World {
        let mut random = Random::new(plan.seed ^ 0x5eed);
        let mut nemesis = Nemesis::new(&plan, random.split());
        let members: Vec<Member> = (0..plan.machines())
            .map(|number| {
                let rate_ppm = nemesis.clock_rate_ppm();
                Member::new(number, &plan, Clock::new(nemesis.random.below(1 << 40), rate_ppm))
            })
            .collect();
        let first = members[0].in_force().clone();
        World {
            now_us: 0,
            queue: Queue::new(),
            network: Network::new(plan.network.clone(), plan.machines(), random.split()),
            members,
            clients: Clients::new(plan.clients.clone(), plan.machines(), random.split()),
            nemesis,
            judges: Judges::new(
                first,
                plan.faults.asks_any_member,
                plan.replica.max_learners,
                Operations::new(plan.clients.value_bytes),
            ),
            coverage: Coverage::default(),
            trace: Trace::new(),
            random: random.split(),
            kept_up: (0..plan.members).collect(),
            open_changes: 0,
            proposed: BTreeSet::new(),
            changes_made: 0,
            events: 0,
            checkpoint_bytes: 0,
            pieces_kept: 0,
            said: Said::default(),
            plan,
        }
    }

    pub(crate) fn read_trace(&mut self, detail: Detail, sink: Sink) {
        self.trace.read_by(detail, sink);
    }

    // ---- Time ---------------------------------------------------------------------------------------

    pub(crate) fn add_in(&mut self, in_us: u64, event: Event) {
        self.queue.add(self.now_us.saturating_add(in_us), event);
    }

    /// Runs until nothing more happens before `until_us`, which is then the time.
    pub(crate) fn run_until(&mut self, until_us: u64) -> Verdict {
        while self.step(until_us)? {}
        Ok(())
    }

    /// Does the next thing, unless it happens after `until_us`. Returns whether there was one.
    pub(crate) fn step(&mut self, until_us: u64) -> Verdict<bool> {
        if self.queue.next_at_us().is_none_or(|at_us| at_us > until_us) {
            self.now_us = self.now_us.max(until_us);
            return Ok(false);
        }
        let Some((at_us, event)) = self.queue.pop() else { return Ok(false) };
        self.now_us = at_us;
        self.events += 1;
        self.happen(event)?;
        Ok(true)
    }

    fn happen(&mut self, event: Event) -> Verdict {
        if let Some(member) = self.paused(&event) {
            self.hold(member, event);
            return Ok(());
        }
        if self.is_for_nobody(&event) {
            return Ok(());
        }
        match event {
            Event::To { member, start, input } => return self.on_input(member, start, input),
            Event::Arrival { from, to, message } => return self.on_arrival(from, to, message),
            Event::Wire(way) => self.depart(way),
            Event::Request { member, client, operation, command } => {
                return self.on_request(member, client, operation, command);
            }
            Event::Answer { client, operation, answer } => self.on_answer(client, operation, answer),
            Event::Timeout { client, operation } => {
                if self.clients.each[client].waiting == Waiting::Answer(operation) {
                    self.on_answer(client, operation, Answer::Unknown);
                }
            }
            Event::Act { client } => self.act(client),
            Event::Fault(kind) => return self.on_fault(kind),
            Event::Ambush { member, .. } => return self.ambush(member),
            Event::Crash { member, crash, .. } => self.crash(member, crash),
            Event::Boot { member, .. } => return self.boot(member),
            Event::Resume { member, .. } => self.resume(member),
            Event::Emptied { member, fillings } => self.empty(member, fillings),
            Event::Mend(cut) => self.mend(&cut),
            Event::Flap { cut, every_us, left } => self.flap(cut, every_us, left),
        }
        Ok(())
    }

    /// The member that an event has to wait for, because its process is paused.
    fn paused(&self, event: &Event) -> Option<usize> {
        let member = match event {
            Event::To { member, .. } | Event::Request { member, .. } => *member,
            Event::Arrival { to, .. } => number_of(*to),
            Event::Answer { .. }
            | Event::Wire(_)
            | Event::Timeout { .. }
            | Event::Act { .. }
            | Event::Fault(_)
            | Event::Ambush { .. }
            | Event::Crash { .. }
            | Event::Boot { .. }
            | Event::Resume { .. }
            | Event::Emptied { .. }
            | Event::Mend(_)
            | Event::Flap { .. } => return None,
        };
        Some(member).filter(|&member| self.members[member].held.is_some())
    }

    /// Whether the start of the member that an event is meant for is over, or the time of faults.
    fn is_for_nobody(&self, event: &Event) -> bool {
        match *event {
            Event::Ambush { member, start } | Event::Crash { member, start, .. } => {
                self.nemesis.is_over || self.members[member].start != start
            }
            Event::Boot { member, start } | Event::Resume { member, start } => {
                self.members[member].start != start
            }
            // A process looks for itself whether an input is for it, and machines at whom a message is for.
            Event::To { .. }
            | Event::Arrival { .. }
            | Event::Wire(_)
            | Event::Request { .. }
            | Event::Answer { .. }
            | Event::Timeout { .. }
            | Event::Act { .. }
            | Event::Fault(_)
            | Event::Emptied { .. }
            | Event::Mend(_)
            | Event::Flap { .. } => false,
        }
    }

    fn hold(&mut self, member: usize, event: Event) {
        if let Some(held) = &mut self.members[member].held {
            held.push(event);
        }
    }

    // ---- Clients ------------------------------------------------------------------------------------

    /// A client begins an operation, or repeats one.
    fn act(&mut self, client: usize) {
        let (operation, command) = match self.clients.each[client].waiting {
            Waiting::Answer(_) => return,
            Waiting::Again(operation) => (operation, self.judges.operations.again(operation)),
            Waiting::Idle => {
                let Some(action) = self.clients.next_action(client) else { return };
                self.judges.operations.begin(action)
            }
        };
        let it = &mut self.clients.each[client];
        it.waiting = Waiting::Answer(operation);
        let member = it.member;
        let action = self.judges.operations.action(operation);
        self.trace.line(
            self.now_us,
            Detail::Full,
            [30, client as u64, member as u64, u64::from(operation.0)],
            format_args!("c{client} → {} {operation} {action:?}", self.members[member].id),
        );
        self.add_in(self.clients.timeout_us(), Event::Timeout { client, operation });
        if !self.network.loses() {
            let delay_us = self.network.delay_us();
            self.add_in(delay_us, Event::Request { member, client, operation, command });
        }
    }

    /// An answer, or the lack of one, reaches a client.
    fn on_answer(&mut self, client: usize, operation: OperationId, answer: Answer) {
        if self.clients.each[client].waiting != Waiting::Answer(operation) {
            return;
        }
        self.judges.operations.on_received(operation, answer);
        match answer {
            Answer::Done { .. } => {}
            Answer::NotDone => self.coverage.reach(Mark::NotDone),
            Answer::Unknown => self.coverage.reach(Mark::Unknown),
        }
        let action: Action = self.judges.operations.action(operation);
        self.trace.line(
            self.now_us,
            Detail::Full,
            [31, client as u64, u64::from(operation.0), facts_of(answer)],
            format_args!("c{client} {operation} {action:?}: {answer:?}"),
        );
        if let Some(think_us) = self.clients.on_answer(client, operation, action, answer) {
            let think_us = think_us.max(REFUSED_US);
            self.add_in(think_us, Event::Act { client });
        }
    }

    // ---- Faults -------------------------------------------------------------------------------------

    /// It is time for a fault of this kind, and for the next one to be planned.
    fn on_fault(&mut self, kind: FaultKind) -> Verdict {
        let Some(next_us) = self.nemesis.next_in_us(kind) else { return Ok(()) };
        self.add_in(next_us, Event::Fault(kind));
        let leader = self.leader();
        match kind {
            FaultKind::ProcessCrash | FaultKind::PowerLoss => {
                let crash = if kind == FaultKind::PowerLoss { Crash::Power } else { Crash::Process };
                let member = self.nemesis.victim(leader);
                self.plan_crash(member, crash);
            }
            FaultKind::TotalOutage => {
                let crash = self.nemesis.any_crash();
                for member in 0..self.members.len() {
                    self.crash(member, crash);
                }
            }
            FaultKind::Partition => {
                if let Some((cut, lasts_us)) = self.nemesis.partition(leader) {
                    if self.nemesis.flaps() {
                        self.coverage.reach(Mark::Flapped);
                        let every_us = lasts_us / u64::from(FLAPS) + 1;
                        self.flap(cut, every_us, FLAPS);
                    } else {
                        self.cut(&cut);
                        self.add_in(lasts_us, Event::Mend(cut));
                    }
                }
            }
            FaultKind::Pause => {
                let (member, lasts_us) = (self.nemesis.victim(leader), self.nemesis.pause_us());
                self.pause(member, lasts_us);
            }
            FaultKind::DiskStall => {
                let member = self.nemesis.victim(leader);
                let (disk, lasts_us) = self.nemesis.disk_stall();
                self.stall(member, disk, lasts_us);
            }
            FaultKind::DiskError => self.inject_disk_error(leader),
            FaultKind::Transfer => return self.transfer(leader),
            FaultKind::ConnectionLoss => {
                let member = self.nemesis.victim(leader);
                self.break_connections(member);
            }
            FaultKind::MemberChange => {
                self.recycle();
                return self.begin_change(leader);
            }
            FaultKind::DiskLoss => self.lose_disk(leader),
            FaultKind::Rot => return self.rot(leader),
            FaultKind::FullDisk => {
                let (lasts_us, are_all) = self.nemesis.full_disk();
                let victim = self.nemesis.victim(leader);
                let members = if are_all { (0..self.members.len()).collect() } else { vec![victim] };
                for member in members {
                    self.fill(member, lasts_us);
                }
            }
            FaultKind::Stranger => return self.speak_as_stranger(leader),
            FaultKind::ClockChange => {
                let member = self.nemesis.victim(leader);
                let (rate_ppm, jump_us) = self.nemesis.clock_change();
                self.change_clock(member, rate_ppm, jump_us);
            }
        }
        Ok(())
    }

    /// Crashes a member now, or in the midst of a job that comes soon.
    fn plan_crash(&mut self, member: usize, crash: Crash) {
        self.members[member].crashes_left = self.nemesis.crashes_in_a_row();
        if !self.nemesis.is_mid_job() {
            self.crash(member, crash);
            return;
        }
        let it = &mut self.members[member];
        if it.process.is_some() {
            if self.nemesis.random.chance(CERTAIN_PPM / 2) {
                it.doom = Some(Doom::InChange(crash));
                it.disks.doom_worker(&mut self.nemesis.random);
            } else {
                it.doom = Some(Doom::BeforeSync(crash));
            }
            let start = it.start;
            let soon_us = self.nemesis.random.below(DOOM_US);
            self.add_in(soon_us, Event::Crash { member, start, crash });
        }
    }

    /// A member has begun something that others wait for: it may be hit in the midst of it.
    pub(crate) fn lie_in_wait(&mut self, member: usize) {
        let (network_us, disk_us) = (self.network.delay_us(), self.plan.disks.mean_sync_us);
        if let Some(in_us) = self.nemesis.ambush_in_us(network_us, disk_us) {
            let start = self.members[member].start;
            self.add_in(in_us, Event::Ambush { member, start });
        }
    }

    fn ambush(&mut self, member: usize) -> Verdict {
        match self.nemesis.random.below(5) {
            0 => self.crash(member, Crash::Process),
            1 => self.crash(member, Crash::Power),
            2 if self.members.len() > 1 => {
                let (cut, lasts_us) = self.nemesis.isolation(member);
                self.cut(&cut);
                self.add_in(lasts_us, Event::Mend(cut));
            }
            3 => return self.transfer(Some(member)),
            _ => {
                let lasts_us = self.nemesis.pause_us();
                self.pause(member, lasts_us);
            }
        }
        Ok(())
    }

    pub(crate) fn cut(&mut self, cut: &Cut) {
        self.network.cut(cut);
        self.coverage.reach(Mark::Partitioned);
        let facts = [40, cut.links.len() as u64];
        self.trace.line(self.now_us, Detail::Short, facts, format_args!("the network is cut: {}", cut.name));
        // Whoever is cut off in a direction may find out by its broken connection.
        for &(from, to) in &cut.links {
            if self.network.is_noticed() {
                let delay_us = self.network.delay_us();
                self.add_unreachable(delay_us, to, from);
            }
        }
    }

    fn flap(&mut self, cut: Cut, every_us: u64, left: u32) {
        if self.nemesis.is_over {
            return;
        }
        self.cut(&cut);
        self.add_in(every_us / 2, Event::Mend(cut.clone()));
        if left > 0 {
            self.add_in(every_us, Event::Flap { cut, every_us, left: left - 1 });
        }
    }

    pub(crate) fn mend(&mut self, cut: &Cut) {
        self.network.mend(cut);
        let facts = [41, cut.links.len() as u64];
        self.trace.line(
            self.now_us,
            Detail::Short,
            facts,
            format_args!("the network is mended: {}", cut.name),
        );
    }

    pub(crate) fn pause(&mut self, member: usize, lasts_us: u64) {
        let it = &mut self.members[member];
        if it.process.is_none() || it.held.is_some() {
            return;
        }
        it.held = Some(Vec::new());
        let (id, start) = (it.id, it.start);
        self.coverage.reach(Mark::Paused);
        let facts = [42, member as u64, lasts_us];
        self.trace.line(self.now_us, Detail::Short, facts, format_args!("{id} is paused for {lasts_us} us"));
        self.add_in(lasts_us, Event::Resume { member, start });
    }

    pub(crate) fn resume(&mut self, member: usize) {
        let it = &mut self.members[member];
        let Some(held) = it.held.take() else { return };
        let id = it.id;
        self.trace.line(self.now_us, Detail::Short, [43, member as u64], format_args!("{id} goes on"));
        for event in held {
            self.add_in(0, event);
        }
        self.reset_timer(member);
    }

    /// What a disk is asked for from now on waits.
    pub(crate) fn stall(&mut self, member: usize, disk: StalledDisk, lasts_us: u64) {
        let until_us = self.now_us.saturating_add(lasts_us);
        let it = &mut self.members[member];
        match disk {
            StalledDisk::Log => it.log_stalled_until_us = until_us,
            StalledDisk::Checkpoints => it.checkpoints_stalled_until_us = until_us,
        }
        let id = it.id;
        let facts = [45, member as u64, lasts_us];
        self.trace.line(
            self.now_us,
            Detail::Short,
            facts,
            format_args!("{id} disk stalls: {disk:?} for {lasts_us} us"),
        );
    }

    /// Others take all the room that there is on a member's disk.
    fn fill(&mut self, member: usize, lasts_us: u64) {
        let it = &mut self.members[member];
        if it.process.is_none() && it.start == 0 || it.is_lost {
            return;
        }
        it.disks.fill();
        it.fillings += 1;
        let (id, fillings) = (it.id, it.fillings);
        let facts = [46, member as u64, lasts_us];
        self.coverage.reach(Mark::DiskFull);
        self.trace.line(
            self.now_us,
            Detail::Short,
            facts,
            format_args!("{id} disk is full for {lasts_us} us"),
        );
        self.add_in(lasts_us, Event::Emptied { member, fillings });
    }

    fn empty(&mut self, member: usize, fillings: u64) {
        let it = &mut self.members[member];
        if it.fillings == fillings {
            it.disks.empty();
            let (id, facts) = (it.id, [47, member as u64]);
            self.trace.line(self.now_us, Detail::Short, facts, format_args!("{id} disk has room"));
        }
    }

    fn inject_disk_error(&mut self, leader: Option<usize>) {
        let member = self.nemesis.victim(leader);
        let error = self.nemesis.disk_error();
        let Disks { log, checkpoints, .. } = &self.members[member].disks;
        let disk = if error.at_log { log } else { checkpoints };
        disk.inject(error.fault);
        let id = self.members[member].id;
        let facts = [44, member as u64, error.fault.after];
        self.trace.line(self.now_us, Detail::Short, facts, format_args!("{id} disk will fail: {error:?}"));
    }

    /// A member's connections break, though everybody lives.
    fn break_connections(&mut self, member: usize) {
        for other in 0..self.members.len() {
            if other != member {
                let delay_us = self.network.delay_us();
                self.add_unreachable(delay_us, other, member);
                self.add_unreachable(delay_us, member, other);
            }
        }
    }

    /// `member` will be told that its connection to `peer` broke.
    pub(crate) fn add_unreachable(&mut self, in_us: u64, member: usize, peer: usize) {
        let (start, peer) = (self.members[member].start, self.members[peer].id);
        self.add_in(in_us, Event::To { member, start, input: Input::Unreachable(peer) });
    }

    // ---- To look at ---------------------------------------------------------------------------------

    /// The running member that leads the latest term, if any.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leads = |node: &&Node| node.role() == RoleKind::Leader;
        let leaders = self.members.iter().enumerate().filter_map(|(number, member)| {
            let node = Some(member.process.as_ref()?.replica.node()).filter(leads)?;
            Some((node.current_term(), number))
        });
        leaders.max().map(|(_, number)| number)
    }
}

fn facts_of(answer: Answer) -> u64 {
    match answer {
        Answer::Done { revision, .. } => revision as u64 + 2,
        Answer::NotDone => 0,
        Answer::Unknown => 1,
    }
}

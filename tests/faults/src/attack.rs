//! Does to the members what was drawn, undoes it, and wants the service back in time.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::address::url;
use crate::client::Client;
use crate::cluster::{Cluster, LOOK};
use crate::garbage;
use crate::history::Recorder;
use crate::judges::Violation;
use crate::network::Link;
use crate::operator;
use crate::plan::{Action, Fault, Plan, Round};
use crate::random::Random;
use crate::report::Tally;

/// While a majority can work together, a write is answered at least this often. An election takes a second or two; the
/// rest is what two busy cores cost.
const GAP_BOUND: Duration = Duration::from_secs(6);
/// Once nothing is wrong any more, a write must be answered within this.
const HEAL_BOUND: Duration = Duration::from_secs(10);
/// And every member must answer a linearizable read: it may have to be sent the whole state first, on busy cores.
const CATCH_UP_BOUND: Duration = Duration::from_secs(30);
/// How long everything is left alone between two rounds.
const CALM_MS: (u64, u64) = (300, 1_500);
/// How long a member may take to stop when it is told to.
const STOP_BOUND: Duration = Duration::from_secs(10);
/// For questions that may be asked again.
const ASK_TIMEOUT: Duration = Duration::from_millis(400);
/// Between two moves of the leader.
const MOVE_PACE: Duration = Duration::from_millis(400);
/// Of these values the log gets so full that it needs another segment.
const WEIGHT_BYTES: usize = 512 << 10;
const WEIGHTS: usize = 100;

const JUDGE_PROGRESS: &str = "the service goes on";
const JUDGE_PROCESS: &str = "no process ends by itself";

/// The faults that are being made, and by whom.
pub(crate) struct Attack<'a> {
    cluster: &'a mut Cluster,
    recorder: &'a Recorder,
    tally: &'a mut Tally,
    random: Random,
    /// Who may end without having been killed: it was told to stop, or removed from the cluster.
    told_to_stop: BTreeSet<usize>,
    /// What goes on while a fault lasts, by the fault's place in its round.
    helpers: BTreeMap<usize, AbortHandle>,
}

impl Drop for Attack<'_> {
    fn drop(&mut self) {
        for helper in self.helpers.values() {
            helper.abort();
        }
    }
}

impl<'a> Attack<'a> {
    pub(crate) fn new(
        cluster: &'a mut Cluster,
        recorder: &'a Recorder,
        tally: &'a mut Tally,
        random: Random,
    ) -> Attack<'a> {
        Attack { cluster, recorder, tally, random, told_to_stop: BTreeSet::new(), helpers: BTreeMap::new() }
    }

    /// Round after round, until it is time.
    pub(crate) async fn run(&mut self, plan: &mut Plan, until: Instant) -> Result<(), Violation> {
        while Instant::now() < until {
            let calm = self.random.between(CALM_MS.0, CALM_MS.1);
            self.watch_until(Instant::now() + Duration::from_millis(calm)).await?;
            let leader = leader(&self.ports()).await;
            self.round(&plan.next_round(leader)).await?;
        }
        Ok(())
    }

    async fn round(&mut self, round: &Round) -> Result<(), Violation> {
        let begin = round.faults.iter().enumerate().map(|(at, fault)| (fault.begins, at, true));
        let end = round.faults.iter().enumerate().map(|(at, fault)| (fault.ends, at, false));
        let mut events: Vec<(Duration, usize, bool)> = begin.chain(end).collect();
        events.sort_unstable();
        self.recorder.begin_gaps();
        let started = Instant::now();
        for (when, at, is_begin) in events {
            self.watch_until(started + when).await?;
            let fault = &round.faults[at];
            self.say(&format!("{} {}", if is_begin { "begins:" } else { "  ends:" }, fault.action));
            if is_begin { self.begin(at, fault).await? } else { self.end(at, fault).await? }
        }
        self.heal(round).await
    }

    /// Asks for the service to be back, and for that it was not away when it need not have been.
    async fn heal(&mut self, round: &Round) -> Result<(), Violation> {
        let gap = Duration::from_micros(self.recorder.longest_gap_us());
        if round.leaves_a_majority(self.cluster.members.len()) && gap > GAP_BOUND {
            let what = format!("no write was answered for {gap:.1?}, while a majority could work together");
            return Err(Violation::new(JUDGE_PROGRESS, what));
        }
        let (healed, healed_us) = (Instant::now(), self.recorder.now_us());
        while !self.recorder.has_written_since(healed_us) {
            if healed.elapsed() > HEAL_BOUND {
                let what = format!("nothing is wrong any more, and no write is answered for {HEAL_BOUND:?}");
                return Err(Violation::new(JUDGE_PROGRESS, what));
            }
            self.watch_until(Instant::now() + LOOK).await?;
        }
        let writes_after = healed.elapsed();
        for at in 0..self.cluster.members.len() {
            let within = CATCH_UP_BOUND.saturating_sub(healed.elapsed());
            let serves = self.cluster.serves(at, within).await;
            serves.map_err(|what| Violation::new(JUDGE_PROGRESS, what))?;
        }
        self.say(&format!(
            "  healed: writes after {writes_after:.1?}, all read after {:.1?}",
            healed.elapsed()
        ));
        let gap = Duration::from_micros(self.recorder.longest_gap_us());
        for fault in &round.faults {
            self.tally.on_fault(fault.kind, gap);
        }
        Ok(())
    }

    /// Waits, and sees to it that nobody ends by itself meanwhile.
    async fn watch_until(&mut self, until: Instant) -> Result<(), Violation> {
        loop {
            for at in 0..self.cluster.members.len() {
                if let Some(status) = self.cluster.members[at].ended().map_err(|error| broken(&error))? {
                    self.on_end(at, status)?;
                }
            }
            let now = Instant::now();
            if now >= until {
                return Ok(());
            }
            tokio::time::sleep_until(until.min(now + LOOK)).await;
        }
    }

    /// A process has ended that was not killed.
    fn on_end(&mut self, at: usize, status: ExitStatus) -> Result<(), Violation> {
        let (name, tail) = (&self.cluster.members[at].name, self.cluster.members[at].log_tail());
        if self.told_to_stop.contains(&at) && status.success() {
            return Ok(());
        }
        Err(Violation::new(JUDGE_PROCESS, format!("{name} ended, {status}:\n{tail}")))
    }

    async fn begin(&mut self, at: usize, fault: &Fault) -> Result<(), Violation> {
        match &fault.action {
            Action::Kill(members) => {
                for &member in members {
                    self.cluster.members[member].kill();
                }
            }
            Action::Stop(member) => {
                self.told_to_stop.insert(*member);
                self.cluster.members[*member].signal(Signal::TERM);
            }
            Action::Pause(members) => {
                for &member in members {
                    self.cluster.members[member].signal(Signal::STOP);
                }
            }
            Action::Links { links, link } => self.set(links, *link),
            Action::FillDisk { member, start_without_room } => {
                self.cluster.members[*member].disk.fill().map_err(|error| broken(&error))?;
                self.tally.full_disks_met += 1;
                if *start_without_room {
                    self.cluster.members[*member].kill();
                    self.cluster.start(*member).map_err(|error| broken(&error))?;
                }
                self.help(at, weigh_down(self.ports()));
            }
            Action::Garbage => {
                let members = &self.cluster.members;
                let ports = members
                    .iter()
                    .flat_map(|member| [member.client_port, member.peer_port, member.proxy_port]);
                let (ports, random) = (ports.collect(), self.random.split());
                self.help(at, garbage::send_for_ever(ports, random));
            }
            Action::MoveLeader => {
                let (ports, random) = (self.ports(), self.random.split());
                self.help(at, move_leader(ports, random, self.tally.leaders_moved.clone()));
            }
            Action::Replace(member) => self.remove(*member).await?,
        }
        Ok(())
    }

    async fn end(&mut self, at: usize, fault: &Fault) -> Result<(), Violation> {
        if let Some(helper) = self.helpers.remove(&at) {
            helper.abort();
        }
        match &fault.action {
            Action::Kill(members) => {
                for &member in members {
                    self.cluster.start(member).map_err(|error| broken(&error))?;
                }
            }
            Action::Stop(member) => self.restart_stopped(*member).await?,
            Action::Pause(members) => {
                for &member in members {
                    self.cluster.members[member].signal(Signal::CONT);
                }
            }
            Action::Links { links, .. } => self.set(links, Link::Open),
            Action::FillDisk { member, .. } => self.make_room(*member).await?,
            Action::Garbage | Action::MoveLeader => {}
            Action::Replace(member) => self.add(*member).await?,
        }
        Ok(())
    }

    async fn restart_stopped(&mut self, at: usize) -> Result<(), Violation> {
        self.wait_until_stopped(at).await?;
        self.cluster.start(at).map_err(|error| broken(&error))
    }

    async fn wait_until_stopped(&mut self, at: usize) -> Result<(), Violation> {
        let member = &mut self.cluster.members[at];
        if let Some(status) = member.ends(STOP_BOUND).await.map_err(|error| broken(&error))? {
            self.on_end(at, status)?;
        }
        self.told_to_stop.remove(&at);
        let member = &self.cluster.members[at];
        if member.is_running() {
            let what = format!("{} was told to stop, and runs {STOP_BOUND:?} later", member.name);
            return Err(Violation::new(JUDGE_PROCESS, what));
        }
        Ok(())
    }

    /// A member is removed, hears of it and stops; then its data is.
    async fn remove(&mut self, at: usize) -> Result<(), Violation> {
        let ports = self.ports();
        let id = operator::id_of(ports[at]).await;
        let id =
            id.map_err(|why| Violation::new(JUDGE_PROGRESS, format!("no status of n{}: {why}", at + 1)))?;
        self.told_to_stop.insert(at);
        let removed = operator::remove(&ports, id).await;
        removed
            .map_err(|why| Violation::new(JUDGE_PROGRESS, format!("n{} cannot be removed: {why}", at + 1)))?;
        self.wait_until_stopped(at).await?;
        self.cluster.members[at].disk.wipe().map_err(|error| broken(&error))
    }

    async fn add(&mut self, at: usize) -> Result<(), Violation> {
        let added = operator::add(&self.ports(), &url(self.cluster.members[at].proxy_port)).await;
        added.map_err(|why| Violation::new(JUDGE_PROGRESS, format!("n{} cannot be added: {why}", at + 1)))?;
        self.cluster.members[at].has_joined = true;
        self.cluster.start(at).map_err(|error| broken(&error))
    }

    async fn make_room(&mut self, at: usize) -> Result<(), Violation> {
        let member = &mut self.cluster.members[at];
        member.disk.free().map_err(|error| broken(&error))?;
        // What has met the full disk just now might be on its way out.
        match member.ends(ASK_TIMEOUT).await.map_err(|error| broken(&error))? {
            Some(status) => self.on_end(at, status),
            None => Ok(()),
        }
    }

    fn set(&self, links: &[(usize, usize)], link: Link) {
        for &(from, to) in links {
            self.cluster.network.set(from, to, link);
        }
    }

    fn help(&mut self, at: usize, work: impl Future<Output = ()> + Send + 'static) {
        self.helpers.insert(at, tokio::spawn(work).abort_handle());
    }

    fn ports(&self) -> Vec<u16> {
        self.cluster.members.iter().map(|member| member.client_port).collect()
    }

    fn say(&self, what: &str) {
        println!("{:8.1} s  {what}", self.recorder.now_us() as f64 / 1e6);
    }
}

/// Something of this program itself, or of the machine.
fn broken(error: &dyn std::error::Error) -> Violation {
    Violation::new("this machine", error.to_string())
}

/// Who leads, as far as those who answer know.
pub(crate) async fn leader(ports: &[u16]) -> Option<usize> {
    let mut newest = None;
    for (at, &port) in ports.iter().enumerate() {
        let Some(client) = Client::connect(port, ASK_TIMEOUT).await else { continue };
        let Ok(status) = client.status().await else { continue };
        if status.header.is_some_and(|header| header.member_id == status.leader) {
            newest = newest.max(Some((status.raft_term, at)));
        }
    }
    newest.map(|(_, at)| at)
}

/// Has one member after the other lead.
async fn move_leader(ports: Vec<u16>, mut random: Random, moved: Arc<AtomicU64>) {
    loop {
        let mut ids = Vec::new();
        let mut leader = None;
        for &port in &ports {
            let Some(client) = Client::connect(port, ASK_TIMEOUT).await else { continue };
            let Ok(status) = client.status().await else { continue };
            let id = status.header.map_or(0, |header| header.member_id);
            if id == status.leader { leader = Some(client) } else { ids.push(id) }
        }
        if let Some(leader) = leader.filter(|_| !ids.is_empty())
            && leader.move_leader(random.pick(&ids)).await.is_ok()
        {
            moved.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(MOVE_PACE).await;
    }
}

/// Makes the log grow, by whoever takes it.
async fn weigh_down(ports: Vec<u16>) {
    for number in 0..WEIGHTS {
        if let Some(client) = Client::connect(ports[number % ports.len()], 5 * ASK_TIMEOUT).await {
            // A write that is lost is made up for by the next one.
            let _ = client.weigh_down(WEIGHT_BYTES).await;
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> =
            crate::plan::Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), crate::plan::Kind::ALL.len());
    }
}

//! Clients that read and write all the time, on all members, and keep books of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};

use crate::client::{Client, Failure};
use crate::history::{Answer, Ask, Asker, Guard, KEYS, Recorder, Scope};
use crate::judges::Violation;
use crate::random::Random;

const CLIENTS: u64 = 12;
/// A client asks this often, if it is answered by then.
const PACE: Duration = Duration::from_millis(35);
/// Some give up early, and leave more behind them that is unknown; some wait for whatever the server has to say.
const TIMEOUTS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(9)];
/// How many groups of keys are in use at a time…
const GROUPS: u32 = 6;
/// …and for how long.
pub(crate) const GENERATION: Duration = Duration::from_secs(8);
/// History is forgotten this often…
const COMPACTION_PACE: Duration = Duration::from_secs(3);
/// …up to so many revisions before the newest.
const KEPT_REVISIONS: i64 = 500;

/// After this long no client asks anything of a generation that is over.
pub(crate) const LONGEST_TIMEOUT: Duration = TIMEOUTS[1];

/// The clients.
pub(crate) struct Load {
    stop: watch::Sender<bool>,
    clients: JoinSet<()>,
}

/// What all of them share.
#[derive(Clone)]
struct Common {
    recorder: Arc<Recorder>,
    ports: Vec<u16>,
    is_over: watch::Receiver<bool>,
    violations: mpsc::UnboundedSender<Violation>,
}

/// The groups of a generation.
pub(crate) fn groups_of(generation: u32) -> std::ops::Range<u32> {
    generation * GROUPS..(generation + 1) * GROUPS
}

/// Which generation is in use.
pub(crate) fn generation_at(now_us: u64) -> u32 {
    (now_us / GENERATION.as_micros() as u64) as u32
}

impl Load {
    /// Begins to use the members that listen for clients there.
    pub(crate) fn start(
        recorder: &Arc<Recorder>,
        ports: &[u16],
        random: &mut Random,
        violations: &mpsc::UnboundedSender<Violation>,
    ) -> Load {
        let (stop, is_over) = watch::channel(false);
        let (recorder, violations) = (recorder.clone(), violations.clone());
        let common = Common { recorder, ports: ports.to_vec(), is_over, violations };
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let timeout = TIMEOUTS[number as usize / ports.len() % TIMEOUTS.len()];
            let member = number as usize % ports.len();
            let (common, random) = (common.clone(), random.split());
            let worker =
                Worker { common, random, number, member, timeout, connections: 0, seen: BTreeMap::new() };
            clients.spawn(worker.run());
        }
        clients.spawn(compact(common, random.split()));
        Load { stop, clients }
    }

    /// Ends it: what is under way is waited for. An error is a bug in a client.
    pub(crate) async fn finish(mut self) -> Result<(), String> {
        self.stop.send_replace(true);
        while let Some(end) = self.clients.join_next().await {
            end.map_err(|error| format!("a client: {error}"))?;
        }
        Ok(())
    }
}

/// One client.
struct Worker {
    common: Common,
    random: Random,
    number: u64,
    member: usize,
    timeout: Duration,
    connections: u64,
    /// What was last seen of keys: to compare with, be it true or not.
    seen: BTreeMap<(u32, u8), Guard>,
}

impl Worker {
    async fn run(mut self) {
        let mut pace = interval(PACE);
        while !*self.common.is_over.borrow() {
            pace.tick().await;
            let Some(client) = Client::connect(self.common.ports[self.member], self.timeout).await else {
                self.member = self.random.below(self.common.ports.len() as u64) as usize;
                continue;
            };
            self.connections += 1;
            self.use_up(&client, &mut pace).await;
            if self.random.percent(50) {
                self.member = self.random.below(self.common.ports.len() as u64) as usize;
            }
        }
    }

    /// Uses a connection until it does not answer.
    async fn use_up(&mut self, client: &Client, pace: &mut Interval) {
        while !*self.common.is_over.borrow() {
            pace.tick().await;
            let recorder = self.common.recorder.clone();
            let group = self.random.pick(&groups_of(generation_at(recorder.now_us())).collect::<Vec<_>>());
            self.seen.retain(|(seen, _), _| *seen + 2 * GROUPS > group);
            let ask = self.draw(group);
            let is_linearizable = ask.is_write() || self.random.percent(70);
            // Unlike that of any other client.
            let connection = self.number + self.connections * (CLIENTS + 1);
            let asker = Asker { client: self.number, member: self.member, connection };
            let id = recorder.invoke(asker, group, ask, is_linearizable);
            match client.ask(group, ask, id, is_linearizable).await {
                Ok(answer) => {
                    self.remember(group, &answer);
                    recorder.complete(id, answer);
                }
                Err(Failure::Refused) => recorder.refuse(id),
                Err(Failure::Unknown) => return,
                Err(Failure::Nonsense(what)) => {
                    let what = format!("op {id}, {ask:?} of group {group}, has {what}");
                    // Nobody listens any more when it is over.
                    let _ = self.common.violations.send(Violation::new("answers make sense", what));
                    return;
                }
            }
        }
    }

    fn remember(&mut self, group: u32, answer: &Answer) {
        for seen in &answer.seen {
            let by_writer = self.random.percent(30);
            let guard = match seen.pair {
                Some(pair) if by_writer => Guard::Writer(pair.writer),
                Some(pair) => Guard::ModRevision(pair.mod_revision),
                None => Guard::ModRevision(0),
            };
            self.seen.insert((group, seen.key), guard);
        }
    }

    fn draw(&mut self, group: u32) -> Ask {
        let key = self.random.below(u64::from(KEYS)) as u8;
        let scope = if self.random.percent(40) { Scope::All } else { Scope::One(key) };
        match self.random.below(100) {
            0..35 => Ask::Put(key),
            35..70 => Ask::Get(scope),
            70..78 => Ask::Delete(scope),
            _ => {
                let guard = self.seen.get(&(group, key)).copied().unwrap_or(Guard::ModRevision(0));
                Ask::Swap { key, guard, also: (key + 1) % KEYS }
            }
        }
    }
}

/// Has the members forget history, so that it does not grow, and so that this is exercised.
async fn compact(mut common: Common, mut random: Random) {
    let mut pace = interval(COMPACTION_PACE);
    loop {
        tokio::select! {
            _ = common.is_over.wait_for(|is_over| *is_over) => return,
            _ = pace.tick() => {}
        }
        let revision = common.recorder.floor() - KEPT_REVISIONS;
        if let Some(client) = Client::connect(random.pick(&common.ports), TIMEOUTS[0]).await
            && revision > 0
        {
            // Another one will be done.
            let _ = client.compact(revision).await;
        }
    }
}

fn interval(pace: Duration) -> Interval {
    let mut interval = tokio::time::interval(pace);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

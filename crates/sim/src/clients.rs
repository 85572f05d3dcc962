//! The clients: each asks one thing at a time, of any member, and repeats only what was certainly not done.
//!
//! What they ask is random; what they remember (the latest revision seen, when each key last changed) makes
//! comparisons succeed often enough to matter.

use tenure_store::Relation;

use crate::action::{Action, MAX_KEYS, OperationId};
use crate::expected::{Expected, Side};
use crate::judges::Answer;
use crate::outcome::Pair;
use crate::plan::{ClientPlan, Weights};
use crate::random::{CERTAIN_PPM, Random};
use crate::selection::Selection;

/// How likely a client sends again what was certainly not done.
const AGAIN_PPM: u32 = CERTAIN_PPM / 2;
/// How likely a client does not expect that nothing has changed.
const OTHER_RELATION_PPM: u32 = CERTAIN_PPM / 4;
/// A probe asks again after no longer than this.
const PROBE_AGAIN_US: u64 = 20_000;

/// What a client waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waiting {
    /// For its next operation.
    Idle,
    /// For an answer.
    Answer(OperationId),
    /// To send this once more.
    Again(OperationId),
}

/// What a client is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// To ask all sorts of things.
    Load,
    /// A probe stays with its member, and tries until it has been answered a write…
    ProbeWrite,
    /// …and then a read.
    ProbeRead,
    /// It was answered both.
    Answered,
    /// Nobody waits for its answer any more.
    GivenUp,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) waiting: Waiting,
    /// The member that it asks.
    pub(crate) member: usize,
    pub(crate) purpose: Purpose,
    seen_revision: i64,
    seen: [Option<Pair>; MAX_KEYS as usize],
}

/// All clients of a run.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) each: Vec<Client>,
    plan: ClientPlan,
    random: Random,
    /// The members that clients turn to.
    pub(crate) reachable: Vec<usize>,
    /// No client begins anything more.
    pub(crate) closed: bool,
    pub(crate) answered: u64,
    pub(crate) unknown: u64,
}

impl Clients {
    pub(crate) fn new(plan: ClientPlan, members: usize, mut random: Random) -> Clients {
        let each = (0..plan.count)
            .map(|_| Client::new(random.below(members as u64) as usize, Purpose::Load))
            .collect();
        let reachable = (0..members).collect();
        Clients { each, plan, random, reachable, closed: false, answered: 0, unknown: 0 }
    }

    /// A client that asks `member` until it has written, and until it has read. Returns its number.
    pub(crate) fn add_probe(&mut self, member: usize) -> usize {
        self.each.push(Client::new(member, Purpose::ProbeWrite));
        self.each.len() - 1
    }

    /// These need not be answered any more.
    pub(crate) fn give_up(&mut self, probes: &[usize]) {
        for &probe in probes {
            self.each[probe].purpose = Purpose::GivenUp;
        }
    }

    /// How long a client waits for an answer.
    pub(crate) fn timeout_us(&self) -> u64 {
        self.plan.timeout_us
    }

    /// When a client begins its first operation.
    pub(crate) fn first_act_us(&mut self) -> u64 {
        self.random.below(self.plan.think_us + 1)
    }

    /// What a client does next, and where; none if it is done.
    pub(crate) fn next_action(&mut self, client: usize) -> Option<Action> {
        match self.each[client].purpose {
            Purpose::ProbeWrite => return Some(Action::Put { key: 0 }),
            Purpose::ProbeRead => return Some(Action::Get { key: 0 }),
            Purpose::Answered | Purpose::GivenUp => return None,
            Purpose::Load => {}
        }
        if self.closed {
            return None;
        }
        self.choose_member(client);
        let keys = u64::from(self.plan.keys.min(MAX_KEYS));
        let key = self.random.below(keys) as u8;
        let random = &mut self.random;
        let seen = &self.each[client];
        let old = |random: &mut Random| random.between(1, seen.seen_revision.max(1) as u64) as i64;
        Some(match kind_of(&self.plan.weights, random) {
            Kind::PutTwo if keys > 1 => Action::PutTwo { first: key, second: another(key, keys, random) },
            Kind::Touch if keys > 1 => Action::Touch { key, other: another(key, keys, random) },
            Kind::CompareTwo if keys > 1 => {
                let keys = [key, another(key, keys, random)];
                let expected = keys.map(|key| expectation(seen.seen[usize::from(key)], random));
                Action::CompareTwo { keys, expected }
            }
            Kind::Put | Kind::PutTwo | Kind::CompareTwo | Kind::Touch => Action::Put { key },
            Kind::CompareSome => {
                let last = random.between(u64::from(key), keys - 1) as u8;
                let expected = expectation(seen.seen[usize::from(key)], random);
                Action::CompareSome { first: key, last, expected }
            }
            Kind::CompareAndSwap => {
                let expected = expectation(seen.seen[usize::from(key)], random);
                Action::CompareAndSwap { key, expected }
            }
            Kind::Delete if random.chance(AGAIN_PPM / 2) => {
                let last = random.between(u64::from(key), keys - 1) as u8;
                Action::DeleteSome { first: key, last }
            }
            Kind::Delete => Action::Delete { key },
            Kind::Get => Action::Get { key },
            Kind::GetAll if random.chance(AGAIN_PPM) => {
                let revision = old(random);
                Action::GetSome { selection: Selection::draw(random, keys, revision) }
            }
            Kind::GetAll => Action::GetAll,
            Kind::GetOld => Action::GetOld { revision: old(random) },
            Kind::GetStale => Action::GetStale { key },
            Kind::Compact => Action::Compact { revision: old(random) },
        })
    }

    fn choose_member(&mut self, client: usize) {
        let stays = self.random.chance(self.plan.loyalty_ppm);
        let client = &mut self.each[client];
        if !stays || !self.reachable.contains(&client.member) {
            client.member = self.random.pick(&self.reachable);
        }
    }

    /// A client is told something about the operation that it waits for. Returns after which time it acts
    /// again; none if it is done.
    pub(crate) fn on_answer(
        &mut self,
        client: usize,
        id: OperationId,
        action: Action,
        answer: Answer,
    ) -> Option<u64> {
        let think_us = self.random.exponential(self.plan.think_us);
        let again = self.random.chance(AGAIN_PPM);
        let it = &mut self.each[client];
        it.waiting = Waiting::Idle;
        match answer {
            Answer::Done { revision, pair, .. } => {
                self.answered += 1;
                it.seen_revision = it.seen_revision.max(revision);
                if let Some(key) = action.key() {
                    it.seen[usize::from(key)] = pair;
                }
                match it.purpose {
                    Purpose::ProbeWrite => {
                        it.purpose = Purpose::ProbeRead;
                        return Some(0);
                    }
                    Purpose::ProbeRead => {
                        it.purpose = Purpose::Answered;
                        return None;
                    }
                    Purpose::Load | Purpose::Answered | Purpose::GivenUp => {}
                }
            }
            Answer::NotDone => {
                if again && action.is_write() && !self.closed && it.purpose != Purpose::GivenUp {
                    it.waiting = Waiting::Again(id);
                    self.choose_member_for_again(client);
                }
            }
            Answer::Unknown => self.unknown += 1,
        }
        // Whether anybody answers must not hang on when it is asked.
        let is_probe = matches!(self.each[client].purpose, Purpose::ProbeWrite | Purpose::ProbeRead);
        Some(if is_probe { think_us.min(PROBE_AGAIN_US) } else { think_us })
    }

    fn choose_member_for_again(&mut self, client: usize) {
        let client = &mut self.each[client];
        if client.purpose == Purpose::Load {
            client.member = self.random.pick(&self.reachable);
        }
    }

    /// Whether nobody waits for any of these members.
    pub(crate) fn are_idle(&self, members: &[usize]) -> bool {
        self.each.iter().all(|client| client.waiting == Waiting::Idle || !members.contains(&client.member))
    }
}

impl Client {
    fn new(member: usize, purpose: Purpose) -> Client {
        Client { waiting: Waiting::Idle, member, purpose, seen_revision: 1, seen: [None; MAX_KEYS as usize] }
    }
}

/// Another of so many keys.
fn another(key: u8, keys: u64, random: &mut Random) -> u8 {
    ((u64::from(key) + random.between(1, keys - 1)) % keys) as u8
}

/// What a client that last saw `pair` expects the key still to be; now and then, how it expects it to have changed.
fn expectation(pair: Option<Pair>, random: &mut Random) -> Expected {
    let side = match pair {
        None => random.pick(&[Side::ModRevision(0), Side::Version(0)]),
        Some(pair) => random.pick(&[
            Side::ModRevision(pair.mod_revision),
            Side::CreateRevision(pair.create_revision),
            Side::Version(pair.version),
            Side::Writer(pair.writer),
        ]),
    };
    let relation = if random.chance(OTHER_RELATION_PPM) {
        random.pick(&[Relation::Less, Relation::Greater, Relation::NotEqual])
    } else {
        Relation::Equal
    };
    Expected { relation, side }
}

#[derive(Clone, Copy)]
enum Kind {
    Put,
    PutTwo,
    CompareAndSwap,
    CompareTwo,
    CompareSome,
    Touch,
    Delete,
    Get,
    GetAll,
    GetOld,
    GetStale,
    Compact,
}

fn kind_of(weights: &Weights, random: &mut Random) -> Kind {
    let kinds = [
        (weights.put, Kind::Put),
        (weights.put_two, Kind::PutTwo),
        (weights.compare_and_swap, Kind::CompareAndSwap),
        (weights.compare_two, Kind::CompareTwo),
        (weights.compare_some, Kind::CompareSome),
        (weights.touch, Kind::Touch),
        (weights.delete, Kind::Delete),
        (weights.get, Kind::Get),
        (weights.get_all, Kind::GetAll),
        (weights.get_old, Kind::GetOld),
        (weights.get_stale, Kind::GetStale),
        (weights.compact, Kind::Compact),
    ];
    let mut drawn = random.below(kinds.iter().map(|(weight, _)| weight).sum());
    for (weight, kind) in kinds {
        if drawn < weight {
            return kind;
        }
        drawn -= weight;
    }
    Kind::Get
}

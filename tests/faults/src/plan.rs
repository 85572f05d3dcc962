//! Which faults come, drawn from the seed: rounds of one to three, each with a beginning and an end.
//!
//! The kinds are dealt like cards, so that a short run sees as many of them as it can, and a long one each of them
//! as often as the others.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::network::Link;
use crate::random::Random;

/// How much a narrow link carries: less than the clients write, and more.
const NARROW_BYTES_PER_S: [u64; 3] = [300_000, 1 << 20, 10 << 20];

/// A kind of fault, for the report.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Kind {
    Kill,
    KillSeveral,
    Stop,
    Pause,
    PauseSeveral,
    Isolate,
    OneWay,
    Bridge,
    Split,
    Slow,
    FullDisk,
    Garbage,
    MoveLeader,
    Replace,
}

impl Kind {
    pub(crate) const ALL: [Kind; 14] = [
        Kind::Kill,
        Kind::KillSeveral,
        Kind::Stop,
        Kind::Pause,
        Kind::PauseSeveral,
        Kind::Isolate,
        Kind::OneWay,
        Kind::Bridge,
        Kind::Split,
        Kind::Slow,
        Kind::FullDisk,
        Kind::Garbage,
        Kind::MoveLeader,
        Kind::Replace,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Kill => "kill -9 of one",
            Kind::KillSeveral => "kill -9 of several at once",
            Kind::Stop => "SIGTERM",
            Kind::Pause => "SIGSTOP of one",
            Kind::PauseSeveral => "SIGSTOP of several",
            Kind::Isolate => "one cut off, both ways",
            Kind::OneWay => "cut off one way",
            Kind::Bridge => "two that do not reach each other",
            Kind::Split => "nobody reaches anybody",
            Kind::Slow => "slow links",
            Kind::FullDisk => "full disk",
            Kind::Garbage => "garbage on every port",
            Kind::MoveLeader => "leader moved",
            Kind::Replace => "member replaced, its disk empty",
        }
    }

    /// Whether it keeps nobody from doing anything for long.
    fn is_gentle(self) -> bool {
        match self {
            Kind::Slow | Kind::Garbage | Kind::MoveLeader => true,
            Kind::Kill
            | Kind::KillSeveral
            | Kind::Stop
            | Kind::Pause
            | Kind::PauseSeveral
            | Kind::Isolate
            | Kind::OneWay
            | Kind::Bridge
            | Kind::Split
            | Kind::FullDisk
            | Kind::Replace => false,
        }
    }
}

/// What is done, to members by their position.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// `kill -9` all of them at once; at the end they are started again.
    Kill(Vec<usize>),
    /// SIGTERM; at the end it is started again.
    Stop(usize),
    /// SIGSTOP, and SIGCONT at the end.
    Pause(Vec<usize>),
    /// These links are so, and open at the end.
    Links { links: Vec<(usize, usize)>, link: Link },
    /// No room on the disk, until the end. Perhaps it is started once more without room.
    FillDisk { member: usize, start_without_room: bool },
    /// Bytes that make no sense to all ports of all members.
    Garbage,
    /// Leadership goes to the next member that has not had it lately, again and again.
    MoveLeader,
    /// It is removed from the cluster, and its data with it; at the end it is added again and started.
    Replace(usize),
}

/// A fault: what, from when to when, counted from the beginning of its round.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) action: Action,
    pub(crate) begins: Duration,
    pub(crate) ends: Duration,
}

/// Faults that are there at the same time, more or less.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Round {
    pub(crate) faults: Vec<Fault>,
}

impl Round {
    /// Whether there is a majority that none of the faults keeps from working together, taking each to last for the
    /// whole round. Then the service must go on.
    pub(crate) fn leaves_a_majority(&self, members: usize) -> bool {
        let harmed = self.harmed();
        let broken: BTreeSet<(usize, usize)> = self.faults.iter().flat_map(Fault::broken_links).collect();
        let works = |set: u32| {
            let of_set: Vec<usize> = (0..members).filter(|at| set & (1 << at) != 0).collect();
            let is_whole = of_set.iter().all(|at| !harmed.contains(at));
            let mut pairs = of_set.iter().flat_map(|&from| of_set.iter().map(move |&to| (from, to)));
            of_set.len() > members / 2 && is_whole && pairs.all(|pair| !broken.contains(&pair))
        };
        (0..1_u32 << members).any(works)
    }

    /// A change of the members needs their agreement, so it comes with what is gentle, or alone.
    fn has_room_for(&self, kind: Kind) -> bool {
        let has_change = self.faults.iter().any(|fault| fault.kind == Kind::Replace);
        let is_gentle = self.faults.iter().all(|fault| fault.kind.is_gentle());
        (kind != Kind::Replace || is_gentle) && (!has_change || kind.is_gentle())
    }

    /// Whose process or disk is not left alone.
    fn harmed(&self) -> BTreeSet<usize> {
        self.faults.iter().flat_map(|fault| fault.action.harmed()).collect()
    }
}

impl Action {
    fn harmed(&self) -> Vec<usize> {
        match self {
            Action::Kill(members) | Action::Pause(members) => members.clone(),
            Action::Stop(member) | Action::Replace(member) | Action::FillDisk { member, .. } => vec![*member],
            Action::Links { .. } | Action::Garbage | Action::MoveLeader => Vec::new(),
        }
    }
}

impl Fault {
    fn broken_links(&self) -> Vec<(usize, usize)> {
        match &self.action {
            Action::Links { links, link: Link::Cut | Link::Stalled | Link::Swallowing } => links.clone(),
            Action::Links { link: Link::Open | Link::Slow(_) | Link::Narrow { .. }, .. }
            | Action::Kill(_)
            | Action::Stop(_)
            | Action::Pause(_)
            | Action::FillDisk { .. }
            | Action::Garbage
            | Action::MoveLeader
            | Action::Replace(_) => Vec::new(),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names =
            |members: &[usize]| members.iter().map(|at| format!("n{}", at + 1)).collect::<Vec<_>>().join(" ");
        match self {
            Action::Kill(members) => write!(f, "kill -9 {}", names(members)),
            Action::Stop(member) => write!(f, "SIGTERM {}", names(&[*member])),
            Action::Pause(members) => write!(f, "SIGSTOP {}", names(members)),
            Action::Links { links, link } => {
                let link_names = links.iter().map(|(from, to)| format!("n{}→n{}", from + 1, to + 1));
                write!(f, "{link:?} {}", link_names.collect::<Vec<_>>().join(" "))
            }
            Action::FillDisk { member, start_without_room } => {
                let start = if *start_without_room { ", started once without room" } else { "" };
                write!(f, "full disk of {}{start}", names(&[*member]))
            }
            Action::Garbage => write!(f, "garbage on every port"),
            Action::MoveLeader => write!(f, "leadership moved around"),
            Action::Replace(member) => write!(f, "{} removed, and added again", names(&[*member])),
        }
    }
}

/// Draws rounds.
pub(crate) struct Plan {
    random: Random,
    members: usize,
    /// Those whose disk can be filled.
    small_disks: Vec<usize>,
    /// Those that come.
    kinds: Vec<Kind>,
    /// Those of them that are still to be dealt.
    deck: Vec<Kind>,
}

impl Plan {
    pub(crate) fn new(random: Random, members: usize, small_disks: Vec<usize>, kinds: Vec<Kind>) -> Plan {
        assert!(!kinds.is_empty(), "there is something to draw from");
        Plan { random, members, small_disks, kinds, deck: Vec::new() }
    }

    /// The next round. Half of the time the first member that comes to harm is the one that leads.
    pub(crate) fn next_round(&mut self, leader: Option<usize>) -> Round {
        let count = self.random.pick(&[1, 1, 2, 2, 3]);
        let mut round = Round { faults: Vec::new() };
        while round.faults.len() < count {
            let kind = self.deal();
            if !round.has_room_for(kind) {
                self.deck.push(kind);
                break;
            }
            let order = self.victims(leader);
            let order: Vec<usize> = order.into_iter().filter(|at| !round.harmed().contains(at)).collect();
            // Else all that is left has come to harm already.
            if let Some(action) = self.action(kind, &order) {
                let begins = if round.faults.is_empty() { 0 } else { self.random.below(2_000) };
                let lasts = self.lasts_ms(kind);
                let (begins, lasts) = (Duration::from_millis(begins), Duration::from_millis(lasts));
                round.faults.push(Fault { kind, action, begins, ends: begins + lasts });
            } else {
                break;
            }
        }
        round
    }

    fn deal(&mut self) -> Kind {
        if self.deck.is_empty() {
            let order = self.random.shuffled(self.kinds.len());
            self.deck = order.into_iter().map(|at| self.kinds[at]).collect();
        }
        self.deck.pop().expect("it has just been filled")
    }

    /// The members, in the order in which they come to harm.
    fn victims(&mut self, leader: Option<usize>) -> Vec<usize> {
        let mut order = self.random.shuffled(self.members);
        if let Some(leader) = leader.filter(|_| self.random.percent(50)) {
            order.sort_by_key(|&at| at != leader);
        }
        order
    }

    fn lasts_ms(&mut self, kind: Kind) -> u64 {
        let (low, high) = match kind {
            Kind::Kill | Kind::KillSeveral | Kind::Stop => (100, 4_000),
            // Longer than the timeouts of elections, of silence, and now and then of the handshake.
            Kind::Pause | Kind::PauseSeveral => (3_200, 8_000),
            Kind::Isolate | Kind::OneWay | Kind::Bridge | Kind::Split => (500, 7_000),
            Kind::Slow | Kind::Garbage | Kind::MoveLeader | Kind::Replace => (2_000, 5_000),
            Kind::FullDisk => (4_000, 8_000),
        };
        self.random.between(low, high)
    }

    fn action(&mut self, kind: Kind, order: &[usize]) -> Option<Action> {
        let &first = order.first()?;
        let others: Vec<usize> = (0..self.members).filter(|&at| at != first).collect();
        let action = match kind {
            Kind::Kill => Action::Kill(vec![first]),
            Kind::Stop => Action::Stop(first),
            Kind::Pause => Action::Pause(vec![first]),
            Kind::KillSeveral => Action::Kill(self.several(order)?),
            Kind::PauseSeveral => Action::Pause(self.several(order)?),
            Kind::Isolate => {
                let links = others.iter().flat_map(|&other| [(first, other), (other, first)]);
                Action::Links { links: links.collect(), link: self.break_link() }
            }
            Kind::OneWay => {
                let other = self.random.pick(&others);
                let links = match self.random.below(3) {
                    0 => vec![(first, other)],
                    1 => others.iter().map(|&other| (first, other)).collect(),
                    _ => others.iter().map(|&other| (other, first)).collect(),
                };
                Action::Links { links, link: self.break_link() }
            }
            Kind::Bridge => {
                let other = self.random.pick(&others);
                Action::Links { links: vec![(first, other), (other, first)], link: self.break_link() }
            }
            Kind::Split => Action::Links { links: self.all_links(), link: self.break_link() },
            Kind::Slow => {
                let link = if self.random.percent(50) {
                    Link::Slow(Duration::from_millis(self.random.between(20, 400)))
                } else {
                    Link::Narrow { bytes_per_s: self.random.pick(&NARROW_BYTES_PER_S) }
                };
                let links = self.all_links().into_iter().filter(|_| self.random.percent(50)).collect();
                Action::Links { links, link }
            }
            Kind::FullDisk => {
                let member = *order.iter().find(|at| self.small_disks.contains(at))?;
                Action::FillDisk { member, start_without_room: self.random.percent(50) }
            }
            Kind::Garbage => Action::Garbage,
            Kind::MoveLeader => Action::MoveLeader,
            Kind::Replace if self.members > 2 => Action::Replace(first),
            Kind::Replace => return None,
        };
        Some(action)
    }

    /// More than a minority can be, up to all.
    fn several(&mut self, order: &[usize]) -> Option<Vec<usize>> {
        let fewest = self.members / 2 + 1;
        (order.len() >= fewest).then(|| {
            let count = self.random.between(fewest as u64, order.len() as u64);
            order[..count as usize].to_vec()
        })
    }

    fn break_link(&mut self) -> Link {
        self.random.pick(&[Link::Cut, Link::Stalled, Link::Swallowing])
    }

    fn all_links(&self) -> Vec<(usize, usize)> {
        let pairs = (0..self.members).flat_map(|from| (0..self.members).map(move |to| (from, to)));
        pairs.filter(|(from, to)| from != to).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(actions: &[Action]) -> Round {
        let (begins, ends) = (Duration::ZERO, Duration::ZERO);
        let fault = |action: &Action| Fault { kind: Kind::Kill, action: action.clone(), begins, ends };
        Round { faults: actions.iter().map(fault).collect() }
    }

    fn cut(links: &[(usize, usize)]) -> Action {
        Action::Links { links: links.to_vec(), link: Link::Cut }
    }

    #[test]
    fn who_can_still_work_together_is_seen() {
        let leaves = |actions: &[Action]| round(actions).leaves_a_majority(3);
        assert!(leaves(&[Action::Garbage]));
        assert!(leaves(&[Action::Kill(vec![1])]));
        assert!(!leaves(&[Action::Kill(vec![1]), Action::Pause(vec![2])]));
        assert!(leaves(&[cut(&[(0, 1), (1, 0)])]), "a bridge");
        assert!(!leaves(&[cut(&[(0, 1)]), Action::Stop(2)]));
        assert!(leaves(&[cut(&[(0, 1)]), Action::Stop(1)]));
        let slow = Action::Links { links: vec![(0, 1)], link: Link::Slow(Duration::ZERO) };
        assert!(leaves(&[slow, Action::Stop(2)]));
    }

    #[test]
    fn every_kind_is_dealt_and_nobody_comes_to_harm_twice_at_a_time() {
        let mut plan = Plan::new(Random::new(1), 3, vec![0], Kind::ALL.to_vec());
        let mut kinds = BTreeSet::new();
        for _ in 0..200 {
            let round = plan.next_round(Some(2));
            let harmed: Vec<usize> = round.faults.iter().flat_map(|fault| fault.action.harmed()).collect();
            assert_eq!(harmed.len(), round.harmed().len(), "{round:?}");
            let rough = round.faults.iter().filter(|fault| !fault.kind.is_gentle()).count();
            let has_change = round.faults.iter().any(|fault| fault.kind == Kind::Replace);
            assert!(!has_change || rough == 1, "{round:?}");
            kinds.extend(round.faults.iter().map(|fault| fault.kind));
        }
        assert_eq!(kinds.len(), Kind::ALL.len());
    }

    #[test]
    fn without_a_small_disk_none_is_filled() {
        let mut plan = Plan::new(Random::new(1), 3, Vec::new(), Kind::ALL.to_vec());
        let kinds: BTreeSet<Kind> =
            (0..200).flat_map(|_| plan.next_round(None).faults).map(|fault| fault.kind).collect();
        assert_eq!(kinds.len(), Kind::ALL.len() - 1);
    }
}

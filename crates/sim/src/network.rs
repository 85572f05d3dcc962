//! The network between members: two lanes for each pair, which delay, lose, double, reorder and cut.
//!
//! Each pair has a lane for messages that may be large and one for all others (SOURCES P4): what is large
//! takes its time there and cannot hold up a heartbeat. The lanes are the server's own, with its bounds; a link
//! takes the next message when it has carried the last. A cut stops what is sent while it lasts; what was on
//! its way before still arrives, perhaps long after.

use tenure_raft::{NodeId, Time};
use tenure_replica::{Lane, LaneBounds, PeerMessage};

use crate::plan::NetworkPlan;
use crate::random::Random;

/// What becomes of a message that has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It arrives then, and perhaps once more.
    Arrives { at_us: u64, again_at_us: Option<u64> },
    /// It is lost, and nobody knows.
    Lost,
}

/// A lane from one machine to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Way {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) is_bulk: bool,
}

/// A message that leaves.
#[derive(Debug)]
pub(crate) struct Departure {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) message: PeerMessage,
    pub(crate) fate: Fate,
    /// When the next one can.
    pub(crate) next_us: u64,
}

/// A part of the network that is cut: the links, each from one member to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cut {
    pub(crate) name: String,
    pub(crate) links: Vec<(usize, usize)>,
}

fn bounds(plan: &NetworkPlan, is_bulk: bool) -> LaneBounds {
    if is_bulk { LaneBounds { max_bytes: plan.lane_bytes, ..LaneBounds::BULK } } else { LaneBounds::URGENT }
}

/// What waits on a way, and what is on its wire.
#[derive(Debug)]
struct Link {
    /// The members that it lies between: a machine may be another one's later.
    ends: Option<(NodeId, NodeId)>,
    lane: Lane,
    /// A message is being put on the wire.
    is_busy: bool,
    /// When the last of all messages arrives.
    last_arrival_us: u64,
}

impl Link {
    fn new(bounds: LaneBounds) -> Link {
        Link { ends: None, lane: Lane::new(bounds), is_busy: false, last_arrival_us: 0 }
    }

    /// Takes out all that waits.
    fn empty(&mut self) -> Vec<PeerMessage> {
        std::iter::from_fn(|| self.lane.pop()).collect()
    }
}

/// All links between the members.
#[derive(Debug)]
pub(crate) struct Network {
    plan: NetworkPlan,
    random: Random,
    members: usize,
    links: Vec<[Link; 2]>,
    /// How many cuts each link is part of.
    cuts: Vec<u32>,
}

impl Network {
    pub(crate) fn new(plan: NetworkPlan, members: usize, random: Random) -> Network {
        let count = members * members;
        let links =
            (0..count).map(|_| [false, true].map(|is_bulk| Link::new(bounds(&plan, is_bulk)))).collect();
        Network { plan, random, members, links, cuts: vec![0; count] }
    }

    fn link(&self, from: usize, to: usize) -> usize {
        from * self.members + to
    }

    /// Whether what `from` says now does not reach `to`.
    #[cfg(test)]
    fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts[self.link(from, to)] > 0
    }

    fn at(&mut self, way: Way) -> &mut Link {
        let link = self.link(way.from, way.to);
        &mut self.links[link][usize::from(way.is_bulk)]
    }

    /// A message of the member `from` for the member `to` waits for its turn on `way`, or finds no room there and is
    /// given back.
    #[must_use]
    pub(crate) fn push(
        &mut self,
        now_us: u64,
        way: Way,
        (from, to): (NodeId, NodeId),
        message: PeerMessage,
    ) -> Option<PeerMessage> {
        let bounds = bounds(&self.plan, way.is_bulk);
        let link = self.at(way);
        if link.ends != Some((from, to)) {
            link.ends = Some((from, to));
            link.lane = Lane::new(bounds);
        }
        link.lane.push(Time(now_us), message)
    }

    /// Whether a way carries something, so that the next message has to wait.
    pub(crate) fn is_busy(&mut self, way: Way) -> bool {
        self.at(way).is_busy
    }

    /// The next message leaves, if one waits.
    pub(crate) fn depart(&mut self, now_us: u64, way: Way) -> Option<Departure> {
        let link = self.at(way);
        link.is_busy = false;
        let (from, to) = link.ends?;
        let message = link.lane.pop()?;
        link.is_busy = true;
        let wire_us = if way.is_bulk { self.wire_us(&message) } else { 0 };
        let next_us = now_us + wire_us;
        let is_cut = self.cuts[self.link(way.from, way.to)] > 0;
        let fate = if is_cut || self.random.chance(self.plan.loss_ppm) {
            Fate::Lost
        } else {
            let at_us = self.arrival_us(way, next_us);
            let doubled = self.random.chance(self.plan.duplication_ppm);
            let again_at_us = doubled.then(|| at_us + delay_us(&self.plan, &mut self.random));
            Fate::Arrives { at_us, again_at_us }
        };
        Some(Departure { from, to, message, fate, next_us })
    }

    fn arrival_us(&mut self, way: Way, left_us: u64) -> u64 {
        let at_us = left_us + delay_us(&self.plan, &mut self.random);
        let in_order = self.plan.in_order;
        let link = self.at(way);
        link.last_arrival_us = link.last_arrival_us.max(at_us);
        if in_order { link.last_arrival_us } else { at_us }
    }

    /// A process is gone, and with it what it had yet to send.
    pub(crate) fn forget(&mut self, from: usize) {
        for to in 0..self.members {
            let link = self.link(from, to);
            for link in &mut self.links[link] {
                link.empty();
            }
        }
    }

    /// A connection broke: what waited for it comes back.
    pub(crate) fn give_back(&mut self, from: usize, to: usize) -> Vec<PeerMessage> {
        let link = self.link(from, to);
        self.links[link].iter_mut().flat_map(Link::empty).collect()
    }

    /// Whether nothing waits or is on its way anywhere.
    pub(crate) fn is_idle(&self, now_us: u64) -> bool {
        self.links.iter().flatten().all(|link| link.lane.is_empty() && link.last_arrival_us <= now_us)
    }

    fn wire_us(&self, message: &PeerMessage) -> u64 {
        message.size_bytes() as u64 * 1_000_000 / self.plan.bandwidth_bytes_per_s
    }

    /// How long something takes that is neither lost nor large: a client's request, word of a broken
    /// connection.
    pub(crate) fn delay_us(&mut self) -> u64 {
        delay_us(&self.plan, &mut self.random)
    }

    /// Whether a client's request or answer is lost.
    pub(crate) fn loses(&mut self) -> bool {
        self.random.chance(self.plan.loss_ppm)
    }

    /// Whether a member notices that its connection to another broke.
    pub(crate) fn is_noticed(&mut self) -> bool {
        self.random.chance(self.plan.notice_ppm)
    }

    pub(crate) fn cut(&mut self, cut: &Cut) {
        for &(from, to) in &cut.links {
            let link = self.link(from, to);
            self.cuts[link] += 1;
        }
    }

    pub(crate) fn mend(&mut self, cut: &Cut) {
        for &(from, to) in &cut.links {
            let link = self.link(from, to);
            // The link may have been mended with others already.
            self.cuts[link] = self.cuts[link].saturating_sub(1);
        }
    }

    /// Ends all cuts between these members.
    pub(crate) fn mend_between(&mut self, members: &[usize]) {
        for &from in members {
            for &to in members {
                let link = self.link(from, to);
                self.cuts[link] = 0;
            }
        }
    }

    /// Ends everything that chance does to messages, but for ordinary delays. Cuts stay, and so does what waits.
    pub(crate) fn calm_down(&mut self) {
        self.plan.tail_ppm = 0;
        self.plan.loss_ppm = 0;
        self.plan.duplication_ppm = 0;
    }
}

fn delay_us(plan: &NetworkPlan, random: &mut Random) -> u64 {
    let tail_us = if random.chance(plan.tail_ppm) { random.exponential(plan.mean_tail_us) } else { 0 };
    plan.min_delay_us + random.exponential(plan.mean_extra_delay_us) + tail_us
}

impl Cut {
    /// Both directions between every one of `side` and everybody else.
    pub(crate) fn split(members: usize, side: &[usize]) -> Cut {
        let others: Vec<usize> = (0..members).filter(|member| !side.contains(member)).collect();
        let mut links = one_way(side, &others);
        links.extend(one_way(&others, side));
        Cut { name: format!("{} | {}", names(side), names(&others)), links }
    }

    /// What `side` says does not reach the others; what they say reaches it.
    pub(crate) fn muted(members: usize, side: &[usize]) -> Cut {
        let others: Vec<usize> = (0..members).filter(|member| !side.contains(member)).collect();
        Cut { name: format!("{} ⇥ {}", names(side), names(&others)), links: one_way(side, &others) }
    }

    /// What others say does not reach `side`.
    pub(crate) fn deafened(members: usize, side: &[usize]) -> Cut {
        let others: Vec<usize> = (0..members).filter(|member| !side.contains(member)).collect();
        Cut { name: format!("{} ⇥ {}", names(&others), names(side)), links: one_way(&others, side) }
    }

    /// Two sides that reach each other only through `bridge`, which reaches both.
    pub(crate) fn bridge(members: usize, bridge: usize, side: &[usize]) -> Cut {
        let others: Vec<usize> =
            (0..members).filter(|member| *member != bridge && !side.contains(member)).collect();
        let mut links = one_way(side, &others);
        links.extend(one_way(&others, side));
        let bridge = NodeId::new(bridge as u64 + 1).expect("members count from one");
        Cut { name: format!("{} | {bridge} | {}", names(side), names(&others)), links }
    }
}

fn one_way(from: &[usize], to: &[usize]) -> Vec<(usize, usize)> {
    from.iter().flat_map(|&from| to.iter().map(move |&to| (from, to))).collect()
}

fn names(members: &[usize]) -> String {
    members.iter().map(|member| format!("n{}", member + 1)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use tenure_raft::{Envelope, Index, Message, Round, Term};

    use super::*;
    use crate::plan::Plan;

    fn heartbeat() -> PeerMessage {
        let [from, to] = [1, 2].map(|number| NodeId::new(number).unwrap());
        let message = Message::Heartbeat { commit_index: Index(0), round: Round(0) };
        PeerMessage::Raft(Envelope { from, to, term: Term(1), message })
    }

    fn network(change: impl Fn(&mut NetworkPlan)) -> Network {
        let mut plan = Plan::calm(1).network;
        change(&mut plan);
        Network::new(plan, 3, Random::new(1))
    }

    fn send(network: &mut Network, now_us: u64, from: usize, to: usize) -> Fate {
        let ends = [1, 2].map(|number| NodeId::new(number).unwrap());
        let way = Way { from, to, is_bulk: false };
        assert_eq!(network.push(now_us, way, ends.into(), heartbeat()), None);
        network.depart(now_us, way).expect("a message waits").fate
    }

    #[test]
    fn cuts_add_up_and_have_directions() {
        let mut network = network(|_| ());
        let (muted, split) = (Cut::muted(3, &[0]), Cut::split(3, &[0]));
        network.cut(&muted);
        network.cut(&split);
        network.mend(&split);
        assert!(network.is_cut(0, 1) && !network.is_cut(1, 0));
        assert_eq!(send(&mut network, 0, 0, 2), Fate::Lost);
        network.mend(&muted);
        assert!(!network.is_cut(0, 1));
        let bridge = Cut::bridge(3, 1, &[0]);
        assert_eq!(bridge.links, [(0, 2), (2, 0)]);
    }

    #[test]
    fn in_order_means_in_order() {
        let mut network = network(|plan| {
            plan.tail_ppm = 500_000;
            plan.mean_tail_us = 10_000;
        });
        let mut last_us = 0;
        for now_us in 0..1_000 {
            let Fate::Arrives { at_us, .. } = send(&mut network, now_us, 0, 1) else {
                panic!("nothing is lost");
            };
            assert!(at_us >= last_us);
            last_us = at_us;
        }
    }

    #[test]
    fn loss_and_doubling_are_as_frequent_as_asked_for() {
        let mut network = network(|plan| {
            plan.loss_ppm = 250_000;
            plan.duplication_ppm = 500_000;
        });
        let fates: Vec<Fate> = (0..4_000).map(|now_us| send(&mut network, now_us, 0, 1)).collect();
        let lost = fates.iter().filter(|fate| **fate == Fate::Lost).count();
        let doubled =
            fates.iter().filter(|fate| matches!(fate, Fate::Arrives { again_at_us: Some(_), .. })).count();
        assert!((900..1_100).contains(&lost) && (1_400..1_600).contains(&doubled), "{lost} and {doubled}");
    }
}

//! The network between members: two lanes for each pair, which delay, lose, double, reorder and cut.
//!
//! Each pair has a lane for messages that may be large and one for all others (SOURCES P4): what is large
//! takes its time there and cannot hold up a heartbeat. A cut stops what is sent while it lasts; what was on
//! its way before still arrives, perhaps long after.

use tenure_raft::{Message, NodeId};
use tenure_replica::PeerMessage;

use crate::plan::NetworkPlan;
use crate::random::Random;

/// More than this much waiting time in a lane's queue, and it takes nothing more.
pub(crate) const MAX_LANE_BACKLOG_US: u64 = 1_000_000;

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It arrives then, and perhaps once more.
    Arrives { at_us: u64, again_at_us: Option<u64> },
    /// It is lost, and nobody knows.
    Lost,
    /// The sender's queue is full: it certainly did not leave.
    NotSent,
}

/// A part of the network that is cut: the links, each from one member to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cut {
    pub(crate) name: String,
    pub(crate) links: Vec<(usize, usize)>,
}

#[derive(Clone, Copy, Default, Debug)]
struct Lane {
    /// When the sender will have put everything on the wire.
    free_at_us: u64,
    /// When the last message arrives.
    last_arrival_us: u64,
}

/// All links between the members.
#[derive(Debug)]
pub(crate) struct Network {
    plan: NetworkPlan,
    random: Random,
    members: usize,
    lanes: Vec<[Lane; 2]>,
    /// How many cuts each link is part of.
    cuts: Vec<u32>,
}

impl Network {
    pub(crate) fn new(plan: NetworkPlan, members: usize, random: Random) -> Network {
        let links = members * members;
        Network { plan, random, members, lanes: vec![Default::default(); links], cuts: vec![0; links] }
    }

    fn link(&self, from: usize, to: usize) -> usize {
        from * self.members + to
    }

    /// Whether what `from` says now does not reach `to`.
    #[cfg(test)]
    fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts[self.link(from, to)] > 0
    }

    /// A message leaves.
    pub(crate) fn send(&mut self, now_us: u64, from: usize, to: usize, message: &PeerMessage) -> Fate {
        let link = self.link(from, to);
        let is_bulk = message.is_bulk();
        let wire_us = if is_bulk { self.wire_us(message) } else { 0 };
        let lane = &mut self.lanes[link][usize::from(is_bulk)];
        if lane.free_at_us > now_us + MAX_LANE_BACKLOG_US {
            return Fate::NotSent;
        }
        lane.free_at_us = lane.free_at_us.max(now_us) + wire_us;
        if self.cuts[link] > 0 || self.random.chance(self.plan.loss_ppm) {
            return Fate::Lost;
        }
        let mut at_us = lane.free_at_us + delay_us(&self.plan, &mut self.random);
        let lane = &mut self.lanes[link][usize::from(is_bulk)];
        if self.plan.in_order {
            at_us = at_us.max(lane.last_arrival_us);
            lane.last_arrival_us = at_us;
        }
        let doubled = self.random.chance(self.plan.duplication_ppm);
        let again_at_us = doubled.then(|| at_us + delay_us(&self.plan, &mut self.random));
        Fate::Arrives { at_us, again_at_us }
    }

    fn wire_us(&self, message: &PeerMessage) -> u64 {
        size_bytes(message) * 1_000_000 / self.plan.bandwidth_bytes_per_s
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

    /// Ends everything that chance does to messages, but for ordinary delays. Cuts stay. Connections are new, and
    /// nothing that is said on them waits for what is still on its way on the old ones.
    pub(crate) fn calm_down(&mut self) {
        self.lanes.fill(<[Lane; 2]>::default());
        self.plan.tail_ppm = 0;
        self.plan.loss_ppm = 0;
        self.plan.duplication_ppm = 0;
    }
}

fn delay_us(plan: &NetworkPlan, random: &mut Random) -> u64 {
    let tail_us = if random.chance(plan.tail_ppm) { random.exponential(plan.mean_tail_us) } else { 0 };
    plan.min_delay_us + random.exponential(plan.mean_extra_delay_us) + tail_us
}

fn size_bytes(message: &PeerMessage) -> u64 {
    const FRAME_BYTES: usize = 64;
    let body_bytes = match message {
        PeerMessage::Raft(envelope) => match &envelope.message {
            Message::AppendEntries { slice, .. } => slice.size_bytes(),
            Message::InstallSnapshot { data, .. } => data.len(),
            _ => 0,
        },
        PeerMessage::Forward(forward) => forward.commands.iter().map(bytes::Bytes::len).sum(),
        PeerMessage::ForwardRefused(refused) => refused.attempts.len() * 8,
        PeerMessage::ChangeMembers(_) | PeerMessage::MembersChanged(_) | PeerMessage::Room { .. } => 0,
    };
    (FRAME_BYTES + body_bytes) as u64
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
    use tenure_raft::{Envelope, Index, Round, Term};

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

    #[test]
    fn cuts_add_up_and_have_directions() {
        let mut network = network(|_| ());
        let (muted, split) = (Cut::muted(3, &[0]), Cut::split(3, &[0]));
        network.cut(&muted);
        network.cut(&split);
        network.mend(&split);
        assert!(network.is_cut(0, 1) && !network.is_cut(1, 0));
        assert_eq!(network.send(0, 0, 2, &heartbeat()), Fate::Lost);
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
            let Fate::Arrives { at_us, .. } = network.send(now_us, 0, 1, &heartbeat()) else {
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
        let fates: Vec<Fate> = (0..4_000).map(|now_us| network.send(now_us, 0, 1, &heartbeat())).collect();
        let lost = fates.iter().filter(|fate| **fate == Fate::Lost).count();
        let doubled =
            fates.iter().filter(|fate| matches!(fate, Fate::Arrives { again_at_us: Some(_), .. })).count();
        assert!((900..1_100).contains(&lost) && (1_400..1_600).contains(&doubled), "{lost} and {doubled}");
    }
}

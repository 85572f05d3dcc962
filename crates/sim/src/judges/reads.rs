//! Linearizable reads (thesis §6.4; SOURCES L3): whoever reads sees everything that was committed when it asked.
//!
//! Clients notice only what they were told of, and the member that answers mostly knows more than it had to wait
//! for. So the rule itself is judged: the index that a leader names, and the state that answers, are not older
//! than what anybody had called committed when the question was asked. (A leader knows of all of it once it has
//! committed an entry of its own term.)

use std::collections::BTreeMap;

use tenure_raft::{Envelope, Index, Message, NodeId, ReadId};

use super::{Verdict, require};

const JUDGE: &str = "a read sees what was committed";
const ONCE: &str = "the number of a read is used once";

/// The reads that were asked for.
#[derive(Default, Debug)]
pub(crate) struct Reads {
    /// What was committed when a member asked its leader, and in which of its starts that was.
    asked: BTreeMap<(NodeId, ReadId), (Index, u64)>,
    /// How often each member has started.
    starts: BTreeMap<NodeId, u64>,
}

impl Reads {
    /// A member has started: what it asked for before it will not ask for again.
    pub(crate) fn on_started(&mut self, member: NodeId) {
        *self.starts.entry(member).or_default() += 1;
    }

    /// A message leaves, while the log is committed up to `committed`.
    pub(crate) fn on_send(&mut self, envelope: &Envelope, committed: Index) -> Verdict {
        match envelope.message {
            Message::ReadIndex { read } => {
                let start = self.starts.get(&envelope.from).copied().unwrap_or_default();
                let (_, since) = *self.asked.entry((envelope.from, read)).or_insert((committed, start));
                require(ONCE, since == start, || {
                    format!("{} asks {read:?} anew, and may be given the old answer", envelope.from)
                })
            }
            Message::ReadIndexReply { read, index: Some(index) } => {
                // Its answer may be given twice.
                let (asked, _) = self.asked.get(&(envelope.to, read)).copied().unwrap_or_default();
                require(JUDGE, index >= asked, || {
                    format!("{asked} was committed when {} asked, and it is told: {envelope}", envelope.to)
                })
            }
            _ => Ok(()),
        }
    }

    /// A member answers a read that it took while the log was committed up to `committed`.
    pub(crate) fn on_answered(member: NodeId, committed: Index, applied: Index) -> Verdict {
        require(JUDGE, applied >= committed, || {
            format!("{member} answers a read at {applied}, and {committed} was committed when it was asked")
        })
    }
}

#[cfg(test)]
mod tests {
    use tenure_raft::Term;

    use super::*;

    #[test]
    fn an_index_from_before_the_question_is_seen() {
        let [follower, leader] = [1, 2].map(|number| NodeId::new(number).unwrap());
        let mut reads = Reads::default();
        let mut send = |from, to, message, committed| {
            reads.on_send(&Envelope { from, to, term: Term(3), message }, Index(committed))
        };
        let answer = |index| Message::ReadIndexReply { read: ReadId(7), index: Some(Index(index)) };
        send(follower, leader, Message::ReadIndex { read: ReadId(7) }, 5).unwrap();
        send(leader, follower, answer(5), 9).unwrap();
        assert_eq!(send(leader, follower, answer(4), 9).unwrap_err().judge, JUDGE);
        assert!(Reads::on_answered(follower, Index(5), Index(4)).is_err());
    }

    #[test]
    fn a_number_of_an_earlier_start_is_seen() {
        let [follower, leader] = [1, 2].map(|number| NodeId::new(number).unwrap());
        let message = Message::ReadIndex { read: ReadId(7) };
        let question = Envelope { from: follower, to: leader, term: Term(3), message };
        let mut reads = Reads::default();
        reads.on_send(&question, Index(5)).unwrap();
        reads.on_send(&question, Index(6)).unwrap();
        reads.on_started(follower);
        assert_eq!(reads.on_send(&question, Index(6)).unwrap_err().judge, ONCE);
    }
}

//! State machine safety (paper §5.4.3, figure 3): "if a server has applied a log entry at a given index to
//! its state machine, no other server will ever apply a different log entry for the same index" (SOURCES
//! M1, M6). Seen by the hash of the whole state: equal on all members at an equal applied index, be it
//! reached by applying, by a checkpoint of their own or by one of another member.

use std::collections::BTreeMap;

use tenure_raft::NodeId;
use tenure_store::StateHash;

use super::{Verdict, require};

const JUDGE: &str = "state machine safety";

/// The state at every index at which one was seen.
#[derive(Default, Debug)]
pub(crate) struct StateMachines {
    states: BTreeMap<u64, (StateHash, NodeId)>,
    /// How far each member has applied since it started.
    applied: BTreeMap<NodeId, u64>,
}

impl StateMachines {
    /// A member starts from a checkpoint at `index`.
    pub(crate) fn on_started(&mut self, member: NodeId, index: u64) {
        self.applied.insert(member, index);
    }

    pub(crate) fn on_applied(&mut self, member: NodeId, index: u64, hash: StateHash) -> Verdict {
        let applied = self.applied.entry(member).or_default();
        let before = std::mem::replace(applied, index);
        require(JUDGE, index >= before, || format!("{member} goes back from {before} to {index}"))?;
        self.on_state(member, index, hash)
    }

    pub(crate) fn on_state(&mut self, member: NodeId, index: u64, hash: StateHash) -> Verdict {
        let (known, first) = *self.states.entry(index).or_insert((hash, member));
        require(JUDGE, known == hash, || {
            format!("at {index} the state of {member} is {hash}, and that of {first} was {known}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_states_at_one_index_and_steps_back_are_seen() {
        let [one, two] = [1, 2].map(|number| NodeId::new(number).unwrap());
        let mut states = StateMachines::default();
        states.on_applied(one, 5, StateHash(50)).unwrap();
        states.on_applied(two, 5, StateHash(50)).unwrap();
        states.on_applied(one, 6, StateHash(60)).unwrap();
        assert_eq!(states.on_applied(two, 6, StateHash(61)).unwrap_err().judge, JUDGE);
        assert!(states.on_applied(one, 5, StateHash(50)).is_err(), "it goes back");
        states.on_started(one, 5);
        states.on_applied(one, 5, StateHash(50)).unwrap();
    }
}

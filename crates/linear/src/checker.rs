//! The verdict on a history: its partitions, judged one by one.

use std::collections::BTreeMap;
use std::fmt;

use crate::search::{Outcome, Search};
use crate::{HistoryOf, Model, OpId, Operation};

/// What can be said of a history.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Verdict {
    /// It is linearizable.
    Linearizable {
        /// For each partition, by its key, an order that explains all answers. Operations of unknown outcome
        /// that are in none of them need not have happened.
        orders: Vec<Vec<OpId>>,
    },
    /// It is not.
    Violation(Violation),
    /// Nobody knows: no violation was found, and at least one partition was given up. Not a pass.
    BudgetSpent {
        /// How many partitions were given up.
        partitions: usize,
        /// The steps that each of them was given.
        max_steps: u64,
    },
}

impl Verdict {
    /// Whether it is certain that the history is linearizable.
    pub fn is_linearizable(&self) -> bool {
        matches!(self, Verdict::Linearizable { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Linearizable { .. } => write!(f, "linearizable"),
            Verdict::Violation(Violation { longest, stuck, .. }) => {
                write!(f, "not linearizable: {stuck} fits nowhere behind {} operations", longest.len())
            }
            Verdict::BudgetSpent { partitions, max_steps } => {
                write!(f, "unknown: {partitions} partitions were given up after {max_steps} steps")
            }
        }
    }
}

/// Why a history is not linearizable: how far one comes, and where one is stuck, in the first such partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// All operations of the partition, in the order recorded.
    pub operations: Vec<OpId>,
    /// An order of as many answered operations as there can be before the answers contradict the model.
    pub longest: Vec<OpId>,
    /// The operation that was answered first of those left over. It would have to be next, or soon, and the
    /// model allows neither.
    pub stuck: OpId,
}

impl Violation {
    /// What is wrong, in one sentence.
    pub fn explain<M: Model>(&self, model: &M, history: &HistoryOf<M>) -> String {
        let states = self.states(model, history);
        let state = states.last().map(|state| model.describe_state(state)).unwrap_or_default();
        let Operation { client, called, input, answer } = history.operation(self.stuck);
        let what = model.describe(input, answer.as_ref().map(|answer| &answer.output));
        let returned = answer.as_ref().map(|answer| answer.at).unwrap_or_default();
        let (placed, all) = (self.longest.len(), self.operations.len());
        format!(
            "{what} of client {client}, called at {called} and answered at {returned}, fits nowhere: \
             at best {placed} operations of {all} can be ordered, and then the state is {state}"
        )
    }

    /// The states before the longest order and after each of its operations.
    pub(crate) fn states<M: Model>(&self, model: &M, history: &HistoryOf<M>) -> Vec<M::State> {
        let mut states = vec![model.initial()];
        for operation in self.longest.iter().map(|&id| history.operation(id)) {
            let next = model.step(&states[states.len() - 1], &operation.input, operation.output());
            states.push(next.expect("the model allows the longest order"));
        }
        states
    }
}

/// Judges `history` by `model`. Each partition is given up after `max_steps`: applications of the model, and
/// comparisons with what was tried. One that is in order needs little more than one for each of its operations.
pub fn check<M: Model>(model: &M, history: &HistoryOf<M>, max_steps: u64) -> Verdict {
    let mut orders = Vec::new();
    let mut given_up = 0;
    for operations in partitions(model, history) {
        match Search::new(model, history, &operations).run(max_steps) {
            Outcome::Found(order) => orders.push(order),
            // A violation elsewhere would be certain, so the others are judged all the same.
            Outcome::BudgetSpent => given_up += 1,
            Outcome::Exhausted { longest, stuck } => {
                return Verdict::Violation(Violation { operations, longest, stuck });
            }
        }
    }
    match given_up {
        0 => Verdict::Linearizable { orders },
        partitions => Verdict::BudgetSpent { partitions, max_steps },
    }
}

/// The operations of each key, or all in one if some concern all keys.
fn partitions<M: Model>(model: &M, history: &HistoryOf<M>) -> Vec<Vec<OpId>> {
    let mut by_key: BTreeMap<M::Key, Vec<OpId>> = BTreeMap::new();
    for (id, operation) in history.operations() {
        let Some(key) = model.partition(&operation.input) else {
            return vec![history.operations().map(|(id, _)| id).collect()];
        };
        by_key.entry(key).or_default().push(id);
    }
    by_key.into_values().collect()
}

//! What the object does when only one client uses it, as its user says it.

use std::fmt::Debug;

use crate::History;

/// A history of what a model describes.
pub type HistoryOf<M> = History<<M as Model>::Input, <M as Model>::Output>;

/// A sequential object: a state, and what each operation makes of it.
///
/// The object must be deterministic: the next state is a function of the state and the operation. Whatever of
/// an output the state does not decide (a random id, a time) must not be checked by [`step`](Model::step).
pub trait Model {
    /// All that an answer can depend on. Cheap to compare and to make: the search keeps one for each
    /// configuration that it has visited.
    type State: Ord + Debug;
    /// What a client asks. Equal inputs do the same to equal states, whoever asks.
    type Input: PartialEq + Debug;
    /// What it is answered.
    type Output: Debug;
    /// What the object consists of, if its parts are independent of each other.
    type Key: Ord;

    /// The state before the first operation, of the part of any one key as of the whole.
    fn initial(&self) -> Self::State;

    /// The state after `input` at `state`, or none if the operation cannot have had this output there.
    ///
    /// Without an output nobody knows what was answered: the model then says what the operation does at this
    /// state, and none only if it cannot take effect there. The more it rules out, the shorter the search: no
    /// write of unknown outcome has taken a revision that an answer gives to another.
    fn step(
        &self,
        state: &Self::State,
        input: &Self::Input,
        output: Option<&Self::Output>,
    ) -> Option<Self::State>;

    /// Whether the operation leaves the state as it is, *whatever the state*, wherever it can have this output: a
    /// read, or a comparison that did not hold. Saying so saves much of the search where many read at the same
    /// time; a write that happens to write what was there is none.
    fn is_read_only(&self, input: &Self::Input, output: Option<&Self::Output>) -> bool {
        let _ = (input, output);
        false
    }

    /// The one key that an operation reads and writes. None says that it concerns all of them (a transaction,
    /// a range): then the history is judged as one.
    ///
    /// That has its price, for a single such operation: the orders to try grow with the clients of the whole
    /// history and not with those of one key, and each visited state is that of all keys. Where several keys
    /// are always used together, a key that stands for all of them is cheaper.
    fn partition(&self, input: &Self::Input) -> Option<Self::Key>;

    /// An operation in a few words, for pictures and messages.
    fn describe(&self, input: &Self::Input, output: Option<&Self::Output>) -> String {
        match output {
            Some(output) => format!("{input:?} → {output:?}"),
            None => format!("{input:?} → ?"),
        }
    }

    /// A state in a few words, for pictures and messages.
    fn describe_state(&self, state: &Self::State) -> String {
        format!("{state:?}")
    }
}

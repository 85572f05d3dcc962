//! Is a concurrent history linearizable? Give a sequential [`Model`] of the object, record a [`History`] of
//! what clients asked and were told, and [`check`] says whether every operation can have happened at one
//! instant between its call and its answer, in an order in which the model gives these answers (M. Herlihy and
//! J. Wing, *Linearizability: a correctness condition for concurrent objects*, TOPLAS 1990).
//!
//! - **Unknown outcomes.** An operation without an answer may take effect at any time after its call, or never.
//!   One that failed for certain is [withdrawn](History::withdraw): nobody may see it.
//! - **Partitions.** A history is linearizable exactly if that of each object is, so the operations of each key
//!   are judged by themselves; see [`Model::partition`] for those that touch several.
//! - **A budget.** The question is NP-complete (P. Gibbons and E. Korach, 1997). After so many steps as it was
//!   given the checker says [`Verdict::BudgetSpent`], which is not a pass.
//! - **A picture.** [`picture`] draws a violation as one HTML file.
//!
//! The same history gives the same verdict and picture, always. What it leaves out: where histories come from,
//! models of real systems, and objects whose next state is not a function of the state and the operation.
//!
//! # Example
//!
//! Two writes are answered one after the other, and then somebody reads the older value.
//!
//! ```
//! use tenure_linear::{History, Model, Verdict, check, picture};
//!
//! struct Register;
//!
//! #[derive(PartialEq, Debug)]
//! enum Input { Write(u8), Read }
//!
//! impl Model for Register {
//!     type State = u8;
//!     type Input = Input;
//!     type Output = u8; // what a read saw; a write says what it wrote
//!     type Key = ();
//!
//!     fn initial(&self) -> u8 { 0 }
//!
//!     fn step(&self, state: &u8, input: &Input, output: Option<&u8>) -> Option<u8> {
//!         match input {
//!             Input::Write(value) => Some(*value),
//!             // A read without an answer has seen we know not what, and that is possible.
//!             Input::Read => output.is_none_or(|seen| seen == state).then_some(*state),
//!         }
//!     }
//!
//!     fn is_read_only(&self, input: &Input, _: Option<&u8>) -> bool { *input == Input::Read }
//!
//!     fn partition(&self, _: &Input) -> Option<()> { Some(()) }
//! }
//!
//! let mut history = History::new();
//! let first = history.invoke(1, Input::Write(7), 0);
//! history.complete(first, 7, 10);
//! let second = history.invoke(1, Input::Write(8), 20);
//! history.complete(second, 8, 30);
//! let read = history.invoke(2, Input::Read, 40);
//! history.complete(read, 7, 50);
//!
//! let Verdict::Violation(violation) = check(&Register, &history, 1_000) else {
//!     panic!("a stale read has passed");
//! };
//! assert_eq!(violation.longest, [first, second]);
//! assert_eq!(violation.stuck, read);
//! assert!(picture(&Register, &history, &violation).contains("<svg"));
//!
//! // Had the second write never been answered, it might not have happened yet.
//! let mut history = History::new();
//! let first = history.invoke(1, Input::Write(7), 0);
//! history.complete(first, 7, 10);
//! history.invoke(1, Input::Write(8), 20);
//! let read = history.invoke(2, Input::Read, 40);
//! history.complete(read, 7, 50);
//! assert!(check(&Register, &history, 1_000).is_linearizable());
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod bitset;
mod checker;
mod history;
mod model;
mod picture;
mod search;

pub use checker::{Verdict, Violation, check};
pub use history::{Answer, History, OpId, Operation};
pub use model::{HistoryOf, Model};
pub use picture::picture;

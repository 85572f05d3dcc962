//! The simulated world: the code of the server under every fault that a seed can think of, and judges who
//! see what it does.
//!
//! One process, one thread, one seed. The members are the server's own [`Replica`](tenure_replica::Replica)
//! with its two workers; around them network, disks, clocks and clients are simulated, and things break. A
//! seed draws a [`Plan`]; [`run`] plays it and answers with a [`Report`], or with the [`Failure`] that a
//! judge saw. The same plan gives the same run, byte for byte. `docs/simulation.md` says how to use it.
//!
//! What this crate does not know: threads, real time, sockets, files, protobuf. Who wants to use several
//! cores runs several seeds.
//!
//! ```
//! use tenure_sim::{Plan, run};
//!
//! let mut plan = Plan::of_seed(1);
//! plan.faults_us = 3_000_000;
//! let report = run(plan).unwrap();
//! assert!(report.committed > 0);
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod plan;
mod swarm;

mod action;
mod change_requests;
mod clients;
mod expected;
mod host;
mod lifecycle;
mod member;
mod nemesis;
mod network;
mod operator;
mod outcome;
mod run;
mod selection;
mod shrink;
mod stranger;
mod workers;
mod world;

mod judges;

mod clock;
mod coverage;
mod event;
mod queue;
mod random;
mod trace;

pub use coverage::{Coverage, Mark};
pub use judges::Violation;
pub use plan::{ClientPlan, DiskPlan, FaultPlan, NetworkPlan, Plan, Weights};
pub use run::{Failure, Report, run, run_traced};
pub use shrink::{Setting, Shrunk, UnknownSetting, shrink};
pub use trace::{Detail, Sink};

//! The connections between members: one TCP connection a direction, a peer and a lane.
//!
//! A sender task for each takes what gathered in its queue, encodes it into one buffer and writes it; a
//! receiver task for each accepted connection turns what it reads into one input for the core. Neither is
//! ever waited for: a full queue gives messages back. A connection that breaks is reported,
//! since a leader that died shows there first.
//!
//! Who speaks is settled by the handshake, before anything else is read; see [`Gate`].

mod acceptor;
mod connection;
mod handshake;
mod peers;
mod queue;
mod sender;
mod slots;

pub(crate) use acceptor::accept;
pub(crate) use connection::{invalid, read_frame};
pub(crate) use peers::Peers;

//! Members put together from what this crate offers, on simulated disks: what they promise, what becomes of
//! forwarded writes on a bad network, and what a crash at any moment leaves.

mod crashes;
mod forwarding;
mod full_disks;
mod harness;
mod members;
mod strangers;
mod three_members;

//! One test for each claim of the sources that Raft is described by: the course's notes, the extended
//! paper and the dissertation. The number in a test's name is the claim's; § is the paper's unless said
//! otherwise. What needs the store or real clients is shown here with a machine of three commands.

#[path = "../common/cluster.rs"]
mod cluster;

#[path = "../../examples/counter.rs"]
mod counter;

mod clients;
mod elections;
mod machine;
mod majorities;
mod persistence;
mod replication;
mod terms;

//! Elections: E1 to E11 (paper §5.2, §5.4.1).

use crate::cluster::Cluster;

#[test]
fn first() {
    let mut cluster = Cluster::new(3, 1);
    let leader = cluster.await_leader();
    let put = cluster.propose(leader, "put x 1");
    cluster.await_answer(put);
    cluster.await_equal();
}

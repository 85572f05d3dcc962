//! `kill -9`, again and again, under load: nothing that was acknowledged is lost, and all become equal.

use crate::cluster::Cluster;
use crate::load::Load;

/// How much is written between two blows.
const WRITES: u64 = 100;

/// Ends the load, and asserts what must hold on every member.
async fn assert_nothing_lost(cluster: &mut Cluster, load: Load) {
    let written = load.finish().await;
    cluster.healthy().await;
    for client in cluster.clients() {
        written.assert_kept(&client).await;
    }
    cluster.assert_equal().await;
}

#[tokio::test]
async fn kill_of_each_member_in_turn_loses_nothing() {
    let mut cluster = Cluster::of_three().await;
    let load = Load::start(&cluster.clients());
    for position in 0..cluster.members.len() {
        load.progress(WRITES).await;
        cluster.members[position].kill();
        load.progress(WRITES).await;
        cluster.start().await;
    }
    assert_nothing_lost(&mut cluster, load).await;
}

#[tokio::test]
async fn kill_of_the_leader_under_load_loses_nothing() {
    let mut cluster = Cluster::of_three().await;
    let load = Load::start(&cluster.clients());
    for _ in 0..3 {
        let killed = cluster.leader().await;
        load.progress(WRITES).await;
        cluster.members[killed].kill();
        load.progress(WRITES).await;
        let next = cluster.leader().await;
        assert_ne!(next, killed, "a dead member leads");
        cluster.start().await;
    }
    assert_nothing_lost(&mut cluster, load).await;
}

#[tokio::test]
async fn kill_of_all_members_at_once_loses_nothing() {
    let mut cluster = Cluster::of_three().await;
    let load = Load::start(&cluster.clients());
    for _ in 0..2 {
        load.progress(WRITES).await;
        for member in &mut cluster.members {
            member.kill();
        }
        cluster.start().await;
    }
    load.progress(WRITES).await;
    assert_nothing_lost(&mut cluster, load).await;
}

#[tokio::test]
async fn without_a_quorum_nothing_is_acknowledged() {
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    for (_, member) in cluster.members.iter_mut().enumerate().filter(|(position, _)| *position != leader) {
        member.kill();
    }
    let client = cluster.members[leader].client();
    // The old leader still believes in itself for a moment: the request gets into its log.
    let status = client.put("alone", "v").await.expect_err("no quorum");
    assert!(status.message().starts_with("etcdserver: request timed out"), "{status}");
    let status = client.status().await.expect("a status");
    assert_eq!((status.leader, &status.errors[..]), (0, &["etcdserver: no leader".to_owned()][..]));
    cluster.start().await;
    client.put("together", "v").await.expect("a quorum again");
    cluster.assert_equal().await;
}

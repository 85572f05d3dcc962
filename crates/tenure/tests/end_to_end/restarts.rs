//! Members that are stopped, and come back: at once, after a while, or all together.

use crate::cluster::Cluster;
use crate::eventually;
use crate::load::Load;

#[tokio::test]
async fn a_restart_of_all_goes_on_with_the_same_data() {
    let mut cluster = Cluster::of_three().await;
    let client = cluster.members[0].client();
    let mut revision = 0;
    for number in 0..50 {
        revision = client.put(&format!("k{number:02}"), "v").await.expect("a put");
    }
    client.compact(revision - 10).await.expect("a compaction");
    let term = client.status().await.expect("a status").raft_term;
    for position in 0..cluster.members.len() {
        assert!(cluster.members[position].terminate().await.success());
    }
    cluster.start().await;
    for client in cluster.clients() {
        assert_eq!(client.range("k", "l").await.expect("a range").len(), 50);
        let status = client.status().await.expect("a status");
        assert!(status.raft_term > term, "terms only grow");
        assert_eq!(
            client.hash_kv(revision).await.expect("a hash").1,
            revision - 10,
            "the compaction is kept"
        );
    }
    assert_eq!(client.put("next", "v").await.expect("a put"), revision + 1);
    cluster.assert_equal().await;
}

#[tokio::test]
async fn a_follower_far_behind_is_sent_a_checkpoint() {
    let flags = ["--snapshot-count", "100", "--snapshot-catchup-entries", "10"];
    let mut cluster = Cluster::with_flags(3, &flags).await;
    let follower = (cluster.leader().await + 1) % 3;
    let load = Load::start(&cluster.clients());
    load.progress(50).await;
    cluster.members[follower].kill();
    load.progress(1000).await;
    cluster.launch(follower);
    cluster.healthy().await;
    let written = load.finish().await;
    written.assert_kept(&cluster.members[follower].client()).await;
    cluster.assert_equal().await;
    let log = cluster.members[follower].log();
    assert!(log.contains(" installed"), "it caught up without a checkpoint:\n{log}");
    // What it was sent is what it starts from.
    cluster.members[follower].kill();
    cluster.start().await;
    written.assert_kept(&cluster.members[follower].client()).await;
    cluster.assert_equal().await;
}

#[tokio::test]
async fn sigterm_hands_leadership_over() {
    let mut cluster = Cluster::of_three().await;
    let load = Load::start(&cluster.clients());
    for _ in 0..3 {
        load.progress(50).await;
        let leader = cluster.leader().await;
        let before = cluster.members[leader].client().status().await.expect("a status").raft_term;
        assert!(cluster.members[leader].terminate().await.success());
        let log = cluster.members[leader].log();
        assert!(!log.contains("nobody took leadership over"), "{log}");
        // Nobody had to notice that the leader is gone: one election, won by whom it had chosen.
        let next = cluster.leader().await;
        let after = cluster.members[next].client().status().await.expect("a status").raft_term;
        assert_eq!((next != leader, after), (true, before + 1));
        load.progress(50).await;
        cluster.start().await;
    }
    let written = load.finish().await;
    for client in cluster.clients() {
        written.assert_kept(&client).await;
    }
    cluster.assert_equal().await;
}

#[tokio::test]
async fn a_member_that_stops_lets_requests_under_way_finish() {
    let mut cluster = Cluster::with_flags(1, &[]).await;
    let client = cluster.members[0].client();
    client.put("before", "v").await.expect("a put");
    let puts = (0..64).map(|number| format!("k{number}")).map(|key| {
        let client = client.clone();
        tokio::spawn(async move { client.put(&key, "v").await })
    });
    let puts = puts.collect::<Vec<_>>();
    let stopped = cluster.members[0].terminate().await;
    assert!(stopped.success(), "{stopped}");
    cluster.start().await;
    for (number, put) in puts.into_iter().enumerate() {
        let kept =
            eventually("the member reads", async || client.get(&format!("k{number}")).await.ok()).await;
        if put.await.expect("a put does not panic").is_ok() {
            assert_eq!(kept.as_deref(), Some("v"), "put {number} was acknowledged");
        }
    }
}

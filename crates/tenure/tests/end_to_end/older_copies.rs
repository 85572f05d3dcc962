//! A data directory that was put back to an older copy: a backup, a clone of a volume, a snapshot of a machine.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::cluster::Cluster;
use crate::eventually;

const PUTS: usize = 50;
const PUT_BACK: &str = "put back to an older copy";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().expect("a type").is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("a copy");
        }
    }
}

/// Writes, and waits until a member has all of it.
async fn write(cluster: &Cluster, leader: usize, follower: usize) {
    let client = cluster.members[leader].client();
    for number in 0..PUTS {
        client.put("k", &number.to_string()).await.expect("a put");
    }
    let wanted = client.status().await.expect("a status").raft_applied_index;
    let client = cluster.members[follower].client();
    eventually("the follower has it", async || {
        (client.status().await.ok()?.raft_applied_index >= wanted).then_some(())
    })
    .await;
}

/// Puts the copy of a member that does not run in the place of its directory, and starts it; what it says until it ends.
async fn put_back(cluster: &mut Cluster, position: usize, older: &Path) -> String {
    let member = &mut cluster.members[position];
    fs::remove_dir_all(&member.data_dir).expect("its data");
    fs::rename(older, &member.data_dir).expect("the copy");
    let before = member.log().len();
    cluster.launch(position);
    let member = &mut cluster.members[position];
    let status = member.ended().await;
    let said = member.log()[before..].to_owned();
    assert_eq!(status.code(), Some(1), "{said}");
    said
}

/// The copy says the same number of its next start as the member has said since.
#[tokio::test]
async fn a_backup_that_is_put_back_is_refused_with_a_sentence() {
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let older = cluster.members[follower].data_dir.with_extension("older");
    write(&cluster, leader, follower).await;
    assert!(cluster.members[follower].terminate().await.success());
    copy(&cluster.members[follower].data_dir, &older);
    cluster.start().await;
    let leader = cluster.leader().await;
    // Nothing is written meanwhile, but it may have voted.
    assert!(cluster.members[follower].terminate().await.success());
    let said = put_back(&mut cluster, follower, &older).await;
    assert!(said.contains(PUT_BACK) && said.contains("Remove it from the cluster"), "{said}");
    let client = cluster.members[leader].client();
    eventually("the others serve", async || client.put("k", "v").await.ok()).await;
}

/// The copy was made while the member ran, so its next start has a number of its own: the leader knows what the member had
/// acknowledged.
#[tokio::test]
async fn a_snapshot_of_a_running_member_that_is_put_back_is_refused() {
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let older = cluster.members[follower].data_dir.with_extension("older");
    write(&cluster, leader, follower).await;
    cluster.members[follower].process().signal(Signal::STOP);
    copy(&cluster.members[follower].data_dir, &older);
    cluster.members[follower].process().signal(Signal::CONT);
    write(&cluster, leader, follower).await;
    cluster.members[follower].kill();
    let said = put_back(&mut cluster, follower, &older).await;
    assert!(said.contains(PUT_BACK) && said.contains("had acknowledged index"), "{said}");
    // What was not put back is welcome, however often it starts.
    let other = (leader + 2) % 3;
    for _ in 0..2 {
        cluster.members[other].kill();
        cluster.launch(other);
        cluster.members[other].healthy().await;
    }
}

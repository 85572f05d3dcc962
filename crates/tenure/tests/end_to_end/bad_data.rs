//! Data directories that are not what they should be.

use std::fs;
use std::path::Path;

use crate::client::Client;
use crate::cluster::{Cluster, Member};
use crate::eventually;

/// Starts a member that must not come up; what it said this time.
async fn refused(cluster: &mut Cluster, position: usize) -> String {
    let before = cluster.members[position].log().len();
    cluster.launch(position);
    said_when_ended(&mut cluster.members[position], before).await
}

async fn said_when_ended(member: &mut Member, before: usize) -> String {
    let status = member.ended().await;
    let said = member.log()[before..].to_owned();
    assert_eq!(status.code(), Some(1), "{said}");
    said
}

fn empty(folder: &Path) {
    fs::remove_dir_all(folder).expect("the folder is there");
    fs::create_dir(folder).expect("its parent is there");
}

#[tokio::test]
async fn a_directory_of_a_later_version_is_refused() {
    let mut cluster = Cluster::with_flags(1, &[]).await;
    assert!(cluster.members[0].terminate().await.success());
    let path = cluster.members[0].data_dir.join("member/identity");
    let original = fs::read(&path).expect("the identity");
    let mut later = original.clone();
    // The version follows the eight bytes of the magic.
    later[8] += 1;
    fs::write(&path, &later).expect("a write");
    let said = refused(&mut cluster, 0).await;
    assert!(said.contains("format version 2") && said.contains("use a newer one"), "{said}");
    let mut damaged = original.clone();
    damaged[20] ^= 1;
    fs::write(&path, &damaged).expect("a write");
    let said = refused(&mut cluster, 0).await;
    assert!(said.contains(" is damaged"), "{said}");
    fs::write(&path, &original).expect("a write");
    cluster.start().await;
}

#[tokio::test]
async fn a_directory_of_etcd_is_refused_and_left_alone() {
    let mut cluster = Cluster::of(1, &[]);
    let member = cluster.members[0].data_dir.join("member");
    fs::create_dir_all(member.join("wal")).expect("a folder");
    fs::create_dir_all(member.join("snap")).expect("a folder");
    let log = member.join("wal/0000000000000000-0000000000000000.wal");
    fs::write(&log, "etcd's").expect("a file");
    fs::write(member.join("snap/db"), "etcd's").expect("a file");
    cluster.launch(0);
    let said = said_when_ended(&mut cluster.members[0], 0).await;
    assert!(said.contains("holds the data of an etcd"), "{said}");
    assert_eq!(fs::read(&log).expect("the file is there"), b"etcd's");
    let names: Vec<_> = fs::read_dir(member.join("wal")).expect("a folder").collect();
    assert_eq!(names.len(), 1, "something was added: {names:?}");
}

#[tokio::test]
async fn damage_in_the_log_is_refused_by_file_and_offset() {
    let mut cluster = Cluster::with_flags(1, &[]).await;
    let client = cluster.members[0].client();
    for number in 0..20 {
        client.put(&format!("k{number}"), &"v".repeat(1000)).await.expect("a put");
    }
    cluster.members[0].kill();
    let folder = cluster.members[0].data_dir.join("member/wal");
    let segment = fs::read_dir(&folder).expect("the log").map(|entry| entry.expect("an entry").path());
    let segment = segment
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("segment-")));
    let segment = segment.min().expect("a segment");
    let original = fs::read(&segment).expect("the segment");
    let mut damaged = original.clone();
    let position = original.windows(100).position(|window| window == [b'v'; 100]).expect("the first value");
    damaged[position] ^= 1;
    fs::write(&segment, &damaged).expect("a write");
    let said = refused(&mut cluster, 0).await;
    assert!(said.contains(" is damaged at byte ") && said.contains(&segment.display().to_string()), "{said}");
    fs::write(&segment, &original).expect("a write");
    cluster.start().await;
    assert_eq!(client.range("k", "l").await.expect("a range").len(), 20, "nothing was cut off");
}

/// A member whose disk was emptied has forgotten what it acknowledged: it must not help to elect a leader
/// that has not seen it either.
///
/// ```text
/// n1 ── leader, stays         n1 alone with the emptied n3: no leader
/// n2 ── killed                n2 comes back: n1 and n2 lead, and turn n3 away, which stops
/// n3 ── killed and emptied
/// ```
#[tokio::test]
async fn an_emptied_member_does_not_vote_and_stops() {
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let (other, emptied) = ((leader + 1) % 3, (leader + 2) % 3);
    let client = cluster.members[leader].client();
    client.put("k", "v").await.expect("a put");
    cluster.members[other].kill();
    cluster.members[emptied].kill();
    empty(&cluster.members[emptied].data_dir);
    eventually("the leader without a quorum gives up", async || no_leader(&client).await).await;
    let before = cluster.members[emptied].log().len();
    cluster.launch(emptied);
    let turned_away = "its disk was emptied or replaced";
    eventually("the emptied member is turned away", async || {
        cluster.members[emptied].log()[before..].contains(turned_away).then_some(())
    })
    .await;
    // Both want to lead now. Three rounds of asking for votes go by without anybody getting one.
    let emptied_client = cluster.members[emptied].client();
    let mut last_commit = None;
    for _ in 0..60 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        for client in [&client, &emptied_client] {
            let status = client.status().await.expect("it answers");
            assert_eq!(status.leader, 0, "it was voted for");
        }
        let commit = client.status().await.expect("it answers").raft_index;
        assert_eq!(*last_commit.get_or_insert(commit), commit, "something was committed");
    }
    cluster.launch(other);
    let said = said_when_ended(&mut cluster.members[emptied], before).await;
    assert!(said.contains("the other members turned this one away") && said.contains(turned_away), "{said}");
    let kept = eventually("the others serve", async || client.get("k").await.ok()).await;
    assert_eq!(kept.as_deref(), Some("v"));
}

#[tokio::test]
async fn a_member_that_lost_its_log_does_not_start() {
    let mut cluster = Cluster::of_three().await;
    cluster.members[0].kill();
    empty(&cluster.members[0].data_dir.join("member/wal"));
    let said = refused(&mut cluster, 0).await;
    assert!(said.contains("has no log") && said.contains("Remove the member"), "{said}");
}

async fn no_leader(client: &Client) -> Option<()> {
    (client.status().await.ok()?.leader == 0).then_some(())
}

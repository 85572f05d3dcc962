//! Members that come, go and are exchanged while clients write: nothing that was acknowledged is lost.

use std::fs;

use crate::cluster::{Cluster, Member};
use crate::eventually;
use crate::load::Load;
use crate::process::tenure;

/// How much is written between two changes.
const WRITES: u64 = 50;
/// What a member says that was removed.
const REMOVED: &str = "this member has been permanently removed from the cluster";

/// Runs a client command while the others go on; what it said, and whether it succeeded.
async fn ask(endpoint: &str, words: &[&str]) -> Result<String, String> {
    let mut command = tenure();
    command.args(words).args(["--endpoints", endpoint, "--command-timeout", "20s"]);
    let run = tokio::task::spawn_blocking(move || command.output().expect("it starts"));
    let output = run.await.expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn endpoint(cluster: &Cluster, position: usize) -> String {
    format!("127.0.0.1:{}", cluster.members[position].client_port)
}

/// A member's id, as commands want it.
async fn id_of(cluster: &Cluster, position: usize) -> String {
    let status = cluster.members[position].client().status().await.expect("a status");
    format!("{:x}", status.header.expect("a header").member_id)
}

/// Adds a member at the next free addresses, by way of the one at `at`; its position, and its id.
async fn add(cluster: &mut Cluster, at: usize, flags: &[&str]) -> (usize, String) {
    let position = cluster.push_member();
    let member = &cluster.members[position];
    let (name, urls) = (member.name.clone(), format!("--peer-urls={}", member.peer_url()));
    let words = [&["member", "add", &name, &urls][..], flags].concat();
    let said = ask(&endpoint(cluster, at), &words).await.expect("a new member");
    assert!(said.contains(&format!("ETCD_NAME=\"{name}\"")) && said.contains("=\"existing\""), "{said}");
    let id = said.split_whitespace().nth(1).expect("the second word is the id");
    (position, id.to_owned())
}

async fn await_voter(cluster: &Cluster, position: usize) {
    let client = cluster.members[position].client();
    eventually("it votes", async || client.status().await.ok().filter(|status| !status.is_learner)).await;
}

/// Ends the load, and asserts what must hold on all that run.
async fn assert_nothing_lost(cluster: &mut Cluster, load: Load) {
    let written = load.finish().await;
    cluster.healthy().await;
    for member in cluster.members.iter().filter(|member| member.is_running()) {
        written.assert_kept(&member.client()).await;
    }
    cluster.members.retain(Member::is_running);
    cluster.assert_equal().await;
}

#[tokio::test]
async fn a_fourth_member_joins_and_catches_up_under_load() {
    let mut cluster =
        Cluster::with_flags(3, &["--snapshot-count", "100", "--snapshot-catchup-entries", "10"]).await;
    let load = Load::start(&cluster.clients());
    load.progress(4 * WRITES).await;
    let follower = (cluster.leader().await + 1) % 3;
    let (position, id) = add(&mut cluster, follower, &[]).await;
    load.progress(WRITES).await;
    cluster.launch_joining(position);
    await_voter(&cluster, position).await;
    assert_eq!(id_of(&cluster, position).await, id);
    let listed = ask(&endpoint(&cluster, position), &["member", "list"]).await.expect("a list");
    assert_eq!(listed.lines().filter(|line| line.ends_with(", false")).count(), 4, "{listed}");
    load.progress(WRITES).await;
    // It comes back by what is on its disk, whatever the flags say.
    cluster.members[position].kill();
    cluster.launch_joining(position);
    assert_nothing_lost(&mut cluster, load).await;
}

#[tokio::test]
async fn the_leader_is_removed_under_load_and_stops() {
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let id = id_of(&cluster, leader).await;
    let others: Vec<_> = (0..3).filter(|&position| position != leader).collect();
    let load = Load::start(&others.iter().map(|&at| cluster.members[at].client()).collect::<Vec<_>>());
    load.progress(WRITES).await;
    let said = ask(&endpoint(&cluster, leader), &["member", "remove", &id]).await.expect("it goes");
    assert!(said.contains("removed from cluster"), "{said}");
    assert!(cluster.members[leader].ended().await.success(), "as etcd, it stops in good order");
    assert!(cluster.members[leader].log().contains(REMOVED), "{}", cluster.members[leader].log());
    load.progress(WRITES).await;
    // It knows, for good.
    cluster.launch(leader);
    assert!(cluster.members[leader].ended().await.success());
    assert_nothing_lost(&mut cluster, load).await;
}

#[tokio::test]
async fn a_follower_that_is_asked_to_remove_itself_answers_and_stops() {
    let mut cluster = Cluster::with_flags(5, &[]).await;
    let leader = cluster.leader().await;
    let load = Load::start(&[cluster.members[leader].client()]);
    for gone in [(leader + 1) % 5, (leader + 2) % 5] {
        load.progress(WRITES).await;
        let id = id_of(&cluster, gone).await;
        let said = ask(&endpoint(&cluster, gone), &["member", "remove", &id]).await.expect("it goes");
        assert!(said.contains("removed from cluster"), "{said}");
        assert!(cluster.members[gone].ended().await.success(), "in good order");
    }
    assert_nothing_lost(&mut cluster, load).await;
}

#[tokio::test]
async fn a_member_that_missed_its_removal_is_told_and_stops() {
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let gone = (leader + 1) % 3;
    let id = id_of(&cluster, gone).await;
    let load = Load::start(&[cluster.members[leader].client()]);
    cluster.members[gone].kill();
    load.progress(WRITES).await;
    ask(&endpoint(&cluster, leader), &["member", "remove", &id]).await.expect("it goes");
    let again = ask(&endpoint(&cluster, leader), &["member", "remove", &id]).await.expect_err("it is gone");
    assert!(again.contains("etcdserver: member not found"), "{again}");
    cluster.launch(gone);
    assert!(cluster.members[gone].ended().await.success());
    assert!(cluster.members[gone].log().contains(REMOVED), "{}", cluster.members[gone].log());
    assert_nothing_lost(&mut cluster, load).await;
}

#[tokio::test]
async fn a_member_whose_disk_was_emptied_is_removed_and_added_again() {
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let wiped = (leader + 1) % 3;
    let id = id_of(&cluster, wiped).await;
    let load = Load::start(&[cluster.members[leader].client()]);
    load.progress(WRITES).await;
    cluster.members[wiped].kill();
    fs::remove_dir_all(&cluster.members[wiped].data_dir).expect("its data");
    let at = endpoint(&cluster, leader);
    ask(&at, &["member", "remove", &id]).await.expect("it goes");
    let (name, url) = (cluster.members[wiped].name.clone(), cluster.members[wiped].peer_url());
    ask(&at, &["member", "add", &name, "--peer-urls", &url]).await.expect("and comes back as another");
    load.progress(WRITES).await;
    cluster.launch_joining(wiped);
    await_voter(&cluster, wiped).await;
    assert_ne!(id_of(&cluster, wiped).await, id, "an id is never used again");
    assert_nothing_lost(&mut cluster, load).await;
}

#[tokio::test]
async fn a_learner_waits_to_be_promoted_and_takes_the_place_of_a_voter() {
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let old = (leader + 1) % 3;
    let at = endpoint(&cluster, leader);
    let old_id = id_of(&cluster, old).await;
    let load = Load::start(&[cluster.members[leader].client()]);
    let (position, id) = add(&mut cluster, old, &["--learner"]).await;
    let refused = ask(&at, &["member", "promote", &id]).await.expect_err("it does not run yet");
    assert!(refused.contains("can only promote a learner member which is in sync with leader"), "{refused}");
    cluster.launch_joining(position);
    let client = cluster.members[position].client();
    let status = eventually("it answers", async || client.status().await.ok()).await;
    assert!(status.is_learner);
    let refused = client.get("k").await.expect_err("a learner may be behind");
    assert_eq!(refused.message(), "etcdserver: rpc not supported for learner");
    load.progress(WRITES).await;
    let at_old = endpoint(&cluster, old);
    let replace = async || ask(&at_old, &["member", "replace", &old_id, &id]).await.ok();
    eventually("it has caught up, and the old one itself says that it is replaced", replace).await;
    assert!(cluster.members[old].ended().await.success(), "who was replaced stops");
    await_voter(&cluster, position).await;
    load.progress(WRITES).await;
    assert_nothing_lost(&mut cluster, load).await;
}

#[tokio::test]
async fn a_change_that_would_leave_no_quorum_is_refused_with_the_numbers() {
    let mut cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let (dead, alive) = ((leader + 1) % 3, (leader + 2) % 3);
    let ids = [id_of(&cluster, dead).await, id_of(&cluster, alive).await];
    cluster.members[dead].kill();
    let at = endpoint(&cluster, leader);
    // As long as it seems alive, this would be done; nothing that can be asked says when it does not any more.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let refused = ask(&at, &["member", "remove", &ids[1]]).await.expect_err("one of two alive");
    assert!(refused.contains("would need 2 of 2 votes, 1 are reachable"), "{refused}");
    ask(&at, &["member", "remove", &ids[0]]).await.expect("the dead one may go");
}

#[tokio::test]
async fn a_server_that_nobody_has_added_does_not_join() {
    let mut cluster = Cluster::with_flags(1, &[]).await;
    let position = cluster.push_member();
    cluster.launch_joining(position);
    assert!(!cluster.members[position].ended().await.success());
    let said = cluster.members[position].log();
    assert!(said.contains("add it with `member add`"), "{said}");
}

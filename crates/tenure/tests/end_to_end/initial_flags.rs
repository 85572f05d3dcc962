//! `--initial-…` says how a member begins, and nothing after that: at a restart its disk counts, whatever the flags say.

use crate::cluster::{Cluster, Member};
use crate::eventually;
use crate::process::tenure;

/// What the log says of a flag that differs.
fn ignored(flag: &str) -> String {
    format!("--{flag} is ignored: this member began with another value, and its data directory counts")
}

/// Starts a member with its own addresses, and nothing else but `flags`.
fn launch(member: &mut Member, flags: &[String]) {
    let mut command = tenure();
    let client_url = format!("http://127.0.0.1:{}", member.client_port);
    command.args(["serve", "--name", &member.name, "--listen-peer-urls", &member.peer_url()]);
    command.args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
    command.arg("--data-dir").arg(&member.data_dir).args(flags);
    member.launch(command);
}

#[tokio::test]
async fn at_a_restart_the_disk_counts_and_what_differs_is_named() {
    let mut cluster = Cluster::with_flags(1, &["--initial-cluster-token", "first"]).await;
    let client = cluster.members[0].client();
    client.put("k", "v").await.expect("a put");
    let header = client.status().await.expect("a status").header.expect("a header");
    let url = cluster.members[0].peer_url();
    let (own, more) = (format!("n1={url}"), "n2=http://127.0.0.1:1,n3=http://127.0.0.1:2");
    let five = format!("{own},{more},n4=http://127.0.0.1:3,n5=http://127.0.0.1:4");
    let (cluster_flag, token, advertised) =
        ("initial-cluster", "initial-cluster-token", "initial-advertise-peer-urls");
    let advertise = format!("--{advertised}={url}");
    // The flags, and those of which the log says that they differ.
    let combinations: [(&[&str], &[&str]); 16] = [
        (&[], &[]),
        (&[&advertise], &[]),
        (&["--initial-cluster-state=existing"], &[]),
        (&["--initial-cluster-state=new", &advertise], &[]),
        (&[&advertise, &format!("--initial-cluster={own}"), "--initial-cluster-token=first"], &[]),
        (&[&advertise, &format!("--initial-cluster={own}")], &[]),
        (&[&advertise, "--initial-cluster-token=second"], &[token]),
        (&["--initial-cluster-token="], &[token]),
        (&[&advertise, &format!("--initial-cluster={own},{more}")], &[cluster_flag]),
        (&[&advertise, &format!("--initial-cluster={five}"), "--initial-cluster-state=new"], &[cluster_flag]),
        (
            &[&advertise, &format!("--initial-cluster={five}"), "--initial-cluster-state=existing"],
            &[cluster_flag],
        ),
        // It is not even in the list; it has another address; that is another one's; the list is none.
        (&[&format!("--initial-cluster={more}")], &[cluster_flag]),
        (&["--initial-advertise-peer-urls=http://127.0.0.1:9"], &[advertised]),
        (&["--initial-cluster=n1=http://127.0.0.1:9,n2=http://127.0.0.1:9"], &[cluster_flag]),
        (&["--initial-cluster=none"], &[cluster_flag]),
        (
            &[
                "--initial-cluster=x=https://h",
                "--initial-cluster-token=t",
                "--initial-advertise-peer-urls=http://h:1",
            ],
            &[cluster_flag, token, advertised],
        ),
    ];
    for (flags, differing) in combinations {
        assert!(cluster.members[0].terminate().await.success());
        let before = cluster.members[0].log().len();
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        launch(&mut cluster.members[0], &flags);
        cluster.healthy().await;
        let client = cluster.members[0].client();
        assert_eq!(client.get("k").await.expect("a get").as_deref(), Some("v"), "{flags:?}");
        let now = client.status().await.expect("a status").header.expect("a header");
        assert_eq!((now.cluster_id, now.member_id), (header.cluster_id, header.member_id), "{flags:?}");
        let said = cluster.members[0].log()[before..].to_owned();
        for flag in [cluster_flag, token, advertised] {
            assert_eq!(said.contains(&ignored(flag)), differing.contains(&flag), "{flags:?}: {flag}\n{said}");
        }
        let mut list = tenure();
        list.args(["members", "--endpoints", &cluster.endpoints()]);
        let list = list.output().expect("it starts").stdout;
        let list = String::from_utf8_lossy(&list).into_owned();
        assert!(list.contains(&format!("n1, {url}, ")), "its address is what it was: {list}");
    }
}

#[tokio::test]
async fn members_that_have_begun_and_never_met_find_each_other_by_what_they_were_told_then() {
    let mut cluster = Cluster::of(3, &[]);
    for position in 0..3 {
        cluster.launch(position);
        let has_begun = async || cluster.members[position].log().contains("INFO started").then_some(());
        eventually("it has begun", has_begun).await;
        cluster.members[position].kill();
    }
    for (number, member) in cluster.members.iter_mut().enumerate() {
        launch(member, &[format!("--initial-cluster-token=t{number}")]);
    }
    cluster.healthy().await;
    cluster.members[0].client().put("k", "v").await.expect("a put");
    cluster.assert_equal().await;
}

//! A member loses power, or its process, at every change that it makes to any of its disks, and comes back:
//! nothing acknowledged is lost, nothing panics, and it goes on.

use tenure_raft::Time;
use tenure_replica::{Options, Reply, RequestId};
use tenure_wal::{Crash, MemoryDisk};

use crate::harness::{Cluster, Disks};

fn options() -> Options {
    Options { checkpoint_entries: 8, catch_up_entries: 3, ..Options::default() }
}

/// How a member ends, and what chance decides then.
fn crashes(seeds: u64) -> Vec<(Crash, u64)> {
    let mut crashes: Vec<_> = (0..seeds).map(|seed| (Crash::Power, seed)).collect();
    crashes.push((Crash::Process, 0));
    crashes
}

fn crash(disks: &Disks, (crash, seed): (Crash, u64)) {
    for (number, disk) in disks.all().into_iter().enumerate() {
        disk.crash(crash, seed * 3 + number as u64);
    }
}

type Request = Box<dyn FnOnce(&mut Cluster) -> RequestId>;

/// Every write leaves a key; and of every four, the second leaves another, which the third deletes, and then all
/// history is forgotten.
fn requests(number: u64) -> Vec<Request> {
    let mut requests: Vec<Request> =
        vec![Box::new(move |cluster| cluster.put(1, &format!("key {number}"), "value"))];
    match number % 4 {
        1 => requests.push(Box::new(move |cluster| cluster.put(1, &format!("gone {}", number / 4), "value"))),
        2 => requests.push(Box::new(move |cluster| cluster.delete(1, &format!("gone {}", number / 4)))),
        3 => requests.push(Box::new(|cluster| cluster.compact(1))),
        _ => {}
    }
    requests
}

/// A member alone writes until its disk fails. Returns how many writes were acknowledged.
fn write_alone(cluster: &mut Cluster, writes: u64) -> u64 {
    for number in 0..writes {
        for _ in 0..3_000 {
            if cluster.members.is_empty() || cluster.leader().is_some() {
                break;
            }
            cluster.tick();
        }
        if cluster.members.is_empty() {
            return number;
        }
        for request in requests(number) {
            let request = request(cluster);
            while cluster.members.get(&1).is_some_and(|member| !member.replies.contains_key(&request)) {
                cluster.tick();
            }
            let Some(member) = cluster.members.get_mut(&1) else { return number };
            let reply = member.replies.remove(&request);
            assert!(matches!(reply, Some(Reply::Applied { result: Ok(_), .. })), "{reply:?}");
        }
    }
    writes
}

/// Comes back from `disks`, finds what was acknowledged, and goes on.
fn come_back(disks: &Disks, acknowledged: u64) -> Cluster {
    let mut cluster = Cluster::of(0, options());
    cluster.resize(1);
    cluster.boot(1, disks.clone()).unwrap_or_else(|error| panic!("it starts after a crash: {error}"));
    cluster.await_leader();
    for number in 0..acknowledged {
        let found = cluster.get_versioned(1, &format!("key {number}"));
        assert_eq!(found, Some(("value".to_owned(), 1)), "write {number} of {acknowledged} was acknowledged");
        if number % 4 == 2 {
            assert_eq!(cluster.get(1, &format!("gone {}", number / 4)), None, "it was deleted");
        }
    }
    cluster.members[&1].replica.store().check_invariants();
    let request = cluster.put(1, "afterwards", "value");
    assert!(matches!(cluster.await_reply(1, request), Reply::Applied { .. }));
    cluster
}

/// Cuts at every change of one of the disks. Returns how many files the checkpoints have in the end.
fn cut_everywhere(which: fn(&Disks) -> &MemoryDisk, writes: u64, at_least: u64) -> usize {
    for changes in 0.. {
        let disks = Disks::default();
        which(&disks).fail_power_after(changes);
        let mut cluster = Cluster::of(0, options());
        cluster.resize(1);
        let acknowledged = match cluster.boot(1, disks.clone()) {
            Ok(()) => write_alone(&mut cluster, writes),
            Err(_) => 0,
        };
        let through = !which(&disks).has_power_failed();
        assert!(through == (acknowledged == writes) || !through, "only the power stops a member");
        let segments = if through { cluster.segment_count(1) } else { 0 };
        drop(cluster);
        for how in crashes(4) {
            let disks = disks.fork();
            crash(&disks, how);
            drop(come_back(&disks, acknowledged));
            // What it found and did then is as safe: the second crash is of the power.
            crash(&disks, (Crash::Power, changes));
            come_back(&disks, acknowledged);
        }
        if through {
            assert!(changes >= at_least, "the workload changes the disk often, not only {changes} times");
            return segments;
        }
    }
    unreachable!("the workload ends")
}

#[test]
fn the_power_may_fail_at_every_change_of_the_identity_and_the_pins() {
    cut_everywhere(|disks| &disks.member, 2, 3);
}

#[test]
fn the_power_may_fail_at_every_change_of_the_log() {
    cut_everywhere(|disks| &disks.log, 20, 50);
}

#[test]
fn the_power_may_fail_at_every_change_of_the_checkpoints() {
    let segments = cut_everywhere(|disks| &disks.snap, 40, 30);
    assert!(segments >= 3, "checkpoints have several files, not only {segments}");
}

/// Two members write on without the third, which then is sent a checkpoint and loses its power on the way.
fn behind() -> (Cluster, u64, u64) {
    let mut cluster = Cluster::new(options());
    let leader = cluster.await_leader();
    let behind = leader % 3 + 1;
    cluster.cut_off = Some(behind);
    for number in 0..40 {
        let request = cluster.put(leader, &format!("key {number}"), "value");
        cluster.await_reply(leader, request);
    }
    (cluster, leader, behind)
}

/// Cuts at every change that an installed checkpoint makes to one of the disks.
fn cut_install_everywhere(which: fn(&Disks) -> &MemoryDisk, at_least: u64) {
    for changes in 0.. {
        for how in crashes(2) {
            let (mut cluster, leader, behind) = behind();
            let disks = cluster.members[&behind].disks.clone();
            which(&disks).fail_power_after(changes);
            cluster.cut_off = None;
            let target = cluster.members[&leader].replica.node().log().last().index;
            cluster.run_until("the checkpoint is installed, or the disk fails", |cluster| {
                let member = cluster.members.get(&behind);
                member.is_none_or(|member| member.replica.node().log().last_applied() >= target)
            });
            let through = cluster.members.contains_key(&behind);
            cluster.members.remove(&behind);
            crash(&disks, how);
            cluster.boot(behind, disks).unwrap_or_else(|error| panic!("it starts after a crash: {error}"));
            cluster.assert_equal_states();
            for number in [0, 20, 39] {
                assert_eq!(cluster.get(behind, &format!("key {number}")).as_deref(), Some("value"));
            }
            cluster.restart(behind);
            cluster.assert_equal_states();
            if through && how.0 == Crash::Process {
                assert!(changes >= at_least, "installing changes the disk, not only {changes} times");
                return;
            }
        }
    }
}

#[test]
fn the_power_may_fail_while_a_checkpoint_is_received_and_installed() {
    cut_install_everywhere(|disks| &disks.snap, 10);
}

#[test]
fn the_power_may_fail_while_the_log_is_reset_to_a_checkpoint() {
    cut_install_everywhere(|disks| &disks.log, 2);
}

/// The disks of a member that was alone and has written twice.
fn used_disks() -> Disks {
    let disks = Disks::default();
    let mut cluster = Cluster::of(0, options());
    cluster.resize(1);
    cluster.boot(1, disks.clone()).unwrap();
    assert_eq!(write_alone(&mut cluster, 2), 2);
    disks
}

/// Why a member does not start from these.
fn refusal(disks: Disks) -> String {
    let mut cluster = Cluster::of(0, options());
    cluster.resize(1);
    cluster.boot(1, disks).unwrap_err().to_string()
}

#[test]
fn a_log_that_was_in_use_is_not_taken_over_under_a_new_identity() {
    let disks = used_disks();
    let error = refusal(Disks { member: MemoryDisk::new(), ..disks.fork() });
    assert!(error.contains("identity is missing"), "{error}");
    come_back(&disks, 2);
}

#[test]
fn a_member_whose_log_has_no_segment_left_does_not_start() {
    let disks = used_disks();
    // What is prepared for the segments to come is no log.
    disks.log.place("spare-00000000000000ff", &[]);
    for name in disks.log.names().iter().filter(|name| name.starts_with("segment-")) {
        disks.log.lose(name);
    }
    let error = refusal(disks);
    assert!(error.contains("has no log"), "{error}");
}

#[test]
fn a_time_that_starts_anew_with_the_process_does_no_harm() {
    let disks = Disks::default();
    let mut cluster = Cluster::of(0, options());
    cluster.resize(1);
    cluster.now = Time(1 << 40);
    cluster.boot(1, disks.clone()).unwrap();
    assert_eq!(write_alone(&mut cluster, 5), 5);
    drop(cluster);
    come_back(&disks, 5);
}

//! Disks without room: nobody stops, what needs room is refused before what was kept is touched, and what gives room
//! goes on.

use tenure_replica::{Failure, MemberChange, Options, Reply, RequestId};
use tenure_wal::{Disk, DiskFile, MemoryDisk};

use crate::harness::{Cluster, id};

const VALUE_BYTES: usize = 1000;
const RESERVE_BYTES: u64 = 16 << 10;

fn options() -> Options {
    Options {
        checkpoint_entries: 20,
        catch_up_entries: 5,
        max_checkpoint_delay: 1,
        reserve_bytes: RESERVE_BYTES,
        room_retry_us: 100_000,
        ..Options::default()
    }
}

/// Room for a handful of the log's segments and three small checkpoints.
fn limit(cluster: &Cluster, number: u64) {
    let disks = &cluster.members[&number].disks;
    disks.log.set_capacity_bytes(Some(5 * (16 << 10)));
    disks.snap.set_capacity_bytes(Some(200 << 10));
}

fn free(cluster: &Cluster, number: u64) {
    for disk in cluster.members[&number].disks.all() {
        disk.set_capacity_bytes(None);
    }
}

fn outcome(cluster: &mut Cluster, at: u64, request: RequestId) -> Result<(), Failure> {
    match cluster.await_reply(at, request) {
        Reply::Applied { .. } => Ok(()),
        Reply::Failed(failure) => Err(failure),
        other => panic!("{other:?}"),
    }
}

fn put(cluster: &mut Cluster, at: u64, key: u64) -> Result<(), Failure> {
    let request = cluster.put(at, &format!("key {key}"), &"x".repeat(VALUE_BYTES));
    outcome(cluster, at, request)
}

fn delete(cluster: &mut Cluster, at: u64, key: u64) -> Result<(), Failure> {
    let request = cluster.delete(at, &format!("key {key}"));
    outcome(cluster, at, request)
}

/// Puts until there is no more room; how many were done.
fn fill(cluster: &mut Cluster, at: u64) -> u64 {
    let puts = (0..1000).find(|&key| match put(cluster, at, key) {
        Ok(()) => false,
        Err(failure) => {
            assert_eq!(failure, Failure::NoSpace);
            true
        }
    });
    puts.expect("the disk is not that large")
}

fn wait(cluster: &mut Cluster, milliseconds: u64) {
    (0..milliseconds).for_each(|_| cluster.tick());
}

#[test]
fn members_on_full_disks_read_delete_compact_restart_and_go_on() {
    for size in [1, 3] {
        let mut cluster = Cluster::of(size, options());
        (1..=size).for_each(|number| limit(&cluster, number));
        cluster.await_leader();
        let puts = fill(&mut cluster, 1);
        assert!(puts > 20, "{puts} puts on disks of 200 KiB");
        let leader = cluster.leader().expect("somebody leads");
        let status = cluster.members[&leader].replica.status();
        assert!(status.refuses_puts);
        assert_eq!(cluster.get(1, "key 0"), Some("x".repeat(VALUE_BYTES)), "what is there is read");
        // Each is started again on its full disk, and others elect.
        for number in 1..=size {
            cluster.restart(number);
            cluster.await_leader();
            wait(&mut cluster, 200);
        }
        assert_eq!(put(&mut cluster, 1, 0), Err(Failure::NoSpace), "it was no different then");
        let update = MemberChange::Update { id: id(1), peer_urls: vec!["http://moved".to_owned()] };
        let request = cluster.change_members(size, update, false);
        let reply = cluster.await_reply(size, request);
        assert!(matches!(reply, Reply::Changed { .. }), "members are changed: {reply:?}");
        for key in 0..puts {
            assert_eq!(delete(&mut cluster, 1, key), Ok(()), "key {key} of {puts}");
        }
        let request = cluster.compact(1);
        assert_eq!(outcome(&mut cluster, 1, request), Ok(()));
        cluster.run_until("there is room again", |cluster| {
            cluster.members.values().all(|member| member.replica.status().short.is_empty())
        });
        assert_eq!(put(&mut cluster, 1, 0), Ok(()));
        assert_eq!(cluster.members.len() as u64, size, "nobody has stopped");
        cluster.assert_equal_states();
    }
}

#[test]
fn a_checkpoint_without_room_is_removed_and_taken_when_there_is_some() {
    let mut cluster = Cluster::of(1, options());
    cluster.await_leader();
    (0..15).for_each(|key| assert_eq!(put(&mut cluster, 1, key), Ok(())));
    // Others take all the room, and what was kept as well.
    let disk = cluster.members[&1].disks.snap.clone();
    disk.remove("reserve").expect("room is kept");
    disk.set_capacity_bytes(Some(4096));
    (0..15).for_each(|key| assert_eq!(delete(&mut cluster, 1, key), Ok(())));
    wait(&mut cluster, 2_000);
    assert_eq!(disk.names(), Vec::<String>::new(), "nothing half written is left");
    assert!(cluster.members.contains_key(&1), "it goes on");
    disk.set_capacity_bytes(None);
    cluster.run_until("there is a checkpoint", |cluster| cluster.segment_count(1) > 0);
}

#[test]
fn one_member_without_room_is_borne_and_catches_up_when_it_has_some() {
    let mut cluster = Cluster::new(options());
    let leader = cluster.await_leader();
    let full = leader % 3 + 1;
    limit(&cluster, full);
    (0..300).for_each(|key| assert_eq!(put(&mut cluster, leader, key), Ok(()), "two of three have room"));
    assert!(cluster.members.contains_key(&full), "it does not stop");
    for member in cluster.members.values() {
        let status = member.replica.status();
        assert_eq!((status.short, status.refuses_puts), (vec![id(full)], false));
    }
    free(&cluster, full);
    cluster.run_until("all know that there is room", |cluster| {
        cluster.members.values().all(|member| member.replica.status().short.is_empty())
    });
    cluster.assert_equal_states();
}

#[test]
fn what_is_said_of_a_member_that_is_gone_comes_to_an_end() {
    let mut cluster = Cluster::new(options());
    let leader = cluster.await_leader();
    let [one, other] = [leader % 3 + 1, (leader + 1) % 3 + 1];
    for number in [one, other] {
        limit(&cluster, number);
    }
    fill(&mut cluster, leader);
    // They are replaced, say, by somebody who does not say anything.
    cluster.network = Box::new(|_, _, message| match message {
        tenure_replica::PeerMessage::Room { .. } => 0,
        _ => 1,
    });
    wait(&mut cluster, 1_000);
    assert!(!cluster.members[&leader].replica.status().refuses_puts);
}

/// A leader whose checkpoint has rotted, or cannot be read for once, and a follower that needs it.
fn assert_a_follower_gets_over(spoil: impl Fn(&MemoryDisk)) {
    let mut cluster = Cluster::new(options());
    let leader = cluster.await_leader();
    let behind = leader % 3 + 1;
    cluster.cut_off_for_long(behind);
    (0..100).for_each(|key| assert_eq!(put(&mut cluster, leader, key), Ok(())));
    spoil(&cluster.members[&leader].disks.snap);
    cluster.cut_off = None;
    let mut key = 0;
    while cluster.members[&behind].replica.store().applied_index() < 100 {
        key += 1;
        assert!(key < 500, "it never catches up");
        assert_eq!(put(&mut cluster, leader, key), Ok(()));
        wait(&mut cluster, 20);
    }
    assert_eq!(cluster.members.len(), 3, "nobody has stopped");
    assert_eq!(cluster.leader(), Some(leader));
    cluster.assert_equal_states();
    // It could start from what it has now.
    cluster.restart(leader);
}

fn newest_segment(disk: &MemoryDisk) -> String {
    let names = disk.names();
    names.into_iter().rfind(|name| name.ends_with(".segment")).expect("there is a checkpoint")
}

#[test]
fn a_rotten_checkpoint_is_not_sent_for_ever_but_written_anew() {
    assert_a_follower_gets_over(|disk| {
        for name in disk.names().iter().filter(|name| name.ends_with(".segment")) {
            disk.rot(name, 8 * 300);
        }
    });
}

#[test]
fn a_checkpoint_that_cannot_be_read_for_once_stops_nobody() {
    use tenure_wal::{Fault, FaultKind, Operation};
    for kind in [FaultKind::InputOutput, FaultKind::TooManyFiles] {
        // The first read may be of the room that is kept.
        for after in 0..3 {
            assert_a_follower_gets_over(|disk| {
                disk.inject(Fault { operation: Operation::Read, after: 0, kind });
                let file = disk.open(&newest_segment(disk));
                assert!(file.is_err(), "the first is for the test");
                disk.inject(Fault { operation: Operation::Read, after, kind });
            });
        }
    }
}

#[test]
fn too_many_open_files_while_a_checkpoint_is_taken_stop_nobody() {
    use tenure_wal::{Fault, FaultKind, Operation};
    for operation in [Operation::Create, Operation::Read] {
        for after in 0..6 {
            let mut cluster = Cluster::of(1, options());
            cluster.await_leader();
            wait(&mut cluster, 10);
            let disk = cluster.members[&1].disks.snap.clone();
            disk.inject(Fault { operation, after, kind: FaultKind::TooManyFiles });
            for key in 0..60 {
                if put(&mut cluster, 1, key).is_err() {
                    // Room is kept again as soon as it may be asked for.
                    wait(&mut cluster, 200);
                    assert_eq!(put(&mut cluster, 1, key), Ok(()));
                }
            }
            cluster.run_until("there is a checkpoint", |cluster| cluster.segment_count(1) > 0);
        }
    }
}

#[test]
fn a_short_member_may_not_be_told_to_have_room_by_what_others_take() {
    // The room that is kept is real: whoever fills the disk does not get it.
    let mut cluster = Cluster::of(1, options());
    cluster.await_leader();
    wait(&mut cluster, 10);
    let disk = cluster.members[&1].disks.snap.clone();
    disk.set_capacity_bytes(Some(2 * RESERVE_BYTES + 2 * 1024));
    let mut file = disk.create("of somebody else").expect("a name takes no room");
    let mut taken = 0;
    while file.write_at(taken, &[7; 512]).is_ok() {
        taken += 512;
    }
    assert!(taken < 3 * 1024, "{taken} bytes were to be had");
    (0..12).for_each(|key| assert_eq!(put(&mut cluster, 1, key), Ok(())));
    let _ = fill(&mut cluster, 1);
    (0..30).for_each(|key| assert_eq!(delete(&mut cluster, 1, key), Ok(())));
    cluster.run_until("a checkpoint found room", |cluster| cluster.segment_count(1) > 0);
}

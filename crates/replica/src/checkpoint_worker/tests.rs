//! Checkpoints on a disk that has hardly room for them.

use tenure_raft::{Configuration, Index, Term};
use tenure_store::{Command, PutRequest};
use tenure_wal::{Crash, MemoryDisk};

use super::*;

fn put(store: &mut Store, value: usize) {
    let index = store.applied_index() + 1;
    let key = format!("key{}", index % 7);
    let put = PutRequest { key: key.into(), value: vec![b'v'; value].into(), ..PutRequest::default() };
    store.apply(index, &Command::Put(put)).result.expect("a put");
}

fn take(worker: &mut CheckpointWorker<MemoryDisk>, store: &Store) -> CheckpointDone {
    let last_included = EntryId::new(Index(store.applied_index()), Term(1));
    let snapshot = Snapshot { last_included, configuration: Configuration::default() };
    worker
        .run(CheckpointJob::Take { snapshot, state: Box::new(store.snapshot()), sent: Vec::new() })
        .expect("no fault but a full disk")
}

/// Whatever has to go to make room, what a manifest names stays.
#[test]
fn a_checkpoint_that_there_is_hardly_room_for_is_whole_or_not_there() {
    let mut taken = 0;
    for room in 0..2_000 {
        let disk = MemoryDisk::new();
        let (mut worker, _) = CheckpointWorker::open(disk.clone(), 0).expect("an empty disk");
        let mut store = Store::new();
        for value in [400, 300] {
            put(&mut store, value);
            take(&mut worker, &store);
        }
        disk.set_capacity_bytes(Some(disk.used_bytes() + room));
        put(&mut store, 200);
        let is_taken = matches!(take(&mut worker, &store), CheckpointDone::Taken { .. });
        taken += u64::from(is_taken);
        disk.set_capacity_bytes(None);
        disk.crash(Crash::Power, room);
        let (_, found) = CheckpointWorker::open(disk, 0).expect("whatever was taken can be read");
        let (snapshot, _) = found.expect("there is one");
        assert_eq!(snapshot.last_included.index.0, if is_taken { 3 } else { 2 }, "with {room} bytes");
    }
    assert!((1..2_000).contains(&taken), "both ends were seen: {taken}");
}

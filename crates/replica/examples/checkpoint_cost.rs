//! Measures checkpoints of a state that is large and changes slowly: what is written, how long it takes, what lies
//! on the disk, and how long it takes to read it back.
//!
//! ```text
//! cargo run --release -p tenure-replica --example checkpoint_cost [keys] [folder]
//! ```
#![expect(clippy::disallowed_methods, reason = "it measures time, and uses a real disk")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tenure_raft::{EntryId, Index, Snapshot, Term};
use tenure_replica::{CheckpointDone, CheckpointJob, CheckpointWorker, Options};
use tenure_store::{Command, PutRequest, Store};
use tenure_wal::RealDisk;

const VALUE_BYTES: usize = 100;
const CHECKPOINTS: u64 = 150;
const MIB: f64 = (1 << 20) as f64;

/// The same sequence in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

fn apply(store: &mut Store, command: &Command) {
    let applied = store.apply(store.applied_index() + 1, command);
    assert!(applied.result.is_ok());
}

fn put(store: &mut Store, number: u64) {
    let key = Bytes::from(format!("/registry/item/{number:09}"));
    let value = Bytes::from(vec![number as u8; VALUE_BYTES]);
    apply(store, &Command::Put(PutRequest { key, value, ..PutRequest::default() }));
}

/// One checkpoint: how many files it has, what was written for it, and how long that took.
fn take(worker: &mut CheckpointWorker<RealDisk>, store: &mut Store) -> (usize, u64, Duration) {
    let last_included = EntryId::new(Index(store.applied_index()), Term(1));
    let snapshot = Snapshot { last_included, ..Snapshot::default() };
    let job = CheckpointJob::Take { snapshot, state: Box::new(store.snapshot()), sent: Vec::new() };
    let begun = Instant::now();
    let done = worker.run(job).expect("the disk works");
    let took = begun.elapsed();
    let CheckpointDone::Taken { base_revision, segments, written_bytes, .. } = done else {
        panic!("a checkpoint was asked for")
    };
    store.forget_buried(base_revision);
    (segments, written_bytes, took)
}

fn open(folder: &Path) -> (CheckpointWorker<RealDisk>, Option<Store>) {
    std::fs::create_dir_all(folder).expect("the folder can be made");
    let disk = RealDisk::open(folder).expect("the folder can be opened");
    let opened = CheckpointWorker::open(disk, Options::default().max_dead_checkpoint_bytes);
    let (worker, found) = opened.expect("it can be read");
    (worker, found.map(|(_, store)| store))
}

/// Changes a hundredth of the keys between any two checkpoints; forgets the history before each, if told to.
fn measure(store: &mut Store, keys: u64, folder: &Path, compacts: bool) {
    let (mut worker, _) = open(folder);
    take(&mut worker, store);
    let mut random = Random(1);
    let (mut all_bytes, mut all_time, mut wholes, mut most_files) = (0, Duration::ZERO, 0, 0);
    for number in 1..=CHECKPOINTS {
        for _ in 0..keys / 100 {
            put(store, random.next() % keys);
        }
        if compacts {
            let revision = store.revision();
            apply(store, &Command::Compact { revision, physical: false });
        }
        let (files, written, took) = take(&mut worker, store);
        if number == 1 {
            println!("a hundredth: {:.2} MiB in {:.0} ms", written as f64 / MIB, took.as_secs_f64() * 1e3);
        }
        wholes += u64::from(files == 1);
        most_files = most_files.max(files);
        all_bytes += written;
        all_time += took;
    }
    println!(
        "{CHECKPOINTS} of them: {:.2} MiB and {:.0} ms each on average, {wholes} written anew, {most_files} files at most",
        all_bytes as f64 / MIB / CHECKPOINTS as f64,
        all_time.as_secs_f64() * 1e3 / CHECKPOINTS as f64,
    );
    drop(worker);
    read_back(store, folder);
}

fn measure_whole(store: &mut Store, folder: &Path) {
    let (_, written, took) = take(&mut open(folder).0, store);
    println!("written whole: {:.1} MiB in {:.0} ms", written as f64 / MIB, took.as_secs_f64() * 1e3);
    read_back(store, folder);
}

fn read_back(store: &Store, folder: &Path) {
    let begun = Instant::now();
    let restored = open(folder).1.expect("there is a checkpoint");
    println!("  read back in {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    assert_eq!(restored.state_hash(), store.state_hash());
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let keys = arguments.next().map_or(1_000_000, |keys| keys.parse().expect("a number of keys"));
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    for compacts in [false, true] {
        let folder = folder.join(format!("checkpoint-cost-{}-{compacts}", std::process::id()));
        println!(
            "{keys} keys of {VALUE_BYTES} bytes, history is {}",
            if compacts { "forgotten" } else { "kept" }
        );
        let mut store = Store::new();
        for number in 0..keys {
            put(&mut store, number);
        }
        measure(&mut store, keys, &folder.join("parts"), compacts);
        measure_whole(&mut store, &folder.join("whole"));
        std::fs::remove_dir_all(folder).expect("the folder is ours");
    }
}

//! Measures the store: puts in batches with a snapshot after each and a reader beside them, what a compaction
//! costs, what checkpoints and hashes cost, and reads of the past.
//!
//! ```text
//! cargo run --release -p tenure-store --example apply_rate [keys]
//! ```
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it measures time, and reads on a thread"
)]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tenure_store::checkpoint::{Reader, Writer};
use tenure_store::{Command, DeleteRangeRequest, PutRequest, RangeRequest, Snapshot, Store};

const BATCH: u64 = 100;
const VALUE_BYTES: usize = 256;
const RUN: Duration = Duration::from_secs(5);

/// The same sequence in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("/registry/item/{number:09}"))
}

fn put(number: u64) -> Command {
    let value = Bytes::from(vec![number as u8; VALUE_BYTES]);
    Command::Put(PutRequest { key: key(number), value, ..PutRequest::default() })
}

fn apply(store: &mut Store, command: &Command) {
    let applied = store.apply(store.applied_index() + 1, command);
    assert!(applied.result.is_ok());
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = work();
    println!("{what}: {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    result
}

fn write_with_a_reader(store: &mut Store, keys: u64) {
    let published: Arc<Mutex<Snapshot>> = Arc::new(Mutex::new(store.snapshot()));
    let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let reader = {
        let (published, stop, reads) = (published.clone(), stop.clone(), reads.clone());
        std::thread::spawn(move || {
            let mut random = Random(2);
            while !stop.load(Relaxed) {
                let snapshot = published.lock().expect("no panics").clone();
                let key = key(random.next() % keys);
                let request = RangeRequest { key, ..RangeRequest::default() };
                black_box(snapshot.range(&request).expect("the latest revision"));
                reads.fetch_add(1, Relaxed);
            }
        })
    };
    let mut random = Random(1);
    let mut batches = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < RUN {
        let commands: Vec<Command> = (0..BATCH).map(|_| put(random.next() % keys)).collect();
        let applied = Instant::now();
        for command in &commands {
            apply(store, command);
        }
        let old = std::mem::replace(&mut *published.lock().expect("no panics"), store.snapshot());
        drop(old);
        batches.push(applied.elapsed());
    }
    let seconds = begun.elapsed().as_secs_f64();
    stop.store(true, Relaxed);
    reader.join().expect("no panics");
    batches.sort_unstable();
    let at = |share: f64| batches[((batches.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    println!(
        "puts in batches of {BATCH}, a snapshot after each: {:.0}/s; in apply {:.2} µs a put; batch p50 {:.0} µs, p99 {:.0} µs, max {:.0} µs; beside them {:.0} gets/s",
        batches.len() as f64 * BATCH as f64 / seconds,
        batches.iter().sum::<Duration>().as_secs_f64() * 1e6 / (batches.len() as u64 * BATCH) as f64,
        at(0.5),
        at(0.99),
        at(1.0),
        reads.load(Relaxed) as f64 / seconds,
    );
}

fn measure_reads_of_the_past(store: &mut Store) {
    let first = store.revision() + 1;
    for _ in 0..200_000 {
        apply(store, &put(0));
    }
    let snapshot = store.snapshot();
    for (what, revision) in
        [("latest", 0), ("200,000 changes ago", first), ("100,000 changes ago", first + 100_000)]
    {
        let request = RangeRequest { key: key(0), revision, ..RangeRequest::default() };
        timed(&format!("get of a key as it was {what}"), || snapshot.range(&request).expect("not compacted"));
    }
}

fn measure_compactions(store: &mut Store) {
    let compact_at = |store: &mut Store, revision: i64| {
        let changes = revision - store.compact_revision();
        let left = store.revision() - revision;
        timed(&format!("compaction that drops {changes} revisions and keeps {left}"), || {
            apply(store, &Command::Compact { revision, physical: false });
        });
        let garbage = store.take_garbage();
        timed("  freeing what it dropped, beside apply", || drop(garbage));
    };
    let middle = i64::midpoint(store.compact_revision(), store.revision());
    compact_at(store, middle);
    let latest = store.revision();
    compact_at(store, latest);
}

fn measure_deletes(store: &mut Store, keys: u64) {
    let delete = |store: &mut Store, first: u64, end: u64| {
        timed(&format!("deleting keys {first} to {end} in one request"), || {
            let request = DeleteRangeRequest { key: key(first), range_end: key(end), prev_kv: false };
            apply(store, &Command::DeleteRange(request));
        });
        let garbage = store.take_garbage();
        timed("  freeing what it dropped, beside apply", || drop(garbage));
    };
    delete(store, 0, keys / 5);
    delete(store, keys / 5, keys);
    let revision = store.revision();
    timed("compaction of that", || apply(store, &Command::Compact { revision, physical: false }));
    let garbage = store.take_garbage();
    timed("  freeing what it dropped, beside apply", || drop(garbage));
}

fn measure_checkpoints(store: &Store) {
    let blocks: Vec<Bytes> = timed("checkpoint", || Writer::new(store.snapshot()).collect());
    let mib = blocks.iter().map(Bytes::len).sum::<usize>() >> 20;
    println!("  {} blocks, {mib} MiB", blocks.len());
    let restored = timed("restore", || {
        let mut reader = Reader::new();
        for block in &blocks {
            reader.push(block).expect("as it was written");
        }
        reader.finish().expect("all blocks")
    });
    assert_eq!(restored.state_hash(), store.state_hash());
}

fn main() {
    let keys = std::env::args().nth(1).map_or(1_000_000, |keys| keys.parse().expect("a number of keys"));
    let mut store = Store::new();
    timed(&format!("load of {keys} keys"), || (0..keys).for_each(|number| apply(&mut store, &put(number))));
    timed("1,000,000 puts of random keys, no snapshot", || {
        let mut random = Random(3);
        (0..1_000_000).for_each(|_| apply(&mut store, &put(random.next() % keys)));
    });
    write_with_a_reader(&mut store, keys);
    measure_reads_of_the_past(&mut store);
    timed("snapshot", || black_box(store.snapshot()));
    timed("count of all keys", || {
        let all = Bytes::from_static(b"\0");
        let request =
            RangeRequest { key: all.clone(), range_end: all, count_only: true, ..RangeRequest::default() };
        store.snapshot().range(&request).expect("the latest revision").count
    });
    timed("HashKV", || store.snapshot().hash_kv(0).expect("the latest revision"));
    measure_compactions(&mut store);
    measure_checkpoints(&store);
    measure_deletes(&mut store, keys);
}

//! Measures ordered maps on the store's workload: batches of 100 puts by one writer, a view published after
//! each batch, and readers beside it all the time.
//!
//! Keys of 24 bytes, values of 256, every put a new `Arc` as in the store, a million keys to begin with. Once
//! with a reader of ranges of 100 keys, once with a reader that walks the whole map, as a checkpoint does.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;

const KEYS: u64 = 1_000_000;
const BATCH: u64 = 100;
const RANGE_KEYS: usize = 100;
const VALUE_BYTES: usize = 256;
const RUN: Duration = Duration::from_secs(5);

type Value = Arc<(Bytes, [u64; 6])>;

/// A map with one writer and many readers. `publish` makes the batch visible (if the map has views).
trait Candidate: Send + Sync + 'static {
    fn name(&self) -> &'static str;
    fn load(&self, pairs: Vec<(Bytes, Value)>);
    fn write(&self, batch: Vec<(Bytes, Value)>);
    /// Visits at most `limit` pairs from `from` on, in one consistent view if the map can give one.
    fn read(&self, from: &[u8], limit: usize) -> usize;
}

/// The writer's map and the view that readers take.
struct Imbl(Mutex<imbl::OrdMap<Bytes, Value>>, Mutex<imbl::OrdMap<Bytes, Value>>);

impl Candidate for Imbl {
    fn name(&self) -> &'static str {
        "imbl::OrdMap, a clone per batch"
    }

    fn load(&self, pairs: Vec<(Bytes, Value)>) {
        self.write(pairs);
    }

    fn write(&self, batch: Vec<(Bytes, Value)>) {
        let mut map = self.0.lock().expect("no panics");
        for (key, value) in batch {
            map.insert(key, value);
        }
        let view = map.clone();
        let old = std::mem::replace(&mut *self.1.lock().expect("no panics"), view);
        drop(old);
    }

    fn read(&self, from: &[u8], limit: usize) -> usize {
        let view = self.1.lock().expect("no panics").clone();
        view.range::<_, [u8]>((std::ops::Bound::Included(from), std::ops::Bound::Unbounded)).take(limit).map(|(key, value)| black_box((key, value))).count()
    }
}

/// One counted pointer an entry instead of two, at the price of a look behind it for each comparison.
#[derive(Clone)]
struct ByKey(Arc<(Bytes, Value)>);

impl std::borrow::Borrow<[u8]> for ByKey {
    fn borrow(&self) -> &[u8] {
        &self.0.0
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.0 == other.0.0
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.0.cmp(&other.0.0)
    }
}

struct ImblSet(Mutex<imbl::OrdSet<ByKey>>, Mutex<imbl::OrdSet<ByKey>>);

impl Candidate for ImblSet {
    fn name(&self) -> &'static str {
        "imbl::OrdSet of shared pairs, a clone per batch"
    }

    fn load(&self, pairs: Vec<(Bytes, Value)>) {
        self.write(pairs);
    }

    fn write(&self, batch: Vec<(Bytes, Value)>) {
        let mut set = self.0.lock().expect("no panics");
        for pair in batch {
            set.insert(ByKey(Arc::new(pair)));
        }
        let view = set.clone();
        let old = std::mem::replace(&mut *self.1.lock().expect("no panics"), view);
        drop(old);
    }

    fn read(&self, from: &[u8], limit: usize) -> usize {
        let view = self.1.lock().expect("no panics").clone();
        let range = (std::ops::Bound::Included(from), std::ops::Bound::Unbounded);
        view.range::<_, [u8]>(range).take(limit).map(black_box).count()
    }
}

struct Rpds(Mutex<rpds::RedBlackTreeMapSync<Bytes, Value>>, Mutex<rpds::RedBlackTreeMapSync<Bytes, Value>>);

impl Candidate for Rpds {
    fn name(&self) -> &'static str {
        "rpds::RedBlackTreeMapSync, a clone per batch"
    }

    fn load(&self, pairs: Vec<(Bytes, Value)>) {
        self.write(pairs);
    }

    fn write(&self, batch: Vec<(Bytes, Value)>) {
        let mut map = self.0.lock().expect("no panics");
        for (key, value) in batch {
            map.insert_mut(key, value);
        }
        let view = map.clone();
        let old = std::mem::replace(&mut *self.1.lock().expect("no panics"), view);
        drop(old);
    }

    fn read(&self, from: &[u8], limit: usize) -> usize {
        let view = self.1.lock().expect("no panics").clone();
        let range = (std::ops::Bound::Included(from), std::ops::Bound::Unbounded);
        view.range::<[u8], _>(range).take(limit).map(black_box).count()
    }
}

struct Locked(RwLock<BTreeMap<Bytes, Value>>);

impl Candidate for Locked {
    fn name(&self) -> &'static str {
        "BTreeMap behind a RwLock, held for a batch or a read"
    }

    fn load(&self, pairs: Vec<(Bytes, Value)>) {
        self.write(pairs);
    }

    fn write(&self, batch: Vec<(Bytes, Value)>) {
        let mut map = self.0.write().expect("no panics");
        for (key, value) in batch {
            map.insert(key, value);
        }
    }

    fn read(&self, from: &[u8], limit: usize) -> usize {
        let map = self.0.read().expect("no panics");
        map.range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Unbounded))
            .take(limit)
            .map(black_box)
            .count()
    }
}

struct Skiplist(crossbeam_skiplist::SkipMap<Bytes, Value>);

impl Candidate for Skiplist {
    fn name(&self) -> &'static str {
        "crossbeam_skiplist::SkipMap, no views"
    }

    fn load(&self, pairs: Vec<(Bytes, Value)>) {
        self.write(pairs);
    }

    fn write(&self, batch: Vec<(Bytes, Value)>) {
        for (key, value) in batch {
            self.0.insert(key, value);
        }
    }

    fn read(&self, from: &[u8], limit: usize) -> usize {
        let range = (std::ops::Bound::Included(from), std::ops::Bound::Unbounded);
        self.0.range::<[u8], _>(range).take(limit).map(|entry| black_box(entry).key().len()).count()
    }
}

/// A linear congruential generator; the same sequence in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("/registry/item/{:09}", number % KEYS))
}

fn value(number: u64) -> Value {
    Arc::new((Bytes::from(vec![number as u8; VALUE_BYTES]), [number; 6]))
}

fn measure(candidate: Arc<dyn Candidate>) {
    let loaded = Instant::now();
    candidate.load((0..KEYS).map(|number| (key(number), value(number))).collect());
    println!("{}: loaded in {:.2} s", candidate.name(), loaded.elapsed().as_secs_f64());
    for (reader, limit) in [("none", 0), ("ranges", RANGE_KEYS), ("walks", usize::MAX)] {
        run(&candidate, reader, limit);
    }
}

fn run(candidate: &Arc<dyn Candidate>, reader_name: &str, limit: usize) {
    let stop = Arc::new(AtomicBool::new(false));
    let (reads, pairs) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let reader = (limit > 0).then(|| {
        let (candidate, stop, reads, pairs) = (candidate.clone(), stop.clone(), reads.clone(), pairs.clone());
        std::thread::spawn(move || {
            let mut random = Random(2);
            while !stop.load(Relaxed) {
                let from = if limit == usize::MAX { Bytes::new() } else { key(random.next()) };
                pairs.fetch_add(candidate.read(&from, limit) as u64, Relaxed);
                reads.fetch_add(1, Relaxed);
            }
        })
    });

    let mut random = Random(1);
    let mut batches: Vec<Duration> = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < RUN {
        let batch = (0..BATCH).map(|_| random.next()).map(|number| (key(number), value(number))).collect();
        let written = Instant::now();
        candidate.write(batch);
        batches.push(written.elapsed());
    }
    let seconds = begun.elapsed().as_secs_f64();
    stop.store(true, Relaxed);
    if let Some(reader) = reader {
        reader.join().expect("no panics");
    }

    batches.sort_unstable();
    let at = |share: f64| batches[((batches.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    println!(
        "  reader {reader_name:<6}: {:>9.0} puts/s, batch p50 {:>6.0} µs, p99 {:>6.0} µs, max {:>8.0} µs; {:>9.0} reads/s, {:>10.0} pairs/s",
        batches.len() as f64 * BATCH as f64 / seconds,
        at(0.5),
        at(0.99),
        at(1.0),
        reads.load(Relaxed) as f64 / seconds,
        pairs.load(Relaxed) as f64 / seconds,
    );
}

fn main() {
    measure(Arc::new(Imbl(Mutex::default(), Mutex::default())));
    measure(Arc::new(ImblSet(Mutex::default(), Mutex::default())));
    measure(Arc::new(Rpds(Mutex::default(), Mutex::default())));
    measure(Arc::new(Locked(RwLock::default())));
    measure(Arc::new(Skiplist(crossbeam_skiplist::SkipMap::new())));
}

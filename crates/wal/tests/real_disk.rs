//! The same log on the disk of the operating system.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "these tests look at real files, and one at a clock"
)]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{Model, Op, Pair, SMALL, hard_state, record};
use tenure_wal::{Disk, Options, RealDisk, Wal, WalError};

fn pair(path: &Path, model: Model) -> Pair<RealDisk> {
    let disk = RealDisk::open(path).expect("the directory is free");
    Pair::open(disk, SMALL, model).unwrap_or_else(|(_, error)| panic!("{error}"))
}

#[test]
fn a_log_survives_its_process() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("member").join("log");
    let append =
        |back, data_bytes| Op::Append { back, count: 2, data_bytes, next_term: back > 0, vote: true };
    let ops = [
        append(0, 100),
        Op::Sync,
        append(0, 1500),
        append(3, 900),
        Op::Prepare { max_bytes: 5000 },
        Op::Sync,
        Op::Compact { sixteenths: 8 },
        append(0, 20_000),
        Op::HardState,
        Op::Reset { ahead: 40 },
        append(0, 5),
    ];
    let mut model = Model::default();
    for op in ops {
        let mut pair = pair(&path, model);
        pair.apply(&op).expect("nothing fails");
        pair.model.sync();
        model = pair.model;
    }
}

#[test]
fn a_second_process_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = RealDisk::open(directory.path()).expect("the directory is free");
    let error = RealDisk::open(directory.path()).expect_err("the directory is taken");
    assert!(matches!(&error, WalError::InUse { path } if path == directory.path()));
    assert!(error.to_string().contains("is in use by another process"), "{error}");
    drop(first);
    RealDisk::open(directory.path()).expect("the lock ends with its holder");
}

#[test]
fn the_directory_is_for_this_user_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let disk = RealDisk::open(&path).expect("the directory is free");
    disk.create("file").expect("nothing fails");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&path.join("file")), mode(&path.join("lock"))), (0o700, 0o600, 0o600));
    assert_eq!(disk.list().expect("nothing fails"), ["file"], "the lock is not a file of the log");
}

#[test]
fn a_segment_that_was_moved_away_is_read_through_the_link_in_its_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let mut first = pair(&path, Model::default());
    let append = Op::Append { back: 0, count: 2, data_bytes: 900, next_term: false, vote: true };
    for op in [append.clone(), append.clone(), append] {
        first.apply(&op).expect("nothing fails");
    }
    first.wal.close().expect("nothing fails");
    first.model.sync();
    let (segment, elsewhere) = (path.join("segment-0000000000000001"), directory.path().join("elsewhere"));
    std::fs::rename(&segment, &elsewhere).expect("there");
    std::os::unix::fs::symlink(&elsewhere, &segment).expect("nothing fails");
    std::os::unix::fs::symlink(directory.path(), path.join("segment-0000000000000009"))
        .expect("nothing fails");
    drop(pair(&path, first.model));
    std::fs::remove_file(&elsewhere).expect("there");
    let disk = RealDisk::open(&path).expect("the directory is free");
    let error = Wal::open(disk, SMALL).err().expect("the link leads nowhere");
    assert!(error.to_string().contains("cannot open"), "{error}");
}

#[test]
fn a_directory_that_cannot_be_is_an_error_with_its_path() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("file"), b"").expect("nothing fails");
    let error =
        RealDisk::open(directory.path().join("file").join("log")).expect_err("a file is no directory");
    assert!(error.to_string().contains("file/log"), "{error}");
}

#[test]
fn segments_have_their_full_size_from_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options { segment_bytes: 3 << 20, ..SMALL };
    let disk = RealDisk::open(directory.path()).expect("the directory is free");
    let (_wal, _) = Wal::open(disk, options).expect("nothing fails");
    let metadata = std::fs::metadata(directory.path().join("segment-0000000000000001")).expect("there");
    assert_eq!(metadata.len(), 3 << 20);
    let blocks = std::os::unix::fs::MetadataExt::blocks(&metadata);
    assert!(blocks * 512 >= 3 << 20, "the space is taken, not only promised: {blocks} blocks");
}

/// `cargo test -p tenure-wal --release --test real_disk -- --ignored --nocapture`
#[test]
#[ignore = "prints figures of this machine's disk; TMPDIR chooses which disk"]
fn figures_of_append_and_sync() {
    for (entries, data_bytes) in [(1, 256), (64, 256), (256, 256), (1, 1 << 20)] {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = RealDisk::open(directory.path()).expect("the directory is free");
        let (mut wal, _) = Wal::open(disk, Options::default()).expect("nothing fails");
        wal.append(Some(hard_state(1, 1)), &[]).expect("nothing fails");
        let rounds = 200;
        let mut times = Vec::new();
        for _ in 0..rounds {
            let first_index = wal.last().index + 1;
            let data = vec![7; data_bytes];
            let batch: Vec<_> =
                (0..entries).map(|place| record(first_index + place, 1, data.clone())).collect();
            let start = std::time::Instant::now();
            wal.append(None, &batch).expect("nothing fails");
            wal.sync().expect("nothing fails");
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let total: std::time::Duration = times.iter().sum();
        println!(
            "{entries:>4} entries of {data_bytes:>7} bytes: median {:>8.1?}, 99% {:>8.1?}, {:>9.0} entries/s",
            times[rounds / 2],
            times[rounds * 99 / 100],
            (entries * rounds as u64) as f64 / total.as_secs_f64(),
        );
        drop(wal);
        let disk = RealDisk::open(directory.path()).expect("the directory is free");
        let start = std::time::Instant::now();
        let (_, recovered) = Wal::open(disk, Options::default()).expect("sound");
        println!("     opened with {} entries in {:?}", recovered.entries.len(), start.elapsed());
    }
}

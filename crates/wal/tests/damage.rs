//! Bytes that are not what was written: flipped, moved, lost, old, forged, or not ours at all. What a later
//! record vouches for is never lost silently, and nothing that is read can make the log panic.

mod common;

use common::{Contents, Model, Op, Pair, SMALL, hard_state, record};
use proptest::prelude::*;
use tenure_wal::{Crash, Disk, DiskFile, MemoryDisk, Options, Wal, WalError};

const HEADER_BYTES: usize = 4096;

fn segment(sequence: u64) -> String {
    format!("segment-{sequence:016x}")
}

fn segments(disk: &MemoryDisk) -> Vec<String> {
    let names = disk.list().expect("nothing fails");
    names.into_iter().filter(|name| name.starts_with("segment-")).collect()
}

fn append(data_bytes: usize) -> Op {
    Op::Append { back: 0, count: 2, data_bytes, next_term: false, vote: false }
}

fn open(disk: &MemoryDisk) -> Result<Contents, WalError> {
    Wal::open(disk.clone(), SMALL).map(|(_, recovered)| recovered.into())
}

fn pair(disk: &MemoryDisk) -> Pair<MemoryDisk> {
    Pair::open(disk.clone(), SMALL, Model::default()).unwrap_or_else(|(_, error)| panic!("{error}"))
}

/// A log of three segments, closed in good order; the offsets at which the records of the last one end.
fn small_log() -> (MemoryDisk, Contents) {
    let disk = MemoryDisk::new();
    let mut pair = pair(&disk);
    for op in
        [append(900), Op::Sync, append(700), append(800), Op::Sync, append(1500), append(100), Op::HardState]
    {
        pair.apply(&op).expect("nothing fails");
    }
    pair.wal.close().expect("nothing fails");
    assert_eq!(segments(&disk).len(), 3);
    (disk, pair.model.now().clone())
}

/// Where the written part of a file ends, up to the padding of the last record.
fn written_bytes(disk: &MemoryDisk, name: &str) -> usize {
    let content = disk.content(name).expect("the file is there");
    content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

#[test]
fn any_flipped_byte_of_a_closed_log_is_noticed() {
    let (disk, state) = small_log();
    let names = segments(&disk);
    let mut harmless = 0;
    for name in &names {
        let written = written_bytes(&disk, name);
        for offset in 0..written {
            let disk = disk.fork();
            disk.flip(name, offset, 1 << (offset % 8));
            match open(&disk) {
                Err(WalError::Corrupt { segment, .. }) => assert_eq!(segment.to_str(), Some(&name[..])),
                Err(WalError::UnsupportedVersion { .. }) => assert!((8..12).contains(&offset)),
                Err(error) => panic!("byte {offset} of {name}: {error}"),
                // The last record says nothing but that all others were synced, or that another segment
                // follows, which is there.
                Ok(found) => {
                    assert_eq!(found, state, "byte {offset} of {name}");
                    assert!(offset >= written - 88, "byte {offset} of {name}");
                    harmless += 1;
                }
            }
        }
    }
    assert!(
        harmless <= 88 * names.len(),
        "only the bytes of the last records may change unnoticed: {harmless}"
    );
}

#[test]
fn a_flip_in_the_last_record_cannot_be_told_from_a_torn_write() {
    let disk = MemoryDisk::new();
    let mut pair = pair(&disk);
    pair.apply(&append(100)).expect("nothing fails");
    pair.apply(&Op::Sync).expect("nothing fails");
    let before = pair.model.now().clone();
    pair.apply(&append(100)).expect("nothing fails");
    pair.apply(&Op::Sync).expect("nothing fails");
    let last_byte = written_bytes(&disk, &segment(1)) - 1;
    let flipped = disk.fork();
    flipped.flip(&segment(1), last_byte, 0x10);
    let (_, recovered) = Wal::open(flipped, SMALL).expect("it looks like a torn tail");
    assert!(recovered.torn_tail.is_some());
    assert_eq!(Contents::from(recovered), before);
    // One record more, and it is damage.
    pair.apply(&append(1)).expect("nothing fails");
    disk.flip(&segment(1), last_byte, 0x10);
    assert!(matches!(open(&disk), Err(WalError::Corrupt { .. })));
}

#[test]
fn any_flipped_byte_that_a_durable_record_vouches_for_is_noticed() {
    let disk = MemoryDisk::new();
    let mut pair = pair(&disk);
    for op in [append(900), Op::Sync, append(700), append(800), Op::Sync, append(100), Op::Sync, append(50)] {
        pair.apply(&op).expect("nothing fails");
    }
    let name = segments(&disk).pop().expect("there is a segment");
    let vouched = pair.wal.vouched_bytes() as usize;
    disk.crash(Crash::Power, 7);
    assert!(vouched > HEADER_BYTES && vouched < written_bytes(&disk, &name));
    for offset in 0..vouched {
        let disk = disk.fork();
        disk.flip(&name, offset, 1 << (offset % 8));
        let refused = open(&disk).expect_err("a durable record vouches for it");
        assert!(
            matches!(refused, WalError::Corrupt { .. } | WalError::UnsupportedVersion { .. }),
            "{offset}"
        );
    }
}

#[test]
fn opening_vouches_for_all_that_it_found() {
    let disk = MemoryDisk::new();
    let mut pair = pair(&disk);
    pair.apply(&append(100)).expect("nothing fails");
    disk.crash(Crash::Process, 0);
    let last_byte = written_bytes(&disk, &segment(1)) - 1;
    let (_, recovered) = Wal::open(disk.clone(), SMALL).expect("nothing is damaged");
    assert_eq!(Contents::from(recovered), *pair.model.now());
    disk.flip(&segment(1), last_byte, 1);
    assert!(matches!(open(&disk), Err(WalError::Corrupt { .. })));
}

#[test]
fn damage_is_reported_with_file_offset_and_what_to_do_and_changes_nothing() {
    let (disk, _) = small_log();
    disk.flip(&segment(2), HEADER_BYTES + 100, 1);
    let before: Vec<_> = segments(&disk).iter().map(|name| disk.content(name)).collect();
    let changes = disk.change_count();
    let text = open(&disk).expect_err("the log is damaged").to_string();
    assert!(text.starts_with("segment-0000000000000002 is damaged at byte 4096: "), "{text}");
    assert!(text.contains("remove the member from the cluster and add it as a new one"), "{text}");
    assert_eq!(disk.change_count(), changes);
    assert_eq!(segments(&disk).iter().map(|name| disk.content(name)).collect::<Vec<_>>(), before);
}

#[test]
fn damage_found_while_reading_is_reported() {
    let (disk, state) = small_log();
    let (wal, _) = Wal::open(disk.clone(), SMALL).expect("the log is sound");
    disk.flip(&segment(1), HEADER_BYTES + 88 + 88 + 20, 1);
    let error = wal.read(1, 1, 1000).expect_err("the entry is damaged");
    assert!(matches!(error, WalError::Corrupt { .. }));
    assert!(wal.read(state.last().index, state.last().index, 0).is_ok(), "the others are not");
}

#[test]
fn a_record_at_the_wrong_place_is_not_believed() {
    let (disk, _) = small_log();
    let name = segment(3);
    let written = written_bytes(&disk, &name).next_multiple_of(8);
    // The last record was written a second time, behind itself.
    let last = disk.content(&name).expect("there")[written - 88..written].to_vec();
    let mut file = disk.open(&name).expect("there");
    file.write_at(written as u64, &last).expect("nothing fails");
    file.sync().expect("nothing fails");
    let misdirected = open(&disk).expect("the copy is ignored");
    assert_eq!(misdirected, small_log().1);
    // A segment under the name of another is damage, even if it is the only one.
    let (disk, _) = small_log();
    disk.rename(&segment(1), &segment(7)).expect("there");
    disk.remove(&segment(2)).expect("there");
    disk.remove(&segment(3)).expect("there");
    let text = open(&disk).expect_err("it is not segment 7").to_string();
    assert!(text.contains("it holds the header of segment 1"), "{text}");
    // So is a copy of another.
    let (disk, _) = small_log();
    disk.place(&segment(2), &disk.content(&segment(1)).expect("there"));
    assert!(matches!(open(&disk), Err(WalError::Corrupt { .. })));
    // So is one of another log, that differs in nothing but its salt.
    let other = MemoryDisk::new();
    let (wal, _) = Wal::open(other.clone(), Options { salt: 1, ..SMALL }).expect("nothing fails");
    wal.close().expect("nothing fails");
    let (disk, _) = small_log();
    disk.place(&segment(4), &other.content(&segment(1)).expect("there"));
    assert!(matches!(open(&disk), Err(WalError::Corrupt { .. })));
}

#[test]
fn a_segment_that_is_missing_or_shortened_is_noticed() {
    for (missing, is_noticed) in [(1, false), (2, true), (3, true)] {
        let (disk, _) = small_log();
        disk.remove(&segment(missing)).expect("there");
        // Without its oldest segment a log looks like one that was compacted; the caller, who knows what
        // its checkpoint covers, must compare (ADR 4).
        assert_eq!(open(&disk).is_err(), is_noticed, "segment {missing}");
    }
    for len in [0, 100, HEADER_BYTES, HEADER_BYTES + 1000] {
        let (disk, _) = small_log();
        let content = disk.content(&segment(3)).expect("there");
        disk.place(&segment(3), &content[..len]);
        assert!(matches!(open(&disk), Err(WalError::Corrupt { .. })), "{len} bytes left");
    }
}

#[test]
fn a_format_of_the_future_is_refused() {
    let (disk, _) = small_log();
    disk.flip(&segment(1), 8, 0x03);
    let error = open(&disk).expect_err("nobody knows version 2");
    assert!(matches!(error, WalError::UnsupportedVersion { found: 2, supported: 1, .. }), "{error}");
    assert!(error.to_string().contains("start the version of Tenure that wrote it, or a later one"));
}

#[test]
fn a_segment_header_that_nobody_can_have_written_is_refused() {
    let disk = MemoryDisk::new();
    drop(pair(&disk));
    let sound = disk.content(&segment(1)).expect("there")[..HEADER_BYTES].to_vec();
    let (epoch, last_index, last_term) = (40, 56, 64);
    for (field, value) in [(epoch, u64::MAX), (last_index, u64::MAX), (last_term, 1)] {
        let mut block = sound.clone();
        block[field..field + 8].copy_from_slice(&value.to_le_bytes());
        let salt = crc32c::crc32c(&SMALL.salt.to_le_bytes());
        let checksum = crc32c::crc32c_append(salt, &block[..HEADER_BYTES - 4]);
        block[HEADER_BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
        block.resize(2 * HEADER_BYTES, 0);
        disk.place(&segment(1), &block);
        let error = open(&disk).expect_err("the checksum fits, but not the content");
        assert!(matches!(error, WalError::Corrupt { offset: 0, .. }), "byte {field}: {error}");
    }
}

/// The records of a log of one segment, as bytes.
fn records_of(options: Options, data: &[u8]) -> Vec<u8> {
    let disk = MemoryDisk::new();
    let (mut wal, _) = Wal::open(disk.clone(), options).expect("nothing fails");
    wal.append(Some(hard_state(1, 0)), &[record(1, 1, data.to_vec())]).expect("nothing fails");
    wal.sync().expect("nothing fails");
    wal.close().expect("nothing fails");
    disk.content(&segment(1)).expect("there")[HEADER_BYTES..].to_vec()
}

#[test]
fn a_value_cannot_pose_as_a_record() {
    // Whoever knows the format and the salt can put a record of their own into a value, such that it lies
    // where a record may lie and claims that everything before it had been synced.
    let data_offset = 2 * 88 + 16;
    let forge = |options| {
        let padded = records_of(options, &[0; 400]);
        // The last record of such a log stands behind 400 bytes of data. Make the data hold it.
        let end = (data_offset + 400_usize).next_multiple_of(8);
        (end, padded[end..end + 88].to_vec())
    };
    let guess = Options { salt: 7, ..SMALL };
    for (forger, is_believed) in [(SMALL, true), (guess, false)] {
        let (end, forged) = forge(forger);
        let disk = MemoryDisk::new();
        let (mut wal, _) = Wal::open(disk.clone(), SMALL).expect("nothing fails");
        let mut data = vec![0; 800];
        data[end - data_offset..end - data_offset + 88].copy_from_slice(&forged);
        wal.append(Some(hard_state(1, 0)), &[record(1, 1, data)]).expect("nothing fails");
        // The write is torn: its first sector never arrives.
        let mut first_sector = true;
        disk.crash_choosing(Crash::Power, &mut |bound| {
            if std::mem::take(&mut first_sector) { 0 } else { bound - 1 }
        });
        assert_eq!(open(&disk).is_err(), is_believed, "the salt is what keeps a forger out");
    }
}

#[test]
fn what_was_cut_off_never_comes_back() {
    let disk = MemoryDisk::new();
    let mut first = pair(&disk);
    for data_bytes in [100, 400, 400, 400] {
        first.apply(&append(data_bytes)).expect("nothing fails");
    }
    // Of the four the first is lost; the others stand on the disk, sound but cut off.
    let mut place = 0;
    disk.crash_choosing(Crash::Power, &mut |bound| {
        place += 1;
        if place == 1 { 0 } else { bound - 1 }
    });
    let (mut wal, recovered) = Wal::open(disk.clone(), SMALL).expect("a torn tail");
    assert_eq!(recovered.entries.len(), 0);
    assert!(recovered.torn_tail.expect("three records are left").bytes_cut > 2500);
    // The same entries come again, so that record for record lies where it lay.
    for entry in &first.model.now().entries[..2] {
        wal.append(Some(hard_state(1, 0)), std::slice::from_ref(entry)).expect("nothing fails");
        wal.sync().expect("nothing fails");
        disk.crash(Crash::Power, 1);
        let (reopened, recovered) = Wal::open(disk.clone(), SMALL).expect("nothing is damaged");
        assert_eq!(recovered.entries.last(), Some(entry));
        assert_eq!(recovered.torn_tail, None);
        wal = reopened;
    }
}

#[test]
fn a_sound_record_behind_the_cut_is_not_read_on_from_a_new_one() {
    let disk = MemoryDisk::new();
    let (mut wal, _) = Wal::open(disk.clone(), SMALL).expect("nothing fails");
    wal.append(Some(hard_state(1, 0)), &[record(1, 1, vec![1; 1088])]).expect("nothing fails");
    wal.append(None, &[record(2, 1, vec![2; 100])]).expect("nothing fails");
    // The first is lost with its first sector, the second stays.
    let mut sector = 0;
    disk.crash_choosing(Crash::Power, &mut |bound| {
        sector += 1;
        if sector == 1 { 0 } else { bound - 1 }
    });
    let (mut wal, recovered) = Wal::open(disk.clone(), SMALL).expect("a torn tail");
    assert_eq!(recovered.entries.len(), 0);
    // Opening has taken 88 bytes, so this record ends exactly where the one that was cut off begins.
    let entry = record(1, 1, vec![1; 1000]);
    wal.append(Some(hard_state(1, 0)), std::slice::from_ref(&entry)).expect("nothing fails");
    drop(wal);
    disk.crash(Crash::Process, 0);
    let (_, recovered) = Wal::open(disk, SMALL).expect("the old record is no damage");
    assert_eq!(recovered.entries, [entry]);
}

#[test]
fn a_record_exchanged_for_another_of_the_same_place_is_noticed() {
    // Two futures of one disk. In each a record is written at the same place, and one after it.
    let disk = MemoryDisk::new();
    let (wal, _) = Wal::open(disk.clone(), SMALL).expect("nothing fails");
    drop(wal);
    disk.crash(Crash::Process, 0);
    let write = |disk: &MemoryDisk, byte: u8| {
        let (mut wal, _) = Wal::open(disk.clone(), SMALL).expect("nothing fails");
        wal.append(Some(hard_state(1, 0)), &[record(1, 1, vec![byte; 300])]).expect("nothing fails");
        wal.append(None, &[record(2, 1, vec![byte; 300])]).expect("nothing fails");
        disk.content(&segment(1)).expect("there")
    };
    let (one, other) = (write(&disk.fork(), 1), write(&disk.fork(), 2));
    // Two openings, then the first record; nothing vouches for it yet but the record after it.
    let first_record = HEADER_BYTES + 2 * 88..HEADER_BYTES + 2 * 88 + 408;
    let mut mixed = one.clone();
    mixed[first_record.clone()].copy_from_slice(&other[first_record]);
    assert!(mixed != one && mixed != other);
    disk.place(&segment(1), &mixed);
    let text = open(&disk).expect_err("the second does not follow the first").to_string();
    assert!(text.contains("the record does not continue the one before it"), "{text}");
}

#[test]
fn a_segment_exchanged_for_another_of_the_same_place_is_noticed() {
    let write = |byte: u8| {
        let disk = MemoryDisk::new();
        let (mut wal, _) = Wal::open(disk.clone(), SMALL).expect("nothing fails");
        wal.append(Some(hard_state(1, 0)), &[record(1, 1, vec![byte; 3000])]).expect("nothing fails");
        wal.append(None, &[record(2, 1, vec![byte; 3000])]).expect("nothing fails");
        wal.close().expect("nothing fails");
        disk
    };
    let (one, other) = (write(1), write(2));
    one.place(&segment(2), &other.content(&segment(2)).expect("there"));
    let text = open(&one).expect_err("the second does not follow the first").to_string();
    assert!(text.contains("its header does not continue the segment before it"), "{text}");
}

/// Overwrites a stretch of a file, durably, and opens the log. It must be refused or whole, unless the
/// stretch takes the last record with it, after which nothing bears witness any more.
fn scribble(which: usize, offset: usize, noise: &[u8]) -> Result<(), TestCaseError> {
    let (disk, state) = small_log();
    let name = &segments(&disk)[which];
    let last_record = written_bytes(&disk, name).next_multiple_of(8) - 88;
    let mut content = disk.content(name).expect("there");
    let end = content.len().min(offset + noise.len());
    content[offset..end].copy_from_slice(&noise[..end - offset]);
    disk.place(name, &content);
    let takes_the_witness = which == 2 && offset < last_record && end > last_record;
    if let Ok(found) = open(&disk)
        && found != state
    {
        prop_assert!(takes_the_witness, "entries were lost without a word");
        prop_assert!(state.entries.starts_with(&found.entries), "what is left are the oldest entries");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise_never_panics_nor_loses_anything_silently(
        which in 0..3usize,
        offset in 0..8192usize,
        noise in prop::collection::vec(any::<u8>(), 1..3000),
    ) {
        scribble(which, offset, &noise)?;
    }

    #[test]
    fn sectors_of_zeros_are_noticed(which in 0..3usize, sector in 0..16usize, count in 1..8usize) {
        scribble(which, sector * 512, &vec![0; count * 512])?;
    }

    #[test]
    fn a_file_of_any_content_is_refused(content in prop::collection::vec(any::<u8>(), 0..9000)) {
        let disk = MemoryDisk::new();
        disk.place(&segment(1), &content);
        prop_assert!(open(&disk).is_err());
    }
}

#[test]
fn names_that_are_not_ours_are_left_alone() {
    let (disk, state) = small_log();
    for name in [
        "lost+found",
        "segment-1",
        "segment-000000000000000G",
        "segment-ffffffffffffffff",
        "spare-x",
        "NOTES",
    ] {
        disk.place(name, b"keep me");
    }
    assert_eq!(open(&disk).expect("nothing of this is a segment"), state);
    assert_eq!(disk.content("NOTES").as_deref(), Some(&b"keep me"[..]));
}

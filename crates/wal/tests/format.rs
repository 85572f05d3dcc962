//! The bytes are those of `docs/log-format.md`: a log is written, and read here with the tables in hand.

mod common;

use common::{SMALL, hard_state, record};
use tenure_wal::{MemoryDisk, Options, Position, Wal};

const SALT: u64 = 0x0123_4567_89ab_cdef;

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn crc(bytes: &[u8]) -> u64 {
    u64::from(crc32c::crc32c(&[&SALT.to_le_bytes(), bytes].concat()))
}

/// Numbers that follow each other, of the sizes that a table gives.
fn fields(mut bytes: &[u8], sizes: &[usize]) -> Vec<u64> {
    let mut numbers = Vec::new();
    for size in sizes {
        let (field, rest) = bytes.split_at(*size);
        numbers.push(number(field));
        bytes = rest;
    }
    numbers
}

struct ReadRecord {
    chain: u64,
    kind: u64,
    /// hard state present, segment, offset, epoch, synced offset, term, vote, index, term, entry count
    fields: Vec<u64>,
    checksum: u64,
    body: Vec<u8>,
}

fn read_record(file: &[u8], offset: usize) -> ReadRecord {
    let sizes = [4, 4, 4, 1, 1, 2, 8, 8, 8, 8, 8, 8, 8, 8, 4, 4];
    let numbers = fields(&file[offset..], &sizes);
    let length = numbers[2] as usize;
    assert_eq!(length % 8, 0);
    let body = file[offset + 88..offset + length].to_vec();
    assert_eq!(numbers[0], crc(&body), "body checksum");
    assert_eq!(numbers[15], crc(&file[offset..offset + 84]), "header checksum");
    assert_eq!(numbers[5], 0);
    let fields = [&numbers[4..5], &numbers[6..15]].concat();
    ReadRecord { chain: numbers[1], kind: numbers[3], fields, checksum: numbers[15], body }
}

fn read_segment_header(file: &[u8]) -> (Vec<u64>, u64) {
    assert_eq!(&file[..8], b"TenurLog");
    assert!(file[96..4092].iter().all(|byte| *byte == 0));
    let checksum = number(&file[4092..4096]);
    assert_eq!(checksum, crc(&file[..4092]));
    (fields(&file[8..], &[4, 4, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8]), checksum)
}

#[test]
fn a_log_is_written_as_documented() {
    let disk = MemoryDisk::new();
    let (mut wal, _) = Wal::open(disk.clone(), Options { salt: SALT, ..SMALL }).expect("nothing fails");
    let entries = [record(1, 6, "abc"), record(2, 7, "")];
    wal.append(Some(hard_state(7, 3)), &entries).expect("nothing fails");
    wal.sync().expect("nothing fails");
    wal.compact(Position { index: 1, term: 6 }).expect("nothing fails");
    wal.append(None, &[record(3, 7, vec![9; 3800])]).expect("it goes to the next segment");
    wal.reset(Position { index: 5, term: 7 }).expect("nothing fails");
    let first = disk.content("spare-0000000000000001").expect("the first segment was freed");
    let second = disk.content("segment-0000000000000002").expect("there");

    let (header, checksum) = read_segment_header(&first);
    assert_eq!(header, [1, 0, SALT, 1, 8192, 0, 0, 0, 0, 0, 0, 0]);
    let open = read_record(&first, 4096);
    assert_eq!((open.kind, open.chain), (1, checksum));
    assert_eq!(open.fields, [0, 1, 4096, 1, 4096, 0, 0, 0, 0, 0]);
    let append = read_record(&first, 4184);
    assert_eq!((append.kind, append.chain), (2, open.checksum));
    assert_eq!(append.fields, [1, 1, 4184, 1, 4184, 7, 3, 0, 0, 2]);
    assert_eq!(fields(&append.body, &[8, 4, 1, 3]), [6, 3, 1, 0]);
    assert_eq!(&append.body[16..19], b"abc");
    assert_eq!(fields(&append.body[19..], &[8, 4, 1, 3, 5]), [7, 0, 2, 0, 0]);
    let compact = read_record(&first, 4312);
    assert_eq!((compact.kind, compact.chain), (3, append.checksum));
    assert_eq!(compact.fields, [1, 1, 4312, 1, 4312, 7, 3, 1, 6, 0]);
    let full = read_record(&first, 4400);
    assert_eq!((full.kind, full.chain), (5, compact.checksum));
    assert_eq!(full.fields, [1, 1, 4400, 1, 4400, 7, 3, 2, 7, 0]);

    let (header, checksum) = read_segment_header(&second);
    assert_eq!(header, [1, compact.checksum, SALT, 2, 8192, 1, 4400, 2, 7, 7, 3, 1]);
    let append = read_record(&second, 4096);
    assert_eq!((append.kind, append.chain), (2, checksum));
    assert_eq!(append.fields, [1, 2, 4096, 1, 4096, 7, 3, 2, 7, 1]);
    let reset = read_record(&second, 4096 + (88 + 16 + 3800_usize).next_multiple_of(8));
    assert_eq!((reset.kind, reset.chain), (4, append.checksum));
    assert_eq!(reset.fields, [1, 2, 8000, 1, 4096, 7, 3, 5, 7, 0]);
}

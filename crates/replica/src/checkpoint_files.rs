//! How the files of checkpoints are called, and how they are read.

use std::io;

use tenure_raft::{EntryId, Index, Term};
use tenure_store::checkpoint::{CheckpointError, Reader};
use tenure_wal::DiskFile;

pub(crate) const SEGMENT_SUFFIX: &str = ".segment";
pub(crate) const MANIFEST_SUFFIX: &str = ".manifest";
/// How much is read at a time.
const READ_BYTES: usize = 256 << 10;

/// `index-term`, in hexadecimal digits that sort like the numbers.
pub(crate) fn name_of(id: EntryId) -> String {
    format!("{:016x}-{:016x}", id.index.0, id.term.0)
}

pub(crate) fn segment_name(id: EntryId) -> String {
    name_of(id) + SEGMENT_SUFFIX
}

pub(crate) fn manifest_name(id: EntryId) -> String {
    name_of(id) + MANIFEST_SUFFIX
}

/// What a file of this kind stands for; none if it is no such file.
pub(crate) fn id_of(name: &str, suffix: &str) -> Option<EntryId> {
    let name = name.strip_suffix(suffix)?;
    let (index, term) = name.split_once('-')?;
    let id =
        EntryId::new(Index(u64::from_str_radix(index, 16).ok()?), Term(u64::from_str_radix(term, 16).ok()?));
    (name_of(id) == name).then_some(id)
}

pub(crate) fn age(id: &EntryId) -> (Index, Term) {
    (id.index, id.term)
}

pub(crate) fn read_exact<F: DiskFile>(file: &F, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(offset + filled as u64, &mut bytes[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(bytes)
}

/// Gives a segment's bytes to the reader. Answers their checksum, or what the reader had against them.
pub(crate) fn read_segment<F: DiskFile>(
    file: &F,
    len: u64,
    reader: &mut Reader,
) -> io::Result<Result<u32, CheckpointError>> {
    let mut checksum = 0;
    let mut offset = 0;
    while offset < len {
        let bytes = read_exact(file, offset, (len - offset).min(READ_BYTES as u64) as usize)?;
        checksum = crc32c::crc32c_append(checksum, &bytes);
        offset += bytes.len() as u64;
        if let Err(error) = reader.push(&bytes) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(checksum))
}

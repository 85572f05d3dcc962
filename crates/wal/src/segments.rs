//! The files of the log: which there are, how a new one comes into use and an old one goes out of it.
//!
//! A live segment is called `segment-` and its sequence number; a file kept for reuse `spare-` and any
//! number. A file gets its header while it is still a spare, and is renamed when that header is durable: so
//! a segment whose header does not hold is damaged, never half made.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::disk::{Disk, DiskFile, is_full, lacks_room, read_exact_at};
use crate::error::WalError;
use crate::format::{BadHeader, FORMAT_VERSION, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::types::Options;

const SEGMENT_PREFIX: &str = "segment-";
const SPARE_PREFIX: &str = "spare-";
/// The length of a segment is a multiple of this.
const BLOCK_BYTES: u64 = 4096;

/// No number in a name is larger, so that one may be added to any.
const MAX_NUMBER: u64 = u64::MAX >> 1;

/// A file that holds a part of the log.
pub(crate) struct Segment<F> {
    pub(crate) file: F,
    pub(crate) len_bytes: u64,
}

/// All files of the log.
pub(crate) struct Segments<D: Disk> {
    disk: D,
    live: BTreeMap<u64, Segment<D::File>>,
    spares: BTreeSet<u64>,
    segment_bytes: u64,
    max_spares: usize,
    /// Nothing more can be done now for the next segment: a spare is ready, or there was no room for one. Asked
    /// whenever the disk is idle, so not of the disk.
    is_prepared: bool,
    /// The last attempt to have a spare found no room for it.
    lacks_room: bool,
}

impl<D: Disk> Segments<D> {
    /// Opens what there is. Files with other names are left alone.
    pub(crate) fn open(disk: D, options: &Options) -> Result<Self, WalError> {
        let segment_bytes = options.segment_bytes.max(2 * BLOCK_BYTES).next_multiple_of(BLOCK_BYTES);
        let mut segments = Self {
            disk,
            live: BTreeMap::new(),
            spares: BTreeSet::new(),
            segment_bytes,
            max_spares: options.max_spares,
            is_prepared: false,
            lacks_room: false,
        };
        for name in segments.disk.list().map_err(|source| segments.io("list", "", source))? {
            if let Some(sequence) = parse_name(&name, SEGMENT_PREFIX) {
                let segment =
                    segments.open_segment(&name).map_err(|source| segments.io("open", &name, source))?;
                segments.live.insert(sequence, segment);
            } else if let Some(number) = parse_name(&name, SPARE_PREFIX) {
                segments.spares.insert(number);
            }
        }
        Ok(segments)
    }

    /// Whether there is a segment on this disk.
    pub(crate) fn any(disk: &D) -> Result<bool, WalError> {
        let names =
            disk.list().map_err(|source| WalError::Io { op: "list", path: disk.path_of("."), source })?;
        Ok(names.iter().any(|name| parse_name(name, SEGMENT_PREFIX).is_some()))
    }

    /// Removes all spares from this disk. Answers whether there were any.
    pub(crate) fn remove_spares(disk: &D) -> Result<bool, WalError> {
        let io = |op, name: &str, source| WalError::Io { op, path: disk.path_of(name), source };
        let mut names = disk.list().map_err(|source| io("list", "", source))?;
        names.retain(|name| parse_name(name, SPARE_PREFIX).is_some());
        for name in &names {
            disk.remove(name).map_err(|source| io("remove", name, source))?;
        }
        Ok(!names.is_empty())
    }

    fn open_segment(&self, name: &str) -> io::Result<Segment<D::File>> {
        let file = self.disk.open(name)?;
        let len_bytes = file.len_bytes()?;
        Ok(Segment { file, len_bytes })
    }

    pub(crate) fn sequences(&self) -> impl Iterator<Item = u64> {
        self.live.keys().copied()
    }

    pub(crate) fn oldest(&self) -> Option<u64> {
        self.live.keys().next().copied()
    }

    pub(crate) fn newest(&self) -> Option<u64> {
        self.live.keys().next_back().copied()
    }

    /// A segment that is known to be live.
    pub(crate) fn segment(&self, sequence: u64) -> &Segment<D::File> {
        &self.live[&sequence]
    }

    /// The same, to write to.
    pub(crate) fn segment_mut(&mut self, sequence: u64) -> &mut Segment<D::File> {
        self.live.get_mut(&sequence).expect("only live segments are written to")
    }

    /// How much the live segments and the spares take, as far as spares have their full size.
    pub(crate) fn size_bytes(&self) -> u64 {
        let live: u64 = self.live.values().map(|segment| segment.len_bytes).sum();
        live + self.spares.len() as u64 * self.segment_bytes
    }

    /// The header of a live segment and its checksum.
    pub(crate) fn header(&self, sequence: u64) -> Result<(SegmentHeader, u32), WalError> {
        let segment = self.segment(sequence);
        if segment.len_bytes < SEGMENT_HEADER_BYTES as u64 {
            return Err(self.corrupt(sequence, 0, "the file is too short for a segment header"));
        }
        let mut block = [0; SEGMENT_HEADER_BYTES];
        read_exact_at(&segment.file, 0, &mut block)
            .map_err(|source| self.segment_io("read", sequence, source))?;
        match SegmentHeader::parse(&block) {
            Ok((header, _)) if header.sequence != sequence => {
                Err(self.corrupt(sequence, 0, format!("it holds the header of segment {}", header.sequence)))
            }
            Ok((header, _)) if header.len_bytes != segment.len_bytes => {
                let why =
                    format!("the file is {} bytes long and was {}", segment.len_bytes, header.len_bytes);
                Err(self.corrupt(sequence, segment.len_bytes.min(header.len_bytes), why))
            }
            Ok(header) => Ok(header),
            Err(BadHeader::Damaged(why)) => Err(self.corrupt(sequence, 0, why)),
            Err(BadHeader::Version(found)) => {
                let segment = self.disk.path_of(&segment_name(sequence));
                Err(WalError::UnsupportedVersion { segment, found, supported: FORMAT_VERSION })
            }
        }
    }

    /// Begins a segment that has room for `needed_bytes` of records, with this header but for the length,
    /// and returns the header's checksum. When this returns, the segment and its name are durable.
    pub(crate) fn begin(&mut self, header: SegmentHeader, needed_bytes: u64) -> Result<u32, WalError> {
        let needed_bytes = (SEGMENT_HEADER_BYTES as u64 + needed_bytes).next_multiple_of(BLOCK_BYTES);
        let (number, file) = self.ensure_spare(needed_bytes.max(self.segment_bytes), u64::MAX)?;
        self.is_prepared = false;
        let (spare, name) = (spare_name(number), segment_name(header.sequence));
        let len_bytes = file.len_bytes().map_err(|source| self.io("open", &spare, source))?;
        let mut segment = Segment { file, len_bytes };
        let (block, checksum) = SegmentHeader { len_bytes: segment.len_bytes, ..header }.encode();
        segment.file.write_at(0, &block).map_err(|source| self.io("write", &spare, source))?;
        segment.file.sync().map_err(|source| self.io("sync", &spare, source))?;
        self.disk.rename(&spare, &name).map_err(|source| self.io("rename", &spare, source))?;
        self.sync_directory()?;
        self.spares.remove(&number);
        self.live.insert(header.sequence, segment);
        Ok(checksum)
    }

    /// Does up to `max_bytes` of the work that the next segment will need; says whether all is done that can be.
    pub(crate) fn prepare(&mut self, max_bytes: u64) -> Result<bool, WalError> {
        if self.is_prepared {
            return Ok(true);
        }
        let (number, file) = match self.ensure_spare(self.segment_bytes, max_bytes) {
            Ok(spare) => spare,
            // There may be room again before it is needed, and in the segment in use there still is. To try
            // before anything has changed would fill the disk up again and again.
            Err(WalError::NoSpace { .. }) => {
                self.is_prepared = true;
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        let len_bytes = file.len_bytes().map_err(|source| self.io("open", &spare_name(number), source))?;
        self.is_prepared = len_bytes >= self.segment_bytes;
        Ok(self.is_prepared)
    }

    /// Whether there was no room for the next segment when it was last tried.
    pub(crate) fn lacks_room(&self) -> bool {
        self.lacks_room
    }

    /// What was tried in vain may be tried again: something may have changed.
    pub(crate) fn try_again(&mut self) {
        if self.lacks_room {
            self.is_prepared = false;
        }
    }

    /// Gives back the room of all spares but the one for the next segment.
    pub(crate) fn give_up_spares(&mut self) -> Result<(), WalError> {
        let mut kept = None;
        for &number in &self.spares {
            let name = spare_name(number);
            let spare = self.open_segment(&name).map_err(|source| self.io("open", &name, source))?;
            // One that was in use is ready; another may still be in preparation.
            if kept.is_none_or(|(_, len_bytes)| spare.len_bytes > len_bytes) {
                kept = Some((number, spare.len_bytes));
            }
        }
        for number in std::mem::take(&mut self.spares) {
            if kept.is_some_and(|(kept, _)| kept == number) {
                self.spares.insert(number);
                continue;
            }
            let name = spare_name(number);
            self.disk.remove(&name).map_err(|source| self.io("remove", &name, source))?;
        }
        Ok(())
    }

    /// A spare of at least `len_bytes`, for which it may be lengthened by `max_growth_bytes`.
    fn ensure_spare(&mut self, len_bytes: u64, max_growth_bytes: u64) -> Result<(u64, D::File), WalError> {
        let number = self.spares.first().copied().unwrap_or(1);
        let name = spare_name(number);
        let source = match self.lengthen_spare(number, &name, len_bytes, max_growth_bytes) {
            Ok(file) => {
                self.lacks_room = false;
                return Ok((number, file));
            }
            Err((_, source)) if lacks_room(&source) => source,
            Err((op, source)) => return Err(self.io(op, &name, source)),
        };
        // Give back what was taken. If that fails as well, the file stays behind as a short spare, which is
        // lengthened when its turn comes. One that can only not be opened now is as good as it was.
        if is_full(&source) && self.disk.remove(&name).is_ok() {
            self.spares.remove(&number);
        }
        self.is_prepared = false;
        self.lacks_room = true;
        Err(WalError::NoSpace { path: self.disk.path_of(&name), needed_bytes: len_bytes, source })
    }

    fn lengthen_spare(
        &mut self,
        number: u64,
        name: &str,
        len_bytes: u64,
        max_growth_bytes: u64,
    ) -> Result<D::File, (&'static str, io::Error)> {
        let failed = |op| move |source| (op, source);
        let mut file = if self.spares.contains(&number) {
            self.disk.open(name).map_err(failed("open"))?
        } else {
            let file = self.disk.create(name).map_err(failed("create"))?;
            self.spares.insert(number);
            file
        };
        let old_bytes = file.len_bytes().map_err(failed("open"))?;
        if old_bytes < len_bytes {
            // All of it before the first of it is filled: who is told that there is too little has taken nothing from
            // others meanwhile (a checkpoint, say, that is being written).
            file.reserve(len_bytes).map_err(failed("reserve room for"))?;
            let filled_bytes = len_bytes.min(old_bytes.saturating_add(max_growth_bytes));
            file.allocate(filled_bytes).map_err(failed("allocate"))?;
            // Not for safety, which `begin` sees to, but so that its sync has little left to write.
            file.sync().map_err(failed("sync"))?;
        }
        Ok(file)
    }

    /// Takes the oldest segment out of use.
    pub(crate) fn retire_oldest(&mut self) -> Result<(), WalError> {
        let (sequence, segment) = self.live.pop_first().expect("only a live segment is retired");
        assert!(!self.live.is_empty(), "the newest segment stays");
        (self.is_prepared, self.lacks_room) = (false, false);
        let name = segment_name(sequence);
        if segment.len_bytes == self.segment_bytes && self.spares.len() < self.max_spares {
            let number = self.spares.last().map_or(1, |newest| newest + 1);
            self.disk
                .rename(&name, &spare_name(number))
                .map_err(|source| self.io("rename", &name, source))?;
            self.spares.insert(number);
        } else {
            self.disk.remove(&name).map_err(|source| self.io("remove", &name, source))?;
        }
        // One at a time: segments must vanish from the old end, or a gap would be found after a crash.
        self.sync_directory()
    }

    pub(crate) fn sync_directory(&self) -> Result<(), WalError> {
        self.disk.sync_directory().map_err(|source| self.io("sync directory", "", source))
    }

    pub(crate) fn corrupt(&self, sequence: u64, offset: u64, why: impl Into<String>) -> WalError {
        WalError::Corrupt { segment: self.disk.path_of(&segment_name(sequence)), offset, why: why.into() }
    }

    pub(crate) fn segment_io(&self, op: &'static str, sequence: u64, source: io::Error) -> WalError {
        self.io(op, &segment_name(sequence), source)
    }

    pub(crate) fn segment_path(&self, sequence: u64) -> std::path::PathBuf {
        self.disk.path_of(&segment_name(sequence))
    }

    fn io(&self, op: &'static str, name: &str, source: io::Error) -> WalError {
        WalError::Io { op, path: self.disk.path_of(name), source }
    }
}

fn segment_name(sequence: u64) -> String {
    format!("{SEGMENT_PREFIX}{sequence:016x}")
}

fn spare_name(number: u64) -> String {
    format!("{SPARE_PREFIX}{number:016x}")
}

fn parse_name(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    // Only the one spelling that we write: no other sign, case or length.
    (number <= MAX_NUMBER && format!("{number:016x}") == digits).then_some(number)
}

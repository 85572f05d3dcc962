//! Reading a segment from front to back without a system call for each record.

use std::io;

use crate::disk::{DiskFile, read_exact_at};

/// How much is read at once.
const WINDOW_BYTES: u64 = 1 << 20;

/// A window that moves over a file.
pub(crate) struct SegmentReader<'a, F> {
    file: &'a F,
    len_bytes: u64,
    start: u64,
    window: Vec<u8>,
}

impl<'a, F: DiskFile> SegmentReader<'a, F> {
    pub(crate) fn new(file: &'a F, len_bytes: u64) -> Self {
        Self { file, len_bytes, start: 0, window: Vec::new() }
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// `count` bytes at `offset`, or `None` if the file does not reach that far.
    pub(crate) fn bytes(&mut self, offset: u64, count: usize) -> io::Result<Option<&[u8]>> {
        let Some(end) = offset.checked_add(count as u64).filter(|end| *end <= self.len_bytes) else {
            return Ok(None);
        };
        if offset < self.start || end > self.start + self.window.len() as u64 {
            let size = WINDOW_BYTES.max(count as u64).min(self.len_bytes - offset);
            // Nothing may be believed of a window that could only be read in part.
            self.window.clear();
            self.window.resize(size as usize, 0);
            self.start = offset;
            read_exact_at(self.file, offset, &mut self.window)?;
        }
        let from = (offset - self.start) as usize;
        Ok(Some(&self.window[from..from + count]))
    }
}

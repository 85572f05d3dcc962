//! What the log weighs up to where, to keep so many bytes of it and no more.
//!
//! One mark for some number of bytes is enough: what is kept of a log is rounded to whole marks, never to more than
//! was asked for.

use std::collections::VecDeque;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mark {
    index: u64,
    /// What the log up to there weighs, from some beginning on.
    bytes: u64,
}

/// The weight of the applied part of the log.
#[derive(Debug)]
pub(crate) struct LogWeight {
    marks: VecDeque<Mark>,
    /// The last entry that is weighed, and all up to there.
    last: Mark,
    mark_bytes: u64,
}

impl LogWeight {
    /// A log that begins behind `start`, weighed to the nearest `mark_bytes`.
    pub(crate) fn new(start: u64, mark_bytes: u64) -> LogWeight {
        let last = Mark { index: start, bytes: 0 };
        LogWeight { marks: VecDeque::from([last]), last, mark_bytes }
    }

    /// The log has grown up to `index`, by so many bytes.
    pub(crate) fn add(&mut self, index: u64, bytes: u64) {
        self.last = Mark { index, bytes: self.last.bytes + bytes };
        let marked_bytes = self.marks.back().map_or(0, |mark| mark.bytes);
        if self.last.bytes - marked_bytes >= self.mark_bytes {
            self.marks.push_back(self.last);
        }
    }

    /// The lowest index behind which the log up to `covered` weighs no more than `max_bytes`, as far as is known.
    pub(crate) fn start_of(&self, covered: u64, max_bytes: u64) -> u64 {
        let above = self.marks.partition_point(|mark| mark.index <= covered);
        let Some(below) = above.checked_sub(1).map(|at| self.marks[at]) else { return covered };
        let most_bytes = if below.index == covered { 0 } else { self.mark_bytes };
        let end_bytes = below.bytes + most_bytes;
        let light = self.marks.partition_point(|mark| mark.bytes.saturating_add(max_bytes) < end_bytes);
        self.marks.get(light).map_or(covered, |mark| mark.index.min(covered))
    }

    /// The log begins behind `start` now.
    pub(crate) fn forget_through(&mut self, start: u64) {
        while self.marks.len() > 1 && self.marks[1].index <= start {
            self.marks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries of one byte from 1 on, and every hundredth of a thousand.
    fn log(entries: u64) -> LogWeight {
        let mut weight = LogWeight::new(0, 10);
        (1..=entries).for_each(|index| weight.add(index, bytes_of(index)));
        weight
    }

    fn bytes_of(index: u64) -> u64 {
        if index.is_multiple_of(100) { 1_000 } else { 1 }
    }

    #[test]
    fn what_is_kept_weighs_no_more_than_asked_for_and_little_less() {
        let weight = log(1_000);
        for covered in [1, 99, 100, 101, 555, 1_000] {
            for max_bytes in [0, 1, 50, 999, 1_500, 4_000, 1_000_000] {
                let start = weight.start_of(covered, max_bytes);
                assert!(start <= covered);
                let kept: u64 = (start + 1..=covered).map(bytes_of).sum();
                assert!(kept <= max_bytes, "{kept} of {max_bytes} bytes behind {start}, up to {covered}");
                let more: u64 = (start.saturating_sub(21) + 1..=covered).map(bytes_of).sum();
                assert!(start == 0 || more + 20 > max_bytes, "{kept} of {max_bytes} bytes behind {start}");
            }
        }
    }

    #[test]
    fn what_was_forgotten_is_not_kept() {
        let mut weight = log(1_000);
        weight.forget_through(700);
        assert!((690..=700).contains(&weight.start_of(1_000, u64::MAX)));
        assert_eq!(weight.start_of(1_000, 0), 1_000);
        assert!(weight.marks.len() < 40);
    }

    #[test]
    fn a_log_without_entries_begins_where_it_ends() {
        let weight = LogWeight::new(7, 10);
        assert_eq!(weight.start_of(7, u64::MAX), 7);
        assert_eq!(weight.start_of(7, 0), 7);
    }
}

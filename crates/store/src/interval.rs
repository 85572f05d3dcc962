//! The keys that a request names.

use std::ops::Bound;

/// A set of keys that follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interval<'a> {
    /// One key.
    Point(&'a [u8]),
    /// The keys from the first on and before the second. Empty if they are the wrong way round.
    Span(&'a [u8], &'a [u8]),
    /// The keys from this one on.
    From(&'a [u8]),
}

impl<'a> Interval<'a> {
    /// Reads a key and a range end as etcd does everywhere: no end is the key alone, a zero byte is no bound.
    pub(crate) fn parse(key: &'a [u8], range_end: &'a [u8]) -> Self {
        match range_end {
            [] => Self::Point(key),
            [0] => Self::From(key),
            end => Self::Span(key, end),
        }
    }

    pub(crate) fn start(&self) -> &'a [u8] {
        match self {
            Self::Point(start) | Self::Span(start, _) | Self::From(start) => start,
        }
    }

    /// For a map's `range`, which must not be asked for a range whose end lies before its start.
    pub(crate) fn bounds(&self) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
        let end = match self {
            Self::Point(only) => Bound::Included(*only),
            Self::Span(start, end) => Bound::Excluded(*end.max(start)),
            Self::From(_) => Bound::Unbounded,
        };
        (Bound::Included(self.start()), end)
    }
}

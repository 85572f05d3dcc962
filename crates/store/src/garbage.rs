//! What nobody needs any more, and takes a while to free.

use std::fmt;

use crate::state::State;

/// Memory that goes when this is dropped, which may be done on any thread. A hundred thousand records take some tens of
/// milliseconds.
pub struct Garbage {
    _before: State,
}

impl Garbage {
    /// The state as it was before it lost something.
    pub(crate) fn new(before: State) -> Self {
        Self { _before: before }
    }
}

impl fmt::Debug for Garbage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Garbage")
    }
}

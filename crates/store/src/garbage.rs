//! What nobody needs any more, and takes a while to free.

use std::any::Any;
use std::fmt;

/// Memory that goes when this is dropped, which may be done on any thread. A hundred thousand records take some tens of
/// milliseconds.
pub struct Garbage {
    _unused: Vec<Box<dyn Any + Send>>,
}

impl Garbage {
    pub(crate) fn new(unused: Vec<Box<dyn Any + Send>>) -> Self {
        Self { _unused: unused }
    }
}

impl fmt::Debug for Garbage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Garbage").finish_non_exhaustive()
    }
}

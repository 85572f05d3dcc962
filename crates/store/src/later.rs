//! A read within a transaction that is done when somebody wants its answer.
//!
//! A transaction sees what it has written itself, so each of its reads belongs to the state at its place. A clone of
//! that costs a few counters, whereas the answer may be larger than the state: a list of all keys 127 times is a request
//! of five kilobytes. So large reads are put off, and done where they hold up nobody.

use std::fmt;
use std::sync::Arc;

use crate::range::{self, Extent};
use crate::state::State;
use crate::{Budget, RangeRequest, Selection};

/// A read that is still to be done.
#[derive(Clone)]
pub struct Later {
    state: Arc<State>,
    /// The latest revision as the transaction sees it.
    revision: i64,
    request: RangeRequest,
}

impl Later {
    /// The revisions of the request must have been checked.
    pub(crate) fn new(state: Arc<State>, revision: i64, request: RangeRequest) -> Self {
        Self { state, revision, request }
    }

    /// Does it.
    pub fn select(&self) -> Selection {
        let selection =
            range::select(&self.state, self.revision, &self.request, Extent::Whole, Budget::UNLIMITED);
        let selection = selection.expect("revisions were checked before any write");
        selection.expect("without a limit nothing is given up")
    }
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Later");
        shown.field("revision", &self.revision).field("request", &self.request).finish_non_exhaustive()
    }
}

/// Equal if they answer the same.
impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        self.select().into_response() == other.select().into_response()
    }
}

impl Eq for Later {}

//! The judges of what clients were told. Each looks at the same history in its own way, and cites what it judges by.

mod changes;
mod order;
mod sequential;

use crate::history::Operation;

/// Something that must not have happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Violation {
    /// Whose verdict it is.
    pub(crate) judge: &'static str,
    pub(crate) what: String,
    /// A page that shows it.
    pub(crate) picture: Option<String>,
}

impl Violation {
    pub(crate) fn new(judge: &'static str, what: String) -> Violation {
        Violation { judge, what, picture: None }
    }
}

/// Judges whole groups: all operations of each, in the order of their ids.
pub(crate) fn judge(operations: &[Operation]) -> Result<(), Violation> {
    order::judge(operations)?;
    changes::judge(operations)?;
    sequential::judge(operations)
}

#[cfg(test)]
mod tests;

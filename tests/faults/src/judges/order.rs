//! Revisions in real time: what has been answered is before what begins then (strict serializability), and
//! revisions are the order. So an answer shows no revision older than any that somebody was told before the
//! question was asked, and a write makes a newer one.
//!
//! A serializable read may be old. But one member does not go backwards while its process lives: it has applied
//! what it has answered for.

use std::collections::BTreeMap;

use super::Violation;
use crate::history::Operation;

const JUDGE: &str = "revisions follow real time";

pub(super) fn judge(operations: &[Operation]) -> Result<(), Violation> {
    // A client uses a connection for one operation after the other, so their ids are in order.
    let mut shown: BTreeMap<u64, &Operation> = BTreeMap::new();
    for operation in operations {
        let Some(answer) = operation.answer() else { continue };
        let floor = operation.floor + i64::from(answer.wrote);
        if operation.is_linearizable && answer.revision < floor {
            let what = format!("the revision must be {floor} or later: {operation}");
            return Err(Violation::new(JUDGE, what));
        }
        let before = shown.insert(operation.asker.connection, operation);
        let shown_before = before.and_then(Operation::answer).map_or(0, |answer| answer.revision);
        if answer.revision < shown_before {
            let before = before.map(ToString::to_string).unwrap_or_default();
            let what = format!("one process went backwards:\n  {before}\n  {operation}");
            return Err(Violation::new(JUDGE, what));
        }
    }
    Ok(())
}

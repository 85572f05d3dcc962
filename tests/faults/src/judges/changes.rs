//! Each revision is one change, the same for everybody, for ever.
//!
//! From all answers together follows which operation made which revision, and what it left in its keys. No two
//! operations share one, no operation has two (it would have been done twice), nobody sees what was refused, or what
//! nobody has asked for yet; and whoever shows a key at a revision shows the newest change that is known of it up to
//! there. All this holds of serializable reads as well (state machine safety, paper §5.4.3, as clients can see it).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included};

use super::Violation;
use crate::history::{Answer, Operation, Outcome, Pair};

const JUDGE: &str = "each revision is one change";

/// A key: its group, and its number there.
type Key = (u32, u8);

#[derive(Default)]
struct Changes<'h> {
    by_id: BTreeMap<u64, &'h Operation>,
    /// Which operation made a revision.
    writers: BTreeMap<i64, u64>,
    /// Which revision an operation made.
    revisions: BTreeMap<u64, i64>,
    /// What was in a key from a revision on.
    pairs: BTreeMap<(Key, i64), Pair>,
    /// When each key changed.
    changed: BTreeMap<Key, BTreeSet<i64>>,
}

pub(super) fn judge(operations: &[Operation]) -> Result<(), Violation> {
    let mut changes = Changes {
        by_id: operations.iter().map(|operation| (operation.id, operation)).collect(),
        ..Changes::default()
    };
    let mut learn = || -> Result<(), String> {
        for operation in operations {
            changes.learn(operation).map_err(|why| format!("{why}: {operation}"))?;
        }
        for operation in operations {
            changes.check_views(operation).map_err(|why| format!("{why}: {operation}"))?;
        }
        Ok(())
    };
    learn().map_err(|what| Violation::new(JUDGE, what))
}

impl<'h> Changes<'h> {
    /// Takes in what an operation was told.
    fn learn(&mut self, operation: &'h Operation) -> Result<(), String> {
        let Outcome::Answered { answer, at_us } = &operation.outcome else { return Ok(()) };
        if answer.wrote {
            self.learn_writer(answer.revision, operation.id)?;
            for seen in &answer.seen {
                // A range deletes what is there; what else it names stays absent.
                if operation.ask.puts(seen.key) || seen.pair.is_some() {
                    self.changed.entry((operation.group, seen.key)).or_default().insert(answer.revision);
                }
            }
        }
        for seen in &answer.seen {
            let Some(pair) = seen.pair else { continue };
            self.learn_pair((operation.group, seen.key), pair, *at_us)?;
        }
        Ok(())
    }

    fn learn_writer(&mut self, revision: i64, id: u64) -> Result<(), String> {
        let known = *self.writers.entry(revision).or_insert(id);
        if known != id {
            return Err(format!("revision {revision} was made by op {known} and by op {id}"));
        }
        let known = *self.revisions.entry(id).or_insert(revision);
        if known != revision {
            return Err(format!("op {id} was done at revision {known} and at {revision}"));
        }
        Ok(())
    }

    fn learn_pair(&mut self, key: Key, pair: Pair, at_us: u64) -> Result<(), String> {
        let Pair { writer, create_revision, mod_revision, version } = pair;
        let Some(by) = self.by_id.get(&writer) else {
            return Err(format!("nobody of this group has written op {writer}"));
        };
        if by.group != key.0 || !by.ask.puts(key.1) || by.called_us > at_us {
            return Err(format!("op {writer} did not write this key by then"));
        }
        if by.outcome == Outcome::Refused {
            return Err(format!("op {writer} was refused, and is seen"));
        }
        let is_first = create_revision == mod_revision;
        if version < 1 || create_revision > mod_revision || is_first != (version == 1) {
            return Err(format!("no pair can be {pair}"));
        }
        self.learn_writer(mod_revision, writer)?;
        self.changed.entry(key).or_default().insert(mod_revision);
        let known = *self.pairs.entry((key, mod_revision)).or_insert(pair);
        if known == pair { Ok(()) } else { Err(format!("once it was {known}, and once {pair}")) }
    }

    /// What was shown is the newest that is known up to its revision.
    fn check_views(&self, operation: &Operation) -> Result<(), String> {
        let Some(Answer { revision, wrote, seen }) = operation.answer() else { return Ok(()) };
        // What a write shows is what was there before.
        let at = revision - i64::from(*wrote);
        for seen in seen {
            let Some(pair) = seen.pair else { continue };
            let shown = pair.mod_revision;
            if shown > at {
                return Err(format!("revision {at} shows what was written at {shown}"));
            }
            let changed = self.changed.get(&(operation.group, seen.key));
            let newer = changed.and_then(|changed| changed.range((Excluded(shown), Included(at))).next());
            if let Some(newer) = newer {
                let writer = self.writers.get(newer);
                return Err(format!(
                    "key {} at revision {at} shows {pair}, and was changed at {newer} by op {writer:?}",
                    seen.key
                ));
            }
        }
        Ok(())
    }
}

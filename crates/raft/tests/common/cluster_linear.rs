//! Whether what clients saw of one key is linearizable: every operation seems to happen at one instant
//! between its call and its answer (SOURCES L1). A plain search over all orders that time allows.

use std::collections::BTreeSet;

use super::{Answer, Moment, Operation};

/// What a client did to the key.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Action {
    Put(String),
    Get(String),
}

/// An operation with the times it lies between; one without an end may have happened at any later time, or
/// never.
#[derive(Clone, Debug)]
struct Span {
    called: Moment,
    returned: Option<Moment>,
    action: Action,
}

/// Whether some order explains what was seen of `key`, of which at most 64 operations are told.
pub(crate) fn is_linearizable(operations: &[Operation], key: &str) -> bool {
    let spans: Vec<Span> = operations.iter().filter_map(|operation| span(operation, key)).collect();
    assert!(spans.len() <= 64, "the search is for short histories");
    search(&spans, 0, "", &mut BTreeSet::new())
}

fn span(operation: &Operation, key: &str) -> Option<Span> {
    let words: Vec<&str> = operation.command.splitn(3, ' ').collect();
    if words.get(1) != Some(&key) {
        return None;
    }
    let called = operation.called;
    match (words[0], &operation.answered) {
        ("put", Some((at, Answer::Done(_)))) => {
            Some(Span { called, returned: Some(*at), action: Action::Put(words[2].to_owned()) })
        }
        ("put", Some((_, Answer::Unknown)) | None) => {
            Some(Span { called, returned: None, action: Action::Put(words[2].to_owned()) })
        }
        ("get", Some((at, Answer::Done(value)))) => {
            Some(Span { called, returned: Some(*at), action: Action::Get(value.clone()) })
        }
        _ => None,
    }
}

/// Tries every operation that may come next after those in `done`, a set of bits.
fn search(spans: &[Span], done: u64, value: &str, seen: &mut BTreeSet<(u64, String)>) -> bool {
    let open = || spans.iter().enumerate().filter(|(position, _)| done & (1 << position) == 0);
    let Some(first_return) = open().filter_map(|(_, span)| span.returned).min() else {
        return true;
    };
    if !seen.insert((done, value.to_owned())) {
        return false;
    }
    open().filter(|(_, span)| span.called <= first_return).any(|(position, span)| {
        let done = done | (1 << position);
        match &span.action {
            Action::Put(new) => search(spans, done, new, seen),
            Action::Get(got) => got == value && search(spans, done, value, seen),
        }
    })
}

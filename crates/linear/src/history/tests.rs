//! What a history refuses.

use super::*;

#[test]
fn an_id_is_not_given_again_after_its_operation_was_withdrawn() {
    let mut history: History<&str, ()> = History::new();
    let first = history.invoke(1, "a", 0);
    history.withdraw(first);
    let second = history.invoke(1, "b", 0);
    assert_ne!(first, second);
    let left: Vec<OpId> = history.operations().map(|(id, _)| id).collect();
    assert_eq!(left, [second]);
}

#[test]
#[should_panic(expected = "#0 is answered once")]
fn a_second_answer_is_refused() {
    let mut history = History::new();
    let id = history.invoke(1, "a", 0);
    history.complete(id, (), 1);
    history.complete(id, (), 2);
}

#[test]
#[should_panic(expected = "#0 is answered at 4, before its call at 5")]
fn an_answer_before_the_call_is_refused() {
    let mut history = History::new();
    let id = history.invoke(1, "a", 5);
    history.complete(id, (), 4);
}

#[test]
#[should_panic(expected = "#0 was answered, so it has happened")]
fn what_was_answered_is_not_withdrawn() {
    let mut history = History::new();
    let id = history.invoke(1, "a", 0);
    history.complete(id, (), 1);
    history.withdraw(id);
}

//! What gathers, merges and leaves.

use bytes::Bytes;
use tenure_raft::{AppendReply, EntryId, Index, Message, NodeId, Payload, Term};

use super::*;

fn entry(index: u64, term: u64) -> Entry {
    Entry { id: EntryId::new(Index(index), Term(term)), payload: Payload::Command(Bytes::from_static(b"x")) }
}

fn hard_state(term: u64) -> HardState {
    HardState { current_term: Term(term), voted_for: None }
}

fn accepted(term: u64, index: u64) -> Envelope {
    let message = Message::AppendEntriesReply(AppendReply::Accepted { match_index: Index(index) });
    Envelope { from: NodeId::new(1).unwrap(), to: NodeId::new(2).unwrap(), term: Term(term), message }
}

fn token(attempt: u64) -> WriteToken {
    WriteToken { attempt, last: EntryId::ZERO }
}

fn write(job: Option<LogJob>) -> (Option<HardState>, Vec<EntryId>, WriteToken) {
    let Some(LogJob::Write { hard_state, entries, token }) = job else { panic!("a write, not {job:?}") };
    (hard_state, entries.iter().map(|entry| entry.id).collect(), token)
}

fn ids(places: &[(u64, u64)]) -> Vec<EntryId> {
    places.iter().map(|&(index, term)| EntryId::new(Index(index), Term(term))).collect()
}

#[test]
fn what_gathers_behind_a_write_goes_into_the_next_one_whole() {
    let mut queue = LogQueue::default();
    assert!(queue.is_idle());
    queue.push(Some(hard_state(1)), vec![entry(1, 1)], token(1), vec![accepted(1, 1)]);
    assert_eq!(write(queue.next_write(1 << 20)), (Some(hard_state(1)), ids(&[(1, 1)]), token(1)));
    for index in 2..5 {
        queue.push(None, vec![entry(index, 1)], token(index), vec![accepted(1, index)]);
    }
    assert_eq!(queue.next_write(1 << 20), None, "one write at a time");
    assert_eq!(queue.complete(token(1)), [accepted(1, 1)]);
    let gathered = ids(&[(2, 1), (3, 1), (4, 1)]);
    assert_eq!(write(queue.next_write(1 << 20)), (None, gathered, token(4)));
    assert_eq!(queue.complete(token(4)), [accepted(1, 2), accepted(1, 3), accepted(1, 4)]);
    assert!(queue.is_idle());
}

#[test]
fn a_later_write_replaces_what_an_earlier_one_would_have_written() {
    let mut queue = LogQueue::default();
    queue.push(None, vec![entry(5, 1), entry(6, 1), entry(7, 1)], token(1), vec![accepted(1, 7)]);
    queue.push(Some(hard_state(2)), vec![], token(2), vec![]);
    queue.push(None, vec![entry(6, 2)], token(3), vec![accepted(2, 6)]);
    let merged = ids(&[(5, 1), (6, 2)]);
    assert_eq!(write(queue.next_write(1 << 20)), (Some(hard_state(2)), merged, token(3)));
    // 6@1 and 7@1 are not on the disk and never will be: nobody may be told that they are.
    assert_eq!(queue.complete(token(3)), [accepted(2, 6)]);
}

#[test]
fn a_write_is_about_as_large_as_allowed_and_makes_progress_with_any_bound() {
    let mut queue = LogQueue::default();
    for index in 1..=5 {
        queue.push(None, vec![entry(index, 1)], token(index), vec![]);
    }
    let entry_bytes = entry(1, 1).size_bytes();
    assert_eq!(write(queue.next_write(2 * entry_bytes)).1.len(), 2);
    queue.complete(token(2));
    assert_eq!(write(queue.next_write(0)).1.len(), 1);
    queue.complete(token(3));
    assert_eq!(write(queue.next_write(usize::MAX)).1.len(), 2);
}

#[test]
#[should_panic(expected = "the write that runs completes")]
fn a_write_that_does_not_run_cannot_complete() {
    let mut queue = LogQueue::default();
    queue.push(Some(hard_state(1)), vec![], token(1), vec![]);
    let _ = queue.next_write(1);
    queue.complete(token(2));
}

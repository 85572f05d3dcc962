//! What may be said of a write, story by story, and that every request is answered once whatever happens.

use std::collections::BTreeSet;

use super::*;

const AFTER_US: u64 = 500;
const TIMEOUT_US: u64 = 7_000;

fn id(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

fn command() -> Bytes {
    // As long as an origin, and one byte of command that nobody looks at here.
    Bytes::from(vec![0; 25])
}

fn origin(attempt: u64) -> Origin {
    Origin { member: id(1), boot: 3, attempt }
}

fn one_write() -> ClientWrites {
    let mut writes = ClientWrites::new(id(1), 3);
    writes.insert(Time(0), Time(TIMEOUT_US), RequestId(1), command());
    writes
}

fn numbers(attempts: &[Attempt]) -> Vec<u64> {
    attempts.iter().map(|attempt| attempt.number).collect()
}

#[test]
fn m4_a_write_is_over_when_its_own_attempt_is_applied_and_by_no_other() {
    let mut writes = one_write();
    let attempts = writes.offer(Time(1), Term(2), usize::MAX);
    assert_eq!(numbers(&attempts), [1]);
    assert_eq!(crate::command::decode_origin(&attempts[0].command), Some(origin(1)));
    for other in [
        None,
        Some(origin(2)),
        Some(Origin { member: id(2), ..origin(1) }),
        Some(Origin { boot: 2, ..origin(1) }),
    ] {
        assert_eq!(writes.on_applied(Time(2), Term(2), other), None, "{other:?}");
    }
    assert_eq!(writes.on_applied(Time(2), Term(2), Some(origin(1))), Some(RequestId(1)));
    assert_eq!(writes.on_applied(Time(2), Term(2), Some(origin(1))), None, "answered once");
    assert_eq!((writes.len(), writes.bytes()), (0, 0));
}

#[test]
fn an_applied_entry_of_a_later_term_and_nothing_less_ends_an_attempt() {
    let mut writes = one_write();
    assert_eq!(numbers(&writes.offer(Time(1), Term(2), usize::MAX)), [1]);
    assert!(writes.offer(Time(2), Term(3), usize::MAX).is_empty(), "another leader proves nothing");
    writes.on_applied(Time(3), Term(2), None);
    assert!(writes.offer(Time(3), Term(3), usize::MAX).is_empty(), "nor does an entry of the same term");
    writes.on_applied(Time(4), Term(3), None);
    assert_eq!(numbers(&writes.offer(Time(4), Term(3), usize::MAX)), [2], "a new attempt, for the new term");
    assert_eq!(
        writes.on_applied(Time(5), Term(3), Some(origin(1))),
        None,
        "the old number is never used again"
    );
}

#[test]
fn a_refused_write_is_offered_later_or_to_a_later_leader_at_once() {
    let mut writes = one_write();
    writes.offer(Time(1), Term(2), usize::MAX);
    writes.refused(1, Time(100));
    assert!(writes.offer(Time(99), Term(2), usize::MAX).is_empty());
    assert_eq!(writes.next_offer(usize::MAX), Time(100));
    assert_eq!(numbers(&writes.offer(Time(50), Term(3), usize::MAX)), [2]);
    writes.refused(1, Time(0));
    assert!(
        writes.offer(Time(60), Term(3), usize::MAX).is_empty(),
        "a refusal of what is over means nothing"
    );
}

#[test]
fn what_was_never_sent_may_be_offered_again_but_not_what_was_sent_twice() {
    let mut writes = one_write();
    writes.offer(Time(0), Term(2), usize::MAX);
    writes.not_sent(1, Time(10));
    assert_eq!(numbers(&writes.offer(Time(10), Term(2), usize::MAX)), [2]);
    assert!(writes.ask(Time(9 + AFTER_US), Term(2), AFTER_US).is_empty());
    assert_eq!(writes.next_question(AFTER_US), Time(10 + AFTER_US));
    assert_eq!(writes.ask(Time(10 + AFTER_US), Term(2), AFTER_US), [2]);
    assert_eq!(writes.next_question(AFTER_US), Time(10 + 3 * AFTER_US), "with patience");
    assert_eq!(numbers(&writes.repeat(Term(2), &[1, 2, 3])), [2], "the same attempt, and no other");
    writes.not_sent(2, Time(0));
    assert!(writes.offer(Time(5_000), Term(2), usize::MAX).is_empty(), "the first message may have arrived");
    assert_eq!(writes.expire(Time(TIMEOUT_US), false), [(RequestId(1), Failure::TimedOut)]);
}

#[test]
fn an_attempt_is_repeated_to_the_leader_of_its_term_only() {
    let mut writes = one_write();
    writes.offer(Time(0), Term(2), usize::MAX);
    assert!(writes.ask(Time(AFTER_US), Term(3), AFTER_US).is_empty());
    assert!(writes.repeat(Term(3), &[1]).is_empty());
}

#[test]
fn any_end_of_an_attempt_shows_that_the_leader_is_at_work() {
    let mut writes = one_write();
    writes.insert(Time(0), Time(TIMEOUT_US), RequestId(2), command());
    writes.offer(Time(0), Term(2), usize::MAX);
    assert_eq!(writes.ask(Time(AFTER_US), Term(2), AFTER_US), [1, 2]);
    writes.on_applied(Time(700), Term(2), Some(origin(1)));
    assert_eq!(writes.next_question(AFTER_US), Time(700 + AFTER_US));
    // A connection that broke is a reason to ask soon.
    assert_eq!(writes.ask(Time(700 + AFTER_US), Term(2), AFTER_US), [2]);
    writes.on_unreachable();
    assert_eq!(writes.next_question(AFTER_US), Time(700 + 2 * AFTER_US));
}

#[test]
fn so_many_bytes_are_offered_and_the_rest_waits() {
    let mut writes = one_write();
    for number in 2..=5 {
        writes.insert(Time(0), Time(TIMEOUT_US), RequestId(number), command());
    }
    assert_eq!(numbers(&writes.offer(Time(0), Term(2), 26)), [1, 2], "one over the bound");
    assert_eq!(writes.next_offer(26), Time::NEVER, "until one of them is over");
    assert!(writes.offer(Time(1), Term(2), 26).is_empty());
    writes.on_applied(Time(2), Term(2), Some(origin(1)));
    assert_eq!(numbers(&writes.offer(Time(2), Term(2), 26)), [3]);
    assert!(writes.expire(Time(TIMEOUT_US), true).contains(&(RequestId(5), Failure::TooManyRequests)));
}

#[test]
fn how_a_write_expires_says_what_is_known_of_it() {
    let mut writes = one_write();
    assert_eq!(writes.expire(Time(TIMEOUT_US - 1), false), []);
    assert_eq!(writes.expire(Time(TIMEOUT_US), false), [(RequestId(1), Failure::NoLeader)]);

    let mut writes = one_write();
    writes.offer(Time(0), Term(2), usize::MAX);
    assert_eq!(writes.expire(Time(TIMEOUT_US), false), [(RequestId(1), Failure::TimedOut)]);

    let mut writes = one_write();
    writes.offer(Time(0), Term(2), usize::MAX);
    writes.on_applied(Time(1), Term(3), None);
    assert_eq!(writes.expire(Time(TIMEOUT_US), false), [(RequestId(1), Failure::LeaderChanged)]);
}

#[test]
fn of_what_a_snapshot_may_contain_nothing_is_known() {
    let mut writes = one_write();
    writes.offer(Time(0), Term(2), usize::MAX);
    assert!(writes.on_snapshot_installed(Term(1)).is_empty(), "it was offered after all of that");
    writes.insert(Time(0), Time(TIMEOUT_US), RequestId(2), command());
    assert_eq!(writes.on_snapshot_installed(Term(2)), [RequestId(1)]);
    assert_eq!(numbers(&writes.offer(Time(1), Term(3), usize::MAX)), [2], "what was in no log waits on");
}

#[test]
fn all_attempts_below_the_oldest_are_over() {
    let mut writes = one_write();
    writes.insert(Time(0), Time(TIMEOUT_US), RequestId(2), command());
    assert_eq!(writes.oldest_attempt(), 1);
    assert_eq!(numbers(&writes.offer(Time(0), Term(2), usize::MAX)), [1, 2]);
    writes.on_applied(Time(1), Term(2), Some(origin(1)));
    assert_eq!(writes.oldest_attempt(), 2);
    writes.remove(RequestId(2));
    assert_eq!(writes.oldest_attempt(), 3);
}

/// Random inputs against the plainest of models: a request is waiting until it is over, once.
#[test]
fn every_request_is_over_exactly_once_whatever_happens() {
    for seed in 1..300_u64 {
        let mut state = seed;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed);
            (state >> 33) % bound
        };
        let mut writes = ClientWrites::new(id(1), 3);
        let (mut now, mut term, mut next) = (Time(0), 1, 1);
        let mut waiting = BTreeSet::new();
        let over = |waiting: &mut BTreeSet<RequestId>, request| {
            assert!(waiting.remove(&request), "seed {seed}: {request:?} was over already");
        };
        for _ in 0..200 {
            now = now.after(below(300));
            let attempt = below(20) + writes.oldest_attempt().saturating_sub(5);
            match below(9) {
                0 | 1 => {
                    writes.insert(now, now.after(TIMEOUT_US), RequestId(next), command());
                    waiting.insert(RequestId(next));
                    next += 1;
                }
                2 => drop(writes.offer(now, Term(term), 100)),
                3 => {
                    let asked = writes.ask(now, Term(term), AFTER_US);
                    let repeated = writes.repeat(Term(term), &asked);
                    assert_eq!(numbers(&repeated), asked, "seed {seed}: what is asked after still waits");
                }
                4 => writes.refused(attempt, now.after(10)),
                5 => writes.not_sent(attempt, now.after(10)),
                6 => {
                    if let Some(request) = writes.on_applied(now, Term(term), Some(origin(attempt))) {
                        over(&mut waiting, request);
                    }
                }
                7 => {
                    term += 1;
                    if below(2) == 0 {
                        for request in writes.on_snapshot_installed(Term(term - 1)) {
                            over(&mut waiting, request);
                        }
                    }
                }
                _ => {
                    for (request, _) in writes.expire(now, false) {
                        over(&mut waiting, request);
                    }
                }
            }
            assert_eq!(writes.len(), waiting.len(), "seed {seed}");
            assert_eq!(writes.bytes(), 25 * waiting.len(), "seed {seed}");
            let parked = writes.writes.values().filter(|w| matches!(w.stage, Stage::Parked { .. })).count();
            assert_eq!(writes.parked, parked, "seed {seed}");
            assert_eq!(writes.attempts.len(), waiting.len() - parked, "seed {seed}");
            assert_eq!(writes.offered_bytes, 25 * writes.attempts.len(), "seed {seed}");
        }
        for (request, _) in writes.expire(now.after(TIMEOUT_US), false) {
            over(&mut waiting, request);
        }
        assert!(waiting.is_empty(), "seed {seed}: at the latest the deadline ends a request");
    }
}

//! Every read is answered once, with an index that was asked for after it came.

use std::collections::BTreeSet;

use super::*;

const RETRY_US: u64 = 500;
const TIMEOUT_US: u64 = 7_000;

fn with_reads(requests: impl IntoIterator<Item = u64>) -> ClientReads {
    let mut reads = ClientReads::default();
    for request in requests {
        reads.insert(Time(TIMEOUT_US), RequestId(request));
    }
    reads
}

#[test]
fn reads_that_wait_share_a_question_and_those_that_come_later_share_the_next() {
    let mut reads = with_reads([1, 2]);
    assert!(reads.wants_to_ask());
    reads.asked(Time(0), ReadId(10));
    reads.insert(Time(TIMEOUT_US), RequestId(3));
    assert!(!reads.wants_to_ask(), "one question at a time");
    reads.on_ready(ReadId(10), Index(5));
    assert_eq!(reads.take_ready(Index(4)), []);
    assert_eq!(reads.take_ready(Index(5)), [RequestId(1), RequestId(2)]);
    assert_eq!(
        reads.take_ready(Index(100)),
        [],
        "the third was not confirmed by a question older than itself"
    );
    assert!(reads.wants_to_ask());
    assert_eq!(reads.len(), 1);
}

#[test]
fn an_answer_to_a_question_that_was_given_up_confirms_nothing() {
    let mut reads = with_reads([1]);
    reads.asked(Time(0), ReadId(10));
    assert_eq!(reads.next_deadline(RETRY_US), Time(RETRY_US));
    assert_eq!(reads.expire(Time(RETRY_US), RETRY_US), []);
    assert!(reads.wants_to_ask());
    reads.asked(Time(RETRY_US), ReadId(11));
    reads.on_ready(ReadId(10), Index(5));
    assert_eq!(reads.take_ready(Index(100)), []);
    reads.on_failed(ReadId(10));
    assert!(!reads.wants_to_ask());
    reads.on_failed(ReadId(11));
    assert!(reads.wants_to_ask());
}

#[test]
fn a_read_expires_wherever_it_waits() {
    let mut reads = with_reads([1]);
    reads.asked(Time(0), ReadId(10));
    reads.on_ready(ReadId(10), Index(5));
    reads.insert(Time(TIMEOUT_US), RequestId(2));
    reads.asked(Time(TIMEOUT_US - 1), ReadId(11));
    reads.insert(Time(TIMEOUT_US), RequestId(3));
    reads.insert(Time(TIMEOUT_US + 1), RequestId(4));
    let expired: BTreeSet<RequestId> = reads.expire(Time(TIMEOUT_US), RETRY_US).into_iter().collect();
    assert_eq!(expired, [1, 2, 3].map(RequestId).into());
    assert_eq!(reads.len(), 1);
    assert_eq!(reads.next_deadline(RETRY_US).min(Time(TIMEOUT_US + 1)), reads.next_deadline(RETRY_US));
    reads.on_ready(ReadId(11), Index(5));
    assert_eq!(reads.take_ready(Index(9)), [], "an answer to nobody");
    assert_eq!(reads.expire(Time(TIMEOUT_US + 1), RETRY_US), [RequestId(4)]);
}

#[test]
fn every_read_is_over_exactly_once_whatever_happens() {
    for seed in 1..300_u64 {
        let mut state = seed;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed);
            (state >> 33) % bound
        };
        let mut reads = ClientReads::default();
        let (mut now, mut applied, mut next, mut read) = (Time(0), 0, 1, 0);
        let mut waiting = BTreeSet::new();
        for _ in 0..200 {
            now = now.after(below(300));
            let over = match below(6) {
                0 | 1 => {
                    reads.insert(now.after(TIMEOUT_US), RequestId(next));
                    waiting.insert(RequestId(next));
                    next += 1;
                    Vec::new()
                }
                2 => {
                    if reads.wants_to_ask() {
                        read += 1;
                        reads.asked(now, ReadId(read));
                    }
                    Vec::new()
                }
                3 => {
                    reads.on_ready(ReadId(read - below(2).min(read)), Index(applied + below(5)));
                    Vec::new()
                }
                4 => {
                    reads.on_failed(ReadId(read));
                    applied += below(3);
                    reads.take_ready(Index(applied))
                }
                _ => reads.expire(now, RETRY_US),
            };
            for request in over {
                assert!(waiting.remove(&request), "seed {seed}: {request:?} was over already");
            }
            assert_eq!(reads.len(), waiting.len(), "seed {seed}");
            assert!(waiting.is_empty() || reads.next_deadline(RETRY_US) < Time::NEVER, "seed {seed}");
        }
        for request in reads.expire(now.after(TIMEOUT_US), RETRY_US) {
            assert!(waiting.remove(&request), "seed {seed}");
        }
        assert!(waiting.is_empty(), "seed {seed}: at the latest the deadline ends a read");
    }
}

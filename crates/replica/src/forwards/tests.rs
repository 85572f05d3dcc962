//! The memory against a second version that keeps every number, and the stories that it is there for.

use std::collections::BTreeSet;

use super::*;

fn id(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

/// A leader of term 5 that was told of attempts from 10 on by the first start of member 2.
fn leading() -> Forwards {
    let mut forwards = Forwards::default();
    forwards.lead(Term(5));
    assert!(forwards.begin(Term(5), id(2), 1, 10));
    forwards
}

#[test]
fn a_second_copy_is_known_by_what_became_of_the_first() {
    let mut forwards = leading();
    forwards.take(id(2), 10);
    forwards.refuse(id(2), 11, ForwardRefusal::NotLeader);
    assert_eq!(forwards.fate(id(2), 9), Fate::Over);
    assert_eq!(forwards.fate(id(2), 10), Fate::Taken);
    assert_eq!(forwards.fate(id(2), 11), Fate::Refused(ForwardRefusal::NotLeader));
    assert_eq!(forwards.fate(id(2), 12), Fate::New);
    assert_eq!(forwards.fate(id(3), 10), Fate::New, "every member counts its own attempts");
}

#[test]
fn only_the_latest_term_that_was_led_is_spoken_of() {
    let mut forwards = leading();
    assert!(!forwards.begin(Term(4), id(2), 1, 10));
    assert!(!forwards.begin(Term(6), id(2), 1, 10));
    forwards.take(id(2), 10);
    forwards.lead(Term(5));
    assert_eq!(forwards.fate(id(2), 10), Fate::Taken, "the same leadership");
    forwards.lead(Term(7));
    assert!(!forwards.begin(Term(5), id(2), 1, 10));
    assert!(forwards.begin(Term(7), id(2), 1, 10));
    assert_eq!(forwards.fate(id(2), 10), Fate::New, "meant for another leader");
}

#[test]
fn what_an_earlier_start_left_on_the_way_is_dropped() {
    let mut forwards = leading();
    forwards.take(id(2), 10);
    assert!(forwards.begin(Term(5), id(2), 2, 1));
    assert_eq!(forwards.fate(id(2), 10), Fate::New, "the second start counts from one again");
    assert!(!forwards.begin(Term(5), id(2), 1, 10));
}

#[test]
fn room_is_for_gaps_not_for_attempts() {
    let mut forwards = leading();
    for attempt in 10..1_000 {
        forwards.take(id(2), attempt);
    }
    assert!(forwards.has_room(id(2), 2));
    forwards.take(id(2), 2_000);
    assert!(!forwards.has_room(id(2), 2));
    assert!(forwards.begin(Term(5), id(2), 1, 1_500));
    assert!(forwards.has_room(id(2), 2), "what is over needs no room");
}

#[test]
fn runs_are_a_set_of_numbers() {
    for seed in 1..200_u64 {
        let (mut runs, mut numbers) = (Runs::default(), BTreeSet::new());
        let mut state = seed;
        for _ in 0..100 {
            // Knuth's multiplier; the low bits are poor, the high ones will do.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed);
            let number = (state >> 40) % 40;
            if state >> 61 == 0 {
                runs.forget_below(number);
                numbers = numbers.split_off(&number);
            } else {
                runs.insert(number);
                numbers.insert(number);
            }
            let found: BTreeSet<u64> = (0..41).filter(|&number| runs.contains(number)).collect();
            assert_eq!(found, numbers, "seed {seed}");
            let gaps = numbers.iter().filter(|&&number| number == 0 || !numbers.contains(&(number - 1)));
            assert_eq!(runs.runs.len(), gaps.count(), "as few runs as there can be, seed {seed}");
        }
    }
}

#[test]
fn the_largest_number_is_one_like_any_other() {
    let mut runs = Runs::default();
    runs.insert(u64::MAX);
    runs.insert(u64::MAX);
    runs.insert(u64::MAX - 1);
    assert!(runs.contains(u64::MAX) && runs.contains(u64::MAX - 1));
    runs.forget_below(u64::MAX);
    assert_eq!(runs.runs.len(), 1);
}

//! What a leader believes of a follower never goes back, whatever comes in whatever order.

use proptest::prelude::*;

use super::{Progress, ProgressState};
use crate::{EntryId, Index, Snapshot, Term, Time};

const MAX_MESSAGES: usize = 3;
const MAX_BYTES: usize = 100;

fn snapshot(index: u64, term: u64) -> Snapshot {
    Snapshot { last_included: EntryId::new(Index(index), Term(term)), ..Snapshot::default() }
}

#[derive(Clone, Debug)]
enum Action {
    Send { entries: u64, bytes: usize },
    Accept { index: u64 },
    Probe,
    Snapshot { index: u64 },
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0_u64..4, 0_usize..90).prop_map(|(entries, bytes)| Action::Send { entries, bytes }),
        6 => (0_u64..30).prop_map(|index| Action::Accept { index }),
        1 => Just(Action::Probe),
        1 => (0_u64..30).prop_map(|index| Action::Snapshot { index }),
    ]
}

/// Bytes under way, summed up by hand.
fn inflight(progress: &Progress) -> (usize, usize) {
    match &progress.state {
        ProgressState::Replicate { inflights, .. } => {
            let bytes: usize = inflights.appends.iter().map(|append| append.bytes).sum();
            assert_eq!(bytes, inflights.bytes, "the bytes under way are counted exactly");
            (inflights.appends.len(), bytes)
        }
        ProgressState::Probe { .. } | ProgressState::Snapshot { .. } => (0, 0),
    }
}

proptest! {
    #[test]
    fn what_is_known_never_goes_back(actions in proptest::collection::vec(action(), 1..60)) {
        let mut progress = Progress::new(Time(0), Index(5));
        let mut now = Time(0);
        for action in actions {
            now = now.after(1);
            let (match_index, next_index) = (progress.match_index, progress.next_index);
            let may_send = progress.may_send(MAX_MESSAGES, MAX_BYTES);
            match action {
                Action::Send { entries, bytes } if may_send => {
                    let last = Index(progress.next_index.0 - 1 + entries);
                    progress.sent(now, last, bytes);
                    let is_probe = matches!(progress.state, ProgressState::Probe { .. });
                    prop_assert!(!is_probe || !progress.may_send(MAX_MESSAGES, MAX_BYTES), "one probe at a time");
                    prop_assert!(is_probe || progress.next_index == last.next());
                }
                Action::Send { .. } => {}
                Action::Accept { index } => {
                    let changed = progress.accept(now, Index(index));
                    prop_assert_eq!(changed, Index(index) > match_index);
                    prop_assert!(progress.match_index >= Index(index));
                    prop_assert!(progress.next_index > match_index);
                }
                Action::Probe => {
                    progress.become_probe();
                    prop_assert_eq!(progress.next_index, next_index, "what was sent may have arrived");
                }
                Action::Snapshot { index } => {
                    progress.become_snapshot(now, snapshot(index, 1));
                    prop_assert!(!progress.may_send(MAX_MESSAGES, MAX_BYTES));
                    prop_assert_eq!(progress.next_index, next_index);
                }
            }
            prop_assert!(progress.match_index >= match_index, "match never goes back");
            prop_assert!(progress.match_index < progress.next_index, "match is behind next");
            let (messages, bytes) = inflight(&progress);
            prop_assert!(messages <= MAX_MESSAGES);
            prop_assert!(bytes < MAX_BYTES + 90, "one append may go over the bound, not two");
        }
    }
}

/// The window opens again only by what was answered, from the oldest on.
#[test]
fn the_window_closes_and_opens() {
    let mut progress = Progress::new(Time(0), Index(1));
    assert!(progress.may_send(2, 100));
    progress.sent(Time(0), Index(0), 0);
    assert!(!progress.may_send(2, 100), "one probe at a time");
    progress.accept(Time(9), Index(0));
    progress.sent(Time(1), Index(3), 10);
    progress.sent(Time(2), Index(6), 10);
    assert!(!progress.may_send(2, 100), "two messages are under way");
    progress.accept(Time(9), Index(2));
    assert!(!progress.may_send(2, 100), "the first is not answered as a whole");
    progress.accept(Time(9), Index(3));
    assert!(progress.may_send(2, 100));
    progress.sent(Time(3), Index(9), 95);
    assert!(!progress.may_send(9, 100), "the bytes are too many");
    progress.accept(Time(9), Index(9));
    assert!(progress.may_send(2, 100), "an answer stands for all before it");
}

/// However old the oldest append is: while others are answered, a slow link is at work. Whoever answers nothing is
/// asked, and given twice as long each time.
#[test]
fn lost_is_what_is_not_answered_since_the_last_answer() {
    const PATIENCE_US: u64 = 100;
    let mut progress = Progress::new(Time(0), Index(1));
    progress.accept(Time(0), Index(0));
    for last in 1..=9 {
        progress.sent(Time(0), Index(last), 10);
    }
    assert!(!progress.is_overdue(Time(99), PATIENCE_US) && progress.is_overdue(Time(100), PATIENCE_US));
    progress.accept(Time(90), Index(1));
    progress.accept(Time(180), Index(2));
    assert!(!progress.is_overdue(Time(279), PATIENCE_US), "the other seven are two intervals old");
    assert!(progress.is_overdue(Time(280), PATIENCE_US));
    progress.asked(Time(280));
    assert!(!progress.is_overdue(Time(479), PATIENCE_US) && progress.is_overdue(Time(480), PATIENCE_US));
    progress.accept(Time(481), Index(3));
    assert!(progress.is_overdue(Time(581), PATIENCE_US), "an answer ends the back-off");
}

/// What did not leave is not under way; and what did is not forgotten.
#[test]
fn what_was_not_sent_is_sent_again_alone() {
    let mut progress = Progress::new(Time(0), Index(1));
    progress.accept(Time(0), Index(0));
    for last in [3, 6, 9] {
        progress.sent(Time(0), Index(last), 10);
    }
    progress.not_sent_behind(Index(3));
    assert_eq!((progress.next_index, inflight(&progress)), (Index(4), (1, 10)));
    assert!(!progress.may_send(9, 100), "its lane is full");
    progress.accept(Time(1), Index(3));
    assert!(progress.may_send(9, 100));
    progress.become_probe();
    assert_eq!(progress.next_index, Index(4));
    progress.accept(Time(2), Index(2));
    assert!(matches!(progress.state, ProgressState::Probe { .. }), "an answer to something earlier");
}

/// A refilled hole is not booked twice.
#[test]
fn what_is_sent_again_is_booked_once() {
    let mut progress = Progress::new(Time(0), Index(1));
    progress.accept(Time(9), Index(0));
    progress.sent(Time(0), Index(5), 50);
    progress.sent(Time(0), Index(3), 30);
    assert_eq!(inflight(&progress), (1, 50));
    assert_eq!(progress.next_index, Index(6));
}

/// Entries flow again once the follower is as far as the snapshot, not before.
#[test]
fn a_snapshot_ends_when_the_follower_is_there() {
    let mut progress = Progress::new(Time(0), Index(1));
    progress.become_snapshot(Time(0), snapshot(7, 2));
    progress.accept(Time(9), Index(6));
    assert!(matches!(progress.state, ProgressState::Snapshot { .. }));
    progress.accept(Time(9), Index(7));
    assert!(matches!(progress.state, ProgressState::Replicate { .. }));
    assert_eq!(progress.next_index, Index(8));
}

/// Thesis §4.2.1: caught up is who needed no longer than a timeout for its last round, and not for good: it must go on.
#[test]
fn who_has_caught_up_once_and_then_stands_still_has_not() {
    const LIMIT_US: u64 = 1_000;
    let mut progress = Progress::new(Time(0), Index(6));
    // It hears of the leader, and takes nothing.
    progress.count_round(Time(100), Index(5), LIMIT_US);
    assert!(!progress.is_caught_up(Time(100), LIMIT_US));
    progress.accept(Time(9), Index(5));
    progress.count_round(Time(800), Index(8), LIMIT_US);
    assert!(progress.is_caught_up(Time(1_800), LIMIT_US));
    assert!(!progress.is_caught_up(Time(1_801), LIMIT_US), "this round takes too long already");
    progress.accept(Time(9), Index(8));
    progress.count_round(Time(2_500), Index(9), LIMIT_US);
    assert!(!progress.is_caught_up(Time(2_500), LIMIT_US), "the last round took too long");
    // An idle follower goes round after round.
    progress.accept(Time(9), Index(9));
    for at in [2_600, 3_500, 4_400] {
        progress.count_round(Time(at), Index(9), LIMIT_US);
        assert!(progress.is_caught_up(Time(at + 900), LIMIT_US));
    }
}

//! Histories known to be right or wrong, drawn (see `common`): the anomalies that a replicated register is
//! known to show when it is broken, and what looks like one and is none.

mod common;

use common::{NUMBERS, Numbers, draw, judge};
use tenure_linear::Verdict;

fn right(drawing: &str) {
    let (history, _) = draw(drawing);
    for partitioned in [true, false] {
        let verdict = judge(&Numbers { partitioned }, &history);
        assert!(verdict.is_linearizable(), "{verdict}, partitioned {partitioned}:\n{drawing}");
    }
}

/// The history is wrong, and the search is stuck at the operation with these words.
fn wrong(stuck: &str, drawing: &str) {
    let (history, words) = draw(drawing);
    for partitioned in [true, false] {
        let Verdict::Violation(violation) = judge(&Numbers { partitioned }, &history) else {
            panic!("passed, partitioned {partitioned}:\n{drawing}");
        };
        let (found, _) = words.iter().find(|(_, id)| *id == violation.stuck).expect("of the drawing");
        assert_eq!(found, stuck, "{}\n{drawing}", violation.explain(&NUMBERS, &history));
    }
}

#[test]
fn nothing_asked_is_right() {
    right("");
    right("A");
}

#[test]
fn one_client_sees_its_own_writes() {
    right("A [rk0] [wk1] [rk1] [wk2] [rk2]");
    wrong("rk1", "A [rk0] [wk1] [rk1] [wk2] [rk1]");
    wrong("rk0", "A [wk1] [rk0]");
}

#[test]
fn a_stale_read_is_wrong() {
    wrong(
        "rk1",
        "
A  [wk1]  [wk2]
B                 [rk1]
",
    );
    right(
        "
A  [wk1]  [wk2]
B            [rk1]
",
    );
}

#[test]
fn concurrent_writes_may_have_happened_in_both_orders() {
    for seen in [1, 2] {
        right(&format!(
            "
A  [wk1   ]
B    [wk2   ]
C            [rk{seen}] [rk{seen}]
"
        ));
    }
}

#[test]
fn concurrent_writes_happen_in_one_order_for_all() {
    wrong(
        "rk1",
        "
A  [wk1                 ]
B  [wk2                 ]
C    [rk1] [rk2]
D      [rk2] [rk1]
",
    );
    right(
        "
A  [wk1         ]
B    [wk2         ]
C  [rk1] [rk2]
",
    );
}

#[test]
fn non_monotonic_reads_of_two_clients_are_wrong() {
    wrong(
        "rk0",
        "
A  [wk1               ]
B    [rk1]
C          [rk0]
",
    );
    // The second reader has asked before the first was answered.
    right(
        "
A  [wk1               ]
B    [rk1]
C       [rk0]
",
    );
}

#[test]
fn a_read_from_the_future_is_wrong() {
    wrong(
        "rk1",
        "
A         [wk1]
B  [rk1]
",
    );
    right(
        "
A      [wk1]
B  [rk1]
",
    );
}

#[test]
fn a_value_that_nobody_wrote_is_wrong() {
    wrong(
        "rk3",
        "
A  [wk1]
B  [wk2]
C    [rk3]
",
    );
}

#[test]
fn a_write_that_has_certainly_failed_is_never_seen() {
    wrong(
        "rk2",
        "
A  [wk1]  [wk2 x]
B                  [rk2]
",
    );
    // Nor while it runs: the answer is about the whole of it.
    wrong(
        "rk2",
        "
A  [wk1]  [wk2         x]
B             [rk2]
",
    );
    right(
        "
A  [wk1]  [wk2 x]
B                  [rk1]
",
    );
}

#[test]
fn a_write_without_an_answer_may_show_at_once_or_late_or_never() {
    right(
        "
A  [wk1]  [wk2
B            [rk2] [rk2]
",
    );
    right(
        "
A  [wk1]  [wk2
B            [rk1] [rk1] [rk2]
",
    );
    right(
        "
A  [wk1]  [wk2
B            [rk1] [rk1] [rk1]
",
    );
    // Late: even behind a later write of another client, and behind a later one of its own.
    right(
        "
A  [wk1]  [wk2
B             [wk3] [rk3] [rk2]
",
    );
    right("A  [wk2  [wk3] [rk3] [rk2]");
}

#[test]
fn a_write_without_an_answer_that_has_shown_does_not_vanish() {
    wrong(
        "rk1",
        "
A  [wk1]  [wk2
B            [rk2] [rk1]
",
    );
}

#[test]
fn a_write_without_an_answer_does_not_show_before_its_call() {
    wrong(
        "rk2",
        "
A               [wk2
B  [wk1] [rk2]
",
    );
}

#[test]
fn a_write_without_an_answer_happens_once() {
    wrong(
        "rk2",
        "
A  [wk2
B       [rk2] [wk3] [rk2]
",
    );
    // Two of them happen twice.
    right(
        "
A  [wk2
B       [rk2] [wk3] [rk2]
C  [wk2
",
    );
    wrong("rk2", "A [+k1  [rk1] [rk2]");
}

#[test]
fn a_write_is_not_applied_twice() {
    // By a retry that was answered…
    wrong("rk2", "A [+k1] [rk2]");
    right("A [+k1] [rk1] [+k1] [rk2]");
    // …and by one that comes back after another write.
    wrong(
        "rk1",
        "
A  [wk1] [rk1]
B              [wk2] [rk2] [rk1]
",
    );
}

#[test]
fn a_lost_update_is_wrong() {
    wrong(
        "rk1",
        "
A  [+k1  ]
B    [+k1  ]
C            [rk1]
",
    );
    right(
        "
A  [+k1  ]
B    [+k1  ]
C            [rk2]
",
    );
    // Acknowledged, and gone.
    wrong("rk0", "A [wk1]  [rk0]");
}

#[test]
fn one_of_two_compare_and_sets_wins() {
    right(
        "
A  [ck01   ]
B    [ck02!  ]
C              [rk1]
",
    );
    wrong(
        "ck02",
        "
A  [ck01   ]
B    [ck02   ]
",
    );
    wrong(
        "ck01!",
        "
A  [ck01!  ]
B    [ck02!  ]
",
    );
}

#[test]
fn compare_and_sets_form_a_chain_in_any_order_of_the_clients() {
    right(
        "
A  [ck23         ] [rk4]
B  [ck12         ]
C  [ck34         ]
D  [ck01         ]
",
    );
    wrong(
        "ck34",
        "
A  [ck23         ]
B  [ck12         ]
C  [ck35         ]
D  [ck01         ]
E  [ck34          ]
",
    );
}

#[test]
fn a_compare_and_set_without_an_answer_may_explain_one_that_failed() {
    right(
        "
A  [ck01
B        [ck02!] [rk1]
",
    );
    wrong(
        "ck02!",
        "
A               [ck01
B        [ck02!] [rk1]
",
    );
    // It cannot take effect where its comparison does not hold.
    wrong(
        "rk1",
        "
A        [ck01
B  [wk2]       [rk1]
",
    );
}

#[test]
fn a_chain_of_unknown_operations_is_found() {
    right(
        "
A  [ck23
B  [ck12
C  [ck34
D  [ck01
E        [rk4]
",
    );
    wrong(
        "rk4",
        "
A  [ck23
B  [ck12
C  [ck34
D               [ck01
E        [rk4]
",
    );
}

/// The write of 0 changes nothing at the beginning, where it could stand too: only behind the other does it
/// explain the read.
#[test]
fn a_write_of_what_is_there_may_be_needed_later() {
    right(
        "
A  [wk1]      [rk0]
B [wk0     ]
",
    );
}

#[test]
fn an_unknown_read_forces_nothing() {
    right(
        "
A  [wk1]  [rk
B           [wk2] [rk2]
",
    );
}

#[test]
fn what_has_the_same_time_is_concurrent_for_two_clients_and_ordered_for_one() {
    use common::{Input, Output};
    let seen_by = |reader: u64| {
        let mut history = tenure_linear::History::new();
        let write = history.invoke(1, Input::Write('k', 1), 0);
        history.complete(write, Output::Done, 5);
        let read = history.invoke(reader, Input::Read('k'), 5);
        history.complete(read, Output::Seen(0), 9);
        judge(&NUMBERS, &history).is_linearizable()
    };
    assert!(seen_by(2), "nobody knows which was first");
    assert!(!seen_by(1), "it was told of its write before it asked");
}

#[test]
fn an_unknown_operation_between_does_not_loosen_the_order_of_a_client() {
    use common::{Input, Output};
    let mut history = tenure_linear::History::new();
    let write = history.invoke(1, Input::Write('k', 1), 0);
    history.complete(write, Output::Done, 5);
    history.invoke(1, Input::Write('j', 2), 5);
    history.invoke(1, Input::Read('k'), 5);
    let read = history.invoke(1, Input::Read('k'), 5);
    history.complete(read, Output::Seen(0), 9);
    assert!(!judge(&NUMBERS, &history).is_linearizable());
}

/// Two unknown writes of the same at the same time: that of the reader comes behind its read, so only the other
/// explains it.
#[test]
fn equal_unknown_writes_of_the_same_time_are_told_apart() {
    use common::{Input, Output};
    for others in [&[2][..], &[]] {
        let mut history = tenure_linear::History::new();
        let read = history.invoke(1, Input::Read('k'), 3);
        history.complete(read, Output::Seen(1), 5);
        for &client in [1].iter().chain(others) {
            history.invoke(client, Input::Write('k', 1), 5);
        }
        assert_eq!(judge(&NUMBERS, &history).is_linearizable(), !others.is_empty());
    }
}

#[test]
fn keys_are_independent() {
    right(
        "
A  [wk1] [rj0] [wk2]
B              [wj1] [rk2] [rj1]
",
    );
    wrong(
        "rj0",
        "
A  [wk1] [rj0] [wk2]
B              [wj1] [rk2] [rj0]
",
    );
}

#[test]
fn a_read_of_all_keys_sees_one_moment() {
    right(
        "
A  [wk1] [wj1]
B    [ak1j0]
",
    );
    wrong(
        "ak0j1",
        "
A  [wk1] [wj1]
B    [ak0j1   ]
",
    );
    // Each key by itself would be in order: two snapshots that disagree about which write was first.
    wrong(
        "ak0j1",
        "
A  [wk1       ]
B  [wj1       ]
C   [ak1j0   ]
D   [ak0j1    ]
",
    );
}

#[test]
fn a_violation_says_what_fits_nowhere_and_after_what() {
    let (history, words) = draw(
        "
A  [wk1]  [wk2]      [wk3]
B                 [rk1]
",
    );
    let Verdict::Violation(violation) = judge(&NUMBERS, &history) else { panic!("passed") };
    let named = |id| &words.iter().find(|(_, other)| *other == id).expect("drawn").0;
    let longest: Vec<&String> = violation.longest.iter().map(|&id| named(id)).collect();
    assert_eq!(longest, ["wk1", "wk2", "wk3"], "an order of as many as can be had");
    assert_eq!(
        violation.explain(&NUMBERS, &history),
        "Read('k') → Seen(1) of client 1, called at 18 and answered at 22, fits nowhere: at best 3 operations \
         of 4 can be ordered, and then the state is {'k': 3}"
    );
}

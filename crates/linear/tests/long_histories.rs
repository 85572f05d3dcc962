//! Histories as long as those of a real test: they are judged in few steps, and what is wrong in them is found.
//! Steps are counted and not seconds, so that the tests say the same on every machine.

mod common;

use common::generate::{Mix, Random, generate};
use common::{Input, NUMBERS, Numbered, Numbers, Output, draw, judge, prove};
use tenure_linear::{History, OpId, Verdict, check};

const MIX: Mix = Mix { operations: 10_000, clients: 8, keys: 10, unknown_percent: 0, read_all_permille: 0 };

/// The history is right, and judged in `max_steps` for each partition.
fn right(model: &Numbers, history: &Numbered, max_steps: u64) {
    match check(model, history, max_steps) {
        Verdict::Linearizable { orders } => prove(model, history, &orders),
        other => panic!("{other}"),
    }
}

/// The same history, but the answer of one read in the middle is what the key was at the very beginning.
fn with_a_stale_read(history: &Numbered) -> (Numbered, OpId) {
    let reads: Vec<OpId> = history
        .operations()
        .filter(|(_, operation)| matches!(operation.output(), Some(Output::Seen(1..))))
        .map(|(id, _)| id)
        .collect();
    let spoiled = reads[reads.len() / 2];
    let mut copy = History::new();
    for (id, operation) in history.operations() {
        let same = copy.invoke(operation.client, operation.input.clone(), operation.called);
        assert_eq!(same, id, "nothing was withdrawn");
        if let Some(answer) = &operation.answer {
            let output = if id == spoiled { Output::Seen(0) } else { answer.output.clone() };
            copy.complete(id, output, answer.at);
        }
    }
    (copy, spoiled)
}

#[test]
fn ten_thousand_operations_on_ten_keys_take_few_steps() {
    for seed in 1..=5 {
        let history = generate(&mut Random(seed), &MIX);
        assert_eq!(history.operations().count(), 10_000);
        right(&NUMBERS, &history, 3_000);
    }
}

#[test]
fn a_stale_read_is_found_among_ten_thousand_operations() {
    for seed in 1..=5 {
        let (history, spoiled) = with_a_stale_read(&generate(&mut Random(seed), &MIX));
        let Verdict::Violation(violation) = check(&NUMBERS, &history, 20_000) else { panic!("seed {seed}") };
        assert!(!violation.longest.contains(&spoiled), "seed {seed}");
        // The search is stuck where the read is, and not far behind it.
        let (stuck, read) = (history.operation(violation.stuck), history.operation(spoiled));
        assert!(stuck.called <= read.returned().expect("answered") + 100, "seed {seed}: {stuck:?}, {read:?}");
    }
}

#[test]
fn hundreds_of_unknown_operations_are_judged() {
    let mix = Mix { unknown_percent: 5, ..MIX };
    for seed in 1..=3 {
        let history = generate(&mut Random(seed), &mix);
        let unknown = history.operations().filter(|(_, operation)| operation.answer.is_none()).count();
        assert!(unknown > 300, "{unknown} are unknown");
        right(&NUMBERS, &history, 200_000);
    }
}

#[test]
fn a_stale_read_is_found_among_unknown_operations() {
    let mix = Mix { unknown_percent: 1, ..MIX };
    for seed in 1..=3 {
        let (history, spoiled) = with_a_stale_read(&generate(&mut Random(seed), &mix));
        let Verdict::Violation(violation) = check(&NUMBERS, &history, 2_000_000) else {
            panic!("seed {seed}")
        };
        assert!(!violation.longest.contains(&spoiled), "seed {seed}");
    }
}

#[test]
fn a_history_with_reads_of_all_keys_is_judged_as_one() {
    let mix = Mix { operations: 3_000, read_all_permille: 50, ..MIX };
    for seed in 1..=3 {
        let history = generate(&mut Random(seed), &mix);
        let verdict = check(&NUMBERS, &history, 300_000);
        let Verdict::Linearizable { orders } = &verdict else { panic!("seed {seed}: {verdict}") };
        assert_eq!(orders.len(), 1);
        prove(&NUMBERS, &history, orders);
    }
}

#[test]
fn one_client_after_the_other_takes_a_step_for_each_operation() {
    let history = generate(&mut Random(7), &Mix { clients: 1, keys: 1, operations: 2_000, ..MIX });
    right(&NUMBERS, &history, 2_000);
    assert!(!check(&NUMBERS, &history, 1_999).is_linearizable());
}

#[test]
fn a_spent_budget_is_not_a_pass() {
    let (history, _) = draw("A [wk1] [rk1]");
    assert_eq!(check(&NUMBERS, &history, 1), Verdict::BudgetSpent { partitions: 1, max_steps: 1 });
    assert_eq!(check(&NUMBERS, &history, 0), Verdict::BudgetSpent { partitions: 1, max_steps: 0 });
    assert!(check(&NUMBERS, &history, 2).is_linearizable());
}

/// Twenty operations at once that may come in any order, and a read that none of the orders explains: the part of
/// `j` is given up, and the violation of `k` is certain all the same.
#[test]
fn a_violation_is_found_beside_a_partition_that_was_given_up() {
    let mut history = History::new();
    for client in 0..20 {
        let id = history.invoke(client, Input::Add('j', 1 << client), 0);
        history.complete(id, Output::Done, 100);
    }
    let read = history.invoke(20, Input::Read('j'), 200);
    history.complete(read, Output::Seen(0), 300);
    assert_eq!(check(&NUMBERS, &history, 10_000), Verdict::BudgetSpent { partitions: 1, max_steps: 10_000 });

    let read = history.invoke(21, Input::Read('k'), 0);
    history.complete(read, Output::Seen(9), 10);
    let Verdict::Violation(violation) = check(&NUMBERS, &history, 10_000) else { panic!("passed") };
    assert_eq!((violation.stuck, violation.operations), (read, vec![read]));
}

#[test]
fn a_verdict_does_not_depend_on_how_the_history_was_recorded() {
    for unknown_percent in [0, 3] {
        let mix = Mix { operations: 2_000, unknown_percent, ..MIX };
        let (history, _) = with_a_stale_read(&generate(&mut Random(3), &mix));
        let verdict = check(&NUMBERS, &history, 1_000_000);
        assert_eq!(verdict, check(&NUMBERS, &history.clone(), 1_000_000));

        // Client by client, as from books that were kept apart.
        let mut apart = History::new();
        for client in 0..mix.clients {
            for (_, operation) in history.operations().filter(|(_, operation)| operation.client == client) {
                let id = apart.invoke(client, operation.input.clone(), operation.called);
                if let Some(answer) = &operation.answer {
                    apart.complete(id, answer.output.clone(), answer.at);
                }
            }
        }
        let (Verdict::Violation(one), Verdict::Violation(other)) = (verdict, judge(&NUMBERS, &apart)) else {
            panic!("both are wrong");
        };
        assert_eq!(one.longest.len(), other.longest.len());
        assert_eq!(one.operations.len(), other.operations.len());
    }
}

/// Comparing sets of unknown operations is work too, and the budget bounds it: the ten bits that twelve unknown
/// operations set in any order lead to few states by many ways.
#[test]
fn the_budget_bounds_more_than_the_applications_of_the_model() {
    use std::cell::Cell;
    use tenure_linear::Model;

    /// Bits that are set, and how often the model was asked.
    struct Bits(Cell<u64>);
    impl Model for Bits {
        type State = u32;
        type Input = u32;
        type Output = ();
        type Key = ();
        fn initial(&self) -> u32 {
            0
        }
        fn step(&self, state: &u32, bits: &u32, output: Option<&()>) -> Option<u32> {
            self.0.set(self.0.get() + 1);
            // Only what was answered is impossible.
            output.is_none().then_some(state | bits)
        }
        fn partition(&self, _: &u32) -> Option<()> {
            Some(())
        }
    }

    let mut history = History::new();
    for client in 0..12 {
        history.invoke(client, 0b11 << (client % 10), client);
    }
    let id = history.invoke(20, 0, 20);
    history.complete(id, (), 30);
    let applications = |max_steps: u64| {
        let bits = Bits(Cell::new(0));
        (check(&bits, &history, max_steps), bits.0.get())
    };
    let (verdict, enough) = applications(1_000_000);
    assert!(matches!(verdict, Verdict::Violation(_)), "{verdict}");
    assert_eq!(applications(enough).0, Verdict::BudgetSpent { partitions: 1, max_steps: enough });
}

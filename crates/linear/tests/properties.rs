//! The checker against a second version that is too simple to be wrong: all orders of all subsets.

mod common;

use std::collections::BTreeMap;

use common::{Input, Numbered, Numbers, Output, STEPS, draw, judge};
use proptest::prelude::*;
use tenure_linear::{History, Model, Operation, Verdict, check};

/// Whether some order of all answered operations and some of the others is allowed by the model and by time.
fn is_linearizable_by_trying_all(model: &Numbers, history: &Numbered) -> bool {
    let operations: Vec<&Operation<Input, Output>> =
        history.operations().map(|(_, operation)| operation).collect();
    try_all(model, &operations, &mut Vec::new())
}

fn try_all(model: &Numbers, operations: &[&Operation<Input, Output>], order: &mut Vec<usize>) -> bool {
    let all_answered = (0..operations.len()).all(|at| order.contains(&at) || operations[at].answer.is_none());
    if all_answered && is_allowed(model, operations, order) {
        return true;
    }
    (0..operations.len()).any(|next| {
        if order.contains(&next) {
            return false;
        }
        order.push(next);
        let found = try_all(model, operations, order);
        order.pop();
        found
    })
}

/// How many answered operations an order can have at most, if it need not have all of them but has, with each
/// operation, all that were answered before its call.
fn longest_by_trying_all(
    model: &Numbers,
    operations: &[&Operation<Input, Output>],
    order: &mut Vec<usize>,
) -> usize {
    let mut longest = order.iter().filter(|&&at| operations[at].answer.is_some()).count();
    for next in 0..operations.len() {
        let others = || (0..operations.len()).filter(|at| !order.contains(at));
        if order.contains(&next) || others().any(|other| is_before(operations, other, next)) {
            continue;
        }
        order.push(next);
        if is_allowed(model, operations, order) {
            longest = longest.max(longest_by_trying_all(model, operations, order));
        }
        order.pop();
    }
    longest
}

fn is_allowed(model: &Numbers, operations: &[&Operation<Input, Output>], order: &[usize]) -> bool {
    let in_time = (0..order.len())
        .all(|at| order[at + 1..].iter().all(|&later| !is_before(operations, later, order[at])));
    in_time
        && order
            .iter()
            .try_fold(model.initial(), |state, &at| {
                model.step(&state, &operations[at].input, operations[at].output())
            })
            .is_some()
}

/// Whether `one` was answered before `two` was called; at the same time, the books of their one client decide.
fn is_before(operations: &[&Operation<Input, Output>], one: usize, two: usize) -> bool {
    let (first, second) = (operations[one], operations[two]);
    first.returned().is_some_and(|at| {
        at < second.called || (at == second.called && first.client == second.client && one < two)
    })
}

/// What an operation of a generated history is, before it has times.
#[derive(Clone, Debug)]
struct Sketch {
    client: u64,
    /// Since the client's last answer.
    pause: u64,
    duration: u64,
    is_answered: bool,
    input: Input,
    output: Output,
}

fn value() -> impl Strategy<Value = u32> {
    0_u32..3
}

fn asked(keys: &'static [char]) -> impl Strategy<Value = (Input, Output)> {
    let key = || proptest::sample::select(keys);
    let held = prop_oneof![Just(Output::Done), Just(Output::Differs)];
    prop_oneof![
        3 => (key(), value()).prop_map(|(key, value)| (Input::Write(key, value), Output::Done)),
        5 => (key(), value()).prop_map(|(key, value)| (Input::Read(key), Output::Seen(value))),
        2 => (key(), value(), value(), held)
            .prop_map(|(key, old, new, output)| (Input::CompareAndSet(key, old, new), output)),
        1 => key().prop_map(|key| (Input::Add(key, 1), Output::Done)),
    ]
}

fn sketch(keys: &'static [char], pauses: std::ops::Range<u64>) -> impl Strategy<Value = Sketch> {
    sketch_with(keys, pauses, 0.75)
}

/// With this part of the operations answered.
fn sketch_with(
    keys: &'static [char],
    pauses: std::ops::Range<u64>,
    answered: f64,
) -> impl Strategy<Value = Sketch> {
    (0_u64..3, pauses, 0_u64..6, proptest::bool::weighted(answered), asked(keys)).prop_map(
        |(client, pause, duration, is_answered, (input, output))| Sketch {
            client,
            pause,
            duration,
            is_answered,
            input,
            output,
        },
    )
}

fn history_of(sketches: &[Sketch]) -> Numbered {
    let mut history = History::new();
    let mut free_at: BTreeMap<u64, u64> = BTreeMap::new();
    for sketch in sketches {
        let called = free_at.get(&sketch.client).copied().unwrap_or(0) + sketch.pause;
        let returned = called + sketch.duration;
        let id = history.invoke(sketch.client, sketch.input.clone(), called);
        if sketch.is_answered {
            history.complete(id, sketch.output.clone(), returned);
        }
        free_at.insert(sketch.client, returned);
    }
    history
}

fn agree(model: &Numbers, history: &Numbered) -> Result<bool, TestCaseError> {
    let verdict = judge(model, history);
    let expected = is_linearizable_by_trying_all(model, history);
    prop_assert!(!matches!(verdict, Verdict::BudgetSpent { .. }), "six operations are no work");
    prop_assert_eq!(verdict.is_linearizable(), expected, "{}", verdict);
    if let Verdict::Violation(violation) = &verdict {
        prop_assert!(!violation.longest.contains(&violation.stuck));
        let of_partition: Vec<_> = violation.operations.iter().map(|&id| history.operation(id)).collect();
        let answered = violation.longest.iter().filter(|&&id| history.operation(id).answer.is_some()).count();
        prop_assert_eq!(answered, longest_by_trying_all(model, &of_partition, &mut Vec::new()));
        // Panics unless the model allows the longest order.
        prop_assert!(violation.explain(model, history).contains("fits nowhere"));
    }
    Ok(expected)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn one_key_is_judged_as_by_trying_all(
        sketches in proptest::collection::vec(sketch(&['k'], 0..4), 0..=6),
    ) {
        agree(&Numbers { partitioned: true }, &history_of(&sketches))?;
    }

    /// Partitions give the verdict of the whole: with times that differ, so that the order of calls and answers
    /// is known.
    #[test]
    fn two_keys_are_judged_as_by_trying_all(
        sketches in proptest::collection::vec(sketch(&['j', 'k'], 1..4), 0..=6),
    ) {
        let mut sketches = sketches;
        for (at, sketch) in sketches.iter_mut().enumerate() {
            // Multiples of 64 that differ by the operation's own number.
            sketch.pause = sketch.pause * 64 + at as u64;
            sketch.duration = sketch.duration * 64 + at as u64 + 8;
        }
        let history = history_of(&sketches);
        let alone = agree(&Numbers { partitioned: true }, &history)?;
        let whole = agree(&Numbers { partitioned: false }, &history)?;
        prop_assert_eq!(alone, whole);
    }

    /// A history of a real register is right, however long; and with one read of what nobody wrote it is wrong.
    #[test]
    fn what_a_register_has_answered_is_right(
        sketches in proptest::collection::vec(sketch_with(&['k'], 0..4, 0.95), 20..200),
        moments in proptest::collection::vec(0_u64..6, 200),
        spoiled in any::<proptest::sample::Index>(),
    ) {
        let model = Numbers { partitioned: true };
        let history = history_of(&answered_by_a_register(&model, &sketches, &moments));
        prop_assert!(judge(&model, &history).is_linearizable());

        let mut spoiled_history = history.clone();
        let reader = spoiled.index(sketches.len()) as u64;
        let id = spoiled_history.invoke(100, Input::Read('k'), reader);
        spoiled_history.complete(id, Output::Seen(u32::MAX), reader + 5);
        let verdict = check(&model, &spoiled_history, STEPS);
        prop_assert!(matches!(verdict, Verdict::Violation(_)), "{}", verdict);
    }
}

/// The sketches with the answers of a register at which each operation takes effect at a moment between its
/// call and its answer; of those without an answer every second takes effect, at some time after its call.
fn answered_by_a_register(model: &Numbers, sketches: &[Sketch], moments: &[u64]) -> Vec<Sketch> {
    let mut sketches = sketches.to_vec();
    let plain = history_of(&sketches);
    let mut effects: Vec<(u64, usize)> = Vec::new();
    for (at, (_, operation)) in plain.operations().enumerate() {
        let moment = moments[at];
        match operation.returned() {
            Some(returned) => effects.push((operation.called + moment.min(returned - operation.called), at)),
            None if moment.is_multiple_of(2) => effects.push((operation.called + moment * 10, at)),
            None => {}
        }
    }
    effects.sort_unstable();
    let mut state = model.initial();
    for (_, at) in effects {
        let input = &sketches[at].input;
        let outputs = [Output::Done, Output::Differs, Output::Seen(state.get(&'k').copied().unwrap_or(0))];
        let output = outputs.into_iter().find(|output| model.step(&state, input, Some(output)).is_some());
        let output = output.expect("the register answers everything");
        state = model.step(&state, input, Some(&output)).expect("it was just found");
        sketches[at].output = output;
    }
    sketches
}

/// The properties would say little if nearly all generated histories were right, or wrong.
#[test]
fn the_generated_histories_are_of_both_kinds() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let strategy = proptest::collection::vec(sketch(&['k'], 0..4), 4..=6);
    let model = Numbers { partitioned: true };
    let right = (0..500)
        .filter(|_| {
            let sketches = strategy.new_tree(&mut runner).expect("no filter rejects").current();
            judge(&model, &history_of(&sketches)).is_linearizable()
        })
        .count();
    assert!((100..400).contains(&right), "{right} of 500 are right");
}

#[test]
fn the_second_version_knows_right_from_wrong() {
    let model = Numbers { partitioned: true };
    for (expected, drawing) in [
        (true, "A [wk1] [rk1]"),
        (false, "A [wk1] [rk0]"),
        (true, "A [wk1\nB      [rk0] [rk1]"),
        (false, "A [wk1\nB      [rk1] [rk0]"),
    ] {
        assert_eq!(is_linearizable_by_trying_all(&model, &draw(drawing).0), expected, "{drawing}");
    }
}

//! Histories as one draws them, and a map of small numbers as their model.
//!
//! A line is a client, a column is a moment. An operation runs from its `[` to its `]`; one without a `]` is
//! never answered, and runs to the end of its line; one that ends in `x]` is told that it has certainly failed.
//!
//! ```text
//! A  [wk1]      [rk1]         writes 1 to k; reads k and sees 1
//! B      [wk2                 writes 2 to k, without an answer
//! C    [ck12]  [ck12!]        k from 1 to 2: has done so; was told that k is not 1
//! D  [+k1 x]   [ak1j0]        adds 1 to k: has failed; reads all: k is 1 and j is 0
//! ```
#![allow(dead_code)] // Each test file uses its part.

pub(crate) mod generate;

use std::collections::BTreeMap;

use tenure_linear::{History, Model, OpId, Verdict, check};

/// Numbers by letters; all are 0 at the beginning.
pub(crate) struct Numbers {
    /// Whether keys are judged by themselves.
    pub(crate) partitioned: bool,
}

pub(crate) const NUMBERS: Numbers = Numbers { partitioned: true };

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Input {
    Write(char, u32),
    Read(char),
    CompareAndSet(char, u32, u32),
    Add(char, u32),
    ReadAll,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Output {
    Done,
    Seen(u32),
    /// The comparison did not hold.
    Differs,
    SeenAll(BTreeMap<char, u32>),
}

impl Model for Numbers {
    type State = BTreeMap<char, u32>;
    type Input = Input;
    type Output = Output;
    type Key = char;

    fn initial(&self) -> Self::State {
        BTreeMap::new()
    }

    fn step(&self, state: &Self::State, input: &Input, output: Option<&Output>) -> Option<Self::State> {
        let (answer, next) = apply(state, input);
        output.is_none_or(|output| *output == answer).then_some(next)
    }

    fn is_read_only(&self, input: &Input, output: Option<&Output>) -> bool {
        match input {
            Input::Read(_) | Input::ReadAll => true,
            Input::CompareAndSet(..) => output == Some(&Output::Differs),
            Input::Write(..) | Input::Add(..) => false,
        }
    }

    fn partition(&self, input: &Input) -> Option<char> {
        match input {
            Input::Write(key, _) | Input::Read(key) | Input::CompareAndSet(key, ..) | Input::Add(key, _) => {
                self.partitioned.then_some(*key)
            }
            Input::ReadAll => None,
        }
    }
}

/// What the numbers answer, and what they are then.
fn apply(state: &BTreeMap<char, u32>, input: &Input) -> (Output, BTreeMap<char, u32>) {
    let value = |key: &char| state.get(key).copied().unwrap_or(0);
    let with = |key: &char, value: u32| {
        let mut state = state.clone();
        if value == 0 {
            state.remove(key)
        } else {
            state.insert(*key, value)
        };
        state
    };
    match input {
        Input::Write(key, new) => (Output::Done, with(key, *new)),
        Input::Read(key) => (Output::Seen(value(key)), state.clone()),
        Input::CompareAndSet(key, old, new) if value(key) == *old => (Output::Done, with(key, *new)),
        Input::CompareAndSet(..) => (Output::Differs, state.clone()),
        Input::Add(key, more) => (Output::Done, with(key, value(key) + more)),
        Input::ReadAll => (Output::SeenAll(state.clone()), state.clone()),
    }
}

pub(crate) type Numbered = History<Input, Output>;

/// The history that `drawing` shows, and its operations by their words, in the order of the lines.
pub(crate) fn draw(drawing: &str) -> (Numbered, Vec<(String, OpId)>) {
    let mut history = History::new();
    let mut words = Vec::new();
    let lines = drawing.lines().filter(|line| !line.trim().is_empty());
    for (client, line) in lines.enumerate() {
        let columns: Vec<char> = line.chars().collect();
        let calls = (0..columns.len()).filter(|&at| columns[at] == '[');
        for call in calls {
            let text: String = columns[call + 1..].iter().take_while(|&&c| c != ']' && c != '[').collect();
            let end = call + 1 + text.chars().count();
            let (input, output) = parse(text.trim().trim_end_matches('x').trim());
            let id = history.invoke(client as u64, input, call as u64);
            let is_answered = columns.get(end) == Some(&']');
            words.push((text.trim().to_owned(), id));
            match (is_answered, text.trim().ends_with('x')) {
                (true, true) => history.withdraw(id),
                (true, false) => history.complete(id, output, end as u64),
                (false, _) => {}
            }
        }
    }
    (history, words)
}

fn parse(text: &str) -> (Input, Output) {
    let letters: Vec<char> = text.chars().collect();
    let digit = |at: usize| letters[at].to_digit(10).unwrap_or_else(|| panic!("{text} has a digit at {at}"));
    match letters[0] {
        'w' => (Input::Write(letters[1], digit(2)), Output::Done),
        'r' => (Input::Read(letters[1]), Output::Seen(letters.get(2).map_or(0, |_| digit(2)))),
        'c' => {
            let output = if letters.get(4) == Some(&'!') { Output::Differs } else { Output::Done };
            (Input::CompareAndSet(letters[1], digit(2), digit(3)), output)
        }
        '+' => (Input::Add(letters[1], digit(2)), Output::Done),
        'a' => {
            let pairs = letters[1..].chunks(2).enumerate().map(|(at, pair)| (pair[0], digit(2 + 2 * at)));
            (Input::ReadAll, Output::SeenAll(pairs.filter(|&(_, value)| value != 0).collect()))
        }
        other => panic!("{other} is no operation"),
    }
}

/// More than any history of these tests needs that is not about the budget.
pub(crate) const STEPS: u64 = 1_000_000;

/// The verdict, after making sure that an order that is given is a proof.
pub(crate) fn judge(model: &Numbers, history: &Numbered) -> Verdict {
    let verdict = check(model, history, STEPS);
    if let Verdict::Linearizable { orders } = &verdict {
        prove(model, history, orders);
    }
    verdict
}

/// Every answered operation is in one order, once; the model allows each order; and no operation stands behind
/// one that was called after it was answered.
pub(crate) fn prove(model: &Numbers, history: &Numbered, orders: &[Vec<OpId>]) {
    let mut placed: Vec<OpId> = orders.concat();
    placed.sort();
    assert!(placed.windows(2).all(|pair| pair[0] < pair[1]), "twice in {orders:?}");
    let answered = history.operations().filter(|(_, operation)| operation.answer.is_some());
    assert!(answered.map(|(id, _)| id).all(|id| placed.contains(&id)), "not all in {orders:?}");
    for order in orders {
        let mut state = model.initial();
        let mut latest_call = 0;
        for &id in order {
            let operation = history.operation(id);
            state = model.step(&state, &operation.input, operation.output()).expect("allowed");
            latest_call = latest_call.max(operation.called);
            assert!(operation.returned().is_none_or(|at| at >= latest_call), "{id} is too late in {order:?}");
        }
    }
}

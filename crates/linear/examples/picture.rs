//! Prints the picture of a violation as HTML: a register that was read stale while a write was lost on its way.
//!
//! `cargo run -p tenure-linear --example picture > violation.html`

use tenure_linear::{History, Model, Verdict, check, picture};

/// One number, 0 at the beginning.
struct Register;

#[derive(PartialEq, Debug)]
enum Input {
    Write(u32),
    Read,
}

impl Model for Register {
    type State = u32;
    type Input = Input;
    /// What a read has seen, and what a write has written.
    type Output = u32;
    type Key = ();

    fn initial(&self) -> u32 {
        0
    }

    fn step(&self, state: &u32, input: &Input, output: Option<&u32>) -> Option<u32> {
        match input {
            Input::Write(value) => Some(*value),
            Input::Read => output.is_none_or(|seen| seen == state).then_some(*state),
        }
    }

    fn is_read_only(&self, input: &Input, _: Option<&u32>) -> bool {
        *input == Input::Read
    }

    fn partition(&self, _: &Input) -> Option<()> {
        Some(())
    }

    fn describe(&self, input: &Input, output: Option<&u32>) -> String {
        match (input, output) {
            (Input::Write(value), Some(_)) => format!("write {value}"),
            (Input::Write(value), None) => format!("write {value}?"),
            (Input::Read, Some(seen)) => format!("read {seen}"),
            (Input::Read, None) => "read ?".to_owned(),
        }
    }
}

fn main() {
    let mut history = History::new();
    let asked = [
        (1, Input::Write(1), 0, Some((1, 40))),
        (2, Input::Write(2), 10, Some((2, 60))),
        (3, Input::Read, 20, Some((1, 50))),
        (4, Input::Write(3), 55, None),
        (3, Input::Read, 70, Some((2, 90))),
        (2, Input::Read, 80, Some((3, 120))),
        (1, Input::Write(4), 100, Some((4, 160))),
        (3, Input::Read, 130, Some((2, 150))),
        (2, Input::Read, 140, Some((4, 180))),
    ];
    for (client, input, called, answer) in asked {
        let id = history.invoke(client, input, called);
        if let Some((output, at)) = answer {
            history.complete(id, output, at);
        }
    }
    let verdict = check(&Register, &history, 10_000);
    let Verdict::Violation(violation) = verdict else {
        panic!("the last read of client 3 is stale: {verdict}")
    };
    print!("{}", picture(&Register, &history, &violation));
}

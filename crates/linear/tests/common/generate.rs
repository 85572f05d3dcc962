//! Long histories of a true object: each operation takes effect at a moment between its call and its answer.

use std::collections::BTreeMap;

use tenure_linear::{History, Model, OpId};

use super::{Input, NUMBERS, Numbered, Output};

/// A small generator of numbers, the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Less than `bound`. The step is xorshift64 (G. Marsaglia, 2003).
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }
}

/// What is to be generated.
pub(crate) struct Mix {
    pub(crate) operations: usize,
    pub(crate) clients: u64,
    pub(crate) keys: u64,
    /// Of a hundred operations, so many are never answered; half of them take effect.
    pub(crate) unknown_percent: u64,
    /// Of a thousand operations, so many read all keys.
    pub(crate) read_all_permille: u64,
}

/// An operation that runs.
struct Running {
    id: OpId,
    takes_effect_at: Option<u64>,
    returns_at: u64,
    is_answered: bool,
    output: Option<Output>,
}

/// A history in which each client has one operation at a time, so that as many run at once as there are clients.
pub(crate) fn generate(random: &mut Random, mix: &Mix) -> Numbered {
    let mut history = History::new();
    let mut state = NUMBERS.initial();
    let mut running: BTreeMap<u64, Running> = BTreeMap::new();
    // Unknown operations that their clients no longer wait for, by the time at which they take effect.
    let mut late: Vec<(u64, OpId)> = Vec::new();
    let mut asked = 0;
    for now in 0.. {
        for client in 0..mix.clients {
            if let Some(operation) = running.get_mut(&client) {
                if operation.takes_effect_at == Some(now) {
                    operation.output = Some(take_effect(&mut state, &history.operation(operation.id).input));
                }
                if operation.returns_at <= now {
                    let operation = running.remove(&client).expect("it runs");
                    match (operation.is_answered, operation.takes_effect_at) {
                        (true, _) => history.complete(operation.id, operation.output.expect("done"), now),
                        (false, Some(at)) => late.push((at, operation.id)),
                        (false, None) => {}
                    }
                }
            } else if asked < mix.operations {
                asked += 1;
                let id = history.invoke(client, draw_input(random, mix, now), now);
                running.insert(client, draw_running(random, mix, id, now));
            }
        }
        for (_, id) in late.extract_if(.., |(at, _)| *at <= now) {
            take_effect(&mut state, &history.operation(id).input);
        }
        if running.is_empty() && asked == mix.operations {
            break;
        }
    }
    history
}

fn draw_running(random: &mut Random, mix: &Mix, id: OpId, now: u64) -> Running {
    let returns_at = now + 1 + random.below(40);
    let is_answered = random.below(100) >= mix.unknown_percent;
    let takes_effect_at = match (is_answered, random.below(2)) {
        (true, _) => Some(now + 1 + random.below(returns_at - now)),
        (false, 0) => Some(returns_at + random.below(400)),
        (false, _) => None,
    };
    Running { id, takes_effect_at, returns_at, is_answered, output: None }
}

/// Half of them read. What is written is written once, as a test of a store would do it.
fn draw_input(random: &mut Random, mix: &Mix, now: u64) -> Input {
    if random.below(1000) < mix.read_all_permille {
        return Input::ReadAll;
    }
    let key = char::from(b'a' + random.below(mix.keys) as u8);
    let value = now as u32 * 100 + random.below(100) as u32 + 1;
    match random.below(10) {
        0..5 => Input::Read(key),
        5..8 => Input::Write(key, value),
        8 => Input::CompareAndSet(key, random.below(5) as u32, value),
        _ => Input::Add(key, 1),
    }
}

fn take_effect(state: &mut BTreeMap<char, u32>, input: &Input) -> Output {
    let (output, next) = super::apply(state, input);
    *state = next;
    output
}

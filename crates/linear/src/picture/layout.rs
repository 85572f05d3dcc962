//! Which operations a picture shows, and where. Knows nothing of HTML; columns and rows are numbers.

use std::collections::{BTreeMap, BTreeSet};

use crate::{History, HistoryOf, Model, OpId, Operation, Violation};

/// Of the order, this many at its end are drawn.
const MAX_PLACED: usize = 40;
/// Of the answered operations without a place, the first this many.
const MAX_UNPLACED: usize = 16;
/// Of those of unknown outcome without a place, the last this many that were called before the violation.
const MAX_UNKNOWN: usize = 12;
/// Between the edge of a time's column and the bars that begin and end in it.
const INSET: f64 = 0.08;

/// What an operation is to the violation.
pub(super) enum Kind {
    /// In the longest order: as which, and what it leads to.
    Placed { number: usize, state: String },
    /// What would have to be next.
    Stuck,
    /// Neither.
    Unplaced,
}

/// A drawn operation. Its ends are in columns.
pub(super) struct Bar {
    pub(super) kind: Kind,
    pub(super) client: u64,
    pub(super) label: String,
    /// All that is known of it.
    pub(super) title: String,
    pub(super) is_answered: bool,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) row: usize,
}

/// A picture before it is drawn.
pub(super) struct Layout {
    /// First those in the order, in order; then what is stuck; then the others.
    pub(super) bars: Vec<Bar>,
    /// The first row of each client that has one.
    pub(super) clients: Vec<(u64, usize)>,
    pub(super) columns: usize,
    pub(super) rows: usize,
    /// What is not drawn, in words.
    pub(super) left_out: String,
}

impl Layout {
    pub(super) fn new<M: Model>(model: &M, history: &HistoryOf<M>, violation: &Violation) -> Self {
        let Violation { operations, longest, stuck } = violation;
        let states = violation.states(model, history);
        let earlier = longest.len().saturating_sub(MAX_PLACED);
        let drawn = [&longest[earlier..], &[*stuck], &others(history, violation)].concat();
        let columns = columns(history, &drawn);
        let mut bars = Vec::new();
        for (at, &id) in drawn.iter().enumerate() {
            let number = earlier + at + 1;
            let kind = match states.get(number) {
                Some(state) => Kind::Placed { number, state: model.describe_state(state) },
                None if id == *stuck => Kind::Stuck,
                None => Kind::Unplaced,
            };
            bars.push(bar(model, history.operation(id), kind, &columns));
        }
        let (clients, rows) = assign_rows(&mut bars);
        let left_out = format!(
            "Not drawn: the first {earlier} of the order, which lead to the state {}, and {} without a place in it",
            model.describe_state(&states[earlier]),
            operations.len() - earlier - drawn.len(),
        );
        // One more for the open ends.
        Self { bars, clients, columns: columns.len() + 1, rows, left_out }
    }

    /// The drawn part of the order: each operation as early as its own call and the operations before it let it
    /// be. Those of one column share it evenly.
    pub(super) fn order(&self) -> Vec<(f64, &Bar)> {
        let mut column = 0;
        let mut order: Vec<(usize, &Bar)> = Vec::new();
        for bar in self.bars.iter().filter(|bar| matches!(bar.kind, Kind::Placed { .. })) {
            column = column.max(bar.from as usize);
            order.push((column, bar));
        }
        let shared = order.chunk_by(|one, next| one.0 == next.0);
        shared
            .flat_map(|shared| {
                let distance = (1.0 - 2.0 * INSET) / (shared.len() + 1) as f64;
                (1..).zip(shared).map(move |(number, &(column, bar))| {
                    (column as f64 + INSET + distance * f64::from(number), bar)
                })
            })
            .collect()
    }
}

/// The operations that are neither in the order nor stuck, as far as they are drawn.
fn others<I, O>(history: &History<I, O>, violation: &Violation) -> Vec<OpId> {
    let placed: BTreeSet<OpId> = violation.longest.iter().copied().collect();
    let called = |id: &OpId| history.operation(*id).called;
    let mut others = violation.operations.clone();
    others.retain(|id| !placed.contains(id) && *id != violation.stuck);
    others.sort_by_key(called);
    let (mut answered, mut unknown): (Vec<OpId>, Vec<OpId>) =
        others.into_iter().partition(|id| history.operation(*id).answer.is_some());
    let until = history.operation(violation.stuck).returned();
    unknown.retain(|id| until.is_none_or(|at| called(id) <= at));
    answered.truncate(MAX_UNPLACED);
    answered.extend(unknown.into_iter().rev().take(MAX_UNKNOWN));
    answered
}

/// A column for every different time at which something drawn happens.
fn columns<I, O>(history: &History<I, O>, drawn: &[OpId]) -> BTreeMap<u64, usize> {
    let drawn = drawn.iter().map(|&id| history.operation(id));
    let times: BTreeSet<u64> =
        drawn.flat_map(|operation| std::iter::once(operation.called).chain(operation.returned())).collect();
    times.into_iter().zip(0..).collect()
}

fn bar<M: Model>(
    model: &M,
    operation: &Operation<M::Input, M::Output>,
    kind: Kind,
    columns: &BTreeMap<u64, usize>,
) -> Bar {
    let (client, called) = (operation.client, operation.called);
    let label = model.describe(&operation.input, operation.output());
    let (to, answered) = match operation.returned() {
        Some(at) => (columns[&at] as f64 + 1.0 - INSET, format!("answered at {at}")),
        None => (columns.len() as f64 + 1.0, "never answered".to_owned()),
    };
    let place = match &kind {
        Kind::Placed { number, state } => format!("{number} of the order; state after it: {state}"),
        Kind::Stuck => "would have to be next in the order, and the model does not allow it".to_owned(),
        Kind::Unplaced => "without a place in the order".to_owned(),
    };
    let title = format!("client {client}: {label}\ncalled at {called}, {answered}\n{place}");
    let (is_answered, from) = (operation.answer.is_some(), columns[&called] as f64 + INSET);
    Bar { kind, client, label, title, is_answered, from, to, row: 0 }
}

/// Gives each client as many rows as it has operations at the same time. Says where each client begins, and how
/// many rows there are.
fn assign_rows(bars: &mut [Bar]) -> (Vec<(u64, usize)>, usize) {
    let mut by_client: BTreeMap<u64, Vec<&mut Bar>> = BTreeMap::new();
    for bar in bars {
        by_client.entry(bar.client).or_default().push(bar);
    }
    let mut clients = Vec::new();
    let mut rows = 0;
    for (client, mut own) in by_client {
        clients.push((client, rows));
        own.sort_by(|one, other| one.from.total_cmp(&other.from));
        let mut ends: Vec<f64> = Vec::new();
        for bar in own {
            let free = ends.iter().position(|&end| end <= bar.from).unwrap_or(ends.len());
            ends.resize(ends.len().max(free + 1), 0.0);
            ends[free] = bar.to;
            bar.row = rows + free;
        }
        rows += ends.len();
    }
    (clients, rows)
}

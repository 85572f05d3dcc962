//! Transactions: first all comparisons, then all checks, then the writes.
//!
//! A transaction within another is compared against the state before any write too, so the whole path is
//! known before the first operation, and everything on it that can fail is checked. From the first write on
//! nothing fails: a transaction is applied whole or not at all, on every member alike (etcd#18799,
//! etcd#18667).

use crate::interval::Interval;
use crate::record::{Change, Record};
use crate::state::State;
use crate::write::{Writer, check_put};
use crate::{
    Compare, DeleteRangeRequest, Operand, PutRequest, RangeRequest, Rejection, Relation, RequestOp,
    ResponseOp, TxnRequest, TxnResponse, range,
};

/// How many keys the comparisons of a transaction may look at, all together, where it writes: that is done by all
/// members, one entry after the other, and nobody else is served meanwhile (`docs/adr/0014-answers-of-transactions.md`).
/// A comparison ends with the first key for which it does not hold.
pub const MAX_COMPARED_KEYS: usize = 1 << 20;

/// The branch that a transaction takes, with those of the transactions within it.
pub(crate) struct Plan<'a> {
    succeeded: bool,
    steps: Vec<Step<'a>>,
}

enum Step<'a> {
    Range(&'a RangeRequest),
    Put(&'a PutRequest),
    DeleteRange(&'a DeleteRangeRequest),
    Txn(Plan<'a>),
}

impl<'a> Plan<'a> {
    /// Compares, chooses, and checks what was chosen. Refused if it takes the comparison of more than `left` keys,
    /// which is counted down.
    pub(crate) fn new(state: &State, request: &'a TxnRequest, left: &mut usize) -> Result<Self, Rejection> {
        let plan = Self::choose(state, request, left)?;
        plan.check(state)?;
        Ok(plan)
    }

    fn choose(state: &State, request: &'a TxnRequest, left: &mut usize) -> Result<Self, Rejection> {
        let mut succeeded = true;
        for compare in &request.compare {
            succeeded = holds(state, compare, left)?;
            if !succeeded {
                break;
            }
        }
        let ops = if succeeded { &request.success } else { &request.failure };
        let steps = ops.iter().map(|op| Step::choose(state, op, left)).collect::<Result<_, _>>()?;
        Ok(Self { succeeded, steps })
    }

    fn check(&self, state: &State) -> Result<(), Rejection> {
        self.steps.iter().try_for_each(|step| match step {
            Step::Range(request) => range::check_revision(state, request),
            Step::Put(request) => check_put(state, request),
            Step::DeleteRange(_) => Ok(()),
            Step::Txn(plan) => plan.check(state),
        })
    }

    /// Runs the steps; the revision of the answer is the one that the writer has come to.
    pub(crate) fn execute(&self, writer: &mut Writer<'_>) -> TxnResponse {
        let responses = self.run_steps(writer);
        TxnResponse { revision: writer.revision(), succeeded: self.succeeded, responses }
    }

    fn run_steps(&self, writer: &mut Writer<'_>) -> Vec<ResponseOp> {
        self.steps.iter().map(|step| step.run(writer)).collect()
    }
}

impl<'a> Step<'a> {
    fn choose(state: &State, op: &'a RequestOp, left: &mut usize) -> Result<Self, Rejection> {
        Ok(match op {
            RequestOp::Range(request) => Step::Range(request),
            RequestOp::Put(request) => Step::Put(request),
            RequestOp::DeleteRange(request) => Step::DeleteRange(request),
            RequestOp::Txn(request) => Step::Txn(Plan::choose(state, request, left)?),
            RequestOp::Unset => return Err(Rejection::KeyNotFound),
        })
    }

    fn run(&self, writer: &mut Writer<'_>) -> ResponseOp {
        match self {
            Step::Range(request) => writer.range(request),
            Step::Put(request) => ResponseOp::Put(writer.put(request)),
            Step::DeleteRange(request) => ResponseOp::DeleteRange(writer.delete_range(request)),
            Step::Txn(plan) => {
                let responses = plan.run_steps(writer);
                ResponseOp::Txn(TxnResponse { revision: 0, succeeded: plan.succeeded, responses })
            }
        }
    }
}

/// Whether a comparison holds for every key of its range. A range without keys counts as one key that was
/// never written, whose value cannot be compared.
fn holds(state: &State, compare: &Compare, left: &mut usize) -> Result<bool, Rejection> {
    let interval = Interval::parse(&compare.key, &compare.range_end);
    let mut records = state.iter_latest(&interval).peekable();
    if records.peek().is_none() {
        return Ok(holds_for_missing(compare));
    }
    let mut compared = 0;
    let mut records = records.take(left.saturating_add(1)).inspect(|_| compared += 1);
    let holds = records.all(|record| holds_for(record, compare));
    *left = left.checked_sub(compared).ok_or(Rejection::TooManyOps)?;
    Ok(holds)
}

fn holds_for(record: &Record, compare: &Compare) -> bool {
    let Change::Put { create_revision, version, lease, value } = &record.change else {
        unreachable!("a present key's newest record is a put");
    };
    let ordering = match &compare.operand {
        Operand::Version(given) => version.cmp(given),
        Operand::CreateRevision(given) => create_revision.cmp(given),
        Operand::ModRevision(given) => record.revision.main.cmp(given),
        Operand::Value(given) => value.cmp(given),
        Operand::Lease(given) => lease.cmp(given),
        Operand::Unknown => std::cmp::Ordering::Equal,
    };
    relates(ordering, compare.relation)
}

fn holds_for_missing(compare: &Compare) -> bool {
    let ordering = match &compare.operand {
        Operand::Version(given)
        | Operand::CreateRevision(given)
        | Operand::ModRevision(given)
        | Operand::Lease(given) => 0.cmp(given),
        Operand::Value(_) => return false,
        Operand::Unknown => std::cmp::Ordering::Equal,
    };
    relates(ordering, compare.relation)
}

fn relates(ordering: std::cmp::Ordering, relation: Relation) -> bool {
    match relation {
        Relation::Equal => ordering.is_eq(),
        Relation::Greater => ordering.is_gt(),
        Relation::Less => ordering.is_lt(),
        Relation::NotEqual => ordering.is_ne(),
        Relation::Unknown => true,
    }
}

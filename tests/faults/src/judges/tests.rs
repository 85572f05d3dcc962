//! Histories that are right, and what each judge must see in those that are wrong.

use super::*;
use crate::history::{Answer, Ask, Asker, Guard, Outcome, Pair, Scope, Seen};

/// A history under construction: time passes with each line.
#[derive(Default)]
struct Books {
    operations: Vec<Operation>,
    now_us: u64,
    floor: i64,
}

#[expect(clippy::unnecessary_wraps, reason = "keys are there or not, and this one is")]
fn pair(writer: u64, mod_revision: i64) -> Option<Pair> {
    Some(Pair { writer, create_revision: mod_revision, mod_revision, version: 1 })
}

/// The same key, written again.
fn again(before: Option<Pair>, writer: u64, mod_revision: i64) -> Option<Pair> {
    before.map(|before| Pair { writer, mod_revision, version: before.version + 1, ..before })
}

fn one(key: u8, pair: Option<Pair>) -> Vec<Seen> {
    vec![Seen { key, pair }]
}

impl Books {
    fn call(&mut self, ask: Ask) -> u64 {
        self.now_us += 1;
        let id = self.operations.len() as u64;
        let asker = Asker { client: id, member: 0, connection: id };
        let (called_us, floor, outcome) = (self.now_us, self.floor, Outcome::Unknown);
        let operation =
            Operation { id, asker, group: 0, ask, is_linearizable: true, called_us, floor, outcome };
        self.operations.push(operation);
        id
    }

    fn told(&mut self, id: u64, revision: i64, wrote: bool, seen: Vec<Seen>) {
        self.now_us += 1;
        let operation = &mut self.operations[id as usize];
        if operation.is_linearizable {
            self.floor = self.floor.max(revision);
        }
        let answer = Answer { revision, wrote, seen };
        operation.outcome = Outcome::Answered { answer, at_us: self.now_us };
    }

    fn put(&mut self, key: u8, before: Option<Pair>, revision: i64) -> u64 {
        let id = self.call(Ask::Put(key));
        self.told(id, revision, true, one(key, before));
        id
    }

    fn get(&mut self, key: u8, pair: Option<Pair>, revision: i64) {
        let id = self.call(Ask::Get(Scope::One(key)));
        self.told(id, revision, false, one(key, pair));
    }

    /// On connection 99.
    fn get_serializable(&mut self, key: u8, pair: Option<Pair>, revision: i64) {
        let id = self.call(Ask::Get(Scope::One(key)));
        let operation = &mut self.operations[id as usize];
        (operation.is_linearizable, operation.asker.connection) = (false, 99);
        self.told(id, revision, false, one(key, pair));
    }

    #[track_caller]
    fn passes(&self) {
        assert_eq!(judge(&self.operations), Ok(()));
    }

    #[track_caller]
    fn fails(&self, judge_name: &str, what: &str) -> Violation {
        let violation = judge(&self.operations).expect_err("something is wrong");
        assert!(
            violation.judge == judge_name && violation.what.contains(what),
            "{}: {}",
            violation.judge,
            violation.what
        );
        violation
    }
}

const ORDER: &str = "revisions follow real time";
const CHANGES: &str = "each revision is one change";
const LINEAR: &str = "linearizability";

#[test]
fn what_is_right_passes() {
    let mut books = Books::default();
    let first = books.put(0, None, 2);
    let lost = books.call(Ask::Put(0));
    let second = again(pair(first, 2), lost, 3);
    books.get(0, second, 3);
    let swap = books.call(Ask::Swap { key: 0, guard: Guard::ModRevision(3), also: 1 });
    books.told(swap, 4, true, [one(0, second), one(1, None)].concat());
    books.get(1, pair(swap, 4), 4);
    books.get_serializable(0, second, 3);
    let third = again(second, swap, 4);
    let failed = books.call(Ask::Swap { key: 0, guard: Guard::Writer(first), also: 2 });
    books.told(failed, 4, false, [one(0, third), one(1, pair(swap, 4)), one(2, None)].concat());
    let delete = books.call(Ask::Delete(Scope::All));
    books.told(delete, 5, true, [one(0, third), one(1, pair(swap, 4)), one(2, None)].concat());
    books.get(0, None, 5);
    books.passes();
}

#[test]
fn a_write_that_was_lost_is_seen() {
    let mut books = Books::default();
    books.put(0, None, 2);
    books.get(0, None, 2);
    let violation = books.fails(LINEAR, "fits nowhere");
    assert!(violation.picture.is_some_and(|page| page.contains("<svg")));
}

#[test]
fn a_write_that_was_lost_with_its_revision_is_seen() {
    let mut books = Books::default();
    books.put(0, None, 2);
    books.put(1, None, 3);
    books.get(0, None, 2);
    books.fails(ORDER, "must be 3 or later");
}

#[test]
fn a_stale_read_is_seen() {
    let mut books = Books::default();
    let first = books.put(0, None, 2);
    books.put(0, pair(first, 2), 3);
    books.get(0, pair(first, 2), 2);
    books.fails(ORDER, "must be 3 or later");
}

#[test]
fn a_stale_value_under_a_new_revision_is_seen() {
    let mut books = Books::default();
    let first = books.put(0, None, 2);
    books.put(0, pair(first, 2), 3);
    books.get(0, pair(first, 2), 3);
    books.fails(CHANGES, "was changed at 3");
}

#[test]
fn a_revision_that_was_given_twice_is_seen() {
    let mut books = Books::default();
    let (first, second) = (books.call(Ask::Put(0)), books.call(Ask::Put(1)));
    books.told(first, 2, true, one(0, None));
    books.told(second, 2, true, one(1, None));
    books.fails(CHANGES, "revision 2 was made by op 0 and by op 1");
}

#[test]
fn a_write_that_was_done_twice_is_seen() {
    let mut books = Books::default();
    let first = books.put(0, None, 2);
    books.get(0, again(pair(first, 2), first, 3), 3);
    books.fails(CHANGES, "at revision 2 and at 3");
}

#[test]
fn a_write_that_was_refused_and_done_is_seen() {
    let mut books = Books::default();
    let refused = books.call(Ask::Put(0));
    books.operations[refused as usize].outcome = Outcome::Refused;
    books.get(0, pair(refused, 2), 2);
    books.fails(CHANGES, "was refused, and is seen");
}

#[test]
fn members_that_differ_are_seen_by_serializable_reads() {
    let mut books = Books::default();
    let (first, second) = (books.call(Ask::Put(0)), books.call(Ask::Put(0)));
    books.get_serializable(0, pair(first, 2), 2);
    books.get_serializable(0, pair(second, 2), 2);
    books.fails(CHANGES, "revision 2 was made by");
}

#[test]
fn a_process_that_goes_backwards_is_seen() {
    let mut books = Books::default();
    let first = books.put(0, None, 2);
    books.get_serializable(0, pair(first, 2), 2);
    books.get_serializable(0, None, 1);
    books.fails(ORDER, "went backwards");
}

#[test]
fn half_a_transaction_is_seen() {
    let mut books = Books::default();
    let swap = books.call(Ask::Swap { key: 0, guard: Guard::ModRevision(0), also: 1 });
    books.told(swap, 2, true, [one(0, None), one(1, None)].concat());
    books.get(0, pair(swap, 2), 2);
    books.get(1, None, 2);
    books.fails(LINEAR, "fits nowhere");
}

#[test]
fn a_swap_that_should_have_failed_is_seen() {
    let mut books = Books::default();
    let first = books.put(0, None, 2);
    let second = books.put(0, pair(first, 2), 3);
    let swap = books.call(Ask::Swap { key: 0, guard: Guard::ModRevision(2), also: 1 });
    books.told(swap, 4, true, [one(0, again(pair(first, 2), second, 3)), one(1, None)].concat());
    books.fails(LINEAR, "fits nowhere");
}

#[test]
fn a_deleted_key_that_comes_back_is_seen() {
    let mut books = Books::default();
    let first = books.put(0, None, 2);
    let delete = books.call(Ask::Delete(Scope::One(0)));
    books.told(delete, 3, true, one(0, pair(first, 2)));
    books.get(0, pair(first, 2), 3);
    books.fails(CHANGES, "was changed at 3");
}

#[test]
fn a_lost_write_must_not_come_and_go() {
    let mut books = Books::default();
    let lost = books.call(Ask::Put(0));
    books.get(0, pair(lost, 2), 2);
    books.get(0, None, 2);
    books.fails(LINEAR, "fits nowhere");
}

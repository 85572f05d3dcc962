//! Every answer is the one that etcd 3.7.3 gave: files recorded by `tests/etcd/record`, replayed here.

mod common;

use std::path::Path;

use common::{Machine, parse};
use tenure_store::Limits;

/// `maxTxnOps` in `tests/etcd/record/main.go`.
const LIMITS: Limits = Limits { max_txn_ops: 8 };

/// Replays a file and counts the answers that were compared.
fn replay(path: &Path) -> usize {
    let text = std::fs::read_to_string(path).expect("the file was just listed");
    let mut machine = Machine::new(LIMITS);
    let mut answer = None;
    let mut compared = 0;
    for (number, line) in text.lines().enumerate() {
        if let Some(expected) = line.strip_prefix("> ") {
            let answer: String = answer.take().expect("an operation stands before its answer");
            assert_eq!(answer, expected, "{}:{}", path.display(), number + 1);
            compared += 1;
        } else if !line.is_empty() && !line.starts_with('#') {
            answer = Some(machine.run(&parse::operation(line)));
        }
    }
    compared
}

#[test]
fn answers_and_hashes_are_those_that_etcd_gave() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut compared = 0;
    for entry in directory.read_dir().expect("the vectors are checked in") {
        compared += replay(&entry.expect("a directory entry").path());
    }
    assert!(compared > 3000, "only {compared} answers were compared");
}

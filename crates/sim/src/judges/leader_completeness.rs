//! Leader completeness (paper §5.4.3, figure 3): "if a log entry is committed in a given term, then that
//! entry will be present in the logs of the leaders for all higher-numbered terms" (SOURCES R9).
//!
//! A leader of an older term may still be elected, by votes that were long on their way: it owes nothing to
//! what later terms have committed.

use tenure_raft::{Node, Term};

use super::committed::Committed;
use super::{Verdict, require};

const JUDGE: &str = "leader completeness";

/// Checks a node that has just won `term`.
pub(crate) fn check(committed: &Committed, node: &Node, term: Term) -> Verdict {
    let Some(last) = committed.last_before(term) else { return Ok(()) };
    let log = node.log();
    // By log matching, who has the last has all.
    let has_it = last.index < log.start().index || log.matches(last);
    require(JUDGE, has_it, || {
        format!(
            "{} leads term {term} with a log to {}, and {last} was committed before",
            node.id(),
            log.last()
        )
    })
}

#[cfg(test)]
mod tests {
    use tenure_raft::{Configuration, NodeId, Options, Restored, Snapshot, Time};

    use super::*;

    #[test]
    fn a_leader_without_a_committed_entry_is_seen() {
        let id = NodeId::new(1).unwrap();
        let snapshot = Snapshot { configuration: Configuration::of_voters([id]), ..Snapshot::default() };
        let restored = Restored { snapshot, ..Restored::default() };
        let node = Node::new(id, Options::default(), 1, restored, Time(0));
        let committed = Committed::of_terms(&[1, 2], Term(2));
        assert_eq!(check(&committed, &node, Term(3)).unwrap_err().judge, JUDGE);
        assert!(check(&committed, &node, Term(2)).is_ok(), "its votes were given before");
    }
}

//! What a client compares a key with before it writes.

use std::cmp::Ordering;

use bytes::Bytes;
use tenure_store::{Compare, Operand, Relation};

use crate::action::{OperationId, end_of, name_of, value_of};
use crate::outcome::Pair;

/// How a key should stand to what is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Expected {
    pub(crate) relation: Relation,
    pub(crate) side: Side,
}

/// What is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// The revision of the last change; a key that does not exist has 0, here and in the next two.
    ModRevision(i64),
    /// The revision of the creation.
    CreateRevision(i64),
    /// How often it was written.
    Version(i64),
    /// The value that this operation wrote.
    Writer(OperationId),
}

impl Expected {
    /// Whether a key that is this, or nothing, is as expected. (Nothing has no value to compare.)
    pub(crate) fn fits(self, current: Option<Pair>) -> bool {
        let (there, given) = match self.side {
            Side::ModRevision(revision) => (current.map_or(0, |pair| pair.mod_revision), revision),
            Side::CreateRevision(revision) => (current.map_or(0, |pair| pair.create_revision), revision),
            Side::Version(version) => (current.map_or(0, |pair| pair.version), version),
            Side::Writer(writer) => match current {
                Some(pair) => (i64::from(pair.writer.0), i64::from(writer.0)),
                None => return false,
            },
        };
        match (self.relation, there.cmp(&given)) {
            (Relation::Equal, Ordering::Equal)
            | (Relation::Less, Ordering::Less)
            | (Relation::Greater, Ordering::Greater)
            | (Relation::NotEqual, Ordering::Less | Ordering::Greater)
            | (Relation::Unknown, _) => true,
            (Relation::Equal | Relation::Less | Relation::Greater | Relation::NotEqual, _) => false,
        }
    }

    /// The comparison that asks for it, of all keys from one to another.
    pub(crate) fn of(self, [first, last]: [u8; 2], value_bytes: usize) -> Compare {
        let operand = match self.side {
            Side::ModRevision(revision) => Operand::ModRevision(revision),
            Side::CreateRevision(revision) => Operand::CreateRevision(revision),
            Side::Version(version) => Operand::Version(version),
            Side::Writer(writer) => Operand::Value(value_of(writer, value_bytes)),
        };
        let range_end = if first == last { Bytes::new() } else { end_of(last) };
        Compare { key: name_of(first), range_end, relation: self.relation, operand }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_are_of_what_is_there_to_what_is_given() {
        let pair = Pair { writer: OperationId(5), create_revision: 2, mod_revision: 7, version: 3 };
        let fits = |relation, side| Expected { relation, side }.fits(Some(pair));
        for (less, equal, greater) in [
            (Side::ModRevision(8), Side::ModRevision(7), Side::ModRevision(6)),
            (Side::CreateRevision(3), Side::CreateRevision(2), Side::CreateRevision(1)),
            (Side::Version(4), Side::Version(3), Side::Version(2)),
            (Side::Writer(OperationId(6)), Side::Writer(OperationId(5)), Side::Writer(OperationId(4))),
        ] {
            assert_eq!([less, equal, greater].map(|side| fits(Relation::Less, side)), [true, false, false]);
            assert_eq!([less, equal, greater].map(|side| fits(Relation::Equal, side)), [false, true, false]);
            assert_eq!(
                [less, equal, greater].map(|side| fits(Relation::Greater, side)),
                [false, false, true]
            );
            assert_eq!(
                [less, equal, greater].map(|side| fits(Relation::NotEqual, side)),
                [true, false, true]
            );
        }
        assert!(Expected { relation: Relation::Equal, side: Side::Version(0) }.fits(None));
        assert!(!Expected { relation: Relation::NotEqual, side: Side::Writer(OperationId(1)) }.fits(None));
    }
}

//! Where the members are reached (SOURCES C5): every member knows it as the log has it, who asks is told the truth,
//! and no two members are reached at one address.

use std::collections::{BTreeMap, BTreeSet};

use tenure_raft::{Configuration, NodeId};
use tenure_store::Store;

use super::{Verdict, require};

const KNOWN: &str = "addresses are those of the log";
const APART: &str = "no two members at one address";

/// What the log says.
#[derive(Default, Debug)]
pub(crate) struct Addresses {
    /// From which index on which member is reached where.
    written: Vec<(u64, u64, Vec<String>)>,
}

impl Addresses {
    /// The entry at this index, which is committed, says where a member is reached.
    pub(crate) fn on_written(&mut self, index: u64, member: u64, urls: Vec<String>) {
        self.written.push((index, member, urls));
    }

    /// The entry at this index, which is committed, has what a member says of itself: it counts where nothing else is
    /// known.
    pub(crate) fn on_published(&mut self, index: u64, member: u64, urls: Vec<String>) {
        if self.written.iter().all(|(_, id, _)| *id != member) {
            self.on_written(index, member, urls);
        }
    }

    /// Where a member is reached from this index on, if the entry there says that of one.
    pub(crate) fn at(&self, index: u64) -> Option<(NodeId, &[String])> {
        let (_, id, urls) = self.written.last().filter(|(at, ..)| *at == index)?;
        Some((NodeId::new(*id)?, urls))
    }

    /// Whether a member was never reached anywhere else.
    pub(crate) fn was_always(&self, member: NodeId, urls: &[String]) -> bool {
        self.written.iter().all(|(_, id, then)| *id != member.as_u64() || then == urls)
    }

    /// Whether anybody but this member has ever been reached at one of these.
    pub(crate) fn were_taken(&self, urls: &[String], by_others_than: NodeId) -> bool {
        let mut others = self.written.iter().filter(|(_, id, _)| *id != by_others_than.as_u64());
        others.any(|(_, _, theirs)| theirs.iter().any(|url| urls.contains(url)))
    }

    /// These are the members now: each is reached where no other one is.
    pub(crate) fn check_apart(&self, configuration: &Configuration) -> Verdict {
        let mut seen = BTreeSet::new();
        let last = self.last();
        let members = configuration.members().filter_map(|id| last.get(&id.as_u64()));
        let twice = members.flat_map(|urls| urls.iter()).find(|&url| !seen.insert(url));
        require(APART, twice.is_none(), || format!("two of {configuration} are reached at {twice:?}"))
    }

    /// A member that has applied the log up to `applied` says that another one is reached at `urls`, as was asked for
    /// when `asked` was committed: so it must have been at some time in between.
    pub(crate) fn on_told(&self, updated: NodeId, urls: &[String], asked: u64, applied: u64) -> Verdict {
        let its = self.written.iter().filter(|(index, id, _)| *id == updated.as_u64() && *index <= applied);
        let its: Vec<&(u64, u64, Vec<String>)> = its.collect();
        let in_force_then = its.iter().rposition(|(index, ..)| *index <= asked).unwrap_or(0);
        let was_so = its[in_force_then..].iter().any(|(_, _, then)| then == urls);
        require(KNOWN, was_so, || {
            format!("{updated} is said to be reached at {urls:?}, which the log does not say: {its:?}")
        })
    }

    /// Compares what a member knows of the others with what the log says.
    pub(crate) fn check_known(&self, member: NodeId, store: &Store) -> Verdict {
        let there = self.last().into_iter().filter(|(id, _)| !store.is_removed(*id));
        for (id, expected) in there {
            let known = store.member(id).map(|member| &member.peer_urls[..]);
            require(KNOWN, known == Some(expected), || {
                format!("{member} has {id} reached at {known:?}, not {expected:?}")
            })?;
        }
        Ok(())
    }

    /// Where each member is reached now.
    fn last(&self) -> BTreeMap<u64, &[String]> {
        self.written.iter().map(|(_, id, urls)| (*id, &urls[..])).collect()
    }
}

#[cfg(test)]
mod tests {
    use tenure_store::Command;

    use super::*;

    fn node(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn urls(port: u64) -> Vec<String> {
        vec![format!("http://2.example:{port}")]
    }

    #[test]
    fn an_address_that_a_member_does_not_know_is_seen() {
        let (mut addresses, mut store) = (Addresses::default(), Store::new());
        let _ = store.apply(1, &Command::SetPeerUrls { id: 2, peer_urls: urls(1) });
        addresses.on_written(1, 2, urls(1));
        assert!(addresses.was_always(node(2), &urls(1)));
        assert_eq!(addresses.at(1), Some((node(2), &urls(1)[..])));
        addresses.check_known(node(2), &store).unwrap();
        addresses.on_published(2, 2, urls(3));
        addresses.check_known(node(2), &store).unwrap();
        addresses.on_written(2, 2, urls(2));
        assert!(!addresses.was_always(node(2), &urls(1)));
        assert_eq!(addresses.check_known(node(2), &store).unwrap_err().judge, KNOWN);
        addresses.on_told(node(2), &urls(1), 1, 1).unwrap();
        assert_eq!(addresses.on_told(node(2), &urls(2), 1, 1).unwrap_err().judge, KNOWN);
    }

    #[test]
    fn two_at_one_address_are_seen_if_both_are_members() {
        let mut addresses = Addresses::default();
        addresses.on_written(1, 2, urls(1));
        addresses.on_written(2, 3, urls(1));
        let members = |ids: &[u64]| Configuration::of_voters(ids.iter().map(|&id| node(id)));
        addresses.check_apart(&members(&[1, 2])).unwrap();
        assert_eq!(addresses.check_apart(&members(&[2, 3])).unwrap_err().judge, APART);
        assert!(addresses.were_taken(&urls(1), node(2)));
        assert!(!addresses.were_taken(&urls(2), node(2)));
    }
}

//! Who the members are, for those who talk to them: their addresses, their directories, and who is one no more.

use std::collections::{BTreeMap, BTreeSet};

use tenure_api::peer::{MemberAddress, Members};
use tenure_raft::NodeId;
use tenure_replica::Replica;
use tenure_store::Member;

/// The members of the newest configuration in the log and of the last one applied: an entry has to reach who is
/// in either.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Roster {
    pub(crate) members: BTreeMap<NodeId, Member>,
    /// Who was removed, by a configuration that is applied here.
    pub(crate) removed: BTreeSet<NodeId>,
}

impl Roster {
    /// What a member knows; of those that the state says nothing of, and of all as long as it joins and has no log
    /// yet, what it was told at the start.
    pub(crate) fn of(replica: &Replica, first: &BTreeMap<u64, Member>) -> Roster {
        let (store, newest) = (replica.store(), replica.node().configuration());
        let ids: Vec<NodeId> = newest.members().chain(replica.applied_configuration().members()).collect();
        if ids.is_empty() {
            return Roster::told(first);
        }
        let member = |id: NodeId| {
            let unknown = || Member { id: id.as_u64(), ..Member::default() };
            let known = store.member(id.as_u64()).or_else(|| first.get(&id.as_u64()));
            (id, known.cloned().unwrap_or_else(unknown))
        };
        let removed = store.snapshot().removed_members().iter().copied().filter_map(NodeId::new).collect();
        Roster { members: ids.into_iter().map(member).collect(), removed }
    }

    /// The members that a server was told of at its start.
    fn told(first: &BTreeMap<u64, Member>) -> Roster {
        let members = first.values().filter_map(|member| Some((NodeId::new(member.id)?, member.clone())));
        Roster { members: members.collect(), removed: BTreeSet::new() }
    }

    /// The answer to a server that is about to join.
    pub(crate) fn answer(&self, cluster_id: u64) -> Members {
        let address = |(&id, member): (&NodeId, &Member)| MemberAddress {
            id,
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
        };
        Members { cluster_id, members: self.members.iter().map(address).collect() }
    }
}

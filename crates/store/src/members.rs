//! What the state knows of the cluster's members: names, addresses, and who was one.
//!
//! Who votes is Raft's business. Here is what an operator or a client wants to know of a member, kept apart from
//! the log's configurations so that a name or an address can change without one.

use std::sync::Arc;

use crate::state::State;
use crate::{Member, Rejection};

/// How many removed members are remembered. Ids are drawn at random, so what this is for is less that none comes
/// up twice than that a server which missed its removal can be told of it.
pub const MAX_REMOVED_MEMBERS: usize = 1024;

impl State {
    pub(crate) fn members(&self) -> impl DoubleEndedIterator<Item = &Member> {
        self.member_records().values()
    }

    pub(crate) fn member(&self, id: u64) -> Option<&Member> {
        self.member_records().get(&id)
    }

    /// A member says its name, where clients reach it, and from which directory it serves.
    pub(crate) fn publish_member(&mut self, member: &Member) -> Result<(), Rejection> {
        self.check_not_removed(member.id)?;
        let mut published = member.clone();
        if let Some(known) = self.member(member.id) {
            // Flags may be older than what the cluster was told since.
            if !known.peer_urls.is_empty() {
                published.peer_urls.clone_from(&known.peer_urls);
            }
            // The second one would be an emptied disk.
            published.directory_id = known.directory_id.or(member.directory_id);
        }
        self.set_member(published);
        Ok(())
    }

    pub(crate) fn set_peer_urls(&mut self, id: u64, peer_urls: &[String]) -> Result<(), Rejection> {
        self.check_not_removed(id)?;
        let known = self.member(id).cloned().unwrap_or_else(|| Member { id, ..Member::default() });
        self.set_member(Member { peer_urls: peer_urls.to_vec(), ..known });
        Ok(())
    }

    fn check_not_removed(&self, id: u64) -> Result<(), Rejection> {
        if self.removed_members().contains(&id) { Err(Rejection::MemberRemoved) } else { Ok(()) }
    }

    /// Forgets a member, but for its id. The oldest of too many ids is forgotten.
    pub(crate) fn remove_member(&mut self, id: u64) {
        self.drop_member(id);
        if self.removed_members().contains(&id) {
            return;
        }
        let removed = Arc::make_mut(self.removed_members_mut());
        if removed.len() == MAX_REMOVED_MEMBERS {
            removed.remove(0);
        }
        removed.push(id);
    }
}

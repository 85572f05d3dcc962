//! Which connections at the peer port stay open: members have places of their own, and strangers share some.

use std::collections::{BTreeMap, VecDeque};

use tenure_api::peer::Lane;
use tenure_raft::NodeId;
use tokio::task::AbortHandle;

/// How many connections a member may have in a lane: the one before may not have been missed yet.
const MAX_MEMBER_CONNECTIONS: usize = 2;
/// The open connections.
pub(crate) struct Slots {
    /// How many may be open whose other side is no member here.
    max_strangers: usize,
    members: BTreeMap<(NodeId, Lane), VecDeque<AbortHandle>>,
    /// The oldest first.
    strangers: VecDeque<(NodeId, Lane, AbortHandle)>,
}

impl Slots {
    pub(crate) fn new(max_strangers: usize) -> Slots {
        Slots { max_strangers, members: BTreeMap::new(), strangers: VecDeque::new() }
    }

    /// Takes a connection up, and closes the oldest of those that share its places if they are too many. Who is no
    /// member may have become one since it came.
    pub(crate) fn take(
        &mut self,
        from: NodeId,
        lane: Lane,
        connection: AbortHandle,
        is_member: impl Fn(NodeId) -> bool,
    ) {
        self.forget_closed();
        if is_member(from) {
            self.take_member(from, lane, connection);
            return;
        }
        self.strangers.push_back((from, lane, connection));
        if self.strangers.len() <= self.max_strangers {
            return;
        }
        for (from, lane, connection) in std::mem::take(&mut self.strangers) {
            if is_member(from) {
                self.take_member(from, lane, connection);
            } else {
                self.strangers.push_back((from, lane, connection));
            }
        }
        while self.strangers.len() > self.max_strangers
            && let Some((from, _, oldest)) = self.strangers.pop_front()
        {
            tracing::debug!(peer = %from, "too many who are no members at the peer port: the oldest is sent away");
            oldest.abort();
        }
    }

    fn take_member(&mut self, from: NodeId, lane: Lane, connection: AbortHandle) {
        let open = self.members.entry((from, lane)).or_default();
        open.push_back(connection);
        while open.len() > MAX_MEMBER_CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
    }

    fn forget_closed(&mut self) {
        self.strangers.retain(|(_, _, connection)| !connection.is_finished());
        self.members.retain(|_, open| {
            open.retain(|connection| !connection.is_finished());
            !open.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::task::JoinSet;

    use super::*;

    const MAX_STRANGERS: usize = 32;

    fn id(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
    }

    /// Waits until only so many are open.
    async fn open(tasks: &mut JoinSet<()>, count: usize) {
        while tasks.len() > count {
            let _ = tasks.join_next().await;
        }
    }

    #[tokio::test]
    async fn strangers_push_out_each_other_and_never_a_member() {
        let (mut slots, mut tasks) = (Slots::new(MAX_STRANGERS), JoinSet::new());
        let is_member = |id: NodeId| id.as_u64() <= 3;
        let members: Vec<AbortHandle> = (1..=3).map(|_| tasks.spawn(pending())).collect();
        for (number, connection) in (1..).zip(&members) {
            slots.take(id(number), Lane::Bulk, connection.clone(), is_member);
        }
        let strangers: Vec<AbortHandle> = (0..300).map(|_| tasks.spawn(pending())).collect();
        for (number, connection) in (100..).zip(&strangers) {
            slots.take(id(number), Lane::Bulk, connection.clone(), is_member);
        }
        open(&mut tasks, members.len() + MAX_STRANGERS).await;
        assert!(members.iter().all(|connection| !connection.is_finished()));
        let is_open: Vec<bool> = strangers.iter().map(|connection| !connection.is_finished()).collect();
        assert!(is_open[300 - MAX_STRANGERS..].iter().all(|&is_open| is_open), "the newest stay");
        // Who has become a member since is not counted among them.
        let late = tasks.spawn(pending());
        let is_member_now = |id: NodeId| id.as_u64() <= 3 || id.as_u64() == 399;
        for _ in 0..MAX_STRANGERS {
            slots.take(id(500), Lane::Bulk, late.clone(), is_member_now);
        }
        // The members, that one, and the last stranger, who came again and again.
        open(&mut tasks, members.len() + 2).await;
        assert!(!strangers[299].is_finished());
    }

    #[tokio::test]
    async fn a_member_that_connects_again_and_again_has_its_oldest_connections_closed() {
        let (mut slots, mut tasks) = (Slots::new(MAX_STRANGERS), JoinSet::new());
        let connections: Vec<AbortHandle> = (0..10).map(|_| tasks.spawn(pending())).collect();
        for connection in &connections {
            slots.take(id(1), Lane::Urgent, connection.clone(), |_| true);
        }
        open(&mut tasks, MAX_MEMBER_CONNECTIONS).await;
        assert!(!connections[9].is_finished());
    }
}

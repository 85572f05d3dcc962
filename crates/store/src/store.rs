//! The state machine: entries in, answers out.

use crate::checkpoint::part;
use crate::garbage::Garbage;
use crate::invariants;
use crate::snapshot::Snapshot;
use crate::state::State;
use crate::txn::{MAX_COMPARED_KEYS, Plan};
use crate::weight;
use crate::write::{Answers, Writer, check_put};
use crate::{
    Applied, Command, Limits, Member, PutRequest, Rejection, Response, StateHash, TxnRequest, Unheard, check,
};

/// The replicated state, changed by one entry after the other.
///
/// ```
/// use bytes::Bytes;
/// use tenure_store::{Command, PutRequest, RangeRequest, Store};
///
/// let key = Bytes::from_static(b"colour");
/// let mut store = Store::new();
/// let put = PutRequest { key: key.clone(), value: Bytes::from_static(b"red"), ..PutRequest::default() };
/// let applied = store.apply(1, &Command::Put(put));
/// assert_eq!(applied.revision, 2);
///
/// let snapshot = store.snapshot();
/// let answer = snapshot.range(&RangeRequest { key, ..RangeRequest::default() }).unwrap();
/// assert_eq!(answer.kvs[0].value, "red");
/// ```
#[derive(Debug)]
pub struct Store {
    state: State,
    /// What the last entry has left to be freed.
    garbage: Option<Garbage>,
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// The empty store, at revision 1, with no entry applied.
    pub fn new() -> Self {
        Self::from_state(State::new())
    }

    pub(crate) fn from_state(state: State) -> Self {
        Self { state, garbage: None }
    }

    /// Applies the command of the entry at `index`, which must be the one after the last.
    ///
    /// A function of the state and the command alone, so that members that apply the same entries stay
    /// equal (SOURCES M1). A command that is refused changes nothing but the applied index; so does one that should
    /// never have come into the log (see [`check()`](crate::check())).
    pub fn apply(&mut self, index: u64, command: &Command) -> Applied {
        self.run(index, command, Answers::All)
    }

    /// The same, but large reads of a transaction are put off ([`crate::ResponseOp::Later`]): whoever applies entries
    /// must not be held up by an answer, however large.
    pub fn apply_lazily(&mut self, index: u64, command: &Command) -> Applied {
        self.run(index, command, Answers::Small)
    }

    /// The same, where nobody waits for the answer: none is made. Almost all entries are applied so, by the members
    /// that no client has asked, and at a restart. The state comes out the same.
    pub fn apply_unheard(&mut self, index: u64, command: &Command) -> Unheard {
        let Applied { result, revision, changes } = self.run(index, command, Answers::None);
        Unheard { result: result.map(drop), revision, changes }
    }

    fn run(&mut self, index: u64, command: &Command, answers: Answers) -> Applied {
        self.state.advance_applied_index(index);
        self.garbage = None;
        let mut changes = 0;
        let checked = check(command, &Limits::NONE);
        let result = checked.and_then(|()| self.execute(command, answers, &mut changes));
        Applied { result, revision: self.state.revision(), changes }
    }

    fn execute(
        &mut self,
        command: &Command,
        answers: Answers,
        changes: &mut u32,
    ) -> Result<Response, Rejection> {
        match command {
            Command::Put(request) => self.on_put(request, answers, changes),
            Command::DeleteRange(request) => {
                let mut writer = Writer::new(&mut self.state, answers);
                let response = writer.delete_range(request);
                self.garbage = writer.take_garbage();
                *changes = writer.finish();
                Ok(Response::DeleteRange(response))
            }
            Command::Txn(request) => self.on_txn(request, answers, changes),
            Command::Compact { revision, physical: _ } => {
                let before = self.state.clone();
                let result = self.state.compact(*revision).map(|()| Response::Compact);
                self.garbage = Some(Garbage::new(vec![Box::new(before)]));
                result
            }
            Command::PublishMember(member) => {
                self.state.publish_member(member).map(|()| Response::PublishMember)
            }
            Command::SetPeerUrls { id, peer_urls } => {
                self.state.set_peer_urls(*id, peer_urls).map(|()| Response::SetPeerUrls)
            }
        }
    }

    /// Passes the entry at `index`, which holds no command: a new leader's empty one, or a configuration that
    /// nobody has left.
    pub fn apply_nothing(&mut self, index: u64) {
        self.state.advance_applied_index(index);
    }

    /// Applies the configuration in the entry at `index`, which leaves the cluster without the members `removed`:
    /// what was known of them is dropped, and their ids are never used again.
    pub fn apply_removal(&mut self, index: u64, removed: &[u64]) {
        self.state.advance_applied_index(index);
        for &id in removed {
            self.state.remove_member(id);
        }
    }

    fn on_put(
        &mut self,
        request: &PutRequest,
        answers: Answers,
        changes: &mut u32,
    ) -> Result<Response, Rejection> {
        check_put(&self.state, request)?;
        let mut writer = Writer::new(&mut self.state, answers);
        let response = writer.put(request);
        *changes = writer.finish();
        Ok(Response::Put(response))
    }

    fn on_txn(
        &mut self,
        request: &TxnRequest,
        answers: Answers,
        changes: &mut u32,
    ) -> Result<Response, Rejection> {
        let mut left = MAX_COMPARED_KEYS;
        let plan = Plan::new(&self.state, request, &mut left)?;
        let mut writer = Writer::new(&mut self.state, answers);
        let response = plan.execute(&mut writer);
        self.garbage = writer.take_garbage();
        *changes = writer.finish();
        Ok(Response::Txn(response))
    }

    pub(crate) fn into_state(self) -> State {
        self.state
    }

    /// Another store of the same state, which goes on by itself; costs a few counters.
    #[must_use]
    pub fn fork(&self) -> Store {
        Self::from_state(self.state.clone())
    }

    /// Gives up the whole state. Whoever has the garbage drops it where nobody waits.
    pub fn into_garbage(self) -> Garbage {
        Garbage::new(vec![Box::new(self.state)])
    }

    /// Whether to apply the command means to look at more than `keys` keys, or to forget more changes than that.
    pub fn is_heavy(&self, command: &Command, keys: usize) -> bool {
        weight::is_heavy(&self.state, command, keys)
    }

    /// What the last entry has left to be freed, if that is much: a compaction leaves some hundred megabytes. Whoever
    /// takes it drops it where nobody waits; otherwise the next entry does.
    pub fn take_garbage(&mut self) -> Option<Garbage> {
        self.garbage.take()
    }

    /// Panics with the rule that the state breaks, if it breaks one; for tests and simulations. Computes every
    /// sum from scratch, so it takes time in proportion to the state.
    pub fn check_invariants(&self) {
        invariants::check(&self.state);
    }

    /// The state as it is now, for readers; costs a few counters, and later changes do not show in it.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.state.clone())
    }

    /// No part of a checkpoint will reach back behind `revision`: what was remembered for that is forgotten.
    /// Changes nothing that members compare.
    pub fn forget_buried(&mut self, revision: i64) {
        self.state.buried_mut().forget_through(revision);
    }

    /// The index of the last entry applied; 0 before the first.
    pub fn applied_index(&self) -> u64 {
        self.state.applied_index()
    }

    /// The latest revision; 1 in an empty store.
    pub fn revision(&self) -> i64 {
        self.state.revision()
    }

    /// The oldest revision that can be read; -1 before the first compaction.
    pub fn compact_revision(&self) -> i64 {
        self.state.compact_revision()
    }

    /// Equal on all members at equal applied index; costs a few instructions.
    pub fn state_hash(&self) -> StateHash {
        self.state.state_hash()
    }

    /// The members that have been published, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.state.members()
    }

    /// What is known of a member.
    pub fn member(&self, id: u64) -> Option<&Member> {
        self.state.member(id)
    }

    /// Whether a member with this id was removed from the cluster.
    pub fn is_removed(&self, id: u64) -> bool {
        self.state.removed_members().contains(&id)
    }

    /// How many keys there are.
    pub fn key_count(&self) -> usize {
        self.state.key_count()
    }

    /// About what the present pairs and the history take in memory; equal on all members.
    pub fn size_bytes(&self) -> u64 {
        self.state.size_bytes()
    }

    /// About how many bytes a checkpoint of one part takes; rather more than less.
    pub fn checkpoint_bytes(&self) -> u64 {
        part::whole_bytes(&self.state)
    }

    /// About what the present pairs alone take: what would be left if all history were compacted.
    pub fn live_bytes(&self) -> u64 {
        self.state.live_bytes()
    }
}

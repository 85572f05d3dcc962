//! The state at one moment, for reads beside the apply loop.

use crate::checkpoint::part;
use crate::range::Extent;
use crate::state::State;
use crate::txn::Plan;
use crate::write::{Answers, Writer};
use crate::{
    Budget, HashKv, KeyValue, Member, RangeRequest, RangeResponse, Rejection, Selection, StateHash,
    TxnRequest, TxnResponse, hash_kv, range,
};

/// The state at one moment. Cheap to take and to clone; may go to another thread; the store goes on without
/// it. It keeps what it shows in memory.
#[derive(Debug, Clone)]
pub struct Snapshot {
    state: State,
}

/// One change of one key, as a watch will tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whether the key was put or deleted.
    pub kind: EventKind,
    /// The pair put; of a delete only the key and the revision.
    pub kv: KeyValue,
}

/// The two kinds of [`Event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// The key was created or changed.
    Put,
    /// The key was deleted.
    Delete,
}

impl Snapshot {
    pub(crate) fn new(state: State) -> Self {
        Self { state }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Reads a range. The request must have passed [`crate::check_range`].
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Rejection> {
        range::range(&self.state, self.state.revision(), request, Extent::Whole)
    }

    /// Reads a range as [`Snapshot::range`] does, but makes no pairs yet.
    pub fn select(&self, request: &RangeRequest) -> Result<Selection, Rejection> {
        let selection = self.select_within(request, Budget::UNLIMITED)?;
        Ok(selection.expect("without a limit nothing is given up"))
    }

    /// The same, unless it takes more than `budget`: then none.
    pub fn select_within(
        &self,
        request: &RangeRequest,
        budget: Budget,
    ) -> Result<Option<Selection>, Rejection> {
        range::select(&self.state, self.state.revision(), request, Extent::Whole, budget)
    }

    /// The pairs of a range up to the request's limit, and whether there are more. In the order of the keys
    /// it takes time in proportion to the limit, where [`Snapshot::range`] counts on to the end of the range.
    pub fn page(&self, request: &RangeRequest) -> Result<(Vec<KeyValue>, bool), Rejection> {
        let response = range::range(&self.state, self.state.revision(), request, Extent::Limit)?;
        Ok((response.kvs, response.more))
    }

    /// Runs a transaction that only reads. It must have passed [`crate::check_txn`].
    pub fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse, Rejection> {
        assert!(request.is_read_only(), "a transaction that writes goes through the log");
        let mut unlimited = usize::MAX;
        let plan = Plan::new(&self.state, request, &mut unlimited)?;
        let mut scratch = self.state.clone();
        Ok(plan.execute(&mut Writer::new(&mut scratch, Answers::All)))
    }

    /// The same, with its large reads put off as [`crate::Store::apply_lazily`] does; none if it takes the comparison
    /// of more than `max_compared_keys` keys to begin with.
    pub fn read_txn_lazily(
        &self,
        request: &TxnRequest,
        max_compared_keys: usize,
    ) -> Result<Option<TxnResponse>, Rejection> {
        assert!(request.is_read_only(), "a transaction that writes goes through the log");
        let mut left = max_compared_keys;
        let plan = match Plan::new(&self.state, request, &mut left) {
            Ok(plan) => plan,
            Err(Rejection::TooManyOps) => return Ok(None),
            Err(rejection) => return Err(rejection),
        };
        let mut scratch = self.state.clone();
        Ok(Some(plan.execute(&mut Writer::new(&mut scratch, Answers::Small))))
    }

    /// The hash that etcd would answer for the same history; see [`HashKv`]. Takes time proportional to the
    /// state. A `revision` of 0 is the latest.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Rejection> {
        hash_kv::hash_kv(&self.state, revision)
    }

    /// The hash that etcd makes when it compacts this state at `revision`, and then answers for exactly that revision
    /// as long as it remembers it. The compaction must be possible. Takes time proportional to the state.
    pub fn hash_kv_at_compaction(&self, revision: i64) -> HashKv {
        assert!(
            (self.state.compact_revision() + 1..=self.state.revision()).contains(&revision),
            "this state can be compacted at the revision"
        );
        hash_kv::at_compaction(&self.state, revision)
    }

    /// Every change from `revision` on, oldest first, several in one revision in the order of their
    /// operations. Fails if some of them have been compacted away.
    pub fn changes(&self, revision: i64) -> Result<impl Iterator<Item = Event>, Rejection> {
        if revision < self.state.compact_revision() {
            return Err(Rejection::Compacted);
        }
        Ok(self.state.changes_from(revision).map(|record| match record.key_value() {
            Some(kv) => Event { kind: EventKind::Put, kv },
            None => Event {
                kind: EventKind::Delete,
                kv: KeyValue {
                    key: record.key.clone(),
                    mod_revision: record.revision.main,
                    ..KeyValue::default()
                },
            },
        }))
    }

    /// The index of the last entry applied.
    pub fn applied_index(&self) -> u64 {
        self.state.applied_index()
    }

    /// The latest revision.
    pub fn revision(&self) -> i64 {
        self.state.revision()
    }

    /// The oldest revision that can be read; -1 before the first compaction.
    pub fn compact_revision(&self) -> i64 {
        self.state.compact_revision()
    }

    /// Equal on all members at equal applied index.
    pub fn state_hash(&self) -> StateHash {
        self.state.state_hash()
    }

    /// The members that have been published, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.state.members()
    }

    /// The ids of the members that were removed last, at most [`crate::MAX_REMOVED_MEMBERS`], in that order.
    pub fn removed_members(&self) -> &[u64] {
        self.state.removed_members()
    }

    /// How many keys there are.
    pub fn key_count(&self) -> usize {
        self.state.key_count()
    }

    /// About what the present pairs and the history take in memory.
    pub fn size_bytes(&self) -> u64 {
        self.state.size_bytes()
    }

    /// About what the present pairs alone take.
    pub fn live_bytes(&self) -> u64 {
        self.state.live_bytes()
    }

    /// Whether [`checkpoint::Writer::part`](crate::checkpoint::Writer::part) can write what lies above `since`: no
    /// delete above it has been forgotten that the part must tell of.
    pub fn can_build_on(&self, since: i64) -> bool {
        (1..=self.revision()).contains(&since)
            && self.state.buried().reaches_back_to(since, self.compact_revision())
    }

    /// About how many bytes a part above `since` takes; takes time in proportion to it, if nothing was compacted
    /// since.
    pub fn part_bytes(&self, since: i64) -> u64 {
        part::size_bytes(&self.state, since)
    }

    /// About how many bytes a checkpoint of one part takes; rather more than less.
    pub fn checkpoint_bytes(&self) -> u64 {
        part::whole_bytes(&self.state)
    }
}

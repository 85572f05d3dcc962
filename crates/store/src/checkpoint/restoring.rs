//! The state being put together from the parts of a checkpoint, and what a part must agree with.
//!
//! A part is put on top of the state that the parts before it gave. First what its compaction drops goes; then its
//! records come, in the order of their revisions. One below the compact revision takes the place of whatever the
//! key was before, or, a delete, takes the key away: what lay between is forgotten. One above it follows from what
//! the key was, as it did when it happened.

use std::sync::Arc;

use bytes::Bytes;

use super::reader::{CheckpointError, MAX_COUNT, require};
use crate::members::MAX_REMOVED_MEMBERS;
use crate::record::{Change, Record, Revision};
use crate::state::State;
use crate::{KeyValue, Member};

/// What a header says.
#[derive(Clone, Copy)]
pub(super) struct Counters {
    /// The revision that the part before ends with; 0 in the first.
    pub(super) since: i64,
    pub(super) revision: i64,
    pub(super) compact_revision: i64,
    pub(super) applied_index: u64,
}

/// The state being put together, and what the part being read must agree with.
pub(super) struct Restoring {
    pub(super) state: State,
    /// The first part held everything.
    pub(super) is_whole: bool,
    since: i64,
    last_revision: Revision,
    pub(super) record_count: u64,
    pub(super) member_count: u64,
    known: Known,
}

/// What of a part the state holds already. Parts that another member wrote end elsewhere than ours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// The records up to this revision.
    Records { through: i64 },
    /// All of it.
    Everything,
}

impl Restoring {
    /// Begins with a part that holds everything.
    pub(super) fn first_part(counters: Counters) -> Self {
        let Counters { since: _, revision, compact_revision, applied_index } = counters;
        Self { is_whole: true, ..Self::onto(State::restoring(revision, compact_revision, applied_index)) }
    }

    /// Goes on from a state.
    pub(super) fn onto(state: State) -> Self {
        Self {
            state,
            is_whole: false,
            since: 0,
            last_revision: Place::before_first(0),
            record_count: 0,
            member_count: 0,
            known: Known::Records { through: 0 },
        }
    }

    /// Another part begins, where the state is or before that.
    pub(super) fn next_part(&mut self, counters: Counters) -> Result<(), CheckpointError> {
        let Counters { since, revision, compact_revision, applied_index } = counters;
        let state = &self.state;
        // A first part says nothing of what was deleted before: it can begin anew only.
        let is_next = since <= state.revision() && (since > 0 || applied_index <= state.applied_index());
        require(is_next, "a part does not begin where the one before it ends")?;
        self.last_revision = Place::before_first(since);
        (self.record_count, self.member_count) = (0, 0);
        if applied_index <= state.applied_index() {
            self.known = Known::Everything;
            return Ok(());
        }
        let goes_on = revision >= state.revision() && compact_revision >= state.compact_revision();
        require(goes_on, "a part goes back behind the one before it")?;
        // What is below it is the state's, wherever the part itself begins.
        self.since = state.revision();
        self.known = Known::Records { through: self.since };
        self.state.restore_next(revision, compact_revision, applied_index);
        Ok(())
    }

    /// Whether the state holds all of this part already.
    pub(super) fn is_passed_over(&self) -> bool {
        self.known == Known::Everything
    }

    pub(super) fn on_member(&mut self, member: Member) -> Result<(), CheckpointError> {
        require(self.record_count == 0, "a member stands among the records")?;
        if self.is_passed_over() {
            self.member_count += 1;
            return Ok(());
        }
        let last = self.state.members().next_back();
        require(last.is_none_or(|last| last.id < member.id), "members are out of order")?;
        require(self.state.removed_members().is_empty(), "a member stands among the removed ones")?;
        self.state.set_member(member);
        self.member_count += 1;
        Ok(())
    }

    pub(super) fn on_removed_member(&mut self, id: u64) -> Result<(), CheckpointError> {
        require(self.record_count == 0, "a removed member stands among the records")?;
        if self.is_passed_over() {
            return Ok(());
        }
        let removed = self.state.removed_members();
        require(removed.len() < MAX_REMOVED_MEMBERS, "more removed members than are remembered")?;
        let is_new = !removed.contains(&id) && self.state.member(id).is_none();
        require(is_new, "a removed member stands twice, or is a member")?;
        self.state.remove_member(id);
        Ok(())
    }

    pub(super) fn on_record(
        &mut self,
        revision: Revision,
        key: Bytes,
        change: Change,
    ) -> Result<(), CheckpointError> {
        let is_known = match self.known {
            Known::Records { through } => revision.main <= through,
            Known::Everything => true,
        };
        if is_known {
            require(self.last_revision < revision, "records are out of order")?;
            self.last_revision = revision;
            self.record_count += 1;
            return Ok(());
        }
        let place = Place {
            since: self.since,
            revision: self.state.revision(),
            compact_revision: self.state.compact_revision(),
            last_revision: self.last_revision,
        };
        let old = self.state.latest(&key).and_then(|record| record.key_value());
        place.check(revision, &key, &change, old.as_ref())?;
        self.put_in_place(revision, key, change);
        self.last_revision = revision;
        self.record_count += 1;
        Ok(())
    }

    fn put_in_place(&mut self, revision: Revision, key: Bytes, change: Change) {
        let compact_revision = self.state.compact_revision();
        let is_before = |old: &Arc<Record>| old.revision.main < compact_revision;
        if revision.main <= compact_revision && self.state.latest(&key).is_some_and(is_before) {
            self.state.drop_compacted(&key);
        }
        if change == Change::Delete && revision.main < compact_revision {
            self.state.buried_mut().insert(revision, &key);
        } else {
            let previous = self.state.previous_of(&key);
            self.state.append(Record::new(revision, key, change, previous));
        }
    }
}

/// Where a record comes in a part: what the reader asks of it, and so the writer too.
pub(super) struct Place {
    /// The revision that the part before ends with; 0 in the first.
    pub(super) since: i64,
    /// Of the state.
    pub(super) revision: i64,
    pub(super) compact_revision: i64,
    /// Of the record before it.
    pub(super) last_revision: Revision,
}

impl Place {
    /// The record before the first of a part above `since`. The first revision that is ever written is 2: 1 is the
    /// empty store.
    pub(super) fn before_first(since: i64) -> Revision {
        Revision { main: since.max(1), sub: u32::MAX }
    }

    /// Whether a record can stand here; `old` is what the key was before.
    pub(super) fn check(
        &self,
        revision: Revision,
        key: &[u8],
        change: &Change,
        old: Option<&KeyValue>,
    ) -> Result<(), CheckpointError> {
        require(self.last_revision < revision, "records are out of order")?;
        require(revision.sub < u32::MAX, "a revision has more changes than can be counted")?;
        require(revision.main <= self.revision, "a record lies above the latest revision")?;
        require(!key.is_empty(), "a key is empty")?;
        self.check_change(revision, change, old)
    }

    /// Whether the change can follow the key's last one. Up to the compact revision that one is forgotten: it may
    /// stand in an earlier part, but not in the same one.
    fn check_change(
        &self,
        revision: Revision,
        change: &Change,
        old: Option<&KeyValue>,
    ) -> Result<(), CheckpointError> {
        let compact_revision = self.compact_revision;
        if let Some(old) = old
            && revision.main <= compact_revision
        {
            // Only within the compact revision itself may a key have two.
            let is_possible = old.mod_revision == compact_revision || old.mod_revision <= self.since;
            require(is_possible, "a superseded record was compacted")?;
        }
        match change {
            Change::Delete if revision.main < compact_revision => {
                require(self.since > 0, "a tombstone was compacted")
            }
            Change::Delete if revision.main == compact_revision => Ok(()),
            Change::Delete => require(old.is_some(), "a key is deleted that does not exist"),
            Change::Put { create_revision, version, .. } if revision.main <= compact_revision => {
                let is_possible =
                    (2..=revision.main).contains(create_revision) && (1..=MAX_COUNT).contains(version);
                require(is_possible, "a pair has impossible revisions")
            }
            Change::Put { create_revision, version, .. } => {
                let (created, last_version) =
                    old.map_or((revision.main, 0), |old| (old.create_revision, old.version));
                let follows = *create_revision == created && last_version.checked_add(1) == Some(*version);
                require(follows, "a pair does not follow from the one before it")
            }
        }
    }
}

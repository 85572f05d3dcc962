//! What a client asks for when it does not want all keys: which, how many, and in which order.

use std::cmp::Ordering;

use tenure_store::{RangeRequest, SortOrder, SortTarget};

use crate::outcome::Pair;
use crate::random::Random;

/// A part of the keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Selection {
    /// How many at most; 0 is all.
    pub(crate) limit: u8,
    pub(crate) filter: Filter,
    pub(crate) target: SortTarget,
    /// [`SortOrder::None`] only by key.
    pub(crate) order: SortOrder,
}

/// Which keys: by the revision of their last change or of their creation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Filter {
    All,
    MinMod(i64),
    MaxMod(i64),
    MinCreate(i64),
    MaxCreate(i64),
}

impl Selection {
    /// Any, about one of the revisions that there have been.
    pub(crate) fn draw(random: &mut Random, keys: u64, revision: i64) -> Selection {
        let filters = [
            Filter::All,
            Filter::MinMod(revision),
            Filter::MaxMod(revision),
            Filter::MinCreate(revision),
            Filter::MaxCreate(revision),
        ];
        let by =
            [SortTarget::Key, SortTarget::Version, SortTarget::Create, SortTarget::Mod, SortTarget::Value];
        let target = random.pick(&by);
        let unsorted = if target == SortTarget::Key { SortOrder::None } else { SortOrder::Ascend };
        let order = random.pick(&[unsorted, SortOrder::Ascend, SortOrder::Descend]);
        Selection { limit: random.between(0, keys) as u8, filter: random.pick(&filters), target, order }
    }

    /// The request for it, which is for all keys otherwise.
    pub(crate) fn of(self, all: RangeRequest) -> RangeRequest {
        let mut request = RangeRequest {
            limit: i64::from(self.limit),
            sort_target: self.target,
            sort_order: self.order,
            ..all
        };
        match self.filter {
            Filter::All => {}
            Filter::MinMod(revision) => request.min_mod_revision = revision,
            Filter::MaxMod(revision) => request.max_mod_revision = revision,
            Filter::MinCreate(revision) => request.min_create_revision = revision,
            Filter::MaxCreate(revision) => request.max_create_revision = revision,
        }
        request
    }

    /// What it shows of all pairs, which come by key, and whether there is more.
    pub(crate) fn shows(self, all: Vec<(u8, Pair)>) -> (Vec<(u8, Pair)>, bool) {
        let mut shown: Vec<_> = all.into_iter().filter(|(_, pair)| self.filter.passes(pair)).collect();
        shown.sort_by(|one, other| match self.order {
            SortOrder::Descend => self.compare(other, one),
            SortOrder::None | SortOrder::Ascend | SortOrder::Unknown => self.compare(one, other),
        });
        let more = self.limit > 0 && shown.len() > usize::from(self.limit);
        if more {
            shown.truncate(usize::from(self.limit));
        }
        (shown, more)
    }

    /// Of two that are equal the one with the smaller key comes first, whatever the order.
    fn compare(self, (key, pair): &(u8, Pair), (other_key, other): &(u8, Pair)) -> Ordering {
        match self.target {
            SortTarget::Key | SortTarget::Unknown => key.cmp(other_key),
            SortTarget::Version => pair.version.cmp(&other.version),
            SortTarget::Create => pair.create_revision.cmp(&other.create_revision),
            SortTarget::Mod => pair.mod_revision.cmp(&other.mod_revision),
            SortTarget::Value => pair.writer.cmp(&other.writer),
        }
    }
}

impl Filter {
    fn passes(self, pair: &Pair) -> bool {
        match self {
            Filter::All => true,
            Filter::MinMod(revision) => pair.mod_revision >= revision,
            Filter::MaxMod(revision) => pair.mod_revision <= revision,
            Filter::MinCreate(revision) => pair.create_revision >= revision,
            Filter::MaxCreate(revision) => pair.create_revision <= revision,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::OperationId;

    #[test]
    fn filtered_then_sorted_then_cut() {
        let pair = |writer, mod_revision, version| Pair {
            writer: OperationId(writer),
            create_revision: 2,
            mod_revision,
            version,
        };
        let all = vec![(0, pair(9, 3, 1)), (1, pair(8, 4, 5)), (2, pair(7, 9, 1)), (3, pair(6, 8, 7))];
        let shown = |limit, filter, target, order| {
            let (pairs, more) = Selection { limit, filter, target, order }.shows(all.clone());
            (pairs.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), more)
        };
        let by_version = |order| shown(0, Filter::All, SortTarget::Version, order);
        assert_eq!(by_version(SortOrder::Ascend), (vec![0, 2, 1, 3], false));
        assert_eq!(by_version(SortOrder::Descend), (vec![3, 1, 0, 2], false));
        let by_value = shown(2, Filter::MaxMod(8), SortTarget::Value, SortOrder::Ascend);
        assert_eq!(by_value, (vec![3, 1], true));
    }
}

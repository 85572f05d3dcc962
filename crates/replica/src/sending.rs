//! Whether the segments that are sent to followers still are what was written.
//!
//! A segment is read once, piece by piece, in order: so its checksum can be taken on the way, and costs nothing. A
//! follower that is sent rotten bytes finds that out, but cannot tell whether they were so on the leader's disk.

use std::collections::{BTreeMap, BTreeSet};

use tenure_raft::{EntryId, NodeId};

use crate::segments::Segment;

/// What is being sent to whom.
#[derive(Default)]
pub(crate) struct Sending {
    under_way: BTreeMap<NodeId, Run>,
    rotten: BTreeSet<EntryId>,
}

/// How much of a segment has been read for a follower, from its first byte on.
struct Run {
    segment: EntryId,
    read_bytes: u64,
    crc: u32,
}

impl Sending {
    /// Whether the segment has turned out not to be what was written.
    pub(crate) fn is_rotten(&self, segment: &Segment) -> bool {
        self.rotten.contains(&segment.last_included)
    }

    /// A piece of a segment was read for a follower. Answers whether it may be sent: the last piece shows what the
    /// segment is.
    pub(crate) fn on_read(&mut self, to: NodeId, segment: &Segment, within: u64, data: &[u8]) -> bool {
        let id = segment.last_included;
        if within == 0 {
            self.under_way.insert(to, Run { segment: id, read_bytes: 0, crc: 0 });
        }
        // Who goes on where an earlier leader ended is not sent the beginning.
        let Some(run) = self.under_way.get_mut(&to).filter(|run| run.segment == id) else { return true };
        let end = within + data.len() as u64;
        // A piece may be asked for twice.
        if within <= run.read_bytes && run.read_bytes < end {
            run.crc = crc32c::crc32c_append(run.crc, &data[(run.read_bytes - within) as usize..]);
            run.read_bytes = end;
        }
        if run.read_bytes == segment.len_bytes && run.crc != segment.crc {
            self.rotten.insert(id);
        }
        !self.rotten.contains(&id)
    }

    /// Only these segments are left.
    pub(crate) fn retain(&mut self, is_left: impl Fn(EntryId) -> bool) {
        self.under_way.retain(|_, run| is_left(run.segment));
        self.rotten.retain(|&id| is_left(id));
    }
}

#[cfg(test)]
mod tests {
    use tenure_raft::{Index, Term};

    use super::*;

    #[test]
    fn the_last_piece_shows_whether_the_segment_is_what_was_written() {
        let content: Vec<u8> = (0..100).collect();
        let last_included = EntryId::new(Index(7), Term(1));
        let segment = Segment { last_included, revision: 3, len_bytes: 100, crc: crc32c::crc32c(&content) };
        let to = NodeId::new(2).expect("not zero");
        let mut sending = Sending::default();
        for within in [0, 30, 0, 30, 60, 60] {
            let end = (within + 40).min(100);
            assert!(sending.on_read(to, &segment, within as u64, &content[within..end]));
        }
        assert!(!sending.is_rotten(&segment));
        let mut rotten = content.clone();
        rotten[50] ^= 1;
        assert!(sending.on_read(to, &segment, 60, &rotten[60..]), "it began earlier, at another leader's");
        assert!(sending.on_read(to, &segment, 0, &rotten[..60]));
        assert!(!sending.on_read(to, &segment, 60, &rotten[60..]));
        assert!(sending.is_rotten(&segment));
        assert!(!sending.on_read(to, &segment, 0, &content[..60]), "once is enough");
        sending.retain(|_| false);
        assert!(!sending.is_rotten(&segment));
    }
}

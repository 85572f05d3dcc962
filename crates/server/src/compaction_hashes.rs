//! The hashes that the last compactions made of what they found, before they removed it.
//!
//! etcd answers HashKV at exactly those revisions with them as long as it remembers them, and so do we: a client that
//! compares members' hashes at the last compact revision gets the same from both. They are no part of the state, cost
//! a walk over all of it, and are gone when the member stops. While one is being made, who asks for it waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tenure_store::{HashKv, Snapshot};
use tokio::sync::watch;

use crate::heavy::Heavy;

/// How many etcd remembers.
const KEPT: usize = 10;

/// The hashes, made or being made, by compact revision.
pub(crate) struct CompactionHashes {
    heavy: Arc<Heavy>,
    known: Mutex<BTreeMap<i64, watch::Receiver<Option<HashKv>>>>,
    /// One is made at a time: however many compactions there are, one thread is busy with them.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl CompactionHashes {
    pub(crate) fn new(heavy: Arc<Heavy>) -> CompactionHashes {
        CompactionHashes { heavy, known: Mutex::default(), turn: Arc::default() }
    }

    /// The history was compacted up to `revision`; `before` is the state that it was done to.
    pub(crate) fn begin(&self, before: Snapshot, revision: i64) {
        // A question for revision 0 is one for the latest. (etcd takes its hash of a compaction at 0 for that.)
        if revision <= 0 {
            return;
        }
        let (sender, receiver) = watch::channel(None);
        {
            let mut known = self.known.lock().expect("nobody panics with the lock");
            known.insert(revision, receiver);
            while known.len() > KEPT {
                known.pop_first();
            }
        }
        let (turn, heavy) = (self.turn.clone(), self.heavy.clone());
        tokio::spawn(async move {
            let _turn = turn.lock().await;
            let make = move || {
                // Forgotten before its turn came: nobody can ask for it any more.
                if !sender.is_closed() {
                    sender.send_replace(Some(before.hash_kv_at_compaction(revision)));
                }
            };
            // The threads stop only with the member.
            let _ = heavy.run(make).await;
        });
    }

    /// The hash that the compaction at `revision` made, if it was one of the last.
    pub(crate) async fn at(&self, revision: i64) -> Option<HashKv> {
        let mut receiver = self.known.lock().expect("nobody panics with the lock").get(&revision)?.clone();
        receiver.wait_for(Option::is_some).await.ok().and_then(|hash| *hash)
    }
}

#[cfg(test)]
mod tests {
    use tenure_store::{Command, PutRequest, Store};

    use super::*;

    #[tokio::test]
    async fn the_last_ten_are_remembered_each_with_the_compaction_before_it() {
        let hashes = CompactionHashes::new(Heavy::start().expect("threads"));
        let mut store = Store::new();
        for revision in 2..=13 {
            let put = PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() };
            let index = store.applied_index() + 1;
            store.apply(index, &Command::Put(put)).result.expect("a put");
            let before = store.snapshot();
            store
                .apply(index + 1, &Command::Compact { revision, physical: false })
                .result
                .expect("compacted");
            hashes.begin(before, revision);
        }
        assert_eq!(hashes.at(3).await, None, "forgotten");
        let hash = hashes.at(4).await.expect("remembered");
        assert_eq!((hash.compact_revision, hash.hash_revision), (3, 4));
        let hash = hashes.at(13).await.expect("remembered");
        assert_eq!((hash.compact_revision, hash.hash_revision), (12, 13));
        assert_ne!(hash, store.snapshot().hash_kv(13).expect("the latest"), "it is of what was there before");
        assert_eq!(hashes.at(0).await, None);
    }
}

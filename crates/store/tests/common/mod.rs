//! One notation for requests and answers, shared by the vectors recorded from etcd (`tests/etcd/record` has the
//! same in Go) and by the transcripts.

#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod arbitrary;
pub(crate) mod model;
pub(crate) mod parse;
pub(crate) mod render;

use bytes::Bytes;
use tenure_store::checkpoint::{Reader, Writer};
use tenure_store::{
    Command, Limits, RangeRequest, Rejection, Store, TxnRequest, check, check_range, check_txn,
};

/// A line of a vector or a transcript.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Command(Command),
    Range(RangeRequest),
    HashKv { revision: i64 },
    Restart,
}

/// A store as a server would use it: checks first, commands through their bytes, reads on snapshots.
pub(crate) struct Machine {
    pub(crate) store: Store,
    pub(crate) limits: Limits,
}

impl Machine {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { store: Store::new(), limits }
    }

    /// Runs an operation and answers in the notation.
    pub(crate) fn run(&mut self, operation: &Operation) -> String {
        let answer = match operation {
            Operation::Command(Command::Txn(txn)) if txn.is_read_only() => self.read_txn(txn),
            Operation::Command(command) => self.apply(command),
            Operation::Range(request) => self.range(request),
            Operation::HashKv { revision } => self.store.snapshot().hash_kv(*revision).map(|hash| {
                let revision = self.store.revision();
                render::hash_kv(revision, &hash)
            }),
            Operation::Restart => {
                self.restart();
                Ok("restart".to_owned())
            }
        };
        answer.unwrap_or_else(render::rejection)
    }

    pub(crate) fn apply(&mut self, command: &Command) -> Result<String, Rejection> {
        check(command, &self.limits)?;
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        let decoded = Command::decode(&Bytes::from(bytes)).expect("an encoded command decodes");
        assert_eq!(&decoded, command, "a command survives its encoding");
        let applied = self.store.apply(self.store.applied_index() + 1, &decoded);
        self.store.check_invariants();
        assert_eq!(applied.revision, self.store.revision(), "the answer tells the revision");
        Ok(render::response(&applied.result?, applied.revision))
    }

    fn range(&self, request: &RangeRequest) -> Result<String, Rejection> {
        check_range(request)?;
        Ok(render::range(&self.store.snapshot().range(request)?))
    }

    fn read_txn(&self, request: &TxnRequest) -> Result<String, Rejection> {
        check_txn(request, &self.limits)?;
        Ok(render::txn(&self.store.snapshot().read_txn(request)?))
    }

    /// Goes on with what a checkpoint has kept of the store.
    pub(crate) fn restart(&mut self) {
        let restored = restore(&checkpoint(&self.store)).expect("a checkpoint can be read");
        restored.check_invariants();
        assert_eq!(restored.state_hash(), self.store.state_hash(), "a checkpoint keeps the state");
        assert_eq!(restored.applied_index(), self.store.applied_index());
        assert_eq!(restored.size_bytes(), self.store.size_bytes());
        self.store = restored;
    }
}

/// The bytes of a checkpoint.
pub(crate) fn checkpoint(store: &Store) -> Vec<u8> {
    Writer::new(store.snapshot()).flatten().collect()
}

pub(crate) fn restore(bytes: &[u8]) -> Result<Store, tenure_store::checkpoint::CheckpointError> {
    let mut reader = Reader::new();
    reader.push(bytes)?;
    reader.finish()
}

/// A checkpoint with any one bit turned over is refused.
pub(crate) fn assert_notices_every_flipped_bit(mut bytes: Vec<u8>) {
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            assert!(restore(&bytes).is_err(), "bit {bit} of byte {at}");
            bytes[at] ^= 1 << bit;
        }
    }
}

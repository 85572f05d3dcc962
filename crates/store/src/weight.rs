//! How much a command touches, without doing it.

use crate::interval::Interval;
use crate::state::State;
use crate::{Command, RequestOp, TxnRequest};

/// Counts keys down.
struct Allowance<'a> {
    state: &'a State,
    left: usize,
}

/// Whether applying the command looks at more than `keys` keys, or forgets more than so many changes. Takes time in
/// proportion to `keys` at the most. (What a transaction changes on its way is not seen.)
pub(crate) fn is_heavy(state: &State, command: &Command, keys: usize) -> bool {
    let mut allowance = Allowance { state, left: keys };
    match command {
        Command::Put(_) | Command::PublishMember(_) | Command::SetPeerUrls { .. } => false,
        Command::DeleteRange(request) => !allowance.takes(&request.key, &request.range_end),
        Command::Txn(request) => !allowance.takes_txn(request),
        Command::Compact { revision, .. } => {
            let changes = revision.saturating_sub(state.compact_revision());
            usize::try_from(changes).is_ok_and(|changes| changes > keys)
        }
    }
}

impl Allowance<'_> {
    /// Takes the keys of a range, if so many are left.
    fn takes(&mut self, key: &[u8], range_end: &[u8]) -> bool {
        if range_end.is_empty() {
            return true;
        }
        let interval = Interval::parse(key, range_end);
        let count = self.state.iter_latest(&interval).take(self.left.saturating_add(1)).count();
        let is_enough = count <= self.left;
        self.left = self.left.saturating_sub(count);
        is_enough
    }

    fn takes_txn(&mut self, request: &TxnRequest) -> bool {
        let TxnRequest { compare, success, failure } = request;
        compare.iter().all(|compare| self.takes(&compare.key, &compare.range_end))
            && success.iter().chain(failure).all(|op| match op {
                RequestOp::Range(request) => self.takes(&request.key, &request.range_end),
                RequestOp::DeleteRange(request) => self.takes(&request.key, &request.range_end),
                RequestOp::Txn(request) => self.takes_txn(request),
                RequestOp::Put(_) | RequestOp::Unset => true,
            })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{DeleteRangeRequest, PutRequest, Store};

    #[test]
    fn what_touches_many_keys_is_heavy_and_nothing_else() {
        let mut store = Store::new();
        for index in 1..=10 {
            let key = Bytes::from(format!("key{index:02}"));
            let put = Command::Put(PutRequest { key, ..PutRequest::default() });
            assert_eq!(store.apply(index, &put).changes, 1);
        }
        let delete = |key: &'static str, range_end: &'static str| DeleteRangeRequest {
            key: key.into(),
            range_end: range_end.into(),
            prev_kv: false,
        };
        let heavy = |command: Command, keys| store.is_heavy(&command, keys);
        let all = delete("key", "kez");
        assert!(heavy(Command::DeleteRange(all.clone()), 9) && !heavy(Command::DeleteRange(all.clone()), 10));
        assert!(!heavy(Command::DeleteRange(delete("key01", "")), 0));
        let within = TxnRequest { success: vec![RequestOp::DeleteRange(all)], ..TxnRequest::default() };
        let twice = TxnRequest {
            success: vec![RequestOp::Txn(within.clone()), RequestOp::Txn(within)],
            ..TxnRequest::default()
        };
        assert!(heavy(Command::Txn(twice.clone()), 19) && !heavy(Command::Txn(twice), 20));
        let compact = Command::Compact { revision: 11, physical: false };
        assert!(heavy(compact.clone(), 11) && !heavy(compact, 12));
        assert!(!heavy(Command::Put(PutRequest::default()), 0));
    }
}

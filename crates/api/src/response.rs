//! From what the store answered to what a client receives.
//!
//! The store knows the revision of an answer; who answers, in which cluster and term, is added here.

use tenure_store as store;

use crate::pb::etcdserverpb as pb;
use crate::pb::mvccpb;
use pb::response_op::Response;

/// What every answer of a member says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Responder {
    /// The cluster.
    pub cluster_id: u64,
    /// The member that answers.
    pub member_id: u64,
    /// Its current term.
    pub raft_term: u64,
}

impl Responder {
    /// The header of an answer at a revision of the store.
    pub fn header(self, revision: i64) -> pb::ResponseHeader {
        let Self { cluster_id, member_id, raft_term } = self;
        pb::ResponseHeader { cluster_id, member_id, revision, raft_term }
    }

    /// The header of an answer about the cluster, which has no revision.
    pub fn cluster_header(self) -> pb::ResponseHeader {
        self.header(0)
    }

    /// The answer to a range.
    pub fn range(self, response: store::RangeResponse) -> pb::RangeResponse {
        range(self.header(response.revision), response)
    }

    /// The same, with the pairs still to be made.
    pub fn selection(self, selection: store::Selection) -> pb::RangeResponse {
        let store::Selection { revision, more, count, pairs } = selection;
        let kvs = pairs.map(Into::into).collect();
        pb::RangeResponse { header: Some(self.header(revision)), kvs, more, count }
    }

    /// The answer to a put.
    pub fn put(self, response: store::PutResponse) -> pb::PutResponse {
        put(self.header(response.revision), response)
    }

    /// The answer to a delete.
    pub fn delete_range(self, response: store::DeleteRangeResponse) -> pb::DeleteRangeResponse {
        delete_range(self.header(response.revision), response)
    }

    /// The answer to a transaction.
    pub fn txn(self, response: store::TxnResponse) -> pb::TxnResponse {
        txn(self.header(response.revision), response)
    }

    /// The answer to a compaction; `revision` is the store's.
    pub fn compaction(self, revision: i64) -> pb::CompactionResponse {
        pb::CompactionResponse { header: Some(self.header(revision)) }
    }

    /// The answer to HashKV; `revision` is the store's, not the one that was hashed to.
    pub fn hash_kv(self, revision: i64, hash: store::HashKv) -> pb::HashKvResponse {
        let store::HashKv { hash, compact_revision, hash_revision } = hash;
        pb::HashKvResponse { header: Some(self.header(revision)), hash, compact_revision, hash_revision }
    }

    /// The answer to MemberList.
    pub fn member_list(self, members: Vec<pb::Member>) -> pb::MemberListResponse {
        pb::MemberListResponse { header: Some(self.cluster_header()), members }
    }
}

fn range(header: pb::ResponseHeader, response: store::RangeResponse) -> pb::RangeResponse {
    let store::RangeResponse { revision: _, kvs, more, count } = response;
    pb::RangeResponse { header: Some(header), kvs: key_values(kvs), more, count }
}

fn put(header: pb::ResponseHeader, response: store::PutResponse) -> pb::PutResponse {
    pb::PutResponse { header: Some(header), prev_kv: response.prev_kv.map(Into::into) }
}

fn delete_range(header: pb::ResponseHeader, response: store::DeleteRangeResponse) -> pb::DeleteRangeResponse {
    let store::DeleteRangeResponse { revision: _, deleted, prev_kvs } = response;
    pb::DeleteRangeResponse { header: Some(header), deleted, prev_kvs: key_values(prev_kvs) }
}

fn txn(header: pb::ResponseHeader, response: store::TxnResponse) -> pb::TxnResponse {
    let store::TxnResponse { revision: _, succeeded, responses } = response;
    let responses = responses.into_iter().map(response_op).collect();
    pb::TxnResponse { header: Some(header), succeeded, responses }
}

/// Inside a transaction a header carries nothing but the revision.
fn response_op(response: store::ResponseOp) -> pb::ResponseOp {
    let header = |revision| pb::ResponseHeader { revision, ..Default::default() };
    let response = match response {
        store::ResponseOp::Range(response) => {
            Response::ResponseRange(range(header(response.revision), response))
        }
        store::ResponseOp::Later(later) => {
            let response = later.select().into_response();
            Response::ResponseRange(range(header(response.revision), response))
        }
        store::ResponseOp::Put(response) => Response::ResponsePut(put(header(response.revision), response)),
        store::ResponseOp::DeleteRange(response) => {
            Response::ResponseDeleteRange(delete_range(header(response.revision), response))
        }
        store::ResponseOp::Txn(response) => Response::ResponseTxn(txn(header(response.revision), response)),
    };
    pb::ResponseOp { response: Some(response) }
}

fn key_values(pairs: Vec<store::KeyValue>) -> Vec<mvccpb::KeyValue> {
    pairs.into_iter().map(Into::into).collect()
}

impl From<store::KeyValue> for mvccpb::KeyValue {
    fn from(pair: store::KeyValue) -> Self {
        let store::KeyValue { key, create_revision, mod_revision, version, value, lease } = pair;
        Self { key, create_revision, mod_revision, version, value, lease }
    }
}

/// A member as clients see it; that it only learns is said by the configuration.
pub fn member(member: &store::Member, is_learner: bool) -> pb::Member {
    pb::Member {
        id: member.id,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        is_learner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESPONDER: Responder = Responder { cluster_id: 1, member_id: 2, raft_term: 3 };

    fn pair() -> store::KeyValue {
        store::KeyValue {
            key: "k".into(),
            create_revision: 4,
            mod_revision: 5,
            version: 6,
            value: "v".into(),
            lease: 7,
        }
    }

    fn pair_of_api() -> mvccpb::KeyValue {
        mvccpb::KeyValue {
            key: "k".into(),
            create_revision: 4,
            mod_revision: 5,
            version: 6,
            value: "v".into(),
            lease: 7,
        }
    }

    #[test]
    fn headers_say_who_answers_and_at_which_revision() {
        let range =
            RESPONDER.range(store::RangeResponse { revision: 9, kvs: vec![pair()], more: true, count: 8 });
        let header = pb::ResponseHeader { cluster_id: 1, member_id: 2, revision: 9, raft_term: 3 };
        let kvs = vec![pair_of_api()];
        assert_eq!(range, pb::RangeResponse { header: Some(header), kvs, more: true, count: 8 });
        let put = RESPONDER.put(store::PutResponse { revision: 9, prev_kv: Some(pair()) });
        assert_eq!(put, pb::PutResponse { header: Some(header), prev_kv: Some(pair_of_api()) });
        assert_eq!(RESPONDER.compaction(9).header, Some(header));
    }

    #[test]
    fn headers_inside_a_transaction_carry_the_revision_only() {
        let delete = store::DeleteRangeResponse { revision: 9, deleted: 1, prev_kvs: vec![pair()] };
        let inner = store::TxnResponse { revision: 0, succeeded: true, responses: vec![] };
        let responses = vec![store::ResponseOp::DeleteRange(delete), store::ResponseOp::Txn(inner)];
        let txn = RESPONDER.txn(store::TxnResponse { revision: 9, succeeded: false, responses });

        let header = pb::ResponseHeader { revision: 9, ..Default::default() };
        let delete =
            pb::DeleteRangeResponse { header: Some(header), deleted: 1, prev_kvs: vec![pair_of_api()] };
        let empty = Some(pb::ResponseHeader::default());
        let inner = pb::TxnResponse { header: empty, succeeded: true, responses: vec![] };
        let operation = |response| pb::ResponseOp { response: Some(response) };
        let expected =
            [operation(Response::ResponseDeleteRange(delete)), operation(Response::ResponseTxn(inner))];
        assert_eq!(txn.header, Some(RESPONDER.header(9)));
        assert_eq!(txn.responses, expected);
    }

    #[test]
    fn the_list_of_members_has_no_revision() {
        let member = store::Member {
            id: 2,
            directory_id: Some(11),
            name: "m2".into(),
            peer_urls: vec!["http://127.0.0.1:2380".into()],
            client_urls: vec!["http://127.0.0.1:2379".into()],
        };
        let list = RESPONDER.member_list(vec![super::member(&member, true)]);
        assert_eq!(list.header.map(|header| (header.revision, header.raft_term)), Some((0, 3)));
        let expected = pb::Member {
            id: 2,
            name: "m2".into(),
            peer_urls: vec!["http://127.0.0.1:2380".into()],
            client_urls: vec!["http://127.0.0.1:2379".into()],
            is_learner: true,
        };
        assert_eq!(list.members, [expected]);
    }

    #[test]
    fn a_hash_is_headed_by_the_stores_revision() {
        let hash = store::HashKv { hash: 5, compact_revision: -1, hash_revision: 7 };
        let response = RESPONDER.hash_kv(9, hash);
        assert_eq!(response.header, Some(RESPONDER.header(9)));
        assert_eq!((response.hash, response.compact_revision, response.hash_revision), (5, -1, 7));
    }
}

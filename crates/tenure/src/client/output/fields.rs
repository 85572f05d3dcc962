//! `-w fields`: every field by its name, a line each.

use std::fmt::{Display, Write};

use tenure_api::pb::etcdserverpb::response_op::Response;
use tenure_api::pb::etcdserverpb::{
    DeleteRangeResponse, HashKvResponse, Member, MemberListResponse, PutResponse, RangeResponse,
    ResponseHeader, ResponseOp, StatusResponse, TxnResponse,
};
use tenure_api::pb::mvccpb::KeyValue;

use crate::client::cluster::{Answer, Health};
use crate::client::duration;
use crate::client::quote::quote;

/// Gathers the output. A message that is absent reads as zeros, as in protobuf.
pub(super) struct Writer {
    hex: bool,
    output: String,
}

impl Writer {
    pub(super) fn new(hex: bool) -> Self {
        Self { hex, output: String::new() }
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.output.into_bytes()
    }

    pub(super) fn put(mut self, response: &PutResponse) -> Self {
        self.header(response.header.as_ref());
        response.prev_kv.iter().for_each(|pair| self.pair("Prev", pair));
        self
    }

    pub(super) fn get(mut self, response: &RangeResponse) -> Self {
        self.header(response.header.as_ref());
        response.kvs.iter().for_each(|pair| self.pair("", pair));
        self.field("More", response.more);
        self.field("Count", response.count);
        self
    }

    pub(super) fn del(mut self, response: &DeleteRangeResponse) -> Self {
        self.header(response.header.as_ref());
        self.field("Deleted", response.deleted);
        response.prev_kvs.iter().for_each(|pair| self.pair("Prev", pair));
        self
    }

    pub(super) fn txn(mut self, response: &TxnResponse) -> Self {
        self.header(response.header.as_ref());
        self.field("Succeeded", response.succeeded);
        response.responses.iter().fold(self, Self::operation)
    }

    fn operation(self, operation: &ResponseOp) -> Self {
        match &operation.response {
            Some(Response::ResponseRange(range)) => self.get(range),
            Some(Response::ResponsePut(put)) => self.put(put),
            Some(Response::ResponseDeleteRange(delete)) => self.del(delete),
            Some(Response::ResponseTxn(txn)) => self.txn(txn),
            None => self,
        }
    }

    pub(super) fn health(mut self, answers: &[Health]) -> Self {
        for Health { endpoint, took, error } in answers {
            self.text("Endpoint", endpoint);
            self.field("Health", error.is_none());
            self.field("Took", duration::text(*took));
            self.field("Error", error.as_deref().unwrap_or_default());
            self.output.push('\n');
        }
        self
    }

    pub(super) fn status(mut self, answers: &[Answer<StatusResponse>]) -> Self {
        for Answer { endpoint, response } in answers {
            let downgrade = response.downgrade_info.clone().unwrap_or_default();
            self.header(response.header.as_ref());
            self.text("Version", &response.version);
            self.text("StorageVersion", &response.storage_version);
            self.field("DBSize", response.db_size);
            self.field("DBSizeInUse", response.db_size_in_use);
            self.field("DBSizeQuota", response.db_size_quota);
            self.field("Leader", response.leader);
            self.field("IsLearner", response.is_learner);
            self.field("RaftIndex", response.raft_index);
            self.field("RaftAppliedIndex", response.raft_applied_index);
            self.field("Errors", format!("[{}]", response.errors.join(" ")));
            self.text("Endpoint", endpoint);
            self.text("DowngradeTargetVersion", &downgrade.target_version);
            self.field("DowngradeEnabled", downgrade.enabled);
            self.output.push('\n');
        }
        self
    }

    pub(super) fn hash(mut self, answers: &[Answer<HashKvResponse>]) -> Self {
        for Answer { endpoint, response } in answers {
            self.header(response.header.as_ref());
            self.text("Endpoint", endpoint);
            self.field("Hash", response.hash);
            self.field("HashRevision", response.hash_revision);
            self.output.push('\n');
        }
        self
    }

    pub(super) fn members(mut self, response: &MemberListResponse) -> Self {
        self.header(response.header.as_ref());
        response.members.iter().for_each(|member| self.member(member));
        self
    }

    fn member(&mut self, member: &Member) {
        self.id("ID", member.id);
        self.text("Name", &member.name);
        member.peer_urls.iter().for_each(|url| self.text("PeerURL", url));
        member.client_urls.iter().for_each(|url| self.text("ClientURL", url));
        self.field("IsLearner", member.is_learner);
        self.output.push('\n');
    }

    fn header(&mut self, header: Option<&ResponseHeader>) {
        let header = header.copied().unwrap_or_default();
        self.id("ClusterID", header.cluster_id);
        self.id("MemberID", header.member_id);
        // Answers about the cluster have none.
        if header.revision > 0 {
            self.field("Revision", header.revision);
        }
        self.field("RaftTerm", header.raft_term);
    }

    fn pair(&mut self, prefix: &str, pair: &KeyValue) {
        self.field(&format!("{prefix}Key"), quote(&pair.key));
        self.field(&format!("{prefix}CreateRevision"), pair.create_revision);
        self.field(&format!("{prefix}ModRevision"), pair.mod_revision);
        self.field(&format!("{prefix}Version"), pair.version);
        self.field(&format!("{prefix}Value"), quote(&pair.value));
        let lease = if self.hex { format!("{:016x}", pair.lease) } else { pair.lease.to_string() };
        self.field(&format!("{prefix}Lease"), lease);
    }

    fn id(&mut self, name: &str, id: u64) {
        if self.hex { self.field(name, format_args!("{id:x}")) } else { self.field(name, id) }
    }

    fn text(&mut self, name: &str, text: &str) {
        self.field(name, quote(text.as_bytes()));
    }

    fn field(&mut self, name: &str, value: impl Display) {
        writeln!(self.output, "\"{name}\" : {value}").expect("a String takes everything");
    }
}

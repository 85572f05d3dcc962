//! `-w simple`: keys and values as they are, a line each.

use std::fmt::Write as _;

use tenure_api::pb::etcdserverpb::response_op::Response;
use tenure_api::pb::etcdserverpb::{
    DeleteRangeResponse, PutResponse, RangeResponse, ResponseOp, TxnResponse,
};
use tenure_api::pb::mvccpb::KeyValue;

use crate::client::cluster::Health;
use crate::client::duration::text;

/// Gathers the output. Bytes, because keys and values are.
pub(super) struct Writer {
    hex: bool,
    values_only: bool,
    output: Vec<u8>,
}

impl Writer {
    pub(super) fn new(hex: bool, values_only: bool) -> Self {
        Self { hex, values_only, output: Vec::new() }
    }

    pub(super) fn done(self) -> Vec<u8> {
        self.output
    }

    pub(super) fn put(mut self, response: &PutResponse) -> Self {
        self.line(b"OK");
        self.pairs(response.prev_kv.as_ref());
        self
    }

    pub(super) fn get(mut self, response: &RangeResponse) -> Self {
        self.pairs(&response.kvs);
        self
    }

    pub(super) fn del(mut self, response: &DeleteRangeResponse) -> Self {
        self.line(response.deleted.to_string().as_bytes());
        self.pairs(&response.prev_kvs);
        self
    }

    pub(super) fn txn(mut self, response: &TxnResponse) -> Self {
        self.line(if response.succeeded { b"SUCCESS" } else { b"FAILURE" });
        response.responses.iter().fold(self, Self::operation)
    }

    fn operation(mut self, operation: &ResponseOp) -> Self {
        self.line(b"");
        match &operation.response {
            Some(Response::ResponseRange(range)) => self.get(range),
            Some(Response::ResponsePut(put)) => self.put(put),
            Some(Response::ResponseDeleteRange(delete)) => self.del(delete),
            Some(Response::ResponseTxn(txn)) => self.txn(txn),
            None => self,
        }
    }

    fn pairs<'a>(&mut self, pairs: impl IntoIterator<Item = &'a KeyValue>) {
        for pair in pairs {
            if !self.values_only {
                self.bytes_line(&pair.key);
            }
            self.bytes_line(&pair.value);
        }
    }

    fn bytes_line(&mut self, bytes: &[u8]) {
        if self.hex {
            let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "\\x{byte:02x}").expect("a String takes everything");
                hex
            });
            self.line(hex.as_bytes());
        } else {
            self.line(bytes);
        }
    }

    fn line(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
        self.output.push(b'\n');
    }
}

/// Who is well on standard output, who is not on standard error.
pub(super) fn health(answers: &[Health]) -> (Vec<u8>, Vec<u8>) {
    let (mut output, mut errors) = (String::new(), String::new());
    for Health { endpoint, took, error } in answers {
        let written = match error {
            None => {
                writeln!(
                    output,
                    "{endpoint} is healthy: successfully committed proposal: took = {}",
                    text(*took)
                )
            }
            Some(error) => writeln!(errors, "{endpoint} is unhealthy: failed to commit proposal: {error}"),
        };
        written.expect("a String takes everything");
    }
    (output.into_bytes(), errors.into_bytes())
}

/// A table's rows without the table.
pub(super) fn rows<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> Vec<u8> {
    rows.iter().map(|row| row.join(", ") + "\n").collect::<String>().into_bytes()
}

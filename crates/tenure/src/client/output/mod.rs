//! The output formats of etcdctl, to the byte.
//!
//! Everything here turns an answer into text; nothing is printed. Checked against etcdctl 3.7.3.

mod fields;
mod json;
mod simple;
mod table;

use clap::ValueEnum;
use prost::Message;
use tenure_api::pb::etcdserverpb::{
    DeleteRangeResponse, HashKvResponse, Member, MemberAddResponse, MemberListResponse, MemberRemoveResponse,
    PutResponse, RangeResponse, ResponseHeader, StatusResponse, TxnResponse,
};

use super::cluster::{Answer, Health};
use super::options::Options;
use super::{Failure, exit};

/// `--write-out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Simple,
    Json,
    Fields,
    Table,
    Protobuf,
}

/// The formats that answers about keys have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KvFormat {
    Simple { values_only: bool },
    Json,
    Fields,
    Protobuf,
}

/// Writes answers about keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KvPrinter {
    format: KvFormat,
    hex: bool,
}

/// The formats that answers of endpoints have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndpointFormat {
    Simple,
    Json,
    Fields,
    Table,
}

/// Writes what each endpoint answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndpointPrinter {
    format: EndpointFormat,
    hex: bool,
}

/// Writes the members of the cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MembersPrinter {
    format: Format,
    hex: bool,
}

impl KvPrinter {
    /// For `put`, `del`, `txn`.
    pub(crate) fn new(options: &Options) -> Result<Self, Failure> {
        let format = match options.write_out {
            Format::Simple => KvFormat::Simple { values_only: false },
            Format::Json => KvFormat::Json,
            Format::Fields => KvFormat::Fields,
            Format::Protobuf => KvFormat::Protobuf,
            Format::Table => {
                return Err(Failure::new(exit::BAD_FEATURE, "table not supported as output format"));
            }
        };
        Ok(Self { format, hex: options.hex })
    }

    /// For `get`, which has options for one format only.
    pub(crate) fn for_get(options: &Options, count_only: bool, values_only: bool) -> Result<Self, Failure> {
        let refuse = |message| Err(Failure::new(exit::BAD_ARGUMENTS, message));
        if count_only && options.write_out != Format::Fields {
            return refuse("--count-only is only for `--write-out=fields`");
        }
        if values_only && options.write_out != Format::Simple {
            return refuse("print-value-only is only for `--write-out=simple`");
        }
        let mut printer = Self::new(options)?;
        if values_only {
            printer.format = KvFormat::Simple { values_only };
        }
        Ok(printer)
    }

    pub(crate) fn put(self, response: &PutResponse) -> Vec<u8> {
        match self.format {
            KvFormat::Simple { values_only } => {
                simple::Writer::new(self.hex, values_only).put(response).done()
            }
            KvFormat::Json => json::line(&json::put(response)),
            KvFormat::Fields => fields::Writer::new(self.hex).put(response).done(),
            KvFormat::Protobuf => response.encode_to_vec(),
        }
    }

    pub(crate) fn get(self, response: &RangeResponse) -> Vec<u8> {
        match self.format {
            KvFormat::Simple { values_only } => {
                simple::Writer::new(self.hex, values_only).get(response).done()
            }
            KvFormat::Json => json::line(&json::range(response)),
            KvFormat::Fields => fields::Writer::new(self.hex).get(response).done(),
            KvFormat::Protobuf => response.encode_to_vec(),
        }
    }

    pub(crate) fn del(self, response: &DeleteRangeResponse) -> Vec<u8> {
        match self.format {
            KvFormat::Simple { values_only } => {
                simple::Writer::new(self.hex, values_only).del(response).done()
            }
            KvFormat::Json => json::line(&json::delete_range(response)),
            KvFormat::Fields => fields::Writer::new(self.hex).del(response).done(),
            KvFormat::Protobuf => response.encode_to_vec(),
        }
    }

    pub(crate) fn txn(self, response: &TxnResponse) -> Vec<u8> {
        match self.format {
            KvFormat::Simple { values_only } => {
                simple::Writer::new(self.hex, values_only).txn(response).done()
            }
            KvFormat::Json => json::line(&json::txn(response)),
            KvFormat::Fields => fields::Writer::new(self.hex).txn(response).done(),
            KvFormat::Protobuf => response.encode_to_vec(),
        }
    }
}

impl EndpointPrinter {
    pub(crate) fn new(options: &Options) -> Result<Self, Failure> {
        let format = match options.write_out {
            Format::Simple => EndpointFormat::Simple,
            Format::Json => EndpointFormat::Json,
            Format::Fields => EndpointFormat::Fields,
            Format::Table => EndpointFormat::Table,
            Format::Protobuf => {
                return Err(Failure::new(exit::BAD_FEATURE, "protobuf not supported as output format"));
            }
        };
        Ok(Self { format, hex: options.hex })
    }

    /// What goes to standard output and what, with `-w simple`, to standard error.
    pub(crate) fn health(self, answers: &[Health]) -> (Vec<u8>, Vec<u8>) {
        let output = match self.format {
            EndpointFormat::Simple => return simple::health(answers),
            EndpointFormat::Json => json::line(&json::health(answers)),
            EndpointFormat::Fields => fields::Writer::new(self.hex).health(answers).done(),
            EndpointFormat::Table => table::render(&table::HEALTH_HEADER, &table::health_rows(answers)),
        };
        (output, Vec::new())
    }

    pub(crate) fn status(self, answers: &[Answer<StatusResponse>]) -> Vec<u8> {
        match self.format {
            EndpointFormat::Simple => simple::rows(&table::status_rows(answers)),
            EndpointFormat::Json => json::line(&json::status(answers)),
            EndpointFormat::Fields => fields::Writer::new(self.hex).status(answers).done(),
            EndpointFormat::Table => table::render(&table::STATUS_HEADER, &table::status_rows(answers)),
        }
    }

    pub(crate) fn hash(self, answers: &[Answer<HashKvResponse>]) -> Vec<u8> {
        match self.format {
            EndpointFormat::Simple => simple::rows(&table::hash_rows(answers)),
            EndpointFormat::Json => json::line(&json::hash(answers)),
            EndpointFormat::Fields => fields::Writer::new(self.hex).hash(answers).done(),
            EndpointFormat::Table => table::render(&table::HASH_HEADER, &table::hash_rows(answers)),
        }
    }
}

impl MembersPrinter {
    pub(crate) fn new(options: &Options) -> Self {
        Self { format: options.write_out, hex: options.hex }
    }

    pub(crate) fn members(self, response: &MemberListResponse) -> Vec<u8> {
        match self.format {
            Format::Simple => simple::rows(&table::member_rows(response)),
            Format::Json => {
                json::line(&json::members(response.header.as_ref(), None, &response.members, self.hex))
            }
            Format::Fields => fields::Writer::new(self.hex).members(response).done(),
            Format::Table => table::render(&table::MEMBERS_HEADER, &table::member_rows(response)),
            Format::Protobuf => response.encode_to_vec(),
        }
    }
}

/// The formats that changes of the cluster have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChangeFormat {
    Simple,
    Json,
    Protobuf,
}

/// Writes what a change of the cluster has come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChangePrinter {
    format: ChangeFormat,
    hex: bool,
}

impl ChangePrinter {
    /// Refuses, as etcdctl, what it has no other format for; but before anything is done.
    pub(crate) fn new(options: &Options) -> Result<Self, Failure> {
        let refuse =
            |name| Err(Failure::new(exit::BAD_FEATURE, format!("{name} not supported as output format")));
        let format = match options.write_out {
            Format::Simple => ChangeFormat::Simple,
            Format::Json => ChangeFormat::Json,
            Format::Protobuf => ChangeFormat::Protobuf,
            Format::Fields => return refuse("fields"),
            Format::Table => return refuse("table"),
        };
        Ok(Self { format, hex: options.hex })
    }

    pub(crate) fn is_simple(self) -> bool {
        self.format == ChangeFormat::Simple
    }

    /// `what` became of a member; `added` is the one that is new.
    pub(crate) fn change(
        self,
        what: &str,
        id: u64,
        header: Option<ResponseHeader>,
        added: Option<&Member>,
        members: &[Member],
    ) -> Vec<u8> {
        match self.format {
            ChangeFormat::Simple => {
                let cluster_id = header.unwrap_or_default().cluster_id;
                format!("Member {id:16x} {what} cluster {cluster_id:16x}\n").into_bytes()
            }
            ChangeFormat::Json => json::line(&json::members(header.as_ref(), added, members, self.hex)),
            ChangeFormat::Protobuf => {
                let members = members.to_vec();
                match added.cloned() {
                    Some(added) => MemberAddResponse { header, member: Some(added), members }.encode_to_vec(),
                    // The answers to the other changes have the same fields.
                    None => MemberRemoveResponse { header, members }.encode_to_vec(),
                }
            }
        }
    }

    pub(crate) fn moved_leader(self, from: u64, to: u64) -> Vec<u8> {
        match self.format {
            ChangeFormat::Simple => format!("Leadership transferred from {from:x} to {to:x}\n").into_bytes(),
            // The answer says nothing.
            ChangeFormat::Json => json::line("{}"),
            ChangeFormat::Protobuf => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;

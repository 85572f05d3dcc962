//! Carries out `put`, `get`, `del` and `compact`.

use std::io::Read;
use std::time::Duration;

use prost::Message;
use tenure_api::pb::etcdserverpb::kv_client::KvClient;
use tenure_api::pb::etcdserverpb::{CompactionRequest, RangeResponse, RangeStreamResponse};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::connection::{self, Kind};
use super::operations::{DelArguments, GetArguments, PutArguments};
use super::options::Options;
use super::output::KvPrinter;
use super::{Failure, exit, print, quote};

/// How long `del a b` waits for a second thought, as etcdctl does.
const SECOND_THOUGHT: Duration = Duration::from_secs(2);

/// Arguments of `compact`.
#[derive(Clone, Debug, clap::Args)]
#[command(override_usage = "tenure compact [OPTIONS] <REVISION>")]
pub(crate) struct CompactArguments {
    /// The oldest revision that can still be read afterwards
    #[arg(value_name = "REVISION")]
    revision: Vec<String>,
    /// Wait until the history is gone from the endpoint's memory and disk too
    #[arg(long)]
    physical: bool,
}

/// A client of the KV service with the options' bounds.
pub(crate) fn client(options: &Options, channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel)
        .max_encoding_message_size(options.send_limit_bytes())
        .max_decoding_message_size(options.receive_limit_bytes())
}

/// What is larger than the options allow never leaves. (The library would break the connection instead, and
/// leave everybody wondering what became of the request.)
pub(crate) fn check_size(options: &Options, request: &impl Message) -> Result<(), Failure> {
    let (found, limit) = (request.encoded_len(), options.send_limit_bytes());
    if found <= limit {
        return Ok(());
    }
    let message = format!(
        "rpc error: code = ResourceExhausted desc = trying to send message larger than max ({found} vs. {limit})\n\
         --max-request-bytes allows more here; the servers have a flag of the same name."
    );
    Err(Failure::new(exit::ERROR, message))
}

/// `tenure put`.
pub(crate) async fn put(options: &Options, arguments: PutArguments) -> Result<(), Failure> {
    let printer = KvPrinter::new(options)?;
    let request = arguments.into_request(value_from_stdin)?;
    check_size(options, &request)?;
    let call = async |channel| client(options, channel).put(request.clone()).await;
    let response = connection::request(options, Kind::Write, call).await?;
    print(&printer.put(response.get_ref()))
}

/// `tenure get`.
pub(crate) async fn get(options: &Options, arguments: GetArguments) -> Result<(), Failure> {
    let (count_only, values_only) = (arguments.count_only, arguments.print_value_only);
    let in_pieces = arguments.stream;
    let request = arguments.into_request()?;
    check_size(options, &request)?;
    let printer = KvPrinter::for_get(options, count_only, values_only)?;
    let call = async |channel| {
        let mut client = client(options, channel);
        if in_pieces {
            put_together(client.range_stream(request.clone()).await?.into_inner()).await
        } else {
            Ok(client.range(request.clone()).await?.into_inner())
        }
    };
    let response = connection::request(options, Kind::Read, call).await?;
    print(&printer.get(&response))
}

/// The one answer that a streamed range is sent in pieces of: the last piece has all but the pairs.
async fn put_together(mut pieces: Streaming<RangeStreamResponse>) -> Result<RangeResponse, Status> {
    let mut whole = RangeResponse::default();
    while let Some(piece) = pieces.message().await? {
        let RangeResponse { header, kvs, more, count } = piece.range_response.unwrap_or_default();
        whole.kvs.extend(kvs);
        whole = RangeResponse { header: header.or(whole.header), kvs: whole.kvs, more, count };
    }
    Ok(whole)
}

/// `tenure del`.
pub(crate) async fn del(options: &Options, arguments: DelArguments) -> Result<(), Failure> {
    let printer = KvPrinter::new(options)?;
    let is_surprising = arguments.keys.len() > 1 && !arguments.range;
    let request = arguments.into_request()?;
    check_size(options, &request)?;
    if is_surprising {
        let (first, end) = (quote::quote(&request.key), quote::quote(&request.range_end));
        eprintln!(
            "Warning: Keys between {first} and {end} will be deleted. Please interrupt the command within \
             next 2 seconds to cancel. You can provide `--range` flag to avoid the delay."
        );
        tokio::time::sleep(SECOND_THOUGHT).await;
    }
    let call = async |channel| client(options, channel).delete_range(request.clone()).await;
    let response = connection::request(options, Kind::Write, call).await?;
    print(&printer.del(response.get_ref()))
}

/// `tenure compact`.
pub(crate) async fn compact(options: &Options, arguments: &CompactArguments) -> Result<(), Failure> {
    let [revision] = &arguments.revision[..] else {
        return Err(Failure::new(exit::BAD_ARGUMENTS, "compaction command needs 1 argument"));
    };
    let revision = revision.parse().map_err(|_| {
        Failure::new(exit::ERROR, format!("the revision is a whole number, not {revision:?}"))
    })?;
    let request = CompactionRequest { revision, physical: arguments.physical };
    let call = async |channel| client(options, channel).compact(request).await;
    connection::request(options, Kind::Write, call).await?;
    print(format!("compacted revision {revision}\n").as_bytes())
}

fn value_from_stdin() -> Option<Vec<u8>> {
    let mut value = Vec::new();
    std::io::stdin().lock().read_to_end(&mut value).ok()?;
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use tenure_api::pb::etcdserverpb::PutRequest;

    use super::*;

    #[test]
    fn a_request_beyond_the_limit_is_not_sent() {
        let options = Options { max_request_bytes: 10, ..crate::client::options::tests::defaults() };
        let request = |value: &'static str| PutRequest {
            key: "k".into(),
            value: value.into(),
            ..PutRequest::default()
        };
        assert!(check_size(&options, &request("12345")).is_ok());
        let failure = check_size(&options, &request("123456")).expect_err("eleven bytes");
        assert!(
            failure.to_string().contains("trying to send message larger than max (11 vs. 10)"),
            "{failure}"
        );
    }
}

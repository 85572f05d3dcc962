//! `txn`: a transaction written by hand, in etcdctl's syntax: comparisons, then the requests to do if they
//! hold, then those to do if not; an empty line ends each part.
//!
//! ```text
//! mod("key1") > "0"
//!
//! put key1 "overwrote it"
//!
//! put key1 "created it"
//! put key2 'and another'
//!
//! ```

use std::ffi::OsString;
use std::io::BufRead;
use std::os::unix::ffi::OsStringExt;

use clap::{CommandFactory, Parser};
use tenure_api::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use tenure_api::pb::etcdserverpb::request_op::Request;
use tenure_api::pb::etcdserverpb::{Compare, RequestOp, TxnRequest};

use super::arguments::plain_options;
use super::connection::{self, Kind};
use super::operations::{DelArguments, GetArguments, PutArguments};
use super::options::Options;
use super::output::KvPrinter;
use super::quote::unquote_prefix;
use super::{Failure, exit, kv, print};
use crate::stdout::tell;

/// Arguments of `txn`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "The transaction is read from standard input: comparisons, requests to do if all of \
                        them hold, requests to do if not; an empty line ends each part.\n\n  \
                        mod(\"key1\") > \"0\"\n\n  put key1 \"overwrote it\"\n\n  put key1 \"created it\"\n  \
                        put key2 'and another'\n\nComparisons: create, mod, version, value, lease; =, !=, <, >. \
                        Requests: get, put, del with their options.")]
pub(crate) struct TxnArguments {
    /// Say which part is awaited
    #[arg(long, short)]
    interactive: bool,
    #[arg(hide = true)]
    superfluous: Vec<String>,
}

/// `tenure txn`.
pub(crate) async fn txn(options: &Options, arguments: &TxnArguments) -> Result<(), Failure> {
    if !arguments.superfluous.is_empty() {
        return Err(Failure::new(exit::BAD_ARGUMENTS, "txn command does not accept argument"));
    }
    let printer = KvPrinter::new(options)?;
    let prompt = |part: &str| {
        if arguments.interactive {
            tell(part);
        }
    };
    let request = read_txn(&mut std::io::stdin().lock(), prompt)?;
    kv::check_size(options, &request)?;
    let call = async |channel| kv::client(options, channel).txn(request.clone()).await;
    let response = connection::request(options, Kind::Write, call).await?;
    print(&printer.txn(response.get_ref()))
}

fn read_txn(input: &mut impl BufRead, prompt: impl Fn(&str)) -> Result<TxnRequest, Failure> {
    prompt("compares:");
    let compare = read_part(input, parse_compare)?;
    prompt("success requests (get, put, del):");
    let success = read_part(input, parse_request)?;
    prompt("failure requests (get, put, del):");
    let failure = read_part(input, parse_request)?;
    Ok(TxnRequest { compare, success, failure })
}

/// Reads lines up to an empty one.
fn read_part<T>(
    input: &mut impl BufRead,
    parse: impl Fn(&str) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut parsed = Vec::new();
    loop {
        let mut line = String::new();
        input.read_line(&mut line).map_err(|error| invalid(format!("cannot read the input: {error}")))?;
        if !line.ends_with('\n') {
            // What was not ended may have been cut off, and half a transaction is another one.
            return Err(invalid("EOF: each of the three parts ends with an empty line, the last one too"));
        }
        match line.trim() {
            "" => return Ok(parsed),
            line => parsed.push(parse(line)?),
        }
    }
}

/// `mod("key") > "0"`.
fn parse_compare(line: &str) -> Result<Compare, Failure> {
    let malformed =
        || invalid(format!("malformed comparison: {line}; expected something like mod(\"key\") > \"0\""));
    let (target, rest) = line.split_once('(').ok_or_else(malformed)?;
    let (key, rest) = unquote_prefix(rest.trim_start()).ok_or_else(malformed)?;
    let rest = rest.trim_start().strip_prefix(')').ok_or_else(malformed)?.trim_start();
    let operator_end = rest.find(['"', ' ', '\t']).ok_or_else(malformed)?;
    let (operator, rest) = rest.split_at(operator_end);
    let (operand, rest) = unquote_prefix(rest.trim_start()).ok_or_else(malformed)?;
    if !rest.trim().is_empty() {
        return Err(malformed());
    }
    let result = match operator {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        other => return Err(invalid(format!("unknown operator {other:?} in {line}; there are =, !=, <, >"))),
    };
    let (target, operand) = parse_operand(line, target, operand)?;
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        target_union: Some(operand),
        range_end: bytes::Bytes::new(),
    })
}

fn parse_operand(
    line: &str,
    target: &str,
    operand: Vec<u8>,
) -> Result<(CompareTarget, TargetUnion), Failure> {
    let number = |radix| {
        let text = std::str::from_utf8(&operand).ok();
        text.and_then(|text| i64::from_str_radix(text, radix).ok())
            .ok_or_else(|| invalid(format!("invalid txn compare request: {line}; {target} is a number")))
    };
    Ok(match target {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number(10)?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(operand.into())),
        // In hexadecimal, as everywhere on the command line. (etcdctl 3.7 panics here.)
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        other => {
            return Err(invalid(format!("malformed comparison: {line} (unknown target {other})")));
        }
    })
}

/// A request in a transaction, as a command line of its own.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, args_override_self = true)]
enum Operation {
    Put(PutArguments),
    Get(GetArguments),
    Del(DelArguments),
}

fn parse_request(line: &str) -> Result<RequestOp, Failure> {
    let words = split_words(line)?;
    if words.len() < 2 {
        return Err(invalid(format!("invalid txn compare request: {line}")));
    }
    let operation = Operation::try_parse_from(plain_operation(words)).map_err(|error| {
        let reason = error.kind().as_str().unwrap_or("wrong arguments");
        invalid(format!("invalid txn request: {line} ({reason})"))
    })?;
    let request = match operation {
        // The rest of standard input is the rest of the transaction, not a value.
        Operation::Put(put) => Request::RequestPut(put.into_request(|| None)?),
        Operation::Get(get) => Request::RequestRange(get.into_request()?),
        Operation::Del(del) => Request::RequestDeleteRange(del.into_request()?),
    };
    Ok(RequestOp { request: Some(request) })
}

/// A request may be written as the command may.
fn plain_operation(words: Vec<OsString>) -> Vec<OsString> {
    let definition = Operation::command();
    let Some(operation) = words.first().and_then(|name| definition.find_subcommand(name)) else {
        return words;
    };
    let mut words = words.into_iter();
    let mut plain: Vec<OsString> = words.next().into_iter().collect();
    plain.extend(plain_options(operation, words));
    plain
}

/// Splits a line into words: bare, between single quotes, or between double quotes with escapes.
fn split_words(line: &str) -> Result<Vec<OsString>, Failure> {
    let unclosed = || invalid(format!("a quoted string does not end or has a wrong escape: {line}"));
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '"' => unquote_prefix(rest).ok_or_else(unclosed)?,
            '\'' => {
                let (word, after) = rest[1..].split_once('\'').ok_or_else(unclosed)?;
                (word.as_bytes().to_vec(), after)
            }
            _ => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                (rest.as_bytes()[..end].to_vec(), &rest[end..])
            }
        };
        words.push(OsString::from_vec(word));
        rest = after.trim_start();
    }
    Ok(words)
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(exit::INVALID_INPUT, message)
}

#[cfg(test)]
mod tests {
    use tenure_api::pb::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

    use super::*;

    fn read(text: &str) -> Result<TxnRequest, Failure> {
        read_txn(&mut text.as_bytes(), |_| ())
    }

    #[test]
    fn a_transaction_has_three_parts() {
        let text =
            "mod(\"key1\") > \"0\"\n\n put key1 \"over \\x77rote\"\n get --prefix key\n\ndel 'a b'\n\n";
        let txn = read(text).expect("a transaction");
        let op = |request| RequestOp { request: Some(request) };
        let put = PutRequest { key: "key1".into(), value: "over wrote".into(), ..PutRequest::default() };
        let get = RangeRequest { key: "key".into(), range_end: "kez".into(), ..RangeRequest::default() };
        let del = DeleteRangeRequest { key: "a b".into(), ..DeleteRangeRequest::default() };
        let compare = Compare {
            result: CompareResult::Greater.into(),
            target: CompareTarget::Mod.into(),
            key: "key1".into(),
            target_union: Some(TargetUnion::ModRevision(0)),
            range_end: bytes::Bytes::new(),
        };
        assert_eq!(txn.compare, [compare]);
        assert_eq!(txn.success, [op(Request::RequestPut(put)), op(Request::RequestRange(get))]);
        assert_eq!(txn.failure, [op(Request::RequestDeleteRange(del))]);
    }

    #[test]
    fn requests_have_their_options_in_the_forms_of_the_commands() {
        let txn =
            read("\nget é --prefix=true --limit -1\nget é --prefix=false\n\n\n").expect("a transaction");
        let ranges = txn.success.iter().map(|operation| match &operation.request {
            Some(Request::RequestRange(range)) => (range.range_end.clone(), range.limit),
            other => panic!("not a get: {other:?}"),
        });
        assert_eq!(ranges.collect::<Vec<_>>(), [("ê".into(), -1), ("".into(), 0)]);
    }

    #[test]
    fn every_comparison_of_etcdctl_is_understood() {
        for (line, target, operand) in [
            (r#"ver("k") = "1""#, CompareTarget::Version, TargetUnion::Version(1)),
            (r#"version("k") = "-1""#, CompareTarget::Version, TargetUnion::Version(-1)),
            (r#"c("k") = "2""#, CompareTarget::Create, TargetUnion::CreateRevision(2)),
            (r#"create("k") = "2""#, CompareTarget::Create, TargetUnion::CreateRevision(2)),
            (r#"m("k") = "3""#, CompareTarget::Mod, TargetUnion::ModRevision(3)),
            (r#"mod("k")="3""#, CompareTarget::Mod, TargetUnion::ModRevision(3)),
            (r#"val("k") = "a b""#, CompareTarget::Value, TargetUnion::Value("a b".into())),
            (r#"value("k") = "\x41""#, CompareTarget::Value, TargetUnion::Value("A".into())),
            (r#"lease("k") = "7f""#, CompareTarget::Lease, TargetUnion::Lease(0x7f)),
        ] {
            let compare = parse_compare(line).expect(line);
            assert_eq!((compare.target(), compare.target_union.clone()), (target, Some(operand)), "{line}");
            assert_eq!((compare.key.as_ref(), compare.result()), (&b"k"[..], CompareResult::Equal));
        }
        for (operator, result) in
            [("=", CompareResult::Equal), ("!=", CompareResult::NotEqual), ("<", CompareResult::Less)]
        {
            let line = format!("mod(\"k\") {operator} \"1\"");
            assert_eq!(parse_compare(&line).expect("a comparison").result(), result);
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for text in [
            "",
            "\n\n",
            "mod(\"k\") > \"0\"\n",
            "\n\nput a b",
            "foo(\"k\") > \"0\"\n\n\n\n",
            "mod(k) > \"0\"\n\n\n\n",
            "mod(\"k\") >= \"0\"\n\n\n\n",
            "mod(\"k\") > 0\n\n\n\n",
            "mod(\"k\") > \"x\"\n\n\n\n",
            "mod(\"k\") > \"0\" and more\n\n\n\n",
            "\nput\n\n\n",
            "\nfoo bar\n\n\n",
            "\nput a --foo b\n\n\n",
            "\nput a \"b\n\n\n",
            "\nput a 'b\n\n\n",
        ] {
            let failure = read(text).expect_err(text);
            assert_eq!(failure.exit_code, exit::INVALID_INPUT, "{text:?}: {failure}");
        }
        for text in ["\nput a\n\n\n", "\nget a b --prefix\n\n\n"] {
            let failure = read(text).expect_err(text);
            assert_eq!(failure.exit_code, exit::BAD_ARGUMENTS, "{text:?}: {failure}");
        }
    }
}

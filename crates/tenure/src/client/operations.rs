//! The operations `put`, `get` and `del`, which are commands, and what transactions are made of: from etcdctl's
//! arguments to requests.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;
use clap::ValueEnum;
use clap::builder::PossibleValue;
use tenure_api::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use tenure_api::pb::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

use super::{Failure, exit};

/// The range end that means "all keys from the key on".
const NO_END: &[u8] = b"\0";

/// Arguments of `put`.
#[derive(Clone, Debug, clap::Args)]
#[command(override_usage = "tenure put [OPTIONS] <KEY> <VALUE>\n       tenure put [OPTIONS] <KEY> < FILE")]
pub(crate) struct PutArguments {
    /// The key, and the value, which is read from standard input if it is not given; a value that begins
    /// with - follows a --
    #[arg(value_name = "KEY VALUE")]
    pub(crate) key_and_value: Vec<OsString>,
    /// Attach the key to this lease (id in hexadecimal)
    #[arg(long, value_name = "ID", default_value = "0")]
    lease: String,
    /// Print the pair that was there before
    #[arg(long)]
    prev_kv: bool,
    /// Keep the value that is there
    #[arg(long)]
    ignore_value: bool,
    /// Keep the lease that is there
    #[arg(long)]
    ignore_lease: bool,
}

/// Arguments of `get`.
#[allow(clippy::struct_excessive_bools, reason = "they are flags of the command line")]
#[derive(Clone, Debug, clap::Args)]
#[command(override_usage = "tenure get [OPTIONS] <KEY> [RANGE_END]")]
pub(crate) struct GetArguments {
    /// The key, or the first key of a range and the first after it
    #[arg(value_name = "KEY RANGE_END")]
    range: Vec<OsString>,
    /// Get all keys that begin with the key
    #[arg(long)]
    pub(crate) prefix: bool,
    /// Get all keys that are equal to the key or greater
    #[arg(long)]
    from_key: bool,
    /// Read what the cluster agreed on (l), or what the endpoint has, which may be old (s)
    #[arg(long, value_name = "l|s", default_value = "l")]
    pub(crate) consistency: Consistency,
    /// Read at this revision; 0 for the newest
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    rev: i64,
    /// Get at most so many keys; 0 for all
    #[arg(long, value_name = "KEYS", default_value_t = 0)]
    limit: i64,
    /// Order of the results
    #[arg(long, value_name = "ORDER", ignore_case = true)]
    order: Option<Order>,
    /// What to order by
    #[arg(long, value_name = "TARGET", ignore_case = true)]
    sort_by: Option<SortBy>,
    /// Get keys without values
    #[arg(long)]
    keys_only: bool,
    /// Get the number of keys only (with -w fields)
    #[arg(long)]
    pub(super) count_only: bool,
    /// Print values only (with -w simple)
    #[arg(long)]
    pub(super) print_value_only: bool,
    /// Leave out keys created before this revision
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    min_create_rev: i64,
    /// Leave out keys created after this revision
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    max_create_rev: i64,
    /// Leave out keys last put before this revision
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    min_mod_rev: i64,
    /// Leave out keys last put after this revision
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    max_mod_rev: i64,
    /// Have the answer sent in pieces (by servers that speak etcd 3.7)
    #[arg(long)]
    pub(super) stream: bool,
}

/// Arguments of `del`.
#[allow(clippy::struct_excessive_bools, reason = "they are flags of the command line")]
#[derive(Clone, Debug, clap::Args)]
#[command(override_usage = "tenure del [OPTIONS] <KEY> [RANGE_END]")]
pub(crate) struct DelArguments {
    /// The key, or the first key of a range and the first after it
    #[arg(value_name = "KEY RANGE_END")]
    pub(super) keys: Vec<OsString>,
    /// Delete all keys that begin with the key
    #[arg(long)]
    prefix: bool,
    /// Delete all keys that are equal to the key or greater
    #[arg(long)]
    from_key: bool,
    /// Print the pairs that were deleted
    #[arg(long)]
    prev_kv: bool,
    /// Delete a range without waiting two seconds for a second thought
    #[arg(long)]
    pub(super) range: bool,
}

/// `--consistency`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consistency {
    Linearizable,
    Serializable,
}

impl ValueEnum for Consistency {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Linearizable, Self::Serializable]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Linearizable => PossibleValue::new("l"),
            Self::Serializable => PossibleValue::new("s"),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
enum Order {
    Ascend,
    Descend,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
enum SortBy {
    Create,
    Key,
    Modify,
    Value,
    Version,
}

impl PutArguments {
    /// The request; the value comes from `read_value` if it is not among the arguments.
    pub(crate) fn into_request(
        self,
        read_value: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Result<PutRequest, Failure> {
        let needs_value =
            || bad_arguments("put command needs 1 argument and input from stdin or 2 arguments");
        let mut words = self.key_and_value.into_iter().map(OsString::into_vec);
        let key = words.next().ok_or_else(needs_value)?;
        let value = match (self.ignore_value, words.next()) {
            (false, Some(value)) => value,
            (false, None) => read_value().ok_or_else(needs_value)?,
            (true, None) => Vec::new(),
            (true, Some(_)) => {
                return Err(bad_arguments("put command needs only 1 argument when 'ignore-value' is set"));
            }
        };
        let lease = i64::from_str_radix(&self.lease, 16)
            .map_err(|_| bad_arguments(&format!("bad lease ID {:?}, expecting ID in Hex", self.lease)))?;
        Ok(PutRequest {
            key: key.into(),
            value: value.into(),
            lease,
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
        })
    }
}

impl GetArguments {
    /// The request.
    pub(crate) fn into_request(self) -> Result<RangeRequest, Failure> {
        if self.range.is_empty() {
            let message = "get command needs one argument as key and an optional argument as range_end";
            return Err(bad_arguments(message));
        }
        if self.keys_only && self.count_only {
            let message = "`--keys-only` and `--count-only` cannot be set at the same time, choose one";
            return Err(bad_arguments(message));
        }
        check_bounds("create", self.min_create_rev, self.max_create_rev)?;
        check_bounds("mod", self.min_mod_rev, self.max_mod_rev)?;
        let (sort_order, sort_target) = sort(self.order, self.sort_by);
        let (key, range_end) = key_range(self.range, self.prefix, self.from_key)?;
        Ok(RangeRequest {
            key,
            range_end,
            limit: self.limit,
            revision: self.rev.max(0),
            sort_order: sort_order.into(),
            sort_target: sort_target.into(),
            serializable: self.consistency == Consistency::Serializable,
            keys_only: self.keys_only,
            count_only: self.count_only,
            min_mod_revision: self.min_mod_rev.max(0),
            max_mod_revision: self.max_mod_rev.max(0),
            min_create_revision: self.min_create_rev.max(0),
            max_create_revision: self.max_create_rev.max(0),
        })
    }
}

impl DelArguments {
    /// The request.
    pub(crate) fn into_request(self) -> Result<DeleteRangeRequest, Failure> {
        if self.keys.is_empty() || self.keys.len() > 2 {
            let message = "del command needs one argument as key and an optional argument as range_end";
            return Err(bad_arguments(message));
        }
        let (key, range_end) = key_range(self.keys, self.prefix, self.from_key)?;
        Ok(DeleteRangeRequest { key, range_end, prev_kv: self.prev_kv })
    }
}

fn check_bounds(what: &str, min: i64, max: i64) -> Result<(), Failure> {
    if max > 0 && min > max {
        let message = format!("--min-{what}-rev {min} is greater than --max-{what}-rev {max}");
        return Err(Failure::new(exit::BAD_FEATURE, message));
    }
    Ok(())
}

fn sort(order: Option<Order>, sort_by: Option<SortBy>) -> (SortOrder, SortTarget) {
    let target = match sort_by {
        None | Some(SortBy::Key) => SortTarget::Key,
        Some(SortBy::Create) => SortTarget::Create,
        Some(SortBy::Modify) => SortTarget::Mod,
        Some(SortBy::Value) => SortTarget::Value,
        Some(SortBy::Version) => SortTarget::Version,
    };
    let order = match order {
        None => SortOrder::None,
        // The order that keys have anyway: said, it would make a server fetch all before the limit.
        Some(Order::Ascend) if target == SortTarget::Key => SortOrder::None,
        Some(Order::Ascend) => SortOrder::Ascend,
        Some(Order::Descend) => SortOrder::Descend,
    };
    (order, target)
}

/// The range that the words and flags name, in the API's convention.
fn key_range(words: Vec<OsString>, prefix: bool, from_key: bool) -> Result<(Bytes, Bytes), Failure> {
    if prefix && from_key {
        let message = "`--prefix` and `--from-key` cannot be set at the same time, choose one";
        return Err(bad_arguments(message));
    }
    let mut words = words.into_iter().map(|word| Bytes::from(word.into_vec()));
    let key = words.next().unwrap_or_default();
    match words.next() {
        Some(_) if prefix || from_key => {
            let message =
                "too many arguments, only accept one argument when `--prefix` or `--from-key` is set";
            Err(bad_arguments(message))
        }
        Some(end) => Ok((key, end)),
        None if (prefix || from_key) && key.is_empty() => Ok((NO_END.into(), NO_END.into())),
        None if from_key => Ok((key, NO_END.into())),
        None if prefix => {
            let end = prefix_end(&key);
            Ok((key, end))
        }
        None => Ok((key, Bytes::new())),
    }
}

/// The first key after all keys that begin with `prefix`.
fn prefix_end(prefix: &[u8]) -> Bytes {
    match prefix.iter().rposition(|&byte| byte < u8::MAX) {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end.into()
        }
        None => NO_END.into(),
    }
}

fn bad_arguments(message: &str) -> Failure {
    Failure::new(exit::BAD_ARGUMENTS, message)
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;

    fn arguments<A: Args + FromArgMatches>(words: &[&str]) -> A {
        let command = A::augment_args(Command::new("test").no_binary_name(true));
        A::from_arg_matches(&command.get_matches_from(words)).expect("arguments")
    }

    fn get_request(words: &[&str]) -> Result<RangeRequest, Failure> {
        arguments::<GetArguments>(words).into_request()
    }

    fn put_request(words: &[&str], stdin: &str) -> Result<PutRequest, Failure> {
        let stdin = (!stdin.is_empty()).then(|| stdin.into());
        arguments::<PutArguments>(words).into_request(|| stdin)
    }

    fn key_and_end(words: &[&str]) -> (Bytes, Bytes) {
        let request = get_request(words).expect("a range");
        (request.key, request.range_end)
    }

    #[test]
    fn ranges_follow_the_convention_of_the_api() {
        for (words, key, end) in [
            (&["k"][..], "k", ""),
            (&["a", "c"], "a", "c"),
            (&["--prefix", "foo"], "foo", "fop"),
            (&["--prefix", ""], "\0", "\0"),
            (&["--from-key", "k"], "k", "\0"),
            (&["--from-key", ""], "\0", "\0"),
        ] {
            assert_eq!(key_and_end(words), (key.into(), end.into()), "{words:?}");
        }
        assert_eq!(prefix_end(b"a\xff\xff"), "b");
        assert_eq!(prefix_end(b"\xff\xff"), "\0");
    }

    #[test]
    fn every_option_of_get_reaches_the_request() {
        let words = "k z --limit 3 --rev 4 --order descend --sort-by VERSION --consistency s --keys-only \
                     --min-create-rev 5 --max-create-rev 6 --min-mod-rev 7 --max-mod-rev 8";
        let words: Vec<_> = words.split_whitespace().collect();
        let expected = RangeRequest {
            key: "k".into(),
            range_end: "z".into(),
            limit: 3,
            revision: 4,
            sort_order: SortOrder::Descend.into(),
            sort_target: SortTarget::Version.into(),
            serializable: true,
            keys_only: true,
            count_only: false,
            min_create_revision: 5,
            max_create_revision: 6,
            min_mod_revision: 7,
            max_mod_revision: 8,
        };
        assert_eq!(get_request(&words).expect("a request"), expected);
        let ascending_keys = get_request(&["k", "--order=ASCEND", "--sort-by=key"]).expect("a request");
        assert_eq!(ascending_keys.sort_order(), SortOrder::None);
    }

    #[test]
    fn a_value_comes_from_the_arguments_or_from_stdin() {
        assert_eq!(put_request(&["k", "v"], "other").expect("a request").value, "v");
        assert_eq!(put_request(&["k"], "from stdin\n").expect("a request").value, "from stdin\n");
        assert_eq!(put_request(&["k", "--ignore-value"], "other").expect("a request").value, "");
        let lease = put_request(&["k", "v", "--lease", "7f"], "").expect("a request").lease;
        assert_eq!(lease, 0x7f);
    }

    #[test]
    fn arguments_that_do_not_go_together_are_refused_in_etcdctls_words() {
        for (failure, message) in [
            (get_request(&[]).expect_err("no key"), "get command needs one argument as key"),
            (get_request(&["a", "b", "--prefix"]).expect_err("two"), "too many arguments"),
            (get_request(&["a", "--prefix", "--from-key"]).expect_err("both"), "choose one"),
            (get_request(&["a", "--keys-only", "--count-only"]).expect_err("both"), "choose one"),
            (put_request(&[], "").expect_err("no key"), "put command needs 1 argument"),
            (put_request(&["k"], "").expect_err("no value"), "put command needs 1 argument"),
            (put_request(&["k", "v", "--ignore-value"], "").expect_err("a value"), "only 1 argument"),
            (put_request(&["k", "v", "--lease", "zz"], "").expect_err("no id"), "bad lease ID"),
        ] {
            assert_eq!(failure.exit_code, exit::BAD_ARGUMENTS, "{failure}");
            assert!(failure.to_string().contains(message), "{failure}");
        }
        let crossed = get_request(&["a", "--min-mod-rev=5", "--max-mod-rev=4"]).expect_err("crossed");
        assert_eq!(crossed.exit_code, exit::BAD_FEATURE);
        let three = arguments::<DelArguments>(&["a", "b", "c"]).into_request().expect_err("three");
        assert_eq!(three.exit_code, exit::BAD_ARGUMENTS);
    }
}

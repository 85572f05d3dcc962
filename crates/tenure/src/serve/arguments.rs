//! From what etcd's parser accepts (Go's `flag`) and the environment to what clap accepts.
//!
//! `-name x`, `--name x`, `--name=x` are the same; a switch never takes the next word; the last of repeated
//! flags counts. A variable `ETCD_…` or `TENURE_…` stands in for a flag that is not there; both together are
//! an error, since one of them must be a mistake.
//!
//! Flags of etcd that mean nothing here are accepted with a warning, so that manifests go on working. Those
//! that promise something that is not kept yet (encryption, quotas, authentication) are refused: a member
//! that starts without them would be worse than one that does not start.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{ArgAction, Command};

/// What became of the words.
pub(crate) struct Rewritten {
    pub(crate) words: Vec<OsString>,
    pub(crate) warnings: Vec<String>,
}

/// Flags of etcd that change nothing here.
const WITHOUT_EFFECT: [&str; 30] = [
    "backend-batch-interval",
    "backend-batch-limit",
    "backend-bbolt-freelist-type",
    "bootstrap-defrag-threshold-megabytes",
    "compact-hash-check-time",
    "compaction-batch-limit",
    "compaction-sleep-interval",
    "corrupt-check-time",
    "downgrade-check-time",
    "experimental-compact-hash-check-time",
    "experimental-compaction-batch-limit",
    "experimental-corrupt-check-time",
    "experimental-snapshot-catchup-entries",
    "experimental-warning-apply-duration",
    "experimental-warning-unary-request-duration",
    "experimental-watch-progress-notify-interval",
    // A client that asks too often whether we are there costs less than a connection that is closed for it.
    "grpc-keepalive-min-time",
    "logger",
    "max-snapshots",
    "max-wals",
    "metrics",
    "raft-read-timeout",
    "raft-write-timeout",
    "v2-deprecation",
    "warning-apply-duration",
    "warning-unary-request-duration",
    "watch-progress-notify-interval",
    "bcrypt-cost",
    "auth-token-ttl",
    "self-signed-cert-validity",
];

/// The same, for those that take no value.
const SWITCHES_WITHOUT_EFFECT: [&str; 9] = [
    "enable-grpc-gateway",
    "enable-pprof",
    "experimental-compact-hash-check-enabled",
    "experimental-initial-corrupt-check",
    "initial-election-tick-advance",
    "pre-vote",
    "strict-reconfig-check",
    // Every acknowledged write is synced, with or without it.
    "unsafe-no-fsync",
    "socket-reuse-address",
];

/// Flags of etcd that cannot be honoured yet; a `*` stands for any rest.
const NOT_YET: [&str; 27] = [
    "auth-token",
    "auto-compaction-mode",
    "auto-compaction-retention",
    "auto-tls",
    "cert-file",
    "cipher-suites",
    "client-*",
    "config-file",
    "cors",
    "discovery*",
    "distributed-tracing-*",
    "enable-distributed-tracing",
    "enable-log-rotation",
    "feature-gates",
    "force-new-cluster",
    "host-whitelist",
    "key-file",
    "listen-client-http-urls",
    "listen-metrics-urls",
    "log-*",
    "memory-mlock",
    "peer-*",
    "quota-backend-bytes",
    "socket-reuse-port",
    "tls-*",
    "trusted-ca-file",
    "wal-dir",
];

/// Which prefixes the variables have: ours before etcd's.
const PREFIXES: [&str; 2] = ["TENURE_", "ETCD_"];
/// Allows etcd to run where it is not tested.
const IGNORED_VARIABLE: &str = "ETCD_UNSUPPORTED_ARCH";

/// How a flag stands with us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Supported { is_switch: bool },
    WithoutEffect { is_switch: bool },
    NotYet,
    Unknown,
}

/// Rewrites the words after `serve`; `is_elsewhere` tells the variables that belong to other commands.
pub(crate) fn rewrite(
    serve: &mut Command,
    words: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    is_elsewhere: impl Fn(&str) -> bool,
) -> Result<Rewritten, clap::Error> {
    let mut parser = Parser { serve, seen: BTreeSet::new(), words: Vec::new(), warnings: Vec::new() };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        parser.word(word, &mut words)?;
    }
    parser.environment(environment, is_elsewhere)?;
    Ok(Rewritten { words: parser.words, warnings: parser.warnings })
}

struct Parser<'a> {
    serve: &'a mut Command,
    /// The flags on the command line.
    seen: BTreeSet<String>,
    words: Vec<OsString>,
    warnings: Vec<String>,
}

impl Parser<'_> {
    fn word(&mut self, word: OsString, rest: &mut impl Iterator<Item = OsString>) -> Result<(), clap::Error> {
        let text = self.utf8(word)?;
        let flag = text.strip_prefix("--").or_else(|| text.strip_prefix('-')).unwrap_or_default();
        if flag.is_empty() {
            return Err(self.error(ErrorKind::UnknownArgument, &format!("{text:?} is not a valid flag")));
        }
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (flag.to_owned(), None),
        };
        if value.is_none() && ["h", "help", "V", "version"].contains(&&*name) {
            self.words.push(if name.len() == 1 { format!("-{name}") } else { format!("--{name}") }.into());
            return Ok(());
        }
        let takes_next = match self.standing(&name) {
            Standing::Supported { is_switch } | Standing::WithoutEffect { is_switch } => !is_switch,
            Standing::NotYet | Standing::Unknown => false,
        };
        let value = match value {
            None if takes_next => {
                let missing = format!("flag needs an argument: --{name}");
                let next = rest.next().ok_or_else(|| self.error(ErrorKind::InvalidValue, &missing))?;
                Some(self.utf8(next)?)
            }
            value => value,
        };
        self.seen.insert(name.clone());
        self.flag(&name, value.as_deref())
    }

    fn flag(&mut self, name: &str, value: Option<&str>) -> Result<(), clap::Error> {
        match self.standing(name) {
            Standing::Supported { .. } => {
                let word = value.map_or(format!("--{name}"), |value| format!("--{name}={value}"));
                self.words.push(word.into());
                Ok(())
            }
            Standing::WithoutEffect { .. } => {
                self.warnings.push(format!("--{name} is a setting of etcd that has no effect here"));
                Ok(())
            }
            Standing::NotYet => {
                let message = format!(
                    "--{name} is a setting of etcd that Tenure does not support yet: start without it, if you \
                     can do without what it does"
                );
                Err(self.error(ErrorKind::UnknownArgument, &message))
            }
            Standing::Unknown => {
                let message = format!("flag provided but not defined: -{name}");
                Err(self.error(ErrorKind::UnknownArgument, &message))
            }
        }
    }

    fn environment(
        &mut self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        is_elsewhere: impl Fn(&str) -> bool,
    ) -> Result<(), clap::Error> {
        // As in Go, a variable that is set to nothing is not set.
        let variables: Vec<(String, String)> = environment
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let mut taken = BTreeSet::new();
        for prefix in PREFIXES {
            for (variable, value) in &variables {
                let Some(flag) = variable.strip_prefix(prefix).map(flag_of) else { continue };
                if variable == IGNORED_VARIABLE || is_elsewhere(variable) {
                    continue;
                }
                if self.standing(&flag) == Standing::Unknown {
                    self.warnings.push(format!("unrecognized environment variable {variable}"));
                } else if self.seen.contains(&flag) {
                    let message = format!(
                        "conflicting environment variable is shadowed by corresponding command-line flag \
                         (either unset environment variable or disable flag)): {variable}"
                    );
                    return Err(self.error(ErrorKind::ArgumentConflict, &message));
                } else if taken.insert(flag.clone()) {
                    self.flag(&flag, Some(value))?;
                }
            }
        }
        Ok(())
    }

    fn standing(&self, name: &str) -> Standing {
        let named = self.serve.get_arguments().find(|argument| argument.get_long() == Some(name));
        if let Some(argument) = named {
            match argument.get_action() {
                ArgAction::SetTrue => return Standing::Supported { is_switch: true },
                action if action.takes_values() => return Standing::Supported { is_switch: false },
                // --help and --version are no settings: images have an ETCD_VERSION that says what is in them.
                _ => {}
            }
        }
        let matches = |pattern: &&str| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == *pattern,
        };
        if WITHOUT_EFFECT.contains(&name) {
            Standing::WithoutEffect { is_switch: false }
        } else if SWITCHES_WITHOUT_EFFECT.contains(&name) {
            Standing::WithoutEffect { is_switch: true }
        } else if NOT_YET.iter().any(matches) {
            Standing::NotYet
        } else {
            Standing::Unknown
        }
    }

    fn utf8(&mut self, word: OsString) -> Result<String, clap::Error> {
        word.into_string()
            .map_err(|word| self.error(ErrorKind::InvalidUtf8, &format!("{} is not UTF-8", word.display())))
    }

    fn error(&mut self, kind: ErrorKind, message: &str) -> clap::Error {
        self.serve.error(kind, message)
    }
}

/// `INITIAL_CLUSTER` → `initial-cluster`.
fn flag_of(variable: &str) -> String {
    variable.to_ascii_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    fn rewritten(words: &str, environment: &[(&str, &str)]) -> Result<Rewritten, String> {
        let mut serve = Command::new("serve").args([
            Arg::new("name").long("name"),
            Arg::new("data-dir").long("data-dir"),
            Arg::new("switch").long("switch").action(ArgAction::SetTrue),
        ]);
        serve = serve.version("1");
        serve.build();
        let words = words.split_whitespace().map(OsString::from);
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
        let is_elsewhere = |variable: &str| variable == "TENURE_ENDPOINTS";
        rewrite(&mut serve, words, environment, is_elsewhere).map_err(|error| error.to_string())
    }

    fn words(words: &str, environment: &[(&str, &str)]) -> Vec<OsString> {
        rewritten(words, environment).unwrap_or_else(|error| panic!("{words}: {error}")).words
    }

    #[test]
    fn flags_have_one_dash_or_two_and_their_value_beside_or_attached() {
        for same in ["-name a", "--name a", "-name=a", "--name=a"] {
            assert_eq!(words(same, &[]), ["--name=a"], "{same}");
        }
        assert_eq!(
            words("--name --switch", &[]),
            ["--name=--switch"],
            "Go takes the next word, whatever it is"
        );
        assert_eq!(words("-switch --name=x=y", &[]), ["--switch", "--name=x=y"]);
        assert_eq!(words("-h", &[]), ["-h"]);
        assert_eq!(words("-help", &[]), ["--help"]);
    }

    #[test]
    fn a_variable_stands_in_for_a_flag() {
        assert_eq!(words("", &[("ETCD_DATA_DIR", "d")]), ["--data-dir=d"]);
        assert_eq!(words("--name a", &[("TENURE_DATA_DIR", "d")]), ["--name=a", "--data-dir=d"]);
        let both = [("ETCD_NAME", "theirs"), ("TENURE_NAME", "ours")];
        assert_eq!(words("", &both), ["--name=ours"]);
        assert_eq!(words("--name a", &[("ETCD_NAME", "")]), ["--name=a"], "set to nothing is not set");
    }

    #[test]
    fn a_variable_and_its_flag_together_are_an_error_in_etcds_words() {
        let error = rewritten("--name a", &[("ETCD_NAME", "a")]).err().expect("a conflict");
        let text = "conflicting environment variable is shadowed by corresponding command-line flag (either unset \
                    environment variable or disable flag))";
        assert!(error.contains(text) && error.contains("ETCD_NAME"), "{error}");
    }

    #[test]
    fn a_variable_that_nobody_knows_only_warns() {
        let environment = [
            ("ETCD_FROBNICATE", "1"),
            ("ETCD_UNSUPPORTED_ARCH", "arm"),
            ("ETCD_VERSION", "v3.5.0"),
            ("ETCDCTL_API", "3"),
            ("TENURE_ENDPOINTS", "a"),
            ("PATH", "/bin"),
        ];
        let rewritten = rewritten("", &environment).unwrap_or_else(|error| panic!("{error}"));
        assert!(rewritten.words.is_empty());
        let warnings = ["ETCD_FROBNICATE", "ETCD_VERSION"];
        let warnings = warnings.map(|name| format!("unrecognized environment variable {name}"));
        assert_eq!(rewritten.warnings, warnings);
    }

    #[test]
    fn settings_of_etcd_that_mean_nothing_here_are_accepted() {
        let words = "--logger zap --experimental-initial-corrupt-check=true --pre-vote -max-wals=5 --name a";
        let rewritten = rewritten(words, &[("ETCD_MAX_SNAPSHOTS", "5")]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(rewritten.words, ["--name=a"]);
        assert_eq!(rewritten.warnings.len(), 5, "{:?}", rewritten.warnings);
    }

    #[test]
    fn settings_of_etcd_that_are_not_kept_yet_are_refused() {
        for words in ["--cert-file x", "--peer-auto-tls", "--quota-backend-bytes=1", "--discovery-srv a"] {
            let error = rewritten(words, &[]).err().expect(words);
            assert!(error.contains("does not support yet"), "{words}: {error}");
        }
        assert!(rewritten("", &[("ETCD_CLIENT_CERT_AUTH", "true")]).is_err());
    }

    #[test]
    fn what_is_no_flag_is_refused() {
        for (words, text) in [
            ("--frob", "flag provided but not defined: -frob"),
            ("serve", "\"serve\" is not a valid flag"),
            ("--name a b", "\"b\" is not a valid flag"),
            ("--", "\"--\" is not a valid flag"),
            ("--name", "flag needs an argument: --name"),
        ] {
            let error = rewritten(words, &[]).err().expect(words);
            assert!(error.contains(text), "{words}: {error}");
        }
    }
}

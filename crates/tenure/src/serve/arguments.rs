//! From what etcd's parser accepts (Go's `flag`) and the environment to what clap accepts.
//!
//! `-name x`, `--name x`, `--name=x` are the same; a switch never takes the next word; the last of repeated
//! flags counts. A variable `ETCD_…` or `TENURE_…` stands in for a flag that is not there; both together are
//! an error, since one of them must be a mistake. A variable that is no flag's is only warned of: whatever Kubernetes
//! says of a service called `etcd-client` begins with `ETCD_CLIENT_`.
//!
//! What becomes of flags of etcd that Tenure does not have is in [`etcd_flags`].

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{ArgAction, Command};

use super::etcd_flags::{self, Effect, EtcdFlag};
use super::go;

/// What became of the words.
#[derive(Debug)]
pub(crate) struct Rewritten {
    pub(crate) words: Vec<OsString>,
    pub(crate) warnings: Vec<String>,
    /// Nothing but the version is asked for.
    pub(crate) wants_version: bool,
}

/// Which prefixes the variables have: ours before etcd's.
const PREFIXES: [&str; 2] = ["TENURE_", "ETCD_"];
/// Allows etcd to run where it is not tested.
const IGNORED_VARIABLE: &str = "ETCD_UNSUPPORTED_ARCH";

/// How a flag stands with us.
#[derive(Clone, Copy)]
enum Standing {
    /// `serve` has it, and so may etcd.
    Ours { is_switch: bool, etcds: Option<&'static EtcdFlag> },
    /// Only etcd has it.
    Etcds(&'static EtcdFlag),
    /// Nobody has it.
    Unknown,
}

impl Standing {
    fn is_switch(self) -> bool {
        match self {
            Standing::Ours { is_switch, .. } => is_switch,
            Standing::Etcds(flag) => flag.is_switch(),
            Standing::Unknown => false,
        }
    }
}

/// Rewrites the words after `serve`; `is_elsewhere` tells the variables that belong to other commands.
pub(crate) fn rewrite(
    serve: &mut Command,
    words: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    is_elsewhere: impl Fn(&str) -> bool,
) -> Result<Rewritten, clap::Error> {
    let mut parser = Parser { serve, values: BTreeMap::new(), warnings: Vec::new() };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match parser.word(word, &mut words)? {
            Next::Flag => {}
            Next::Help(word) => {
                return Ok(Rewritten { words: vec![word], warnings: Vec::new(), wants_version: false });
            }
        }
    }
    let wants_version = parser.values.get("version").is_some_and(|value| value == "true");
    if !wants_version {
        parser.environment(environment, is_elsewhere)?;
    }
    parser.finish(wants_version)
}

/// What a word was.
enum Next {
    Flag,
    /// A call for help, in clap's words.
    Help(OsString),
}

struct Parser<'a> {
    serve: &'a mut Command,
    /// What was given, the last one of each flag, in the form that we know it in.
    values: BTreeMap<String, String>,
    warnings: Vec<String>,
}

impl Parser<'_> {
    fn word(
        &mut self,
        word: OsString,
        rest: &mut impl Iterator<Item = OsString>,
    ) -> Result<Next, clap::Error> {
        let text = self.utf8(word)?;
        if text == "--" {
            // The end of the flags, and of all that may be there.
            return rest.next().map_or(Ok(Next::Flag), |word| Err(self.no_flag(&word.to_string_lossy())));
        }
        let Some(flag) = text.strip_prefix('-').filter(|flag| !flag.is_empty()) else {
            return Err(self.no_flag(&text));
        };
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        if flag.starts_with(['-', '=']) {
            return Err(self.error(ErrorKind::UnknownArgument, &format!("bad flag syntax: {text}")));
        }
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        if ["h", "help"].contains(&name) {
            return Ok(Next::Help(if name == "h" { "-h" } else { "--help" }.into()));
        }
        let standing = self.standing(name);
        let value = match value {
            Some(value) => value,
            None if standing.is_switch() => "true".to_owned(),
            None if matches!(standing, Standing::Unknown) => String::new(),
            None => {
                let missing = format!("flag needs an argument: --{name}");
                let next = rest.next().ok_or_else(|| self.error(ErrorKind::InvalidValue, &missing))?;
                self.utf8(next)?
            }
        };
        self.flag(name, &value, &format!("--{name}"))?;
        Ok(Next::Flag)
    }

    /// Takes a flag's value; `source` is where it stands.
    fn flag(&mut self, name: &str, value: &str, source: &str) -> Result<(), clap::Error> {
        let read = match self.standing(name) {
            Standing::Ours { etcds: Some(flag), .. } | Standing::Etcds(flag) => flag.read(value),
            Standing::Ours { is_switch: true, .. } => go::boolean(value)
                .map(|value| value.to_string())
                .ok_or_else(|| "expected a boolean".to_owned()),
            Standing::Ours { .. } => Ok(value.to_owned()),
            Standing::Unknown => {
                let message = format!("flag provided but not defined: -{name}");
                return Err(self.error(ErrorKind::UnknownArgument, &message));
            }
        };
        let read = read.map_err(|why| {
            self.error(ErrorKind::InvalidValue, &format!("invalid value {value:?} for {source}: {why}"))
        })?;
        self.values.insert(name.to_owned(), read);
        Ok(())
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
        let seen: BTreeSet<String> = self.values.keys().cloned().collect();
        let mut taken = BTreeSet::new();
        for prefix in PREFIXES {
            for (variable, value) in &variables {
                let Some(flag) = variable.strip_prefix(prefix).map(flag_of) else { continue };
                if variable == IGNORED_VARIABLE || is_elsewhere(variable) {
                    continue;
                }
                // Images have an ETCD_VERSION that says what is in them.
                if flag == "version" || matches!(self.standing(&flag), Standing::Unknown) {
                    self.warnings.push(format!("unrecognized environment variable {variable}"));
                } else if seen.contains(&flag) {
                    let message = format!(
                        "conflicting environment variable is shadowed by corresponding command-line flag \
                         (either unset environment variable or disable flag)): {variable}"
                    );
                    return Err(self.error(ErrorKind::ArgumentConflict, &message));
                } else if taken.insert(flag.clone()) {
                    self.flag(&flag, value, variable)?;
                }
            }
        }
        Ok(())
    }

    /// All flags are known, each with the value that counts.
    fn finish(mut self, wants_version: bool) -> Result<Rewritten, clap::Error> {
        let values = std::mem::take(&mut self.values);
        if let Some(why) = etcd_flags::contradiction(|name| values.get(name).map(String::as_str)) {
            return Err(self.error(ErrorKind::ValueValidation, &why));
        }
        let mut words = Vec::new();
        for (name, value) in values.iter().filter(|(name, _)| *name != "version") {
            match self.standing(name) {
                Standing::Ours { is_switch: true, .. } => {
                    words.extend((value == "true").then(|| format!("--{name}").into()));
                }
                Standing::Ours { .. } => words.push(format!("--{name}={value}").into()),
                Standing::Etcds(flag) => self.without_effect(flag, value)?,
                Standing::Unknown => {}
            }
        }
        Ok(Rewritten { words, warnings: self.warnings, wants_version })
    }

    fn without_effect(&mut self, flag: &EtcdFlag, value: &str) -> Result<(), clap::Error> {
        let EtcdFlag { name, effect, .. } = flag;
        match effect {
            Effect::Ours | Effect::None => {
                self.warnings.push(format!("--{name} is a setting of etcd that has no effect here"));
                Ok(())
            }
            Effect::NoneIf(asks_for_nothing) if asks_for_nothing(value) => Ok(()),
            Effect::NoneIf(_) => {
                let message = format!(
                    "--{name} is a setting of etcd that Tenure does not support yet: start without it, if you \
                     can do without what {value:?} asks for"
                );
                Err(self.error(ErrorKind::UnknownArgument, &message))
            }
        }
    }

    fn standing(&self, name: &str) -> Standing {
        let etcds = EtcdFlag::named(name);
        let named = self.serve.get_arguments().find(|argument| argument.get_long() == Some(name));
        let is_switch = named.and_then(|argument| match argument.get_action() {
            ArgAction::SetTrue => Some(true),
            action if action.takes_values() => Some(false),
            // --help is no setting.
            _ => None,
        });
        match (is_switch, etcds) {
            (Some(is_switch), etcds) => Standing::Ours { is_switch, etcds },
            (None, Some(flag)) => Standing::Etcds(flag),
            (None, None) => Standing::Unknown,
        }
    }

    fn utf8(&mut self, word: OsString) -> Result<String, clap::Error> {
        word.into_string()
            .map_err(|word| self.error(ErrorKind::InvalidUtf8, &format!("{} is not UTF-8", word.display())))
    }

    fn no_flag(&mut self, word: &str) -> clap::Error {
        self.error(ErrorKind::UnknownArgument, &format!("{word:?} is not a valid flag"))
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
        assert_eq!(words("-switch --name=x=y", &[]), ["--name=x=y", "--switch"]);
        assert_eq!(words("--name a --", &[]), ["--name=a"], "two dashes end the flags");
        assert_eq!(words("-h", &[]), ["-h"]);
        assert_eq!(words("-help", &[]), ["--help"]);
    }

    #[test]
    fn a_variable_stands_in_for_a_flag() {
        assert_eq!(words("", &[("ETCD_DATA_DIR", "d")]), ["--data-dir=d"]);
        assert_eq!(words("--name a", &[("TENURE_DATA_DIR", "d")]), ["--data-dir=d", "--name=a"]);
        let both = [("ETCD_NAME", "theirs"), ("TENURE_NAME", "ours")];
        assert_eq!(words("", &both), ["--name=ours"]);
        assert_eq!(words("--name a", &[("ETCD_NAME", "")]), ["--name=a"], "set to nothing is not set");
    }

    #[test]
    fn a_variable_and_its_flag_together_are_an_error_in_etcds_words() {
        let error = rewritten("--name a", &[("ETCD_NAME", "a")]).expect_err("a conflict");
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
    fn a_switch_takes_gos_booleans_and_the_last_word_counts() {
        assert_eq!(words("--switch=T", &[]), ["--switch"]);
        assert!(words("--switch --switch=0", &[]).is_empty());
        assert_eq!(words("--switch=false -switch", &[]), ["--switch"]);
        assert!(words("--auto-tls --auto-tls=F", &[]).is_empty(), "what is taken back is not asked for");
        assert!(rewritten("--switch=maybe", &[]).is_err());
        for words in ["--version", "-version", "--version=1", "--name a --version"] {
            let environment = [("ETCD_NAME", "b")];
            assert!(rewritten(words, &environment).is_ok_and(|rewritten| rewritten.wants_version), "{words}");
        }
        assert!(rewritten("--version=0", &[]).is_ok_and(|rewritten| !rewritten.wants_version));
    }

    #[test]
    fn what_kubernetes_says_of_its_services_is_only_warned_of() {
        let environment = [
            ("ETCD_CLIENT_SERVICE_HOST", "10.0.0.1"),
            ("ETCD_CLIENT_SERVICE_PORT", "2379"),
            ("ETCD_CLIENT_PORT", "tcp://10.0.0.1:2379"),
            ("ETCD_CLIENT_PORT_2379_TCP", "tcp://10.0.0.1:2379"),
            ("ETCD_CLIENT_PORT_2379_TCP_PROTO", "tcp"),
            ("ETCD_PEER_ADDR", "10.0.0.1"),
            ("ETCD_PEER_SERVICE_HOST", "10.0.0.1"),
            ("ETCD_DISCOVERY_PORT", "tcp://10.0.0.1:2379"),
            ("ETCD_TLS_PORT", "tcp://10.0.0.1:2379"),
            ("ETCD_LOG_DIR", "/var/log"),
            ("ETCD_PORT", "tcp://10.0.0.1:2379"),
            ("TENURE_PORT", "tcp://10.0.0.1:2379"),
            ("TENURE_SERVICE_HOST", "10.0.0.1"),
        ];
        let rewritten = rewritten("", &environment).unwrap_or_else(|error| panic!("{error}"));
        assert!(rewritten.words.is_empty());
        assert_eq!(rewritten.warnings.len(), environment.len(), "{:?}", rewritten.warnings);
    }

    #[test]
    fn settings_of_etcd_that_mean_nothing_here_are_accepted() {
        let words = "--backend-batch-limit 9 --experimental-initial-corrupt-check=true --pre-vote -max-wals=5 --name a";
        let rewritten = rewritten(words, &[("ETCD_MAX_SNAPSHOTS", "5")]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(rewritten.words, ["--name=a"]);
        assert_eq!(rewritten.warnings.len(), 5, "{:?}", rewritten.warnings);
    }

    #[test]
    fn settings_of_etcd_that_are_not_kept_yet_are_refused() {
        for words in [
            "--cert-file x",
            "--peer-auto-tls",
            "--quota-backend-bytes=1",
            "--discovery-srv a",
            "--auto-tls=false --auto-tls",
        ] {
            let error = rewritten(words, &[]).expect_err(words);
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
            ("-", "\"-\" is not a valid flag"),
            ("-- x", "\"x\" is not a valid flag"),
            ("---name=x", "bad flag syntax: ---name=x"),
            ("--=x", "bad flag syntax: --=x"),
            ("--auto-tls false", "\"false\" is not a valid flag"),
            ("--auto-tls=no", "invalid value \"no\" for --auto-tls"),
            ("--max-wals -1", "invalid value \"-1\" for --max-wals"),
            ("--name", "flag needs an argument: --name"),
        ] {
            let error = rewritten(words, &[]).expect_err(words);
            assert!(error.contains(text), "{words}: {error}");
        }
    }
}

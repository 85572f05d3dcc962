//! The options of all client commands, from the command line or else the environment.

use std::env;
use std::time::Duration;

use clap::Command;
use clap::builder::BoolishValueParser;

use super::duration;
use super::output::Format;

/// The environment variables that stand in for an option: ours before etcdctl's.
const ENVIRONMENT: [(&str, [&str; 2]); 9] = [
    ("endpoints", ["TENURE_ENDPOINTS", "ETCDCTL_ENDPOINTS"]),
    ("write_out", ["TENURE_WRITE_OUT", "ETCDCTL_WRITE_OUT"]),
    ("hex", ["TENURE_HEX", "ETCDCTL_HEX"]),
    ("dial_timeout", ["TENURE_DIAL_TIMEOUT", "ETCDCTL_DIAL_TIMEOUT"]),
    ("command_timeout", ["TENURE_COMMAND_TIMEOUT", "ETCDCTL_COMMAND_TIMEOUT"]),
    ("keepalive_time", ["TENURE_KEEPALIVE_TIME", "ETCDCTL_KEEPALIVE_TIME"]),
    ("keepalive_timeout", ["TENURE_KEEPALIVE_TIMEOUT", "ETCDCTL_KEEPALIVE_TIMEOUT"]),
    ("max_request_bytes", ["TENURE_MAX_REQUEST_BYTES", "ETCDCTL_MAX_REQUEST_BYTES"]),
    ("max_recv_bytes", ["TENURE_MAX_RECV_BYTES", "ETCDCTL_MAX_RECV_BYTES"]),
];

/// `--endpoints` and its company.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Options of all client commands (or TENURE_… or ETCDCTL_… in the environment)")]
pub(crate) struct Options {
    /// Addresses to talk to, separated by commas; the first that answers is taken
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',', default_value = "127.0.0.1:2379")]
    pub(crate) endpoints: Vec<String>,
    /// Format of the output (table: for status, members, hash)
    #[arg(long, short, value_name = "FORMAT", default_value = "simple")]
    pub(crate) write_out: Format,
    /// Print keys and values (and ids, in some formats) in hexadecimal
    #[arg(long, value_parser = BoolishValueParser::new())]
    pub(crate) hex: bool,
    /// How long connecting to an endpoint may take
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
    pub(crate) dial_timeout: Duration,
    /// How long a request may take, once connected
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration::parse)]
    pub(crate) command_timeout: Duration,
    /// Ask a silent connection for a sign of life after this time
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
    pub(crate) keepalive_time: Duration,
    /// Give a connection up when no sign of life comes within this time
    #[arg(long, value_name = "DURATION", default_value = "6s", value_parser = duration::parse)]
    pub(crate) keepalive_timeout: Duration,
    /// Largest request to send, in bytes; 0 for 2 MiB
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) max_request_bytes: usize,
    /// Largest answer to accept, in bytes; 0 for 2 GiB
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) max_recv_bytes: usize,
}

impl Options {
    /// The bound on requests that stands for 0, as in etcdctl.
    const DEFAULT_MAX_REQUEST_BYTES: usize = 2 * 1024 * 1024;
    /// The bound on answers that stands for 0, as in etcdctl.
    const DEFAULT_MAX_RECV_BYTES: usize = i32::MAX as usize;

    /// The largest request to send.
    pub(crate) fn send_limit_bytes(&self) -> usize {
        if self.max_request_bytes == 0 { Self::DEFAULT_MAX_REQUEST_BYTES } else { self.max_request_bytes }
    }

    /// The largest answer to accept.
    pub(crate) fn receive_limit_bytes(&self) -> usize {
        if self.max_recv_bytes == 0 { Self::DEFAULT_MAX_RECV_BYTES } else { self.max_recv_bytes }
    }
}

/// Lets the environment stand in for the options that are not on the command line.
pub(crate) fn with_environment(definition: Command) -> Command {
    with_variables(definition, &|variable| env::var_os(variable).is_some_and(|value| !value.is_empty()))
}

/// Whether an environment variable stands in for an option of the client commands.
pub(crate) fn is_variable(name: &str) -> bool {
    ENVIRONMENT.iter().any(|(_, variables)| variables.contains(&name))
}

fn with_variables(mut definition: Command, is_set: &dyn Fn(&str) -> bool) -> Command {
    let has = |id| definition.get_arguments().any(|argument| argument.get_id() == id);
    // Only client commands have all of them; `bench` has endpoints, too.
    if ENVIRONMENT.iter().all(|(id, _)| has(*id)) {
        for (id, variables) in ENVIRONMENT {
            if let Some(variable) = variables.into_iter().find(|variable| is_set(variable)) {
                definition = definition.mut_arg(id, |argument| argument.env(variable).hide_env(true));
            }
        }
    }
    definition.mut_subcommands(|command| with_variables(command, is_set))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use clap::{Args, FromArgMatches};

    use super::*;

    /// The options when nothing is said.
    pub(crate) fn defaults() -> Options {
        let matches = Options::augment_args(Command::new("get")).get_matches_from(["get"]);
        Options::from_arg_matches(&matches).expect("defaults")
    }

    fn definition() -> Command {
        Command::new("client").subcommand(Options::augment_args(Command::new("get")))
    }

    #[test]
    fn every_option_has_its_variables() {
        let options = Options::augment_args(Command::new("options"));
        let ids: BTreeSet<_> = options.get_arguments().map(|option| option.get_id().to_string()).collect();
        let known: BTreeSet<_> = ENVIRONMENT.iter().map(|(id, _)| (*id).to_owned()).collect();
        assert_eq!(ids, known);
        for (id, variables) in ENVIRONMENT {
            let name = id.to_uppercase();
            assert_eq!(variables, [format!("TENURE_{name}"), format!("ETCDCTL_{name}")]);
        }
    }

    #[test]
    fn commands_that_are_no_client_do_without_the_environment() {
        let bench = Command::new("bench").arg(clap::Arg::new("endpoints").long("endpoints"));
        let bench = with_variables(bench, &|_| true);
        let mut options = bench.get_arguments();
        assert!(options.all(|option| option.get_env().is_none()));
    }

    #[test]
    fn our_variable_comes_before_etcdctls() {
        let variable_of_endpoints = |set: &[&str]| {
            let definition = with_variables(definition(), &|variable| set.contains(&variable));
            let get = definition.find_subcommand("get").expect("the subcommand");
            let option = get.get_arguments().find(|argument| argument.get_id() == "endpoints");
            let variable = option.expect("the option").get_env();
            variable.map(|variable| variable.to_string_lossy().into_owned())
        };
        assert_eq!(variable_of_endpoints(&[]), None);
        assert_eq!(variable_of_endpoints(&["ETCDCTL_ENDPOINTS"]).as_deref(), Some("ETCDCTL_ENDPOINTS"));
        let both = ["ETCDCTL_ENDPOINTS", "TENURE_ENDPOINTS"];
        assert_eq!(variable_of_endpoints(&both).as_deref(), Some("TENURE_ENDPOINTS"));
    }
}

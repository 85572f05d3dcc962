//! The words of the command line.
//!
//! `serve` takes etcd's flags in all their forms, which [`arguments`](crate::serve::arguments) rewrites first.
//! The client commands take etcdctl's arguments, so that scripts written for it go on working. What etcdctl's
//! parser accepts and clap does not (options before the command, `--flag=true`) is rewritten by
//! [`arguments`](crate::client::arguments) first.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use crate::bench::BenchCommand;
use crate::client::{self, ClientCommand, exit};
use crate::dev::DevArguments;
use crate::serve::arguments::Rewritten;
use crate::serve::{self, BAD_COMMAND_LINE, ServeArguments};
use crate::sim::SimArguments;
use crate::stdout;

/// A replicated, strictly serializable key-value store that speaks the etcd v3 API.
#[derive(Debug, Parser)]
#[command(name = "tenure", version = tenure_server::VERSION, args_override_self = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What there is to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one member of a cluster, with etcd's flags
    #[command(after_help = SERVE_ENVIRONMENT)]
    Serve(Box<ServeArguments>),
    /// Run a cluster of three on this machine, to try things out
    Dev(DevArguments),
    #[command(flatten)]
    Client(ClientCommand),
    /// Measure servers of the etcd v3 API
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Play seeds in the simulated world: the server's code under crashes, partitions and lost power
    Sim(SimArguments),
    /// Print the completions of a shell: `source <(tenure completions bash)`
    Completions {
        /// The shell
        shell: Shell,
    },
}

const SERVE_ENVIRONMENT: &str = "Every flag can be given as a variable instead: TENURE_DATA_DIR or ETCD_DATA_DIR \
                                 for --data-dir. A flag that is repeated counts as given last.";

/// The command that the arguments name; or, after its help, the version or an error was printed, with what to exit.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, ExitCode> {
    let words: Vec<OsString> = arguments.into_iter().collect();
    match try_parse(words.clone()) {
        Ok(Parsed::Command(command)) => Ok(*command),
        Ok(Parsed::Version) => match stdout::write(version_lines()) {
            Ok(()) => Err(ExitCode::SUCCESS),
            Err(_) => Err(ExitCode::FAILURE),
        },
        Err(error) => {
            // Nothing is left to do when even the error cannot be printed.
            let _ = error.print();
            if let Some(usage) = missing_usage(&error, &words) {
                eprintln!("\n{usage}");
            }
            Err(ExitCode::from(exit_code(&error, &words)))
        }
    }
}

/// What the arguments ask for.
#[derive(Debug)]
enum Parsed {
    Command(Box<Command>),
    Version,
}

fn try_parse(mut words: Vec<OsString>) -> Result<Parsed, clap::Error> {
    if words.get(1).is_some_and(|word| ["--version", "-version", "-V"].iter().any(|version| word == version))
    {
        return Ok(Parsed::Version);
    }
    let mut definition = client::options::with_environment(Cli::command());
    definition.build();
    let mut warnings = Vec::new();
    if words.get(1).is_some_and(|word| word == "serve") {
        let rewritten = rewrite_serve(&mut definition, words.split_off(2))?;
        if rewritten.wants_version {
            return Ok(Parsed::Version);
        }
        words.extend(rewritten.words);
        warnings = rewritten.warnings;
    }
    let arguments = client::arguments::rewrite(&definition, words);
    let mut matches = definition.clone().try_get_matches_from(arguments)?;
    let cli = Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut definition))?;
    let mut command = cli.command;
    if let Command::Serve(serve) = &mut command {
        serve.warnings = warnings;
    }
    Ok(Parsed::Command(Box::new(command)))
}

/// etcd's lines, which programs read, and ours.
fn version_lines() -> String {
    let (os, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    // As Go calls them.
    let architecture = match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!(
        "etcd Version: {}\nGit SHA: none\nGo Version: none\nGo OS/Arch: {os}/{architecture}\nTenure Version: {}\n",
        tenure_server::API_VERSION,
        tenure_server::VERSION
    )
}

/// `serve` has a parser's habits of its own, and what it takes from the environment.
fn rewrite_serve(definition: &mut clap::Command, flags: Vec<OsString>) -> Result<Rewritten, clap::Error> {
    let serve = definition.find_subcommand_mut("serve").expect("it is defined above");
    let is_elsewhere = client::options::is_variable;
    serve::arguments::rewrite(serve, flags, std::env::vars_os(), is_elsewhere)
}

/// The exit code of what clap found wrong: of a client command etcdctl's, of any other the usual one, which etcd has, too.
fn exit_code(error: &clap::Error, words: &[OsString]) -> u8 {
    const OTHERS: [&str; 5] = ["serve", "dev", "bench", "sim", "completions"];
    let is_other = words.get(1).is_some_and(|word| OTHERS.iter().any(|other| word == other));
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => exit::SUCCESS,
        _ if is_other => BAD_COMMAND_LINE,
        ErrorKind::InvalidValue => exit::BAD_FEATURE,
        ErrorKind::MissingRequiredArgument => exit::BAD_ARGUMENTS,
        _ => exit::ERROR,
    }
}

/// How the command is used, if the error does not say it.
fn missing_usage(error: &clap::Error, words: &[OsString]) -> Option<String> {
    if !error.use_stderr() || error.to_string().contains("Usage:") {
        return None;
    }
    let mut definition = Cli::command();
    definition.build();
    let mut command = &mut definition;
    for word in words.iter().skip(1).filter_map(|word| word.to_str()) {
        if command.find_subcommand(word).is_some() {
            command = command.find_subcommand_mut(word).expect("it was there");
        }
    }
    Some(command.render_usage().to_string())
}

/// Writes the completion script of `shell`.
pub(crate) fn print_completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tenure", &mut script);
    match stdout::write(script) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: cannot write the completions: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<Command, clap::Error> {
        try_parse(words.split(' ').map(OsString::from).collect()).map(|parsed| match parsed {
            Parsed::Command(command) => *command,
            Parsed::Version => panic!("{words}: the version"),
        })
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_stand_before_or_after_the_command() {
        for words in [
            "tenure --endpoints 127.0.0.1:1 put -w json k v",
            "tenure put k v --endpoints=127.0.0.1:1 --write-out json",
            "tenure -w=json --endpoints=127.0.0.1:1 put k v",
            "tenure -wjson put --endpoints 127.0.0.1:7 k v --endpoints 127.0.0.1:1",
        ] {
            let Command::Client(ClientCommand::Put(put)) = parse_words(words).expect(words) else {
                panic!("{words}: another command");
            };
            assert_eq!(put.options.endpoints.last().map(String::as_str), Some("127.0.0.1:1"), "{words}");
            assert_eq!(put.options.write_out, client::output::Format::Json, "{words}");
            assert_eq!(put.arguments.key_and_value, ["k", "v"], "{words}");
        }
    }

    #[test]
    fn a_flag_may_say_true_or_false() {
        for (words, expected) in [
            ("tenure get k --prefix", true),
            ("tenure get k --prefix=true", true),
            ("tenure get --prefix=false k", false),
            ("tenure get --prefix --prefix=true k", true),
            ("tenure get --prefix --prefix=false k", false),
            ("tenure get --prefix=false --prefix k", true),
            ("tenure get k", false),
        ] {
            let Command::Client(ClientCommand::Get(get)) = parse_words(words).expect(words) else {
                panic!("{words}: another command");
            };
            assert_eq!(get.arguments.prefix, expected, "{words}");
        }
    }

    #[test]
    fn an_option_takes_the_next_word_whatever_it_looks_like() {
        for words in ["tenure get k --limit -1 --rev -2", "tenure get --limit=-1 k --rev=-2"] {
            let command = format!("{:?}", parse_words(words).expect(words));
            assert!(command.contains("limit: -1") && command.contains("rev: -2"), "{words}: {command}");
        }
        let Err(error) = parse_words("tenure get k --limit --prefix") else {
            panic!("--prefix is no number")
        };
        assert!(error.to_string().contains("'--prefix' for '--limit"), "{error}");
    }

    #[test]
    fn keys_and_values_may_be_of_any_letters() {
        let Ok(Command::Client(ClientCommand::Put(put))) = parse_words("tenure put é=w ü=true") else {
            panic!("not a put");
        };
        assert_eq!(put.arguments.key_and_value, ["é=w", "ü=true"]);
    }

    #[test]
    fn a_value_that_looks_like_a_flag_follows_two_dashes() {
        let Ok(Command::Client(ClientCommand::Put(put))) = parse_words("tenure put k -- --prefix=true")
        else {
            panic!("not a put");
        };
        assert_eq!(put.arguments.key_and_value, ["k", "--prefix=true"]);
    }

    #[test]
    fn wrong_words_exit_as_etcdctl_does() {
        for (words, code) in [
            ("tenure", exit::SUCCESS),
            ("tenure --help", exit::SUCCESS),
            ("tenure --endpoints 127.0.0.1:1", exit::SUCCESS),
            ("tenure -w json member", exit::SUCCESS),
            ("tenure --endpoints 127.0.0.1:1 --frobnicate", exit::ERROR),
            ("tenure get --help", exit::SUCCESS),
            ("tenure frobnicate", exit::ERROR),
            ("tenure get --frobnicate k", exit::ERROR),
            ("tenure get k --limit x", exit::ERROR),
            ("tenure get k --order x", exit::BAD_FEATURE),
            ("tenure get k --consistency x", exit::BAD_FEATURE),
            ("tenure get k -w xml", exit::BAD_FEATURE),
            ("tenure member remove", exit::BAD_ARGUMENTS),
            ("tenure member add n", exit::BAD_ARGUMENTS),
            ("tenure --endpoints a completions bash", exit::ERROR),
            ("tenure serve --help", exit::SUCCESS),
            ("tenure serve --frobnicate", BAD_COMMAND_LINE),
            ("tenure serve --max-wals x", BAD_COMMAND_LINE),
            ("tenure serve --max-txn-ops", BAD_COMMAND_LINE),
            ("tenure serve --listen-peer-urls x", BAD_COMMAND_LINE),
            ("tenure dev --frobnicate", BAD_COMMAND_LINE),
            ("tenure sim --seed x", BAD_COMMAND_LINE),
            ("tenure bench --frobnicate", BAD_COMMAND_LINE),
        ] {
            let error = parse_words(words).expect_err(words);
            let list: Vec<OsString> = words.split(' ').map(OsString::from).collect();
            assert_eq!(exit_code(&error, &list), code, "{words}: {error}");
            let usage = missing_usage(&error, &list).unwrap_or_else(|| error.to_string());
            assert!(usage.contains("Usage: tenure"), "{words}: {usage}");
        }
    }

    #[test]
    fn the_version_is_etcds_and_ours() {
        for words in [
            "tenure --version",
            "tenure -version",
            "tenure -V",
            "tenure serve --version",
            "tenure serve -version",
        ] {
            let words = words.split(' ').map(OsString::from).collect();
            assert!(matches!(try_parse(words), Ok(Parsed::Version)));
        }
        let text = version_lines();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], format!("etcd Version: {}", tenure_server::API_VERSION));
        assert_eq!(lines[4], format!("Tenure Version: {}", tenure_server::VERSION));
    }

    #[test]
    fn etcdctls_names_lead_to_the_same_commands() {
        for (words, same) in [
            ("tenure endpoint status --cluster", "Endpoint(Status"),
            ("tenure endpoint --cluster hashkv --rev 7", "Endpoint(Hash"),
            ("tenure endpoint health -w table --cluster", "Endpoint(Health"),
            ("tenure member list", "Member(List"),
            ("tenure compaction 5", "Compact("),
        ] {
            let command = format!("{:?}", parse_words(words).expect(words));
            assert!(command.contains(same), "{words}: {command}");
        }
    }
}

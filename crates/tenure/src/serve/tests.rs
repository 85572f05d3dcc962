//! The command lines of a table, each of which etcd 3.7.3 was asked about, too (by tests/clients/flags).

use std::ffi::OsString;

use clap::{Args, Command, FromArgMatches};

use super::{ServeArguments, arguments};

const TABLE: &str = include_str!("../../tests/etcd_3_7_3_flags.tsv");

/// The flags that are added where a line does not have them.
const BASE: [&str; 7] = [
    "--name=n",
    "--data-dir=d",
    "--initial-cluster=n=http://127.0.0.1:2",
    "--listen-client-urls=http://127.0.0.1:1",
    "--advertise-client-urls=http://127.0.0.1:1",
    "--listen-peer-urls=http://127.0.0.1:2",
    "--initial-advertise-peer-urls=http://127.0.0.1:2",
];

/// Reads the flags as a member that begins does.
fn read(words: &str) -> Result<(), String> {
    let words = words.replace("{c}", "1").replace("{p}", "2");
    let words = words.split(' ').filter(|word| !word.is_empty()).map(|word| word.replace("\\x20", " "));
    let is_variable =
        |word: &String| word.starts_with(|c: char| c.is_ascii_uppercase()) && word.contains('=');
    let (variables, flags): (Vec<String>, Vec<String>) = words.partition(is_variable);
    let is_there = |base: &&str| {
        let name = base.split('=').next().unwrap_or(base);
        !flags.iter().any(|flag| flag.split('=').next() == Some(name))
    };
    let base = BASE.iter().filter(|base| is_there(base)).map(OsString::from);
    let all: Vec<OsString> = base.chain(flags.iter().map(OsString::from)).collect();
    let environment = variables.iter().filter_map(|variable| variable.split_once('='));
    let environment = environment.map(|(name, value)| (name.into(), value.into()));

    let mut command = ServeArguments::augment_args(Command::new("serve").no_binary_name(true));
    command.build();
    let rewritten = arguments::rewrite(&mut command, all, environment, |_| false);
    let rewritten = rewritten.map_err(|error| error.to_string())?;
    let matches = command.try_get_matches_from(rewritten.words).map_err(|error| error.to_string())?;
    let arguments = ServeArguments::from_arg_matches(&matches).map_err(|error| error.to_string())?;
    let config = arguments.config().map_err(|error| error.to_string())?;
    config.check().and_then(|()| config.check_beginning()).map_err(|error| error.to_string())
}

#[test]
fn command_lines_are_taken_and_refused_as_the_table_says() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.split('\t');
        let [_, verdict, words] = [(); 3].map(|()| columns.next().expect("three columns"));
        count += 1;
        // A start that fails does so after this.
        let is_taken = verdict != "refuses";
        match read(words) {
            Ok(()) if is_taken => {}
            Err(_) if !is_taken => {}
            result => wrong.push(format!("{words}: {result:?}")),
        }
    }
    assert!(count > 200, "the table has only {count} lines");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

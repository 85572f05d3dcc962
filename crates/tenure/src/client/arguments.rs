//! Rewrites what etcdctl's parser (pflag) accepts into what clap accepts: options that stand before the
//! command (`--endpoints x get k`), and flags that say their value (`--prefix=true`).

use std::ffi::{OsStr, OsString};
use std::vec;

use clap::{Arg, ArgAction, Args, Command};

use super::options::Options;

/// The arguments, the program's name first, in an order that clap understands.
pub(crate) fn rewrite(definition: &Command, arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let words: Vec<OsString> = arguments.into_iter().collect();
    let mut words = words.into_iter();
    let mut rewritten: Vec<OsString> = words.next().into_iter().collect();
    let mut early = Vec::new();
    let leaf = walk_to_command(definition, &mut words, &mut rewritten, &mut early);
    let mut rest = early.into_iter().chain(words);
    while let Some(word) = rest.next() {
        let is_end_of_options = word == "--";
        rewritten.extend(plain_flag(leaf, word));
        if is_end_of_options {
            rewritten.extend(rest.by_ref());
        }
    }
    rewritten
}

/// Moves the command's words to `rewritten` and the client options before them to `early`.
fn walk_to_command<'a>(
    definition: &'a Command,
    words: &mut vec::IntoIter<OsString>,
    rewritten: &mut Vec<OsString>,
    early: &mut Vec<OsString>,
) -> &'a Command {
    let known = Options::augment_args(Command::new("options"));
    let mut command = definition;
    while command.has_subcommands() {
        let Some(word) = words.next() else { break };
        if is_option(&word) && option(command, &word).is_none() {
            let awaits_value = option(&known, &word).is_some_and(|known| takes_next_word(known, &word));
            early.push(word);
            early.extend(awaits_value.then(|| words.next()).flatten());
        } else {
            let next = command.find_subcommand(&word);
            rewritten.push(word);
            let Some(next) = next else { break };
            command = next;
        }
    }
    command
}

fn is_option(word: &OsStr) -> bool {
    word.len() > 1 && word.as_encoded_bytes().starts_with(b"-") && word != "--"
}

/// The argument of `command` that the word names.
fn option<'a>(command: &'a Command, word: &OsStr) -> Option<&'a Arg> {
    let word = word.to_str()?;
    let found = |argument: &&Arg| match word.strip_prefix("--") {
        Some(long) => argument.get_long() == Some(long.split('=').next().unwrap_or(long)),
        None => argument.get_short().is_some_and(|short| word[1..].starts_with(short)),
    };
    command.get_arguments().find(found)
}

/// Whether the option's value is the next word: not attached by `=`, nor to a short name (`-wjson`).
fn takes_next_word(argument: &Arg, word: &OsStr) -> bool {
    let word = word.as_encoded_bytes();
    let attached = if word.starts_with(b"--") { word.contains(&b'=') } else { word.len() > 2 };
    argument.get_action().takes_values() && !attached
}

/// `--flag=true` as `--flag`, `--flag=false` as nothing, anything else as it is.
fn plain_flag(command: &Command, word: OsString) -> Option<OsString> {
    let Some((name, value)) = word.to_str().and_then(|word| word.split_once('=')) else {
        return Some(word);
    };
    let flag = option(command, &word).filter(|flag| matches!(flag.get_action(), ArgAction::SetTrue));
    match (flag, value) {
        (Some(_), "true" | "True" | "TRUE" | "t" | "T" | "1") => Some(name.into()),
        (Some(_), "false" | "False" | "FALSE" | "f" | "F" | "0") => None,
        _ => Some(word),
    }
}

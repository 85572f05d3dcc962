//! Rewrites what etcdctl's parser (pflag) accepts into what clap accepts: options that stand before the
//! command (`--endpoints x get k`), values that look like options (`--limit -1`), and flags that say their
//! value (`--prefix=true`), of which the last one counts.

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
    rewritten.extend(plain_options(leaf, early.into_iter().chain(words)));
    rewritten
}

/// The words behind a command's name, as clap wants them.
pub(crate) fn plain_options(command: &Command, words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words = words.into_iter();
    let mut plain = Vec::new();
    while let Some(word) = words.next() {
        if word == "--" {
            plain.push(word);
            plain.extend(words.by_ref());
            continue;
        }
        match option(command, &word) {
            Some(known) if takes_next_word(known, &word) => plain.push(with_value(word, words.next())),
            Some(flag) if matches!(flag.get_action(), ArgAction::SetTrue) => {
                push_flag(&mut plain, command, flag, word);
            }
            Some(_) | None => plain.push(word),
        }
    }
    plain
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
        let Some(word) = words.next() else {
            // There is nothing that the options are for: clap shows the help, or what it does not know.
            early.retain(|word| is_option(word) && option(&known, word).is_none());
            break;
        };
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

/// The argument of `command` that the word names, if it is an option.
fn option<'a>(command: &'a Command, word: &OsStr) -> Option<&'a Arg> {
    let word = word.to_str().filter(|_| is_option(word))?;
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

/// The option and its value as one word: pflag takes the next word for the value, whatever it looks like.
fn with_value(mut option: OsString, value: Option<OsString>) -> OsString {
    if let Some(value) = value {
        option.push("=");
        option.push(value);
    }
    option
}

/// `--flag=true` as `--flag`; `--flag=false` takes back what was said before; anything else as it is.
fn push_flag(plain: &mut Vec<OsString>, command: &Command, flag: &Arg, word: OsString) {
    match word.to_str().and_then(|word| word.split_once('=')) {
        Some((name, "true" | "True" | "TRUE" | "t" | "T" | "1")) => plain.push(name.into()),
        Some((_, "false" | "False" | "FALSE" | "f" | "F" | "0")) => {
            plain.retain(|earlier| {
                option(command, earlier).is_none_or(|named| named.get_id() != flag.get_id())
            });
        }
        Some(_) | None => plain.push(word),
    }
}

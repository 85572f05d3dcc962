//! The `tenure` binary: the server, the laboratory around it, and the client commands.
//!
//! Here is only the way from the command line to the code that does the work; see [`cli`] for the words.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod cli;
mod client;

use std::process::ExitCode;

use cli::Command;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(exit_code) => return exit_code,
    };
    match command {
        Command::Client(command) => client::main(command),
        Command::Completions { shell } => cli::print_completions(shell),
    }
}

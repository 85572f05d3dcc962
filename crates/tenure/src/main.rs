//! The `tenure` binary: the server, the laboratory around it, and the client commands.
//!
//! Here is only the way from the command line to the code that does the work; see [`cli`] for the words.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod bench;
mod cli;
mod client;
mod dev;
mod serve;
mod sim;
mod stdout;

use std::process::ExitCode;

use cli::Command;

/// Values of all sizes are freed on other threads than they came from, which this one is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(exit_code) => return exit_code,
    };
    match command {
        Command::Serve(arguments) => serve::main(&arguments),
        Command::Dev(arguments) => dev::main(&arguments),
        Command::Client(command) => client::main(command),
        Command::Bench(command) => bench::main(command),
        Command::Sim(arguments) => sim::main(&arguments),
        Command::Completions { shell } => cli::print_completions(shell),
    }
}

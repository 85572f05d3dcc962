//! `tenure dev`: a cluster of three on this machine, to try things out with.
//!
//! The members are processes of their own, started as `tenure serve`, so that one of them can be killed to
//! see what happens. This process starts them, shows how they are, and stops them. It is no supervisor for
//! real use: what it leaves out is everything that makes three processes on one machine survive the machine.

mod members;
mod plan;
mod status;

use std::env;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use members::Members;
use plan::Plan;
use status::{Display, Watcher};

/// How often the status is renewed, and a dead member is started again.
const TICK: Duration = Duration::from_secs(1);
/// The same, until the first leader is seen.
const FIRST_TICK: Duration = Duration::from_millis(100);

/// `tenure dev`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DevArguments {
    /// Where the members keep their data and logs
    #[arg(long, value_name = "DIR", default_value = "./tenure-data")]
    data: PathBuf,
    /// The first of six ports: for clients and peers, member by member
    #[arg(long, value_name = "PORT", default_value_t = 22379,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(plan::LAST_BASE_PORT)))]
    base_port: u16,
    /// Start a member again when it dies
    #[arg(long)]
    restart: bool,
}

/// Runs the cluster until it is interrupted.
pub(crate) fn main(arguments: &DevArguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.context("cannot start").and_then(|runtime| runtime.block_on(run(arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &DevArguments) -> anyhow::Result<()> {
    let plan = Plan::new(&arguments.data, arguments.base_port);
    plan.check_base_port()?;
    plan.check_ports()?;
    let interrupted = interrupted().context("cannot listen for signals")?;
    let mut interrupted = std::pin::pin!(interrupted);
    let mut members = Members::new(&plan)?;
    let started = members.start_missing()?;
    let mut display = Display::new();
    display.note(&greeting(&plan, &started.join("\n"), arguments.restart));

    let mut watcher = Watcher::new(&plan)?;
    let mut tick = interval(FIRST_TICK);
    loop {
        tokio::select! {
            () = &mut interrupted => break,
            death = members.next_death() => {
                display.note(&death);
                if members.are_all_dead() && !arguments.restart {
                    bail!("no member is left: their logs in {} say why", arguments.data.display());
                }
            }
            _ = tick.tick() => {
                let had_leader = watcher.has_leader();
                display.show(&watcher.look().await);
                if watcher.has_leader() != had_leader {
                    tick = interval(if had_leader { FIRST_TICK } else { TICK });
                    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    tick.reset();
                } else if arguments.restart {
                    for line in members.start_missing()? {
                        display.note(&line);
                    }
                }
            }
        }
    }
    display.note("Stopping. The data stays, and the next start goes on from it.");
    members.stop().await
}

/// Resolves when somebody wants this to end.
fn interrupted() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}

/// What to paste into a shell.
fn greeting(plan: &Plan, members: &str, restarts: bool) -> String {
    let tenure = program();
    let endpoints = plan.endpoints();
    let data = plan.data.display();
    let deaths = if restarts { "is started again" } else { "stays dead (see --restart)" };
    format!(
        "Three members, with data and logs in {data}:\n\
         \n\
         {members}\n\
         \n\
         In another shell:\n\
         \n  \
         export ETCDCTL_ENDPOINTS={endpoints}\n  \
         etcdctl put greeting hello\n  \
         {tenure} get greeting\n  \
         {tenure} status -w table\n\
         \n\
         Ctrl-C stops them. A member that is killed {deaths}.\n"
    )
}

/// How this program is called from here.
fn program() -> String {
    let called = env::args_os().next().unwrap_or_default();
    if !called.to_string_lossy().contains('/') {
        return "tenure".to_owned();
    }
    let here = env::current_dir().unwrap_or_default();
    let path = env::current_exe().unwrap_or_else(|_| called.into());
    path.strip_prefix(here).unwrap_or(&path).display().to_string()
}

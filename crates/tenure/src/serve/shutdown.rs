//! When a member is to stop: a signal, or the end of the process that started it.

use std::future::Future;
use std::io::{self, Read};
use std::process;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::logging::Log;

/// Resolves when the member is to stop in good order. Whoever asks a second time is obeyed at once: what
/// was acknowledged is safe either way.
pub(crate) fn requested(with_stdin: bool, log: Log) -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stdin = with_stdin.then(stdin_closed).transpose()?;
    Ok(async move {
        let why = tokio::select! {
            why = next(&mut terminate, &mut interrupt) => why,
            () = closed(stdin) => "standard input was closed",
        };
        tracing::info!("stopping: {why}");
        tokio::spawn(async move {
            let why = next(&mut terminate, &mut interrupt).await;
            tracing::warn!("stopping at once: {why} again");
            log.flush();
            process::exit(1);
        });
    })
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

async fn closed(stdin: Option<oneshot::Receiver<()>>) {
    match stdin {
        // Closed, too, when the thread that watches it is gone.
        Some(stdin) => drop(stdin.await),
        None => std::future::pending().await,
    }
}

/// Watches standard input on a thread of its own, since reading it cannot be called off.
fn stdin_closed() -> io::Result<oneshot::Receiver<()>> {
    let (closed, on_closed) = oneshot::channel();
    let watch = move || {
        let mut ignored = [0; 64];
        let mut stdin = io::stdin();
        while !matches!(stdin.read(&mut ignored), Ok(0) | Err(_)) {}
        // Nobody waits when the member stops for another reason.
        let _ = closed.send(());
    };
    thread::Builder::new().name("stdin".into()).spawn(watch)?;
    Ok(on_closed)
}

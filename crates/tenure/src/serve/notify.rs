//! What systemd is told of a service of `Type=notify`: a datagram to the socket that `NOTIFY_SOCKET` names.
//!
//! Source: sd_notify(3).

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use tenure_server::{OnPhase, Phase};

pub(crate) const VARIABLE: &str = "NOTIFY_SOCKET";
/// How much longer a member that is catching up may take to start, from the last time that it said so: more than it
/// takes until the next time.
const EXTENSION_US: u64 = 60_000_000;

/// Tells systemd, if it is that which has started us.
pub(crate) fn systemd() -> OnPhase {
    let socket = env::var_os(VARIABLE).filter(|name| !name.is_empty());
    Arc::new(move |phase| {
        if let Some(name) = &socket
            && let Err(error) = send(name, &state(&phase))
        {
            tracing::warn!("cannot notify systemd at {}: {error}", name.display());
        }
    })
}

fn state(phase: &Phase) -> String {
    match phase {
        Phase::CatchingUp { progress } => {
            format!("STATUS={progress}\nEXTEND_TIMEOUT_USEC={EXTENSION_US}")
        }
        Phase::Ready => "READY=1\nSTATUS=serving".to_owned(),
        Phase::Stopping => "STOPPING=1\nSTATUS=stopping".to_owned(),
    }
}

fn send(name: &OsString, state: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    // Whoever does not read must not stop us.
    socket.set_nonblocking(true)?;
    match name.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => send_abstract(&socket, name, state)?,
        None => socket.send_to(state.as_bytes(), name)?,
    };
    Ok(())
}

/// To a name that is in no file system, which only Linux has.
#[cfg(target_os = "linux")]
fn send_abstract(socket: &UnixDatagram, name: &[u8], state: &str) -> io::Result<usize> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    socket.send_to_addr(state.as_bytes(), &SocketAddr::from_abstract_name(name)?)
}

#[cfg(not(target_os = "linux"))]
fn send_abstract(_: &UnixDatagram, _: &[u8], _: &str) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

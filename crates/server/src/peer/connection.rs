//! What both ends of a connection between members have in common.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use socket2::{SockRef, TcpKeepalive};
use tenure_api::peer::FrameDecoder;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// A peer that is gone without a word (its machine, or the way to it) is given up after this: TCP alone would
/// wait for minutes, also after it is back.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection on which nothing is sent is tried this often.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// Small messages leave at once, and silence is noticed, on both sides.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_INTERVAL).with_interval(KEEPALIVE_INTERVAL);
    let probes = SILENCE_TIMEOUT.as_secs() / KEEPALIVE_INTERVAL.as_secs();
    socket.set_tcp_keepalive(&keepalive.with_retries(probes as u32))?;
    // Elsewhere what was sent and is not acknowledged keeps the system's own, longer time.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(SILENCE_TIMEOUT))?;
    Ok(())
}

pub(crate) async fn read_frame(stream: &mut TcpStream, decoder: &mut FrameDecoder) -> io::Result<Bytes> {
    loop {
        if let Some(frame) = decoder.next_frame().map_err(invalid)? {
            return Ok(frame);
        }
        if stream.read_buf(decoder.buffer()).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

pub(crate) fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

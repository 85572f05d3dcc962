//! Bytes that make no sense to whoever listens. That the member is not harmed by them is for the others to judge.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::address::at;
use crate::random::Random;

/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const MAX_NOISE_BYTES: u64 = 32 << 10;
/// How long one piece of garbage is held on to.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two pieces: a nuisance, not a test of how many connections there can be.
const PAUSE: Duration = Duration::from_millis(5);

/// Sends garbage to all these ports, until it is dropped.
pub(crate) async fn send_for_ever(ports: Vec<u16>, mut random: Random) {
    loop {
        let (port, bytes) = (random.pick(&ports), piece(&mut random));
        let _ = tokio::time::timeout(PATIENCE, send(port, &bytes, random.percent(50))).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// One piece.
fn piece(random: &mut Random) -> Vec<u8> {
    let length = random.below(MAX_NOISE_BYTES) as usize;
    let noise = random.noise(length);
    let http = |head: &str| head.as_bytes().to_vec();
    match random.below(9) {
        0 => noise,
        1 => vec![0; length],
        // Frames of the peers that claim too much, are empty, or end in the middle.
        2 => [&[0xff; 4][..], &noise].concat(),
        3 => [&(length as u32).to_be_bytes()[..], &noise].concat(),
        4 => [&(length as u32 + 1).to_be_bytes()[..], &noise].concat(),
        // HTTP to whoever does not speak it, and HTTP that nobody speaks.
        5 => http("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        6 => http("POST /etcdserverpb.KV/Put HTTP/9.9\r\nContent-Length: nonsense\r\n\r\n"),
        7 => [PREFACE, &noise].concat(),
        // A frame of HTTP/2 that claims 16 MiB.
        _ => [PREFACE, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat(),
    }
}

/// Sends it, and waits for the other side to be done with it, or goes away at once.
async fn send(port: u16, bytes: &[u8], waits: bool) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(at(port)).await?;
    stream.write_all(bytes).await?;
    let mut answer = [0; 4096];
    while waits && stream.read(&mut answer).await? > 0 {}
    Ok(())
}

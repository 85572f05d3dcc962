//! The peer port: lets strangers say who they are, and reads what the peers send.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tenure_api::peer::{Frame, FrameDecoder, decode_frame};
use tenure_raft::NodeId;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::connection::invalid;
use super::handshake::{Guest, HANDSHAKE_TIMEOUT, shake_hands};
use super::slots::Slots;
use crate::descriptors::Descriptors;
use crate::gate::{FAREWELL, Gate};
use crate::input::Input;
use crate::seldom::Seldom;

/// How much of the socket is read at a time, at least.
const READ_BYTES: usize = 64 << 10;
/// The longest message of who is no member here: as long as an append of a member that this one does not know yet, where
/// requests are no larger than they are without a flag.
const MAX_STRANGER_FRAME_BYTES: usize = 2 << 20;
/// The wait before a listener that failed is tried again.
const ACCEPT_RETRY: Duration = Duration::from_millis(10);

/// Accepts the peers' connections. Strangers cannot keep members out: when too many wait for their handshake,
/// the one that has waited longest has to go, and behind it members have places of their own.
pub(crate) async fn accept(
    listener: TcpListener,
    limits: Descriptors,
    gate: Arc<Gate>,
    inputs: mpsc::Sender<Input>,
) {
    let (mut greetings, mut connections) = (JoinSet::new(), JoinSet::new());
    let mut strangers: VecDeque<AbortHandle> = VecDeque::new();
    let mut slots = Slots::new(limits.peers / 4);
    let (mut crowded, mut failed) = (Seldom::default(), Seldom::default());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    strangers.retain(|stranger| !stranger.is_finished());
                    if strangers.len() >= limits.strangers && let Some(longest) = strangers.pop_front() {
                        if let Some(times) = crowded.again() {
                            tracing::warn!(times, "too many strangers at the peer port: the oldest is sent away");
                        }
                        longest.abort();
                    }
                    strangers.push_back(greetings.spawn(greet(stream, address, gate.clone(), inputs.clone())));
                }
                // Out of file descriptors, most likely: they come back.
                Err(error) => {
                    if let Some(times) = failed.again() {
                        tracing::warn!(%error, times, "cannot accept a peer's connection");
                    }
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
            // The others were turned away, or sent away.
            Some(greeted) = greetings.join_next() => if let Ok(Some(connection)) = greeted {
                let Guest { from, lane, .. } = connection.guest;
                let open = connections.spawn(connection.receive(gate.clone(), inputs.clone()));
                slots.take(from, lane, open, |id| gate.is_member(id));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Has a stranger say who it is; none if it was not let in.
async fn greet(
    mut stream: TcpStream,
    address: SocketAddr,
    gate: Arc<Gate>,
    inputs: mpsc::Sender<Input>,
) -> Option<Connection> {
    let mut decoder = FrameDecoder::new();
    let handshake = shake_hands(&mut stream, &mut decoder, &gate, &inputs);
    let error = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(Some(guest))) => return Some(Connection { stream, decoder, address, guest }),
        Ok(Ok(None)) => return None,
        Ok(Err(error)) => error,
        Err(_) => io::Error::new(io::ErrorKind::TimedOut, "no handshake in time"),
    };
    if decoder.buffer().is_empty() && is_end(&error) {
        // Probes and scans only look whether somebody listens.
        tracing::debug!(%address, %error, "a connection at the peer port said nothing");
    } else {
        warn_of(address, &error);
    }
    None
}

/// Whether a connection ended, or nothing came on it.
fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | TimedOut)
}

fn warn_of(address: SocketAddr, error: &io::Error) {
    tracing::warn!(%address, %error, "a connection at the peer port was closed");
}

/// A connection that a peer opened.
struct Connection {
    stream: TcpStream,
    decoder: FrameDecoder,
    address: SocketAddr,
    guest: Guest,
}

impl Connection {
    /// Reads the peer's messages until it is gone.
    async fn receive(mut self, gate: Arc<Gate>, inputs: mpsc::Sender<Input>) {
        let Guest { from, .. } = self.guest;
        let messages = read_messages(&mut self.stream, &mut self.decoder, &self.guest, &gate, &inputs);
        tokio::select! {
            result = messages => if let Err(error) = result {
                warn_of(self.address, &error);
            },
            // When it connects again it is told.
            () = removed(&gate, from) => {}
        }
        // A member that stops has nobody left to tell.
        let _ = inputs.send(Input::Unreachable { peer: from }).await;
    }
}

/// Resolves some time after a member was removed.
async fn removed(gate: &Gate, member: NodeId) {
    gate.removed(member).await;
    tokio::time::sleep(FAREWELL).await;
}

async fn read_messages(
    stream: &mut TcpStream,
    decoder: &mut FrameDecoder,
    guest: &Guest,
    gate: &Gate,
    inputs: &mpsc::Sender<Input>,
) -> io::Result<()> {
    let mut is_member = false;
    decoder.accept_up_to(MAX_STRANGER_FRAME_BYTES);
    loop {
        // It may be that this member is behind, and learns of the other one now.
        if !is_member && gate.is_member(guest.from) {
            is_member = true;
            decoder.accept_messages();
        }
        let mut messages = Vec::new();
        while let Some(frame) = decoder.next_frame().map_err(invalid)? {
            match decode_frame(frame).map_err(invalid)? {
                Frame::Message(message) => messages.push(message),
                Frame::Handshake(_)
                | Frame::HandshakeReply(_)
                | Frame::MembersRequest { .. }
                | Frame::Members(_) => return Err(invalid("a second handshake")),
            }
        }
        if !messages.is_empty() {
            let (from, urls) = (guest.from, guest.urls.clone());
            if inputs.send(Input::Peer { from, urls, messages }).await.is_err() {
                return Ok(());
            }
        }
        decoder.buffer().reserve(READ_BYTES);
        if stream.read_buf(decoder.buffer()).await? == 0 {
            return Ok(());
        }
    }
}

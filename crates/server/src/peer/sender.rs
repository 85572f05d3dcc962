//! One lane to one peer: connects, sends what gathers in its queue, and connects again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tenure_api::peer::{Lane, encode_frame};
use tenure_raft::{Message, NodeId};
use tenure_replica::PeerMessage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};

use super::connection::invalid;
use super::handshake::introduce;
use super::queue::Exit;
use crate::gate::Gate;
use crate::input::Input;
use crate::url::Url;

/// How long messages wait for a connection.
const CONNECT_PATIENCE: Duration = Duration::from_millis(100);
/// The first wait before a connection is tried again; doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(10);
/// The longest.
const LAST_RETRY: Duration = Duration::from_millis(500);

/// One lane to one peer.
pub(crate) struct Sender {
    pub(crate) peer: NodeId,
    pub(crate) lane: Lane,
    pub(crate) urls: watch::Receiver<Vec<Url>>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) messages: Exit,
}

impl Sender {
    /// Sends until there will be nothing more to send.
    pub(crate) async fn run(mut self) {
        let mut retry = FIRST_RETRY;
        let mut complained = false;
        for attempt in 0.. {
            let url = {
                let urls = self.urls.borrow();
                urls[attempt % urls.len()].clone()
            };
            let Some(connected) = self.connect(&url).await else { return };
            match connected {
                Ok(stream) => {
                    tracing::debug!(peer = %self.peer, lane = ?self.lane, %url, "connected");
                    (retry, complained) = (FIRST_RETRY, false);
                    let error = self.pump(stream).await;
                    let Some(error) = error else { return };
                    tracing::debug!(peer = %self.peer, lane = ?self.lane, %error, "the connection broke");
                    if self.inputs.send(Input::Unreachable { peer: self.peer }).await.is_err() {
                        return;
                    }
                }
                Err(error) if !complained => {
                    tracing::info!(peer = %self.peer, %url, %error, "cannot connect to a peer; trying again");
                    complained = true;
                }
                Err(_) => {}
            }
            if !self.discard_for(retry).await {
                return;
            }
            retry = (retry * 2).min(LAST_RETRY);
        }
    }

    /// Connects. What is to be sent meanwhile waits a moment; then it would be stale, and is given back. None if there will
    /// be nothing to send.
    async fn connect(&mut self, url: &Url) -> Option<io::Result<TcpStream>> {
        let (gate, inputs) = (self.gate.clone(), self.inputs.clone());
        let connecting = introduce(self.peer, self.lane, url, &gate, &inputs);
        tokio::pin!(connecting);
        if let Ok(connected) = tokio::time::timeout(CONNECT_PATIENCE, &mut connecting).await {
            return Some(connected);
        }
        let mut messages = Vec::new();
        loop {
            tokio::select! {
                connected = &mut connecting => return Some(connected),
                is_more = self.messages.take(&mut messages) => {
                    if !is_more || !self.give_back(&mut messages).await {
                        return None;
                    }
                }
            }
        }
    }

    /// Sends until the connection breaks; none if there will be nothing more to send.
    async fn pump(&mut self, stream: TcpStream) -> Option<io::Error> {
        let (mut reader, mut writer) = stream.into_split();
        let mut messages = Vec::new();
        let mut out = BytesMut::new();
        loop {
            let error = tokio::select! {
                is_more = self.messages.take(&mut messages) => {
                    if !is_more {
                        return None;
                    }
                    write_messages(&mut writer, &mut messages, &mut out).await.err()
                }
                error = closed(&mut reader) => Some(error),
            };
            if error.is_some() {
                return error;
            }
        }
    }

    /// Gives back what is to be sent meanwhile: it would be stale. Returns whether there will be more.
    async fn discard_for(&mut self, time: Duration) -> bool {
        let until = tokio::time::Instant::now() + time;
        let mut messages = Vec::new();
        loop {
            match tokio::time::timeout_at(until, self.messages.take(&mut messages)).await {
                Err(_) => return true,
                Ok(false) => return false,
                Ok(true) => {
                    if !self.give_back(&mut messages).await {
                        return false;
                    }
                }
            }
        }
    }

    /// Says of messages that they did not leave. Returns whether the member still runs.
    async fn give_back(&self, messages: &mut Vec<PeerMessage>) -> bool {
        for message in messages.drain(..) {
            if is_missed(&message) && self.inputs.send(Input::NotSent { message }).await.is_err() {
                return false;
            }
        }
        true
    }
}

/// Whether somebody goes on by hearing that a message did not leave; all others are repeated in time.
fn is_missed(message: &PeerMessage) -> bool {
    match message {
        PeerMessage::Forward(_) => true,
        PeerMessage::Raft(envelope) => matches!(envelope.message, Message::AppendEntries { .. }),
        PeerMessage::ForwardRefused(_)
        | PeerMessage::ForwardQuestion(_)
        | PeerMessage::ForwardLacked(_)
        | PeerMessage::ChangeMembers(_)
        | PeerMessage::MembersChanged(_)
        | PeerMessage::Room { .. }
        | PeerMessage::Acknowledged(_) => false,
    }
}

async fn write_messages(
    writer: &mut OwnedWriteHalf,
    messages: &mut Vec<PeerMessage>,
    out: &mut BytesMut,
) -> io::Result<()> {
    /// What a burst made the buffer grow to is given back.
    const KEPT_BYTES: usize = 1 << 20;
    for message in messages.drain(..) {
        if let Err(error) = encode_frame(&message, out) {
            tracing::error!(%error, "a message is too large to be sent");
        }
    }
    writer.write_all(out).await?;
    out.clear();
    if out.capacity() > KEPT_BYTES {
        *out = BytesMut::new();
    }
    Ok(())
}

/// Resolves when the other side closes the connection: it has nothing to say on it.
async fn closed(reader: &mut OwnedReadHalf) -> io::Error {
    let mut byte = [0];
    match reader.read(&mut byte).await {
        Ok(0) => io::ErrorKind::ConnectionReset.into(),
        Ok(_) => invalid("the receiver of a connection spoke on it"),
        Err(error) => error,
    }
}

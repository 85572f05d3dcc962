//! The connections between members: one TCP connection a direction, a peer and a lane.
//!
//! A sender task for each takes what gathered in its queue, encodes it into one buffer and writes it; a
//! receiver task for each accepted connection turns what it reads into one input for the core. Neither is
//! ever waited for: a full queue drops messages, as a network may. A connection that breaks is reported,
//! since a leader that died shows there first.
//!
//! Who speaks is settled by the handshake, before anything else is read; see [`Gate`].

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use socket2::{SockRef, TcpKeepalive};
use tenure_api::peer::{
    Frame, FrameDecoder, Handshake, HandshakeReply, Lane, PROTOCOL_VERSION, decode_frame, encode_frame,
    encode_handshake, encode_handshake_reply, encode_members,
};
use tenure_raft::NodeId;
use tenure_replica::PeerMessage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::core::{Input, Stop};
use crate::gate::{Gate, MeetError};
use crate::roster::Roster;
use crate::url::Url;

/// How many messages may wait for one peer in one lane.
const MAX_WAITING_MESSAGES: usize = 4096;
/// How many messages go into one write.
const MAX_WRITE_MESSAGES: usize = 512;
/// How much of the socket is read at a time, at least.
const READ_BYTES: usize = 64 << 10;
/// How many members' connections may be open at the peer port. Twice as many as they ever need.
const MAX_CONNECTIONS: usize = 256;
/// How many more may be open whose other side has not yet said who it is.
const MAX_STRANGERS: usize = 128;
/// Who connects must have said who he is within this time, and who is connected to have answered.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that is gone without a word (its machine, or the way to it) is given up after this: TCP alone would
/// wait for minutes, also after it is back.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection on which nothing is sent is tried this often.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// The first wait before a connection is tried again; doubled each time.
const FIRST_RETRY: Duration = Duration::from_millis(10);
/// The longest.
const LAST_RETRY: Duration = Duration::from_millis(500);

/// How many peers are remembered for what only they say: where they are reached.
const MAX_SAID: usize = 16;
/// How long a member that was removed may go on listening and speaking: it is to hear of it, and to say farewell.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

/// The senders to all peers, and the queues of what they have to send.
pub(crate) struct Peers {
    gate: Arc<Gate>,
    inputs: mpsc::Sender<Input>,
    known: BTreeMap<NodeId, Peer>,
    /// What peers say where they are reached, the newest last: they may know better, or be known to nobody else.
    said: VecDeque<(NodeId, Vec<Url>)>,
    /// End with this.
    tasks: JoinSet<()>,
}

/// One peer: its queues, and where it is reached.
struct Peer {
    urgent: mpsc::Sender<PeerMessage>,
    bulk: mpsc::Sender<PeerMessage>,
    urls: watch::Sender<Vec<Url>>,
}

impl Peers {
    pub(crate) fn new(gate: Arc<Gate>, inputs: mpsc::Sender<Input>) -> Peers {
        Peers { gate, inputs, known: BTreeMap::new(), said: VecDeque::new(), tasks: JoinSet::new() }
    }

    /// Puts a message into its queue, and gives it back if that is full, which consensus bears.
    pub(crate) fn send(&self, to: NodeId, message: PeerMessage) -> Option<PeerMessage> {
        let lane = Lane::of(&message);
        let Some(peer) = self.known.get(&to) else { return Some(message) };
        let queue = match lane {
            Lane::Urgent => &peer.urgent,
            Lane::Bulk => &peer.bulk,
        };
        let error = queue.try_send(message).err()?;
        tracing::debug!(peer = %to, ?lane, "the queue is full: a message is dropped");
        Some(error.into_inner())
    }

    /// A peer has said where it is reached.
    pub(crate) fn hear(&mut self, peer: NodeId, urls: Vec<Url>) {
        self.said.retain(|(known, _)| *known != peer);
        if self.said.len() == MAX_SAID {
            self.said.pop_front();
        }
        self.said.push_back((peer, urls));
    }

    /// Goes by what is known of the members now: some may have come, gone, or moved.
    pub(crate) fn update(&mut self, own_id: NodeId, roster: &Roster) {
        let mut wanted: BTreeMap<NodeId, Vec<Url>> = BTreeMap::new();
        for (&id, member) in &roster.members {
            wanted.insert(id, member.peer_urls.iter().filter_map(|url| url.parse().ok()).collect());
        }
        for (id, urls) in &self.said {
            let known = wanted.entry(*id).or_default();
            let new: Vec<Url> = urls.iter().filter(|url| !known.contains(url)).cloned().collect();
            known.extend(new);
        }
        wanted.retain(|id, urls| *id != own_id && !roster.removed.contains(id) && !urls.is_empty());
        // Whose queues are dropped is still sent what is in them.
        self.known.retain(|id, _| wanted.contains_key(id));
        for (id, urls) in wanted {
            let Some(peer) = self.known.get(&id) else {
                let peer = self.start(id, urls);
                self.known.insert(id, peer);
                continue;
            };
            peer.urls.send_if_modified(|known| {
                let has_moved = *known != urls;
                *known = urls;
                has_moved
            });
        }
    }

    fn start(&mut self, peer: NodeId, urls: Vec<Url>) -> Peer {
        let (urls, known_urls) = watch::channel(urls);
        let mut lane = |lane| {
            let (queue, messages) = mpsc::channel(MAX_WAITING_MESSAGES);
            let (gate, inputs, urls) = (self.gate.clone(), self.inputs.clone(), known_urls.clone());
            self.tasks.spawn(Sender { peer, lane, urls, gate, inputs, messages }.run());
            queue
        };
        Peer { urgent: lane(Lane::Urgent), bulk: lane(Lane::Bulk), urls }
    }
}

/// One lane to one peer.
struct Sender {
    peer: NodeId,
    lane: Lane,
    urls: watch::Receiver<Vec<Url>>,
    gate: Arc<Gate>,
    inputs: mpsc::Sender<Input>,
    messages: mpsc::Receiver<PeerMessage>,
}

impl Sender {
    async fn run(mut self) {
        let mut retry = FIRST_RETRY;
        let mut complained = false;
        for attempt in 0.. {
            let url = {
                let urls = self.urls.borrow();
                urls[attempt % urls.len()].clone()
            };
            match self.connect(&url).await {
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

    async fn connect(&self, url: &Url) -> io::Result<TcpStream> {
        let connect = async {
            let mut stream = TcpStream::connect(url.authority()).await?;
            prepare(&stream)?;
            let mut out = BytesMut::new();
            encode_handshake(&self.gate.handshake(self.peer, self.lane), &mut out);
            stream.write_all(&out).await?;
            let mut decoder = FrameDecoder::new();
            let frame = read_frame(&mut stream, &mut decoder).await?;
            match decode_frame(frame).map_err(invalid)? {
                Frame::HandshakeReply(HandshakeReply::Accepted { directory_id, standing }) => {
                    match self.gate.meet(self.peer, directory_id, standing) {
                        Ok(()) => Ok(stream),
                        Err(error) => Err(not_let_in(error, &self.inputs).await),
                    }
                }
                Frame::HandshakeReply(HandshakeReply::Refused { reason, detail }) => {
                    if let Some(stop) = self.gate.on_refused(self.peer, reason, &detail) {
                        // Nobody reads the answer of a member that is about to stop.
                        let _ = self.inputs.send(Input::Fatal(stop)).await;
                    }
                    Err(io::Error::new(io::ErrorKind::PermissionDenied, detail))
                }
                Frame::Handshake(_)
                | Frame::Message(_)
                | Frame::MembersRequest { .. }
                | Frame::Members(_) => Err(invalid("no answer to the handshake")),
            }
        };
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, connect).await {
            Ok(result) => result,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Sends until the connection breaks; none if there will be nothing more to send.
    async fn pump(&mut self, stream: TcpStream) -> Option<io::Error> {
        let (mut reader, mut writer) = stream.into_split();
        let mut messages = Vec::with_capacity(MAX_WRITE_MESSAGES);
        let mut out = BytesMut::new();
        loop {
            let error = tokio::select! {
                count = self.messages.recv_many(&mut messages, MAX_WRITE_MESSAGES) => {
                    if count == 0 {
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

    /// Drops what is to be sent meanwhile: it would be stale. Returns whether there will be more.
    async fn discard_for(&mut self, time: Duration) -> bool {
        let until = tokio::time::Instant::now() + time;
        loop {
            match tokio::time::timeout_at(until, self.messages.recv()).await {
                Err(_) => return true,
                Ok(None) => return false,
                Ok(Some(message @ PeerMessage::Forward(_))) => {
                    if self.inputs.send(Input::NotSent { message }).await.is_err() {
                        return false;
                    }
                }
                Ok(Some(
                    PeerMessage::Raft(_)
                    | PeerMessage::ForwardRefused(_)
                    | PeerMessage::ChangeMembers(_)
                    | PeerMessage::MembersChanged(_)
                    | PeerMessage::Room { .. },
                )) => {}
            }
        }
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

/// Small messages leave at once, and silence is noticed, on both sides.
fn prepare(stream: &TcpStream) -> io::Result<()> {
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

/// Accepts the peers' connections. Strangers cannot keep members out: when too many wait for their handshake,
/// the one that has waited longest has to go.
pub(crate) async fn accept(listener: TcpListener, gate: Arc<Gate>, inputs: mpsc::Sender<Input>) {
    let (mut greetings, mut connections) = (JoinSet::new(), JoinSet::new());
    let mut strangers: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    strangers.retain(|stranger| !stranger.is_finished());
                    if strangers.len() == MAX_STRANGERS && let Some(longest) = strangers.pop_front() {
                        tracing::warn!("too many strangers at the peer port: the oldest is sent away");
                        longest.abort();
                    }
                    strangers.push_back(greetings.spawn(greet(stream, address, gate.clone(), inputs.clone())));
                }
                // Out of file descriptors, most likely: they come back.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a peer's connection");
                    tokio::time::sleep(FIRST_RETRY).await;
                }
            },
            Some(greeted) = greetings.join_next() => match greeted {
                Ok(Some(connection)) if connections.len() < MAX_CONNECTIONS => {
                    connections.spawn(connection.receive(gate.clone(), inputs.clone()));
                }
                // One of more than members need, one that was turned away, one that was sent away.
                Ok(_) | Err(_) => {}
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
        Ok(Ok(Some(handshake))) => {
            return Some(Connection { stream, decoder, address, from: handshake.from });
        }
        Ok(Ok(None)) => return None,
        Ok(Err(error)) => error,
        Err(_) => io::Error::new(io::ErrorKind::TimedOut, "no handshake in time"),
    };
    warn_of(address, &error);
    None
}

fn warn_of(address: SocketAddr, error: &io::Error) {
    tracing::warn!(%address, %error, "a connection at the peer port was closed");
}

/// A connection that a peer opened.
struct Connection {
    stream: TcpStream,
    decoder: FrameDecoder,
    address: SocketAddr,
    from: NodeId,
}

impl Connection {
    /// Reads the peer's messages until it is gone.
    async fn receive(mut self, gate: Arc<Gate>, inputs: mpsc::Sender<Input>) {
        let messages = read_messages(&mut self.stream, &mut self.decoder, self.from, &inputs);
        tokio::select! {
            result = messages => if let Err(error) = result {
                warn_of(self.address, &error);
            },
            // When it connects again it is told.
            () = removed(&gate, self.from) => {}
        }
        // A member that stops has nobody left to tell.
        let _ = inputs.send(Input::Unreachable { peer: self.from }).await;
    }
}

/// Resolves some time after a member was removed.
async fn removed(gate: &Gate, member: NodeId) {
    gate.removed(member).await;
    tokio::time::sleep(FAREWELL).await;
}

/// Lets the other side say who it is, and answers. None if it only wanted to know who the members are.
async fn shake_hands(
    stream: &mut TcpStream,
    decoder: &mut FrameDecoder,
    gate: &Gate,
    inputs: &mpsc::Sender<Input>,
) -> io::Result<Option<Handshake>> {
    prepare(stream)?;
    let handshake = match decode_frame(read_frame(stream, decoder).await?).map_err(invalid)? {
        Frame::Handshake(handshake) => handshake,
        Frame::MembersRequest { protocol_version: PROTOCOL_VERSION } => {
            let mut out = BytesMut::new();
            encode_members(&gate.members(), &mut out).map_err(invalid)?;
            stream.write_all(&out).await?;
            return Ok(None);
        }
        Frame::MembersRequest { protocol_version } => {
            return Err(invalid(format!("peer protocol version {protocol_version}")));
        }
        Frame::HandshakeReply(_) | Frame::Message(_) | Frame::Members(_) => {
            return Err(invalid("no handshake"));
        }
    };
    let reply = match gate.answer(&handshake) {
        Ok(reply) => reply,
        Err(error) => return Err(not_let_in(error, inputs).await),
    };
    let mut out = BytesMut::new();
    encode_handshake_reply(&reply, &mut out);
    stream.write_all(&out).await?;
    match reply {
        HandshakeReply::Accepted { .. } => {
            decoder.accept_messages();
            let urls = handshake.peer_urls.iter().filter_map(|url| url.parse().ok()).collect();
            // A member that stops needs to know it no more.
            let _ = inputs.send(Input::Heard { peer: handshake.from, urls }).await;
            Ok(Some(handshake))
        }
        HandshakeReply::Refused { detail, .. } => {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, detail))
        }
    }
}

/// Closes the connection; if it is our own disk that failed, stops the member.
async fn not_let_in(error: MeetError, inputs: &mpsc::Sender<Input>) -> io::Error {
    if let MeetError::Disk(_) = error {
        // A member that stops already needs no other reason.
        let _ = inputs.send(Input::Fatal(Stop::Failed(error.to_string()))).await;
    }
    io::Error::new(io::ErrorKind::PermissionDenied, error)
}

async fn read_messages(
    stream: &mut TcpStream,
    decoder: &mut FrameDecoder,
    from: NodeId,
    inputs: &mpsc::Sender<Input>,
) -> io::Result<()> {
    loop {
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
        if !messages.is_empty() && inputs.send(Input::Peer { from, messages }).await.is_err() {
            return Ok(());
        }
        decoder.buffer().reserve(READ_BYTES);
        if stream.read_buf(decoder.buffer()).await? == 0 {
            return Ok(());
        }
    }
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

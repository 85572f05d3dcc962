//! The network between the members: a proxy before each of them, which is all that the others know of it.
//!
//! A member speaks only on connections that it opened itself, and says first who it is and where it is reached
//! (docs/protocol.md, "Connections"). So the proxy knows whose connection it has, and can treat what n1 says to n2
//! unlike what n2 says to n1: a link is one direction between two members.
//!
//! Left out: reordering and loss within a connection, which TCP hides from both sides as well.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tenure_api::peer::{Frame, FrameDecoder, decode_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::address::at;

/// How much is read at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// The same of a narrow link: no heartbeat waits for more of another connection than this.
const NARROW_CHUNK_BYTES: usize = 16 << 10;
/// How late a timer may be.
const OVERSLEPT: Duration = Duration::from_millis(20);
/// How much the system may hold of what has arrived at a proxy.
const BUFFER_BYTES: u32 = 256 << 10;
/// How many chunks may be on the way in one connection.
const MAX_CHUNKS: usize = 64;
/// How long a stranger may take to say who he is.
const PATIENCE: Duration = Duration::from_secs(5);

/// What becomes of what one member says to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    /// It arrives.
    Open,
    /// Connections are closed, and new ones, too.
    Cut,
    /// It waits, and arrives when the link is open again: late, but all of it.
    Stalled,
    /// It is lost; a connection that has lost something is closed when the link is open again.
    Swallowing,
    /// It takes so long.
    Slow(Duration),
    /// It arrives at this rate, whatever it is: all connections of the link together.
    Narrow { bytes_per_s: u64 },
}

/// All links.
pub(crate) struct Network {
    /// `links[from][to]`.
    links: Arc<Vec<Vec<Way>>>,
    /// End with this.
    _proxies: JoinSet<()>,
}

/// One direction between two members: what becomes of what is said, and what carries it.
type Way = (watch::Sender<Link>, Arc<Wire>);

/// What all connections of a link share.
#[derive(Debug)]
pub(crate) struct Wire {
    /// When the last bytes that a narrow link has taken are through.
    free_at: Mutex<Instant>,
    carried_bytes: AtomicU64,
}

impl Wire {
    fn new() -> Wire {
        Wire { free_at: Mutex::new(Instant::now()), carried_bytes: AtomicU64::new(0) }
    }

    /// When so many bytes more are through.
    fn take(&self, bytes: usize, bytes_per_s: u64) -> Instant {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        // Who waits for a moment wakes up a little after it; that is no pause of the wire.
        let earliest = Instant::now().checked_sub(OVERSLEPT).unwrap_or(*free_at);
        *free_at = free_at.max(earliest) + Duration::from_secs_f64(bytes as f64 / bytes_per_s as f64);
        *free_at
    }
}

impl Network {
    /// Starts a proxy for each member: it listens at the first port and leads to the second.
    pub(crate) fn start(ports: &[(u16, u16)]) -> io::Result<Network> {
        let link = || (watch::channel(Link::Open).0, Arc::new(Wire::new()));
        let row = || (0..ports.len()).map(|_| link()).collect();
        let links: Arc<Vec<Vec<_>>> = Arc::new((0..ports.len()).map(|_| row()).collect());
        let proxy_ports: Arc<Vec<u16>> = Arc::new(ports.iter().map(|&(proxy, _)| proxy).collect());
        let mut proxies = JoinSet::new();
        for (to, &(proxy_port, member_port)) in ports.iter().enumerate() {
            let listener = listen(proxy_port)?;
            let (links, proxy_ports) = (links.clone(), proxy_ports.clone());
            proxies.spawn(accept(listener, member_port, move |from: &[u8]| {
                let from = sender(from, &proxy_ports)?;
                let (link, wire) = &links[from][to];
                Some((link.subscribe(), wire.clone()))
            }));
        }
        Ok(Network { links, _proxies: proxies })
    }

    /// From now on this becomes of what `from` says to `to`.
    pub(crate) fn set(&self, from: usize, to: usize, link: Link) {
        self.links[from][to].0.send_replace(link);
    }

    /// How much of what `from` said to `to` has been carried so far.
    pub(crate) fn carried_bytes(&self, from: usize, to: usize) -> u64 {
        self.links[from][to].1.carried_bytes.load(Ordering::Relaxed)
    }
}

/// Listens with little room in the system's buffers, so that a narrow link is not followed by a long queue of its own.
fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    socket.bind(at(port).into())?;
    socket.listen(1024)
}

async fn accept(
    listener: TcpListener,
    member_port: u16,
    link_of: impl Fn(&[u8]) -> Option<(watch::Receiver<Link>, Arc<Wire>)> + Clone + Send + Sync + 'static,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // Out of descriptors: the next one may find some.
                let Ok((stream, _)) = accepted else { continue };
                let link_of = link_of.clone();
                connections.spawn(async move {
                    // A connection that breaks is what connections do.
                    let _ = relay(stream, member_port, link_of).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn relay(
    mut from: TcpStream,
    member_port: u16,
    link_of: impl Fn(&[u8]) -> Option<(watch::Receiver<Link>, Arc<Wire>)>,
) -> io::Result<()> {
    from.set_nodelay(true)?;
    let hello = tokio::time::timeout(PATIENCE, read_hello(&mut from)).await??;
    // Who is no member is not held back: garbage is to arrive, and who joins is not known yet.
    let open = || (watch::channel(Link::Open).1, Arc::new(Wire::new()));
    let (mut link, wire) = link_of(&hello).unwrap_or_else(open);
    let back = Arc::new(Wire::new());
    let passes = |link: &Link| !matches!(link, Link::Stalled | Link::Swallowing);
    let is_cut = link.wait_for(passes).await.is_ok_and(|link| *link == Link::Cut);
    if is_cut {
        return Ok(());
    }
    let mut to = TcpStream::connect(at(member_port)).await?;
    to.set_nodelay(true)?;
    to.write_all(&hello).await?;
    let ((from_reader, from_writer), (to_reader, to_writer)) = (from.into_split(), to.into_split());
    tokio::select! {
        // The side that was called says one thing, and then nothing but that it is gone.
        () = pump(from_reader, to_writer, link.clone(), wire) => {}
        () = pump(to_reader, from_writer, link.clone(), back) => {}
        () = cut(link) => {}
    }
    Ok(())
}

async fn cut(mut link: watch::Receiver<Link>) {
    if link.wait_for(|link| *link == Link::Cut).await.is_err() {
        // Nobody can change it any more.
        std::future::pending::<()>().await;
    }
}

/// The first frame, with all that came with it; or what came, when it is none.
async fn read_hello(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut hello = Vec::new();
    let mut decoder = FrameDecoder::new();
    loop {
        let before = hello.len();
        if stream.read_buf(&mut hello).await? == 0 {
            return if hello.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(hello) };
        }
        decoder.push(&hello[before..]);
        match decoder.next_frame() {
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return Ok(hello),
        }
    }
}

/// Which member says hello: it names the proxy before it as its own address.
fn sender(hello: &[u8], proxy_ports: &[u16]) -> Option<usize> {
    let mut decoder = FrameDecoder::new();
    decoder.push(hello);
    let Ok(Frame::Handshake(handshake)) = decode_frame(decoder.next_frame().ok()??) else { return None };
    let is_own = |port: &u16| handshake.peer_urls.iter().any(|url| url.ends_with(&format!(":{port}")));
    proxy_ports.iter().position(is_own)
}

/// What is on the way, and when it is due.
type Due = (Instant, Vec<u8>);

/// Carries bytes from one side to the other until one of them is gone, as the link has it. Also that one is gone is
/// heard only over a link that carries.
async fn pump(reader: OwnedReadHalf, writer: OwnedWriteHalf, link: watch::Receiver<Link>, wire: Arc<Wire>) {
    let (queue, on_the_way) = mpsc::channel(MAX_CHUNKS);
    tokio::join!(receive(reader, queue, link.clone(), &wire), deliver(writer, on_the_way, link));
}

async fn receive(
    mut reader: OwnedReadHalf,
    queue: mpsc::Sender<Due>,
    mut link: watch::Receiver<Link>,
    wire: &Wire,
) {
    let mut has_lost = false;
    loop {
        let current = *link.borrow_and_update();
        let is_narrow = matches!(current, Link::Narrow { .. });
        let mut chunk = Vec::with_capacity(if is_narrow { NARROW_CHUNK_BYTES } else { CHUNK_BYTES });
        if has_lost && current != Link::Swallowing {
            return;
        }
        let read = tokio::select! {
            read = reader.read_buf(&mut chunk) => read,
            changed = link.changed(), if has_lost => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let is_over = !read.is_ok_and(|count| count > 0);
        wire.carried_bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        let now = *link.borrow();
        let delay = match now {
            Link::Open | Link::Cut | Link::Stalled => Duration::ZERO,
            Link::Slow(delay) => delay,
            Link::Narrow { bytes_per_s } => {
                // What comes behind waits where it was sent.
                tokio::time::sleep_until(wire.take(chunk.len(), bytes_per_s)).await;
                Duration::ZERO
            }
            Link::Swallowing => {
                has_lost = true;
                if is_over {
                    // Nobody hears of it for now.
                    break;
                }
                continue;
            }
        };
        if is_over || queue.send((Instant::now() + delay, chunk)).await.is_err() {
            return;
        }
    }
    // Not until it is no longer swallowing: the queue's end is what the other side hears.
    let _ = link.wait_for(|link| *link != Link::Swallowing).await;
}

async fn deliver(
    mut writer: OwnedWriteHalf,
    mut on_the_way: mpsc::Receiver<Due>,
    mut link: watch::Receiver<Link>,
) {
    while let Some((due, chunk)) = on_the_way.recv().await {
        tokio::time::sleep_until(due).await;
        // Nobody can change a link whose network is gone.
        let _ = link.wait_for(|link| *link != Link::Stalled).await;
        if writer.write_all(&chunk).await.is_err() {
            return;
        }
    }
    let _ = link.wait_for(|link| *link != Link::Stalled).await;
}

#[cfg(test)]
mod tests;

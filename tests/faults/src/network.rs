//! The network between the members: a proxy before each of them, which is all that the others know of it.
//!
//! A member speaks only on connections that it opened itself, and says first who it is and where it is reached
//! (docs/protocol.md, "Connections"). So the proxy knows whose connection it has, and can treat what n1 says to n2
//! unlike what n2 says to n1: a link is one direction between two members.
//!
//! Left out: reordering and loss within a connection, which TCP hides from both sides as well.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tenure_api::peer::{Frame, FrameDecoder, decode_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::address::at;

/// How much is read at a time.
const CHUNK_BYTES: usize = 64 << 10;
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
}

/// All links.
pub(crate) struct Network {
    /// `links[from][to]`.
    links: Arc<Vec<Vec<watch::Sender<Link>>>>,
    /// End with this.
    _proxies: JoinSet<()>,
}

impl Network {
    /// Starts a proxy for each member: it listens at the first port and leads to the second.
    pub(crate) async fn start(ports: &[(u16, u16)]) -> io::Result<Network> {
        let link = || watch::channel(Link::Open).0;
        let row = || (0..ports.len()).map(|_| link()).collect();
        let links: Arc<Vec<Vec<_>>> = Arc::new((0..ports.len()).map(|_| row()).collect());
        let proxy_ports: Arc<Vec<u16>> = Arc::new(ports.iter().map(|&(proxy, _)| proxy).collect());
        let mut proxies = JoinSet::new();
        for (to, &(proxy_port, member_port)) in ports.iter().enumerate() {
            let listener = TcpListener::bind(at(proxy_port)).await?;
            let (links, proxy_ports) = (links.clone(), proxy_ports.clone());
            proxies.spawn(accept(listener, member_port, move |from: &[u8]| {
                let from = sender(from, &proxy_ports)?;
                Some(links[from][to].subscribe())
            }));
        }
        Ok(Network { links, _proxies: proxies })
    }

    /// From now on this becomes of what `from` says to `to`.
    pub(crate) fn set(&self, from: usize, to: usize, link: Link) {
        self.links[from][to].send_replace(link);
    }
}

async fn accept(
    listener: TcpListener,
    member_port: u16,
    link_of: impl Fn(&[u8]) -> Option<watch::Receiver<Link>> + Clone + Send + Sync + 'static,
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
    link_of: impl Fn(&[u8]) -> Option<watch::Receiver<Link>>,
) -> io::Result<()> {
    from.set_nodelay(true)?;
    let hello = tokio::time::timeout(PATIENCE, read_hello(&mut from)).await??;
    // Who is no member is not held back: garbage is to arrive, and who joins is not known yet.
    let mut link = link_of(&hello).unwrap_or_else(|| watch::channel(Link::Open).1);
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
        () = pump(from_reader, to_writer, link.clone()) => {}
        () = pump(to_reader, from_writer, link.clone()) => {}
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
async fn pump(reader: OwnedReadHalf, writer: OwnedWriteHalf, link: watch::Receiver<Link>) {
    let (queue, on_the_way) = mpsc::channel(MAX_CHUNKS);
    tokio::join!(receive(reader, queue, link.clone()), deliver(writer, on_the_way, link));
}

async fn receive(mut reader: OwnedReadHalf, queue: mpsc::Sender<Due>, mut link: watch::Receiver<Link>) {
    let mut has_lost = false;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let current = *link.borrow_and_update();
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
        let delay = match *link.borrow() {
            Link::Open | Link::Cut | Link::Stalled => Duration::ZERO,
            Link::Slow(delay) => delay,
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

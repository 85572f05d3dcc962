//! Links, with a handshake as members say it, and sockets in place of members.

use bytes::BytesMut;
use tenure_api::peer::{Handshake, Lane, PROTOCOL_VERSION, Standing, encode_handshake};
use tenure_raft::NodeId;

use super::*;

/// Two members that listen, and the network between them.
struct Pair {
    network: Network,
    listener: TcpListener,
    proxy_ports: [u16; 2],
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind(at(0)).await.expect("a port");
    listener.local_addr().expect("an address").port()
}

impl Pair {
    async fn start() -> Pair {
        let listener = TcpListener::bind(at(0)).await.expect("a port");
        let member_port = listener.local_addr().expect("an address").port();
        let proxy_ports = [free_port().await, free_port().await];
        let ports = [(proxy_ports[0], member_port), (proxy_ports[1], member_port)];
        let network = Network::start(&ports).expect("a network");
        Pair { network, listener, proxy_ports }
    }

    /// The first member connects to the second: both ends, past the handshake.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        let hello = self.hello();
        let mut from = TcpStream::connect(at(self.proxy_ports[1])).await.expect("a proxy");
        from.write_all(&hello).await.expect("it listens");
        let (mut to, _) = self.listener.accept().await.expect("a connection");
        let mut heard = vec![0; hello.len()];
        to.read_exact(&mut heard).await.expect("the handshake");
        assert_eq!(heard, hello);
        (from, to)
    }

    fn hello(&self) -> Vec<u8> {
        let node = |id: u64| NodeId::new(id).expect("not zero");
        let handshake = Handshake {
            protocol_version: PROTOCOL_VERSION,
            cluster_id: 1,
            from: node(1),
            to: node(2),
            directory_id: 3,
            lane: Lane::Bulk,
            peer_urls: vec![crate::address::url(self.proxy_ports[0])],
            standing: Standing::default(),
        };
        let mut out = BytesMut::new();
        encode_handshake(&handshake, &mut out);
        out.to_vec()
    }
}

async fn arrives(to: &mut TcpStream, expected: &[u8]) {
    let mut found = vec![0; expected.len()];
    to.read_exact(&mut found).await.expect("it arrives");
    assert_eq!(found, expected);
}

async fn nothing_arrives(to: &mut TcpStream) {
    let mut byte = [0];
    let read = tokio::time::timeout(Duration::from_millis(200), to.read(&mut byte)).await;
    assert!(read.is_err(), "{read:?}");
}

async fn is_closed(to: &mut TcpStream) {
    let mut byte = [0];
    let read = tokio::time::timeout(PATIENCE, to.read(&mut byte)).await.expect("it is closed");
    assert!(!read.is_ok_and(|count| count > 0));
}

#[tokio::test]
async fn an_open_link_carries_both_ways() {
    let pair = Pair::start().await;
    let (mut from, mut to) = pair.connect().await;
    from.write_all(b"there").await.expect("open");
    arrives(&mut to, b"there").await;
    to.write_all(b"back").await.expect("open");
    arrives(&mut from, b"back").await;
    drop(from);
    is_closed(&mut to).await;
}

#[tokio::test]
async fn a_stalled_link_delivers_late_and_only_its_own_direction_stalls() {
    let pair = Pair::start().await;
    let (mut from, mut to) = pair.connect().await;
    pair.network.set(1, 0, Link::Stalled);
    from.write_all(b"other way").await.expect("open");
    arrives(&mut to, b"other way").await;
    pair.network.set(0, 1, Link::Stalled);
    from.write_all(b"late").await.expect("it is taken");
    drop(from);
    nothing_arrives(&mut to).await;
    pair.network.set(0, 1, Link::Open);
    arrives(&mut to, b"late").await;
    is_closed(&mut to).await;
}

#[tokio::test]
async fn a_swallowing_link_loses_and_closes_when_it_is_open_again() {
    let pair = Pair::start().await;
    let (mut from, mut to) = pair.connect().await;
    pair.network.set(0, 1, Link::Swallowing);
    from.write_all(b"lost").await.expect("it is taken");
    nothing_arrives(&mut to).await;
    pair.network.set(0, 1, Link::Open);
    is_closed(&mut to).await;
    is_closed(&mut from).await;
}

#[tokio::test]
async fn a_cut_link_closes_what_is_and_what_comes() {
    let pair = Pair::start().await;
    let (mut from, mut to) = pair.connect().await;
    pair.network.set(0, 1, Link::Cut);
    is_closed(&mut from).await;
    is_closed(&mut to).await;
    let mut again = TcpStream::connect(at(pair.proxy_ports[1])).await.expect("a proxy");
    again.write_all(&pair.hello()).await.expect("it listens");
    is_closed(&mut again).await;
    pair.network.set(0, 1, Link::Open);
    pair.connect().await;
}

#[tokio::test]
async fn a_slow_link_takes_its_time() {
    const DELAY: Duration = Duration::from_millis(300);
    let pair = Pair::start().await;
    let (mut from, mut to) = pair.connect().await;
    pair.network.set(0, 1, Link::Slow(DELAY));
    let sent = Instant::now();
    from.write_all(b"slow").await.expect("open");
    arrives(&mut to, b"slow").await;
    assert!(sent.elapsed() >= DELAY);
}

#[tokio::test]
async fn a_narrow_link_carries_at_its_rate_and_counts() {
    const BYTES: usize = 300_000;
    let pair = Pair::start().await;
    pair.network.set(0, 1, Link::Narrow { bytes_per_s: 1_000_000 });
    let (mut from, mut to) = pair.connect().await;
    let before = pair.network.carried_bytes(0, 1);
    let started = Instant::now();
    let bytes = vec![7; BYTES];
    let send = async { from.write_all(&bytes).await.expect("it listens") };
    tokio::join!(send, arrives(&mut to, &bytes));
    assert!(started.elapsed() >= Duration::from_millis(270), "{:?}", started.elapsed());
    assert_eq!(pair.network.carried_bytes(0, 1) - before, BYTES as u64);
}

//! How many files and sockets this process may have open, and who may use them.
//!
//! A member that cannot open a segment of its log has to stop, so clients and strangers must not be able to take the
//! last descriptor: each use has its share of the limit, and what is above it waits outside, in the backlog.

use std::io;
use std::net::SocketAddr;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket};

/// For checkpoints, the directory, listeners, the runtime, standard streams, name lookups.
const OWN: u64 = 64;
/// For the segments of the log, each of which is open as long as it is needed: 256 GiB of it.
const MOST_SEGMENTS: u64 = 4096;
/// With fewer than this there is no room for clients beside all else.
const LEAST: u64 = 192;
/// As many as members ever need, twice over: two lanes of everybody to everybody.
const MOST_PEERS: u64 = 256;
/// How many may be open at the peer port whose other side has not said who it is.
const MOST_STRANGERS: u64 = 128;
/// How many connections to the others there may be.
const MOST_OUTGOING: u64 = 128;
/// How many more connections the system may hold ready while none can be taken.
const BACKLOG: u32 = 4096;
/// Where there is no limit, so many are enough.
const ENOUGH: u64 = 1 << 20;

/// The limit leaves nothing to work with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "this process may open {limit} files and sockets, and a member needs {LEAST} at least: raise the limit \
     (`ulimit -n`, LimitNOFILE= in a unit of systemd)"
)]
pub struct TooFewDescriptors {
    limit: u64,
}

/// The shares of the limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Descriptors {
    /// Connections of clients.
    pub(crate) clients: usize,
    /// Connections that members have opened.
    pub(crate) peers: usize,
    /// Connections at the peer port whose other side has not said yet who it is.
    pub(crate) strangers: usize,
}

impl Descriptors {
    /// Raises the limit as far as this process may, and shares it out.
    pub(crate) fn raise() -> Result<Descriptors, TooFewDescriptors> {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let wanted = maximum.unwrap_or(ENOUGH);
        // Where it cannot be raised it stays what it was.
        if current.is_some_and(|current| current < wanted) {
            let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
        }
        let shares = Self::share(getrlimit(Resource::Nofile).current.unwrap_or(ENOUGH))?;
        tracing::debug!(?shares, "descriptors");
        Ok(shares)
    }

    fn share(limit: u64) -> Result<Descriptors, TooFewDescriptors> {
        if limit < LEAST {
            return Err(TooFewDescriptors { limit });
        }
        let peers = (limit / 8).min(MOST_PEERS);
        let strangers = (limit / 16).min(MOST_STRANGERS);
        let outgoing = (limit / 16).min(MOST_OUTGOING);
        let segments = (limit / 8).min(MOST_SEGMENTS);
        let clients = limit - OWN - segments - peers - strangers - outgoing;
        // What a semaphore can count.
        let clients = clients.min(ENOUGH);
        Ok(Descriptors { clients: clients as usize, peers: peers as usize, strangers: strangers as usize })
    }
}

/// Listens with room for those who have to wait.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A member that is started again does not wait until the connections of the one before are forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_leaves_room_for_all_uses_or_is_refused() {
        for limit in LEAST..5000 {
            let Descriptors { clients, peers, strangers } = Descriptors::share(limit).expect("enough");
            assert!(
                clients >= 48 && peers >= 24 && strangers >= 12,
                "{limit}: {clients} {peers} {strangers}"
            );
            assert!((clients + peers + strangers) as u64 + OWN + limit / 8 < limit);
        }
        let few = Descriptors::share(LEAST - 1).expect_err("too few");
        assert!(few.to_string().starts_with("this process may open 191 files and sockets"), "{few}");
        let many = Descriptors::share(u64::MAX).expect("enough");
        assert_eq!((many.clients, many.peers, many.strangers), (1 << 20, 256, 128));
    }

    #[test]
    fn the_limit_is_as_high_as_it_may_be() {
        Descriptors::raise().expect("the tests run with enough");
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert!(current == maximum || maximum.is_none(), "{current:?} of {maximum:?}");
    }
}

//! Where everything of a run listens: on a loopback address that no other run has, so that nobody takes a port while
//! its member is down.

use std::net::{Ipv4Addr, SocketAddrV4};

/// The address of this process.
pub(crate) fn own() -> Ipv4Addr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    // In 127.0.0.0/8, and not where others look for ports.
    Ipv4Addr::new(127, 128 | high, middle, low)
}

/// A port there.
pub(crate) fn at(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(own(), port)
}

/// What listens there.
pub(crate) fn url(port: u16) -> String {
    format!("http://{}", at(port))
}

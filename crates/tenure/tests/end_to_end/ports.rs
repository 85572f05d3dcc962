//! Ports that nobody uses.

use std::net::TcpListener;
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports that systems give to outgoing connections, which could take one between its choice here
/// and its use.
const FIRST_PORT: u16 = 20_000;
const PORT_COUNT: u16 = 12_000;

/// A number of ports in a row that are free and that no other test of this process gets.
pub(crate) fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Two runs at once begin at different places.
    let offset = (process::id() % u32::from(PORT_COUNT)) as u16;
    loop {
        let position = NEXT.fetch_add(count, Ordering::Relaxed);
        let first = FIRST_PORT + (offset + position) % (PORT_COUNT - count);
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if (first..first + count).all(is_free) {
            return first;
        }
    }
}

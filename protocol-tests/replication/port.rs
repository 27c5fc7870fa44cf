//! Ports for nodes that come back. `php-compat` and the benches use this file, too.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use socket2::{Domain, Socket, Type};

/// A port that nobody has, below those that the kernel gives to connections, so that a node finds
/// it free again when it comes back.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let ours = u16::try_from(u64::from(std::process::id()) * 7_919 % u64::from(COUNT)).unwrap();
    loop {
        let port = FIRST + (ours + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if is_free(port) {
            return port;
        }
    }
}

/// Whether a node could listen there.
///
/// Asked without listening: a program that another thread starts meanwhile begins with a copy of the
/// socket, and while a copy listens nobody else can.
pub(crate) fn is_free(port: u16) -> bool {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).is_ok()
}

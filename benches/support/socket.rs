//! A client's end of a connection, over TCP, TLS or UDP; after connecting it never waits.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// How long a server may take to accept and to shake hands.
const PATIENCE: Duration = Duration::from_secs(10);

/// Over what a client comes.
#[derive(Clone, Debug)]
pub(crate) enum Transport {
    Tcp,
    Udp,
    Tls(Arc<ClientConfig>),
}

/// One client's socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Udp(UdpSocket),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Socket {
    /// Connects, and shakes hands if there are hands to shake.
    pub(crate) fn connect(transport: &Transport, addr: SocketAddr) -> io::Result<Socket> {
        if matches!(transport, Transport::Udp) {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.connect(addr)?;
            socket.set_nonblocking(true)?;
            return Ok(Socket::Udp(socket));
        }
        let mut stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_nodelay(true)?;
        let Transport::Tls(config) = transport else {
            stream.set_nonblocking(true)?;
            return Ok(Socket::Tcp(stream));
        };
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let mut session =
            ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        stream.set_nonblocking(true)?;
        Ok(Socket::Tls(Box::new(StreamOwned::new(session, stream))))
    }

    /// What has come; `WouldBlock` if nothing has.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(into),
            Socket::Udp(socket) => socket.recv(into),
            Socket::Tls(stream) => stream.read(into),
        }
    }

    /// Sends what the socket takes; `WouldBlock` if it takes nothing.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Udp(socket) => socket.send(bytes),
            Socket::Tls(stream) => stream.write(bytes),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Udp(socket) => socket.as_fd(),
            Socket::Tls(stream) => stream.sock.as_fd(),
        }
    }
}

//! A client that speaks by datagrams.

use std::fs;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::client::PATIENCE;
use crate::server::Server;

/// Length of a heading in bytes.
pub(crate) const HEADING_LEN: usize = 8;

/// Longest datagram of an answer, its heading included.
pub(crate) const DATAGRAM_MAX: usize = 1400;

/// What stands before the payload of a datagram: `protocol.txt` calls it the frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heading {
    pub(crate) id: u16,
    pub(crate) sequence: u16,
    pub(crate) total: u16,
    pub(crate) reserved: u16,
}

impl Heading {
    /// A request's: the only datagram of its message.
    pub(crate) fn of(id: u16) -> Heading {
        Heading { id, sequence: 0, total: 1, reserved: 0 }
    }

    /// A datagram with this heading.
    pub(crate) fn around(self, payload: &[u8]) -> Vec<u8> {
        let numbers = [self.id, self.sequence, self.total, self.reserved];
        let mut datagram = numbers.map(u16::to_be_bytes).concat();
        datagram.extend_from_slice(payload);
        datagram
    }

    /// The heading of a datagram, and the payload behind it; `None` when it is too short.
    pub(crate) fn read(datagram: &[u8]) -> Option<(Heading, &[u8])> {
        let (heading, payload) = datagram.split_first_chunk::<HEADING_LEN>()?;
        let number = |at: usize| u16::from_be_bytes([heading[at], heading[at + 1]]);
        let heading =
            Heading { id: number(0), sequence: number(2), total: number(4), reserved: number(6) };
        Some((heading, payload))
    }
}

/// The port of the last UDP address that `server` was told to listen on.
pub(crate) fn udp_port(server: &Server) -> u16 {
    let ports = fs::read_to_string(server.file("port")).unwrap();
    let port = ports.lines().rev().find_map(|line| line.strip_prefix("UDP ")?.split_once(": "));
    let (_, port) = port.unwrap_or_else(|| panic!("no UDP port in {ports:?}"));
    port.trim().parse().unwrap()
}

/// A client that numbers its requests.
pub(crate) struct Caller {
    socket: UdpSocket,
    id: u16,
}

impl Caller {
    /// A client on this machine.
    pub(crate) fn of(server: &Server) -> Caller {
        Caller::between("127.0.0.1", ([127, 0, 0, 1], udp_port(server)).into())
    }

    /// A client with the address `own`, which hears only the address that it asks.
    pub(crate) fn between(own: &str, server: SocketAddr) -> Caller {
        let own = SocketAddr::new(own.parse().unwrap(), 0);
        let socket = UdpSocket::bind(own).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Caller { socket, id: 0 }
    }

    /// Bounds how long a datagram is waited for.
    pub(crate) fn set_patience(&self, patience: Duration) {
        self.socket.set_read_timeout(Some(patience)).unwrap();
    }

    /// Sends a datagram as it is.
    pub(crate) fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        self.socket.send(datagram)
    }

    /// Sends a request with the next number, which it returns.
    pub(crate) fn say(&mut self, payload: impl AsRef<[u8]>) -> u16 {
        self.id = self.id.wrapping_add(1);
        self.send(&Heading::of(self.id).around(payload.as_ref())).unwrap();
        self.id
    }

    /// Asks for the version and waits until that is answered; the datagrams that came before. They
    /// are all that will come: a sender is answered in order.
    pub(crate) fn hear_all(&mut self) -> Vec<Vec<u8>> {
        let id = self.say("version\r\n");
        let mut before = Vec::new();
        loop {
            let datagram = self.hear().unwrap_or_else(|| panic!("the version is not told"));
            match Heading::read(&datagram) {
                Some((heading, piece)) if heading.id == id && piece.starts_with(b"VERSION ") => {
                    return before;
                }
                _ => before.push(datagram),
            }
        }
    }

    /// The next datagram, unless none comes.
    pub(crate) fn hear(&self) -> Option<Vec<u8>> {
        let mut datagram = vec![0; 1 << 16];
        let len = self.socket.recv(&mut datagram).ok()?;
        datagram.truncate(len);
        Some(datagram)
    }

    /// The answer to a request, put together from its datagrams; what is wrong with it when it is
    /// none.
    pub(crate) fn ask(&mut self, payload: impl AsRef<[u8]>) -> Result<Vec<u8>, String> {
        let id = self.say(payload);
        let mut message = Vec::new();
        for sequence in 0.. {
            let datagram = self.hear().ok_or("no answer")?;
            let (heading, piece) = Heading::read(&datagram).ok_or("a runt")?;
            let expected = Heading { id, sequence, reserved: 0, ..heading };
            if heading != expected || datagram.len() > DATAGRAM_MAX {
                return Err(format!("{heading:?} where {expected:?} was due"));
            }
            message.extend_from_slice(piece);
            if sequence + 1 >= heading.total {
                break;
            }
        }
        Ok(message)
    }
}

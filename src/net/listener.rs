//! Listening sockets: TCP over IPv4 and IPv6, and unix sockets.
//!
//! Options that Linux hands down from a listener to what it accepts (no delay, keepalive) are set
//! here once, so that accepting a connection takes no extra system calls.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use super::tls::{ListenerTls, Tls};
use crate::command::Transport;
use crate::limits::UNIX_PATH_MAX;
use crate::settings::{BindingProtocol, Listen, ListenTls};

/// Balancers forget a silent connection after 900 s (IPVS); keepalive speaks well before.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(300);

/// What every connection of one listener has in common.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: Socket,
    /// What is known of it apart from the socket.
    pub about: Arc<About>,
}

/// A listener apart from its socket.
#[derive(Debug)]
pub struct About {
    /// As `stats conns` shows it: `tcp:ip:port`, `tcp6:[ip]:port`, the same with `udp`, or
    /// `unix:/path`.
    pub name: Arc<str>,
    /// Over what clients come.
    pub transport: Transport,
    /// The address with the port that the kernel chose; `None` for a unix socket.
    pub addr: Option<SocketAddr>,
    /// What it speaks.
    pub protocol: BindingProtocol,
    /// The TLS it is spoken in; `None` for in clear.
    pub(super) tls: Option<ListenerTls>,
    /// The descriptor's number.
    pub fd: RawFd,
}

impl Listener {
    /// The listener speaks TLS as `listen` says, unless that is in clear (`notls:`).
    #[must_use]
    pub fn secured(self, tls: &Arc<Tls>, listen: &Listen) -> Listener {
        let tls = (listen.tls != ListenTls::Off).then(|| ListenerTls::new(tls, listen.tls));
        let about = &self.about;
        let about = About { tls, name: Arc::clone(&about.name), ..**about };
        Listener { socket: self.socket, about: Arc::new(about) }
    }
}

/// Listening failed.
#[derive(Debug)]
pub enum ListenError {
    /// On a TCP address.
    Tcp(SocketAddr, io::Error),
    /// On a UDP address.
    Udp(SocketAddr, io::Error),
    /// On a unix socket.
    Unix(PathBuf, io::Error),
    /// The path does not fit a socket address.
    PathTooLong(PathBuf),
}

impl ListenError {
    /// Whether the machine does not know the address's family (no IPv6).
    #[must_use]
    pub fn lacks_address_family(&self) -> bool {
        let (ListenError::Tcp(_, error) | ListenError::Udp(_, error)) = self else {
            return false;
        };
        let number = error.raw_os_error().map(Errno::from_raw);
        matches!(number, Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL))
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenError::Tcp(addr, error) => {
                let (port, why) = (addr.port(), describe(error));
                write!(f, "failed to listen on TCP port {port}: {why} ({addr})")
            }
            ListenError::Udp(addr, error) => {
                let (port, why) = (addr.port(), describe(error));
                write!(f, "failed to listen on UDP port {port}: {why} ({addr})")
            }
            ListenError::Unix(path, error) => {
                let (path, why) = (path.display(), describe(error));
                write!(f, "failed to listen on UNIX socket: {path}: {why}")
            }
            ListenError::PathTooLong(path) => write!(
                f,
                "failed to listen on UNIX socket: {}: a socket's path has at most \
                 {UNIX_PATH_MAX} bytes, this one has {}",
                path.display(),
                path.as_os_str().len()
            ),
        }
    }
}

impl std::error::Error for ListenError {}

/// The system's words for an error, without the number that `io::Error` adds.
fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

/// Listens on one TCP address.
///
/// # Errors
/// The address is taken, not ours, or not allowed.
pub fn listen_tcp(listen: &Listen, backlog: u32) -> Result<Listener, ListenError> {
    let bound = || -> io::Result<(Socket, SocketAddr)> {
        let domain = Domain::for_address(listen.addr);
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), None)?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_IDLE))?;
        socket.bind(&listen.addr.into())?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        let addr = socket.local_addr()?.as_socket().unwrap_or(listen.addr);
        Ok((socket, addr))
    };
    let (socket, addr) = bound().map_err(|error| ListenError::Tcp(listen.addr, error))?;
    let about = About {
        name: tcp_name(addr).into(),
        transport: Transport::Tcp,
        addr: Some(addr),
        protocol: listen.protocol,
        tls: None,
        fd: socket.as_raw_fd(),
    };
    Ok(Listener { socket, about: Arc::new(about) })
}

/// Listens on a unix socket with the permission bits `mode`, in place of a socket file that an
/// earlier run may have left. Any other file in its place is an error.
///
/// Changes the process's umask for a moment: call before there are threads.
///
/// # Errors
/// The path is too long, taken by another file, or not allowed.
pub fn listen_unix(
    path: &Path,
    mode: u32,
    protocol: BindingProtocol,
    backlog: u32,
) -> Result<Listener, ListenError> {
    if path.as_os_str().as_bytes().len() > UNIX_PATH_MAX {
        return Err(ListenError::PathTooLong(path.to_owned()));
    }
    let bound = || -> io::Result<Socket> {
        if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
            fs::remove_file(path)?;
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        let address = SockAddr::unix(path)?;
        let before = umask(Mode::from_bits_truncate(!mode & 0o777));
        let bound = socket.bind(&address);
        umask(before);
        bound?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(socket)
    };
    let socket = bound().map_err(|error| ListenError::Unix(path.to_owned(), error))?;
    let about = About {
        name: format!("unix:{}", path.display()).into(),
        transport: Transport::Unix,
        addr: None,
        protocol,
        tls: None,
        fd: socket.as_raw_fd(),
    };
    Ok(Listener { socket, about: Arc::new(about) })
}

/// `tcp:ip:port` or `tcp6:[ip]:port`.
pub(super) fn tcp_name(addr: SocketAddr) -> String {
    match addr {
        SocketAddr::V4(addr) => format!("tcp:{addr}"),
        SocketAddr::V6(addr) => format!("tcp6:[{}]:{}", addr.ip(), addr.port()),
    }
}

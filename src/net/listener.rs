//! Listening sockets: TCP over IPv4 and IPv6, and unix sockets.
//!
//! Options that Linux hands down from a listener to what it accepts (no delay, keepalive) are set
//! here once, so that accepting a connection takes no extra system calls.

use std::fmt;
use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr};
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
    backlog: i32,
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
    /// Clients that connect are accepted by the kernel from here on.
    ///
    /// # Errors
    /// Somebody else has begun to listen on the address since we took it.
    pub fn open(&self) -> Result<(), ListenError> {
        let named = |error| match self.about.addr {
            Some(addr) => ListenError::Tcp(addr, error),
            None => ListenError::Unix(self.about.path(), error),
        };
        self.socket.listen(self.backlog).map_err(named)
    }

    /// Clients that connect over TCP are refused from here on, until it is opened again.
    pub(super) fn close(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Both)?;
        // The kernel takes back a port that it had chosen itself; one that we named stays ours.
        match self.about.addr.map(|addr| self.socket.bind(&addr.into())) {
            Some(Err(error)) if error.raw_os_error() != Some(Errno::EINVAL as i32) => Err(error),
            _ => Ok(()),
        }
    }

    /// The listener speaks TLS as `listen` says, unless that is in clear (`notls:`).
    #[must_use]
    pub fn secured(self, tls: &Arc<Tls>, listen: &Listen) -> Listener {
        let tls = (listen.tls != ListenTls::Off).then(|| ListenerTls::new(tls, listen.tls));
        let about = &self.about;
        let about = About { tls, name: Arc::clone(&about.name), ..**about };
        Listener { about: Arc::new(about), ..self }
    }
}

impl About {
    /// The path of a unix socket.
    fn path(&self) -> PathBuf {
        PathBuf::from(self.name.trim_start_matches("unix:"))
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

/// A socket bound to `addr`, on which nobody listens yet.
pub(super) fn bind_tcp(addr: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(addr);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), None)?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// Takes one TCP address: clients that connect are refused until [`Listener::open`].
///
/// # Errors
/// The address is taken, not ours, or not allowed.
pub fn listen_tcp(listen: &Listen, backlog: u32) -> Result<Listener, ListenError> {
    let bound = || -> io::Result<(Socket, SocketAddr)> {
        let socket = bind_tcp(listen.addr)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_IDLE))?;
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
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    Ok(Listener { socket, backlog, about: Arc::new(about) })
}

/// Takes a unix socket with the permission bits `mode` (clients are refused until
/// [`Listener::open`]), in place of a socket file that an
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
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    Ok(Listener { socket, backlog, about: Arc::new(about) })
}

/// `tcp:ip:port` or `tcp6:[ip]:port`.
pub(super) fn tcp_name(addr: SocketAddr) -> String {
    match addr {
        SocketAddr::V4(addr) => format!("tcp:{addr}"),
        SocketAddr::V6(addr) => format!("tcp6:[{}]:{}", addr.ip(), addr.port()),
    }
}

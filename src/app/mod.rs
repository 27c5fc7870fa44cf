//! Assembly: from settings to a running server, and back down.
//!
//! The order of a start: what can be refused without leaving a trace comes first (options, user,
//! passwords and certificates, limits), then the admin port, TCP and UDP addresses while we may still
//! bind privileged ports, then the user's rights, then what that user shall own (unix socket, port
//! file, pid file), and last the news that the server is ready. With peers nobody may connect before
//! we have what they have. With `-d` all of this happens in a child process while the parent waits for
//! the news, so that a failed start has an exit status.

mod daemon;
mod files;
mod logging;
mod process;
mod secrets;
mod serve;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use nix::unistd::{User, getpid};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::admin::{AdminListener, AdminThread, Heartbeat};
use crate::command::{Peers, Server, Transport};
use crate::config::{self, Refusal, Start, status};
use crate::credentials::Credentials;
use crate::limits::VERSION;
use crate::net::{
    About, DatagramSocket, ListenError, Listener, PeerLink, PeerListener, Tls, WorkerThread,
    listen_for_peers, listen_tcp, listen_udp, listen_unix, touch_memory_ahead,
};
use crate::replication::State;
use crate::settings::{Listen, Settings};
use logging::Verbosity;

/// Runs the program: the whole life of the process.
#[must_use]
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitCode {
    let ended = match config::load(args, env) {
        Ok(Start::Print(text)) => print(&text),
        Ok(Start::Check(settings)) => {
            named_by(&settings).and_then(|_| print("twincached: the configuration is valid\n"))
        }
        Ok(Start::Run(settings)) if settings.daemon && !daemon::is_child() => daemon::start_child()
            .map_err(|error| os_error("cannot start in the background", &error)),
        Ok(Start::Run(settings)) => start(*settings),
        Err(refusal) => Err(refusal),
    };
    ended.unwrap_or_else(|refusal| {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(io::stderr(), "{refusal}");
        ExitCode::from(refusal.status)
    })
}

fn print(text: &str) -> Result<ExitCode, Refusal> {
    // The reader of a pipe may have seen enough.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn os_error(what: &str, error: &dyn std::fmt::Display) -> Refusal {
    Refusal { message: format!("{what}: {error}"), status: status::OS_ERROR }
}

/// What the settings name and a start needs before it binds an address.
struct Named {
    user: Option<User>,
    credentials: Option<Credentials>,
    tls: Option<Arc<Tls>>,
}

fn named_by(settings: &Settings) -> Result<Named, Refusal> {
    Ok(Named {
        user: process::find_user(settings.user.as_deref())?,
        credentials: secrets::credentials(settings)?,
        tls: secrets::tls(settings)?,
    })
}

fn start(settings: Settings) -> Result<ExitCode, Refusal> {
    let verbosity = Verbosity::start(settings.verbosity);
    logging::report_panics();
    say_warnings(&settings);
    let Named { user, credentials, tls } = named_by(&settings)?;
    process::raise_limits(&settings)?;

    let admin = settings.admin_listen.map(AdminListener::bind).transpose();
    let admin = admin.map_err(|error| refuse_listener(&error))?;
    let introductions = secrets::introductions(&settings)?;
    let has_peers = settings.peering.enabled;
    // With peers nobody may connect before we have what they have.
    let open = |listener: Listener| match has_peers {
        true => Ok(listener),
        false => listener.open().map(|()| listener),
    };
    let mut listeners = listen_on(&settings.listen, |listen| {
        let listener = open(listen_tcp(listen, settings.listen_backlog)?)?;
        Ok(match &tls {
            Some(tls) => listener.secured(tls, listen),
            None => listener,
        })
    })?;
    let udp = listen_on(&settings.udp_listen, |listen| listen_udp(listen, settings.threads))?;
    let for_peers = peer_listeners(&settings)?;
    process::become_user(user.as_ref())?;
    if let Some(path) = &settings.unix_socket {
        let listener =
            listen_unix(path, settings.unix_mask, settings.protocol, settings.listen_backlog);
        listeners.push(listener.and_then(open).map_err(|error| refuse_listener(&error))?);
    }
    if settings.lock_memory {
        process::lock_memory();
    }

    let stop = CancellationToken::new();
    let (stop_requests, stop_requested) = mpsc::unbounded_channel();
    let mut server = match has_peers {
        true => {
            let peers =
                Peers::new(&settings.peering, process::usual_node(&settings.peering.listen));
            Server::with_peers(settings, peers)
        }
        false => Server::new(settings),
    };
    server.credentials = credentials;
    server.certificates = tls.map(|tls| secrets::certificates(tls, server.clock.now()));
    let server = Arc::new(server);
    touch_memory_ahead(&server).map_err(|error| os_error("cannot start a thread", &error))?;
    let tcp = listeners.iter().map(|listener| Arc::clone(&listener.about));
    let first_of_each = udp.iter().flat_map(|sockets| sockets.first());
    let addresses: Vec<Arc<About>> =
        tcp.chain(first_of_each.map(|socket| Arc::clone(&socket.about))).collect();
    let link = match &server.peers {
        Some(peers) => PeerLink::start(&server, peers, for_peers, introductions).map(Some),
        None => Ok(None),
    };
    let mut link = link.map_err(|error| os_error("cannot start the thread for peers", &error))?;
    let node = Node::of(link.as_mut());
    let workers = deal(udp, server.settings.threads)
        .into_iter()
        .enumerate()
        .map(|(index, datagrams)| {
            let (stop_requests, stop, state) =
                (stop_requests.clone(), stop.clone(), node.state.clone());
            WorkerThread::start(index, &server, datagrams, stop_requests, stop, state)
        })
        .collect::<io::Result<Vec<_>>>()
        .map_err(|error| os_error("cannot start a worker thread", &error))?;
    let rounds = Arc::default();
    let watched = heartbeats(&rounds, &workers, link.as_ref());
    let admin = admin.map(|listener| start_admin(listener, &server, watched));
    let admin = admin.transpose()?;
    let doors = serve::Doors { listeners, addresses: &addresses, node };
    let peers = link.as_ref().map(|link| Arc::clone(&link.rounds));
    let main = serve::MainThread { verbosity, rounds, peers };
    let ran = serve::run(&server, doors, &workers, main, stop_requested);
    stop.cancel();
    workers.into_iter().for_each(WorkerThread::join);
    if let Some(link) = link {
        link.drain();
    }
    // Last, so that it can say until the end that the server drains.
    admin.into_iter().for_each(AdminThread::stop);
    ran.map(|()| ExitCode::SUCCESS)
}

/// Whether this node may serve clients, and must not run at all.
struct Node {
    state: watch::Receiver<State>,
    refusals: mpsc::UnboundedReceiver<String>,
}

impl Node {
    /// The node that `link` makes of us; without peers it is ready and stays so.
    fn of(link: Option<&mut PeerLink>) -> Node {
        let silent = mpsc::unbounded_channel().1;
        match link {
            Some(link) => Node {
                state: link.state.clone(),
                refusals: std::mem::replace(&mut link.refusals, silent),
            },
            None => Node { state: watch::channel(State::Ready).1, refusals: silent },
        }
    }
}

fn peer_listeners(settings: &Settings) -> Result<Vec<PeerListener>, Refusal> {
    let addresses = settings.peering.listen.iter().filter(|_| settings.peering.enabled);
    let listeners = addresses.map(|addr| listen_for_peers(*addr)).collect::<Result<Vec<_>, _>>();
    listeners.map_err(|error| refuse_listener(&error))
}

/// The threads without which nobody is served.
fn heartbeats(
    main: &Arc<AtomicU32>,
    workers: &[WorkerThread],
    link: Option<&PeerLink>,
) -> Vec<Heartbeat> {
    let main = Heartbeat { name: "the main thread".to_owned(), rounds: Arc::clone(main) };
    let workers = workers.iter().enumerate().map(|(index, worker)| Heartbeat {
        name: format!("worker-{index}"),
        rounds: worker.rounds(),
    });
    let link = link.map(|link| Heartbeat {
        name: "the thread for peers".to_owned(),
        rounds: Arc::clone(&link.rounds),
    });
    std::iter::once(main).chain(workers).chain(link).collect()
}

/// Opens the admin port, which watches over these threads.
fn start_admin(
    listener: AdminListener,
    server: &Arc<Server>,
    heartbeats: Vec<Heartbeat>,
) -> Result<AdminThread, Refusal> {
    let addr = listener.addr;
    let thread = AdminThread::start(listener, server, heartbeats)
        .map_err(|error| os_error("cannot start the admin thread", &error))?;
    tracing::info!("the admin port is http://{addr}/");
    Ok(thread)
}

fn say_warnings(settings: &Settings) {
    for warning in
        settings.warnings.iter().chain(&settings.exposed()).chain(&settings.admin_exposed())
    {
        tracing::warn!("{warning}");
    }
    if settings.user.is_none() && nix::unistd::geteuid().is_root() {
        tracing::warn!("running as root: -u names the user to become");
    }
    if !settings.without_effect.is_empty() {
        tracing::info!("accepted without effect: {}", settings.without_effect.join(", "));
    }
}

/// Listens on every address. One that belongs to a name for several may lack its address family,
/// as long as another works.
fn listen_on<L>(
    addresses: &[Listen],
    open: impl Fn(&Listen) -> Result<L, ListenError>,
) -> Result<Vec<L>, Refusal> {
    let mut listeners = Vec::new();
    let mut skipped = None;
    for listen in addresses {
        match open(listen) {
            Ok(listener) => listeners.push(listener),
            Err(error) if listen.optional && error.lacks_address_family() => skipped = Some(error),
            Err(error) => return Err(refuse_listener(&error)),
        }
    }
    match skipped {
        Some(error) if listeners.is_empty() => Err(refuse_listener(&error)),
        Some(error) => {
            tracing::info!("{error}");
            Ok(listeners)
        }
        None => Ok(listeners),
    }
}

/// One socket of each address to each worker.
fn deal(sockets: Vec<Vec<DatagramSocket>>, workers: usize) -> Vec<Vec<DatagramSocket>> {
    let mut hands: Vec<Vec<DatagramSocket>> = (0..workers).map(|_| Vec::new()).collect();
    for of_one_address in sockets {
        for (hand, socket) in hands.iter_mut().zip(of_one_address) {
            hand.push(socket);
        }
    }
    hands
}

fn refuse_listener(error: &dyn std::error::Error) -> Refusal {
    Refusal { message: error.to_string(), status: status::OS_ERROR }
}

/// The lines that greet whoever starts the server by hand.
fn banner(settings: &Settings, addresses: &[Arc<About>], is_ready: bool) -> String {
    let addresses: Vec<String> = addresses
        .iter()
        .map(|about| match (about.transport, about.addr) {
            (Transport::Tcp, Some(addr)) => addr.to_string(),
            _ => about.name.to_string(),
        })
        .collect();
    let begins = match is_ready {
        true => "listens on",
        false => "loads what its peers have, and then listens on",
    };
    let replication: Vec<String> =
        settings.peering.listen.iter().map(ToString::to_string).collect();
    let peers = match settings.peering.enabled {
        true => format!("Peers find it on {} (--replication-port)\n", replication.join(", ")),
        false => String::new(),
    };
    format!(
        "twincached {VERSION} {begins} {}\n\
         It uses up to {} MiB of memory for items (-m), and serves up to {} connections (-c)\n\
         {peers}Stop it with Ctrl-C or: kill {}\n",
        addresses.join(", "),
        settings.memory_limit >> 20,
        settings.conn_limit,
        getpid(),
    )
}

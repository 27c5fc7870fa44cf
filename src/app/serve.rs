//! The main thread while the server runs: accepts connections, sweeps expired items, hears
//! signals, and tells the service manager how things are.

use std::io::{self, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::files::{PidFile, write_ports};
use super::logging::Verbosity;
use super::{Node, banner, daemon, os_error, refuse_listener, secrets};
use crate::command::{Server, Stop};
use crate::config::{Refusal, status};
use crate::net::{About, Acceptor, Introductions, Listener, WorkerThread, sweep_expired};
use crate::readiness::Phase;
use crate::replication::State;

/// How often the main thread looks after what nobody wakes it for.
const TICK: Duration = Duration::from_secs(1);

/// How much longer the service manager is asked to wait for us, in microseconds, each time.
const PATIENCE_US: u32 = 30_000_000;

/// What operators read when the thread for peers has ended by itself.
const NOBODY_REPLICATES: &str = "the thread for peers has ended, which is a bug in twincached: who \
     tells its peers nothing must not serve";

/// Where clients come in, and when they may.
pub(super) struct Doors<'s> {
    pub(super) listeners: Vec<Listener>,
    pub(super) addresses: &'s [Arc<About>],
    pub(super) node: Node,
}

/// What belongs to the main thread.
pub(super) struct MainThread {
    pub(super) verbosity: Verbosity,
    /// Grows as long as the thread gets round to its tasks.
    pub(super) rounds: Arc<AtomicU32>,
    /// Those of the thread for peers, where there is one.
    pub(super) peers: Option<Arc<AtomicU32>>,
    /// What that demands of peers.
    pub(super) introductions: Introductions,
}

/// Serves until somebody asks it to stop. When this returns, nothing is accepted any more.
pub(super) fn run(
    server: &Arc<Server>,
    doors: Doors<'_>,
    workers: &[WorkerThread],
    main: MainThread,
    stop_requested: UnboundedReceiver<Stop>,
) -> Result<(), Refusal> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(|error| os_error("cannot start the main thread", &error))?;
    runtime.block_on(async {
        let signals = Signals::listen().map_err(|error| os_error("cannot hear signals", &error))?;
        let mut tasks = JoinSet::new();
        tasks.spawn_local(sweep_forever(Arc::clone(server)));
        tasks.spawn_local(count_rounds(main.rounds));
        let Doors { listeners, addresses, node: Node { state, refusals } } = doors;
        let is_ready = *state.borrow() == State::Ready;
        let told = Told::about(server, addresses, is_ready)?;
        let mut care = Care {
            server,
            verbosity: main.verbosity,
            introductions: main.introductions,
            watchdog: Watchdog::over(workers.iter().map(WorkerThread::rounds).chain(main.peers)),
            waiting: Some(Waiting { acceptor: Rc::new(Acceptor::new(server, workers)), listeners }),
            addresses,
            state,
            tasks,
        };
        if is_ready {
            care.open()?;
        } else {
            server.readiness.set(Phase::Loading);
        }
        let stopped = care.until_stopped(signals, stop_requested, refusals).await;
        server.readiness.set(Phase::Draining);
        notify(&[NotifyState::Stopping]);
        drop(told);
        stopped
    })
}

async fn sweep_forever(server: Arc<Server>) -> io::Result<()> {
    sweep_expired(server).await;
    Ok(())
}

async fn count_rounds(rounds: Arc<AtomicU32>) -> io::Result<()> {
    loop {
        rounds.fetch_add(1, Ordering::Relaxed);
        sleep(TICK).await;
    }
}

/// The world has been told that we run; with this dropped, the traces of that are removed.
struct Told {
    _pid_file: Option<PidFile>,
}

impl Told {
    /// Tells whoever started us; of the ports only when clients are welcome at them.
    fn about(server: &Server, addresses: &[Arc<About>], is_ready: bool) -> Result<Told, Refusal> {
        let settings = &server.settings;
        if is_ready {
            tell_ports(server, addresses)?;
        }
        let pid_file = settings.pidfile.as_ref();
        let pid_file = pid_file.and_then(|path| PidFile::write(path, settings.daemon));
        let banner = banner(settings, addresses, is_ready);
        if settings.daemon {
            daemon::leave_terminal(settings)
                .map_err(|error| os_error("cannot leave the terminal", &error))?;
        } else {
            // Who started us may not care to read it.
            let _ = io::stdout().write_all(banner.as_bytes());
        }
        if !is_ready {
            notify(&[NotifyState::Status(banner.lines().next().unwrap_or_default())]);
        }
        Ok(Told { _pid_file: pid_file })
    }
}

fn tell_ports(server: &Server, addresses: &[Arc<About>]) -> Result<(), Refusal> {
    let settings = &server.settings;
    let path = settings.port_file.as_ref().filter(|_| settings.unix_socket.is_none());
    let Some(path) = path else { return Ok(()) };
    let wrong = |error| os_error(&format!("Failed to open \"{}\"", path.display()), &error);
    write_ports(path, addresses).map_err(wrong)
}

/// The doors, until they are opened for the first time.
struct Waiting {
    acceptor: Rc<Acceptor>,
    listeners: Vec<Listener>,
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    graceful: Signal,
    reload: Signal,
}

impl Signals {
    fn listen() -> io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            graceful: signal(SignalKind::user_defined1())?,
            reload: signal(SignalKind::hangup())?,
        })
    }
}

/// What the main thread looks after.
struct Care<'s> {
    server: &'s Server,
    verbosity: Verbosity,
    introductions: Introductions,
    watchdog: Option<Watchdog>,
    waiting: Option<Waiting>,
    addresses: &'s [Arc<About>],
    state: watch::Receiver<State>,
    tasks: JoinSet<io::Result<()>>,
}

impl Care<'_> {
    async fn until_stopped(
        mut self,
        mut signals: Signals,
        mut stop_requested: UnboundedReceiver<Stop>,
        mut refusals: UnboundedReceiver<String>,
    ) -> Result<(), Refusal> {
        let mut ticker = interval(self.watchdog.as_ref().map_or(TICK, |dog| dog.pace.min(TICK)));
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = signals.interrupt.recv() => break say("Signal handled: Interrupt."),
                _ = signals.terminate.recv() => break say("Signal handled: Terminated."),
                _ = signals.graceful.recv() => break say("Gracefully stopping"),
                Some(stop) = stop_requested.recv() => match stop {
                    Stop::Now => break say("Signal handled: Interrupt."),
                    Stop::Graceful => break say("Gracefully stopping"),
                },
                _ = signals.reload.recv() => secrets::reload(self.server, &self.introductions),
                _ = ticker.tick() => self.tick(),
                told = self.state.changed(), if self.server.peers.is_some() => match told {
                    Ok(()) => self.follow()?,
                    Err(_) => return Err(os_error("cannot go on", &NOBODY_REPLICATES)),
                },
                Some(why) = refusals.recv() => {
                    return Err(Refusal { message: why, status: status::BAD_VALUE });
                }
                Some(ended) = self.tasks.join_next() => {
                    let why = match ended {
                        Ok(Err(error)) => error.to_string(),
                        Ok(Ok(())) | Err(_) => "it ended".to_owned(),
                    };
                    return Err(os_error("a task of the main thread failed", &why));
                }
            }
        }
        Ok(())
    }

    /// The node's state has changed.
    fn follow(&mut self) -> Result<(), Refusal> {
        let state = *self.state.borrow_and_update();
        match state {
            State::Ready => {
                let is_first = self.waiting.is_some();
                self.open()?;
                if is_first { tell_ports(self.server, self.addresses) } else { Ok(()) }
            }
            State::Loading => {
                self.server.readiness.set(Phase::Loading);
                notify(&[NotifyState::Status("asks its peers for what it lacks")]);
                Ok(())
            }
            State::Draining | State::Drained => Ok(()),
        }
    }

    /// Clients are welcome.
    fn open(&mut self) -> Result<(), Refusal> {
        if let Some(Waiting { acceptor, listeners }) = self.waiting.take() {
            for listener in listeners {
                listener.open().map_err(|error| refuse_listener(&error))?;
                let (acceptor, state) = (Rc::clone(&acceptor), self.state.clone());
                self.tasks.spawn_local(acceptor.accept_from(listener, state));
            }
        }
        self.server.readiness.set(Phase::Ready);
        let banner = banner(&self.server.settings, self.addresses, true);
        let status = banner.lines().next().unwrap_or_default();
        notify(&[NotifyState::Ready, NotifyState::Status(status)]);
        Ok(())
    }

    fn tick(&mut self) {
        if self.waiting.is_some() {
            notify(&[NotifyState::ExtendTimeoutUsec(PATIENCE_US)]);
        }
        self.verbosity.follow(self.server.verbosity.load(Ordering::Relaxed));
        if let Some(watchdog) = &mut self.watchdog
            && watchdog.look()
        {
            notify(&[NotifyState::Watchdog]);
        }
    }
}

/// Whether the service manager may be reassured: as long as every thread gets round to its work.
struct Watchdog {
    pace: Duration,
    watched: Vec<(Arc<AtomicU32>, u32)>,
}

impl Watchdog {
    /// If the service manager wants to hear of them.
    fn over(threads: impl Iterator<Item = Arc<AtomicU32>>) -> Option<Watchdog> {
        let pace = sd_notify::watchdog_enabled()? / 4;
        Some(Watchdog { pace, watched: threads.map(|rounds| (rounds, 0)).collect() })
    }

    /// Whether all have moved since the last time that all had.
    fn look(&mut self) -> bool {
        let now = |rounds: &AtomicU32| rounds.load(Ordering::Relaxed);
        let all_moved = self.watched.iter().all(|(rounds, before)| now(rounds) != *before);
        if all_moved {
            self.watched.iter_mut().for_each(|(rounds, before)| *before = now(rounds));
        }
        all_moved
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager does not listen");
    }
}

fn say(line: &str) {
    // Standard error may be closed.
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as std_mpsc;
    use std::thread;

    use tokio::sync::mpsc;

    use super::*;
    use crate::command::Peers;
    use crate::settings::Settings;

    #[test]
    fn a_thread_for_peers_that_ends_by_itself_ends_the_process_with_a_line_about_it() {
        let mut settings = Settings::default();
        settings.peering.enabled = true;
        let peers = Peers::new(&settings.peering, 7);
        let server = Arc::new(Server::with_peers(settings, peers));
        let (ended, end) = std_mpsc::channel();
        thread::spawn(move || {
            let (tell, state) = watch::channel(State::Ready);
            drop(tell);
            let (_refuse, refusals) = mpsc::unbounded_channel();
            let (_stop, stop_requested) = mpsc::unbounded_channel();
            let doors = Doors { listeners: vec![], addresses: &[], node: Node { state, refusals } };
            let verbosity = Verbosity::start(0);
            let main = MainThread {
                verbosity,
                rounds: Arc::default(),
                peers: None,
                introductions: Introductions::default(),
            };
            let ran = run(&server, doors, &[], main, stop_requested);
            ended.send(ran.map_err(|refusal| refusal.message)).unwrap();
        });
        let ran = end.recv_timeout(Duration::from_secs(20)).expect("it serves on");
        assert!(ran.unwrap_err().contains("the thread for peers has ended"));
    }

    #[test]
    fn the_service_manager_is_not_reassured_while_one_thread_stands_still() {
        let threads: [Arc<AtomicU32>; 2] = Default::default();
        let watched = threads.iter().map(|rounds| (Arc::clone(rounds), 0)).collect();
        let mut watchdog = Watchdog { pace: TICK, watched };
        let moves = |thread: usize| threads[thread].fetch_add(1, Ordering::Relaxed);
        moves(0);
        moves(1);
        assert!(watchdog.look());
        moves(0);
        assert!(!watchdog.look());
        moves(1);
        assert!(watchdog.look());
    }
}

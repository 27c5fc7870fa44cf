//! A child process of a story: a server or PHP, with its output in a file.
//!
//! It runs under setpriv(1), which ends it with the thread that started it, so that a harness that
//! is killed leaves nothing behind, and under timeout(1), which passes a signal on to PHP's workers
//! too. Not here: what is started, and when it is ready.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// The longest that any story may take, in seconds.
const LIFETIME: &str = "1200";

/// How long a process may take to get ready, or to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running child, stopped when dropped.
pub(crate) struct Process {
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts `command`, its standard output and error together in the file `output`.
    pub(crate) fn start(command: &Command, output: PathBuf) -> Process {
        let file = File::create(&output).unwrap();
        let mut wrapped = Command::new("setpriv");
        wrapped.args(["--pdeathsig", "TERM", "timeout", "--kill-after=10", LIFETIME]);
        wrapped.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(name, value),
                None => wrapped.env_remove(name),
            };
        }
        let child = wrapped
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .expect("setpriv(1) of util-linux is needed");
        Process { child, output }
    }

    /// What it has printed so far.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap()).into_owned()
    }

    /// Waits until `ready` finds what it looks for.
    ///
    /// # Panics
    /// When the process ends first, or is not ready in time; the message holds its output.
    pub(crate) fn wait_until<T>(&mut self, mut ready: impl FnMut(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = ready(&self.output()) {
                return found;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended with {status}:\n{}", self.name(), self.output());
            }
            assert!(Instant::now() < deadline, "{} not ready:\n{}", self.name(), self.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to stop, as an operator would, and returns how it ended.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM)
    }

    /// Sends it a signal that ends it, and returns how it ended.
    pub(crate) fn signal(&mut self, signal: Signal) -> ExitStatus {
        if let Some(status) = self.child.try_wait().unwrap() {
            return status;
        }
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
        self.child.wait().unwrap()
    }

    /// Presses Ctrl-C again and again until it has ended, and returns how. As a terminal does, this
    /// interrupts all that it has started, too.
    pub(crate) fn interrupt_until_it_ends(&mut self) -> ExitStatus {
        // timeout(1) is the leader of their process group.
        let group = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            killpg(group, Signal::SIGINT).unwrap();
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    fn name(&self) -> &str {
        self.output.file_name().and_then(|name| Path::new(name).to_str()).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

//! Where log events go: standard error, one line each. How many is the `-v` count, which the
//! `verbosity` command moves while the server runs.

use std::io::{self, IsTerminal};
use std::panic;

use tracing_subscriber::Registry;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

/// The handle by which the log level follows the verbosity.
#[derive(Debug)]
pub(super) struct Verbosity {
    count: u8,
    level: reload::Handle<LevelFilter, Registry>,
}

impl Verbosity {
    /// Begins logging, for a `-v` count.
    pub(super) fn start(count: u8) -> Verbosity {
        let (filter, level) = reload::Layer::new(level_of(count));
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            .with_target(false);
        // A second start in one process (tests) logs to where the first does.
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        Verbosity { count, level }
    }

    /// Takes on another `-v` count.
    pub(super) fn follow(&mut self, count: u8) {
        if count != self.count {
            self.count = count;
            // Fails only when the subscriber is gone, and with it all logging.
            let _ = self.level.reload(level_of(count));
        }
    }
}

fn level_of(count: u8) -> LevelFilter {
    match count {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

/// A panic is logged by its place in the source. Its message is left out: it may quote what a
/// client stored.
pub(super) fn report_panics() {
    panic::set_hook(Box::new(|panicked| {
        let place = panicked.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!("panicked at {place}: a bug in twincached, please report it");
    }));
}

//! From command line, environment and file to checked [`Settings`].
//!
//! Picture one list of options (`options`, with the `-o` list in `suboptions`) and three
//! readers of it: `cli`, `env` and `file`. A reader only says which option was given which
//! texts; what a text means, what is allowed and where it goes is in the list, once. The readings
//! are laid over the defaults, weakest first (file, environment, command line), every one of them
//! checked, and `check` then looks at the settings as a whole. Nothing here binds, forks or
//! looks up users: a refused start leaves no trace.

mod check;
mod cli;
mod env;
mod file;
mod listen;
mod options;
mod peers;
mod suboptions;
#[cfg(test)]
mod tests;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::settings::{BindingProtocol, Settings};
use options::{Opt, Takes, options};

/// The file that is read when no other is named and it exists.
pub const DEFAULT_FILE: &str = "/etc/twincached/twincached.toml";

/// Exit statuses, upstream's (COMPATIBILITY section 12).
pub mod status {
    /// A bad value, an unknown option.
    pub const BAD_VALUE: u8 = 1;
    /// Options that exclude each other, and those upstream answers in the same way.
    pub const USAGE: u8 = 64;
    /// `-u` names nobody.
    pub const NO_USER: u8 = 67;
    /// An address that cannot be resolved or bound, a limit that cannot be raised.
    pub const OS_ERROR: u8 = 71;
}

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub enum Start {
    /// Serve with these settings.
    Run(Box<Settings>),
    /// Say whether [`Start::Run`] would be refused before it binds an address.
    Check(Box<Settings>),
    /// Print this to standard output and exit with status 0.
    Print(String),
}

/// Why there is no start: goes to standard error.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Names the option, the value given and what is allowed.
    pub message: String,
    /// One of [`status`].
    pub status: u8,
}

impl Refusal {
    fn bad(message: String) -> Refusal {
        Refusal { message, status: status::BAD_VALUE }
    }

    fn usage(message: String) -> Refusal {
        Refusal { message, status: status::USAGE }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

/// Where an option was given, and the words to say so.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    File(PathBuf),
    Environment,
    CommandLine,
}

impl Source {
    fn names(&self, option: &Opt) -> String {
        match self {
            Source::File(path) => format!("{}: {}", path.display(), option.long),
            Source::Environment => env::name_of(option),
            Source::CommandLine => option.on_command_line(),
        }
    }

    fn short(&self) -> &'static str {
        match self {
            Source::File(_) => "file",
            Source::Environment => "environment",
            Source::CommandLine => "command line",
        }
    }
}

/// What one source says: options in the order of the list, with the texts given for each.
type Reading = Vec<(&'static Opt, Vec<String>)>;

/// Settings in the making, with what cannot be decided option by option.
#[derive(Debug, Default)]
struct Draft {
    settings: Settings,
    listen: Vec<String>,
    /// Who gave `listen`; `None` when nobody did.
    listen_given_as: Option<String>,
    tcp_port: Option<i32>,
    udp_port: Option<i32>,
    protocol: Option<BindingProtocol>,
    without_effect: BTreeSet<String>,
    peers: peers::PeerDraft,
}

/// Reads everything there is and checks it.
///
/// `args` starts with the program's name; `env` is the whole environment.
///
/// # Errors
/// A [`Refusal`]: print it and exit with its status.
pub fn load(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Start, Refusal> {
    load_with(args, env, Path::new(DEFAULT_FILE))
}

fn load_with(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    default_file: &Path,
) -> Result<Start, Refusal> {
    let line = match cli::read(args)? {
        cli::Line::Print(text) => return Ok(Start::Print(text)),
        cli::Line::Options(line) => line,
    };
    let environment = env::read(env)?;
    let path = line.config.or(environment.config);
    let file = match &path {
        Some(path) => file::read(path)?,
        None if default_file.exists() => file::read(default_file)?,
        None => Reading::new(),
    };
    let path = path.unwrap_or_else(|| default_file.to_owned());

    let mut overlay = Overlay::default();
    overlay.lay(&Source::File(path), file)?;
    overlay.lay(&Source::Environment, environment.reading)?;
    overlay.lay(&Source::CommandLine, line.reading)?;
    let dump = overlay.dump();
    let mut settings = check::finish(overlay.draft)?;
    settings.warnings.extend(environment.warnings);
    if line.dump {
        Ok(Start::Print(dump))
    } else if line.check {
        Ok(Start::Check(Box::new(settings)))
    } else {
        Ok(Start::Run(Box::new(settings)))
    }
}

/// The readings laid over each other so far.
#[derive(Default)]
struct Overlay {
    draft: Draft,
    effective: BTreeMap<&'static str, (Vec<String>, &'static str)>,
}

impl Overlay {
    fn lay(&mut self, source: &Source, reading: Reading) -> Result<(), Refusal> {
        for (option, texts) in reading {
            // A list replaces the list of a weaker source.
            match option.long {
                "listen" => {
                    self.draft.listen.clear();
                    self.draft.listen_given_as = Some(source.names(option));
                }
                "udp-allow" => self.draft.settings.udp_allow.clear(),
                "peer" => self.draft.settings.peering.peers.clear(),
                "replication-listen" => self.draft.peers.clear_listen(),
                "lock-keys" => self.draft.settings.peering.lock_keys.clear(),
                _ => {}
            }
            for text in &texts {
                apply(&mut self.draft, source, option, text)?;
            }
            let earlier = match option.takes {
                Takes::Suboptions => self.effective.remove(option.long).unwrap_or_default().0,
                _ => Vec::new(),
            };
            let texts = earlier.into_iter().chain(texts).collect();
            self.effective.insert(option.long, (texts, source.short()));
        }
        Ok(())
    }

    /// The effective configuration as a config file.
    fn dump(&self) -> String {
        let shown = options().filter(|option| !option.hidden);
        shown.map(|option| file::line(option, self.effective.get(option.long))).collect()
    }
}

/// Checks one text and puts it where it belongs.
fn apply(draft: &mut Draft, source: &Source, option: &Opt, text: &str) -> Result<(), Refusal> {
    if matches!(option.takes, Takes::Suboptions) {
        return suboptions::apply(draft, &source.names(option), text);
    }
    (option.set)(draft, text).ok_or_else(|| Refusal {
        message: format!(
            "{} was given \"{text}\"; allowed: {}",
            source.names(option),
            option.allowed
        ),
        status: option.status,
    })?;
    if !option.effect {
        draft.without_effect.insert(format!("--{}", option.long));
    }
    Ok(())
}

//! Reads the command line with a clap command made from the list of options, as getopt would:
//! `-vv`, `-m64`, `-l a -l b`, the last of several wins. On top of getopt, `--option=no` takes
//! back a switch that the file or the environment turned on.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::options::{Opt, Takes, options};
use super::{Reading, Refusal, suboptions};
use crate::limits::VERSION;

const LICENSE: &str = include_str!("../../LICENSE");

/// What the command line says.
pub(super) struct Options {
    pub(super) config: Option<PathBuf>,
    pub(super) check: bool,
    pub(super) dump: bool,
    pub(super) reading: Reading,
}

/// A command line that asks for a text, or one with options.
pub(super) enum Line {
    Print(String),
    Options(Options),
}

pub(super) fn read(args: impl IntoIterator<Item = OsString>) -> Result<Line, Refusal> {
    let mut matches = match command().try_get_matches_from(repcacheds(args)) {
        Ok(matches) => matches,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            return Ok(Line::Print(error.to_string()));
        }
        Err(error) if error.kind() == ErrorKind::DisplayVersion => {
            return Ok(Line::Print(error.to_string()));
        }
        Err(error) => {
            return Err(Refusal::bad(error.to_string().trim_start_matches("error: ").to_owned()));
        }
    };
    if matches.get_flag("license") {
        return Ok(Line::Print(format!("memcached {VERSION}\n\n{LICENSE}")));
    }
    let mut reading = Reading::new();
    for option in options() {
        let texts = texts(&mut matches, option)?;
        if !texts.is_empty() {
            reading.push((option, texts));
        }
    }
    Ok(Line::Options(Options {
        config: matches.remove_one("config"),
        check: matches.get_flag("check-config"),
        dump: matches.get_flag("dump-config"),
        reading,
    }))
}

/// `-X 11212` and `-X11212` are repcached's replication port. memcached's `-X` takes no argument, and
/// memcached no number by itself, so neither line means anything else.
fn repcacheds(args: impl IntoIterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut args = args.into_iter().peekable();
    std::iter::from_fn(move || {
        let arg = args.next()?;
        let port = match arg.to_str().and_then(|text| text.strip_prefix("-X")) {
            Some("") => args.next_if(|next| next.to_str().is_some_and(is_number)),
            Some(port) if is_number(port) => Some(OsString::from(port)),
            _ => None,
        };
        let Some(port) = port else { return Some(arg) };
        let mut option = OsString::from("--replication-port=");
        option.push(port);
        Some(option)
    })
}

fn texts(matches: &mut ArgMatches, option: &Opt) -> Result<Vec<String>, Refusal> {
    if matches!(option.takes, Takes::Count) {
        let count = matches.get_count(option.long);
        return Ok(if count == 0 { Vec::new() } else { vec![count.to_string()] });
    }
    let mut texts = Vec::new();
    for value in matches.remove_many::<OsString>(option.long).into_iter().flatten() {
        let text = value.into_string().map_err(|value| {
            let names = option.on_command_line();
            Refusal::bad(format!("{names} was given {value:?}; allowed: text in UTF-8"))
        })?;
        texts.extend(option.split(&text));
    }
    Ok(texts)
}

fn command() -> Command {
    let only_here = [
        Arg::new("config")
            .long("config")
            .value_name("file")
            .value_parser(value_parser!(PathBuf))
            .help("read options from this TOML file, with long option names as keys [default: /etc/twincached/twincached.toml if it exists]"),
        Arg::new("check-config")
            .long("check-config")
            .action(ArgAction::SetTrue)
            .help("say whether a start would be refused before it binds an address, and exit"),
        Arg::new("dump-config")
            .long("dump-config")
            .action(ArgAction::SetTrue)
            .help("print the configuration and where each value comes from, and exit"),
        Arg::new("license")
            .short('i')
            .long("license")
            .action(ArgAction::SetTrue)
            .help("print the license and exit"),
        Arg::new("help")
            .short('h')
            .long("help")
            .action(ArgAction::Help)
            .help("print this help and exit"),
        Arg::new("version")
            .short('V')
            .long("version")
            .action(ArgAction::Version)
            .help("print the version and exit"),
    ];
    Command::new("memcached")
        .version(VERSION)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .override_usage("twincached [options]")
        .help_template("{name} {version}\ntwincached, a memcached-compatible session store\n\nUsage: {usage}\n\n{options}{after-help}")
        .after_help(after_help())
        .args(options().map(argument))
        .args(only_here)
}

fn argument(option: &'static Opt) -> Arg {
    let mut help = option.help.to_owned();
    if !option.default.is_empty() && !matches!(option.takes, Takes::Flag) {
        help = format!("{help} [default: {}]", option.default);
    }
    let mut arg = Arg::new(option.long)
        .long(option.long)
        .help(help)
        .hide(option.hidden)
        .value_parser(value_parser!(OsString));
    if let Some(short) = option.short {
        arg = arg.short(short);
    }
    if option.long.contains('-') {
        arg = arg.alias(option.long.replace('-', "_"));
    }
    match option.takes {
        Takes::Flag => arg
            .action(ArgAction::Append)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("yes")
            .value_name("yes|no"),
        Takes::Count => arg.action(ArgAction::Count).value_parser(value_parser!(u8)),
        Takes::Value(name) | Takes::Octal(name) | Takes::List(name) => {
            arg.action(ArgAction::Append).value_name(name).allow_negative_numbers(true)
        }
        Takes::Suboptions => arg.action(ArgAction::Append).value_name("list"),
    }
}

fn after_help() -> String {
    format!(
        "Extended options (-o), with no_ in front to turn one off:\n  {}\n\
         Accepted for existing start-up lines, without effect here:\n  {}\n\n\
         Every option can also be set in the environment (TWINCACHED_MEMORY_LIMIT=64) and in the \
         config file (memory-limit = 64). The command line is stronger than the environment, the \
         environment than the file.\n",
        suboptions::described(),
        suboptions::names_without_effect().join(" "),
    )
}

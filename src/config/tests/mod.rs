//! What every test of this room needs, and the tests of defaults, help and warnings. Command lines
//! are in [`lines`], the environment and the file in [`sources`].

mod lines;
mod sources;

use std::ffi::OsString;
use std::path::Path;

use super::options::{Takes, options};
use super::{Draft, Refusal, Source, Start, apply, load_with};
use crate::limits::VERSION;
use crate::settings::Settings;

fn start(line: &str, env: &[(&str, &str)], file: &Path) -> Result<Start, Refusal> {
    let args = std::iter::once("memcached").chain(line.split_whitespace()).map(OsString::from);
    let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    load_with(args, env, file)
}

fn no_file() -> &'static Path {
    Path::new("/nonexistent/twincached.toml")
}

#[track_caller]
fn settings_with(line: &str, env: &[(&str, &str)], file: &Path) -> Settings {
    match start(line, env, file) {
        Ok(Start::Run(settings)) => *settings,
        other => panic!("`{line}` was to start, but: {other:?}"),
    }
}

#[track_caller]
fn settings(line: &str) -> Settings {
    settings_with(line, &[], no_file())
}

#[track_caller]
fn refusal(line: &str) -> Refusal {
    match start(line, &[], no_file()) {
        Err(refusal) => refusal,
        Ok(start) => panic!("`{line}` was to be refused, but: {start:?}"),
    }
}

#[track_caller]
fn printed(line: &str) -> String {
    match start(line, &[], no_file()) {
        Ok(Start::Print(text)) => text,
        other => panic!("`{line}` was to print, but: {other:?}"),
    }
}

fn addresses(settings: &Settings) -> Vec<String> {
    settings.listen.iter().map(|listen| listen.addr.to_string()).collect()
}

#[test]
fn without_a_word_the_defaults_hold_and_only_this_machine_is_served() {
    let settings = settings("");
    assert_eq!(addresses(&settings), ["127.0.0.1:11211"]);
    assert_eq!(settings.exposed(), None);
    let listen = settings.listen.clone();
    assert_eq!(settings, Settings { listen, ..Settings::default() });
}

#[test]
fn the_default_that_help_shows_is_the_default_that_holds() {
    let mut draft = Draft::default();
    draft.settings.udp_allow.clear();
    draft.settings.peering.lock_keys.clear();
    for option in options().filter(|option| !option.default.is_empty()) {
        for text in option.split(option.default) {
            apply(&mut draft, &Source::CommandLine, option, &text).unwrap();
        }
    }
    assert_eq!(draft.settings, Settings::default());
    assert_eq!(draft.tcp_port, Some(Settings::default().tcp_port));
    assert_eq!(draft.udp_port, Some(Settings::default().udp_port));
    assert_eq!(draft.protocol, Some(Settings::default().protocol));
}

#[test]
fn a_range_in_the_message_is_the_range_that_is_checked() {
    let mut ranges = 0;
    for option in options() {
        let mut words = option.allowed.split_whitespace();
        let (Some(least), Some("to"), Some(most)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        if matches!(option.takes, Takes::Octal(_)) {
            continue;
        }
        ranges += 1;
        let least: i64 = least.parse().unwrap();
        let most: i64 = most.trim_end_matches(',').parse().unwrap();
        let takes = |n: i64| (option.set)(&mut Draft::default(), &n.to_string()).is_some();
        assert!(takes(least) && takes(most), "--{}: {}", option.long, option.allowed);
        assert!(!takes(least - 1), "--{} {}", option.long, least - 1);
        assert!(!takes(most + 1), "--{} {}", option.long, most + 1);
    }
    assert!(ranges >= 11, "only {ranges} ranges were found");
}

#[test]
fn many_threads_and_certificates_without_tls_are_warned_about() {
    assert!(settings("-t 64").warnings.is_empty());
    assert!(settings("-U 5 --udp-allow ::/0").warnings[0].contains("--udp-allow ::/0"));
    assert!(
        settings("-U 5").warnings.is_empty() && settings("--udp-allow ::/0").warnings.is_empty()
    );
    assert!(settings("-t 65").warnings[0].contains("-t 65"));
    assert!(settings("-o ssl_chain_cert=/etc/x").warnings[0].contains("-Z"));
}

#[test]
fn what_promises_more_than_it_does_is_warned_about() {
    let tls = "-Z -o ssl_chain_cert=/etc/x";
    assert!(settings(&format!("{tls},ssl_min_version=1")).warnings[0].contains("1.2"));
    assert!(settings(&format!("{tls},ssl_min_version=2")).warnings.is_empty());
    assert!(settings("--auth-allow-health-checks").warnings[0].contains("-Y"));
    assert!(settings("--auth-allow-health-checks -Y /etc/x").warnings.is_empty());
    for line in ["--peer-secret-file /s", "--ack all", "--node-id 3", "--lock-keys a"] {
        assert!(settings(line).warnings[0].contains("--peer"), "{line}");
        assert!(settings(&format!("{line} -x 127.0.0.1")).warnings.is_empty(), "{line}");
    }
}

#[test]
fn version_help_and_license_start_with_memcached_and_its_version() {
    let first = format!("memcached {VERSION}\n");
    for line in ["-V", "--version", "-h", "--help", "-i", "--license", "-h -p abc", "-vV"] {
        assert!(printed(line).starts_with(&first), "{line}: {}", printed(line));
    }
    assert_eq!(printed("-V"), first);
    assert!(printed("-i").contains("Permission is hereby granted"));
}

#[test]
fn help_names_what_works_and_not_what_does_not() {
    let help = printed("-h");
    for option in options().filter(|option| !option.hidden) {
        assert!(help.contains(&format!("--{}", option.long)), "{}", option.long);
    }
    for word in [
        "unix-socket",
        "enable-ssl",
        "ssl_chain_cert",
        "auth-file",
        "enable-sasl",
        "idle_timeout",
        "TWINCACHED_MEMORY_LIMIT",
        "[default: 11211]",
    ] {
        assert!(help.contains(word), "{word}");
    }
    for word in ["ext_path", "proxy_config", "test-clock"] {
        assert!(!help.contains(word), "{word}");
    }
}

#[test]
fn check_config_checks_the_settings_of_a_start_or_says_what_a_start_would_say() {
    let checked = start("--check-config -m 100", &[], no_file());
    assert_eq!(checked, Ok(Start::Check(Box::new(settings("-m 100")))));
    assert_eq!(refusal("--check-config -c 0"), refusal("-c 0"));
}

#[test]
fn help_has_no_two_blank_lines_in_a_row() {
    let help = printed("--help");
    assert!(!help.contains("\n\n\n"), "{help}");
    assert!(help.contains("exit\n\nExtended options (-o)"), "{help}");
}

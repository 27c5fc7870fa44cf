//! Who is stronger than whom, and what the environment and the file may say.

use std::path::PathBuf;

use super::*;
use crate::config::{env, status};

/// A config file in a directory that goes with it.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("twincached.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn the_command_line_is_stronger_than_the_environment_and_that_than_the_file() {
    let (_folder, path) = file(
        "memory-limit = 10\nthreads = 10\nconn-limit = 10\ndisable-cas = true\n\
         listen = [\"127.0.0.9\", \"127.0.0.8\"]\nverbose = 1\n\
         udp-allow = [\"10.0.0.0/8\"]\n\
         extended = {idle_timeout = 10, track_sizes = true, lru_crawler = false}\n",
    );
    let env = [
        ("TWINCACHED_CONFIG", path.to_str().unwrap()),
        ("TWINCACHED_THREADS", "20"),
        ("TWINCACHED_CONN_LIMIT", "20"),
        ("TWINCACHED_UDP_ALLOW", "192.0.2.1,192.0.2.2"),
        ("TWINCACHED_DISABLE_FLUSH_ALL", "true"),
        ("TWINCACHED_EXTENDED", "idle_timeout=20"),
        ("UNRELATED", "x"),
    ];
    let settings =
        settings_with("-c 30 -l 127.0.0.7 --disable-cas=no -o hashpower=13 -vv", &env, no_file());
    assert_eq!(settings.memory_limit, 10 << 20);
    assert_eq!(settings.threads, 20);
    assert_eq!(settings.conn_limit, 30);
    assert_eq!(addresses(&settings), ["127.0.0.7:11211"]);
    assert!(settings.cas && !settings.flush_enabled);
    assert_eq!(settings.udp_allow.len(), 2);
    assert_eq!(settings.verbosity, 2);
    assert_eq!((settings.idle_timeout, settings.track_sizes), (20, true));
    assert_eq!((settings.shown.lru_crawler, settings.shown.hashpower_init), (false, 13));
    assert!(settings.warnings.is_empty());
}

#[test]
fn a_file_named_on_the_command_line_replaces_the_others() {
    let (_one, named) = file("threads = 1\n");
    let (_two, other) = file("threads = 2\n");
    let (_three, default) = file("threads = 3\n");
    let env = [("TWINCACHED_CONFIG", other.to_str().unwrap())];
    let line = format!("--config {}", named.display());
    assert_eq!(settings_with(&line, &env, &default).threads, 1);
    assert_eq!(settings_with("", &env, &default).threads, 2);
    assert_eq!(settings_with("", &[], &default).threads, 3);
    assert_eq!(settings_with("", &[], no_file()).threads, 4);
}

#[test]
fn a_wrong_file_is_refused_with_its_name_the_key_and_what_is_allowed() {
    let cases: &[(&str, &[&str])] = &[
        ("memory-limt = 5", &["memory-limt", "5", "did you mean memory-limit?"]),
        ("memory_limit = 5", &["memory_limit", "did you mean memory-limit?"]),
        ("[section]\nx = 1", &["section", "no option"]),
        ("config = \"x\"", &["config", "no option"]),
        ("threads = \"many\"", &["threads", "\"many\"", "1 to 1024"]),
        ("threads = [1, 2]", &["threads", "[1, 2]", "1 to 1024"]),
        ("threads = 1.5", &["threads", "1.5", "1 to 1024"]),
        ("daemon = 7", &["daemon", "7", "yes or no"]),
        ("unix-mask = 0o770", &["unix-mask", "in quotes"]),
        ("unix-mask = \"8\"", &["unix-mask", "\"8\"", "octal"]),
        ("listen = {}", &["listen", "list of texts"]),
        ("listen = []", &["listen", "no address"]),
        ("listen = [\"127.0.0.1:x\"]", &["listen", "127.0.0.1:x"]),
        ("extended = {foo = 1}", &["Illegal suboption \"foo=1\"", "extended"]),
        ("extended = {idle_timeout = true}", &["idle_timeout", "\"yes\"", "0 to"]),
        ("extended = [[1]]", &["extended", "a table"]),
        ("user = 2026-01-01", &["user", "2026-01-01"]),
        ("threads = ", &["not TOML", "line 1"]),
        ("threads = 1\nthreads = 2", &["not TOML", "line 2"]),
    ];
    for (text, words) in cases {
        let (_folder, path) = file(text);
        let refusal = start("", &[], &path).unwrap_err();
        assert_eq!(refusal.status, status::BAD_VALUE, "{text}: {refusal}");
        for word in words.iter().copied().chain(path.to_str()) {
            assert!(refusal.message.contains(word), "`{text}`: `{word}` is not in: {refusal}");
        }
    }
    let missing = refusal("--config /nonexistent/x.toml");
    assert!(missing.message.contains("/nonexistent/x.toml"), "{missing}");
    assert!(missing.message.contains("No such file"), "{missing}");
}

/// Options that a start refuses, wherever they come from, as long as others are not given, too.
const NEED_COMPANY: [&str; 4] =
    ["replication-port", "peer-tls-cert", "peer-tls-key", "peer-tls-ca"];

#[test]
fn every_option_can_be_given_in_every_source() {
    for option in options() {
        let (text, quoted) = match option.long {
            "extended" => ("track_sizes", true),
            "enable-sasl" | "enable-ssl" => ("no", true),
            "prefix-delimiter" => ("/", true),
            "napi-ids" => ("2", false),
            "user" | "pidfile" | "port-file" | "memory-file" | "unix-socket" | "auth-file"
            | "sasl-pwdb" | "peer-secret-file" | "peer-tls-cert" | "peer-tls-key"
            | "peer-tls-ca" => ("/tmp/x", true),
            "peer" | "replication-listen" => ("127.0.0.1", true),
            "admin-listen" => ("127.0.0.1:1", true),
            "lock-keys" => ("a*,b*", true),
            _ if matches!(option.takes, Takes::Flag) => ("yes", true),
            _ => (
                option.default,
                option.default.parse::<f64>().is_err() || option.long == "unix-mask",
            ),
        };
        let quote = if quoted { "\"" } else { "" };
        let (_folder, path) = file(&format!("{} = {quote}{text}{quote}", option.long));
        let name = env::name_of(option);
        let line = match option.takes {
            Takes::Count => String::new(),
            _ => format!("--{}={text}", option.long),
        };
        let from_line = start(&line, &[], no_file()).map_err(|refusal| refusal.status);
        let refused = NEED_COMPANY.contains(&option.long);
        assert_eq!(from_line.is_err(), refused, "{line}: {from_line:?}");
        let from_env = start("", &[(&name, text)], no_file()).map_err(|refusal| refusal.status);
        assert_eq!(from_env, from_line, "{name}");
        let from_file = start("", &[], &path).map_err(|refusal| refusal.status);
        assert_eq!(from_file, from_line, "{} in a file", option.long);
    }
}

#[test]
fn memcacheds_variable_for_sasl_users_is_known_and_ours_is_stronger() {
    let settings = |env: &[_]| settings_with("-S", env, no_file());
    let theirs = ("MEMCACHED_SASL_PWDB", "/theirs");
    let ours = ("TWINCACHED_SASL_PWDB", "/ours");
    assert_eq!(settings(&[theirs]).sasl_pwdb, Some("/theirs".into()));
    assert_eq!(settings(&[theirs, ours]).sasl_pwdb, Some("/ours".into()));
}

#[test]
fn a_misspelt_variable_is_refused_and_a_foreign_one_only_mentioned() {
    let refusal = start("", &[("TWINCACHED_AUTH_FIEL", "users")], no_file()).unwrap_err();
    assert_eq!(refusal.status, status::BAD_VALUE);
    for word in ["TWINCACHED_AUTH_FIEL", "\"users\"", "TWINCACHED_AUTH_FILE?"] {
        assert!(refusal.message.contains(word), "{refusal}");
    }
    let wrong = start("", &[("TWINCACHED_THREADS", "x")], no_file()).unwrap_err();
    for word in ["TWINCACHED_THREADS", "\"x\"", "1 to 1024"] {
        assert!(wrong.message.contains(word), "{wrong}");
    }
    let kubernetes = [
        ("TWINCACHED_PORT", "tcp://10.0.0.1:11211"),
        ("TWINCACHED_SERVICE_HOST", "10.0.0.1"),
        ("TWINCACHED_PORT_11211_TCP_PROTO", "tcp"),
    ];
    let settings = settings_with("", &kubernetes, no_file());
    assert_eq!(settings.tcp_port, 11211);
    assert_eq!(settings.warnings.len(), 3, "{:?}", settings.warnings);
}

#[test]
fn memcacheds_own_variable_names_the_port_file_unless_ours_does() {
    let theirs = ("MEMCACHED_PORT_FILENAME", "/tmp/theirs");
    let ours = ("TWINCACHED_PORT_FILE", "/tmp/ours");
    let port_file = |env: &[(&str, &str)]| settings_with("", env, no_file()).port_file;
    assert_eq!(port_file(&[theirs]), Some(PathBuf::from("/tmp/theirs")));
    assert_eq!(port_file(&[theirs, ours]), Some(PathBuf::from("/tmp/ours")));
}

#[test]
fn a_dumped_configuration_starts_the_same_server() {
    let line =
        "-m 100 -l 127.0.0.2,127.0.0.3:5 -o idle_timeout=5,no_lru_crawler -a 0750 -C -vv -D /";
    let dump = printed(&format!("--dump-config {line}"));
    for expected in [
        "memory-limit = 100 # command line\n",
        "# threads = 4 # default\n",
        "disable-cas = true # command line\n",
        "unix-mask = \"0750\" # command line\n",
        "# pidfile =\n",
    ] {
        assert!(dump.contains(expected), "`{expected}` is not in:\n{dump}");
    }
    let (_folder, path) = file(&dump);
    assert_eq!(settings_with("", &[], &path), settings(line));
}

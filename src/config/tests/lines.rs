//! Command lines that start, and command lines that do not.

use std::net::SocketAddr;

use super::*;
use crate::config::status;
use crate::settings::{BindingProtocol, Listen, ListenTls, Network};

/// A line and what to read off the settings it makes.
type Good = (&'static str, fn(&Settings) -> String, &'static str);

const GOOD: &[Good] = &[
    ("-p 11311", |s| format!("{} {:?}", s.tcp_port, addresses(s)), r#"11311 ["127.0.0.1:11311"]"#),
    ("--port=11311", |s| s.tcp_port.to_string(), "11311"),
    ("-p11311", |s| s.tcp_port.to_string(), "11311"),
    ("-p 1 -p 2", |s| s.tcp_port.to_string(), "2"),
    ("-p -1", |s| format!("{} {:?}", s.tcp_port, addresses(s)), r#"-1 ["127.0.0.1:0"]"#),
    ("-U 0", |s| s.udp_port.to_string(), "0"),
    (
        "--udp-allow 10.0.0.0/8,::2 --udp-allow=192.0.2.1",
        |s| s.udp_allow.iter().map(|network| format!("{network} ")).collect(),
        "10.0.0.0/8 ::2/128 192.0.2.1/32 ",
    ),
    ("", |s| format!("{}", s.udp_allow == Network::LOOPBACK), "true"),
    ("--udp-rate 50", |s| s.udp_rate.to_string(), "50"),
    ("--udp-allow=", |s| s.udp_allow.len().to_string(), "0"),
    ("-s /tmp/x", |s| format!("{:?} {:?}", s.unix_socket, addresses(s)), r#"Some("/tmp/x") []"#),
    ("-s /tmp/x -p 0", |s| s.tcp_port.to_string(), "0"),
    ("-a 0777", |s| format!("{:o}", s.unix_mask), "777"),
    ("-A", |s| s.enable_shutdown.to_string(), "true"),
    (
        "-d -r -k",
        |s| format!("{}{}{}", s.daemon, s.enable_coredumps, s.lock_memory),
        "truetruetrue",
    ),
    ("-u nobody", |s| format!("{:?}", s.user), r#"Some("nobody")"#),
    ("-m 64", |s| s.memory_limit.to_string(), "67108864"),
    ("-m 2g", |s| s.memory_limit.to_string(), "2147483648"),
    ("-M", |s| s.evictions.to_string(), "false"),
    ("-c 20", |s| s.conn_limit.to_string(), "20"),
    ("-v", |s| s.verbosity.to_string(), "1"),
    ("-vv", |s| s.verbosity.to_string(), "2"),
    ("-vvv", |s| s.verbosity.to_string(), "3"),
    ("-v -v", |s| s.verbosity.to_string(), "2"),
    ("-vAM", |s| format!("{}{}{}", s.verbosity, s.enable_shutdown, s.evictions), "1truefalse"),
    ("-P /run/x.pid", |s| format!("{:?}", s.pidfile), r#"Some("/run/x.pid")"#),
    ("--port-file /run/x", |s| format!("{:?}", s.port_file), r#"Some("/run/x")"#),
    ("-f 1.5 -n 20", |s| format!("{} {}", s.slab_growth_factor, s.slab_min_size), "1.5 20"),
    ("-L", |s| s.without_effect.join(" "), "--enable-largepages"),
    ("-D /", |s| format!("{} {}", s.prefix_delimiter, s.detail_enabled), "47 true"),
    ("-t 2 -R 5", |s| format!("{} {}", s.threads, s.max_reqs_per_event), "2 5"),
    ("-C", |s| s.cas.to_string(), "false"),
    ("-b 5", |s| s.listen_backlog.to_string(), "5"),
    ("-B ascii", |s| format!("{:?} {:?}", s.protocol, s.listen[0].protocol), "Ascii Ascii"),
    ("-B auto", |s| format!("{:?}", s.protocol), "Auto"),
    ("-I 512k", |s| s.item_size_max.to_string(), "524288"),
    ("-I 2m", |s| s.item_size_max.to_string(), "2097152"),
    ("-I 1024", |s| s.item_size_max.to_string(), "1024"),
    ("-m 3000 -I 1g", |s| s.item_size_max.to_string(), "1073741824"),
    (
        "-FXW",
        |s| format!("{}{}{}", s.flush_enabled, s.dump_enabled, s.watch_enabled),
        "falsefalsefalse",
    ),
    (
        "-e /mnt/x",
        |s| format!("{:?} {:?}", s.shown.memory_file, s.without_effect),
        r#"Some("/mnt/x") ["--memory-file"]"#,
    ),
    ("-N 2", |s| format!("{:?}", s.shown.napi_ids), "Some(2)"),
    ("--napi_ids 2", |s| format!("{:?}", s.shown.napi_ids), "Some(2)"),
    ("--disable-cas --disable-cas=no", |s| s.cas.to_string(), "true"),
    ("--test-clock", |s| s.test_clock.to_string(), "true"),
    (
        "-o idle_timeout=5,track_sizes -o hashpower=14",
        |s| format!("{} {} {}", s.idle_timeout, s.track_sizes, s.shown.hashpower_init),
        "5 true 14",
    ),
    ("-o no_maxconns_fast", |s| s.maxconns_fast.to_string(), "false"),
    (
        "-o no_modern,maxconns_fast",
        |s| format!("{} {}", s.maxconns_fast, s.shown.lru_crawler),
        "true false",
    ),
    ("-o slab_automove", |s| s.shown.slab_automove.to_string(), "1"),
    ("-o slab_automove=2", |s| s.shown.slab_automove.to_string(), "2"),
    ("-o no_slab_automove", |s| s.shown.slab_automove.to_string(), "0"),
    (
        "-o no_lru_maintainer",
        |s| format!("{} {}", s.shown.lru_maintainer, s.shown.lru_segmented),
        "false false",
    ),
    ("-o temporary_ttl=0", |s| format!("{:?}", s.shown.temporary_ttl), "Some(0)"),
    ("-o watcher_logbuf_size=32", |s| s.shown.watcher_logbuf_size.to_string(), "32768"),
    ("-o read_buf_mem_limit=3", |s| s.shown.read_buf_mem_limit.to_string(), "3145728"),
    ("-o ext_path=/mnt/x:1G,ext_item_size=5", |s| s.shown.ext.item_size.to_string(), "5"),
    (
        "-o no_hashexpand,modern,inline_ascii_resp",
        |s| s.without_effect.join(" "),
        "-o inline_ascii_resp -o no_hashexpand",
    ),
    (
        "-o ssl_ciphers=A:B,ssl_min_version=3",
        |s| format!("{:?} {}", s.tls.ciphers, s.tls.min_version),
        r#"Some("A:B") 3"#,
    ),
    ("--disable-io-uring", |s| s.io_uring.to_string(), "false"),
    (
        "-Y /etc/x --auth-allow-health-checks",
        |s| format!("{:?} {}", s.auth_file, s.auth_allow_health_checks),
        r#"Some("/etc/x") true"#,
    ),
    (
        "-Z -o ssl_chain_cert=/a,ssl_key=/b,ssl_keyformat=DER,ssl_verify_mode=2,ssl_ca_cert=/c",
        |s| {
            let tls = &s.tls;
            let files = [&tls.chain_cert, &tls.key, &tls.ca_cert];
            let [chain, key, ca] = files.map(|file| file.as_ref().unwrap().display());
            format!("{} {chain} {key} {ca} {} {}", tls.enabled, tls.keyformat, tls.verify_mode)
        },
        "true /a /b /c 2 2",
    ),
    (
        "-o ssl_wbuf_size=32,ssl_kernel_tls,ssl_session_cache",
        |s| {
            let (tls, without_effect) = (&s.tls, s.without_effect.join(" "));
            format!("{} {} {} {without_effect}", tls.wbuf_size, tls.kernel_tls, tls.session_cache)
        },
        "32768 true true -o ssl_kernel_tls -o ssl_wbuf_size",
    ),
];

#[test]
fn every_option_reaches_its_setting() {
    for (line, read, expected) in GOOD {
        assert_eq!(read(&settings(line)), *expected, "{line}");
    }
}

#[test]
fn an_address_may_come_in_every_form_that_memcached_reads() {
    let cases: &[(&str, &[&str])] = &[
        ("-l 127.0.0.2", &["127.0.0.2:11211"]),
        (
            "-l 127.0.0.1,127.0.0.2 -l 127.0.0.3",
            &["127.0.0.1:11211", "127.0.0.2:11211", "127.0.0.3:11211"],
        ),
        ("-l 127.0.0.1;127.0.0.2", &["127.0.0.1:11211", "127.0.0.2:11211"]),
        ("-l 127.0.0.1,", &["127.0.0.1:11211"]),
        ("-l 127.0.0.1:11300 -p 5", &["127.0.0.1:11300"]),
        ("-l 127.0.0.1:0", &["127.0.0.1:0"]),
        ("-l ::1", &["[::1]:11211"]),
        ("-l [::1]", &["[::1]:11211"]),
        ("-l [::1]:11300", &["[::1]:11300"]),
        ("-l *", &["0.0.0.0:11211", "[::]:11211"]),
        ("-l *:11300", &["0.0.0.0:11300", "[::]:11300"]),
        ("-l proto[ascii]:127.0.0.1:11300", &["127.0.0.1:11300"]),
        ("-l tag[web]:proto[negotiating]:127.0.0.1", &["127.0.0.1:11211"]),
        ("-l tag_web_:[::1]:11300", &["[::1]:11300"]),
    ];
    for (line, expected) in cases {
        assert_eq!(addresses(&settings(line)), *expected, "{line}");
    }
    let one = &settings("-l tag_web_:proto[ascii]:127.0.0.1").listen[0];
    assert_eq!((one.tag.as_deref(), one.protocol), (Some("web"), BindingProtocol::Ascii));
    assert!(!one.optional);
    assert!(settings("-l *").listen.iter().all(|listen| listen.optional));
    assert_eq!(settings("-l 127.0.0.1 -l ::1").inter.as_deref(), Some("127.0.0.1,::1"));
    assert!(settings("-l *").exposed().is_some());
    let local = settings("-l localhost:11300");
    let loopback = |address: &SocketAddr| address.ip().is_loopback() && address.port() == 11300;
    assert!(!local.listen.is_empty() && local.listen.iter().all(|l| loopback(&l.addr)));
}

const BAD: u8 = status::BAD_VALUE;
const USAGE: u8 = status::USAGE;

/// A line, its exit status and words of the message.
type Bad = (&'static str, u8, &'static [&'static str]);

const BAD_LINES: &[Bad] = &[
    ("-c 0", BAD, &["-c", "--conn-limit", "\"0\"", "1 to 2147483647"]),
    ("-c -1", BAD, &["-c", "\"-1\"", "1 to"]),
    ("-c abc", BAD, &["-c", "\"abc\"", "1 to"]),
    ("-t 0", BAD, &["-t", "--threads", "\"0\"", "1 to 1024"]),
    ("-R 0", BAD, &["-R", "--max-reqs-per-event", "\"0\"", "1 to"]),
    ("-b -1", BAD, &["-b", "\"-1\"", "0 to"]),
    ("-f 1.0", BAD, &["-f", "\"1.0\"", "greater than 1"]),
    ("-n 0", BAD, &["-n", "\"0\"", "1 to"]),
    ("-m abc", BAD, &["-m", "--memory-limit", "\"abc\"", "MiB"]),
    ("-m 0", BAD, &["-m", "\"0\"", "1 to"]),
    ("-a 999", BAD, &["-a", "\"999\"", "octal"]),
    ("-D ab", BAD, &["-D", "\"ab\"", "one ASCII character"]),
    ("--udp-allow 10.0.0.0/33", BAD, &["--udp-allow", "\"10.0.0.0/33\"", "networks"]),
    ("--udp-allow ::1,localhost", BAD, &["--udp-allow", "\"localhost\"", "networks"]),
    ("--udp-rate -1", BAD, &["--udp-rate", "\"-1\"", "0 to"]),
    ("-U 65536", USAGE, &["-U", "--udp-port", "\"65536\"", "-1 to"]),
    ("-N 0", BAD, &["-N", "\"0\"", "1 to"]),
    ("-s ", BAD, &["-s", "value"]),
    ("--user=", BAD, &["-u", "\"\"", "name"]),
    ("--disable-cas=maybe", BAD, &["--disable-cas", "\"maybe\"", "yes or no"]),
    ("-p", BAD, &["--port", "value"]),
    ("-z", BAD, &["-z", "unexpected"]),
    ("--foo", BAD, &["--foo", "unexpected"]),
    ("--memory-limt=5", BAD, &["--memory-limt", "--memory-limit"]),
    ("stray", BAD, &["stray", "unexpected"]),
    ("-o foo", BAD, &["Illegal suboption \"foo\"", "-o", "idle_timeout"]),
    ("-o foo=1", BAD, &["Illegal suboption \"foo=1\"", "allowed: maxconns_fast"]),
    ("-o ,track_sizes", BAD, &["Illegal suboption \"\""]),
    ("-o idle_timout=5", BAD, &["did you mean idle_timeout?"]),
    ("-o no_idle_timeout", BAD, &["Illegal suboption \"no_idle_timeout\""]),
    ("-o proxy_config=x", BAD, &["Illegal suboption \"proxy_config=x\""]),
    ("-o idle_timeout", BAD, &["idle_timeout", "no value", "0 to"]),
    ("-o idle_timeout=abc", BAD, &["-o", "idle_timeout", "\"abc\"", "0 to"]),
    ("-o idle_timeout=-5", BAD, &["idle_timeout", "\"-5\""]),
    ("-o hashpower=64", BAD, &["hashpower", "\"64\"", "12 to 32"]),
    ("-o slab_automove=3", BAD, &["slab_automove", "\"3\"", "0 to 2"]),
    ("-o slab_automove_ratio=1", BAD, &["slab_automove_ratio", "less than 1"]),
    ("-o slab_automove_window=2", BAD, &["slab_automove_window", "3 to"]),
    ("-o hash_algorithm=foo", BAD, &["\"foo\"", "jenkins, murmur3 or xxh3"]),
    ("-o lru_crawler_sleep=2000000", BAD, &["lru_crawler_sleep", "0 to 1000000"]),
    ("-o tail_repair_time=5", BAD, &["tail_repair_time", "10 to"]),
    ("-o hot_lru_pct=80", BAD, &["hot_lru_pct", "1 to 79"]),
    ("-o hot_max_factor=0", BAD, &["hot_max_factor", "greater than 0"]),
    ("-o slab_sizes=1-x", BAD, &["slab_sizes", "\"1-x\""]),
    ("-o track_sizes=5", BAD, &["track_sizes", "\"5\"", "yes or no"]),
    ("-o ssl_min_version=4", BAD, &["ssl_min_version", "0 to 3"]),
    ("-l 127.0.0.1:abc", BAD, &["-l", "\"127.0.0.1:abc\"", "port", "host:port"]),
    ("-l 127.0.0.1:70000", BAD, &["-l", "65535"]),
    ("-l [::1", BAD, &["-l", "\"[::1\"", "]"]),
    ("-l [::1]x", BAD, &["-l", "\"[::1]x\""]),
    ("-l :5", BAD, &["-l", "\":5\"", "no host"]),
    ("-l ,", BAD, &["-l", "no address"]),
    ("-l tag[abcdefghi]:127.0.0.1", BAD, &["-l", "1 to 8"]),
    ("-l tag[]:127.0.0.1", BAD, &["-l", "1 to 8"]),
    ("-l proto[proxy]:127.0.0.1", BAD, &["-l", "protocol", "proto[ascii]"]),
    ("-p 65536", USAGE, &["-p", "\"65536\"", "-1 to 65535"]),
    ("-p abc", USAGE, &["-p", "\"abc\"", "-1 to 65535"]),
    ("-U 70000", USAGE, &["-U", "\"70000\"", "-1 to 65535"]),
    ("-p 0", USAGE, &["-p 0", "nothing to listen on"]),
    ("-B foo", USAGE, &["-B", "\"foo\"", "auto, ascii or binary"]),
    ("-I 1023", USAGE, &["-I", "\"1023\"", "1024 to 1073741824"]),
    ("-I 1x", USAGE, &["-I", "\"1x\""]),
    ("-m 4096 -I 1025m", USAGE, &["-I", "\"1025m\""]),
    ("-I 40m", USAGE, &["-I", "41943040", "33554432", "-m"]),
    ("-m 1", USAGE, &["-I", "1048576", "524288"]),
    ("-o hot_lru_pct=50,warm_lru_pct=40", USAGE, &["50", "40", "80"]),
    ("-N 5", USAGE, &["-N", "\"5\"", "at most 4", "-t"]),
    ("-S", USAGE, &["-S", "--sasl-pwdb", "MEMCACHED_SASL_PWDB"]),
    ("-S --sasl-pwdb /x -U 5", USAGE, &["-S", "-U 5", "-U 0"]),
    ("-Y /etc/x -U 5", USAGE, &["-Y", "-U 5", "-U 0"]),
    ("-S --sasl-pwdb /x -B ascii", USAGE, &["-S", "-B ascii", "-B binary"]),
    ("-S --sasl-pwdb /x -B auto", USAGE, &["-S", "-B auto", "-B binary"]),
    ("-Y /etc/x -B binary", USAGE, &["-Y", "-B binary", "-B ascii"]),
    ("-Y /etc/x -B auto", USAGE, &["-Y", "-B auto", "-B ascii"]),
    ("-S -Y /etc/x", USAGE, &["-S", "-Y", "one of them"]),
    ("-Y /etc/x -l proto[binary]:127.0.0.1", USAGE, &["-l", "log in"]),
    ("-S --sasl-pwdb /x -l proto[ascii]:127.0.0.1", USAGE, &["-l", "log in"]),
    ("-Z -s /tmp/x", USAGE, &["-Z", "TCP port"]),
    ("-Z", USAGE, &["-Z", "ssl_chain_cert"]),
    ("-l mtls:127.0.0.1", USAGE, &["-l", "\"mtls:127.0.0.1\"", "-Z"]),
    ("-x 192.0.2.7", USAGE, &["-x 192.0.2.7", "--peer-secret-file", "--peer-insecure"]),
    ("-X 11212", USAGE, &["0.0.0.0:11212", "--replication-listen", "--peer-secret-file"]),
    ("-x 127.0.0.1 -C", USAGE, &["-C", "-x"]),
    ("-p 11212 -x 127.0.0.1", USAGE, &["-p", "-X", "both port 11212", "127.0.0.1"]),
    ("-l 0.0.0.0 -X 11211 -x 127.0.0.1", USAGE, &["-p", "-X", "11211", "0.0.0.0", "127.0.0.1"]),
    ("--admin-listen 0.0.0.0:11211", USAGE, &["--admin-listen", "-p", "both port 11211"]),
    ("--admin-listen 127.0.0.1:11212 -x ::1,127.0.0.1", USAGE, &["--admin-listen", "-X"]),
    (
        "--after-long-separation drop",
        BAD,
        &["--after-long-separation", "\"drop\"", "merge or wipe"],
    ),
    ("-x a:0", BAD, &["-x", "\"a:0\"", "host:port"]),
    ("--node-id 255", BAD, &["--node-id", "\"255\"", "0 to 254"]),
    ("--ack two", BAD, &["--ack", "\"two\"", "async, one or all"]),
    ("--bootstrap-timeout 0", BAD, &["--bootstrap-timeout", "\"0\"", "or wait"]),
    ("--ack-timeout 19", BAD, &["--ack-timeout", "\"19\"", "allowed: 20 to 60000 milliseconds"]),
    ("--peer-tls-cert /c", USAGE, &["--peer-tls-cert", "--peer-tls-key", "--peer-tls-ca"]),
    ("--admin-listen 11213", BAD, &["--admin-listen", "\"11213\"", "address:port"]),
    ("--cluster a\u{7f}b", BAD, &["--cluster", "up to 64 bytes"]),
];

#[test]
fn a_refused_line_names_option_value_and_what_is_allowed() {
    for (line, status, words) in BAD_LINES {
        let refusal = refusal(line);
        assert_eq!(refusal.status, *status, "{line}: {refusal}");
        for word in *words {
            assert!(refusal.message.contains(word), "`{line}`: `{word}` is not in: {refusal}");
        }
    }
    // A label this long is refused by the resolver without asking the network.
    let unresolvable = refusal(&format!("-l {}", "x".repeat(300)));
    assert_eq!(unresolvable.status, status::OS_ERROR);
    assert!(unresolvable.message.contains("cannot be resolved"), "{unresolvable}");
    let long = format!("-s /{}", "x".repeat(107));
    assert!(refusal(&long).message.contains("107 bytes"));
}

#[test]
fn udp_takes_tcp_along_unless_tcp_has_a_port_of_its_own() {
    for (line, tcp, udp) in [
        ("-U 5", "127.0.0.1:5", "127.0.0.1:5"),
        ("-U 5 -p 7", "127.0.0.1:7", "127.0.0.1:5"),
        ("-U -1", "127.0.0.1:0", "127.0.0.1:0"),
        ("-U 5 -l 127.0.0.2:9", "127.0.0.2:9", "127.0.0.2:9"),
    ] {
        let settings = settings(line);
        assert_eq!(addresses(&settings), [tcp], "{line}");
        assert_eq!(
            settings.udp_listen,
            [Listen::from(udp.parse::<SocketAddr>().unwrap())],
            "{line}"
        );
    }
    let only_udp = settings("-p 0 -U 5");
    assert!(only_udp.listen.is_empty() && only_udp.udp_listen.len() == 1);
    let only_unix = settings("-s /tmp/x -U 5");
    assert!(only_unix.listen.is_empty() && only_unix.udp_listen.is_empty());
}

#[test]
fn a_way_to_log_in_decides_the_protocol_of_every_listener() {
    for (line, expected) in [
        ("-S --sasl-pwdb /x", BindingProtocol::Binary),
        ("-S --sasl-pwdb /x -l proto[negotiating]:127.0.0.1", BindingProtocol::Binary),
        ("-S --sasl-pwdb /x -B binary", BindingProtocol::Binary),
        ("-Y /etc/x", BindingProtocol::Ascii),
        ("-Y /etc/x -l proto[negotiating]:127.0.0.1", BindingProtocol::Ascii),
        ("-Y /etc/x -B ascii", BindingProtocol::Ascii),
        ("-B binary -l proto[negotiating]:127.0.0.1", BindingProtocol::Auto),
    ] {
        assert_eq!(settings(line).listen[0].protocol, expected, "{line}");
    }
}

#[test]
fn with_tls_a_listener_may_depart_from_it() {
    let line =
        "-Z -o ssl_chain_cert=/etc/x -l 127.0.0.1,notls:127.0.0.1,btls:127.0.0.1,mtls:127.0.0.1";
    let tls: Vec<ListenTls> = settings(line).listen.iter().map(|listen| listen.tls).collect();
    use ListenTls::{Basic, Default, Mutual, Off};
    assert_eq!(tls, [Default, Off, Basic, Mutual]);
}

const PEERS: &str = "--peer-secret-file /s -x";

#[test]
fn repcacheds_lines_name_a_peer_and_the_replication_port() {
    for (line, peers, port, listen) in [
        ("-x 192.0.2.7", "192.0.2.7", 11212, "0.0.0.0:11212"),
        ("-x 192.0.2.7 -X 11300", "192.0.2.7", 11300, "0.0.0.0:11300"),
        ("-X11300 -x web2", "web2", 11300, "0.0.0.0:11300"),
        ("-X 11300", "", 11300, "0.0.0.0:11300"),
        ("-x 127.0.0.1:5", "127.0.0.1:5", 11212, "127.0.0.1:11212"),
        (
            "-x a,b:7 --peer c --replication-listen 10.0.0.1,[::1]:9",
            "a b:7 c",
            11212,
            "10.0.0.1:11212 [::1]:9",
        ),
    ] {
        let settings = settings(&format!("--peer-secret-file /s {line}"));
        let peering = &settings.peering;
        let all = |texts: Vec<String>| texts.join(" ");
        assert!(peering.enabled && settings.dump_enabled, "{line}");
        assert_eq!(all(peering.peers.iter().map(ToString::to_string).collect()), peers, "{line}");
        assert_eq!(peering.port, port, "{line}");
        assert_eq!(all(peering.listen.iter().map(ToString::to_string).collect()), listen, "{line}");
    }
    let dumping = settings("-X -x 127.0.0.1");
    assert!(!dumping.dump_enabled && dumping.peering.port == 11212, "memcached's -X is a switch");
    assert!(!settings("-X").peering.enabled);
}

#[test]
fn what_is_agreed_with_peers_is_chosen_by_name() {
    use crate::settings::{Ack, AckFallback};
    let line = format!(
        "{PEERS} web2 --ack all --ack-timeout 20 --ack-fallback error --node-id 7 --cluster shop \
         --bootstrap-timeout wait --replication-log 1g --tombstone-memory 32 \
         --tombstone-horizon 60 --max-clock-skew 5 --lock-keys a* --lock-keys b*"
    );
    let peering = settings(&line).peering;
    assert_eq!((peering.ack, peering.ack_fallback), (Ack::All, AckFallback::Error));
    assert_eq!(peering.ack_timeout.as_millis(), 20);
    assert_eq!((peering.node, peering.cluster.as_str()), (7, "shop"));
    assert_eq!(peering.bootstrap_timeout, None);
    assert_eq!((peering.log_bytes, peering.tombstone_bytes), (1 << 30, 32 << 20));
    assert_eq!(peering.tombstone_horizon.as_secs(), 60);
    assert_eq!(peering.clock_skew_max.as_secs(), 5);
    assert_eq!(peering.lock_keys, ["a*", "b*"]);
}

/// Who waits for less takes every look at the clock for a pause, and asks all peers what it missed.
#[test]
fn the_least_ack_timeout_is_no_shorter_than_two_looks_at_the_clock() {
    use crate::replication::{TICK, pause_noticed};
    let least = settings(&format!("{PEERS} web2 --ack-timeout 20")).peering.ack_timeout;
    assert!(pause_noticed(least) >= 2 * TICK);
}

#[test]
fn a_peer_elsewhere_must_prove_who_he_is_unless_the_operator_insists() {
    for line in [
        "-x 192.0.2.7 --peer-insecure",
        "-x 192.0.2.7 --peer-secret-file /s",
        "-x 192.0.2.7 --peer-tls-cert /c --peer-tls-key /k --peer-tls-ca /a",
        "-x 127.0.0.1",
        "-x localhost",
        "-X 5 --replication-listen 127.0.0.1",
    ] {
        assert!(settings(line).peering.enabled, "{line}");
    }
}

#[test]
fn every_letter_and_long_name_of_memcached_is_known() {
    let mut letters: Vec<char> = options().filter_map(|option| option.short).collect();
    letters.extend(['h', 'i', 'V']);
    letters.retain(|letter| *letter != 'x');
    letters.sort_unstable();
    let mut expected: Vec<char> = "pUsaAldrumMckvhiVPfnLDtRCbBISFXWYeZNo".chars().collect();
    expected.sort_unstable();
    assert_eq!(letters, expected);
    let names = "port udp-port unix-socket unix-mask enable-shutdown listen daemon \
        enable-coredumps user memory-limit disable-evictions conn-limit lock-memory verbose \
        pidfile slab-growth-factor slab-min-size enable-largepages threads max-reqs-per-event \
        disable-cas listen-backlog protocol max-item-size enable-sasl disable-flush-all \
        disable-dumping disable-watch auth-file memory-file enable-ssl extended napi-ids";
    for name in names.split_whitespace() {
        assert!(options().any(|option| option.long == name), "{name}");
    }
}

#[test]
fn start_up_lines_seen_in_the_wild_start() {
    let lines = [
        "-d -m 64 -p 11211 -u memcache -l 127.0.0.1 -P /var/run/memcached/memcached.pid",
        "-m 64",
        "-m 64 -p 11211 -u memcache -l 127.0.0.1 -l ::1",
        "-u memcached -p 11211 -m 64 -c 1024 -l 127.0.0.1,::1",
        "-m 1024 -c 4096 -t 8 -I 4m -v -o modern,lru_crawler,lru_maintainer",
        "-o no_modern,no_lru_crawler,slab_chunk_max=1 -I 1024",
        "-I 1024 -o slab_chunk_max=1,no_lru_crawler,no_lru_maintainer",
        "-o no_lru_crawler,no_lru_maintainer,relaxed_privileges -p -1 -U 0 -A",
        "-m 8 -o slab_reassign,slab_automove -I 512k",
        "-o slab_automove=2,slab_automove_window=3,slab_automove_freeratio=0.02 -m 60",
        "-o idle_timeout=3 -l 127.0.0.1 -U 0 -R 200 -c 4096",
        "-o slab_sizes=100-200-300-400-500 -vv",
        "-o no_modern,track_sizes -s /tmp/memcachetest.1234 -a 0700",
        "-C -o drop_privileges,hash_algorithm=xxh3,hashpower=20",
        "-o ext_path=/tmp/extstore.1:64m,ext_wbuf_size=8,ext_threads=1,ext_io_depth=2,ext_item_size=512,ext_item_age=2,ext_recache_rate=10000,ext_max_frag=0.9,slab_automove=0,ext_compact_under=1",
        "-N 2 -t 4 --enable-coredumps",
        "--conn-limit=2048 --memory-limit=128 --listen=localhost --max-item-size=2m --verbose",
    ];
    for line in lines {
        assert!(!settings(line).listen.is_empty() || line.contains("-s "), "{line}");
    }
}

#[test]
fn one_port_is_enough_for_listeners_that_do_not_meet() {
    for line in [
        "-l 10.0.0.1 -X 11211 -x 127.0.0.1",
        "-l [::1] -X 11211 -x 127.0.0.1",
        "-p -1 -X 11211 -x 127.0.0.1",
        "-l 127.0.0.1,127.0.0.2 -X 11212 -x 127.0.0.1",
        "-s /tmp/socket -X 11211 -x 127.0.0.1",
    ] {
        settings(line);
    }
}

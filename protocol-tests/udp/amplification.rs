//! The attacks of February 2018, small requests whose long answers are turned on somebody else by a
//! forged source: how many bytes go, for each that comes, to a source outside `--udp-allow`.

use std::fs;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Instant;

use super::caller::{Caller, DATAGRAM_MAX, HEADING_LEN, Heading, udp_port};
use crate::client::{Client, PATIENCE, show, wait_until};
use crate::frame;
use crate::pattern::escape;
use crate::server::{Program, Server};

/// The ratio that SECURITY and README promise.
const RATIO_MAX: usize = 10;

/// Items of many lengths, stored over TCP: `big`, `k0` to `k459`, and `s0` to `s1500` as long as
/// they say.
fn fill(server: &Server) {
    let mut client = Client::of(server);
    client.set("big", &[b'v'; 900_000]);
    for number in 0..460 {
        client.set(&format!("k{number}"), &[b'v'; 1_000]);
    }
    for len in 0..=1_500 {
        client.set(&format!("s{len}"), &vec![b'v'; len]);
    }
}

/// What an attacker would ask.
fn questions() -> Vec<Vec<u8>> {
    let keys: String = (0..460).map(|number| format!(" k{number}")).collect();
    let text = [
        "get big\r\n",
        "gets big\r\n",
        "gat 0 big\r\n",
        "gats 0 big\r\n",
        "get k1\r\n",
        "get k1 k2 k3 k4 k5 k6 k7 k8\r\n",
        &format!("get{}\r\n", " big".repeat(345)),
        &format!("get{}\r\n", " s9".repeat(460)),
        &format!("get{keys}\r\n"),
        &format!("gets{keys}\r\n"),
        &format!("gat 0{keys}\r\n"),
        "stats\r\n",
        "stats settings\r\n",
        "stats items\r\n",
        "stats slabs\r\n",
        "stats sizes\r\n",
        "stats conns\r\n",
        "stats twincached\r\n",
        "stats detail dump\r\n",
        "stats cachedump 1 0\r\n",
        "lru_crawler metadump all\r\n",
        "lru_crawler mgdump all\r\n",
        "watch\r\n",
        "peers\r\n",
        "version\r\n",
        "verbosity 9\r\n",
        "flush_all\r\n",
        "quit\r\n",
        "mn\r\n",
        "me s1\r\n",
        "mg big v\r\n",
        "mg s9 c f h k l s t v O1234\r\n",
        "mg YmlnAAAA b k v\r\n",
        "touch s1 0\r\n",
        "incr s1 1\r\n",
        "foo\r\n",
        "\r\n",
        "\n\n",
        "get\n",
        "set s1 0 0 9\r\n",
        &"get big\r\n".repeat(150),
        &"get s9\r\n".repeat(150),
        &"version\r\n".repeat(150),
        &"mn\r\n".repeat(340),
        &"\n".repeat(1_390),
        &"mg s9 v\r\n".repeat(150),
        &"foo\r\n".repeat(270),
    ];
    let binary = [
        "get key=big",
        "getk key=big",
        "getkq key=big",
        "gat key=big",
        "get key=none",
        "getk key=none",
        "stat",
        "stat key=settings",
        "stat key=items",
        "version",
        "noop",
        "flush",
        "quit",
        "0x55",
        "sasl_list",
        "delete",
    ];
    let mut questions: Vec<Vec<u8>> = text.iter().map(|text| text.as_bytes().to_vec()).collect();
    questions.extend(binary.iter().map(|line| frame::request(line)));
    questions.extend(binary.iter().map(|line| frame::request(line).repeat(40)));
    questions.push(["getq key=s9", "noop"].map(frame::request).concat().repeat(20));
    // Somewhere between the longest answer that is given and the shortest that is not.
    for len in 0..=1_500 {
        questions.push(format!("get s{len}\r\n").into_bytes());
        questions.push(format!("mg s{len} v\r\n").into_bytes());
        questions.push(frame::request(&format!("get key=s{len}")));
    }
    questions
}

/// CVE-2018-1000115.
#[test]
fn who_is_not_allowed_cannot_turn_the_server_on_somebody_else() {
    let flags = ["-U", "-1", "--udp-allow", "127.0.0.2/32"];
    let server = Server::start(Program::Twincached, &flags);
    fill(&server);
    let mut attacker = Caller::of(&server);
    let (mut worst, mut worst_of) = ((0, 1), Vec::new());
    let (mut sent_in_all, mut heard_in_all, mut answered) = (0, 0, 0);
    let questions = questions();
    for question in &questions {
        attacker.say(question);
        let heard = attacker.hear_all();
        let sent = HEADING_LEN + question.len();
        let bytes: usize = heard.iter().map(Vec::len).sum();
        let what = escape(question);
        assert!(heard.len() <= 1, "{} datagrams for one: {what}", heard.len());
        assert!(bytes <= DATAGRAM_MAX, "{bytes} bytes for {what}");
        assert!(bytes <= RATIO_MAX * sent, "{bytes} bytes for {sent}: {what}");
        if bytes * worst.1 > worst.0 * sent {
            (worst, worst_of) = ((bytes, sent), question.clone());
        }
        (sent_in_all, heard_in_all) = (sent_in_all + sent, heard_in_all + bytes);
        answered += heard.len();
    }
    let refused = Client::of(&server).stats("twincached")["udp_replies_refused"].clone();
    let (bytes, sent) = (as_f64(worst.0), as_f64(worst.1));
    show(&format!(
        "UDP outside of --udp-allow: {} requests, {answered} answers, {:.2} bytes for each in all; \
         worst {:.2} ({bytes} for {sent}: {}); {refused} answers refused",
        questions.len(),
        as_f64(heard_in_all) / as_f64(sent_in_all),
        bytes / sent,
        escape(&worst_of),
    ));
    assert!(as_f64(worst.0) > 9.0 * as_f64(worst.1), "the bound is not where it was looked for");
    assert_eq!(Client::of(&server).get("s9").as_deref(), Some(&[b'v'; 9][..]), "nothing flushed");

    let mut allowed = Caller::between("127.0.0.2", ([127, 0, 0, 1], udp_port(&server)).into());
    allowed.say("get s1500\r\n");
    assert_eq!(allowed.hear_all().len(), 2, "who is allowed is answered in full");
}

#[test]
fn with_a_rate_a_network_is_heard_so_often_a_second_and_others_and_the_allowed_as_before() {
    let rate = 50;
    let flags = ["-U", "-1", "-t", "4", "--udp-allow", "127.0.2.1", "--udp-rate", "50"];
    let server = Server::start(Program::Twincached, &flags);
    let port = udp_port(&server);
    let caller = |own: &str| Caller::between(own, ([127, 0, 0, 1], port).into());
    let mut network: Vec<Caller> = (1..=10).map(|n| caller(&format!("127.0.0.{n}"))).collect();
    let since = Instant::now();
    for round in 0..300 {
        network[round % 10].say("get k\r\n");
    }
    let mut client = Client::of(&server);
    let mut count = |name: &str| client.stats("twincached")[name].parse::<u64>().unwrap();
    wait_until("all have come", || count("udp_datagrams") == 300);
    let seconds = since.elapsed().as_secs() + 2;
    let limited = count("udp_rate_limited");
    let heard = 300 - limited;
    assert!(heard >= rate && heard <= rate * seconds, "{heard} heard in {seconds} s");
    for other in ["127.0.1.1", "127.0.2.1"] {
        assert_eq!(caller(other).hear_all().len(), 0, "{other} is answered");
    }
    let mut allowed = caller("127.0.2.1");
    (0..200).for_each(|_| _ = allowed.say("get k\r\n"));
    assert_eq!(allowed.hear_all().len(), 200);
    show(&format!(
        "--udp-rate {rate}: of 300 requests from ten addresses of one network {heard} were heard"
    ));
    assert_eq!(count("udp_rate_limited"), limited);
}

/// CVE-2018-1000115: what nobody asked for is not there.
#[test]
fn without_u_there_is_no_udp() {
    let server = Server::start(Program::Twincached, &[]);
    let ports = fs::read_to_string(server.file("port")).unwrap();
    assert!(!ports.contains("UDP"), "{ports}");
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(("127.0.0.1", server.port())).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send(&Heading::of(1).around(b"version\r\n")).unwrap();
    let refused = client.recv(&mut [0; 100]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(Client::of(&server).stats("settings")["udpport"], "0");
}

/// What this is about: the oracle's factor, by its own count.
#[test]
fn memcached_answers_a_forged_question_with_thousands_of_times_its_length() {
    let server = Server::start(Program::Oracle, &["-U", "-1", "-t", "1"]);
    let mut client = Client::of(&server);
    client.set("big", &[b'v'; 900_000]);
    let mut written = || client.stat("bytes_written");
    let (first, before) = (written(), written());
    let mut attacker = Caller::of(&server);
    let question = "get big\r\n";
    attacker.say(question);
    wait_until("it has answered", || written() > before + 900_000);
    let bytes = usize::try_from(written() - before - (before - first)).unwrap();
    let factor = bytes / (HEADING_LEN + question.len());
    show(&format!("memcached answers the same question with {factor} times its length"));
    assert!(factor > 1_000);
}

fn as_f64(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

//! Connections: how many, how long, and what happens when the machine has no more to give.

use std::time::{Duration, Instant};

use crate::client::{
    Client, cpu_ticks, limit_files, machine_to_itself, many_files, open_files, show, wait_until,
};
use crate::pattern::escape;
use crate::server::{Program, Server};

const TOO_MANY: &[u8] = b"ERROR Too many open connections\r\n";

#[test]
fn a_connection_over_the_limit_is_told_so_and_closed() {
    let server = Server::start(Program::Twincached, &["-c", "5"]);
    let mut served: Vec<Client> = (0..5).map(|_| Client::of(&server)).collect();
    assert!(served.iter_mut().all(Client::is_served));
    let refused = Client::of(&server).last_words().expect("it is closed");
    assert_eq!(escape(&refused), escape(TOO_MANY));
    assert_eq!(served[0].stat("rejected_connections"), 1);
    assert!(served.iter_mut().all(Client::is_served), "those within the limit are not disturbed");
    drop(served.pop());
    wait_until("a place that became free is given away", || Client::of(&server).is_served());
}

#[test]
fn of_a_thousand_clients_exactly_the_hundred_within_the_limit_are_served() {
    let _machine = machine_to_itself();
    many_files();
    let server = Server::start(Program::Twincached, &["-c", "100"]);
    let mut served: Vec<Client> = (0..100).map(|_| Client::of(&server)).collect();
    assert!(served.iter_mut().all(Client::is_served));
    let refused: Vec<Client> = (0..900).map(|_| Client::of(&server)).collect();
    for mut client in refused {
        assert_eq!(escape(&client.last_words().expect("closed")), escape(TOO_MANY));
    }
    assert_eq!(served[0].stat("rejected_connections"), 900);
    assert_eq!(served[0].stat("curr_connections"), 100);
    assert!(served.iter_mut().all(Client::is_served));
}

#[test]
fn without_maxconns_fast_a_connection_over_the_limit_waits_for_a_place() {
    let flags = ["-c", "5", "-o", "no_maxconns_fast"];
    let server = Server::start(Program::Twincached, &flags);
    let mut served: Vec<Client> = (0..5).map(|_| Client::of(&server)).collect();
    assert!(served.iter_mut().all(Client::is_served));
    let mut waiting = Client::of(&server);
    waiting.set_patience(Duration::from_millis(300));
    assert!(!waiting.is_served(), "it is neither served nor told anything");
    wait_until("the server says that it does not listen", || {
        served[0].stat("listen_disabled_num") == 1 && served[0].stat("accepting_conns") == 0
    });
    drop(served.pop());
    waiting.set_patience(crate::client::PATIENCE);
    assert!(waiting.line().starts_with(b"VERSION "), "its place has come");
    drop(served.pop());
    wait_until("the server listens again", || served[0].stat("accepting_conns") == 1);
}

fn idle_connections_are_closed(program: Program) {
    let server = Server::start(program, &["-o", "idle_timeout=1"]);
    let (mut idle, mut busy) = (Client::of(&server), Client::of(&server));
    assert!(idle.is_served());
    let since = Instant::now();
    idle.set_patience(Duration::from_millis(100));
    let last_words = loop {
        assert!(busy.is_served(), "a connection that speaks is not idle");
        if let Some(last_words) = idle.last_words() {
            break last_words;
        }
        assert!(since.elapsed() < Duration::from_secs(15), "{program:?} does not close it");
    };
    assert_eq!(escape(&last_words), "", "it is closed without a word");
    assert!(since.elapsed() >= Duration::from_millis(900), "{:?} is early", since.elapsed());
    assert_eq!(busy.stat("idle_kicks"), 1);
}

#[test]
fn an_idle_connection_is_closed_after_its_timeout_and_a_busy_one_is_not() {
    idle_connections_are_closed(Program::Twincached);
    idle_connections_are_closed(Program::Oracle);
}

#[test]
fn an_idle_connection_on_a_unix_socket_is_not_closed() {
    let flags = ["-o", "idle_timeout=1", "-s", "{dir}/socket"];
    let server = Server::start(Program::Twincached, &flags);
    let mut client = Client::of(&server);
    assert!(client.is_served());
    client.set_patience(Duration::from_secs(4));
    assert!(client.last_words().is_none(), "it was closed");
    assert!(client.is_served());
}

/// F13 and F18: a request that was begun has 30 s for its next byte, an answer 60 s to be taken. One
/// that is between requests may be silent for ever.
#[test]
fn what_was_begun_and_stands_still_is_given_up_in_time() {
    let server = Server::start(Program::Twincached, &["-m", "256"]);
    let mut quiet = Client::of(&server);
    quiet.set("big", &vec![b'x'; 1_000_000]);
    for number in 0..100_000 {
        quiet.send(format!("set a-key-of-some-length-{number} 0 0 1 noreply\r\nx\r\n"));
    }
    assert!(quiet.is_served());
    let since = Instant::now();
    let mut half_line = Client::of(&server);
    half_line.send("get ha");
    let mut half_value = Client::of(&server);
    half_value.send("set k 0 0 1000\r\nha");
    let mut unread_value = Client::of(&server);
    unread_value.send("get big\r\n".repeat(50));
    let mut unread_dump = Client::of(&server);
    unread_dump.send("lru_crawler metadump all\r\n");

    for half in [&mut half_line, &mut half_value] {
        half.set_patience(Duration::from_secs(60));
        assert_eq!(half.last_words().as_deref(), Some(&b""[..]), "closed without a word");
    }
    let halves = since.elapsed();
    while quiet.stat("curr_connections") > 1 {
        assert!(since.elapsed() < Duration::from_secs(120), "unread answers are kept for ever");
        std::thread::sleep(Duration::from_millis(500));
    }
    let unread = since.elapsed();
    show(&format!(
        "half requests were given up after {halves:.0?}, unread answers after {unread:.0?}"
    ));
    assert!(halves >= Duration::from_secs(29) && unread >= Duration::from_secs(59));
    drop((unread_value, unread_dump));
}

/// Out of file descriptors: the listener must neither spin nor give up, and those who are
/// connected must not notice.
#[test]
fn without_file_descriptors_the_server_neither_spins_nor_stops() {
    let _machine = machine_to_itself();
    let server = Server::start(Program::Twincached, &["-c", "1000"]);
    let mut early = Client::of(&server);
    assert!(early.is_served());
    limit_files(&server, open_files(&server) + 4);
    let mut crowd: Vec<Client> = (0..60).filter_map(|_| Client::try_of(&server)).collect();
    assert!(early.is_served());
    let before = cpu_ticks(&server);
    std::thread::sleep(Duration::from_secs(2));
    let spent = cpu_ticks(&server) - before;
    show(&format!("out of file descriptors: {spent} ticks of 10 ms of processor time in 2 s"));
    assert!(spent < 40, "{spent} ticks in 2 s: the accept loop spins");
    assert!(early.is_served(), "an early connection is still served");
    limit_files(&server, 500);
    let since = Instant::now();
    wait_until("new connections are served again", || {
        Client::try_of(&server).is_some_and(|mut client| client.is_served())
    });
    show(&format!("and with descriptors again a connection is served after {:?}", since.elapsed()));
    crowd.truncate(30);
    wait_until("the rest of the crowd is served or was told", || {
        crowd.pop().is_none_or(|mut client| client.is_served() || client.last_words().is_some())
            && crowd.is_empty()
    });
}

#[test]
fn a_crowd_that_leaves_gives_its_places_back() {
    let server = Server::start(Program::Twincached, &["-c", "50"]);
    for _ in 0..4 {
        let mut crowd: Vec<Client> = Vec::new();
        wait_until("fifty places are free", || {
            crowd.clear();
            crowd.extend((0..50).map(|_| Client::of(&server)));
            crowd.iter_mut().all(Client::is_served)
        });
    }
}

#[test]
fn the_whole_answer_to_stats_fits_a_monitors_buffer() {
    let server = Server::start(Program::Twincached, &["-o", "idle_timeout=1000"]);
    let mut client = Client::of(&server);
    for round in 0..200 {
        client.set(&format!("key{round}"), &vec![b'x'; round * 100]);
        client.get(&format!("key{round}")).expect("a hit");
        client.ask("incr missing 1\r\n", "NOT_FOUND\r\n");
    }
    client.send("stats\r\n");
    let mut whole = 0;
    loop {
        let line = client.line();
        whole += line.len();
        if line == b"END\r\n" {
            break;
        }
    }
    show(&format!("stats takes {whole} bytes"));
    assert!(whole <= 4095, "{whole} bytes");
}

#[test]
fn a_get_line_without_end_is_refused_at_a_mebibyte() {
    let server = Server::start(Program::Twincached, &[]);
    let mut client = Client::of(&server);
    let line = b"get ".iter().copied().chain(b"key ".iter().copied().cycle().take(3 << 20));
    let line: Vec<u8> = line.collect();
    client.try_send(&line, Duration::from_secs(5));
    let last_words = client.last_words().expect("the connection is closed");
    // The bytes that were not read may cost the client the answer.
    assert!(last_words.is_empty() || last_words.starts_with(b"CLIENT_ERROR "));
    assert!(Client::of(&server).is_served());
}

#[test]
fn a_get_line_just_under_a_mebibyte_is_answered() {
    let server = Server::start(Program::Twincached, &[]);
    let mut client = Client::of(&server);
    client.set("k", b"v");
    let keys = "m ".repeat(500_000);
    client.ask(format!("get {keys}k\r\n"), "VALUE k 0 1\r\nv\r\nEND\r\n");
}

#[test]
fn the_test_clock_cannot_be_moved_unless_the_server_was_started_for_tests() {
    let server = Server::start_without_test_clock();
    let mut client = Client::of(&server);
    for command in ["debugtime +1\r\n", "debugtime p\r\n", "debugpanic\r\n"] {
        client.ask(command, "ERROR\r\n");
    }
}

#[test]
fn who_asks_for_connections_comes_last_in_the_list() {
    let server = Server::start(Program::Twincached, &[]);
    let mut clients: Vec<Client> = (0..4).map(|_| Client::of(&server)).collect();
    assert!(clients.iter_mut().all(Client::is_served));
    for client in &mut clients {
        client.send("stats conns\r\n");
        let mut lines = vec![client.line()];
        while lines.last().is_some_and(|line| line != b"END\r\n") {
            lines.push(client.line());
        }
        let states: Vec<&Vec<u8>> =
            lines.iter().filter(|line| line.windows(7).any(|w| w == b":state ")).collect();
        assert_eq!(states.len(), 5, "a listener and four clients");
        assert!(states.last().unwrap().ends_with(b"conn_parse_cmd\r\n"));
    }
}

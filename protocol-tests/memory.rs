//! The store's memory from outside: that `-m` holds under churn, and what happens under `-M`.

use std::time::{Duration, Instant};

use crate::client::{Client, long_form, machine_to_itself, rss_kib, show, wait_until};
use crate::pattern::escape;
use crate::server::{Program, Server};

const OUT_OF_MEMORY: &str = "SERVER_ERROR out of memory storing object\r\n";
const MIB_IN_KIB: u64 = 1024;

/// A stream of numbers that is the same in every run.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The answer to a `set`.
fn try_set(client: &mut Client, verb: &str, key: &str, value: &[u8]) -> String {
    let line = format!("{verb} {key} 0 0 {}\r\n", value.len());
    client.send([line.as_bytes(), value, b"\r\n"].concat());
    String::from_utf8(client.line()).unwrap()
}

/// Fills a `-M` server with values of 10 kB, numbered from `first`, and says how many it took.
fn fill_from(client: &mut Client, first: u32) -> u32 {
    for number in first..first + 5_000 {
        match try_set(client, "set", &format!("fill{number}"), &[b'x'; 10_000]).as_str() {
            "STORED\r\n" => {}
            OUT_OF_MEMORY => return number - first,
            other => panic!("{other:?}"),
        }
    }
    panic!("50 MB are stored in 16 MB")
}

fn out_of_memory_under_no_eviction(program: Program) {
    let server = Server::start(program, &["-M", "-m", "16"]);
    let mut client = Client::of(&server);
    client.set("old1", &[b'o'; 10_000]);
    client.set("old2", &[b'o'; 10_000]);
    client.set("old3", &[b'o'; 10_000]);
    let mut filled = fill_from(&mut client, 0);
    assert!(filled > 500, "{program:?} took only {filled} values of 10 kB in 16 MB");
    assert_eq!(client.stat("evictions"), 0);
    assert!(client.stat("store_no_memory") >= 1);

    // Upstream's slabs have room for a page of every size: there the new value must be of the size
    // that is used up.
    let new = vec![b'n'; if program == Program::Oracle { 10_000 } else { 400_000 }];
    // There, too, the bytes to append need memory of their own before the item is looked at.
    let appended = if program == Program::Oracle { OUT_OF_MEMORY } else { "NOT_STORED\r\n" };
    for (verb, key, answer, stays) in [
        ("set", "old1", OUT_OF_MEMORY, false),
        ("replace", "old2", OUT_OF_MEMORY, true),
        ("append", "old3", appended, true),
    ] {
        assert_eq!(try_set(&mut client, verb, key, &new), answer, "{program:?}: {verb}");
        assert_eq!(client.get(key).is_some(), stays, "{program:?}: the old value after {verb}");
        filled += fill_from(&mut client, filled);
    }
    client.send(format!("set new 0 0 {} noreply\r\n", new.len()));
    client.send(&new);
    client.ask("\r\nget new\r\n", "END\r\n");

    for number in 0..filled {
        client.ask(format!("delete fill{number}\r\n"), "DELETED\r\n");
    }
    client.set("afterwards", &[b'x'; 10_000]);
    assert!(client.get("afterwards").is_some(), "deleting gives memory back");
}

#[test]
fn without_evictions_a_full_server_refuses_and_lives_on() {
    out_of_memory_under_no_eviction(Program::Twincached);
}

#[test]
fn the_oracle_handles_the_old_value_of_a_refused_store_alike() {
    out_of_memory_under_no_eviction(Program::Oracle);
}

#[test]
fn a_server_that_is_full_of_live_items_evicts_and_counts_it() {
    let server = Server::start(Program::Twincached, &["-m", "16"]);
    let mut client = Client::of(&server);
    for number in 0..4_000 {
        client.set(&format!("k{number}"), &[b'x'; 10_000]);
    }
    assert!(client.get("k3999").is_some(), "the youngest is there");
    assert!(client.get("k0").is_none(), "the oldest is gone");
    let (evictions, items) = (client.stat("evictions"), client.stat("curr_items"));
    assert_eq!(evictions + items, 4_000, "what was stored is there or was evicted");
    assert!(items > 1_300, "only {items} values of 10 kB are held in 16 MiB");
    assert_eq!(client.stat("evicted_unfetched"), evictions);
}

#[test]
fn an_expired_item_gives_way_before_a_live_one() {
    let server = Server::start(Program::Twincached, &["-m", "16"]);
    let mut client = Client::of(&server);
    for number in 0..500 {
        client.set(&format!("live{number}"), &[b'x'; 10_000]);
    }
    for number in 0..500 {
        let line = format!("set dead{number} 0 1 10000\r\n");
        client.ask([line.as_bytes(), &[b'x'; 10_000], b"\r\n"].concat(), "STORED\r\n");
    }
    crate::run::move_clock(&server, 5).unwrap();
    for number in 0..700 {
        client.set(&format!("late{number}"), &[b'x'; 10_000]);
    }
    assert_eq!(client.stat("evictions"), 0, "expired items made the room");
    assert!((0..500).all(|number| client.get(&format!("live{number}")).is_some()));
}

#[test]
fn memory_of_expired_items_comes_back_without_being_asked_for() {
    let server = Server::start(Program::Twincached, &[]);
    let mut client = Client::of(&server);
    for number in 0..3_000 {
        client.ask(format!("set k{number} 0 5 4\r\nabcd\r\n"), "STORED\r\n");
    }
    assert_eq!(client.stat("curr_items"), 3_000);
    crate::run::move_clock(&server, 10).unwrap();
    wait_until("expired items are reclaimed", || client.stat("curr_items") == 0);
    assert_eq!(client.stat("bytes"), 0);
}

/// What memcached counts for an item beside its value: header, cas unique, a key of six bytes and
/// line ends. An item's live data are taken to be that and the value.
const UPSTREAM_OVERHEAD: usize = 65;

/// The sizes of sessions drift; memory must not stay with the sizes of yesterday.
#[test]
fn memory_follows_the_sizes_of_the_values() {
    let server = Server::start(Program::Twincached, &["-m", "32"]);
    let mut client = Client::of(&server);
    let limit = usize::try_from(client.stat("limit_maxbytes")).unwrap();
    for (round, size) in [300, 3_000, 300, 30_000, 300].into_iter().enumerate() {
        let value = vec![b'x'; size];
        let enough = 2 * (32 << 20) / size;
        let before = client.stat("evictions");
        for number in 0..enough {
            let line = format!("set r{round}k{number} 0 0 {size} noreply\r\n");
            client.send([line.as_bytes(), &value, b"\r\n"].concat());
        }
        client.ask(format!("get r{round}k{}\r\n", enough + 1), "END\r\n");
        let sample = (0..enough).step_by(7);
        let held = sample.filter(|n| client.get(&format!("r{round}k{n}")).is_some()).count() * 7;
        let share = held * (size + UPSTREAM_OVERHEAD) * 100 / limit;
        show(&format!("values of {size} B: live data fill {share} % of -m"));
        assert!(client.stat("evictions") > before);
        assert!(share >= 80, "values of {size} bytes fill only {share} % of the limit");
    }
}

/// F23: sizes from 10 bytes to 900 kB, small ones far more often, sets and deletes mixed.
#[test]
fn resident_memory_stays_near_the_limit_under_churn() {
    let _machine = machine_to_itself();
    let span = Duration::from_secs(if long_form() { 3_600 } else { 8 });
    let server = Server::start(Program::Twincached, &["-m", "64"]);
    let bound = 64 * MIB_IN_KIB * 110 / 100 + 64 * MIB_IN_KIB;
    let ends = Instant::now() + span;
    let threads: Vec<_> = (1..=3)
        .map(|seed| {
            let mut client = Client::of(&server);
            std::thread::spawn(move || churn(&mut client, seed, ends))
        })
        .collect();
    let mut worst = 0;
    while Instant::now() < ends {
        worst = worst.max(rss_kib(&server));
        std::thread::sleep(Duration::from_millis(20));
    }
    let sets: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    let mut client = Client::of(&server);
    show(&format!(
        "churn under -m 64: {sets} sets, RSS at most {} MiB (bound {} MiB), {} evictions",
        worst / MIB_IN_KIB,
        bound / MIB_IN_KIB,
        client.stat("evictions")
    ));
    assert!(worst <= bound, "RSS {worst} KiB is over {bound} KiB");
    for seed in 1..=3 {
        for number in 0..CHURN_KEYS {
            client.send(format!("delete {seed}-{number} noreply\r\n"));
        }
    }
    assert!(client.is_served());
    assert_eq!((client.stat("curr_items"), client.stat("bytes")), (0, 0), "the accounts drifted");
}

const CHURN_KEYS: u64 = 5_000;

fn churn(client: &mut Client, seed: u64, ends: Instant) -> u64 {
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let value = vec![b'v'; 900_000];
    let mut sets = 0;
    while Instant::now() < ends {
        let mut batch = Vec::new();
        for _ in 0..50 {
            // Halving again and again makes a size of 2^n half as likely as 2^(n-1).
            let largest = 900_000 >> numbers.below(17);
            let size = usize::try_from(10 + numbers.below(largest.max(11) - 10)).unwrap();
            let key = numbers.below(CHURN_KEYS);
            if numbers.below(10) == 0 {
                batch.extend(format!("delete {seed}-{key} noreply\r\n").bytes());
            } else {
                let exptime = [0, 0, 1, 100][usize::try_from(numbers.below(4)).unwrap()];
                batch.extend(format!("set {seed}-{key} 0 {exptime} {size} noreply\r\n").bytes());
                batch.extend(&value[..size]);
                batch.extend(b"\r\n");
                sets += 1;
            }
        }
        client.send(&batch);
        assert!(client.is_served());
    }
    sets
}

/// F21, the smoke: chains that grow with the number of items would show here.
#[test]
fn the_hundred_thousandth_key_is_stored_about_as_fast_as_the_first() {
    let _machine = machine_to_itself();
    let server = Server::start(Program::Twincached, &["-m", "256"]);
    let mut client = Client::of(&server);
    let mut time_of = |range: std::ops::Range<u32>| {
        let since = Instant::now();
        for number in range {
            client.send(format!("set 0000000000000000{number:016} 0 0 1 noreply\r\nx\r\n"));
        }
        assert!(client.is_served());
        since.elapsed()
    };
    let first = time_of(0..50_000);
    let _ = time_of(50_000..150_000);
    let last = time_of(150_000..200_000);
    show(&format!("50,000 keys alike but for a number: the first {first:?}, the fourth {last:?}"));
    assert!(last < first * 10 + Duration::from_secs(2), "{first:?} became {last:?}");
}

#[test]
fn a_hundred_thousand_prefixes_do_not_grow_without_end() {
    let server = Server::start(Program::Twincached, &["-D", ":"]);
    let mut client = Client::of(&server);
    for number in 0..100_000 {
        client.send(format!("set p{number}:k 0 0 1 noreply\r\nx\r\n"));
    }
    assert!(client.is_served());
    client.send("stats detail dump\r\n");
    let mut prefixes = 0;
    loop {
        let line = client.line();
        if line == b"END\r\n" {
            break;
        }
        assert!(line.starts_with(b"PREFIX "), "{}", escape(&line));
        prefixes += 1;
    }
    assert!((1..=65_536).contains(&prefixes), "{prefixes} prefixes are counted");
    assert!(client.is_served());
}

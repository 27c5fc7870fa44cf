//! Everything that a node holds, as its clients can see it.

use std::collections::BTreeMap;

use crate::client::Client;

/// An item as clients see it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) value: Vec<u8>,
    /// Client flags, cas, and whether it is stale: what `mg f c` answers.
    pub(super) marks: String,
    /// The Unix second, or -1.
    pub(super) expiry: String,
}

/// What a node holds, by key.
pub(super) type Contents = BTreeMap<String, Item>;

/// Keys asked for at a time.
const CHUNK: usize = 500;

/// All that the node behind `client` holds and would answer.
pub(super) fn contents(client: &mut Client) -> Contents {
    let expiries = expiries(client);
    let mut contents = Contents::new();
    for chunk in expiries.chunks(CHUNK) {
        let requests: String = chunk.iter().map(|(key, _)| format!("mg {key} f c v\r\n")).collect();
        client.send(requests);
        for (key, expiry) in chunk {
            if let Some((marks, value)) = value(client) {
                contents.insert(key.clone(), Item { value, marks, expiry: expiry.clone() });
            }
        }
    }
    contents
}

fn expiries(client: &mut Client) -> Vec<(String, String)> {
    client.send("lru_crawler metadump all\r\n");
    let mut expiries = Vec::new();
    loop {
        let line = String::from_utf8(client.line()).unwrap();
        match line.as_str() {
            "OK\r\n" => continue,
            "END\r\n" => return expiries,
            _ => {}
        }
        let field = |name: &str| {
            let words = line.split_whitespace();
            words.filter_map(|word| word.strip_prefix(name)).next().map(str::to_owned)
        };
        // A key with other bytes would have to be decoded first.
        let key = field("key=").filter(|key| !key.contains('%'));
        let expiry = field("exp=");
        expiries.push(key.zip(expiry).unwrap_or_else(|| panic!("metadump says {line:?}")));
    }
}

fn value(client: &mut Client) -> Option<(String, Vec<u8>)> {
    let line = String::from_utf8(client.line()).unwrap();
    let line = line.trim_end();
    if line == "EN" {
        return None;
    }
    let (length, marks) = line.strip_prefix("VA ").and_then(|rest| rest.split_once(' ')).unwrap();
    let value = client.bytes(length.parse().unwrap());
    client.expect("\r\n");
    // Who is to make a stale value new is settled on each node by itself.
    let marks: Vec<&str> = marks.split(' ').filter(|mark| !["W", "Z"].contains(mark)).collect();
    Some((marks.join(" "), value))
}

/// Says where two nodes differ, of at most a few keys.
pub(super) fn differences(one: &Contents, other: &Contents) -> Vec<String> {
    let keys = one.keys().chain(other.keys().filter(|key| !one.contains_key(*key)));
    let differing = keys.filter(|key| one.get(*key) != other.get(*key));
    differing
        .take(8)
        .map(|key| format!("{key}: {} / {}", show(one, key), show(other, key)))
        .collect()
}

fn show(contents: &Contents, key: &str) -> String {
    contents.get(key).map_or("nothing".to_owned(), |item| {
        let value = item.value.escape_ascii().to_string();
        let head: String = value.chars().take(24).collect();
        format!("{head:?} {} expires {}", item.marks, item.expiry)
    })
}

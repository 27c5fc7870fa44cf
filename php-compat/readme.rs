//! The ini lines of README.md, so that what it tells people to copy is what the stories run on.

use crate::server::Address;

const README: &str = include_str!("../README.md");

/// What README.md uses for an address that is the reader's own.
const TCP_EXAMPLE: &str = "127.0.0.1:11211";
const UNIX_EXAMPLE: &str = "/run/twincached/socket";

/// The lines under `heading`: its first ini block, and for a unix socket also the second, which
/// says what changes; the example address is replaced by `address`.
///
/// # Panics
/// When README.md does not show them as described.
pub(crate) fn ini_lines(heading: &str, address: &Address) -> String {
    let mut blocks = ini_blocks(heading).into_iter();
    let base = blocks.next().expect("an ini block for TCP");
    match address {
        Address::Tcp(port) => replace_once(&base, TCP_EXAMPLE, &format!("127.0.0.1:{port}")),
        Address::Unix(path) => {
            let change = blocks.next().expect("an ini block for the unix socket");
            base + &replace_once(&change, UNIX_EXAMPLE, path.to_str().unwrap())
        }
    }
}

fn ini_blocks(heading: &str) -> Vec<String> {
    let start = format!("\n### {heading}");
    let (_, section) = README.split_once(&start).expect("README.md has the section");
    let section = section.split("\n#").next().unwrap();
    let fenced = section.split("```ini\n").skip(1);
    fenced.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

fn replace_once(lines: &str, example: &str, real: &str) -> String {
    assert_eq!(lines.matches(example).count(), 1, "README.md names {example} once in:\n{lines}");
    lines.replace(example, real)
}

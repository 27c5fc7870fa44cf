//! `peers`, which memcached has not: how the peers are, and which there are.
//!
//! ```text
//! peers                                 PEER address name=value ..., one a line, then END
//! peers add HOST[:PORT]                 OK
//! peers remove HOST[:PORT] | node=N     OK
//! ```
//!
//! Changes are the operator's to allow (`--enable-peer-changes`): a node connects to whom it is told.

use super::Server;
use crate::command::Peers;
use crate::protocol::response::Response;
use crate::replication::PeerStatus;
use crate::settings::PeerName;

const USAGE: &str =
    "CLIENT_ERROR peers knows add host[:port], remove host[:port] and remove node=number";

pub(super) fn peers(server: &Server, words: &[&[u8]]) -> Response {
    let Some(peers) = &server.peers else {
        return Response::line(
            "SERVER_ERROR there is no link to peers: start with --peer or --replication-port",
        );
    };
    match words {
        [] => Response::Listing(listed(peers)),
        [change @ (b"add" | b"remove"), name] => {
            if !server.settings.peering.changeable {
                return Response::line(
                    "SERVER_ERROR peers cannot be changed here: start with --enable-peer-changes",
                );
            }
            let name = String::from_utf8_lossy(name);
            match changed(server, peers, *change == b"add", &name) {
                Ok(()) => Response::Ok,
                Err(why) => {
                    let why = why.replace(char::is_control, "?");
                    Response::Line(format!("CLIENT_ERROR {why}").into())
                }
            }
        }
        _ => Response::line(USAGE),
    }
}

fn changed(server: &Server, peers: &Peers, adds: bool, text: &str) -> Result<(), String> {
    let peering = &server.settings.peering;
    if let Some(number) = text.strip_prefix("node=").filter(|_| !adds) {
        return forget(peers, number);
    }
    let name = PeerName::parse(text);
    let name = name.ok_or_else(|| {
        format!("a peer was given as \"{text}\"; allowed: host, host:port, or [IPv6]:port")
    })?;
    let said = name.to_string();
    let changed = match adds {
        true => peers.roster.add(name, peering),
        false => peers.roster.remove(name, peering),
    };
    changed.map_err(|unchanged| unchanged.to_string())?;
    let what = if adds { "added" } else { "removed" };
    tracing::info!(peer = said, "peer {what} by a client's command");
    Ok(())
}

/// A node that dialled us has no name.
fn forget(peers: &Peers, number: &str) -> Result<(), String> {
    let status = peers.status();
    let known = status.iter().flat_map(|status| &status.peers);
    let is_it = |peer: &&PeerStatus| peer.node.is_some_and(|node| node.to_string() == number);
    let all: Vec<&PeerStatus> = known.filter(is_it).collect();
    if let Some(address) = all.iter().find_map(|peer| peer.address.as_ref()) {
        return Err(format!("node {number} is {address}, which is to be removed by that name"));
    }
    let Some(node) = all.iter().find_map(|peer| peer.node) else {
        return Err(format!("\"{number}\" is no peer's node number"));
    };
    peers.roster.forget(node);
    tracing::info!(node, "peer removed by a client's command");
    Ok(())
}

fn listed(peers: &Peers) -> Vec<u8> {
    let status = peers.status();
    let lines = status.iter().flat_map(|status| &status.peers).map(line);
    lines.collect::<String>().into_bytes()
}

fn line(peer: &PeerStatus) -> String {
    format!(
        "PEER {} node={} state={} in_sync={} lag_ms={} lag_records={} lag_bytes={} last_error={}\r\n",
        peer.address.as_deref().unwrap_or("unknown"),
        peer.node.unwrap_or(0),
        peer.state,
        if peer.in_sync { "yes" } else { "no" },
        peer.lag_ms,
        peer.lag_records,
        peer.lag_bytes,
        peer.last_error.map_or_else(|| "none".to_owned(), |reason| reason.to_string()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::roster::Change;
    use crate::replication::{NodeStatus, State};
    use crate::settings::Settings;

    fn server(tune: impl Fn(&mut Settings)) -> Server {
        let mut settings = Settings::default();
        settings.peering.enabled = true;
        settings.peering.changeable = true;
        tune(&mut settings);
        let peers = Peers::new(&settings.peering, 7);
        Server::with_peers(settings, peers)
    }

    fn answer(server: &Server, line: &str) -> String {
        let words: Vec<&[u8]> = line.split_whitespace().map(str::as_bytes).collect();
        match peers(server, &words) {
            Response::Ok => "OK".to_owned(),
            Response::Line(line) => line.into_owned(),
            Response::Listing(lines) => String::from_utf8(lines).unwrap(),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn show(server: &Server, known: &[(Option<&str>, u8)]) {
        let known = known.iter().map(|(address, node)| PeerStatus {
            address: address.map(str::to_owned),
            node: Some(*node),
            state: "streaming",
            ..PeerStatus::default()
        });
        let (peers, state) = (known.collect(), State::Ready);
        let status = NodeStatus { state, peers, ..NodeStatus::default() };
        server.peers.as_ref().unwrap().show(status);
    }

    #[test]
    fn each_peer_has_a_line() {
        let server = server(|_| {});
        assert_eq!(answer(&server, ""), "");
        show(&server, &[(Some("web2:11212"), 9), (None, 10)]);
        assert_eq!(
            answer(&server, ""),
            "PEER web2:11212 node=9 state=streaming in_sync=no lag_ms=0 lag_records=0 lag_bytes=0 \
             last_error=none\r\n\
             PEER unknown node=10 state=streaming in_sync=no lag_ms=0 lag_records=0 lag_bytes=0 \
             last_error=none\r\n"
        );
    }

    #[test]
    fn a_change_is_noted_once_and_a_wrong_one_is_answered_with_what_is_wrong() {
        let server = server(|_| {});
        show(&server, &[(Some("127.0.0.1:5"), 9), (None, 10)]);
        for (line, expected) in [
            ("add 127.0.0.1:5", "OK"),
            ("add 127.0.0.1:5", "CLIENT_ERROR 127.0.0.1:5 is a peer already"),
            (
                "add 127.0.0.1:0",
                "CLIENT_ERROR a peer was given as \"127.0.0.1:0\"; allowed: host, host:port, or \
                 [IPv6]:port",
            ),
            (
                "add web3",
                "CLIENT_ERROR web3 is another machine, and nobody would have to prove who he is; \
                 allowed: with --peer-secret-file file, with --peer-tls-cert, -key and -ca, or \
                 with --peer-insecure on a network where everybody may read every session",
            ),
            ("remove 127.0.0.1:6", "CLIENT_ERROR 127.0.0.1:6 is no peer; there are 127.0.0.1:5"),
            (
                "remove node=9",
                "CLIENT_ERROR node 9 is 127.0.0.1:5, which is to be removed by that name",
            ),
            ("remove node=11", "CLIENT_ERROR \"11\" is no peer's node number"),
            ("remove node=10", "OK"),
            ("remove 127.0.0.1:5", "OK"),
            ("remove", USAGE),
            ("add a b", USAGE),
            ("list", USAGE),
        ] {
            assert_eq!(answer(&server, line), expected, "{line}");
        }
        let name = PeerName::parse("127.0.0.1:5").unwrap();
        assert_eq!(
            server.peers.as_ref().unwrap().roster.take_changes(),
            [Change::Added(name.clone()), Change::Forgotten(10), Change::Removed(name)]
        );
    }

    #[test]
    fn nobody_changes_peers_without_the_operators_leave_but_everybody_may_look() {
        let server = server(|settings| settings.peering.changeable = false);
        show(&server, &[(None, 10)]);
        for line in ["add 127.0.0.1:5", "remove node=10"] {
            assert!(answer(&server, line).contains("--enable-peer-changes"), "{line}");
        }
        assert!(answer(&server, "").starts_with("PEER unknown node=10"));
        assert_eq!(server.peers.as_ref().unwrap().roster.take_changes(), []);
    }

    #[test]
    fn a_server_without_a_link_says_how_to_have_one() {
        let server = Server::new(Settings::default());
        for line in ["", "add 127.0.0.1:5"] {
            assert!(answer(&server, line).starts_with("SERVER_ERROR there is no link"), "{line}");
        }
    }
}

//! `stats conns`: every listener and connection by file descriptor.

use std::sync::Arc;

use super::super::{Connection, Server, Transport};
use super::List;
use crate::clock::Now;
use crate::protocol::response::Stat;

/// `stats conns`. The connection that asks comes last, as from upstream.
pub(super) fn conns(server: &Server, asking: &Connection, now: Now) -> Vec<Stat> {
    let mut others: Vec<Arc<Connection>> = server
        .connections
        .iter()
        .filter(|entry| entry.fd != asking.fd)
        .map(|entry| Arc::clone(entry.value()))
        .collect();
    others.sort_unstable_by_key(|connection| connection.fd);
    let mut list = List::default();
    for connection in &others {
        one(connection, connection.state().name(), now, &mut list);
    }
    one(asking, "conn_parse_cmd", now, &mut list);
    list.0
}

fn one(connection: &Connection, state: &'static str, now: Now, list: &mut List) {
    let fd = connection.fd;
    if connection.transport == Transport::Udp {
        list.put(format!("{fd}:UDP"), "UDP");
    }
    list.put(format!("{fd}:addr"), connection.addr.clone());
    if let Some(listen_addr) = &connection.listen_addr {
        list.put(format!("{fd}:listen_addr"), listen_addr.to_string());
    }
    list.put(format!("{fd}:state"), state);
    let idle = now.seconds().since(connection.last_command());
    list.put(format!("{fd}:secs_since_last_cmd"), idle);
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, client, lines};
    use super::*;
    use crate::clock::UnixSeconds;
    use crate::command::ConnState;
    use crate::settings::Settings;

    #[test]
    fn the_connection_that_asks_is_the_last_one_listed() {
        let server = Server::new(Settings::default());
        let an_hour_ago = UnixSeconds(NOW.seconds().0 - 3600);
        let path = format!("unix:/{}", "p".repeat(106));
        let open = [
            (30, "tcp6:[::1]:4712", Some("tcp6:[::]:11211"), Transport::Tcp, ConnState::Nread),
            (25, "udp:127.0.0.1:11211", None, Transport::Udp, ConnState::Read),
            (23, "tcp:127.0.0.1:11211", None, Transport::Tcp, ConnState::Listening),
            (24, path.as_str(), None, Transport::Unix, ConnState::Listening),
        ];
        for (fd, addr, listen, transport, state) in open {
            let listen = listen.map(Arc::from);
            let connection =
                Connection::new(fd, addr.to_owned(), listen, transport, state, an_hour_ago);
            server.connections.insert(fd, Arc::new(connection));
        }
        server.connections.insert(27, Arc::new(client()));
        assert_eq!(
            lines(&server, "conns"),
            [
                "23:addr tcp:127.0.0.1:11211",
                "23:state conn_listening",
                "23:secs_since_last_cmd 3600",
                &format!("24:addr {path}"),
                "24:state conn_listening",
                "24:secs_since_last_cmd 3600",
                "25:UDP UDP",
                "25:addr udp:127.0.0.1:11211",
                "25:state conn_read",
                "25:secs_since_last_cmd 3600",
                "30:addr tcp6:[::1]:4712",
                "30:listen_addr tcp6:[::]:11211",
                "30:state conn_nread",
                "30:secs_since_last_cmd 3600",
                "27:addr tcp:127.0.0.1:4711",
                "27:listen_addr tcp:127.0.0.1:11211",
                "27:state conn_parse_cmd",
                "27:secs_since_last_cmd 0",
            ]
        );
    }
}

//! A client that sets and counts, in memcached's words or in Redis's.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use crate::pair::Kind;

/// A connection.
pub(crate) struct Wire {
    kind: Kind,
    stream: BufReader<TcpStream>,
}

impl Wire {
    pub(crate) fn to(kind: Kind, port: u16) -> Wire {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Wire { kind, stream: BufReader::with_capacity(64 << 10, stream) }
    }

    /// Sets `count` values of `bytes`, all sent at once, and reads the answers.
    pub(crate) fn set_many(&mut self, first: u32, count: u32, bytes: usize) {
        let (mut requests, value) = (Vec::new(), vec![b'v'; bytes]);
        for number in first..first + count {
            let key = format!("memc.sess.key.k7q2v9m4x1c8b5n3z6{number:08}");
            match self.kind {
                Kind::Twincached(_) => write!(requests, "set {key} 0 0 {bytes}\r\n"),
                Kind::Redis => {
                    write!(requests, "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${bytes}\r\n", key.len())
                }
            }
            .unwrap();
            requests.extend_from_slice(&value);
            requests.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&requests).unwrap();
        let answer: &[u8] = match self.kind {
            Kind::Twincached(_) => b"STORED\r\n",
            Kind::Redis => b"+OK\r\n",
        };
        let mut heard = vec![0; answer.len() * count as usize];
        self.stream.read_exact(&mut heard).unwrap();
        assert!(heard.chunks(answer.len()).all(|line| line == answer));
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// How many items the server holds; 0 when it does not say.
    pub(crate) fn items(&mut self) -> u64 {
        match self.kind {
            Kind::Redis => {
                self.stream.get_mut().write_all(b"*1\r\n$6\r\nDBSIZE\r\n").unwrap();
                self.line().trim_start_matches(':').parse().unwrap_or(0)
            }
            Kind::Twincached(_) => {
                self.stream.get_mut().write_all(b"stats\r\n").unwrap();
                let mut items = 0;
                loop {
                    let line = self.line();
                    if line == "END" || line.is_empty() {
                        return items;
                    }
                    if let Some(number) = line.strip_prefix("STAT curr_items ") {
                        items = number.parse().unwrap();
                    }
                }
            }
        }
    }
}

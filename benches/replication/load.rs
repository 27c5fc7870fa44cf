//! Clients that set as fast as they are answered.
//!
//! Each of their two threads carries half of the connections. Latency is from writing a batch to
//! having read its last reply, as the client sees it, its own waiting for a core included.

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::node::{Node, moment};
use crate::protocol::Exchange;
use crate::support::Dice;

/// A reply that takes longer than this is no reply.
const PATIENCE: Duration = Duration::from_secs(5);

/// What to send, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    /// Requests sent together.
    pub(crate) pipelined: usize,
    pub(crate) keys: u32,
    pub(crate) value_len: usize,
    /// Whether Redis is asked for its replica's acknowledgement.
    pub(crate) wait: bool,
    pub(crate) duration: Duration,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) sets: f64,
    pub(crate) seconds: f64,
    /// Of batches in microseconds, sorted.
    pub(crate) latencies: Vec<u32>,
}

impl Load {
    /// Runs against `node`; an error tells of a reply that was not as it must be.
    pub(crate) fn run(&self, node: &Node) -> Result<Outcome, String> {
        let addr = SocketAddr::from(([127, 0, 0, 1], node.port));
        let exchange = Exchange::sets(node.protocol, self.pipelined, self.value_len, self.wait);
        let threads = if self.connections == 1 { 1 } else { 2 };
        let started = moment();
        let clients: Vec<_> = (0..threads)
            .map(|thread| {
                let (load, exchange) = (self.clone(), exchange.clone());
                let connections = self.connections / threads;
                thread::spawn(move || load.run_some(addr, &exchange, connections, thread as u64))
            })
            .collect();
        let mut latencies = Vec::new();
        for client in clients {
            latencies.extend(client.join().expect("a client thread")?);
        }
        let seconds = started.elapsed().as_secs_f64();
        let sets = (latencies.len() * self.pipelined) as f64;
        latencies.sort_unstable();
        Ok(Outcome { sets, seconds, latencies })
    }

    fn run_some(
        self,
        addr: SocketAddr,
        exchange: &Exchange,
        connections: usize,
        thread: u64,
    ) -> Result<Vec<u32>, String> {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let tasks: Vec<_> = (0..connections as u64)
            .map(|n| {
                let dice = Dice::seeded(thread << 32 | n);
                runtime.spawn(self.clone().converse(addr, exchange.clone(), dice))
            })
            .collect();
        let mut latencies = Vec::new();
        for task in tasks {
            latencies.extend(runtime.block_on(task).expect("a client")?);
        }
        Ok(latencies)
    }

    async fn converse(
        self,
        addr: SocketAddr,
        mut exchange: Exchange,
        mut dice: Dice,
    ) -> Result<Vec<u32>, String> {
        let failed = |error: io::Error| format!("no reply: {error}");
        let mut stream = TcpStream::connect(addr).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let mut reply = vec![0; exchange.reply.len()];
        let mut latencies = Vec::new();
        let until = moment() + self.duration;
        loop {
            exchange.redirect(&mut dice, self.keys);
            let sent = moment();
            if sent >= until {
                return Ok(latencies);
            }
            stream.write_all(&exchange.request).await.map_err(failed)?;
            let read = timeout(PATIENCE, stream.read_exact(&mut reply)).await;
            read.map_err(|_| "no reply in 5 s".to_owned())?.map_err(failed)?;
            if reply != exchange.reply {
                return Err(format!("the reply {:?}", String::from_utf8_lossy(&reply)));
            }
            latencies.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }
}

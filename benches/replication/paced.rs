//! Clients that read and write at a fixed rate, until they are told to stop.
//!
//! A request that is late because the one before it was slow counts from when it was due; one that
//! is late because this machine woke the client late counts from when it was sent.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::node::{Node, moment};
use crate::protocol::Exchange;
use crate::support::Dice;

/// Connections, each with a thread.
const CLIENTS: u64 = 4;

/// Between two requests of one connection: together 8,000 requests a second.
const EVERY: Duration = Duration::from_micros(500);

/// Clients at work.
#[derive(Debug)]
pub(crate) struct Paced {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<Vec<u32>, String>>>,
}

impl Paced {
    /// Every second request a get, the others sets, of the first `keys` keys, all of them stored.
    pub(crate) fn start(node: &Node, keys: u32, value_len: usize) -> Paced {
        let stop = Arc::<AtomicBool>::default();
        let client = |seed: u64| {
            let mut control = node.control();
            let stop = Arc::clone(&stop);
            let mut exchanges = [
                Exchange::get(node.protocol, value_len),
                Exchange::sets(node.protocol, 1, value_len, false),
            ];
            thread::spawn(move || {
                let (mut dice, mut latencies) = (Dice::seeded(seed), Vec::new());
                let mut due = moment();
                let mut was_late = false;
                while !stop.load(Ordering::Relaxed) {
                    let exchange = &mut exchanges[latencies.len() % 2];
                    exchange.redirect(&mut dice, keys);
                    thread::sleep(due.saturating_duration_since(moment()));
                    let start = if was_late { due } else { moment() };
                    control.stream.write_all(&exchange.request).map_err(|e| e.to_string())?;
                    let mut reply = vec![0; exchange.reply.len()];
                    control.replies.read_exact(&mut reply).map_err(|e| e.to_string())?;
                    if reply != exchange.reply {
                        return Err(format!("the reply {:?}", String::from_utf8_lossy(&reply)));
                    }
                    let micros = start.elapsed().as_micros();
                    latencies.push(u32::try_from(micros).unwrap_or(u32::MAX));
                    due = if was_late { due + EVERY } else { start + EVERY };
                    was_late = moment() > due;
                }
                Ok(latencies)
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Paced { stop, clients }
    }

    /// Ends it; latencies in microseconds, sorted.
    pub(crate) fn stop(self) -> Result<Vec<u32>, String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut latencies = Vec::new();
        for client in self.clients {
            latencies.extend(client.join().expect("a paced client")?);
        }
        latencies.sort_unstable();
        Ok(latencies)
    }
}

//! Memory of expired items comes back without anybody asking for them.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::sleep;

use crate::command::Server;
use crate::store::Sweep;

/// How often the store is asked whether something is due. Items expire in whole seconds.
const PACE: Duration = Duration::from_millis(250);

/// Sweeps until the future is dropped, in steps between which others on this thread, on the swept shard and
/// on this core have their turn.
pub async fn sweep_expired(server: Arc<Server>) {
    loop {
        while server.store.sweep(server.clock.now()) == Sweep::More {
            yield_now().await;
            // A thread that computes keeps its core for up to some milliseconds, and a worker may wait behind it.
            thread::yield_now();
        }
        sleep(PACE).await;
    }
}

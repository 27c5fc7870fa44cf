//! What a worker does once a tick: clients that have stood still for too long are ended.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::super::client::{Client, Waiting};
use super::{TICK, Worker};
use crate::command::{CloseReason, Transport};
use crate::limits::{REPLY_STALL_MAX, REQUEST_STALL_MAX, TLS_HANDSHAKE_MAX};

impl Worker {
    /// Looks after the clients, and begins the next tick.
    pub(super) fn look_after_clients(&self, now: Instant) {
        self.next_tick.set(now + TICK);
        let tick = self.ticks.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if let Some(cloakroom) = &self.cloakroom {
            cloakroom.call_due(self.server.clock.unmoved());
        }
        let mut clients = self.clients.borrow_mut();
        clients.end_looked_after(|client| {
            let still = TICK * tick.wrapping_sub(client.pulse().moved);
            let at_most = match client.waits_for() {
                Waiting::Reader => REPLY_STALL_MAX,
                Waiting::Rest => REQUEST_STALL_MAX,
                Waiting::Handshake => TLS_HANDSHAKE_MAX,
                _ => return None,
            };
            (still > at_most).then(|| {
                if client.waits_for() == Waiting::Handshake {
                    self.counters.ssl_handshake_errors.bump();
                }
                CloseReason::Error
            })
        });
        let (idle_timeout, now) = (self.server.settings.idle_timeout, self.now().seconds());
        let is_idle = |client: &Client| {
            let listed = &client.place().listed;
            client.waits_for() == Waiting::Request
                && listed.transport == Transport::Tcp
                && now.since(listed.last_command()) > idle_timeout
        };
        if idle_timeout > 0 {
            clients.end(|client| {
                is_idle(client).then(|| {
                    self.counters.idle_kicks.bump();
                    CloseReason::IdleTimeout
                })
            });
        }
    }
}

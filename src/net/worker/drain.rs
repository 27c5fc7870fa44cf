//! How a worker ends: it hears out who is speaking, and finishes what is being answered.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::super::client::{Client, Waiting};
use super::super::poller::Bell;
use super::Worker;
use crate::command::CloseReason;
use crate::limits::DRAIN_MAX;

/// When the node stops: who has said nothing for so long will say nothing, and how long others are heard.
const SILENT: Duration = Duration::from_millis(50);
const HEARD_OUT_MAX: Duration = Duration::from_millis(200);

impl Worker {
    /// Ends every client, those last whose reply is being sent.
    pub(super) async fn drain(&self, bell: Option<&Bell>) {
        // Somebody may have spoken already who was silent before.
        let until = Instant::now() + SILENT;
        while self.go_round(bell, Some(Instant::now())).await && Instant::now() < until {}
        let is_silent = |client: &Client| {
            client.waits_for() == Waiting::Request && !self.was_heard_lately(client)
        };
        self.clients.borrow_mut().end(|client| is_silent(client).then_some(CloseReason::Shutdown));
        self.hear_out(bell).await;
        self.stopping.set(true);
        let is_answered = |client: &Client| {
            matches!(client.waits_for(), Waiting::Reader | Waiting::Peers | Waiting::Turn)
        };
        self.clients
            .borrow_mut()
            .end(|client| (!is_answered(client)).then_some(CloseReason::Shutdown));
        self.serve_until(bell, Instant::now() + DRAIN_MAX).await;
        if !self.clients.borrow().is_empty() {
            tracing::info!("stopped before every reply had been taken");
            self.clients.borrow_mut().end(|_| Some(CloseReason::Shutdown));
        }
    }

    /// Ends clients as they fall silent, and waits a little for that. PHP asks for a session in three
    /// requests, sent one after the other: who has heard the first answer, and not the last, makes an
    /// empty session of it.
    async fn hear_out(&self, bell: Option<&Bell>) {
        let until = Instant::now() + HEARD_OUT_MAX;
        let mut heard = self.heard_lately();
        while !heard.is_empty() && Instant::now() < until {
            self.serve_until(bell, Instant::now() + SILENT).await;
            let now = self.heard_lately();
            heard.retain(|key, reads| now.get(key) == Some(reads));
            let mut clients = self.clients.borrow_mut();
            for &key in heard.keys() {
                clients.close(key);
            }
            let is_ended = |key: &usize| heard.contains_key(key);
            heard = now.into_iter().filter(|(key, _)| !is_ended(key)).collect();
        }
    }

    /// Serves clients as long as there are some, and until then.
    async fn serve_until(&self, bell: Option<&Bell>, until: Instant) {
        while !self.clients.borrow().is_empty() && Instant::now() < until {
            self.go_round(bell, Some(until)).await;
        }
    }

    /// Clients of whom something was heard in this tick or the last, and may follow soon, with how
    /// often.
    fn heard_lately(&self) -> HashMap<usize, u32> {
        let clients = self.clients.borrow();
        let may_follow = |client: &Client| {
            matches!(client.waits_for(), Waiting::Request | Waiting::Rest)
                && self.was_heard_lately(client)
        };
        let lately = clients.iter().filter(|(_, client)| may_follow(client));
        lately.map(|(key, client)| (key, client.pulse().heard)).collect()
    }

    fn was_heard_lately(&self, client: &Client) -> bool {
        self.tick().wrapping_sub(client.pulse().moved) <= 1
    }
}

//! A worker's round: it waits until clients are ready, and serves them.
//!
//! Most of those who are ready have sent one request and wait for its answer: they are served
//! [`together`](super::together). Who needs more than that has a turn of his own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::epoll::EpollEvent;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use super::super::client::{After, Readiness};
use super::super::poller::{Bell, Events, READY_AT_ONCE, key_of};
use super::super::socket::ClientSocket;
use super::clients::Clients;
use super::moderation::{LATE, MOMENT};
use super::{Buffers, Worker};
use crate::command::CloseReason;
use crate::store::MutationLog;

impl Worker {
    /// Waits until somebody is ready, or it is time for something, and serves all who are; `until` then at
    /// most. With a `bell` the runtime has other tasks, which have their turn meanwhile. Returns whether more
    /// may be ready.
    pub(super) async fn go_round(&self, bell: Option<&Bell>, until: Option<Instant>) -> bool {
        let now = Instant::now();
        if now >= self.next_tick.get() {
            self.or_end_all(|| self.look_after_clients(now));
        }
        let moments = [until, self.next_alarm(), Some(self.next_tick.get())];
        let until = moments.into_iter().flatten().min().unwrap_or(now);
        let mut events = [EpollEvent::empty(); READY_AT_ONCE];
        MutationLog::wake_reader();
        let ready = match bell {
            None => self.wait_moderated(&mut events, until.saturating_duration_since(now)),
            Some(bell) => self.rest_in_runtime(&mut events, bell, until).await,
        };
        self.or_end_all(|| {
            // Who gives way to others has his turn behind those who have become ready meanwhile.
            let called = self.hear_calls();
            self.serve_ready(&events[..ready]);
            self.serve_callers(&called);
        });
        ready == events.len()
    }

    /// Does what concerns several clients. A panic in it is no one client's, so all go, and others may come.
    fn or_end_all(&self, work: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            self.counters.panics.bump();
            self.buffers.borrow_mut().reply.clear();
            self.together.borrow_mut().clear();
            self.clients.borrow_mut().end(|_| Some(CloseReason::Error));
        }
    }

    /// Waits until somebody is ready, in a moment at the earliest if that lets many be.
    fn wait_moderated(&self, events: &mut Events, at_most: Duration) -> usize {
        let mut moderation = self.moderation.borrow_mut();
        let may_rest = at_most > LATE && !self.poller.calls().is_called();
        let began = (may_rest && moderation.wants_rest()).then(Instant::now);
        if began.is_some() {
            self.counters.moderated_rounds.bump();
            sleep(MOMENT);
        }
        let ready = self.poller.wait(events, at_most);
        moderation.note(ready, began.map(|began| began.elapsed()));
        ready
    }

    async fn rest_in_runtime(&self, events: &mut Events, bell: &Bell, until: Instant) -> usize {
        if !self.poller.calls().listen() {
            yield_now().await;
            return self.poller.wait(events, Duration::ZERO);
        }
        let rung = timeout_at(until, bell.readable()).await;
        let ready = self.poller.wait(events, Duration::ZERO);
        match rung {
            Ok(Ok(mut rung)) if ready < events.len() => rung.clear_ready(),
            Ok(_) => yield_now().await,
            Err(_elapsed) => {}
        }
        ready
    }

    /// Who has called; notes who has knocked.
    fn hear_calls(&self) -> Vec<usize> {
        self.wake_those_due();
        let calls = self.poller.calls();
        let mut is_called = false;
        // Those whom the cloakroom wakes call as well.
        while calls.take() {
            is_called = true;
            if calls.take_knock() {
                self.is_door_knocked.set(true);
                if let Some(cloakroom) = &self.cloakroom {
                    cloakroom.call_due(self.server.clock.unmoved());
                }
            }
        }
        if is_called { calls.take_clients() } else { Vec::new() }
    }

    fn serve_callers(&self, called: &[usize]) {
        if called.is_empty() {
            return;
        }
        let mut clients = self.clients.borrow_mut();
        let mut has_called =
            |key| clients.get(key).is_some_and(|client| client.signals().take_call());
        let called: Vec<usize> = called.iter().copied().filter(|&key| has_called(key)).collect();
        let mut turns = Vec::new();
        self.together.borrow_mut().release(&mut clients, &called, &mut turns);
        let mut buffers = self.buffers.borrow_mut();
        for key in turns {
            self.give_turn(&mut clients, key, &mut buffers);
        }
    }

    /// Serves those whose sockets are ready.
    fn serve_ready(&self, events: &[EpollEvent]) {
        let mut clients = self.clients.borrow_mut();
        let (mut ready, mut turns) = (Vec::with_capacity(events.len()), Vec::new());
        for event in events {
            let Some((key, client)) = key_of(event).and_then(|key| Some((key, clients.get(key)?)))
            else {
                continue;
            };
            client.signals().note(event);
            match client.readiness() {
                Readiness::ToBeRead => ready.push(key),
                Readiness::ForATurn => turns.push(key),
                Readiness::Later => {}
            }
        }
        self.together.borrow_mut().serve(&self.server, &mut clients, &ready, &mut turns);
        let mut buffers = self.buffers.borrow_mut();
        for key in turns {
            self.give_turn(&mut clients, key, &mut buffers);
        }
    }

    fn give_turn(&self, clients: &mut Clients, key: usize, buffers: &mut Buffers) {
        let Some(client) = clients.get(key) else { return };
        if client.take_turn(buffers) == After::Goes {
            return clients.close(key);
        }
        if let ClientSocket::Plain(socket) = client.stream() {
            let signals = client.signals();
            let watched = self.poller.watch_room(socket, signals, !signals.may_be_written());
            if let Err(error) = watched {
                tracing::warn!(%error, "a connection could not be polled and is closed");
                client.place().reason.set(CloseReason::Error);
                return clients.close(key);
            }
        }
        clients.look_after(key);
    }

    /// When the next alarm is due.
    fn next_alarm(&self) -> Option<Instant> {
        self.alarms.borrow().iter().map(|(moment, _)| *moment).min()
    }

    fn wake_those_due(&self) {
        let mut alarms = self.alarms.borrow_mut();
        if !alarms.is_empty() {
            let now = Instant::now();
            alarms.extract_if(.., |(moment, _)| *moment <= now).for_each(|(_, who)| who.wake());
        }
    }
}

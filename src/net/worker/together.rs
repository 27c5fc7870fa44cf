//! Clients that have spoken at the same time are served together: all are read, each into a room of its own;
//! the memory that their requests will need is fetched for all at once; each is answered; and all are told.
//! So the kernel is gone into a few times and not for each of them, and memory is waited for once. Those whose
//! replies have waited for peers are told together as well, when the peers have come.
//!
//! Whether a client may be answered is looked at for each of them nevertheless (`Client::may_be_answered`): the node may
//! stand still after the first of them, and nothing may be done for the others then until it knows what it has missed.
//!
//! What is NOT here: a client for whom that is not enough. It has a turn of its own afterwards.

use std::ops::Range;

use super::super::client::{After, Client, Listened};
use super::super::poller::READY_AT_ONCE;
use super::super::transfer::{Batcher, Transfer};
use super::clients::Clients;
use crate::command::{Foreseen, Server};
use crate::limits::{READ_TOGETHER, REPLY_KEPT, TOLD_TOGETHER};
use crate::store::{Ahead, GROUP_KEYS_MAX};

const _: () = assert!(READY_AT_ONCE <= GROUP_KEYS_MAX, "all are looked ahead for at once");

/// What they are read into and answered into.
#[derive(Debug)]
pub(super) struct Together {
    input: Box<[u8]>,
    replies: Vec<Vec<u8>>,
    batcher: Batcher,
}

/// A client that has been read, and where that stands.
struct Heard {
    key: usize,
    at: Range<usize>,
}

impl Together {
    pub(super) fn new(batcher: Batcher) -> Together {
        let input = vec![0; READY_AT_ONCE * READ_TOGETHER].into_boxed_slice();
        Together { input, replies: vec![Vec::new(); READY_AT_ONCE], batcher }
    }

    /// Serves those who are `ready` to be read, whom the poller told of; those who want more than that are added to
    /// `turns`.
    pub(super) fn serve(
        &mut self,
        server: &Server,
        clients: &mut Clients,
        ready: &[usize],
        turns: &mut Vec<usize>,
    ) {
        let heard = self.read(clients, ready, turns);
        self.answer(server, clients, &heard);
        turns.extend(heard.iter().map(|heard| heard.key).filter(|&key| wants_turn(clients, key)));
    }

    /// Tells those of the `called` for whose replies peers need not be waited for any more; those who want more
    /// than that are added to `turns`.
    pub(super) fn release(
        &mut self,
        clients: &mut Clients,
        called: &[usize],
        turns: &mut Vec<usize>,
    ) {
        let mut released = Vec::new();
        for &key in called {
            let Some(client) = clients.get(key) else { continue };
            if client.ask_peers() == After::Goes {
                clients.close(key);
            } else if let Some(reply) = client.take_released() {
                released.push((key, reply));
            }
        }
        let replies = released.iter().map(|(key, reply)| (*key, &reply[..]));
        tell(&mut self.batcher, clients, replies);
        turns.extend(called.iter().copied().filter(|&key| wants_turn(clients, key)));
    }

    fn read(
        &mut self,
        clients: &mut Clients,
        ready: &[usize],
        turns: &mut Vec<usize>,
    ) -> Vec<Heard> {
        let sockets = ready.iter().filter_map(|&key| Some((key, clients.look_at(key)?.socket()?)));
        let reads = sockets.zip(self.input.chunks_mut(READ_TOGETHER));
        let reads = reads.map(|((key, socket), room)| (key, Transfer::receive(socket, room)));
        let (keys, reads) = unzip_with_room(ready.len(), reads);
        let mut heard = Vec::with_capacity(reads.len());
        for (nth, (key, read)) in keys.into_iter().zip(self.batcher.make(reads)).enumerate() {
            let Some(client) = clients.get(key) else { continue };
            match client.listen(&read, READ_TOGETHER) {
                Listened::Bytes(arrived) => {
                    let begin = nth * READ_TOGETHER;
                    heard.push(Heard { key, at: begin..begin + arrived });
                }
                Listened::ForATurn => turns.push(key),
                Listened::Broken => clients.close(key),
            }
        }
        heard
    }

    fn answer(&mut self, server: &Server, clients: &mut Clients, heard: &[Heard]) {
        let Together { input, replies, batcher } = self;
        let foreseen = foresee(clients, heard, input);
        let ahead = match foreseen.is_empty() {
            true => Ahead::default(),
            false => Foreseen::look_ahead(server, &foreseen),
        };
        let foreseen = foreseen.iter().zip(ahead.keys());
        let mut foreseen = foreseen.map(|(foreseen, key)| Some((foreseen.as_ref()?, key)));
        let (mut told, mut bytes) = (0, 0);
        for (nth, Heard { key, at }) in heard.iter().enumerate() {
            let foreseen = foreseen.next().flatten();
            let Some(client) = clients.get(*key) else { continue };
            let reply = &mut replies[nth];
            if client.answer_heard(&input[at.clone()], foreseen, reply) == After::Goes {
                clients.close(*key);
            }
            bytes += at.len() + reply.len();
            if bytes >= TOLD_TOGETHER {
                tell_heard(batcher, clients, &heard[told..=nth], &mut replies[told..=nth]);
                (told, bytes) = (nth + 1, 0);
            }
        }
        tell_heard(batcher, clients, &heard[told..], &mut replies[told..]);
    }

    /// Forgets what was to be sent.
    pub(super) fn clear(&mut self) {
        self.replies.iter_mut().for_each(Vec::clear);
    }
}

/// What each of those who have been heard asks first; of one alone nothing, for it is answered at once.
fn foresee<'i>(
    clients: &mut Clients,
    heard: &[Heard],
    input: &'i [u8],
) -> Vec<Option<Foreseen<'i>>> {
    if heard.len() < 2 {
        return Vec::new();
    }
    let first = |heard: &Heard| clients.get(heard.key)?.foresee(&input[heard.at.clone()]);
    heard.iter().map(first).collect()
}

/// Sends the replies to those who have been heard, and forgets them.
fn tell_heard(
    batcher: &mut Batcher,
    clients: &mut Clients,
    heard: &[Heard],
    replies: &mut [Vec<u8>],
) {
    let answered = heard.iter().map(|heard| heard.key).zip(replies.iter().map(Vec::as_slice));
    tell(batcher, clients, answered);
    for reply in replies.iter_mut().take(heard.len()) {
        reply.clear();
        reply.shrink_to(REPLY_KEPT);
    }
}

/// Sends each client its reply, if it has one.
fn tell<'r>(
    batcher: &mut Batcher,
    clients: &mut Clients,
    answered: impl Iterator<Item = (usize, &'r [u8])>,
) {
    let most = answered.size_hint().1.unwrap_or_default();
    let writes = answered.filter(|(_, reply)| !reply.is_empty()).filter_map(|(key, reply)| {
        let socket = clients.look_at(key)?.socket()?;
        Some(((key, reply), Transfer::send(socket, reply)))
    });
    let (answered, writes) = unzip_with_room(most, writes);
    for ((key, reply), sent) in answered.into_iter().zip(batcher.make(writes)) {
        let Some(client) = clients.get(key) else { continue };
        if client.tell(&sent, reply) == After::Goes {
            clients.close(key);
        }
    }
}

/// Takes pairs apart into lists that have room for so many from the beginning.
fn unzip_with_room<A, B>(room: usize, pairs: impl Iterator<Item = (A, B)>) -> (Vec<A>, Vec<B>) {
    let mut apart = (Vec::with_capacity(room), Vec::with_capacity(room));
    apart.extend(pairs);
    apart
}

fn wants_turn(clients: &Clients, key: usize) -> bool {
    clients.look_at(key).is_some_and(Client::wants_turn)
}

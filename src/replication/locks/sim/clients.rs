//! Clients that want the lock, have it, and let it go.
//!
//! A client whose node dies while it waits does not know whether it has the lock. As in PHP it goes
//! on as if it had not, and a lock that nobody knows of ends by its time to live: here by a cleaner.

use super::world::{Happening, World};
use crate::clock::Now;
use crate::item::Expiry;
use crate::replication::event::{Event, State};
use crate::replication::{Execute, Executed};
use crate::store::{Arithmetic, Delete, Mode, MutationLog, Store, Write};

pub(super) const KEY: &[u8] = b"sess.lock";

/// For so long after a node has died a lock may be held by a client that does not know of it.
const UNKNOWN_US: u64 = 2_000_000;

/// Longer than that nobody waits, whatever happens to a node.
const WAIT_MAX_US: u64 = 1_500_000;

/// Executes `add`, `incr` and `delete`.
#[derive(Debug)]
pub(super) struct Clerk {
    pub(super) store: Store,
}

impl Execute for Clerk {
    fn execute(&mut self, request: &[u8], is_late: bool, now: Now) -> Executed {
        let _ = MutationLog::take_logged_here();
        let (store, key) = (&self.store, self.store.key(KEY));
        let answer: Vec<u8> = match request {
            b"add" => match store.write(key, &Write::new(Mode::Add, b"1", 0, Expiry::NEVER), now) {
                Ok(_) => b"1".to_vec(),
                Err(_) => b"NOT_STORED".to_vec(),
            },
            b"incr" => {
                let initial = Some((1, Expiry::NEVER));
                let plan = Arithmetic { delta: 1, up: true, initial, ..Arithmetic::default() };
                match store.arithmetic(key, &plan, now) {
                    Ok(counted) => counted.number.to_string().into_bytes(),
                    Err(refusal) => format!("{refusal:?}").into_bytes(),
                }
            }
            _ if is_late => b"NOT_FOUND".to_vec(),
            _ => match store.delete(key, &Delete::default(), now) {
                Ok(_) => b"DELETED".to_vec(),
                Err(_) => b"NOT_FOUND".to_vec(),
            },
        };
        let takes = request != b"delete";
        Executed { answer, version: MutationLog::take_logged_here(), takes }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Resting,
    Asking { id: u64, node: usize, since_us: u64 },
    Holding,
    Releasing { id: u64, node: usize },
}

#[derive(Debug)]
pub(super) struct Clients {
    doing: Vec<Doing>,
    next_id: u64,
    /// Until then somebody may have had the lock or have been letting it go.
    busy_until_us: u64,
    /// Until then a client of a node that died may have it and not know.
    unknown_until_us: u64,
    /// Nobody has the lock, and nobody gets it.
    is_stuck: bool,
}

impl Clients {
    pub(super) fn new(nodes: usize) -> Clients {
        let (doing, next_id) = (vec![Doing::Resting; 2 * nodes], 1);
        Clients { doing, next_id, busy_until_us: 0, unknown_until_us: 0, is_stuck: false }
    }

    pub(super) fn count(&self) -> usize {
        self.doing.len()
    }

    pub(super) fn rests(&self, client: usize) -> bool {
        self.doing[client] == Doing::Resting
    }

    pub(super) fn asks(&self, client: usize) -> bool {
        matches!(self.doing[client], Doing::Asking { .. })
    }

    pub(super) fn holds(&self, client: usize) -> bool {
        self.doing[client] == Doing::Holding
    }
}

impl World {
    fn ask(&mut self, node: usize, request: &[u8]) -> u64 {
        let id = self.clients.next_id;
        self.clients.next_id += 1;
        self.event(node, Event::LockAsked { id, key: KEY, request });
        id
    }

    pub(super) fn serves(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        !node.is_frozen
            && node.replica.as_ref().is_some_and(|replica| replica.state() == State::Ready)
    }

    /// It is a client's turn.
    pub(super) fn client(&mut self, client: usize) {
        self.forget_wires();
        let nodes = self.nodes.len() as u64;
        let node = usize::try_from(self.dice.below(nodes)).unwrap_or(0);
        match self.clients.doing[client] {
            Doing::Resting | Doing::Holding if !self.serves(node) => {
                self.later(1_000, Happening::Client(client));
            }
            // Its time to live is over: somebody removes it, and others wait for that.
            Doing::Resting if self.clients.is_stuck => {
                let rests = |doing: &Doing| *doing == Doing::Resting;
                match self.clients.doing.iter().all(rests) {
                    true => self.release(client, node),
                    false => self.later(1_000, Happening::Client(client)),
                }
            }
            Doing::Resting => {
                let request: &[u8] = if self.dice.below(2) == 0 { b"add" } else { b"incr" };
                self.want(client, node, request);
            }
            Doing::Holding => self.release(client, node),
            Doing::Asking { .. } | Doing::Releasing { .. } => {}
        }
    }

    pub(super) fn want(&mut self, client: usize, node: usize, request: &[u8]) {
        let (id, since_us) = (self.clients.next_id, self.now_us);
        self.clients.doing[client] = Doing::Asking { id, node, since_us };
        self.tell(|| format!("c{client} asks n{node} {id}"));
        self.ask(node, request);
    }

    pub(super) fn release(&mut self, client: usize, node: usize) {
        let id = self.clients.next_id;
        self.clients.doing[client] = Doing::Releasing { id, node };
        self.tell(|| format!("c{client} releases at n{node} {id}"));
        self.ask(node, b"delete");
    }

    fn holders(&self) -> usize {
        let holds = |doing: &&Doing| matches!(doing, Doing::Holding | Doing::Releasing { .. });
        self.clients.doing.iter().filter(holds).count()
    }

    pub(super) fn answered(&mut self, node: usize, id: u64, answer: &[u8]) {
        let is_its = |doing: &Doing| match doing {
            Doing::Asking { id: its, .. } | Doing::Releasing { id: its, .. } => *its == id,
            _ => false,
        };
        let Some(client) = self.clients.doing.iter().position(is_its) else { return };
        let text = String::from_utf8_lossy(answer).into_owned();
        self.tell(|| format!("c{client} hears {text} from n{node} {id}"));
        match self.clients.doing[client] {
            Doing::Releasing { .. } => {
                self.clients.doing[client] = Doing::Resting;
                self.clients.busy_until_us = self.now_us;
                self.clients.is_stuck = false;
            }
            Doing::Asking { since_us, .. } => self.decided(client, since_us, answer == b"1"),
            Doing::Resting | Doing::Holding => {}
        }
        let rest_us = 200 + self.dice.below(8_000);
        self.later(rest_us, Happening::Client(client));
    }

    fn decided(&mut self, client: usize, since_us: u64, is_won: bool) {
        let waited_us = self.now_us - since_us;
        self.outcome.longest_us = self.outcome.longest_us.max(waited_us);
        if waited_us > WAIT_MAX_US {
            self.violated(format!("c{client} waited {waited_us} us"));
        }
        let holding = |doing: &Doing| *doing == Doing::Holding;
        if is_won {
            self.outcome.won += 1;
            if let Some(other) = self.clients.doing.iter().position(holding) {
                self.violated(format!("c{client} and c{other} have the lock"));
            }
            self.clients.doing[client] = Doing::Holding;
            return;
        }
        self.outcome.refused += 1;
        self.clients.doing[client] = Doing::Resting;
        // Somebody else asked at the same time and does not know yet, or has just let it go.
        let asks = |doing: &Doing| matches!(doing, Doing::Asking { .. });
        let is_free = self.holders() == 0
            && self.clients.busy_until_us < since_us
            && !self.clients.doing.iter().any(asks);
        if is_free {
            self.outcome.stuck += u64::from(!self.clients.is_stuck);
            self.clients.is_stuck = true;
            if !self.is_in_doubt() && self.now_us > self.clients.unknown_until_us {
                self.violated(format!("c{client} is refused a lock that nobody has"));
            }
        }
    }

    fn is_in_doubt(&self) -> bool {
        let doubtful = |replica: &crate::replication::Replica| {
            replica.locks.as_ref().is_some_and(|locks| locks.status().doubtful > 0)
        };
        self.nodes.iter().filter_map(|node| node.replica.as_ref()).any(doubtful)
            || self.outcome.doubtful > 0
    }

    pub(super) fn violated(&mut self, what: String) {
        self.tell(|| format!("VIOLATION: {what}"));
        self.outcome.violation.get_or_insert(what);
    }

    /// Clients of a node that died: who asked or let go does not know what came of it.
    pub(super) fn clients_of_dead(&mut self, dead: usize) {
        // A third node may get from the second what the dead one told that alone, without the note.
        if self.nodes.len() > 2 {
            self.clients.unknown_until_us = self.now_us + UNKNOWN_US;
        }
        for client in 0..self.clients.count() {
            match self.clients.doing[client] {
                Doing::Asking { node, .. } | Doing::Releasing { node, .. } if node == dead => {
                    self.clients.unknown_until_us = self.now_us + UNKNOWN_US;
                    self.clients.is_stuck = false;
                    self.clients.doing[client] = Doing::Resting;
                    self.later(1_000, Happening::Client(client));
                }
                _ => {}
            }
        }
    }

    /// A client of a node that stood still is heard before any peer is.
    pub(super) fn clients_of_thawed(&mut self, node: usize) {
        for client in 0..self.clients.count() {
            if self.clients.doing[client] == Doing::Resting
                && self.serves(node)
                && !self.clients.is_stuck
            {
                let (id, since_us) = (self.clients.next_id, self.now_us);
                self.clients.doing[client] = Doing::Asking { id, node, since_us };
                self.tell(|| format!("c{client} asks n{node} {id} at once"));
                self.ask(node, b"add");
                return;
            }
        }
    }
}

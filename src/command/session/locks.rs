//! Lock keys: which requests wait, which are decided elsewhere, and the session of the clerk who
//! executes those.
//!
//! What is NOT here: which keys are locks, and the way of a request to who decides
//! ([`crate::command::Locks`]).

use std::mem;
use std::sync::Arc;

use super::gate::Gate;
use super::{Session, Turn};
use crate::command::execute::Outcome;
use crate::command::{Connection, LockRequest, Locks, Server, meta};
use crate::protocol::request::Request;
use crate::protocol::response::Response;
use crate::settings::BindingProtocol;
use crate::stats::WorkerCounters;
use crate::store::MutationLog;
use crate::version::Version;

impl Session {
    /// The session of the clerk who executes requests for lock keys, in whatever protocol they come.
    pub(in crate::command) fn of_clerk(
        server: Arc<Server>,
        counters: Arc<WorkerCounters>,
        connection: Arc<Connection>,
    ) -> Session {
        let session = Session::new(server, counters, connection);
        let (gate, protocol) = (Gate::opened(), BindingProtocol::Auto);
        Session { gate, protocol, is_clerk: true, ..session }
    }

    /// What comes next is a request of its own. If it `is_late`, a lock that it would let go was taken
    /// by somebody else meanwhile.
    pub(in crate::command) fn begin_request(&mut self, is_late: bool) {
        self.speech = None;
        self.turn = Turn::Client;
        self.is_late = is_late;
    }

    /// The answer to a request that comes too late to let a lock go: it finds nothing.
    pub(super) fn answer_late(&self, request: &Request<'_>, out: &mut Vec<u8>) -> Option<Outcome> {
        if !self.is_late || Locks::takes(request) {
            return None;
        }
        Some(match request {
            Request::Store(_) => Outcome::Reply(Response::NotStored),
            Request::MetaSet(set) => meta::miss("NS", &set.meta, out),
            Request::MetaDelete(meta) => meta::miss("NF", meta, out),
            Request::MetaArithmetic(wanted) => meta::miss("NF", &wanted.meta, out),
            _ => Outcome::Reply(Response::NotFound),
        })
    }

    /// Whether what the clerk executed last may have taken a lock, and let none go.
    pub(in crate::command) fn took_lock(&self) -> bool {
        self.took_lock
    }

    /// The request that is to be decided elsewhere.
    pub fn take_lock_request(&mut self) -> Option<LockRequest> {
        self.lock_request.take()
    }

    /// Keeps a request that changes an exclusive lock key.
    pub(super) fn is_decided_elsewhere(&mut self, request: &Request<'_>, bytes: &[u8]) -> bool {
        if self.is_clerk {
            self.took_lock = Locks::takes(request);
        }
        if self.is_clerk || self.datagram.is_some() {
            return false;
        }
        let Some(locks) = self.server.locks() else { return false };
        let key = locks.key_of(request);
        let asked = |key: &[u8]| LockRequest { key: key.to_vec(), request: bytes.to_vec() };
        self.lock_request = key.map(asked);
        if self.lock_request.is_some() {
            // The lock may protect what was written before, even if nothing was said of that.
            MutationLog::remember_logged_here(mem::take(&mut self.unsaid));
        }
        self.lock_request.is_some()
    }

    /// Whether `request` lets a lock go that stays on this node, and peers do not have yet what this
    /// batch wrote: whoever gets the lock may write that again, on any node.
    pub(super) fn frees_too_early(&mut self, request: &Request<'_>) -> bool {
        let server = &self.server;
        let Some(peers) = &server.peers else { return false };
        let written = self.unsaid.max(MutationLog::logged_here());
        if written == Version(0) || self.is_clerk || self.datagram.is_some() {
            return false;
        }
        let is_local = |key| server.store.is_local(server.store.key(key));
        if !peers.are_awaited()
            || Locks::takes(request)
            || !Locks::changed_key(request).is_some_and(is_local)
        {
            return false;
        }
        MutationLog::remember_logged_here(mem::take(&mut self.unsaid));
        true
    }
}

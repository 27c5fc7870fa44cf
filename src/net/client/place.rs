//! A connection's place among a worker's.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::super::worker::Worker;
use crate::command::{CloseReason, Connection};

/// A connection's place among a worker's: while it is held the connection is on the list. It is to be
/// dropped before the socket.
pub(in crate::net) struct Place {
    pub(in crate::net) worker: Rc<Worker>,
    pub(in crate::net) listed: Arc<Connection>,
    /// Why the connection ends; what stands here when this is dropped.
    pub(in crate::net) reason: Cell<CloseReason>,
    /// One of the `-c` seats.
    _seat: OwnedSemaphorePermit,
}

impl Place {
    /// A place for a connection that has just come.
    pub(in crate::net) fn new(
        worker: &Rc<Worker>,
        listed: Arc<Connection>,
        seat: OwnedSemaphorePermit,
    ) -> Place {
        worker.enlist(&listed);
        let reason = Cell::new(CloseReason::Shutdown);
        Place { worker: Rc::clone(worker), listed, reason, _seat: seat }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.worker.leave(&self.listed, self.reason.get());
    }
}

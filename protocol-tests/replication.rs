//! Nodes that mirror every write: pairs and triples of real processes.
//!
//! | rooms | what |
//! |---|---|
//! | [`cluster`] | starting, killing and asking nodes |
//! | [`writes`] | whatever is written on one node is on the others |
//! | [`crashes`] | nodes that are killed, stop, start, and stand still |
//! | [`strangers`] | who else comes to the port for peers, and nodes that are set up wrongly |

pub(crate) mod cluster;
mod crashes;
mod strangers;
mod writes;

//! Real processes that mirror each other, and what must hold while they are killed, frozen, cut off
//! and restarted.
//!
//! | rooms | what |
//! |---|---|
//! | [`node`] [`cluster`] [`proxy`] | a process, several of them, the wires between them |
//! | [`contents`] [`load`] | what a node holds; clients that remember what they were promised |
//! | [`mutations`] | every way to change something is mirrored |
//!
//! With `PROTOCOL_TESTS_LONG` set the loops are run in their long form.

mod cluster;
mod contents;
mod load;
mod mutations;
mod node;
mod proxy;

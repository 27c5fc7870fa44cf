//! Real processes that mirror each other, and what must hold while they are killed, frozen, cut off
//! and restarted.
//!
//! | rooms | what |
//! |---|---|
//! | [`node`] [`cluster`] [`proxy`] [`port`] | a process, several of them, the wires between them, where they listen |
//! | [`contents`] [`load`] | what a node holds; clients that remember what they were promised |
//! | [`mutations`] | every way to change something is on the other nodes |
//! | [`acks`] | what clients may rely on when they are answered, and whom that costs time |
//! | [`copies`] | clients that write to both nodes, one of which gets it late |
//! | [`locks`] | exclusive locks: of two clients that want one at two nodes, one gets it |
//! | [`refusals`] | the same where the operator prefers an error to a write that one node alone has |
//! | [`kills`] [`starts`] | nodes that die, stop and come back under load; starts, together and empty |
//! | [`faults`] | nodes that stand still, wires that are cut, silent or slow |
//! | [`late`] | what was sent to a node that stood still, and given up |
//! | [`pauses`] | nodes that stand still for a moment |
//! | [`apart`] | nodes that were apart for longer than they remember what was deleted |
//! | [`unlike`] | nodes of different size, with different clocks |
//! | [`strangers`] | who else comes to the port for peers, and nodes that are set up wrongly |
//! | [`noise`] | who gets further than that, and says what no peer says |
//! | [`members`] | peers that are added and removed while the nodes run |
//! | [`names`] | one name that leads to all nodes, and to others later |
//! | [`told`] | what `stats replication` says |
//! | [`scraped`] | what the admin port says of peers |
//!
//! `./test replication` plays them in their long form: 200 kills, 200 starts together, half a minute
//! of cut wires, a million items for an empty node.

mod acks;
mod apart;
mod cluster;
mod contents;
mod copies;
mod faults;
mod kills;
mod late;
mod load;
mod locks;
mod members;
mod mutations;
mod names;
mod node;
mod noise;
mod pauses;
mod port;
mod proxy;
mod refusals;
mod scraped;
mod starts;
mod strangers;
mod told;
mod unlike;

//! Decisions: what a request does to the store and what it is answered. The only floor that knows
//! both the protocols and the store.

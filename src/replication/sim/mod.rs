//! Whole clusters in one thread and no time: a history of writes, faults and clocks, from a seed.
mod network;
mod plan;
mod rng;

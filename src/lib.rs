//! twincached: a memcached-compatible session store whose peers mirror every write.
//!
//! The house has five floors; a room uses only floors below its own (`tidy` checks it):
//!
//! | floor | rooms |
//! |---|---|
//! | 0 words | [`limits`] [`clock`] [`version`] [`item`] [`readiness`] [`settings`] [`stats`] [`watch`] |
//! | 1 rooms | [`store`], [`protocol`] and [`credentials`], which never meet |
//! | 2 decisions | [`command`] and [`replication`] |
//! | 3 effects | [`net`] [`admin`] |
//! | 4 assembly | [`config`] [`app`] |
//!
//! `fuzzing`, on the topmost floor, is compiled for tests and fuzzing only.
//!
//! Floors 0 to 2 never wait: no tokio, no reading of the clock outside [`clock`]. They take bytes
//! and [`clock::Now`], and return values. See `ARCHITECTURE.md` for the whole picture.

pub mod clock;
pub mod item;
pub mod limits;
pub mod readiness;
pub mod settings;
pub mod stats;
pub mod version;
pub mod watch;

pub mod credentials;
pub mod protocol;
pub mod store;

pub mod command;
pub mod replication;

pub mod admin;
pub mod net;

pub mod app;
pub mod config;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;

#[cfg(test)]
mod tidy;

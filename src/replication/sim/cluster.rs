//! The nodes: each a real store under a real replica, with a clock of its own that is off.
//!
//! A node lives several lives. A life is what a process is: a boot, a store, a replica, and what
//! the checker remembers of it; all of it is gone when the process is killed.
//!
//! What is NOT here: when things happen to nodes ([`super::world`]).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::ablations::Ablation;
use super::ledger::{Held, Unacknowledged};
use super::plan::NodeIndex;
use super::settings::Setting;
use crate::clock::Now;
use crate::item::SizeClasses;
use crate::replication::{Boot, Replica, ReplicaConfig, State};
use crate::store::{Replicated, Store, StoreConfig};
use crate::version::Version;
use crate::watch::Watch;

/// Unix microseconds when a history begins; not at the beginning of a second.
const START_US: u64 = 1_800_000_000_300_000;

/// Bytes that a log takes for an entry with one of our keys.
const LOG_ENTRY: usize = 20;

/// Bytes that a floor under one of our keys takes.
const FLOOR: usize = 106;

/// A key of the simulation.
pub(super) fn key_name(key: usize) -> [u8; 2] {
    [b'k', b'0' + u8::try_from(key).unwrap_or(0)]
}

/// Between two ticks, in microseconds.
pub(super) const TICK_US: u64 = 20_000;

#[derive(Debug)]
pub(super) struct Life {
    pub(super) store: Store,
    pub(super) replica: Replica,
    pub(super) state: State,
    /// Which life of the whole history.
    pub(super) serial: u64,
    /// By key: the greatest that this life ever held.
    pub(super) held: Vec<Held>,
    /// The latest version it has held of any key, or given.
    pub(super) latest: Version,
    pub(super) unacknowledged: Vec<Unacknowledged>,
    /// Something may have changed since the last look.
    pub(super) is_dirty: bool,
    /// Whom its replica knows by which number.
    pub(super) addresses: Vec<NodeIndex>,
    /// It has just said that it met nobody to load from.
    pub(super) is_alone: bool,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) life: Option<Life>,
    pub(super) is_frozen: bool,
    /// Its machine has no power: nobody answers, not even with a refusal.
    pub(super) is_dark: bool,
    pub(super) skew_us: i64,
    /// Who stands in its list of peers, now and when it starts.
    pub(super) peers: BTreeSet<NodeIndex>,
}

/// What a clock shows at `time_us` of the history that is so much fast.
pub(super) fn clock_at(time_us: u64, fast_us: i64) -> Now {
    Now::from_unix_micros((START_US + time_us).saturating_add_signed(fast_us))
}

impl Node {
    /// What its clock shows at `time_us` of the history.
    pub(super) fn clock(&self, time_us: u64) -> Now {
        clock_at(time_us, self.skew_us)
    }

    /// The life that runs now.
    pub(super) fn running(&mut self) -> Option<&mut Life> {
        if self.is_frozen { None } else { self.life.as_mut() }
    }

    pub(super) fn is_running(&self) -> bool {
        self.life.is_some() && !self.is_frozen
    }
}

pub(super) fn address_of(node: NodeIndex) -> String {
    format!("n{}", number_of(node))
}

pub(super) fn number_of(node: NodeIndex) -> u8 {
    u8::try_from(node + 1).unwrap_or(u8::MAX)
}

/// Whoever starts processes.
#[derive(Debug)]
pub(super) struct Nursery {
    classes: SizeClasses,
    watch: Arc<Watch>,
    pub(super) lives: u64,
    pub(super) seed: u64,
    pub(super) ablation: Ablation,
}

impl Nursery {
    pub(super) fn new(seed: u64, ablation: Ablation) -> Nursery {
        let classes = SizeClasses::new(48, 1.25);
        Nursery { classes, watch: Arc::default(), lives: 0, seed, ablation }
    }

    /// A process for `node`, which has nothing.
    pub(super) fn start(
        &mut self,
        setting: &Setting,
        node: NodeIndex,
        addresses: Vec<NodeIndex>,
        now: Now,
    ) -> Life {
        self.lives += 1;
        let mut replicated = Replicated {
            log_bytes: setting.ring * LOG_ENTRY,
            floor_bytes: setting.floors * FLOOR,
            horizon: setting.horizon,
            ..Replicated::default()
        };
        let boot = Boot(u128::from(self.seed) << 64 | u128::from(self.lives));
        let peers = addresses.iter().map(|&peer| address_of(peer));
        let mut config = ReplicaConfig::new(number_of(node), boot, "sim", peers.collect());
        config.seed = self.seed ^ self.lives << 32;
        config.bootstrap_timeout = Some(Duration::from_secs(3));
        config.read_bytes = setting.batch * LOG_ENTRY;
        config.gather = Duration::from_millis(setting.gather);
        config.horizon = Duration::from_secs(u64::from(setting.horizon));
        config.wipes = setting.wipes;
        if setting.is_fault_free() {
            // Then an audit that finds anything has found a mistake.
            config.audit_every = Duration::from_millis(500);
        }
        self.ablation.apply(&mut replicated, &mut config);
        let stability = Arc::clone(&replicated.stability);
        let store = Store::new(StoreConfig {
            memory_limit: 2 << 20,
            item_size_max: 16 << 10,
            evictions: true,
            cas: true,
            shards: 1,
            node: number_of(node),
            classes: self.classes.clone(),
            watch: Arc::clone(&self.watch),
            replication: Some(replicated),
            fixed_hash: true,
        });
        Life {
            replica: Replica::new(config, store.clone(), stability, now),
            store,
            state: State::Loading,
            serial: self.lives,
            held: vec![Held::default(); setting.keys],
            latest: Version(0),
            unacknowledged: Vec::new(),
            is_dirty: false,
            addresses,
            is_alone: false,
        }
    }
}

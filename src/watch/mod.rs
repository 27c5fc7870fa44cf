//! The log stream behind the `watch` command: categories, lines, and the bounded queues between
//! those who log and the watching connections.
//!
//! Picture a hub: whoever does something worth a line asks [`Watch::wants`] (one relaxed load) and,
//! only when somebody watches, has the line rendered and copied into each interested watcher's
//! queue. A queue never grows past its bound: a slow watcher loses lines and is told how many
//! (`skipped=`); nobody waits for it.
//!
//! What is NOT here: sockets, and the commands that subscribe. What a line says is in `lines`.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::clock::Now;
use crate::limits::WATCHERS_MAX;

mod lines;

pub use lines::{
    Deleted, Eviction, GetStatus, ItemGet, ItemStore, Remote, StoreCommand, StoreStatus,
    push_uri_encoded,
};

/// What a watcher may ask for; a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Categories(pub u32);

impl Categories {
    /// Fetched keys.
    pub const FETCHERS: Categories = Categories(1);
    /// Stored keys.
    pub const MUTATIONS: Categories = Categories(1 << 1);
    /// Live items pushed out for room.
    pub const EVICTIONS: Categories = Categories(1 << 2);
    /// Connections opened and closed.
    pub const CONNEVENTS: Categories = Categories(1 << 3);
    /// Deleted keys.
    pub const DELETIONS: Categories = Categories(1 << 4);
    /// What upstream logs and we never do (`sysevents`, `rawcmds`, `proxy*`): may be asked for.
    pub const SILENT: Categories = Categories(1 << 5);

    /// The category that `name` asks for; `None` when upstream has no such name.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Categories> {
        Some(match name {
            b"fetchers" => Categories::FETCHERS,
            b"mutations" => Categories::MUTATIONS,
            b"evictions" => Categories::EVICTIONS,
            b"connevents" => Categories::CONNEVENTS,
            b"deletions" => Categories::DELETIONS,
            b"sysevents" | b"rawcmds" | b"proxyreqs" | b"proxyevents" | b"proxyuser" => {
                Categories::SILENT
            }
            _ => return None,
        })
    }

    /// Both sets together.
    #[must_use]
    pub fn with(self, other: Categories) -> Categories {
        Categories(self.0 | other.0)
    }

    fn overlaps(self, other: Categories) -> bool {
        self.0 & other.0 != 0
    }
}

/// How much was logged since the start or the last reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    /// Lines rendered (`log_worker_written`).
    pub written: u64,
    /// Lines that did not fit into a watcher's queue (`log_watcher_skipped`).
    pub skipped: u64,
    /// Lines put into a watcher's queue (`log_watcher_sent`).
    pub sent: u64,
    /// Watchers now (`log_watchers`); a gauge.
    pub watchers: u64,
}

/// One watcher's lines that have not been sent yet.
#[derive(Debug)]
struct Queue {
    categories: Categories,
    /// Bytes of lines it may hold.
    bound: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Lines lost since the last one that fitted.
    skipped: u64,
}

/// Room kept for the `skipped=` line, as upstream keeps it.
const SKIPPED_LINE_MAX: usize = 128;

impl Queue {
    /// Whether the line fitted.
    fn push(&self, line: &[u8]) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.lines.len() + line.len() + SKIPPED_LINE_MAX > self.bound {
            waiting.skipped += 1;
            return false;
        }
        let skipped = std::mem::take(&mut waiting.skipped);
        if skipped > 0 {
            push_skipped(skipped, &mut waiting.lines);
        }
        waiting.lines.extend_from_slice(line);
        true
    }
}

fn push_skipped(skipped: u64, out: &mut Vec<u8>) {
    let _infallible = writeln!(out, "skipped={skipped}");
}

/// A place at the hub; giving it up (dropping it) ends the watching.
#[derive(Debug)]
pub struct Subscription {
    hub: Arc<Watch>,
    queue: Arc<Queue>,
}

impl Subscription {
    /// Moves lines that wait to `out`, at most `at_most` bytes; the last of them may be cut and
    /// goes on with the next call.
    pub fn drain(&mut self, at_most: usize, out: &mut Vec<u8>) {
        let mut waiting = self.queue.waiting.lock();
        if waiting.lines.len() > at_most {
            out.extend(waiting.lines.drain(..at_most));
            return;
        }
        out.append(&mut waiting.lines);
        let skipped = std::mem::take(&mut waiting.skipped);
        if skipped > 0 {
            push_skipped(skipped, out);
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.remove(&self.queue);
    }
}

/// The hub between those who log and those who watch.
#[derive(Debug, Default)]
pub struct Watch {
    /// Union of all watchers' categories: the fast answer to "does anybody want this?".
    wanted: AtomicU32,
    /// Numbers the lines (`gid`).
    last_line: AtomicU64,
    queues: Mutex<Vec<Arc<Queue>>>,
    written: AtomicU64,
    skipped: AtomicU64,
    sent: AtomicU64,
}

/// All places at the hub are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyWatchers;

impl Watch {
    /// Whether any watcher wants `category`: asked before a line is rendered.
    #[must_use]
    pub fn wants(&self, category: Categories) -> bool {
        Categories(self.wanted.load(Ordering::Relaxed)).overlaps(category)
    }

    /// A new watcher of `categories` that may fall `bound` bytes behind.
    ///
    /// # Errors
    /// [`WATCHERS_MAX`] watch already.
    pub fn subscribe(
        self: &Arc<Watch>,
        categories: Categories,
        bound: usize,
    ) -> Result<Subscription, TooManyWatchers> {
        let mut queues = self.queues.lock();
        if queues.len() >= WATCHERS_MAX {
            return Err(TooManyWatchers);
        }
        let queue = Arc::new(Queue { categories, bound, waiting: Mutex::default() });
        queues.push(Arc::clone(&queue));
        self.note_wanted(&queues);
        Ok(Subscription { hub: Arc::clone(self), queue })
    }

    fn remove(&self, queue: &Arc<Queue>) {
        let mut queues = self.queues.lock();
        queues.retain(|other| !Arc::ptr_eq(other, queue));
        self.note_wanted(&queues);
    }

    fn note_wanted(&self, queues: &[Arc<Queue>]) {
        let wanted = queues.iter().fold(0, |set, queue| set | queue.categories.0);
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    /// How much was logged.
    #[must_use]
    pub fn counts(&self) -> WatchCounts {
        WatchCounts {
            written: self.written.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            watchers: self.queues.lock().len() as u64,
        }
    }

    /// Starts counting from zero.
    pub fn reset_counts(&self) {
        for counter in [&self.written, &self.skipped, &self.sent] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    fn log(
        &self,
        category: Categories,
        kind: &str,
        now: Now,
        rest: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>,
    ) {
        if !self.wants(category) {
            return;
        }
        let queues = self.queues.lock();
        let gid = self.last_line.fetch_add(1, Ordering::Relaxed) + 1;
        let (seconds, micros) = (now.unix_micros() / 1_000_000, now.unix_micros() % 1_000_000);
        let mut line = Vec::with_capacity(256);
        let _infallible = write!(line, "ts={seconds}.{micros:06} gid={gid} type={kind}");
        let _infallible = rest(&mut line);
        line.push(b'\n');
        self.written.fetch_add(1, Ordering::Relaxed);
        for queue in queues.iter().filter(|queue| queue.categories.overlaps(category)) {
            let counter = if queue.push(&line) { &self.sent } else { &self.skipped };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const NOW: Now = Now::from_unix_micros(1_795_227_911_005_580);

    pub(super) fn watching(categories: Categories) -> (Arc<Watch>, Subscription) {
        let hub = Arc::new(Watch::default());
        let subscription = hub.subscribe(categories, 4096).expect("the first watcher");
        (hub, subscription)
    }

    pub(super) fn drained(subscription: &mut Subscription) -> String {
        let mut out = Vec::new();
        subscription.drain(1 << 22, &mut out);
        String::from_utf8(out).expect("lines are ASCII")
    }

    pub(super) fn get(key: &[u8]) -> ItemGet<'_> {
        ItemGet { key, status: GetStatus::NotFound, class: 0, fd: 25, size: 0 }
    }

    #[test]
    fn a_watcher_sees_only_the_categories_it_asked_for() {
        let (hub, mut watcher) = watching(Categories::EVICTIONS);
        assert!(!hub.wants(Categories::FETCHERS));
        hub.item_get(&get(b"k"), NOW);
        assert_eq!(drained(&mut watcher), "");
        assert_eq!(hub.counts().written, 0, "nobody wanted it, so it was not rendered");
    }

    #[test]
    fn a_watcher_that_never_reads_holds_no_more_than_its_bound_and_learns_what_it_lost() {
        let (hub, mut watcher) = watching(Categories::FETCHERS);
        for _ in 0..1000 {
            hub.item_get(&get(&[b'k'; 250]), NOW);
        }
        assert!(watcher.queue.waiting.lock().lines.len() <= 4096);
        let lines = drained(&mut watcher);
        let sent = lines.lines().filter(|line| line.starts_with("ts=")).count() as u64;
        assert_eq!(lines.lines().last(), Some(format!("skipped={}", 1000 - sent).as_str()));
        let counts = hub.counts();
        assert_eq!((counts.written, counts.sent, counts.skipped), (1000, sent, 1000 - sent));
        hub.item_get(&get(b"k"), NOW);
        assert!(drained(&mut watcher).starts_with("ts="), "it goes on, and is told once");
    }

    #[test]
    fn lines_drained_in_small_pieces_are_the_same_bytes() {
        let (hub, mut whole) = watching(Categories::FETCHERS);
        let mut pieces = hub.subscribe(Categories::FETCHERS, 4096).expect("a place");
        for _ in 0..100 {
            hub.item_get(&get(b"some-key"), NOW);
        }
        let mut out = Vec::new();
        while !pieces.queue.waiting.lock().lines.is_empty() {
            pieces.drain(7, &mut out);
        }
        assert_eq!(String::from_utf8(out).expect("ASCII"), drained(&mut whole));
    }

    #[test]
    fn the_twenty_first_watcher_is_refused_until_one_leaves() {
        let hub = Arc::new(Watch::default());
        let subscribe = || hub.subscribe(Categories::FETCHERS, 4096);
        let mut watchers: Vec<_> = (0..WATCHERS_MAX).map(|_| subscribe()).collect();
        assert!(watchers.iter().all(Result::is_ok));
        assert!(subscribe().is_err());
        watchers.pop();
        assert!(subscribe().is_ok());
        drop(watchers);
        assert_eq!(hub.counts().watchers, 0);
        assert!(!hub.wants(Categories::FETCHERS), "nothing is rendered for nobody");
    }

    #[test]
    fn watchers_coming_and_going_while_others_log_lose_no_line_of_a_steady_one() {
        let hub = Arc::new(Watch::default());
        let mut steady = hub.subscribe(Categories::FETCHERS, 1 << 22).expect("a place");
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..2000).for_each(|_| hub.item_get(&get(b"k"), NOW)));
            }
            scope.spawn(|| {
                for _ in 0..500 {
                    drop(hub.subscribe(Categories::FETCHERS, 512));
                }
            });
        });
        assert_eq!(drained(&mut steady).lines().count(), 4000);
    }
}

//! What a store with peers is built from: how much it keeps for them, which keys stay here, and
//! how far every peer has come.
//!
//! What is NOT here: the peers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memchr::memmem::Finder;

use crate::limits::{FLOOR_BYTES_DEFAULT, FLOOR_HORIZON_DEFAULT, MUTATION_LOG_BYTES_DEFAULT};
use crate::version::Version;

/// Longer strings are hardly rarer in keys.
const COMMON_MAX: usize = 8;

/// What a store with peers keeps for them.
#[derive(Clone, Debug)]
pub struct Replicated {
    /// Bytes of the log of mutations.
    pub log_bytes: usize,
    /// Bytes of floors, over all shards.
    pub floor_bytes: usize,
    /// Seconds after which a floor goes even if a peer has not heard of it.
    pub horizon: u32,
    /// Keys that stay on this node.
    pub local_keys: KeyPatterns,
    /// How far every peer has come; told by those who speak with them.
    pub stability: Arc<Stability>,
    /// Rules to break, so that tests can show what they are for.
    #[cfg(test)]
    pub broken: Broken,
}

impl Default for Replicated {
    fn default() -> Replicated {
        Replicated {
            log_bytes: MUTATION_LOG_BYTES_DEFAULT,
            floor_bytes: FLOOR_BYTES_DEFAULT,
            horizon: FLOOR_HORIZON_DEFAULT,
            local_keys: KeyPatterns::default(),
            stability: Arc::default(),
            #[cfg(test)]
            broken: Broken::default(),
        }
    }
}

/// Rules that a test breaks.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Broken {
    /// Nothing is remembered of what goes.
    pub no_floors: bool,
    /// Nothing is remembered of what expires or is evicted.
    pub no_lost_floors: bool,
    /// A touch gives the value a new version.
    pub touch_writes: bool,
    /// The clock takes no notice of versions that arrive.
    pub no_observing: bool,
    /// Records replace newer ones.
    pub oldest_wins: bool,
    /// Nobody is told that floors went too early.
    pub purges_unsaid: bool,
    /// Sums and lists tell of versions alone.
    pub content_uncompared: bool,
}

/// Keys of a kind, as PHP's lock keys: patterns in which `*` stands for any bytes, none included.
#[derive(Clone, Debug, Default)]
pub struct KeyPatterns {
    patterns: Vec<Pattern>,
    /// What every pattern holds: nearly every key is known by its absence to match none.
    common: Option<Finder<'static>>,
}

/// A pattern cut at its stars. Every change and every record of a scan is held against all of them.
#[derive(Clone, Debug)]
enum Pattern {
    /// Without a star.
    Exact(Box<[u8]>),
    /// What stands before the first star, between two, and after the last.
    Starred { head: Box<[u8]>, between: Vec<Finder<'static>>, tail: Box<[u8]> },
}

impl KeyPatterns {
    /// Keys that match any of `patterns`.
    pub fn new<P: AsRef<[u8]>>(patterns: impl IntoIterator<Item = P>) -> KeyPatterns {
        let patterns: Vec<P> = patterns.into_iter().collect();
        let common = common(&patterns).map(|common| Finder::new(common).into_owned());
        KeyPatterns {
            patterns: patterns.iter().map(|one| Pattern::new(one.as_ref())).collect(),
            common,
        }
    }

    /// Whether no key is one of them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether `key` is one of them.
    #[must_use]
    pub fn has(&self, key: &[u8]) -> bool {
        self.common.as_ref().is_none_or(|common| common.find(key).is_some())
            && self.patterns.iter().any(|pattern| pattern.matches(key))
    }
}

/// The longest string, up to [`COMMON_MAX`], that a key must hold to match any of `patterns`.
fn common<P: AsRef<[u8]>>(patterns: &[P]) -> Option<&[u8]> {
    let (first, others) = patterns.split_first()?;
    let is_in =
        |string: &[u8], pattern: &P| memchr::memmem::find(pattern.as_ref(), string).is_some();
    let is_common = |string: &&[u8]| {
        !string.contains(&b'*') && others.iter().all(|pattern| is_in(string, pattern))
    };
    (1..=COMMON_MAX).rev().find_map(|len| first.as_ref().windows(len).find(is_common))
}

impl Pattern {
    fn new(pattern: &[u8]) -> Pattern {
        let mut pieces: Vec<&[u8]> = pattern.split(|&byte| byte == b'*').collect();
        let (Some(tail), false) = (pieces.pop(), pieces.is_empty()) else {
            return Pattern::Exact(pattern.into());
        };
        let head = pieces.remove(0);
        let between = pieces.into_iter().map(|piece| Finder::new(piece).into_owned()).collect();
        Pattern::Starred { head: head.into(), between, tail: tail.into() }
    }

    /// The first place where a piece fits is as good as any later one: it leaves most for the rest.
    fn matches(&self, key: &[u8]) -> bool {
        let (head, between, tail) = match self {
            Pattern::Exact(exact) => return **exact == *key,
            Pattern::Starred { head, between, tail } => (head, between, tail),
        };
        let rest = key.strip_prefix(&**head).and_then(|rest| rest.strip_suffix(&**tail));
        let Some(mut rest) = rest else { return false };
        between.iter().all(|piece| match piece.find(rest) {
            Some(at) => {
                rest = &rest[at + piece.needle().len()..];
                true
            }
            None => false,
        })
    }
}

/// For each node the versions of its that every configured peer, and we, have applied: those after
/// the start of its present life, up to where the slowest is. What a node gave in an earlier life
/// is nobody's knowledge: its versions are never stable here.
pub struct Stability {
    nodes: Box<[Known]>,
}

#[derive(Default)]
struct Known {
    since: AtomicU64,
    upto: AtomicU64,
}

impl Default for Stability {
    fn default() -> Stability {
        Stability { nodes: (0..=u8::MAX).map(|_| Known::default()).collect() }
    }
}

impl Stability {
    /// Everybody has applied what `node` gave after `since` up to `upto`, and nothing else is known.
    pub fn set(&self, node: u8, since: Version, upto: Version) {
        let known = &self.nodes[usize::from(node)];
        // In between nothing is stable: an old end with a new start claims less, never more.
        if known.since.load(Ordering::Acquire) != since.0 {
            known.upto.store(0, Ordering::SeqCst);
            known.since.store(since.0, Ordering::SeqCst);
        }
        known.upto.store(upto.0, Ordering::SeqCst);
    }

    /// Nothing of `node` is known to be everywhere.
    pub fn forget(&self, node: u8) {
        self.set(node, Version(u64::MAX), Version(0));
    }

    /// Whether everybody has applied `version`.
    #[must_use]
    pub fn covers(&self, version: Version) -> bool {
        let known = &self.nodes[usize::from(version.node())];
        let upto = known.upto.load(Ordering::SeqCst);
        version.0 <= upto && version.0 > known.since.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Stability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = (0u8..).zip(&self.nodes).filter_map(|(node, known)| {
            let upto = known.upto.load(Ordering::Relaxed);
            (upto > 0).then_some((node, known.since.load(Ordering::Relaxed), upto))
        });
        f.debug_list().entries(known).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_in_a_pattern_stands_for_any_bytes() {
        for (pattern, key, is_local) in [
            ("*.lock", "abc.lock", true),
            ("*.lock", ".lock", true),
            ("*.lock", "abc.locks", false),
            ("*.lock", "a.lock.lock", true),
            ("memc.sess.*lock.*", "memc.sess.key.lock.123", true),
            ("memc.sess.*lock.*", "memc.sess.key.123", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
            ("a*bc*bc", "abcbc", true),
            ("a*bc*bc", "abc", false),
            ("ab*ba", "aba", false),
            ("**", "anything", true),
            ("*", "anything", true),
            ("", "a", false),
        ] {
            let keys = KeyPatterns::new([pattern]);
            assert_eq!(keys.has(key.as_bytes()), is_local, "{pattern} {key}");
        }
        assert!(!KeyPatterns::default().has(b"key"));
    }

    #[test]
    fn of_several_patterns_each_one_counts_whatever_they_have_in_common() {
        let php = ["*.lock", "lock.*", "*_lock.*"];
        assert_eq!(common(&php), Some(&b"lock"[..]));
        assert_eq!(common(&["a*c", "ac*"]), Some(&b"a"[..]), "a star stands for any bytes");
        assert_eq!(common(&["a*", "b*"]), None);
        assert_eq!(common(&["a*", "*"]), None);
        for (patterns, key, is_local) in [
            (&php[..], "sid.lock", true),
            (&php, "lock.sid", true),
            (&php, "a_lock.sid", true),
            (&php, "a-lock.sid", false),
            (&php, "sid", false),
            (&["a*", "b*"], "bc", true),
            (&["a*", "b*"], "cb", false),
            (&["a*c", "ac*"], "abc", true),
        ] {
            let keys = KeyPatterns::new(patterns);
            assert_eq!(keys.has(key.as_bytes()), is_local, "{patterns:?} {key}");
        }
    }

    #[test]
    fn versions_of_an_earlier_life_are_never_stable() {
        let stability = Stability::default();
        let version = |n: u64| Version(n << 8 | 7);
        assert!(!stability.covers(version(1)));
        stability.set(7, version(10), version(20));
        let stable: Vec<u64> = (0..30).filter(|&n| stability.covers(version(n))).collect();
        assert_eq!(stable, (11..=20).collect::<Vec<u64>>());
        assert!(!stability.covers(Version(15 << 8 | 8)), "another node's");
        stability.set(7, version(25), version(26));
        assert!(!stability.covers(version(15)) && stability.covers(version(26)));
        stability.forget(7);
        assert!(!stability.covers(version(26)));
    }
}

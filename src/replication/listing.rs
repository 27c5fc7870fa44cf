//! The list of what the other side of a scan has.
//!
//! It comes in many frames and is asked for one key at a time once it is whole. To sort it then, all at
//! once, would take this thread longer than it may be silent. So it is laid into many small drawers by
//! its hashes, in which nothing need be in order.

use super::wire::Listed;

/// The lane of a key is in the highest bits of its hash; its drawer is in those below. Of a million
/// entries there are 16 in a drawer.
const DRAWERS: usize = 1 << 16;
const DRAWER_SHIFT: u32 = 40;

/// What the other side has of each key of some lanes.
#[derive(Debug, Default)]
pub(super) struct List {
    drawers: Vec<Vec<Listed>>,
    len: usize,
}

impl List {
    /// Lays some more of it into the drawers, as long as there are fewer than `most` entries.
    pub(super) fn add(&mut self, entries: &[Listed], most: usize) {
        if self.len >= most {
            return;
        }
        self.len += entries.len();
        self.drawers.resize_with(DRAWERS, Vec::new);
        for entry in entries {
            self.drawers[drawer_of(entry.hash)].push(*entry);
        }
    }

    /// The greatest entry of the keys with this hash.
    pub(super) fn find(&self, hash: u64) -> Option<&Listed> {
        let drawer = self.drawers.get(drawer_of(hash))?;
        drawer.iter().filter(|listed| listed.hash == hash).max()
    }
}

fn drawer_of(hash: u64) -> usize {
    usize::try_from(hash >> DRAWER_SHIFT).unwrap_or(0) % DRAWERS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::digest_hash;
    use crate::version::Version;

    /// 300,000 entries, the last third of keys that have come before.
    fn entries() -> Vec<Listed> {
        let all = (0..300_000_u64).map(|n| Listed {
            hash: digest_hash((n % 200_000).to_string().as_bytes()),
            version: Version(n),
            rank: 1,
            touched: Version(0),
            content: 0,
        });
        all.collect()
    }

    #[test]
    fn the_greatest_entry_of_a_hash_is_found_whatever_came_first() {
        let entries = entries();
        for backwards in [false, true] {
            let mut list = List::default();
            let mut chunks: Vec<&[Listed]> = entries.chunks(1_000).collect();
            if backwards {
                chunks.reverse();
            }
            chunks.into_iter().for_each(|chunk| list.add(chunk, usize::MAX));
            for n in [0, 1, 99_999, 100_000, 199_999] {
                let greatest = if n < 100_000 { n + 200_000 } else { n };
                let found = list.find(digest_hash(n.to_string().as_bytes()));
                assert_eq!(found.map(|found| found.version), Some(Version(greatest)), "{n}");
            }
            assert_eq!(list.find(digest_hash(b"nobody's")), None);
        }
    }

    #[test]
    fn no_drawer_is_much_longer_than_others() {
        let mut list = List::default();
        list.add(&entries(), usize::MAX);
        assert_eq!(list.drawers.len(), DRAWERS);
        let longest = list.drawers.iter().map(Vec::len).max();
        assert!(longest < Some(40), "{longest:?} of {} on average", list.len / DRAWERS);
    }

    #[test]
    fn what_comes_when_enough_is_there_is_as_if_they_had_it_not() {
        let mut list = List::default();
        let entries = entries();
        list.add(&entries[..10], 10);
        list.add(&entries[10..20], 10);
        assert!(list.find(entries[9].hash).is_some());
        assert_eq!(list.find(entries[10].hash), None);
    }
}

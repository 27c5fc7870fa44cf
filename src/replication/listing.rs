//! The list of what the other side of a scan has.
//!
//! It comes in many frames and is asked for one key at a time once it is whole. To sort it then, all at
//! once, would take this thread longer than it may be silent. So it is laid into drawers by its hashes,
//! and a drawer is put in order whenever some more has come into it: what is left to do at the end is
//! little.

use super::wire::Listed;

/// The lane of a key is in the highest bits of its hash; its drawer is in those below.
const DRAWERS: usize = 1 << 10;
const DRAWER_SHIFT: u32 = 46;

/// A drawer is put in order when so many more entries lie in it.
const DISORDER_MAX: usize = 64;

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
            let drawer = &mut self.drawers[drawer_of(entry.hash)];
            drawer.push(*entry);
            if drawer.len().is_multiple_of(DISORDER_MAX) {
                // Most of it is in order, which this sort takes note of.
                drawer.sort();
            }
        }
    }

    /// It is whole.
    pub(super) fn close(&mut self) {
        self.drawers.iter_mut().for_each(|drawer| drawer.sort());
    }

    /// The greatest entry of the keys with this hash, once the list is whole.
    pub(super) fn find(&self, hash: u64) -> Option<&Listed> {
        let drawer = self.drawers.get(drawer_of(hash))?;
        let after = drawer.partition_point(|listed| listed.hash <= hash);
        drawer[..after].last().filter(|best| best.hash == hash)
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
            list.close();
            for n in [0, 1, 99_999, 100_000, 199_999] {
                let greatest = if n < 100_000 { n + 200_000 } else { n };
                let found = list.find(digest_hash(n.to_string().as_bytes()));
                assert_eq!(found.map(|found| found.version), Some(Version(greatest)), "{n}");
            }
            assert_eq!(list.find(digest_hash(b"nobody's")), None);
        }
    }

    #[test]
    fn little_is_left_to_be_put_in_order_when_the_list_is_whole() {
        let mut list = List::default();
        list.add(&entries(), usize::MAX);
        assert!(list.drawers.iter().all(|drawer| drawer.len() > DISORDER_MAX));
        for drawer in &list.drawers {
            let ordered = drawer.len() - drawer.len() % DISORDER_MAX;
            assert!(drawer[..ordered].is_sorted());
        }
    }

    #[test]
    fn what_comes_when_enough_is_there_is_as_if_they_had_it_not() {
        let mut list = List::default();
        let entries = entries();
        list.add(&entries[..10], 10);
        list.add(&entries[10..20], 10);
        list.close();
        assert!(list.find(entries[9].hash).is_some());
        assert_eq!(list.find(entries[10].hash), None);
    }
}

//! A shard's items, written one after another into segments.
//!
//! Picture a row of scrolls. One, the *head*, is being written on; when it is full it is sealed
//! and another is begun. An item that is replaced, deleted, expired or evicted leaves a dead slot;
//! a sealed segment without live items is released at once. A second scroll, the *survivors*,
//! takes the live items of sparse segments when they are moved together, so that old items stay
//! apart from new ones. A segment's *age* orders eviction: head segments in the order they were
//! begun; survivors have the mean age of what was moved into them.
//!
//! What is NOT here: which items to keep ([`super::room`]), where items are found by key
//! ([`super::index`]), and values too long for a slot ([`super::blocks`]).

use super::ahead::fetch_soon;
use super::pool::{SEGMENT, Segment};
use super::slot::{GRANULE, Handle, Header, LOG_SEGMENTS_MAX, narrow};
use crate::clock::UnixSeconds;
use crate::item::Expiry;

/// `About::min_expiry` of a segment where nothing expires.
pub(super) const NOTHING_DUE: u32 = u32::MAX;

/// What a processor fetches from memory at a time.
const LINE: usize = 64;

/// Which scroll is written on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// New items, and old ones that get a second chance.
    Head,
    /// Items moved out of sparse segments.
    Survivors,
}

/// What is known of a segment without reading it.
#[derive(Clone, Copy, Debug)]
pub(super) struct About {
    /// Bytes written; slots lie end to end below it.
    pub(super) tail: u32,
    /// Bytes of live slots.
    pub(super) live: u32,
    /// No item here expires before this second; 0 = flushed items lie here.
    pub(super) min_expiry: u32,
    /// When it was last swept.
    pub(super) swept_at: u32,
    /// Items below this offset were written before the last flush.
    pub(super) flushed_to: u32,
    /// Orders eviction: smaller is older.
    pub(super) age: u64,
}

impl About {
    const NEW: About =
        About { tail: 0, live: 0, min_expiry: NOTHING_DUE, swept_at: 0, flushed_to: 0, age: 0 };

    /// Bytes of dead slots.
    pub(super) fn dead(&self) -> u32 {
        self.tail - self.live
    }
}

/// A shard's log.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// By number; number 0 is never used.
    memory: Vec<Option<Segment>>,
    about: Vec<About>,
    /// Numbers without memory.
    vacant: Vec<u32>,
    /// The segments being written, by [`Run`].
    open: [Option<u32>; 2],
    next_age: u64,
    /// Sums over all segments.
    held: usize,
    live: usize,
    written: usize,
}

impl Log {
    /// How many segments are held.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Bytes of live slots.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Bytes of dead slots.
    pub(super) fn dead(&self) -> usize {
        self.written - self.live
    }

    /// Every segment held, with what is known of it.
    pub(super) fn segments(&self) -> impl Iterator<Item = (u32, &About)> {
        let numbered = (0u32..).zip(self.memory.iter().zip(&self.about));
        numbered.filter_map(|(number, (memory, about))| memory.as_ref().map(|_| (number, about)))
    }

    /// What is known of the segment `number`.
    pub(super) fn about(&self, number: u32) -> &About {
        &self.about[number as usize]
    }

    /// As [`Log::about`], to note a sweep.
    pub(super) fn about_mut(&mut self, number: u32) -> &mut About {
        &mut self.about[number as usize]
    }

    /// Whether the segment is being written.
    pub(super) fn is_open(&self, number: u32) -> bool {
        self.open.contains(&Some(number))
    }

    /// The segment that `run` writes.
    pub(super) fn open_segment(&self, run: Run) -> Option<u32> {
        self.open[run as usize]
    }

    /// Whether `run` can take a slot of `len` bytes without another segment.
    pub(super) fn fits(&self, run: Run, len: usize) -> bool {
        self.open[run as usize]
            .is_some_and(|number| self.about(number).tail as usize + len <= SEGMENT)
    }

    /// Whether handles can name one more segment.
    pub(super) fn can_open(&self) -> bool {
        !self.vacant.is_empty() || self.memory.len() < LOG_SEGMENTS_MAX
    }

    /// Seals what `run` wrote and lets it write on `segment`. Survivors have the age `age`; the
    /// head is always the youngest. Returns the sealed segment if nothing lives in it.
    #[must_use]
    pub(super) fn open(&mut self, run: Run, segment: Segment, age: u64) -> Option<Segment> {
        let sealed = self.seal(run);
        let number = self.vacant.pop().unwrap_or_else(|| {
            if self.memory.is_empty() {
                self.memory.push(None);
                self.about.push(About::NEW);
            }
            self.memory.push(None);
            self.about.push(About::NEW);
            narrow(self.memory.len() - 1)
        });
        self.memory[number as usize] = Some(segment);
        self.held += 1;
        let age = match run {
            Run::Head => {
                self.next_age += 1;
                self.next_age
            }
            Run::Survivors => age,
        };
        self.about[number as usize] = About { age, ..About::NEW };
        self.open[run as usize] = Some(number);
        sealed
    }

    /// Seals what `run` wrote. Returns the segment if nothing lives in it.
    #[must_use]
    pub(super) fn seal(&mut self, run: Run) -> Option<Segment> {
        let number = self.open[run as usize].take()?;
        if self.about(number).live == 0 { self.release(number) } else { None }
    }

    fn release(&mut self, number: u32) -> Option<Segment> {
        self.written -= self.about(number).tail as usize;
        self.about[number as usize] = About::NEW;
        self.vacant.push(number);
        self.held -= 1;
        self.memory[number as usize].take()
    }

    /// Takes every segment out.
    pub(super) fn clear(&mut self) -> Vec<Segment> {
        std::mem::take(self).memory.into_iter().flatten().collect()
    }

    fn memory(&self, number: u32) -> &[u8; SEGMENT] {
        match &self.memory[number as usize] {
            Some(memory) => memory,
            None => unreachable!("a handle into a segment that was given back"),
        }
    }

    fn memory_mut(&mut self, number: u32) -> &mut [u8; SEGMENT] {
        match &mut self.memory[number as usize] {
            Some(memory) => memory,
            None => unreachable!("a handle into a segment that was given back"),
        }
    }

    /// The slot's bytes and whatever follows it.
    pub(super) fn slot(&self, handle: Handle) -> &[u8] {
        &self.memory(handle.segment())[handle.offset()..]
    }

    /// Has the slot's first lines of memory fetched.
    pub(super) fn look_at(&self, handle: Handle, lines: usize) {
        self.slot(handle).iter().step_by(LINE).take(lines).for_each(fetch_soon);
    }

    fn slot_mut(&mut self, handle: Handle) -> &mut [u8] {
        &mut self.memory_mut(handle.segment())[handle.offset()..]
    }

    /// The slot's header.
    pub(super) fn header(&self, handle: Handle) -> Header {
        Header::read(self.slot(handle))
    }

    /// The slot's key.
    pub(super) fn key(&self, handle: Handle) -> &[u8] {
        let slot = self.slot(handle);
        let header = Header::read(slot);
        &slot[header.key_at()..header.value_at()]
    }

    /// The part of the value that the slot holds.
    #[inline]
    pub(super) fn inline(&self, handle: Handle, header: &Header) -> &[u8] {
        &self.slot(handle)[header.value_at()..][..header.inline_len()]
    }

    /// Rewrites the header of a live slot; its lengths of slot and key stay.
    pub(super) fn set_header(&mut self, handle: Handle, header: &Header) {
        self.lower_expiry(handle.segment(), header.expiry);
        header.write(self.slot_mut(handle));
    }

    /// Rewrites what an access changes of a live slot's header.
    pub(super) fn set_access(&mut self, handle: Handle, header: &Header) {
        header.write_access(self.slot_mut(handle));
    }

    /// Rewrites header and value of a live slot; its lengths of slot and key stay.
    pub(super) fn rewrite(&mut self, handle: Handle, header: &Header, inline: &[u8]) {
        self.set_header(handle, header);
        let at = header.value_at();
        self.slot_mut(handle)[at..at + inline.len()].copy_from_slice(inline);
    }

    /// Writes an item at the end of `run`, where it fits.
    pub(super) fn append(
        &mut self,
        run: Run,
        header: &Header,
        key: &[u8],
        inline: &[u8],
    ) -> Handle {
        let handle = self.advance(run, header);
        let slot = self.slot_mut(handle);
        header.write(slot);
        slot[header.key_at()..header.value_at()].copy_from_slice(key);
        slot[header.value_at()..][..inline.len()].copy_from_slice(inline);
        handle
    }

    /// Copies a live slot, without what it had to spare, to the end of `run`, where it fits; the
    /// old slot is then to be killed.
    pub(super) fn copy(&mut self, from: Handle, header: &Header, run: Run) -> (Handle, Header) {
        let mut header = *header;
        let len = header.needed_len();
        header.set_slot_len(len);
        let to = self.advance(run, &header);
        let pair = [from.segment() as usize, to.segment() as usize];
        let Ok([Some(source), Some(target)]) = self.memory.get_disjoint_mut(pair) else {
            unreachable!("items are moved between two segments that are held")
        };
        let target = &mut target[to.offset()..][..len];
        target.copy_from_slice(&source[from.offset()..][..len]);
        header.write(target);
        (to, header)
    }

    /// Makes room for `header`'s slot at the end of `run`.
    fn advance(&mut self, run: Run, header: &Header) -> Handle {
        let Some(number) = self.open[run as usize] else { unreachable!("the caller made room") };
        let len = header.slot_len();
        let about = &mut self.about[number as usize];
        let handle = Handle::new(number, about.tail as usize);
        about.tail += narrow(len);
        about.live += narrow(len);
        debug_assert!(about.tail as usize <= SEGMENT);
        self.live += len;
        self.written += len;
        self.lower_expiry(number, header.expiry);
        handle
    }

    fn lower_expiry(&mut self, number: u32, expiry: Expiry) {
        if let Some(UnixSeconds(second)) = expiry.second() {
            let about = &mut self.about[number as usize];
            about.min_expiry = about.min_expiry.min(second);
        }
    }

    /// Marks a live slot dead. Returns its segment if that was the last live one there.
    #[must_use]
    pub(super) fn kill(&mut self, handle: Handle, header: &Header) -> Option<Segment> {
        let number = handle.segment();
        Header { key_len: 0, ..*header }.write(self.slot_mut(handle));
        let len = header.slot_len();
        self.live -= len;
        let about = &mut self.about[number as usize];
        about.live -= narrow(len);
        if about.live > 0 {
            return None;
        }
        if !self.is_open(number) {
            return self.release(number);
        }
        self.written -= self.about(number).tail as usize;
        let age = self.about(number).age;
        self.about[number as usize] = About { age, ..About::NEW };
        None
    }

    /// The first live slot of the segment at or after `offset`; `None` when there is none, or no
    /// such segment any more.
    pub(super) fn next_live(&self, number: u32, mut offset: usize) -> Option<(Handle, Header)> {
        let memory = self.memory.get(number as usize)?.as_deref()?;
        let tail = self.about(number).tail as usize;
        while offset < tail {
            let header = Header::read(&memory[offset..]);
            if !header.is_dead() {
                return Some((Handle::new(number, offset), header));
            }
            offset += header.slot_len().max(GRANULE);
        }
        None
    }

    /// The segment that eviction takes next: the oldest that is not the head.
    pub(super) fn oldest(&self) -> Option<u32> {
        let head = self.open[Run::Head as usize];
        let others =
            self.segments().filter(|&(number, about)| Some(number) != head && about.live > 0);
        others.min_by_key(|(_, about)| about.age).map(|(number, _)| number)
    }

    /// Every item written so far is flushed: notes where each segment ends, and that it is due.
    pub(super) fn mark_flushed(&mut self) {
        for about in &mut self.about {
            about.flushed_to = about.tail;
            about.min_expiry = if about.live > 0 { 0 } else { NOTHING_DUE };
            about.swept_at = 0;
        }
    }

    /// Moves the survivors' age towards `age`, weighed by what was moved.
    pub(super) fn mix_age(&mut self, number: u32, age: u64, moved: u32) {
        let about = &mut self.about[number as usize];
        let (old, new) = (u64::from(about.live.saturating_sub(moved)), u64::from(moved));
        about.age = (about.age * old + age * new) / (old + new).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::{Claim, Pool, Purpose};
    use super::*;
    use crate::version::Version;

    use super::super::slot::{Bits, HEADER, slot_len};

    fn header(key: &[u8], value: &[u8], expiry: u32) -> Header {
        let mut header = Header {
            version: Version(1),
            touched: Version(1),
            expiry: Expiry::from_bits(expiry),
            last_access: UnixSeconds(1),
            flags: 0,
            value_len: narrow(value.len()),
            granules: 0,
            key_len: u8::try_from(key.len()).unwrap(),
            bits: Bits::default(),
        };
        header.set_slot_len(slot_len(HEADER, key.len(), value.len()));
        header
    }

    struct Bench {
        log: Log,
        pool: Pool,
    }

    impl Bench {
        fn new() -> Bench {
            Bench { log: Log::default(), pool: Pool::new(4 << 20, 1) }
        }

        fn open(&mut self, run: Run) {
            let segment = self.pool.take(Purpose::Log, Claim::Common).unwrap();
            if let Some(sealed) = self.log.open(run, segment, 0) {
                self.pool.give_back(sealed, Purpose::Log);
            }
        }

        fn put(&mut self, key: &[u8], value: &[u8], expiry: u32) -> (Handle, Header) {
            let header = header(key, value, expiry);
            (self.log.append(Run::Head, &header, key, value), header)
        }
    }

    #[test]
    fn what_was_appended_is_walked_in_order_without_the_dead() {
        let mut bench = Bench::new();
        bench.open(Run::Head);
        let (first, _) = bench.put(b"a", b"one", 0);
        let (second, dead) = bench.put(b"b", b"two", 0);
        let (third, _) = bench.put(b"c", b"three", 7);
        assert!(bench.log.kill(second, &dead).is_none());
        let number = first.segment();
        let (met, header) = bench.log.next_live(number, 0).unwrap();
        assert_eq!(met, first);
        let (met, header) = bench.log.next_live(number, met.offset() + header.slot_len()).unwrap();
        assert_eq!((met, bench.log.key(met)), (third, &b"c"[..]));
        assert_eq!(bench.log.inline(met, &header), b"three");
        assert!(bench.log.next_live(number, met.offset() + header.slot_len()).is_none());
        assert_eq!(bench.log.about(number).min_expiry, 7);
        assert_eq!(bench.log.dead(), dead.slot_len());
    }

    #[test]
    fn a_sealed_segment_is_released_with_its_last_item_and_an_open_one_begins_anew() {
        let mut bench = Bench::new();
        bench.open(Run::Head);
        let (first, first_header) = bench.put(b"a", b"one", 3);
        bench.open(Run::Head);
        let (second, second_header) = bench.put(b"b", b"two", 3);
        assert!(bench.log.kill(first, &first_header).is_some());
        assert!(bench.log.kill(second, &second_header).is_none());
        assert_eq!(bench.log.about(second.segment()).tail, 0);
        assert_eq!(bench.log.about(second.segment()).min_expiry, NOTHING_DUE);
        assert_eq!((bench.log.held(), bench.log.live(), bench.log.dead()), (1, 0, 0));
        assert!(bench.log.seal(Run::Head).is_some());
    }

    #[test]
    fn a_copied_slot_leaves_behind_what_it_had_to_spare() {
        let mut bench = Bench::new();
        bench.open(Run::Head);
        let (from, mut wide) = bench.put(b"key", &[b'x'; 100], 0);
        wide.value_len = 10;
        bench.log.rewrite(from, &wide, &[b'y'; 10]);
        bench.open(Run::Survivors);
        let (to, moved) = bench.log.copy(from, &wide, Run::Survivors);
        assert_eq!(moved.slot_len(), slot_len(HEADER, 3, 10));
        assert_eq!(bench.log.header(to), moved);
        assert_eq!(
            (bench.log.key(to), bench.log.inline(to, &moved)),
            (&b"key"[..], &[b'y'; 10][..])
        );
    }
}

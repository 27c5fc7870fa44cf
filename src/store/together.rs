//! Reading many short items at once: the keys of a get that names several.
//!
//! Each shard is visited once for all of its keys, not once a key. So items are read in the order of the
//! shards, and what is read is laid down as a piece each, which the caller puts in the order of the
//! request. That copies every value twice; a short one is copied in less time than a lock takes.
//!
//! The caller may have no room for all of the pieces, and then fetches an item again later. What has expired is
//! taken away, as ever.
//!
//! The only key of a request is read in the same way, into the reply itself.
//!
//! What is NOT here: anything but plain reads. An item that is not short is left to [`super::fetch`].

use super::ahead::{Ahead, GROUP_KEYS_MAX};
use super::shard::Shard;
use super::shards::Store;
use super::slot::{Bits, Header, SLOT_MAX, narrow};
use super::{Key, Miss};
use crate::clock::Now;
use crate::version::Version;

/// Longest value that is copied twice.
const SHORT: usize = 512;

/// An item with any of these is not in its slot, or more than a read for the meta commands.
const SPECIAL: Bits = Bits::LARGE.with(Bits::STALE).with(Bits::TOKEN_SENT);

/// What became of one of the keys.
#[derive(Clone, Copy, Debug)]
pub enum Piece {
    /// Its head and value lie at this place of the pieces.
    Hit {
        /// Where it begins.
        at: u32,
        /// Its length.
        len: u32,
        /// The item's size class.
        class: u8,
    },
    /// Nothing there.
    Miss(Miss),
    /// To be fetched by itself.
    Alone,
}

/// How a piece begins and ends.
pub struct Frame<C> {
    /// Handed to `head`.
    pub context: C,
    /// Appends what stands before the value. As in [`Head`](super::Head), a plain function.
    pub head: fn(&C, &Short<'_>, &mut Vec<u8>),
    /// What stands behind the value.
    pub end: &'static [u8],
}

/// What is told of a short item.
#[derive(Clone, Copy, Debug)]
pub struct Short<'k> {
    /// The key asked for.
    pub key: &'k [u8],
    /// Client flags.
    pub flags: u32,
    /// Length of the value in bytes.
    pub value_len: usize,
    /// The value's version: the cas unique.
    pub version: Version,
    /// The key came in base64.
    pub binary_key: bool,
}

impl Store {
    /// Looks ahead at the keys' items and reads them, appending pieces to `out`. Returns what became of each
    /// key; places count from where `out` ended.
    pub fn fetch_together<C>(
        &self,
        ahead: &mut Ahead<'_>,
        now: Now,
        frame: &Frame<C>,
        out: &mut Vec<u8>,
    ) -> [Piece; GROUP_KEYS_MAX] {
        let chains = self.buckets_ahead(ahead);
        let mut ahead_of_reading = chains.lanes(self);
        let mut look_at_next_shard = |ahead: &mut Ahead<'_>| {
            if let Some(lane) = ahead_of_reading.next() {
                self.items_ahead(ahead, &chains, lane);
            }
        };
        look_at_next_shard(ahead);
        let mut pieces = [Piece::Alone; GROUP_KEYS_MAX];
        let begin = out.len();
        for lane in chains.lanes(self) {
            look_at_next_shard(ahead);
            let keys = ahead.keys();
            let mut shard = self.enter(lane, now);
            for number in chains.in_lane(lane) {
                let at = out.len();
                pieces[number] = match shard.read_short(&keys[number], SHORT, now, frame, out) {
                    Ok(Some(class)) => {
                        Piece::Hit { at: narrow(at - begin), len: narrow(out.len() - at), class }
                    }
                    Ok(None) => Piece::Alone,
                    Err(miss) => Piece::Miss(miss),
                };
            }
        }
        pieces
    }

    /// Reads the item of one key, appending a piece to `out`; returns its size class, or `None` if it is stale,
    /// has its token out, or is not in one piece, and was not read.
    ///
    /// # Errors
    /// Why there is nothing.
    pub fn fetch_alone<C>(
        &self,
        key: Key<'_>,
        now: Now,
        frame: &Frame<C>,
        out: &mut Vec<u8>,
    ) -> Result<Option<u8>, Miss> {
        self.enter(self.lane_of(key), now).read_short(&key, SLOT_MAX, now, frame, out)
    }
}

impl Shard {
    /// Appends a piece for the item with this key; returns its size class, or `None` if it is longer than
    /// `longest` or [`SPECIAL`].
    // Always: where the frame is made its head's function is known, and both become part of the loop there. By
    // itself the compiler keeps one copy for one key and for several, which calls through the pointer.
    #[inline(always)]
    fn read_short<C>(
        &mut self,
        key: &Key<'_>,
        longest: usize,
        now: Now,
        frame: &Frame<C>,
        out: &mut Vec<u8>,
    ) -> Result<Option<u8>, Miss> {
        let seen = self.still_there(key).map(|(_, handle)| (handle, self.log.header(handle)));
        let (handle, mut header) = match seen {
            Some((handle, header)) if self.gone(handle, &header, now).is_none() => (handle, header),
            _ => {
                let item = self.look_up(*key, now)?;
                (item.handle, item.header)
            }
        };
        let is_special = header.bits.only(SPECIAL) != Bits::default();
        if header.value_len as usize > longest || is_special {
            return Ok(None);
        }
        self.note_access(handle, &mut header, Bits::FETCHED.with(Bits::REFERENCED), now);
        let Header { flags, value_len, version, .. } = header;
        let value_len = value_len as usize;
        let (version, binary_key) = (self.shown(version), header.bits.has(Bits::BINARY_KEY));
        let short = Short { key: key.bytes, flags, value_len, version, binary_key };
        (frame.head)(&frame.context, &short, out);
        out.extend_from_slice(self.log.inline(handle, &header));
        out.extend_from_slice(frame.end);
        Ok(Some(self.tally.class_of(self.tally.size(&header))))
    }
}

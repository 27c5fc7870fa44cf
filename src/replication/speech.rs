//! What two releases can say to each other.
//!
//! Nodes are upgraded one after the other, so a release and the one before it must understand each
//! other. Three things make that possible, the finer the better:
//!
//! | what changes | how an older node takes it |
//! |---|---|
//! | a field at the end of a frame | it does not read that far |
//! | a new frame that may be ignored | it skips what it does not know, by a flag in the frame |
//! | a new *feature*, a bit | it does not name it, and is not told what belongs to it |
//! | the meaning of what there is | both speak the newest *version* that both know |
//!
//! HELLO tells the oldest and the newest version, the features, and which of them are required of
//! whoever wants to be linked. What the two of a link agree upon is remembered for it as [`Agreed`].
//! A bit that we do not know is no reason to refuse anybody, unless he requires it.
//!
//! A release that says something new adds a bit, or raises the newest version, and asks the link's
//! `Agreed` before it says it; a release later the old way may go, and the oldest version with it.

use super::event::Reason;

/// Requests, notes and views of exclusive locks are understood.
pub(super) const LOCKS: u64 = 1;

/// What a release can say and understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speech {
    /// The oldest and the newest version of the protocol.
    pub versions: (u16, u16),
    /// A bit each.
    pub features: u64,
    /// Features without which it talks to nobody.
    pub required: u64,
}

/// What both ends of a link can say and understand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreed {
    /// The version of the protocol.
    pub version: u16,
    /// Features that both know.
    pub features: u64,
}

impl Speech {
    /// What this release speaks.
    pub const OURS: Speech = Speech { versions: (1, 1), features: LOCKS, required: 0 };

    /// What we and they have in common, if it is enough for both.
    pub(super) fn agree(self, theirs: Speech) -> Result<Agreed, Reason> {
        let version = self.versions.1.min(theirs.versions.1);
        if version < self.versions.0.max(theirs.versions.0) {
            return Err(Reason::Protocol);
        }
        if let Some(feature) = lowest(theirs.required & !self.features) {
            return Err(Reason::UnknownFeature(feature));
        }
        if let Some(feature) = lowest(self.required & !theirs.features) {
            return Err(Reason::LacksFeature(feature));
        }
        Ok(Agreed { version, features: self.features & theirs.features })
    }
}

/// The number of the lowest bit.
fn lowest(bits: u64) -> Option<u8> {
    u8::try_from(bits.trailing_zeros()).ok().filter(|_| bits != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speech(versions: (u16, u16), features: u64, required: u64) -> Speech {
        Speech { versions, features, required }
    }

    #[test]
    fn both_speak_the_newest_version_and_the_features_that_both_know() {
        let (older, newer) = (speech((1, 2), 0b011, 0b001), speech((2, 9), 0b1101, 0b001));
        let agreed = Ok(Agreed { version: 2, features: 0b001 });
        assert_eq!(older.agree(newer), agreed);
        assert_eq!(newer.agree(older), agreed);
    }

    #[test]
    fn who_shares_no_version_is_refused_whichever_is_older() {
        let (older, newer) = (speech((1, 2), 0, 0), speech((3, 4), 0, 0));
        assert_eq!(older.agree(newer), Err(Reason::Protocol));
        assert_eq!(newer.agree(older), Err(Reason::Protocol));
    }

    #[test]
    fn a_required_feature_that_one_side_does_not_know_is_named_on_both() {
        let plain = speech((1, 1), 0b11, 0);
        let demanding = speech((1, 1), 1 << 63 | 0b11, 1 << 63 | 0b1);
        assert_eq!(plain.agree(demanding), Err(Reason::UnknownFeature(63)));
        assert_eq!(demanding.agree(plain), Err(Reason::LacksFeature(63)));
    }
}

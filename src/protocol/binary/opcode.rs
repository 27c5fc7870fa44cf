//! The opcodes: what each asks for, how its frame must look, whether its success is silent.

/// An opcode that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opcode {
    pub(super) verb: Verb,
    /// A get says nothing when it misses, everything else says nothing when it succeeds.
    pub(super) quiet: bool,
}

/// What an opcode asks for, quiet or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    GetK,
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    Delete,
    Increment,
    Decrement,
    Quit,
    Flush,
    Noop,
    Version,
    Stat,
    Touch,
    Gat,
    GatK,
    SaslList,
    SaslStart,
    SaslStep,
}

/// How a frame must look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Bytes of extras.
    pub(super) extras: usize,
    /// The extras may be left out.
    pub(super) extras_optional: bool,
    pub(super) key: Presence,
    pub(super) value: Presence,
}

/// Whether a part of the body is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Never,
    Maybe,
    Always,
}

impl Presence {
    pub(super) fn allows(self, len: usize) -> bool {
        match self {
            Presence::Never => len == 0,
            Presence::Maybe => true,
            Presence::Always => len > 0,
        }
    }
}

/// Whether its success (a get's: that nothing was found) is not answered.
#[must_use]
pub fn is_quiet(code: u8) -> bool {
    Opcode::known(code).is_some_and(|opcode| opcode.quiet)
}

impl Opcode {
    /// What `code` stands for; `None` for the codes that nobody implements.
    pub(super) fn known(code: u8) -> Option<Opcode> {
        let (verb, quiet) = match code {
            0x00 => (Verb::Get, false),
            0x01 => (Verb::Set, false),
            0x02 => (Verb::Add, false),
            0x03 => (Verb::Replace, false),
            0x04 => (Verb::Delete, false),
            0x05 => (Verb::Increment, false),
            0x06 => (Verb::Decrement, false),
            0x07 => (Verb::Quit, false),
            0x08 => (Verb::Flush, false),
            0x09 => (Verb::Get, true),
            0x0a => (Verb::Noop, false),
            0x0b => (Verb::Version, false),
            0x0c => (Verb::GetK, false),
            0x0d => (Verb::GetK, true),
            0x0e => (Verb::Append, false),
            0x0f => (Verb::Prepend, false),
            0x10 => (Verb::Stat, false),
            0x11 => (Verb::Set, true),
            0x12 => (Verb::Add, true),
            0x13 => (Verb::Replace, true),
            0x14 => (Verb::Delete, true),
            0x15 => (Verb::Increment, true),
            0x16 => (Verb::Decrement, true),
            0x17 => (Verb::Quit, true),
            0x18 => (Verb::Flush, true),
            0x19 => (Verb::Append, true),
            0x1a => (Verb::Prepend, true),
            0x1c => (Verb::Touch, false),
            0x1d => (Verb::Gat, false),
            0x1e => (Verb::Gat, true),
            0x20 => (Verb::SaslList, false),
            0x21 => (Verb::SaslStart, false),
            0x22 => (Verb::SaslStep, false),
            0x23 => (Verb::GatK, false),
            0x24 => (Verb::GatK, true),
            _ => return None,
        };
        Some(Opcode { verb, quiet })
    }

    /// Whether the answer repeats the key.
    pub(super) fn shows_key(self) -> bool {
        matches!(self.verb, Verb::GetK | Verb::GatK)
    }
}

impl Verb {
    pub(super) fn shape(self) -> Shape {
        use Presence::{Always, Maybe, Never};
        let (extras, key, value) = match self {
            Verb::Get | Verb::GetK | Verb::Delete => (0, Always, Never),
            Verb::Set | Verb::Add | Verb::Replace => (8, Always, Maybe),
            Verb::Append | Verb::Prepend => (0, Always, Maybe),
            Verb::Increment | Verb::Decrement => (20, Always, Never),
            Verb::Touch | Verb::Gat | Verb::GatK => (4, Always, Never),
            Verb::Flush => (4, Never, Never),
            Verb::Quit | Verb::Noop | Verb::Version | Verb::SaslList => (0, Never, Never),
            // A value means nothing here, and does no harm.
            Verb::Stat => (0, Maybe, Maybe),
            Verb::SaslStart | Verb::SaslStep => (0, Always, Maybe),
        };
        Shape { extras, extras_optional: self == Verb::Flush, key, value }
    }
}

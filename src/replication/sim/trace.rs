//! What happened, in lines for people and as one number that tells two histories apart.

/// A history's record of itself.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// `told`: lines are kept, too.
    pub(super) fn new(told: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, lines: told.then(Vec::new) }
    }

    pub(super) fn fold(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    pub(super) fn fold_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.fold(u64::from_le_bytes(word));
        }
    }

    /// Keeps the line, if anybody wants to read it.
    pub(super) fn tell(&mut self, time_us: u64, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>6}.{:03} {}", time_us / 1_000, time_us % 1_000, line()));
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}

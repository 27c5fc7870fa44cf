//! What keeps the log short where something happens again and again: a node that may not connect and
//! tries for ever, a link that breaks as soon as it is there, a peer that is too slow every second.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::clock::Now;

/// For how long the same complaint is not repeated at first; twice as long after each repetition.
const REPEAT_AFTER: Duration = Duration::from_secs(30);

/// The longest such time.
const REPEAT_AFTER_MAX: Duration = Duration::from_secs(3600);

/// What has not happened for so long is new when it does.
const QUIET: Duration = Duration::from_secs(60);

/// Complaints remembered.
const REMEMBERED: usize = 256;

/// How soon after a change the next one is told at first; twice as long after each that is told.
const PAUSE: Duration = Duration::from_secs(1);

/// Complaints made lately, by whom they are about and what they say.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    made: RefCell<BTreeMap<(String, String), Made>>,
}

#[derive(Clone, Copy, Debug)]
struct Made {
    said: Now,
    /// When there was last reason for it.
    happened: Now,
    pause: Duration,
}

impl Complaints {
    /// Whether to say `what` about `whom`: it is new, or was said long ago.
    pub(super) fn is_new(&self, whom: &str, what: &str, now: Now) -> bool {
        let mut made = self.made.borrow_mut();
        if made.len() >= REMEMBERED {
            made.clear();
        }
        let new = Made { said: now, happened: now, pause: REPEAT_AFTER };
        let key = (whom.to_owned(), what.to_owned());
        let Some(held) = made.get_mut(&key).filter(|held| now < held.happened.plus(QUIET)) else {
            made.insert(key, new);
            return true;
        };
        held.happened = now;
        let is_due = now >= held.said.plus(held.pause);
        if is_due {
            held.said = now;
            held.pause = (held.pause * 2).min(REPEAT_AFTER_MAX);
        }
        is_due
    }

    /// All is well with `whom`: the next complaint is new.
    pub(super) fn forget(&self, whom: &str) {
        self.made.borrow_mut().retain(|(about, _), _| about != whom);
    }
}

/// Tells how something is, and whether something else has been told of it before.
type Say = Box<dyn FnOnce(bool)>;

/// Whether each of many things is so or not, told when it changes; soon after a change only if it
/// stays.
#[derive(Default)]
pub(super) struct Changes {
    told: RefCell<BTreeMap<(u8, &'static str), Told>>,
}

struct Told {
    is_so: bool,
    at: Now,
    pause: Duration,
    /// It has become otherwise.
    pending: Option<Say>,
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.told.borrow().keys()).finish()
    }
}

impl Changes {
    /// `what` is so with the node, or is not; `say` tells it, and is told whether the contrary has been
    /// told before.
    pub(super) fn tell(
        &self,
        node: u8,
        what: &'static str,
        is_so: bool,
        now: Now,
        say: impl FnOnce(bool) + 'static,
    ) {
        let mut all = self.told.borrow_mut();
        match all.get_mut(&(node, what)) {
            None => {
                say(false);
                all.insert((node, what), Told { is_so, at: now, pause: PAUSE, pending: None });
            }
            Some(told) if told.is_so == is_so => told.pending = None,
            Some(told) => {
                told.pending = Some(Box::new(say));
                told.settle(now);
            }
        }
    }

    /// Tells what has stayed as it has become.
    pub(super) fn settle(&self, now: Now) {
        self.told.borrow_mut().values_mut().for_each(|told| told.settle(now));
    }
}

impl Told {
    fn settle(&mut self, now: Now) {
        if now < self.at.plus(self.pause) {
            return;
        }
        if let Some(say) = self.pending.take() {
            say(true);
            self.is_so = !self.is_so;
            let is_quiet = now > self.at.plus(QUIET + self.pause);
            self.pause = if is_quiet { PAUSE } else { (self.pause * 2).min(QUIET) };
            self.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    const NOON: Now = Now::from_unix_seconds(1_800_000_000);

    #[test]
    fn a_complaint_that_has_reason_every_second_of_a_day_is_made_some_thirty_times() {
        let complaints = Complaints::default();
        let times = |what: &str| {
            let seconds = (0..86_400).map(|second| NOON.plus(Duration::from_secs(second)));
            seconds.filter(|now| complaints.is_new("web2", what, *now)).count()
        };
        let made = times("wrong secret");
        assert!((20..35).contains(&made), "{made}");
        assert!(complaints.is_new("web2", "another", NOON), "it is about something else");
    }

    #[test]
    fn two_complaints_about_one_host_do_not_make_each_other_new() {
        let complaints = Complaints::default();
        let now = |second| NOON.plus(Duration::from_secs(second));
        let made = (0..20)
            .filter(|second| complaints.is_new("a", ["x", "y"][second % 2], now(*second as u64)));
        assert_eq!(made.count(), 2);
    }

    #[test]
    fn a_complaint_is_new_after_a_quiet_minute_and_when_all_was_well() {
        let complaints = Complaints::default();
        assert!(complaints.is_new("a", "x", NOON));
        assert!(!complaints.is_new("a", "x", NOON.plus(Duration::from_secs(1))));
        assert!(complaints.is_new("a", "x", NOON.plus(Duration::from_secs(62))));
        complaints.forget("a");
        assert!(complaints.is_new("a", "x", NOON.plus(Duration::from_secs(63))));
    }

    #[test]
    fn a_change_is_told_at_once_and_what_flips_is_told_seldom_and_ends_true() {
        let changes = Changes::default();
        let (lines, last) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(None)));
        let flip = |is_so: bool, now: Now| {
            let (lines, last) = (Rc::clone(&lines), Rc::clone(&last));
            changes.tell(1, "linked", is_so, now, move |again| {
                assert_eq!(again, lines.get() > 0, "the first is news");
                lines.set(lines.get() + 1);
                last.set(Some(is_so));
            });
        };
        flip(true, NOON);
        assert_eq!(last.get(), Some(true));
        let hour = NOON.plus(Duration::from_secs(3600));
        flip(false, hour);
        assert_eq!((lines.get(), last.get()), (2, Some(false)));
        // Twice a second for an hour.
        for half in 1..=7_200_u64 {
            let now = hour.plus(Duration::from_millis(500 * half));
            flip(half % 2 == 1, now);
            changes.settle(now);
        }
        assert!(lines.get() < 130, "{}", lines.get());
        let end = hour.plus(Duration::from_secs(3600));
        flip(true, end);
        changes.settle(end.plus(QUIET * 2));
        assert_eq!(last.get(), Some(true));
    }
}

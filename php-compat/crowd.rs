//! The visitors of one site, and what becomes of them while its session nodes die.
//!
//! Not here: what is done to the nodes.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::web::{Customer, Seen, Web};

/// Steps of [`Crowd::click`].
pub(crate) const ALL: usize = 1;
/// Every other visitor.
pub(crate) const BUSY: usize = 2;

/// What happened to the visitors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Toll {
    pub(crate) sessions: usize,
    /// Visitors who at some time were not seen as who they are.
    pub(crate) lost: usize,
    /// Those who were not at the last click of all.
    pub(crate) for_good: usize,
    /// Clicks that a later page did not know of.
    pub(crate) lost_updates: usize,
    pub(crate) longest_wait: Duration,
    /// What PHP said instead of a page, each once.
    pub(crate) troubles: Vec<String>,
}

impl Toll {
    /// Adds what happened at another site.
    pub(crate) fn add(&mut self, other: &Toll) {
        self.sessions += other.sessions;
        self.lost += other.lost;
        self.for_good += other.for_good;
        self.lost_updates += other.lost_updates;
        self.longest_wait = self.longest_wait.max(other.longest_wait);
    }

    /// Whether nobody was lost and nothing forgotten.
    pub(crate) fn is_nothing(&self) -> bool {
        self.lost == 0 && self.lost_updates == 0
    }
}

impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Toll { sessions, lost, for_good, lost_updates, longest_wait, .. } = self;
        let wait = format!("{:.2} s", longest_wait.as_secs_f64());
        write!(f, "{sessions:>8} {lost:>5} {for_good:>8} {lost_updates:>8} {wait:>8}")
    }
}

/// The head of a table of tolls.
pub(crate) const COLUMNS: &str = "sessions  lost for good  updates  longest";

struct Visitor {
    customer: Customer,
    is_lost: bool,
    lost_updates: usize,
    longest_wait: Duration,
    trouble: Option<String>,
}

impl Visitor {
    fn log_in(web: &Web, name: &str) -> Visitor {
        let (customer, longest_wait) = Customer::log_in(web.visitor(), name);
        Visitor { customer, is_lost: false, lost_updates: 0, longest_wait, trouble: None }
    }

    /// Whether this visitor is seen as who they are.
    fn note(&mut self, (seen, took): (Seen, Duration)) -> bool {
        self.longest_wait = self.longest_wait.max(took);
        match seen {
            Seen::User => return true,
            Seen::Stale => {
                self.lost_updates += 1;
                return true;
            }
            Seen::Nobody => {}
            Seen::Trouble(text) => self.trouble = Some(text),
        }
        self.is_lost = true;
        false
    }
}

/// When dropped, it is over.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Visitors of one site.
pub(crate) struct Crowd {
    visitors: Vec<Visitor>,
    unseen: usize,
}

impl Crowd {
    /// So many visitors, who have logged in.
    pub(crate) fn of(web: &Web, sessions: usize) -> Crowd {
        let mut crowd = Crowd { visitors: Vec::new(), unseen: 0 };
        crowd.grow(web, sessions);
        crowd
    }

    /// So many more.
    pub(crate) fn grow(&mut self, web: &Web, sessions: usize) {
        for _ in 0..sessions {
            let name = format!("customer{}", self.visitors.len());
            self.visitors.push(Visitor::log_in(web, &name));
        }
    }

    /// Every `step`th visitor clicks, one after the other.
    pub(crate) fn click(&mut self, step: usize) {
        self.each(step, Customer::click);
    }

    /// Every `step`th visitor looks at a page that changes nothing.
    pub(crate) fn look(&mut self, step: usize) {
        self.each(step, Customer::look);
    }

    fn each(&mut self, step: usize, act: fn(&mut Customer) -> (Seen, Duration)) {
        self.unseen = 0;
        for visitor in self.visitors.iter_mut().step_by(step) {
            let seen = act(&mut visitor.customer);
            self.unseen += usize::from(!visitor.note(seen));
        }
    }

    /// Everybody opens `page`, which clicks, in so many tabs at once.
    pub(crate) fn click_in_tabs(&mut self, page: &str, tabs: usize) {
        for visitor in &mut self.visitors {
            visitor.customer.click_in_tabs(page, tabs);
        }
    }

    /// All visitors click all the time, a few at once, while `story` happens.
    pub(crate) fn click_during(&mut self, story: impl FnOnce()) {
        const AT_ONCE: usize = 6;
        let is_over = AtomicBool::new(false);
        let share = self.visitors.len().div_ceil(AT_ONCE);
        thread::scope(|scope| {
            for visitors in self.visitors.chunks_mut(share) {
                let is_over = &is_over;
                scope.spawn(move || {
                    for turn in (0..visitors.len()).cycle() {
                        if is_over.load(Ordering::Relaxed) {
                            break;
                        }
                        let seen = visitors[turn].customer.click();
                        visitors[turn].note(seen);
                    }
                });
            }
            // They stop even if the story does not come to its end.
            let _end = Over(&is_over);
            story();
        });
    }

    /// What became of them.
    pub(crate) fn toll(self) -> Toll {
        let mut toll =
            Toll { sessions: self.visitors.len(), for_good: self.unseen, ..Toll::default() };
        for visitor in self.visitors {
            toll.lost += usize::from(visitor.is_lost);
            toll.lost_updates += visitor.lost_updates;
            toll.longest_wait = toll.longest_wait.max(visitor.longest_wait);
            toll.troubles.extend(visitor.trouble);
        }
        toll.troubles.sort_unstable();
        toll.troubles.dedup();
        toll
    }
}

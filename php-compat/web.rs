//! A web server whose sessions live in a farm. Two of them over one farm are two web servers.
//!
//! Unlike [`crate::site`], nothing is asserted about what PHP complains of: servers die here.

use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::browser::Browser;
use crate::fpm;
use crate::php::Php;
use crate::root;

/// PHP, and its files.
pub(crate) struct Web {
    php: Php,
    _dir: TempDir,
}

impl Web {
    /// PHP with these ini lines ([`crate::setup::Setup::lines`]) and so many processes.
    pub(crate) fn start(lines: &str, workers: usize) -> Web {
        let dir = root::directory();
        Web { php: Php::start(lines, workers, dir.path()), _dir: dir }
    }

    /// The same with php-fpm.
    pub(crate) fn of_fpm(lines: &str, workers: usize) -> Web {
        let dir = root::directory();
        Web { php: fpm::start(lines, workers, dir.path()), _dir: dir }
    }

    /// Where it takes HTTP requests, on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.php.port()
    }

    /// A visitor who has not been here before.
    pub(crate) fn visitor(&self) -> Browser {
        Browser::new(self.port())
    }

    /// How many pages were answered with this status so far.
    pub(crate) fn answered(&self, status: u16) -> usize {
        self.php.answered(status)
    }

    /// What PHP has complained of so far.
    pub(crate) fn errors(&self) -> String {
        self.php.errors()
    }
}

/// What one click brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The visitor is logged in.
    User,
    /// The visitor is logged in, to a session in which earlier clicks are missing.
    Stale,
    /// A page, for nobody in particular.
    Nobody,
    /// No page: PHP could not start a session.
    Trouble(String),
}

/// A visitor who logs in once and then clicks on a counter.
pub(crate) struct Customer {
    browser: Browser,
    name: String,
    /// The session's counter as this visitor last saw it.
    clicks: u64,
}

impl Customer {
    /// A visitor of this name, who logs in; how long that took.
    pub(crate) fn log_in(mut browser: Browser, name: &str) -> (Customer, Duration) {
        let since = Instant::now();
        browser.get(&format!("login.php?user={name}"));
        (Customer { browser, name: name.to_owned(), clicks: 0 }, since.elapsed())
    }

    /// One click: what it brought, and how long it took.
    pub(crate) fn click(&mut self) -> (Seen, Duration) {
        self.visit("click.php", 1)
    }

    /// The same on a page that reads the counter and changes nothing.
    pub(crate) fn look(&mut self) -> (Seen, Duration) {
        self.visit("clicks.php", 0)
    }

    /// One click on a page like click.php that is an error where the session could not be written.
    pub(crate) fn click_carefully(&mut self) -> (Seen, Duration) {
        self.visit("careful.php", 1)
    }

    /// Opens `page`, which clicks, in so many tabs at once, each of which should count.
    pub(crate) fn click_in_tabs(&mut self, page: &str, tabs: usize) {
        thread::scope(|scope| {
            for _ in 0..tabs {
                let mut tab = self.browser.clone();
                scope.spawn(move || tab.visit(page));
            }
        });
        self.clicks += tabs as u64;
    }

    fn visit(&mut self, page: &str, more: u64) -> (Seen, Duration) {
        let since = Instant::now();
        let (status, text) = self.browser.visit(page);
        let took = since.elapsed();
        let seen = match text.split_once(' ') {
            _ if status != "200" => Seen::Trouble(format!("{status} {text}")),
            Some((user, count)) if user == self.name => {
                let count: u64 = count.parse().unwrap();
                let is_stale = count < self.clicks + more;
                self.clicks = count;
                if is_stale { Seen::Stale } else { Seen::User }
            }
            _ => Seen::Nobody,
        };
        (seen, took)
    }
}

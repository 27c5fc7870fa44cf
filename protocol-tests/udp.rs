//! UDP: conversations by datagrams, held with twincached and with the oracle.
//!
//! | rooms | what |
//! |---|---|
//! | `udp/*.conv` | the conversations |
//! | [`format`] [`run`] | their format, how one is held |
//! | [`caller`] | a client |
//! | [`addresses`] [`amplification`] | where answers leave from, and how much is sent to whom |
//! | [`noise`] | datagrams that are none, and other clients meanwhile |
//!
//! One test a file; the last of them to finish prints what all showed. As in [`crate::corpus`],
//! `divergences.md` and the marks must name the same conversations (there as `- udp/file: title`),
//! and a marked conversation must in fact differ.

mod addresses;
mod amplification;
pub(crate) mod caller;
mod format;
mod noise;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use format::{Conversation, parse};
use run::run;

use crate::corpus::listed_divergences;
use crate::judge::{Outcome, judge};
use crate::server::Program;

/// Servers that one file keeps running at a time.
const AT_ONCE: usize = 2;

macro_rules! conversations {
    ($($file:ident)*) => {
        const FILES: &[&str] = &[$(stringify!($file)),*];

        mod conversations {
            $(
                #[test]
                fn $file() {
                    super::the_conversations_hold(stringify!($file));
                }
            )*
        }
    };
}

conversations! { headings text meta binary long refused unproven }

static SHOWN: Mutex<BTreeMap<Outcome, usize>> = Mutex::new(BTreeMap::new());
static FILES_DONE: AtomicUsize = AtomicUsize::new(0);

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("protocol-tests/udp")
}

fn read(file: &str) -> Vec<Conversation> {
    let path = directory().join(format!("{file}.conv"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    parse(&text).unwrap_or_else(|wrong| panic!("udp/{file}.conv: {wrong}"))
}

fn the_conversations_hold(file: &str) {
    let conversations = read(file);
    let mut jobs = Vec::new();
    for conversation in &conversations {
        // The oracle's workers share one socket, and its answers have an order only with one.
        jobs.push((conversation, Program::Oracle, "1"));
        jobs.push((conversation, Program::Twincached, "1"));
        jobs.push((conversation, Program::Twincached, "4"));
    }
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(&(conversation, program, workers)) =
                    jobs.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let (outcome, failure) =
                        judge(conversation, program, || run(conversation, program, workers));
                    *SHOWN.lock().unwrap().entry(outcome).or_default() += 1;
                    reports.lock().unwrap().extend(failure);
                }
            });
        }
    });
    if FILES_DONE.fetch_add(1, Ordering::Relaxed) + 1 == FILES.len() {
        print_summary();
    }
    let mut reports = reports.into_inner().unwrap();
    reports.sort_by_key(|failure| failure.line);
    for failure in &reports {
        println!("protocol-tests/udp/{file}.conv:{}: {}\n", failure.line, failure.report);
    }
    assert!(reports.is_empty(), "udp/{file}.conv: {} runs failed", reports.len());
}

/// Past the capture of libtest, so that it is seen when all is well.
fn print_summary() {
    let total: usize = FILES.iter().map(|file| read(file).len()).sum();
    let shown = SHOWN.lock().unwrap().clone();
    let count = |outcome| shown.get(&outcome).copied().unwrap_or(0);
    let _ = writeln!(
        std::io::stderr(),
        "    {total} UDP conversations: {} runs passed on twincached (with 1 and with 4 workers), \
         {} on the oracle, {} differ there as listed; {} runs failed",
        count(Outcome::PassedOnOurs),
        count(Outcome::PassedOnOracle),
        count(Outcome::DiffersAsListed),
        count(Outcome::Failed),
    );
}

#[test]
fn no_file_of_conversations_is_forgotten_and_titles_are_unique() {
    let paths = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let found: BTreeSet<String> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "conv"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let listed: BTreeSet<String> = FILES.iter().map(|file| (*file).to_string()).collect();
    assert_eq!(found, listed, "udp/*.conv on the left, the list in udp.rs on the right");
    for file in FILES {
        let mut titles = BTreeSet::new();
        for conversation in read(file) {
            assert!(titles.insert(conversation.title.clone()), "{file}: {}", conversation.title);
        }
    }
}

#[test]
fn every_marked_divergence_is_listed_and_every_listed_one_is_marked() {
    let marked: BTreeSet<(String, String, String)> = FILES
        .iter()
        .flat_map(|file| read(file).into_iter().map(move |c| (format!("udp/{file}"), c)))
        .filter_map(|(file, c)| Some((c.oracle_differs?, file, c.title)))
        .collect();
    let listed: BTreeSet<_> =
        listed_divergences().into_iter().filter(|(_, file, _)| file.starts_with("udp/")).collect();
    for entry in marked.difference(&listed) {
        println!("marked, but not in divergences.md:\n## {}\n- {}: {}", entry.0, entry.1, entry.2);
    }
    for entry in listed.difference(&marked) {
        println!("in divergences.md, but not marked:\n## {}\n- {}: {}", entry.0, entry.1, entry.2);
    }
    assert!(marked == listed, "divergences.md and the marks do not agree");
}

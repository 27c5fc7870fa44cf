//! Which conversations run where: every `.conv` on twincached, cut in four ways, and on the oracle. One
//! test a file; the last of them to finish prints what the whole corpus showed.
//!
//! `divergences.md` and the `oracle: differs` marks must name the same conversations, and a marked
//! conversation must in fact differ, so that the list stays honest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::conversation::{Conversation, Notation, parse};
use crate::judge::{Outcome, judge};
use crate::run::{Writes, run};
use crate::server::Program;

/// Servers that one file keeps running at a time.
const AT_ONCE: usize = 4;

macro_rules! conversations {
    ($($room:ident { $($file:ident)* })*) => {
        const FILES: &[File] = &[
            $($(File { room: stringify!($room), stem: stringify!($file) },)*)*
        ];

        $(
            mod $room {
                $(
                    #[test]
                    fn $file() {
                        let (room, stem) = (stringify!($room), stringify!($file));
                        super::the_conversations_hold(super::File { room, stem });
                    }
                )*
            }
        )*
    };
}

conversations! {
    text {
        framing storage refused cas retrieval delete arithmetic touch expiry flush sizes
        stats stats_groups admin dumps watch meta meta_get meta_set
        meta_delete meta_count meta_stale meta_keys meta_refused meta_mixed
        meta_stats meta_watch
    }
    binary { retrieval storage cas delete arithmetic touch server framing sizes mixed }
}

const ROOMS: [&str; 2] = ["text", "binary"];

/// A file of conversations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct File {
    room: &'static str,
    stem: &'static str,
}

impl File {
    /// As divergences.md calls it.
    fn name(self) -> String {
        match self.room {
            "text" => self.stem.to_string(),
            room => format!("{room}/{}", self.stem),
        }
    }

    fn conversations(self) -> Vec<Conversation> {
        let path = directory().join(self.room).join(format!("{}.conv", self.stem));
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let notation = if self.room == "binary" { Notation::Frames } else { Notation::Lines };
        parse(&text, notation).unwrap_or_else(|wrong| panic!("{}.conv: {wrong}", self.name()))
    }
}

/// By room, and whether the bytes were sent as they are written.
static SHOWN: Mutex<BTreeMap<(&'static str, bool, Outcome), usize>> = Mutex::new(BTreeMap::new());
static FILES_DONE: AtomicUsize = AtomicUsize::new(0);

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("protocol-tests")
}

fn the_conversations_hold(file: File) {
    let conversations = file.conversations();
    let mut jobs = Vec::new();
    for conversation in &conversations {
        jobs.push((conversation, Program::Oracle, Writes::AsWritten));
        jobs.push((conversation, Program::Twincached, Writes::AsWritten));
        if !conversation.unsplit {
            for writes in [Writes::ByteByByte, Writes::Halves, Writes::Coalesced] {
                jobs.push((conversation, Program::Twincached, writes));
            }
        }
    }
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(&(conversation, program, writes)) =
                    jobs.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let (outcome, failure) =
                        judge(conversation, program, || run(conversation, program, writes));
                    let counted = (file.room, writes == Writes::AsWritten, outcome);
                    *SHOWN.lock().unwrap().entry(counted).or_default() += 1;
                    reports.lock().unwrap().extend(failure.map(|f| (program, f)));
                }
            });
        }
    });
    if FILES_DONE.fetch_add(1, Ordering::Relaxed) + 1 == FILES.len() {
        ROOMS.into_iter().for_each(print_summary);
    }
    let mut reports = reports.into_inner().unwrap();
    reports.sort_by_key(|(program, failure)| (*program == Program::Twincached, failure.line));
    for (_, failure) in &reports {
        let File { room, stem } = file;
        println!("protocol-tests/{room}/{stem}.conv:{}: {}\n", failure.line, failure.report);
    }
    assert!(reports.is_empty(), "{}.conv: {} runs failed", file.name(), reports.len());
}

/// Past the capture of libtest, so that it is seen when all is well.
fn print_summary(room: &'static str) {
    let files = FILES.iter().filter(|file| file.room == room);
    let total: usize = files.map(|file| file.conversations().len()).sum();
    let shown = SHOWN.lock().unwrap().clone();
    let count = |whole, outcome| shown.get(&(room, whole, outcome)).copied().unwrap_or(0);
    let _ = writeln!(
        std::io::stderr(),
        "\nprotocol-tests: {total} {room} conversations: {} passed on twincached ({} more runs byte \
         by byte, in halves and coalesced), {} on the oracle, {} differ there as listed; {} runs \
         failed",
        count(true, Outcome::PassedOnOurs),
        count(false, Outcome::PassedOnOurs),
        count(true, Outcome::PassedOnOracle),
        count(true, Outcome::DiffersAsListed),
        count(true, Outcome::Failed) + count(false, Outcome::Failed),
    );
}

#[test]
fn no_file_of_conversations_is_forgotten() {
    for room in ROOMS {
        let entries = fs::read_dir(directory().join(room)).unwrap();
        let found: BTreeSet<String> = entries
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        let listed = FILES.iter().filter(|file| file.room == room);
        let listed: BTreeSet<String> = listed.map(|file| file.stem.to_string()).collect();
        assert_eq!(found, listed, "{room}/*.conv on the left, the list in corpus.rs on the right");
    }
    assert!(FILES.iter().all(|file| ROOMS.contains(&file.room)), "a room has no summary");
}

#[test]
fn titles_are_unique_within_a_file() {
    for file in FILES {
        let mut titles = BTreeSet::new();
        for conversation in file.conversations() {
            let title = &conversation.title;
            assert!(titles.insert(title.clone()), "{}: {title}", file.name());
        }
    }
}

/// (reason, file, title) of each `- file: title` under a `## reason` of divergences.md.
pub(crate) fn listed_divergences() -> BTreeSet<(String, String, String)> {
    let text = fs::read_to_string(directory().join("divergences.md")).unwrap();
    let mut reason = String::new();
    let mut listed = BTreeSet::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            reason = heading.trim().to_string();
        } else if let Some((file, title)) = line.strip_prefix("- ").and_then(|l| l.split_once(": "))
        {
            let entry = (reason.clone(), file.to_string(), title.trim().to_string());
            assert!(listed.insert(entry.clone()), "listed twice: {entry:?}");
        }
    }
    listed
}

#[test]
fn every_marked_divergence_is_listed_and_every_listed_one_is_marked() {
    let marked: BTreeSet<(String, String, String)> = FILES
        .iter()
        .flat_map(|file| file.conversations().into_iter().map(move |c| (file.name(), c)))
        .filter_map(|(file, c)| Some((c.oracle_differs?, file, c.title)))
        .collect();
    let listed: BTreeSet<_> =
        listed_divergences().into_iter().filter(|(_, file, _)| !file.starts_with("udp/")).collect();
    for entry in marked.difference(&listed) {
        println!("marked, but not in divergences.md:\n## {}\n- {}: {}", entry.0, entry.1, entry.2);
    }
    for entry in listed.difference(&marked) {
        println!("in divergences.md, but not marked:\n## {}\n- {}: {}", entry.0, entry.1, entry.2);
    }
    assert!(marked == listed, "divergences.md and the marks do not agree");
}

//! Keeps the house in order: a room uses only floors below its own, and floors 0 to 2 never wait.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms by floor. `store`, `protocol` and `credentials` share a floor and never meet.
const FLOORS: &[&[&str]] = &[
    &["clock", "item", "limits", "readiness", "settings", "stats", "version", "watch"],
    &["store", "protocol", "credentials"],
    &["command", "replication"],
    &["admin", "net"],
    &["config", "app", "fuzzing"],
];

/// The floor whose rooms stand side by side and do not know each other.
const MEETING_FORBIDDEN: usize = 1;

/// Words that mean waiting, which floors 0 to 2 do not know.
const WAITING: &[&str] = &["tokio::", "async fn", ".await", "thread::sleep"];

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn source_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("src is readable") {
        let path = entry.expect("an entry is readable").path();
        if path.is_dir() {
            source_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The room a file belongs to: the first part of its path below `src`.
fn room_of(path: &Path, src: &Path) -> String {
    let inside = path.strip_prefix(src).expect("the file is below src");
    let first = inside.iter().next().expect("the path has a first part").to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// Lines of code with their comments cut off, so that prose may name any room.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split("//").next().unwrap_or_default())
}

/// Every `crate::room` named in `line`.
fn rooms_named(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

fn violations() -> Vec<String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    source_files(&src, &mut files);
    assert!(files.len() > 10, "the walk found the house");
    let mut violations = Vec::new();
    for path in files {
        let room = room_of(&path, &src);
        let Some(floor) = floor_of(&room) else {
            if !["lib", "main", "tidy"].contains(&room.as_str()) {
                violations.push(format!("{}: room `{room}` is on no floor", path.display()));
            }
            continue;
        };
        let text = fs::read_to_string(&path).expect("a source file is text");
        for (number, line) in code_lines(&text).enumerate() {
            let at = format!("{}:{}", path.display(), number + 1);
            for named in rooms_named(line) {
                let meets = floor == MEETING_FORBIDDEN && named != room;
                if floor_of(named).is_some_and(|other| other > floor || (other == floor && meets)) {
                    violations.push(format!("{at}: floor {floor} room `{room}` uses `{named}`"));
                }
            }
            if floor <= 2 {
                for word in WAITING.iter().filter(|word| line.contains(**word)) {
                    violations.push(format!("{at}: `{word}` on floor {floor}"));
                }
            }
        }
    }
    violations
}

#[test]
fn every_room_uses_only_floors_below_its_own_and_the_lower_floors_never_wait() {
    let violations = violations();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn memory_is_promised_to_the_kernel_in_one_line_and_nothing_else_is_unsafe() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "benches", "protocol-tests", "php-compat", "fuzz/fuzz_targets"] {
        source_files(&root.join(folder), &mut files);
    }
    // This file names what it looks for.
    files.retain(|path| !path.ends_with("src/tidy.rs"));
    let mut promises = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).expect("a source file is text");
        let found = code_lines(&text).filter(|line| line.contains("unsafe"));
        let inside = path.strip_prefix(root).expect("below the project").display().to_string();
        promises.extend(found.map(|line| format!("{inside}: {}", line.trim())));
    }
    let ring = "src/net/transfer/ring.rs";
    let reason = "the kernel is handed memory that is borrowed here";
    let expected = [
        format!("{ring}: #[expect(unsafe_code, reason = \"{reason}\")]"),
        format!("{ring}: unsafe {{ queue.push(&entry) }}.map_err(io::Error::other)?;"),
    ];
    assert_eq!(promises, expected);
}

#[test]
fn a_room_named_in_code_is_found_and_one_named_in_a_comment_is_not() {
    let text = "use crate::net::worker; // not crate::store\n";
    let named: Vec<_> = code_lines(text).flat_map(rooms_named).collect();
    assert_eq!(named, ["net"]);
}

//! What went wrong with memcached in the past, and which tests show that it does not happen here:
//! `history.md` is the list, and names no test that there is not.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Names of functions in every source file below `folder`.
fn functions(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(path).unwrap();
            let begun = text
                .lines()
                .filter_map(|line| line.trim().trim_start_matches("async ").strip_prefix("fn "));
            names.extend(begun.filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())));
        }
    }
}

#[test]
fn every_row_of_the_history_names_tests_that_exist() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut names = BTreeSet::new();
    for folder in ["src", "protocol-tests"] {
        functions(&root.join(folder), &mut names);
    }
    let history = fs::read_to_string(root.join("protocol-tests/history.md")).unwrap();
    let rows = history.lines().filter(|line| line.starts_with("| ")).skip(1);
    let mut tests = 0;
    for row in rows {
        let named: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test: {row}");
        for name in named {
            assert!(names.contains(name), "there is no test `{name}`: {row}");
            tests += 1;
        }
    }
    assert!(tests > 50, "the list was found");
}

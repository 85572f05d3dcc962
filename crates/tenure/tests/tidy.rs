//! What every file of the workspace has to keep to, checked by reading them.
//!
//! The lints (`cargo clippy`) enforce most of it with types at hand; this test needs no lint to be run, and
//! also sees what lints do not: that each behaviour of the sources has its test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Crates that must give the same result from the same inputs, always.
const DETERMINISTIC: [&str; 6] = ["raft", "wal", "store", "replica", "sim", "linear"];
/// What brings time, chance, order by address, or other threads into a program.
const BANNED: [&str; 11] = [
    "Instant::now",
    "SystemTime",
    "thread::spawn",
    "thread::sleep",
    "HashMap",
    "HashSet",
    " rand::",
    "getrandom",
    "std::fs",
    "std::net",
    "tokio",
];
/// The one file of those crates that is a real disk.
const REAL_DISK: &str = "crates/wal/src/real_disk.rs";
/// Above this a file has a seam.
const MAX_LINES: usize = 700;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace is there")
}

/// All files below `folder`, in order.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the workspace can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn rust_files_below(folder: &Path) -> Vec<(String, String)> {
    let root = root();
    files_below(folder)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| {
            let name = path.strip_prefix(&root).expect("below the root").display().to_string();
            (name, fs::read_to_string(path).expect("source is text"))
        })
        .collect()
}

/// The lines of code, without those of comments.
fn code_lines(source: &str) -> impl Iterator<Item = (usize, &str)> {
    source
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(at, line)| (at + 1, line))
}

#[test]
fn deterministic_crates_use_no_clock_no_chance_and_no_random_order() {
    let mut found = Vec::new();
    for name in DETERMINISTIC {
        for (file, source) in rust_files_below(&root().join("crates").join(name).join("src")) {
            if file == REAL_DISK {
                continue;
            }
            for (line, text) in code_lines(&source) {
                if let Some(banned) = BANNED.iter().find(|banned| text.contains(**banned)) {
                    found.push(format!("{file}:{line}: {banned}"));
                }
            }
        }
    }
    assert!(found.is_empty(), "not deterministic:\n{}", found.join("\n"));
}

#[test]
fn only_the_server_and_the_binary_read_a_clock() {
    for name in ["api"] {
        for (file, source) in rust_files_below(&root().join("crates").join(name).join("src")) {
            assert!(
                !source.contains("Instant::now") && !source.contains("SystemTime::now"),
                "{file} reads a clock"
            );
        }
    }
}

#[test]
fn every_crate_forbids_unsafe_code_and_wants_docs() {
    for entry in fs::read_dir(root().join("crates")).expect("there are crates") {
        let source = entry.expect("an entry can be read").path().join("src");
        let top = ["lib.rs", "main.rs"].map(|name| source.join(name)).into_iter().find(|path| path.exists());
        let top = top.unwrap_or_else(|| panic!("{} has no lib.rs or main.rs", source.display()));
        let text = fs::read_to_string(&top).expect("source is text");
        for attribute in ["#![forbid(unsafe_code)]", "#![warn(missing_docs)]"] {
            assert!(text.contains(attribute), "{} lacks {attribute}", top.display());
        }
    }
}

#[test]
fn no_file_has_outgrown_one_main_thing() {
    for (file, source) in rust_files_below(&root().join("crates")) {
        let lines = source.lines().count();
        assert!(lines <= MAX_LINES, "{file} has {lines} lines: find the seam");
    }
}

#[test]
fn every_source_file_says_first_what_it_is() {
    for (file, source) in rust_files_below(&root().join("crates")) {
        if file.ends_with("build.rs") || file.contains("/src/") {
            assert!(source.starts_with("//!"), "{file} does not begin with what it is");
        }
    }
}

/// An error that says its cause and also hands it on has it told twice by whoever prints the chain of causes. Ours say
/// it, because they are often turned into text; `r#source` is a field that `thiserror` does not hand on.
#[test]
fn an_error_says_its_cause_once() {
    let mut found = Vec::new();
    for (file, source) in rust_files_below(&root().join("crates")) {
        let lines: Vec<(usize, &str)> = code_lines(&source).map(|(at, line)| (at, line.trim())).collect();
        for (position, &(line, text)) in lines.iter().enumerate() {
            let hands_on =
                (text.starts_with("source: ") && text.ends_with("Error,")) || text.contains("(#[from]");
            let last_attribute =
                lines[..position].iter().rev().find(|(_, text)| text.starts_with("#[error("));
            let is_transparent = last_attribute.is_some_and(|(_, text)| text.contains("transparent"));
            if hands_on && last_attribute.is_some() && !is_transparent {
                found.push(format!("{file}:{line}: {text}"));
            }
        }
    }
    assert!(found.is_empty(), "causes that are told twice:\n{}", found.join("\n"));
}

/// The behaviours that this version promises, as the documents it follows number them.
const BEHAVIOURS: [(&str, std::ops::RangeInclusive<u32>); 10] = [
    ("m", 1..=9),
    ("q", 1..=5),
    ("f", 1..=2),
    ("t", 1..=3),
    ("e", 1..=11),
    ("r", 1..=10),
    ("p", 1..=3),
    ("l", 1..=1),
    ("l", 3..=4),
    ("c", 1..=5),
];

#[test]
fn every_promised_behaviour_has_a_test_named_for_it() {
    let mut named = BTreeSet::new();
    for (_, source) in rust_files_below(&root().join("crates")) {
        for (_, line) in code_lines(&source) {
            if let Some(name) = line.trim_start().strip_prefix("fn ") {
                named.extend(name.split('_').next().map(str::to_owned));
            }
        }
    }
    let wanted =
        BEHAVIOURS.iter().flat_map(|(letter, numbers)| numbers.clone().map(move |n| format!("{letter}{n}")));
    let missing: Vec<String> = wanted.filter(|name| !named.contains(name)).collect();
    assert!(missing.is_empty(), "no test is named for {}", missing.join(", "));
}

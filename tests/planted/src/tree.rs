//! The copy of the tree: made, planted with every fault, built once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fault::{Edit, Fault};

/// The variable that names the fault to be switched on.
pub const VARIABLE: &str = "TENURE_PLANTED";
/// The binary of the copy: under another name than the one that ships, since they share a target folder.
const BINARY: &str = "tenure-planted";

/// The module that each planted crate gets.
const SWITCH: &str = "//! Which of the planted faults is on.

use std::sync::OnceLock;

/// Whether the fault `name` is on in this process.
pub(crate) fn on(name: &str) -> bool {
    static PLANTED: OnceLock<Option<String>> = OnceLock::new();
    PLANTED.get_or_init(|| std::env::var(\"TENURE_PLANTED\").ok()).as_deref() == Some(name)
}
";

/// What the binary of the copy needs.
const DEPENDENCIES: &str = "[dependencies]
clap.workspace = true
mimalloc.workspace = true
tenure-sim.workspace = true
";

/// `tenure sim`, and nothing else.
const MAIN: &str = "
mod sim;
mod stdout;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(clap::Parser)]
enum Command {
    Sim(sim::SimArguments),
}

fn main() -> std::process::ExitCode {
    let Command::Sim(arguments) = clap::Parser::parse();
    sim::main(&arguments)
}
";

/// What is copied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The files as they are, but for those that git ignores.
    WorkingTree,
    /// What was committed last.
    Head,
}

/// Copies the tree below `root` into `target_dir`, plants the faults, builds it, and returns the binary.
pub fn build(root: &Path, target_dir: &Path, source: Source, faults: &[Fault]) -> Result<PathBuf, String> {
    let mut files = read_tree(root, source)?;
    plant(&mut files, faults)?;
    let tree = target_dir.join("planted").join("tree");
    write_tree(&tree, &files)?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Not `--locked`: what the copy needs less than the tree is taken out of its Cargo.lock.
    cargo.args(["build", "--release", "--offline", "--quiet", "-p", "tenure"]);
    // This program's own settings are not the tree's.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG") || name == "CARGO_MANIFEST_DIR" {
            cargo.env_remove(name);
        }
    }
    let status = cargo.current_dir(&tree).env("CARGO_TARGET_DIR", target_dir).status();
    match status {
        Ok(status) if status.success() => Ok(target_dir.join("release").join(BINARY)),
        Ok(status) => Err(format!("the planted tree in {} does not build: {status}", tree.display())),
        Err(error) => Err(format!("cargo: {error}")),
    }
}

fn git(root: &Path, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output();
    match output {
        Ok(output) if output.status.success() => Ok(output.stdout),
        Ok(output) => Err(format!("git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("git: {error}")),
    }
}

/// The files that the build needs, by their paths.
fn read_tree(root: &Path, source: Source) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let list: &[&str] = match source {
        Source::WorkingTree => &[
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "--deduplicate",
            "Cargo.toml",
            "Cargo.lock",
            "crates",
        ],
        Source::Head => {
            &["ls-tree", "-r", "-z", "--name-only", "HEAD", "Cargo.toml", "Cargo.lock", "crates/"]
        }
    };
    let names = String::from_utf8(git(root, list)?).map_err(|error| error.to_string())?;
    let mut files = BTreeMap::new();
    for name in names.split_terminator('\0') {
        let bytes = match source {
            // One that was removed since is still in git's list.
            Source::WorkingTree if !root.join(name).exists() => continue,
            Source::WorkingTree => fs::read(root.join(name)).map_err(|error| format!("{name}: {error}"))?,
            Source::Head => git(root, &["show", &format!("HEAD:{name}")])?,
        };
        files.insert(name.to_owned(), bytes);
    }
    Ok(files)
}

fn plant(files: &mut BTreeMap<String, Vec<u8>>, faults: &[Fault]) -> Result<(), String> {
    let mut by_file: BTreeMap<&str, Vec<(&str, &Edit)>> = BTreeMap::new();
    for fault in faults {
        for edit in &fault.edits {
            by_file.entry(&edit.file).or_default().push((&fault.name, edit));
        }
    }
    let mut crates = BTreeSet::new();
    for (file, edits) in by_file {
        let bytes = files.get_mut(file).ok_or_else(|| format!("{}: there is no {file}", edits[0].0))?;
        let text = String::from_utf8(bytes.clone()).map_err(|_| format!("{file} is no text"))?;
        *bytes = apply(file, &text, &edits)?.into_bytes();
        let (name, _) = file.split_once("/src/").ok_or_else(|| format!("{file} belongs to no crate"))?;
        crates.insert(name.to_owned());
    }
    for name in crates {
        files.insert(format!("{name}/src/planted.rs"), SWITCH.into());
        let top =
            files.get_mut(&format!("{name}/src/lib.rs")).ok_or_else(|| format!("{name} is no library"))?;
        top.extend_from_slice(b"\nmod planted;\n");
    }
    keep_simulator_only(files)
}

/// Of the binary only the simulator is wanted: the server, and all that only it needs, is not built.
fn keep_simulator_only(files: &mut BTreeMap<String, Vec<u8>>) -> Result<(), String> {
    let manifest = files.get_mut("crates/tenure/Cargo.toml").ok_or("there is no binary")?;
    let text = String::from_utf8_lossy(manifest);
    let (head, _) = text.split_once("[dependencies]").ok_or("the binary needs nothing")?;
    let head = head.replacen("[package]", "[package]\nautobins = false\nautotests = false", 1);
    *manifest =
        format!("{head}{DEPENDENCIES}\n[[bin]]\nname = \"{BINARY}\"\npath = \"src/main.rs\"\n").into();
    files.insert("crates/tenure/src/main.rs".to_owned(), MAIN.into());
    Ok(())
}

/// Makes all edits of a file. Each looks for its text in the file as it was, so that no fault depends on
/// another; they must not touch.
fn apply(file: &str, text: &str, edits: &[(&str, &Edit)]) -> Result<String, String> {
    let mut places = Vec::new();
    for &(name, edit) in edits {
        let mut found = text.match_indices(&edit.find).map(|(at, _)| at);
        match (found.next(), found.count()) {
            (Some(at), 0) => places.push((at, name, edit)),
            (None, _) => {
                return Err(format!("{name} does not apply: {file} does not contain\n{}", edit.find));
            }
            (Some(_), more) => {
                return Err(format!(
                    "{name} does not apply: {file} contains {} times\n{}",
                    more + 1,
                    edit.find
                ));
            }
        }
    }
    places.sort_by_key(|&(at, ..)| at);
    let mut planted = String::with_capacity(2 * text.len());
    let (mut end, mut before) = (0, "");
    for (at, name, edit) in places {
        if at < end {
            return Err(format!("{before} and {name} change the same text of {file}"));
        }
        planted.push_str(&text[end..at]);
        planted.push_str(&edit.put);
        (end, before) = (at + edit.find.len(), name);
    }
    planted.push_str(&text[end..]);
    Ok(planted)
}

/// Files that have not changed are left alone, so that cargo builds only what has.
fn write_tree(tree: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
    let say = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    remove_others(tree, tree, files).map_err(|error| say(tree, error))?;
    for (name, bytes) in files {
        let path = tree.join(name);
        if fs::read(&path).is_ok_and(|found| found == *bytes) {
            continue;
        }
        fs::create_dir_all(path.parent().unwrap_or(tree)).map_err(|error| say(&path, error))?;
        fs::write(&path, bytes).map_err(|error| say(&path, error))?;
    }
    Ok(())
}

fn remove_others(tree: &Path, folder: &Path, files: &BTreeMap<String, Vec<u8>>) -> std::io::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.strip_prefix(tree).unwrap_or(&path).to_string_lossy().into_owned();
        if path.is_dir() {
            remove_others(tree, &path, files)?;
        } else if !files.contains_key(&name) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(find: &str, put: &str) -> Edit {
        Edit { file: "f".into(), find: find.into(), put: put.into() }
    }

    #[test]
    fn edits_do_not_see_each_other() {
        let (first, second) = (edit("b", "c"), edit("c", "b"));
        assert_eq!(apply("f", "abcd", &[("1", &second), ("2", &first)]), Ok("acbd".to_owned()));
    }

    #[test]
    fn an_edit_that_has_no_place_of_its_own_is_refused() {
        let refused = |text: &str, edits: &[(&str, &Edit)]| apply("f", text, edits).unwrap_err();
        assert!(refused("abc", &[("gone", &edit("x", ""))]).starts_with("gone does not apply"));
        assert!(refused("aba", &[("twice", &edit("a", ""))]).contains("2 times"));
        let (one, other) = (edit("ab", ""), edit("bc", ""));
        assert!(refused("abc", &[("one", &one), ("other", &other)]).starts_with("one and other"));
    }
}

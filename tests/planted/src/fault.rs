//! The faults as they stand in `faults/*.fault`: what is wrong, and the edits that plant it.
//!
//! ```text
//! fault E3
//! what  a server that steps down within its term forgets whom it voted for
//! edit  crates/raft/src/node.rs
//! find
//!         if term > self.current_term() {
//! put
//!         if term > self.current_term() || $on {
//! end
//! ```
//!
//! A fault has one edit or more. `$on` stands for the switch of the fault: with it off, the text that is put
//! must do what the text that is found did. Lines between the faults that begin with `#` are comments.

use std::path::Path;

/// A known fault, and how to plant it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The chapter it stands in: the name of its file.
    pub chapter: String,
    /// What it is called: the number of the catalogue where it has one.
    pub name: String,
    /// What is wrong, in a line.
    pub what: String,
    /// Where.
    pub edits: Vec<Edit>,
}

/// A piece of source and what takes its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edit {
    /// The file, from the root of the repository.
    pub file: String,
    /// What stands there now, exactly once.
    pub find: String,
    /// What stands there when the fault is planted.
    pub put: String,
}

/// Reads the faults of every chapter, in the order of the names of the files.
pub fn read_all(folder: &Path) -> Result<Vec<Fault>, String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let mut faults: Vec<Fault> = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "fault")) {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let chapter = path.file_stem().unwrap_or_default().to_string_lossy();
        for fault in parse(&chapter, &text).map_err(|why| format!("{}: {why}", path.display()))? {
            if faults.iter().any(|other| other.name == fault.name) {
                return Err(format!("there are two faults {}", fault.name));
            }
            faults.push(fault);
        }
    }
    Ok(faults)
}

fn parse(chapter: &str, text: &str) -> Result<Vec<Fault>, String> {
    let mut faults: Vec<Fault> = Vec::new();
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim().to_owned();
        let unexpected = || format!("line {number}: {line:?} stands where it cannot");
        match word {
            "" | "#" => {}
            "fault" => faults.push(Fault {
                chapter: chapter.to_owned(),
                name: rest,
                what: String::new(),
                edits: Vec::new(),
            }),
            "what" => faults.last_mut().ok_or_else(unexpected)?.what = rest,
            "edit" => {
                let fault = faults.last_mut().ok_or_else(unexpected)?;
                let find = block(&mut lines, "find", "put").ok_or_else(unexpected)?;
                let put = block_until(&mut lines, "end").ok_or_else(unexpected)?;
                fault.edits.push(edit(&fault.name, rest, find, &put)?);
            }
            _ => return Err(unexpected()),
        }
    }
    match faults.iter().find(|fault| fault.what.is_empty() || fault.edits.is_empty()) {
        Some(fault) => Err(format!("{} does not say what it is, or has no edit", fault.name)),
        None => Ok(faults),
    }
}

fn edit(name: &str, file: String, find: String, put: &str) -> Result<Edit, String> {
    if find.trim().is_empty() || !put.contains("$on") {
        return Err(format!("{name}: an edit finds something, and puts something behind $on"));
    }
    Ok(Edit { file, find, put: put.replace("$on", &format!("crate::planted::on(\"{name}\")")) })
}

fn block<'a>(lines: &mut impl Iterator<Item = (&'a str, u32)>, from: &str, to: &str) -> Option<String> {
    let (first, _) = lines.next()?;
    if first == from { block_until(lines, to) } else { None }
}

fn block_until<'a>(lines: &mut impl Iterator<Item = (&'a str, u32)>, end: &str) -> Option<String> {
    let mut block: Vec<&str> = Vec::new();
    loop {
        match lines.next()? {
            (line, _) if line == end => return Some(block.join("\n")),
            (line, _) => block.push(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# why\nfault A1\nwhat  it is wrong\nedit  a.rs\nfind\none\n  two\nput\nif $on { one }\nend\n";

    #[test]
    fn a_fault_is_read() {
        let faults = parse("chapter", TEXT).unwrap();
        assert_eq!(faults.len(), 1);
        let Fault { name, what, edits, .. } = &faults[0];
        assert_eq!((name.as_str(), what.as_str()), ("A1", "it is wrong"));
        assert_eq!(edits[0].find, "one\n  two");
        assert_eq!(edits[0].put, "if crate::planted::on(\"A1\") { one }");
    }

    #[test]
    fn what_is_no_fault_is_refused() {
        for text in [
            TEXT.replace("$on", "true"),
            TEXT.replace("end\n", ""),
            TEXT.replace("put\n", ""),
            TEXT.replace("what  it is wrong\n", ""),
            TEXT.replace("fault A1\n", ""),
            TEXT.replace("edit  a.rs\n", ""),
        ] {
            assert!(parse("chapter", &text).is_err(), "{text}");
        }
    }
}

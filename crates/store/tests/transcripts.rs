//! Runs the transcripts in `tests/scripts`. To record them anew: `UPDATE_GOLDENFILES=1 cargo test -p tenure-store`.
//!
//! Operations are written as in `tests/etcd/record/op.go`, a transaction in quotes as one argument. Beside them:
//!
//! - `changes from=N`: what a watch from there would tell;
//! - `snapshot NAME`, and `on=NAME` with a read: the state at that moment;
//! - `member`, `members`, `state`: the members, and revision, compact revision, index, number of keys and size;
//! - `replica`: a second store is given all commands so far, once through a checkpoint in the middle, and must
//!   come out equal.
//!
//! Every command is followed by a check of the invariants.

mod common;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;

use common::{Machine, Operation, parse, render};
use goldenscript::{Argument, Command as Line, Context};
use tenure_store::{Command, Limits, Snapshot, Store};

struct Script {
    machine: Machine,
    commands: Vec<Command>,
    snapshots: BTreeMap<String, Snapshot>,
}

impl Script {
    fn new() -> Self {
        Self { machine: Machine::new(Limits::default()), commands: Vec::new(), snapshots: BTreeMap::new() }
    }

    fn operate(&mut self, line: &Line) -> String {
        let operation = parse::operation(&words(line));
        let before = self.machine.store.applied_index();
        let answer = self.machine.run(&operation);
        if let Operation::Command(command) = operation
            && self.machine.store.applied_index() > before
        {
            self.commands.push(command);
        }
        answer
    }

    fn read_snapshot(&self, line: &Line, name: &str) -> Result<String, Box<dyn Error>> {
        let snapshot = self.snapshots.get(name).ok_or("no such snapshot")?;
        match parse::operation(&words(line).replace(&format!(" on={name}"), "")) {
            Operation::Range(request) => Ok(snapshot
                .range(&request)
                .map_or_else(render::rejection, |response| render::range(&response))),
            Operation::HashKv { revision } => Ok(snapshot
                .hash_kv(revision)
                .map_or_else(render::rejection, |hash| render::hash_kv(snapshot.revision(), &hash))),
            Operation::Command(_) | Operation::Restart => Err("a snapshot can only be read".into()),
        }
    }

    fn changes(&self, from: i64) -> String {
        match self.machine.store.snapshot().changes(from) {
            Ok(events) => lines(events.map(|event| render::event(&event))),
            Err(rejection) => render::rejection(rejection),
        }
    }

    fn state(&self) -> String {
        let store = &self.machine.store;
        let mut text = format!("revision={} compact_revision={}", store.revision(), store.compact_revision());
        write!(text, " applied_index={} keys={}", store.applied_index(), store.key_count())
            .expect("a string takes all");
        write!(text, " size={} live={}", store.size_bytes(), store.live_bytes()).expect("a string takes all");
        text
    }

    /// Applies the commands to another store, with a checkpoint after the first half.
    fn replica(&self) -> String {
        let mut replica = Store::new();
        for (at, command) in self.commands.iter().enumerate() {
            if at == self.commands.len() / 2 {
                replica = common::restore(&common::checkpoint(&replica)).expect("a checkpoint can be read");
            }
            let _ = replica.apply(replica.applied_index() + 1, command);
        }
        assert_eq!(replica.state_hash(), self.machine.store.state_hash(), "equal entries make equal states");
        assert_eq!(
            self.state(),
            Self { machine: Machine { store: replica, ..self.machine }, ..Self::new() }.state()
        );
        "equal".to_owned()
    }
}

fn lines(texts: impl Iterator<Item = String>) -> String {
    texts.fold(String::new(), |all, text| all + &text + "\n")
}

fn words(line: &Line) -> String {
    let arguments = line.args.iter().map(|argument| match argument {
        Argument::KeyValue(key, value) => format!(" {key}={value}"),
        Argument::Positional(value) => format!(" {value}"),
        // Not our enumeration; it may grow.
        other => panic!("{other} is no argument of a transcript"),
    });
    arguments.fold(line.name.clone(), |all, argument| all + &argument)
}

impl goldenscript::Runner for Script {
    type Command = Line;

    fn run(&mut self, line: &Line, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut arguments = line.consume_args();
        if let Some(name) = arguments.take_key("on") {
            return self.read_snapshot(line, name);
        }
        Ok(match line.name.as_str() {
            "changes" => self.changes(arguments.take_key("from").ok_or("from where?")?.parse()?),
            "snapshot" => {
                let name = arguments.next_pos().ok_or("a snapshot has a name")?.to_owned();
                self.snapshots.insert(name, self.machine.store.snapshot());
                String::new()
            }
            "members" => lines(self.machine.store.members().map(|member| format!("{member:?}"))),
            "state" => self.state(),
            "replica" => self.replica(),
            _ => self.operate(line),
        })
    }
}

#[test]
fn transcripts() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut count = 0;
    for entry in directory.read_dir().expect("the transcripts are checked in") {
        let path = entry.expect("a directory entry").path();
        let result = std::panic::catch_unwind(|| goldenscript::run(&mut Script::new(), &path));
        match result {
            Ok(outcome) => outcome.unwrap_or_else(|error| panic!("{}: {error}", path.display())),
            Err(panic) => {
                eprintln!("in {}", path.display());
                std::panic::resume_unwind(panic);
            }
        }
        count += 1;
    }
    assert!(count >= 12, "only {count} transcripts were run");
}

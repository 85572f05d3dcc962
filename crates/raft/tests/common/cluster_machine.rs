//! The replicated machine: a map of strings that understands `put KEY VALUE`, `get KEY` and
//! `append KEY VALUE`, and answers with the value that the key then has.

use std::collections::BTreeMap;

use bytes::Bytes;
use tenure_raft::{Entry, EntryId, Index, Payload};

/// A machine: its state is a function of the commands that it was given.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Machine {
    values: BTreeMap<String, String>,
    /// The last entry it was given.
    pub(crate) applied: Index,
}

impl Machine {
    /// Executes one entry of the log; the answer is for whoever proposed it.
    pub(crate) fn apply(&mut self, entry: &Entry) -> String {
        assert_eq!(entry.id.index, self.applied.next(), "entries are executed one by one, in order");
        self.applied = entry.id.index;
        match &entry.payload {
            Payload::Command(command) => self.execute(&String::from_utf8_lossy(command)),
            Payload::Empty | Payload::Configuration(_) => String::new(),
        }
    }

    fn execute(&mut self, command: &str) -> String {
        let mut words = command.splitn(3, ' ');
        let (verb, key, value) = (words.next(), words.next().unwrap_or(""), words.next().unwrap_or(""));
        match verb {
            Some("put") => {
                self.values.insert(key.to_owned(), value.to_owned());
            }
            Some("append") => self.values.entry(key.to_owned()).or_default().push_str(value),
            _ => {}
        }
        self.get(key)
    }

    /// The value of a key, empty when it has none.
    pub(crate) fn get(&self, key: &str) -> String {
        self.values.get(key).cloned().unwrap_or_default()
    }

    /// The state as bytes.
    pub(crate) fn snapshot(&self) -> Bytes {
        let lines: Vec<String> = self.values.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
        Bytes::from(lines.concat())
    }

    /// The state from bytes, as it was when `last_included` had been executed.
    pub(crate) fn restore(data: &[u8], last_included: EntryId) -> Machine {
        let text = String::from_utf8_lossy(data);
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        let values = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Machine { values, applied: last_included.index }
    }
}

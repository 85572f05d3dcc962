//! Plays the scripts in `tests/scripts`, each of them one story of a log and its disk.
//!
//! After every command the log is compared with a list in memory, and the power fails on a copy of the disk
//! in several ways, each of which must leave a state that the log has been in since it was last synced.
//! `UPDATE_GOLDENFILES=1 cargo test -p tenure-wal --test transcripts` writes the outputs anew.

mod common;

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use common::{Contents, Model, Pair, SMALL, after_power_loss, hard_state, record};
use goldenscript::{Argument, ArgumentConsumer, Command, Context, Runner};
use tenure_wal::{
    Crash, Disk, Fault, FaultKind, MemoryDisk, Operation, Options, Position, Record, Recovered, Wal, WalError,
};

type Output = Result<String, Box<dyn Error>>;

struct Story {
    disk: MemoryDisk,
    options: Options,
    pair: Option<Pair<MemoryDisk>>,
    model: Model,
    /// Only the process has died since: the page cache still shows everything.
    nothing_is_lost: bool,
    /// Somebody has changed the disk behind the log's back, so that it may be refused.
    tampered: bool,
}

impl Story {
    fn new() -> Self {
        Self {
            disk: MemoryDisk::new(),
            options: SMALL,
            pair: None,
            model: Model::default(),
            nothing_is_lost: false,
            tampered: false,
        }
    }

    fn pair(&mut self) -> Result<&mut Pair<MemoryDisk>, Box<dyn Error>> {
        self.pair.as_mut().ok_or_else(|| "the log is not open".into())
    }

    /// Whether the log is open and neither poisoned nor tampered with.
    fn is_healthy(&self) -> bool {
        let is_poisoned = |pair: &Pair<_>| matches!(pair.wal.read(0, 0, 0), Err(WalError::Poisoned));
        !self.tampered && self.pair.as_ref().is_some_and(|pair| !is_poisoned(pair))
    }

    fn open(&mut self, args: &mut ArgumentConsumer<'_>) -> Output {
        if let Some(bytes) = args.take_key("segment_bytes") {
            self.options.segment_bytes = bytes.parse()?;
        }
        let (wal, recovered) = Wal::open(self.disk.clone(), self.options)?;
        let text = describe(&recovered);
        if self.tampered {
            // What was found is what holds from now on.
            let contents = Contents::from(recovered);
            self.model = Model { states: vec![contents] };
            self.tampered = false;
        } else {
            if std::mem::take(&mut self.nothing_is_lost) {
                self.model.sync();
            }
            self.model.recovered(recovered);
        }
        self.pair = Some(Pair { wal, model: self.model.clone() });
        Ok(text)
    }

    fn append(&mut self, args: &mut ArgumentConsumer<'_>) -> Output {
        let vote = args.take_key("vote").unwrap_or("0").parse()?;
        let new = args.take_key("term").map(str::parse).transpose()?.map(|term| hard_state(term, vote));
        let bytes: Option<usize> = args.take_key("bytes").map(str::parse).transpose()?;
        let entries = args.map(|argument| parse_entry(argument, bytes)).collect::<Result<Vec<_>, _>>()?;
        let before = self.pair()?.wal.appended_bytes();
        self.change(|model| model.append(new, &entries), |wal| wal.append(new, &entries))?;
        Ok(format!("{} bytes", self.pair()?.wal.appended_bytes() - before))
    }

    /// Changes both. If the log panics, or refuses without any effect, the model stays as it is.
    fn change(
        &mut self,
        change_model: impl FnOnce(&mut Model),
        change_wal: impl FnOnce(&mut Wal<MemoryDisk>) -> Result<(), WalError>,
    ) -> Result<(), Box<dyn Error>> {
        let pair = self.pair()?;
        let mut model = pair.model.clone();
        change_model(&mut model);
        let result = change_wal(&mut pair.wal);
        let has_no_effect = matches!(
            result,
            Err(WalError::NoSpace { .. } | WalError::BatchTooLarge { .. } | WalError::Poisoned)
        );
        if !has_no_effect {
            pair.model = model;
        }
        Ok(result?)
    }

    fn sync(&mut self) -> Output {
        let pair = self.pair()?;
        pair.wal.sync()?;
        pair.model.sync();
        Ok(format!("{} of {} bytes are durable", pair.wal.synced_bytes(), pair.wal.appended_bytes()))
    }

    fn read(&mut self, args: &mut ArgumentConsumer<'_>) -> Output {
        let max_bytes = args.take_key("max_bytes").map_or(Ok(usize::MAX), str::parse)?;
        let range = args.next_pos().ok_or("read FIRST..LAST")?;
        let (first, last) = range.split_once("..").ok_or("read FIRST..LAST")?;
        let entries = self.pair()?.wal.read(first.parse()?, last.parse()?, max_bytes)?;
        Ok(describe_entries(&entries))
    }

    fn compact(&mut self, args: &mut ArgumentConsumer<'_>) -> Output {
        let through = parse_position(args.next_pos().ok_or("compact INDEX@TERM")?)?;
        self.change(|model| model.compact(through), |wal| wal.compact(through))?;
        Ok(String::new())
    }

    fn reset(&mut self, args: &mut ArgumentConsumer<'_>) -> Output {
        let start = parse_position(args.next_pos().ok_or("reset INDEX@TERM")?)?;
        self.change(|model| model.reset(start), |wal| wal.reset(start))?;
        self.pair()?.model.sync();
        Ok(String::new())
    }

    fn close(&mut self) -> Output {
        let pair = self.pair.take().ok_or("the log is not open")?;
        self.model = pair.model;
        pair.wal.close()?;
        self.model.sync();
        Ok(String::new())
    }

    /// `crash process`, or `crash power keep=0,1,9`: the answers to the disk's questions in their order,
    /// the last of which holds for all further ones (see `MemoryDisk::crash_choosing`).
    fn crash(&mut self, args: &mut ArgumentConsumer<'_>) -> Output {
        let crash = match args.next_pos() {
            Some("process") => Crash::Process,
            Some("power") => Crash::Power,
            other => return Err(format!("crash process or power, not {other:?}").into()),
        };
        let answers = args
            .take_key("keep")
            .unwrap_or("0")
            .split(',')
            .map(str::parse)
            .collect::<Result<Vec<u64>, _>>()?;
        let was_healthy = self.is_healthy();
        let mut questions = 0;
        self.disk.crash_choosing(crash, &mut |bound| {
            let answer = answers.get(questions).or(answers.last()).copied().unwrap_or(0);
            questions += 1;
            answer.min(bound - 1)
        });
        self.nothing_is_lost = crash == Crash::Process && (was_healthy || self.nothing_is_lost);
        if let Some(pair) = self.pair.take() {
            self.model = pair.model;
        }
        Ok(format!("{questions} questions"))
    }

    fn flip(&mut self, args: &mut ArgumentConsumer<'_>) -> Output {
        let file = args.next_pos().ok_or("flip FILE OFFSET")?;
        let offset = args.next_pos().ok_or("flip FILE OFFSET")?.parse()?;
        self.disk.flip(file, offset, 0x01);
        self.tampered = true;
        Ok(String::new())
    }

    fn remove(&mut self, args: &mut ArgumentConsumer<'_>) -> Output {
        self.disk.remove(args.next_pos().ok_or("remove FILE")?)?;
        self.tampered = true;
        Ok(String::new())
    }

    fn fault(&mut self, args: &mut ArgumentConsumer<'_>) -> Output {
        let operation = match args.next_pos() {
            Some("write") => Operation::Write,
            Some("sync") => Operation::Sync,
            Some("allocate") => Operation::Allocate,
            other => return Err(format!("fault write, sync or allocate, not {other:?}").into()),
        };
        let kind = match args.take_key("with") {
            Some("ENOSPC") => FaultKind::NoSpace,
            Some("EIO") => FaultKind::InputOutput,
            other => return Err(format!("with EIO or ENOSPC, not {other:?}").into()),
        };
        self.disk.inject(Fault { operation, after: 0, kind });
        Ok(String::new())
    }

    fn files(&self) -> Output {
        let mut text = String::new();
        for name in self.disk.list()? {
            let bytes = self.disk.content(&name).map_or(0, |content| content.len());
            writeln!(text, "{name} {bytes} bytes")?;
        }
        Ok(text)
    }

    fn status(&mut self) -> Output {
        let wal = &self.pair()?.wal;
        let last = wal.last();
        let hard_state = describe_hard_state(wal.hard_state());
        Ok(format!("{hard_state} first {} last {}@{}", wal.first_index(), last.index, last.term))
    }
}

impl Runner for Story {
    type Command = Command;

    fn run(&mut self, command: &Command, _context: &Context) -> Output {
        let mut args = command.consume_args();
        let output = match command.name.as_str() {
            "open" => self.open(&mut args),
            "append" => return self.append(&mut args),
            "sync" => self.sync(),
            "read" => self.read(&mut args),
            "compact" => self.compact(&mut args),
            "reset" => self.reset(&mut args),
            "close" => self.close(),
            "crash" => self.crash(&mut args),
            "flip" => self.flip(&mut args),
            "remove" => self.remove(&mut args),
            "fault" => self.fault(&mut args),
            "files" => self.files(),
            "status" => self.status(),
            name => return Err(format!("there is no command {name}").into()),
        }?;
        args.reject_next()?;
        Ok(output)
    }

    /// The invariants, after every command.
    fn end_command(&mut self, _command: &Command, _context: &Context) -> Output {
        let model = self.pair.as_ref().map_or(&self.model, |pair| &pair.model);
        if !self.tampered {
            for seed in 0..8 {
                // Faults that are yet to come are for the log in the story.
                let disk = self.disk.fork();
                disk.clear_faults();
                let found = after_power_loss(&disk, self.options, seed)?;
                assert!(model.states.contains(&found), "{found:?} is none of {:#?}", model.states);
            }
        }
        if let Some(pair) = self.pair.as_ref().filter(|_| self.is_healthy()) {
            pair.check();
        }
        Ok(String::new())
    }
}

/// `7@2` or `7@2=data`.
fn parse_entry(argument: &Argument, bytes: Option<usize>) -> Result<Record, Box<dyn Error>> {
    let (position, data) = match argument {
        Argument::Positional(position) => (position, String::new()),
        Argument::KeyValue(position, data) => (position, data.clone()),
        other => return Err(format!("{other:?} is no entry").into()),
    };
    let Position { index, term } = parse_position(position)?;
    let data = bytes.map_or(data.clone(), |bytes| format!("{data:.<bytes$}"));
    Ok(record(index, term, data))
}

fn parse_position(text: &str) -> Result<Position, Box<dyn Error>> {
    let (index, term) = text.split_once('@').ok_or("INDEX@TERM")?;
    Ok(Position { index: index.parse()?, term: term.parse()? })
}

fn describe(recovered: &Recovered) -> String {
    let Recovered { hard_state, start, entries, torn_tail } = recovered;
    let mut text = describe_hard_state(*hard_state);
    let entries = describe_entries(entries);
    write!(text, " after {}@{} [{entries}]", start.index, start.term).expect("a string takes text");
    if let Some(torn) = torn_tail {
        write!(text, "\ncut {} torn bytes at {} of {}", torn.bytes_cut, torn.offset, torn.segment.display())
            .expect("a string takes text");
    }
    text
}

fn describe_hard_state(hard_state: Option<tenure_wal::HardState>) -> String {
    match hard_state {
        None => "no term".to_owned(),
        Some(state) => match state.voted_for {
            None => format!("term {}", state.current_term),
            Some(vote) => format!("term {} vote {vote}", state.current_term),
        },
    }
}

fn describe_entries(entries: &[Record]) -> String {
    let describe = |entry: &Record| {
        let data = String::from_utf8_lossy(&entry.data).trim_end_matches('.').to_owned();
        let equals = if data.is_empty() { "" } else { "=" };
        format!("{}@{}{equals}{data}", entry.index, entry.term)
    };
    entries.iter().map(describe).collect::<Vec<_>>().join(" ")
}

fn play(script: &str) {
    let path = Path::new("tests/scripts").join(script);
    goldenscript::run(&mut Story::new(), path).unwrap_or_else(|error| panic!("{script}: {error}"));
}

/// One test a script, and none forgotten.
macro_rules! scripts {
    ($($script:ident)*) => {
        $(#[test] fn $script() { play(stringify!($script)); })*

        #[test]
        #[expect(clippy::disallowed_methods, reason = "it looks at the scripts, which are files")]
        fn every_script_is_played() {
            let entries = std::fs::read_dir("tests/scripts").expect("there are scripts");
            let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
            names.sort();
            let mut played = [$(stringify!($script)),*];
            played.sort_unstable();
            assert_eq!(names, played);
        }
    };
}

scripts! {
    a_batch_is_all_or_nothing
    a_compacted_log_starts_where_it_was_compacted
    a_conflicting_append_replaces_what_follows
    a_crashed_process_leaves_nothing_unsynced_behind
    a_failed_sync_is_final
    a_full_disk_stops_only_the_next_segment
    a_log_begins_empty
    a_missing_segment_is_noticed
    a_snapshot_replaces_the_log
    a_torn_tail_is_cut
    damage_below_the_synced_offset_is_refused
    old_bytes_of_a_recycled_segment_stay_dead
    the_vote_survives_the_compaction_of_its_segment
}

//! A checkpoint of many parts is as good as one that is written whole, wherever it was cut, and whatever was deleted
//! and compacted in between; and parts that do not belong together are refused.

mod common;

use common::arbitrary::{command, spoiled_command};
use common::{assert_notices_every_flipped_bit, checkpoint, restore};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tenure_store::checkpoint::{CheckpointError, Reader, Verifier, Writer};
use tenure_store::{Command, Store};

/// A part as it would lie in a file.
#[derive(Debug, Clone)]
struct Part {
    revision: i64,
    applied_index: u64,
    bytes: Vec<u8>,
}

/// A store, every command that it was given, and the parts of its checkpoint.
struct Machine {
    store: Store,
    commands: Vec<Command>,
    parts: Vec<Part>,
}

impl Machine {
    fn new() -> Self {
        Self { store: Store::new(), commands: Vec::new(), parts: Vec::new() }
    }

    fn apply(&mut self, command: Command) {
        let _ = self.store.apply(self.store.applied_index() + 1, &command);
        self.commands.push(command);
    }

    fn run_all(&mut self, lines: &[&str]) {
        for line in lines {
            self.run(line);
        }
    }

    fn run(&mut self, line: &str) {
        let common::Operation::Command(command) = common::parse::operation(line) else { panic!("{line}") };
        let applied = self.store.apply(self.store.applied_index() + 1, &command);
        assert!(applied.result.is_ok(), "{line}");
        self.commands.push(command);
    }

    /// Writes what lies above the first `kept` parts in the place of all behind them. `None` if that cannot be.
    fn write_part(&mut self, kept: usize) -> Option<()> {
        let snapshot = self.store.snapshot();
        let since = kept.checked_sub(1).map_or(0, |last| self.parts[last].revision);
        let mut verifier = Verifier::new(snapshot.clone(), since);
        let writer = match kept.checked_sub(1).map(|last| &self.parts[last]) {
            None => Writer::new(snapshot),
            Some(last) if last.applied_index == snapshot.applied_index() => return None,
            Some(last) if !snapshot.can_build_on(last.revision) => return None,
            Some(last) => {
                let (since, about) = (last.revision, snapshot.part_bytes(last.revision));
                let bytes: Vec<u8> = Writer::part(snapshot.clone(), since).flatten().collect();
                assert!(about <= 2 * bytes.len() as u64, "{about} is about {}", bytes.len());
                Writer::part(snapshot, since)
            }
        };
        let part = Part {
            revision: self.store.revision(),
            applied_index: self.store.applied_index(),
            bytes: writer
                .inspect(|block| verifier.push(block).expect("what is written can be read"))
                .flatten()
                .collect(),
        };
        verifier.finish().expect("it is whole");
        self.parts.truncate(kept);
        self.parts.push(part);
        Some(())
    }

    fn read(&self) -> Store {
        let bytes: Vec<&[u8]> = self.parts.iter().map(|part| &part.bytes[..]).collect();
        restore(&bytes.concat()).expect("parts that follow each other")
    }

    /// Takes over what it lacks of another member's checkpoint, and keeps it behind its own parts.
    fn receive_from(&mut self, other: &Machine) {
        let Some(last) = other.parts.last() else { return };
        if last.applied_index <= self.store.applied_index() {
            return;
        }
        let own = self.parts.last();
        let sent =
            other.parts.iter().filter(|part| own.is_none_or(|own| part.applied_index > own.applied_index));
        let bytes: Vec<u8> = sent.flat_map(|part| part.bytes.clone()).collect();
        let mut reader = Reader::onto(self.store.fork());
        reader.push(&bytes).expect("it goes on from what this member has");
        if reader.is_whole() {
            self.parts.clear();
        }
        self.store = reader.finish().expect("whole parts");
        let (revision, applied_index) = (self.store.revision(), self.store.applied_index());
        assert_eq!((revision, applied_index), (last.revision, last.applied_index));
        self.commands = other.commands[..applied_index as usize].to_vec();
        self.parts.push(Part { revision, applied_index, bytes });
        self.compare();
        assert_eq!(self.store.state_hash(), other.read().state_hash());
    }

    /// Everything that can be told of a state, from the checkpoint and from memory.
    fn compare(&self) {
        let read = self.read();
        read.check_invariants();
        assert_eq!(read.state_hash(), self.store.state_hash());
        assert_eq!(read.applied_index(), self.store.applied_index());
        assert_eq!(read.size_bytes(), self.store.size_bytes());
        assert_eq!(checkpoint(&read), checkpoint(&self.store), "written whole, they are the same");
        for revision in 0..=self.store.revision() {
            let (ours, theirs) = (read.snapshot(), self.store.snapshot());
            assert_eq!(ours.hash_kv(revision), theirs.hash_kv(revision));
        }
    }

    /// Goes on with what the checkpoint holds, and what came after it.
    fn restart(&mut self) {
        let mut store = if self.parts.is_empty() { Store::new() } else { self.read() };
        for index in store.applied_index()..self.store.applied_index() {
            let _ = store.apply(index + 1, &self.commands[index as usize]);
        }
        store.check_invariants();
        assert_eq!(store.state_hash(), self.store.state_hash());
        self.store = store;
    }
}

#[derive(Debug, Clone)]
enum Step {
    Command(Command),
    /// A compaction so many revisions behind the latest.
    Compact(i64),
    /// A part that reaches back as far as chance has it.
    Part(Index),
    /// A part that takes in no other.
    ShortPart,
    Restart,
    /// What lies below the first part is forgotten, as it is when that part is durable.
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => command().prop_map(Step::Command),
        2 => spoiled_command().prop_map(Step::Command),
        3 => (0..12_i64).prop_map(Step::Compact),
        2 => any::<Index>().prop_map(Step::Part),
        3 => Just(Step::ShortPart),
        1 => Just(Step::Restart),
        1 => Just(Step::Forget),
    ]
}

proptest! {
    #[test]
    fn p3_parts_written_at_any_time_are_the_state(steps in vec(step(), 1..150)) {
        let mut machine = Machine::new();
        for step in steps {
            match step {
                Step::Command(command) => machine.apply(command),
                Step::Compact(behind) => {
                    let revision = machine.store.revision() - behind;
                    machine.apply(Command::Compact { revision, physical: false });
                }
                Step::Part(reach) => {
                    let kept = reach.index(machine.parts.len() + 1);
                    if machine.write_part(kept).is_some() {
                        machine.compare();
                    }
                }
                Step::ShortPart => {
                    if machine.write_part(machine.parts.len()).is_some() {
                        machine.compare();
                    }
                }
                Step::Restart => machine.restart(),
                Step::Forget => {
                    if let Some(first) = machine.parts.first() {
                        machine.store.forget_buried(first.revision);
                    }
                }
            }
        }
    }

    /// One member leads, the other applies the same commands later, takes parts when it does, and is sent what it
    /// lacks of the leader's checkpoint.
    #[test]
    fn p3_what_a_follower_lacks_of_the_parts_makes_its_state_the_leaders(
        steps in vec((any::<bool>(), step(), 0..9_u8), 1..150),
    ) {
        let (mut leader, mut follower) = (Machine::new(), Machine::new());
        for (is_leaders, step, what) in steps {
            match what {
                0 => follower.receive_from(&leader),
                1..=3 => {
                    let next = leader.commands.get(follower.store.applied_index() as usize).cloned();
                    if let Some(command) = next {
                        follower.apply(command);
                    }
                }
                _ => {}
            }
            let machine = if is_leaders { &mut leader } else { &mut follower };
            match step {
                Step::Command(command) => leader.apply(command),
                Step::Compact(behind) => {
                    let revision = leader.store.revision() - behind;
                    leader.apply(Command::Compact { revision, physical: false });
                }
                Step::Part(reach) => {
                    let kept = reach.index(machine.parts.len() + 1);
                    machine.write_part(kept).into_iter().for_each(|()| machine.compare());
                }
                Step::ShortPart => {
                    let kept = machine.parts.len();
                    machine.write_part(kept).into_iter().for_each(|()| machine.compare());
                }
                Step::Restart => machine.restart(),
                Step::Forget => {
                    if let Some(first) = machine.parts.first() {
                        machine.store.forget_buried(first.revision);
                    }
                }
            }
        }
        // Who has nothing is sent all of it, overlaps and all.
        Machine::new().receive_from(&follower);
        Machine::new().receive_from(&leader);
    }

    /// Bytes that were made up by somebody who knows how to compute checksums.
    #[test]
    fn no_part_makes_the_reader_panic(
        part in any::<Index>(), block in any::<Index>(), at in any::<Index>(), flip in 1..=u8::MAX,
    ) {
        let mut parts = three_parts();
        let bytes = &mut parts[part.index(3)];
        let mut blocks = blocks_of(bytes);
        let payload = &mut block.get_mut(&mut blocks).1;
        let at = at.index(payload.len());
        payload[at] ^= flip;
        *bytes = sealed(blocks);
        if let Ok(store) = restore(&parts.concat()) {
            store.check_invariants();
        }
    }
}

/// The trap: a key that an older part holds, deleted after that, and the delete compacted away before the next part.
#[test]
fn p3_a_delete_that_was_compacted_away_stays_deleted() {
    let mut machine = Machine::new();
    machine.run_all(&["put k=a v=1", "put k=b v=1", "put k=c v=1"]);
    machine.write_part(0).unwrap();
    // Deleted; deleted and put again before the compaction, and after it; and one that no part has seen.
    machine.run_all(&[
        "del k=a",
        "del k=b",
        "put k=b v=2",
        "del k=c",
        "put k=d v=1",
        "del k=d",
        "put k=e v=1",
    ]);
    machine.run_all(&["compact rev=11", "put k=c v=3"]);
    machine.write_part(1).unwrap();
    machine.compare();
    // What the parts tell of deletes is enough to write other parts.
    machine.restart();
    machine.run_all(&["del k=b", "put k=f v=1", "compact rev=14"]);
    machine.write_part(2).unwrap();
    machine.compare();
    machine.run("put k=g v=1");
    machine.write_part(1).expect("it reaches back behind the compaction before the restart");
    machine.compare();
    assert_eq!(machine.parts.len(), 2);
}

#[test]
fn p3_a_part_holds_what_is_new_and_no_more() {
    let mut machine = Machine::new();
    for key in 0..1000 {
        machine.run(&format!("put k=key-{key} v=some-value-of-some-length"));
    }
    machine.write_part(0).unwrap();
    for key in 0..10 {
        machine.run(&format!("put k=key-{key} v=other"));
    }
    machine.run("compact rev=1005");
    machine.write_part(1).unwrap();
    machine.compare();
    let [whole, part] = &machine.parts[..] else { panic!("two parts") };
    assert!(part.bytes.len() * 50 < whole.bytes.len(), "{} of {}", part.bytes.len(), whole.bytes.len());
    let about = machine.store.snapshot().checkpoint_bytes() as usize;
    let exact = checkpoint(&machine.store).len();
    assert!((exact..2 * exact).contains(&about), "{about} is about {exact}");
}

#[test]
fn p3_too_many_deletes_are_forgotten_and_no_part_is_written_without_them() {
    let mut machine = Machine::new();
    (0..100).for_each(|key| machine.run(&format!("put k=key-{key:02} v=1")));
    machine.write_part(0).unwrap();
    machine.run("del k=key-00 e=key-50");
    machine.run("put k=other v=1");
    machine.run("compact rev=103");
    assert!(!machine.store.snapshot().can_build_on(101), "50 deletes are more than half of 51 keys");
    assert!(machine.store.snapshot().can_build_on(102), "above the deletes nothing is missing");
    assert!(machine.write_part(1).is_none());
    machine.write_part(0).unwrap();
    machine.run("del k=key-99");
    machine.run("compact rev=104");
    machine.write_part(1).expect("what was deleted since is known");
    machine.compare();
}

/// With a delete that is compacted away between any two.
fn three_parts() -> [Vec<u8>; 3] {
    let mut machine = Machine::new();
    machine.run_all(&["put k=a v=1", "put k=b v=1", "member id=5 name=m5 peer=http://p"]);
    machine.write_part(0).unwrap();
    machine.run_all(&["del k=a", "put k=b v=2", "put k=c v=1", "compact rev=6", "put k=b v=3", "del k=c"]);
    machine.write_part(1).unwrap();
    machine.run_all(&[
        "put k=c v=2",
        "del k=b",
        "put k=d v=1",
        "compact rev=10",
        "put k=a v=9",
        "member id=4 name=m4 peer=http://q",
    ]);
    machine.write_part(2).unwrap();
    machine.compare();
    std::array::from_fn(|at| machine.parts[at].bytes.clone())
}

#[test]
fn every_flipped_bit_of_any_part_is_noticed() {
    assert_notices_every_flipped_bit(three_parts().concat());
}

/// Where a part ends, what came so far is a state; that it is an older one its applied index tells.
#[test]
fn a_missing_end_is_noticed_or_makes_an_older_state() {
    let parts = three_parts();
    let bytes = parts.concat();
    let ends = [parts[0].len(), parts[0].len() + parts[1].len()];
    for length in 0..bytes.len() {
        match restore(&bytes[..length]) {
            Ok(store) => {
                assert!(ends.contains(&length), "{length} bytes");
                assert!(store.applied_index() < restore(&bytes).unwrap().applied_index());
            }
            Err(error) => assert_eq!(error, CheckpointError::Truncated, "{length} bytes"),
        }
    }
}

#[test]
fn parts_that_do_not_follow_each_other_are_refused() {
    let [first, second, third] = &three_parts();
    let not_next = "a part does not begin where the one before it ends";
    for (parts, why) in [
        (vec![second], "its first part is missing"),
        (vec![first, third], not_next),
        (vec![first, third, second], not_next),
        (vec![second, first, third], "its first part is missing"),
    ] {
        let bytes: Vec<&[u8]> = parts.into_iter().map(Vec::as_slice).collect();
        assert_eq!(restore(&bytes.concat()).err(), Some(CheckpointError::Invalid { why }));
    }
}

/// Another member's parts may begin with what ours hold already.
#[test]
fn what_the_state_holds_already_is_passed_over() {
    let [first, second, third] = &three_parts();
    let state = restore(&[&first[..], second, third].concat()).unwrap().state_hash();
    for parts in [
        vec![first, first, second, third],
        vec![first, second, second, third, third],
        vec![first, second, first, second, third],
        vec![first, second, third, first],
    ] {
        let bytes: Vec<&[u8]> = parts.into_iter().map(Vec::as_slice).collect();
        assert_eq!(restore(&bytes.concat()).unwrap().state_hash(), state);
    }
}

/// Nothing but the applied index tells apart two parts that change no revision.
#[test]
fn a_part_without_records_is_passed_over_once_it_is_there() {
    let mut machine = Machine::new();
    machine.run("put k=a v=1");
    machine.write_part(0).unwrap();
    machine.run("member id=5 name=m5 peer=http://p");
    machine.write_part(1).unwrap();
    machine.compare();
    let [first, second] = &machine.parts[..] else { panic!("two parts") };
    let doubled = [&first.bytes[..], &second.bytes, &second.bytes].concat();
    assert_eq!(restore(&doubled).unwrap().state_hash(), machine.store.state_hash());
}

#[test]
fn a_part_that_names_another_revision_before_it_is_refused() {
    let [first, second, _] = three_parts();
    let mut blocks = blocks_of(&second);
    assert_eq!(blocks[0].1[9], 6, "revision 3, as a signed");
    // 4 lies above the state, and 0 would be a first part. What lies below is a part of somebody else's.
    for since in [0, 8] {
        blocks[0].1[9] = since;
        let bytes = [first.clone(), sealed(blocks.clone())].concat();
        let why = "a part does not begin where the one before it ends";
        assert_eq!(restore(&bytes).err(), Some(CheckpointError::Invalid { why }), "{since}");
    }
}

#[test]
fn a_part_of_a_state_that_had_another_past_is_refused() {
    let mut other = Machine::new();
    other.run_all(&["put k=x v=1", "put k=b v=1", "member id=5 name=m5 peer=http://p"]);
    other.write_part(0).unwrap();
    let [_, second, _] = three_parts();
    let why = "its state has another hash than it says";
    let bytes = [&other.parts[0].bytes[..], &second].concat();
    assert_eq!(restore(&bytes).err(), Some(CheckpointError::Invalid { why }));
}

#[test]
#[should_panic(expected = "a part is written where nothing below it is missing")]
fn no_part_is_written_above_a_revision_that_is_still_to_come() {
    let _ = Writer::part(Store::new().snapshot(), 2);
}

/// The kinds and payloads of the blocks of a part.
fn blocks_of(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut blocks = Vec::new();
    while let [kind, a, b, c, d, rest @ ..] = bytes {
        let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
        blocks.push((*kind, rest[4..4 + length].to_vec()));
        bytes = &rest[4 + length..];
    }
    blocks
}

/// A part of these blocks, with all checksums right.
fn sealed(blocks: Vec<(u8, Vec<u8>)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, (kind, mut payload)) in blocks.into_iter().enumerate() {
        if kind == 3 {
            let start = payload.len() - 4;
            payload[start..].copy_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        }
        let length = (payload.len() as u32).to_le_bytes();
        let covered = [&(number as u64).to_le_bytes()[..], &[kind], &length, &payload].concat();
        bytes.push(kind);
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(&crc32c::crc32c(&covered).to_le_bytes());
        bytes.extend_from_slice(&payload);
    }
    bytes
}

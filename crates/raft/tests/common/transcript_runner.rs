//! Carries out the commands of the transcripts.

use std::error::Error;

use goldenscript::Context;
use tenure_raft::{
    Configuration, Effect, Envelope, Index, Message, NodeId, Options, Payload, RoleKind, Term, Time,
};

use super::commands::Command;
use super::notation;
use super::rig::{LineKind, Rig, Server};

type Done = Result<(), Box<dyn Error>>;

/// No script may go on for ever: nothing here takes this many messages.
const MAX_STEPS: usize = 10_000;

/// Runs one script. With the tag `[events]` a command shows what happened, not what was sent and written.
#[derive(Default)]
pub(crate) struct Runner {
    rig: Rig,
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Result<String, Box<dyn Error>> {
        self.rig.lines.clear();
        self.carry_out(command)?;
        self.rig.check();
        let events_only = context.tags.contains("events");
        let shown = |kind: LineKind| !events_only || kind == LineKind::Event;
        let lines = self.rig.lines.iter().filter(|(kind, _)| shown(*kind));
        Ok(lines.map(|(_, line)| line.as_str()).collect::<Vec<_>>().join("\n"))
    }
}

impl Runner {
    fn carry_out(&mut self, command: &Command) -> Done {
        let rig = &mut self.rig;
        match command {
            Command::Cluster(settings) => self.cluster(settings)?,
            Command::Server(id, disk) => self.server(node_id(*id)?, disk)?,

            Command::Campaign(id) => self.fire(node_id(*id)?, false)?,
            Command::Elect(id) => self.elect(node_id(*id)?, |_| true)?,
            Command::Win(id) => self.elect(node_id(*id)?, is_of_election)?,
            Command::Heartbeat(id) => self.fire(node_id(*id)?, true)?,
            Command::Time(milliseconds) => self.pass_time(*milliseconds, false)?,
            Command::Run(milliseconds) => self.pass_time(*milliseconds, true)?,
            Command::Pause(milliseconds) => rig.now = rig.now.after(milliseconds * 1_000),

            Command::Propose(id, words, pairs) => self.propose(node_id(*id)?, words, pairs)?,
            Command::Read(id) => rig.read(node_id(*id)?)?,
            Command::Transfer(id, target) => self.transfer(node_id(*id)?, node_id(*target)?)?,
            Command::Change(id, target, settings) => self.change(node_id(*id)?, target, settings)?,
            Command::Unreachable(id, peer) => self.unreachable(node_id(*id)?, node_id(*peer)?),

            Command::Wire => self.show_wire(),
            Command::Deliver(link, which) => self.deliver_some(link, which)?,
            Command::Drop(link, which) => self.lose(link, which)?,
            Command::Duplicate(link, which) => self.duplicate(link, which)?,
            Command::Reorder(link, which) => self.reorder(link, which)?,
            Command::Receive(text) => self.deliver(notation::envelope(text)?),
            Command::Stabilize => self.stabilize()?,
            Command::Partition(group) => self.partition(group)?,
            Command::Cut(from, to) => {
                rig.cut.insert((node_id(*from)?, node_id(*to)?));
            }
            Command::Heal => rig.cut.clear(),

            Command::Crash(id) => rig.crash(node_id(*id)?),
            Command::Restart(id) => rig.start(node_id(*id)?),
            Command::HoldDisk(id) => rig.server(node_id(*id)?).disk_held = true,
            Command::SlowDisk(id, milliseconds) => rig.server(node_id(*id)?).disk_us = milliseconds * 1_000,
            Command::Flush(id) => rig.flush(node_id(*id)?, 1),
            Command::Persist(id, count) => rig.persist(node_id(*id)?, count.unwrap_or(1)),
            Command::ReleaseDisk(id) => rig.release_disk(node_id(*id)?),
            Command::Snapshot(id) => rig.take_snapshot(node_id(*id)?),
            Command::Compact(id, through) => rig.compact(node_id(*id)?, Index(through.unwrap_or(u64::MAX))),
            Command::HoldChunks(id) => rig.server(node_id(*id)?).chunks_held = true,
            Command::Load(id) => rig.load(node_id(*id)?, 1),
            Command::HoldSnapshots(id) => rig.server(node_id(*id)?).snapshots_held = true,
            Command::Store(id) => rig.store(node_id(*id)?, 1),
            Command::Damage(id) => self.damage(node_id(*id)?)?,

            Command::Status(id) => self.for_each(*id, Self::status)?,
            Command::Log(id) => self.for_each(*id, Self::log)?,
            Command::Terms => self.for_each(None, Self::terms)?,
            Command::State(id) => self.for_each(Some(*id), Self::state)?,
            Command::Configuration(id) => self.for_each(Some(*id), Self::configuration)?,
        }
        Ok(())
    }

    // ---- Clusters -----------------------------------------------------------------------------------

    fn cluster(&mut self, settings: &[(String, String)]) -> Done {
        let mut options = Options::default();
        let mut configuration = Configuration::default();
        let mut also = Vec::new();
        for (key, value) in settings {
            match key.as_str() {
                "nodes" => {
                    let ids = (1..=value.parse()?).filter_map(NodeId::new);
                    configuration = Configuration::of_voters(ids);
                }
                "also" => also = value.split_whitespace().map(notation::node_id).collect::<Result<_, _>>()?,
                "configuration" => configuration = notation::configuration(value)?,
                "max_append_bytes" => options.max_append_bytes = value.parse()?,
                "max_inflight_messages" => options.max_inflight_messages = value.parse()?,
                "max_inflight_bytes" => options.max_inflight_bytes = value.parse()?,
                "max_uncommitted_bytes" => options.max_uncommitted_bytes = value.parse()?,
                "max_command_bytes" => options.max_command_bytes = value.parse()?,
                "max_recent_bytes" => options.max_recent_bytes = value.parse()?,
                "max_early_bytes" => options.max_early_bytes = value.parse()?,
                "snapshot_chunk_bytes" => options.snapshot_chunk_bytes = value.parse()?,
                "max_waiting_reads" => options.max_waiting_reads = value.parse()?,
                _ => return Err(format!("no setting is called {key}").into()),
            }
        }
        self.rig.build(options, &configuration, &also);
        Ok(())
    }

    fn server(&mut self, id: NodeId, settings: &[(String, String)]) -> Done {
        self.rig.crash(id);
        let disk = &mut self.rig.server(id).disk;
        for (key, value) in settings {
            match key.as_str() {
                "terms" => disk.entries = notation::entries_of_terms(value)?,
                "entries" => disk.entries = notation::entries(value)?,
                "term" => disk.hard_state.current_term = Term(value.parse()?),
                "voted" => disk.hard_state.voted_for = Some(notation::node_id(value)?),
                _ => return Err(format!("a disk has no {key}").into()),
            }
        }
        disk.hard_state.current_term = disk.hard_state.current_term.max(disk.last().term);
        self.rig.start(id);
        Ok(())
    }

    // ---- Time ---------------------------------------------------------------------------------------

    fn fire(&mut self, id: NodeId, as_leader: bool) -> Done {
        let role = self.rig.node(id).role();
        if (role == RoleKind::Leader) != as_leader {
            return Err(format!("{id} is {role}").into());
        }
        if self.rig.node(id).next_deadline() == Time::NEVER {
            return Err(format!("{id} has no deadline").into());
        }
        self.rig.fire(id);
        Ok(())
    }

    fn elect(&mut self, id: NodeId, delivered: fn(&Envelope) -> bool) -> Done {
        self.fire(id, false)?;
        self.deliver_all(delivered)?;
        if self.rig.node(id).role() != RoleKind::Leader {
            return Err(format!("{id} was not elected").into());
        }
        Ok(())
    }

    fn pass_time(&mut self, milliseconds: u64, deliver: bool) -> Done {
        let end = self.rig.now.after(milliseconds * 1_000);
        for _ in 0..MAX_STEPS {
            if deliver {
                self.stabilize()?;
            }
            match self.rig.next_deadline() {
                Some((at, id, due)) if at <= end => self.rig.come(at, id, due),
                Some(_) | None => {
                    self.rig.now = Time(end.0);
                    return Ok(());
                }
            }
        }
        Err("time does not pass".into())
    }

    // ---- Inputs -------------------------------------------------------------------------------------

    fn propose(&mut self, id: NodeId, words: &[String], pairs: &[(String, String)]) -> Done {
        let pairs = pairs.iter().map(|(key, value)| format!("{key}={value}"));
        let commands: Vec<String> = words.iter().cloned().chain(pairs).collect();
        Ok(self.rig.propose(id, &commands)?)
    }

    fn transfer(&mut self, id: NodeId, target: NodeId) -> Done {
        Ok(self.rig.input(id, |node, now| node.transfer_leadership(now, target))?)
    }

    fn change(&mut self, id: NodeId, target: &str, settings: &[(String, String)]) -> Done {
        let target = notation::configuration(target)?;
        let force = settings.iter().any(|(key, value)| key == "force" && value == "true");
        self.rig.input(id, |node, now| node.change_membership(now, &target, force))?;
        Ok(())
    }

    fn unreachable(&mut self, id: NodeId, peer: NodeId) {
        self.rig.input(id, |node, now| node.on_unreachable(now, peer));
    }

    // ---- The wire -----------------------------------------------------------------------------------

    fn show_wire(&mut self) {
        for envelope in self.rig.wire.clone() {
            self.rig.line(LineKind::Event, envelope.to_string());
        }
    }

    fn deliver_some(&mut self, link: &[u64], which: &[(String, String)]) -> Done {
        for envelope in self.take(link, which)? {
            self.deliver(envelope);
        }
        Ok(())
    }

    fn lose(&mut self, link: &[u64], which: &[(String, String)]) -> Done {
        for envelope in self.take(link, which)? {
            self.rig.line(LineKind::Traffic, format!("{envelope} (lost)"));
        }
        Ok(())
    }

    fn duplicate(&mut self, link: &[u64], which: &[(String, String)]) -> Done {
        let wire = self.rig.wire.clone();
        let copies = self.take(link, which)?;
        self.rig.wire = wire;
        self.rig.wire.extend(copies);
        Ok(())
    }

    fn reorder(&mut self, link: &[u64], which: &[(String, String)]) -> Done {
        let taken = self.take(link, which)?;
        self.rig.wire.extend(taken.into_iter().rev());
        Ok(())
    }

    /// Takes messages off the wire.
    fn take(&mut self, link: &[u64], which: &[(String, String)]) -> Result<Vec<Envelope>, Box<dyn Error>> {
        let selection = Selection::parse(link, which)?;
        let mut taken = Vec::new();
        for envelope in std::mem::take(&mut self.rig.wire) {
            let wanted = selection.matches(&envelope) && taken.len() < selection.first;
            if wanted { taken.push(envelope) } else { self.rig.wire.push(envelope) }
        }
        // A script that means a message should be told when there is none.
        let means_something = selection.from.is_some() || selection.to.is_some() || selection.kind.is_some();
        if taken.is_empty() && means_something {
            return Err("no such message is on the wire".into());
        }
        Ok(taken)
    }

    fn deliver(&mut self, envelope: Envelope) {
        let to = envelope.to;
        if self.rig.server(to).node.is_some() {
            self.rig.input(to, |node, now| node.step(now, envelope));
        }
    }

    fn stabilize(&mut self) -> Done {
        self.deliver_all(|_| true)
    }

    /// Delivers messages of some kinds, and those that they bring about, until none is left.
    fn deliver_all(&mut self, wanted: fn(&Envelope) -> bool) -> Done {
        for _ in 0..MAX_STEPS {
            let Some(position) = self.rig.wire.iter().position(wanted) else { return Ok(()) };
            let envelope = self.rig.wire.remove(position);
            self.deliver(envelope);
        }
        Err("the servers do not stop talking".into())
    }

    fn partition(&mut self, group: &[u64]) -> Done {
        let group = group.iter().map(|&id| node_id(id)).collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<NodeId> = self.rig.servers.keys().copied().collect();
        for &from in &ids {
            for &to in &ids {
                if group.contains(&from) != group.contains(&to) {
                    self.rig.cut.insert((from, to));
                }
            }
        }
        Ok(())
    }

    // ---- Disks --------------------------------------------------------------------------------------

    fn damage(&mut self, id: NodeId) -> Done {
        let arriving = self.rig.server(id).arriving.pop_front();
        let Some(Effect::InstallSnapshot(snapshot)) = arriving else {
            return Err("no complete snapshot waits".into());
        };
        self.rig.input(id, |node, now| node.on_snapshot_damaged(now, snapshot.last_included));
        Ok(())
    }

    // ---- To look at ---------------------------------------------------------------------------------

    fn for_each(&mut self, id: Option<u64>, show: fn(NodeId, &Server) -> String) -> Done {
        let ids = match id {
            Some(id) => vec![node_id(id)?],
            None => self.rig.servers.keys().copied().collect(),
        };
        for id in ids {
            let line = show(id, self.rig.server(id));
            self.rig.say(LineKind::Event, id, line);
        }
        Ok(())
    }

    fn status(_: NodeId, server: &Server) -> String {
        let Some(node) = &server.node else { return "crashed".to_string() };
        let status = node.status();
        let leader = match status.leader_id {
            Some(leader) if leader != status.id => format!(" of {leader}"),
            Some(_) | None => String::new(),
        };
        let matches: Vec<String> = node.match_indexes().map(|(id, index)| format!("{id}={index}")).collect();
        format!(
            "{}{leader} {} last {} persisted {} commit {} applied {}{}{}",
            status.role,
            status.hard_state,
            status.last,
            status.persisted_index,
            status.commit_index,
            status.last_applied,
            if matches.is_empty() { "" } else { " match " },
            matches.join(" "),
        )
    }

    fn log(_: NodeId, server: &Server) -> String {
        let log = server.log();
        let entries: Vec<String> = log.entries.iter().map(ToString::to_string).collect();
        format!("{} [{}]", log.log_start, entries.join(" "))
    }

    fn terms(_: NodeId, server: &Server) -> String {
        let terms = server.log().entries.into_iter().map(|entry| {
            let configuration = matches!(entry.payload, Payload::Configuration(_));
            format!("{}{}", entry.id.term, if configuration { "c" } else { "" })
        });
        terms.collect::<Vec<_>>().join(" ")
    }

    fn state(_: NodeId, server: &Server) -> String {
        format!("state [{}]", server.machine.commands.join(" "))
    }

    fn configuration(id: NodeId, server: &Server) -> String {
        let node = server.node.as_ref().unwrap_or_else(|| panic!("{id} does not run"));
        node.configuration().to_string()
    }
}

/// Some of the messages on the wire.
struct Selection {
    from: Option<NodeId>,
    to: Option<NodeId>,
    kind: Option<String>,
    first: usize,
}

impl Selection {
    fn parse(link: &[u64], which: &[(String, String)]) -> Result<Selection, Box<dyn Error>> {
        let mut ids = link.iter().map(|&id| node_id(id));
        let (from, to) = (ids.next().transpose()?, ids.next().transpose()?);
        let mut selection = Selection { from, to, kind: None, first: usize::MAX };
        for (key, value) in which {
            match key.as_str() {
                "to" => selection.to = Some(notation::node_id(value)?),
                "kind" => selection.kind = Some(value.clone()),
                "first" => selection.first = value.parse()?,
                _ => return Err(format!("messages are not chosen by {key}").into()),
            }
        }
        Ok(selection)
    }

    fn matches(&self, envelope: &Envelope) -> bool {
        let text = envelope.message.to_string();
        self.from.is_none_or(|id| id == envelope.from)
            && self.to.is_none_or(|id| id == envelope.to)
            && self.kind.as_ref().is_none_or(|kind| text.split(' ').next() == Some(kind))
    }
}

fn node_id(id: u64) -> Result<NodeId, Box<dyn Error>> {
    Ok(NodeId::new(id).ok_or("no server has the id 0")?)
}

fn is_of_election(envelope: &Envelope) -> bool {
    match envelope.message {
        Message::PreVote { .. }
        | Message::PreVoteReply { .. }
        | Message::RequestVote { .. }
        | Message::RequestVoteReply { .. } => true,
        Message::AppendEntries { .. }
        | Message::AppendEntriesReply(_)
        | Message::Heartbeat { .. }
        | Message::HeartbeatReply { .. }
        | Message::CommitNotice { .. }
        | Message::InstallSnapshot { .. }
        | Message::InstallSnapshotReply { .. }
        | Message::TimeoutNow
        | Message::ReadIndex { .. }
        | Message::ReadIndexReply { .. } => false,
    }
}

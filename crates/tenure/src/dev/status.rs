//! How the cluster is, in one line of less than 80 characters: who leads, the term, what is committed, how
//! fast it grows, who does not answer.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Context;
use tenure_api::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use tenure_api::pb::etcdserverpb::{StatusRequest, StatusResponse};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use super::plan::Plan;

/// Who does not answer within this is called silent.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// How often a line is written, at most, where lines stay and only numbers have changed.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Asks the members how they are.
pub(crate) struct Watcher {
    members: Vec<(&'static str, MaintenanceClient<Channel>)>,
    last: Option<(Instant, i64)>,
    has_leader: bool,
}

/// What they said.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Seen {
    leader: Option<&'static str>,
    raft_term: u64,
    commit_index: u64,
    revision: i64,
    writes_per_second: f64,
    silent: Vec<&'static str>,
}

impl Watcher {
    pub(crate) fn new(plan: &Plan) -> anyhow::Result<Watcher> {
        let client = |url: String| -> anyhow::Result<_> {
            let endpoint = Endpoint::from_shared(url).context("the member's own URL")?;
            let endpoint = endpoint.connect_timeout(ANSWER_TIMEOUT).timeout(ANSWER_TIMEOUT);
            Ok(MaintenanceClient::new(endpoint.connect_lazy()))
        };
        let members = plan.members.iter().map(|member| Ok((member.name, client(member.client_url())?)));
        Ok(Watcher { members: members.collect::<anyhow::Result<_>>()?, last: None, has_leader: false })
    }

    /// Whether somebody led when it was last asked.
    pub(crate) fn has_leader(&self) -> bool {
        self.has_leader
    }

    /// Asks all at once.
    pub(crate) async fn look(&mut self) -> Seen {
        let mut asking = JoinSet::new();
        for (position, (_, client)) in self.members.iter().enumerate() {
            let mut client = client.clone();
            asking.spawn(async move { (position, client.status(StatusRequest {}).await.ok()) });
        }
        let mut answers: Vec<Option<StatusResponse>> = vec![None; self.members.len()];
        while let Some(answer) = asking.join_next().await {
            let (position, answer) = answer.expect("asking does not panic");
            answers[position] = answer.map(tonic::Response::into_inner);
        }
        let names: Vec<_> = self.members.iter().map(|(name, _)| *name).collect();
        let mut seen = summarize(&names, &answers);
        self.has_leader = seen.leader.is_some();
        seen.writes_per_second = self.rate(seen.revision);
        seen
    }

    fn rate(&mut self, revision: i64) -> f64 {
        let now = Instant::now();
        // Without a leader nothing is written: what grows then is what a restarted member remembers.
        let last = self.has_leader.then_some((now, revision));
        match (std::mem::replace(&mut self.last, last), last) {
            (Some((then, before)), Some(_)) if revision > before => {
                (revision - before) as f64 / (now - then).as_secs_f64().max(f64::EPSILON)
            }
            _ => 0.0,
        }
    }
}

/// Puts the answers together; who has seen the highest term knows best who leads.
fn summarize(names: &[&'static str], answers: &[Option<StatusResponse>]) -> Seen {
    let answered = || names.iter().zip(answers).filter_map(|(name, answer)| Some((*name, answer.as_ref()?)));
    let header = |answer: &StatusResponse| answer.header.unwrap_or_default();
    let raft_term = answered().map(|(_, answer)| answer.raft_term).max().unwrap_or(0);
    let leader_id = answered()
        .filter(|(_, answer)| answer.raft_term == raft_term && answer.leader != 0)
        .map(|(_, answer)| answer.leader)
        .next();
    let leader = answered().find(|(_, answer)| Some(header(answer).member_id) == leader_id);
    let silent = names.iter().zip(answers).filter(|(_, answer)| answer.is_none());
    Seen {
        leader: leader.map(|(name, _)| name),
        raft_term,
        commit_index: answered().map(|(_, answer)| answer.raft_index).max().unwrap_or(0),
        revision: answered().map(|(_, answer)| header(answer).revision).max().unwrap_or(0),
        writes_per_second: 0.0,
        silent: silent.map(|(name, _)| *name).collect(),
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen { raft_term, commit_index, revision, writes_per_second, .. } = self;
        match self.leader {
            Some(leader) => write!(f, "{leader} leads term {raft_term}")?,
            None => write!(f, "no leader, term {raft_term}")?,
        }
        write!(f, ", commit {commit_index}, revision {revision}, {writes_per_second:.0} writes/s, ")?;
        match &self.silent[..] {
            [] => write!(f, "all up"),
            silent => write!(f, "no answer: {}", silent.join(", ")),
        }
    }
}

/// Where the line is shown: renewed in place on a terminal, line by line elsewhere.
pub(crate) struct Display {
    is_terminal: bool,
    shown: Option<(Instant, Seen)>,
}

impl Display {
    pub(crate) fn new() -> Display {
        Display { is_terminal: io::stdout().is_terminal(), shown: None }
    }

    /// Shows what was seen, if it is worth it.
    pub(crate) fn show(&mut self, seen: &Seen) {
        if self.is_terminal {
            write(&format!("\r\x1b[K{seen}"));
        } else if self.is_news(seen) {
            write(&format!("{seen}\n"));
            self.shown = Some((Instant::now(), seen.clone()));
        }
    }

    fn is_news(&self, seen: &Seen) -> bool {
        let Some((when, shown)) = &self.shown else { return seen.leader.is_some() };
        let outline = |seen: &Seen| (seen.leader, seen.raft_term, seen.silent.clone());
        outline(shown) != outline(seen)
            || (shown.revision != seen.revision && when.elapsed() >= LINE_INTERVAL)
    }

    /// Writes a line that stays.
    pub(crate) fn note(&self, text: &str) {
        let start = if self.is_terminal { "\r\x1b[K" } else { "" };
        write(&format!("{start}{text}\n"));
    }
}

/// A closed standard output is no reason to stop the members.
fn write(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use tenure_api::pb::etcdserverpb::ResponseHeader;

    use super::*;

    const NAMES: [&str; 3] = ["n1", "n2", "n3"];

    fn answer(member_id: u64, leader: u64, raft_term: u64, revision: i64) -> StatusResponse {
        let header = Some(ResponseHeader { member_id, revision, raft_term, ..ResponseHeader::default() });
        let raft_index = revision as u64 + 3;
        StatusResponse { header, leader, raft_term, raft_index, ..StatusResponse::default() }
    }

    fn seen_in(answers: &[Option<StatusResponse>]) -> Seen {
        summarize(&NAMES, answers)
    }

    #[test]
    fn the_line_says_who_leads_and_how_far_they_are() {
        let seen =
            seen_in(&[Some(answer(1, 2, 5, 10)), Some(answer(2, 2, 5, 12)), Some(answer(3, 2, 5, 11))]);
        let expected = "n2 leads term 5, commit 15, revision 12, 0 writes/s, all up";
        assert_eq!(seen.to_string(), expected);
    }

    #[test]
    fn an_old_leader_that_does_not_know_yet_is_not_believed() {
        let seen =
            seen_in(&[Some(answer(1, 1, 5, 10)), Some(answer(2, 0, 6, 10)), Some(answer(3, 3, 6, 10))]);
        assert_eq!((seen.leader, seen.raft_term), (Some("n3"), 6));
    }

    #[test]
    fn a_leader_that_does_not_answer_is_not_named() {
        let seen = seen_in(&[Some(answer(1, 2, 5, 10)), None, Some(answer(3, 2, 5, 10))]);
        assert!(seen.to_string().starts_with("no leader, term 5, "), "{seen}");
        assert!(seen.to_string().ends_with("no answer: n2"), "{seen}");
        assert!(seen_in(&[None, None, None]).to_string().ends_with("no answer: n1, n2, n3"));
    }

    #[test]
    fn where_lines_stay_only_news_is_written() {
        let mut display = Display { is_terminal: false, shown: None };
        let seen = summarize(&NAMES, &[Some(answer(1, 2, 5, 10)), Some(answer(2, 2, 5, 10)), None]);
        assert!(display.is_news(&seen));
        assert!(!display.is_news(&Seen::default()), "nothing to tell before there is a leader");
        display.shown = Some((Instant::now(), seen.clone()));
        assert!(!display.is_news(&seen));
        assert!(!display.is_news(&Seen { revision: 11, ..seen.clone() }), "numbers can wait");
        assert!(display.is_news(&Seen { raft_term: 6, ..seen.clone() }));
        assert!(display.is_news(&Seen { silent: Vec::new(), ..seen }));
    }
}

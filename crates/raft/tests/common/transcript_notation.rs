//! Reads the notation back in: `7@2=x`, `{n1 n2 & n3 + n4}`, `n1@3 → n2 AppendEntries 0@0 [1@1] commit 0`.
//!
//! Only what scripts write by hand: entries, configurations, and the messages that a script may invent.

use std::collections::BTreeMap;
use std::error::Error;

use tenure_raft::{
    Configuration, Entry, EntryId, Envelope, Index, Learner, LogSlice, Message, NodeId, Payload, Quorums,
    ReadId, Round, Term, Voters,
};

type Parsed<T> = Result<T, Box<dyn Error>>;

/// `1` or `n1`, in hexadecimal.
pub(crate) fn node_id(text: &str) -> Parsed<NodeId> {
    let number = u64::from_str_radix(text.trim_start_matches('n'), 16)?;
    Ok(NodeId::new(number).ok_or("no server has the id 0")?)
}

/// `1 2×3`: ids, each with the number of its votes if that is not one; `elect 4 commit 2` behind them.
pub(crate) fn voters(text: &str) -> Parsed<Voters> {
    let (ids, quorums) = text.split_once("elect").map_or((text, None), |(ids, rest)| (ids, Some(rest)));
    let weighted = ids.split_whitespace().map(weighted).collect::<Parsed<Vec<_>>>()?;
    let quorums = match quorums {
        Some(text) => {
            let (election, commit) = text.split_once("commit").ok_or("elect A commit B")?;
            let (election_votes, commit_votes) = (election.trim().parse()?, commit.trim().parse()?);
            Some(Quorums { election_votes, commit_votes })
        }
        None => None,
    };
    Ok(Voters::weighted(weighted).with_quorums(quorums))
}

fn weighted(word: &str) -> Parsed<(NodeId, u32)> {
    let (id, votes) = word.split_once('×').unwrap_or((word, "1"));
    Ok((node_id(id)?, votes.parse()?))
}

/// `4`, `5!`, `5!×2`: a learner, and what becomes of it.
fn learner(word: &str) -> Parsed<(NodeId, Learner)> {
    if !word.contains('!') {
        return Ok((node_id(word)?, Learner::Waits));
    }
    let (id, votes) = weighted(&word.replace('!', ""))?;
    Ok((id, Learner::Joins { votes }))
}

/// `{n1 n2 & n3 + n4 n5!}`: the voters, the old voters, the learners.
pub(crate) fn configuration(text: &str) -> Parsed<Configuration> {
    let inside = text.trim().trim_start_matches('{').trim_end_matches('}');
    let (all_voters, learners) = inside.split_once('+').unwrap_or((inside, ""));
    let (new, old) = all_voters.split_once('&').unwrap_or((all_voters, ""));
    let old = voters(old)?;
    Ok(Configuration {
        voters: voters(new)?,
        old_voters: (!old.is_empty()).then_some(old),
        learners: learners.split_whitespace().map(learner).collect::<Parsed<BTreeMap<_, _>>>()?,
    })
}

/// `7@2`: index and term.
pub(crate) fn entry_id(text: &str) -> Parsed<EntryId> {
    let (index, term) = text.split_once('@').ok_or("an entry is named index@term")?;
    Ok(EntryId { index: Index(index.parse()?), term: Term(term.parse()?) })
}

/// `7@2`, `7@2=x`, `7@2={n1 n2}`.
pub(crate) fn entry(text: &str) -> Parsed<Entry> {
    let Some((id, payload)) = text.split_once('=') else {
        return Ok(Entry { id: entry_id(text)?, payload: Payload::Empty });
    };
    let payload = if payload.starts_with('{') {
        Payload::Configuration(configuration(payload)?)
    } else {
        Payload::Command(payload.to_string().into())
    };
    Ok(Entry { id: entry_id(id)?, payload })
}

/// Entries with spaces between them.
pub(crate) fn entries(text: &str) -> Parsed<Vec<Entry>> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match words.last_mut() {
            // A configuration has spaces of its own.
            Some(open) if open.contains('{') && !open.contains('}') => {
                open.push(' ');
                open.push_str(word);
            }
            Some(_) | None => words.push(word.to_string()),
        }
    }
    words.iter().map(|word| entry(word)).collect()
}

/// `1 1 4`: a log of blank entries of these terms from index 1 on, as the paper draws it.
pub(crate) fn entries_of_terms(text: &str) -> Parsed<Vec<Entry>> {
    let mut entries = Vec::new();
    for (position, term) in text.split_whitespace().enumerate() {
        let id = EntryId { index: Index(position as u64 + 1), term: Term(term.parse()?) };
        entries.push(Entry { id, payload: Payload::Empty });
    }
    Ok(entries)
}

/// A message that a script invents.
pub(crate) fn envelope(text: &str) -> Parsed<Envelope> {
    let (from, rest) = text.split_once(" → ").ok_or("a message is written n1@3 → n2 …")?;
    let (to, rest) = rest.split_once(' ').ok_or("a message says something")?;
    let (from, term) = from.split_once('@').ok_or("the sender names its term: n1@3")?;
    let message = message(rest)?;
    Ok(Envelope { from: node_id(from)?, to: node_id(to)?, term: Term(term.parse()?), message })
}

fn message(text: &str) -> Parsed<Message> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        ["AppendEntries", ..] => append_entries(text),
        ["Heartbeat", "commit", commit, "round", round] => {
            let (commit_index, round) = (Index(commit.parse()?), Round(round.parse()?));
            Ok(Message::Heartbeat { commit_index, round })
        }
        ["HeartbeatReply", "round", round] => Ok(Message::HeartbeatReply { round: Round(round.parse()?) }),
        ["RequestVote", "last", last] => {
            Ok(Message::RequestVote { last: entry_id(last)?, leadership_transfer: false })
        }
        ["RequestVote", "last", last, "transfer"] => {
            Ok(Message::RequestVote { last: entry_id(last)?, leadership_transfer: true })
        }
        ["PreVoteReply", "for", term, "granted"] => {
            Ok(Message::PreVoteReply { proposed_term: Term(term.parse()?), granted: true })
        }
        ["ReadIndex", read] => Ok(Message::ReadIndex { read: ReadId(read.trim_start_matches('r').parse()?) }),
        ["TimeoutNow"] => Ok(Message::TimeoutNow),
        _ => Err(format!("no script has needed to invent this yet: {text}").into()),
    }
}

fn append_entries(text: &str) -> Parsed<Message> {
    let malformed = "an append is written AppendEntries 0@0 [1@1] commit 0";
    let rest = text.strip_prefix("AppendEntries ").ok_or(malformed)?;
    let (prev, rest) = rest.split_once(" [").ok_or(malformed)?;
    let (inside, commit) = rest.split_once("] commit ").ok_or(malformed)?;
    let slice = LogSlice::parse(entry_id(prev)?, entries(inside)?)?;
    Ok(Message::AppendEntries { slice, leader_commit: Index(commit.parse()?) })
}

//! Changes of the members (paper §6; SOURCES C1–C3): one at a time, each by way of the joint configuration,
//! and everybody goes by the newest configuration in its log, committed or not.
//!
//! From the committed log alone it can be seen that consecutive configurations have majorities that meet:
//! C-old, C-old,new with the very same old voters, C-new with the very same new ones.

use tenure_raft::{
    Configuration, Entry, EntryId, Envelope, Index, Message, Node, NodeId, Payload, Snapshot, Voters,
};

use super::log_matching::LogMatching;
use super::{Verdict, require};

const JUDGE: &str = "one change at a time";
const DONE: &str = "a change that is done was made";
const QUORUMS: &str = "quorums meet";
const SNAPSHOT: &str = "a snapshot has its own configuration";
const ONCE: &str = "an id is used once";
const IN_FORCE: &str = "the newest configuration in the log";

/// The configurations that were committed.
#[derive(Debug)]
pub(crate) struct Membership {
    newest: Configuration,
    /// All of them, from the first on, each with the index of its entry.
    history: Vec<(Index, Configuration)>,
    /// Whether a member that has gone may never come back under its id, as on the service.
    ids_are_used_once: bool,
}

impl Membership {
    pub(crate) fn new(first: Configuration, ids_are_used_once: bool) -> Membership {
        Membership { history: vec![(Index(0), first.clone())], newest: first, ids_are_used_once }
    }

    /// A leader begins a change only when it has committed an entry of its own term, `first_of_term` or a later one
    /// (Ongaro, raft-dev, 10 July 2015, "bug in single-server membership changes"; SOURCES C1). To end a change whose
    /// beginning is committed is no beginning.
    pub(crate) fn on_send(envelope: &Envelope, first_of_term: Option<Index>, committed: Index) -> Verdict {
        let Message::AppendEntries { slice, .. } = &envelope.message else { return Ok(()) };
        let begins = |entry: &&Entry| {
            let is_joint =
                matches!(&entry.payload, Payload::Configuration(configuration) if configuration.is_joint());
            is_joint && entry.id.term == envelope.term
        };
        let is_in_time = first_of_term.is_some_and(|first| first <= committed);
        let early = slice.entries().iter().find(begins).filter(|_| !is_in_time);
        require(JUDGE, early.is_none(), || {
            let id = early.map(|entry| entry.id).unwrap_or_default();
            format!("{} begins a change at {id}, and no entry of its term is committed", envelope.from)
        })
    }

    /// All that were committed, from the first on.
    pub(crate) fn history(&self) -> &[(Index, Configuration)] {
        &self.history
    }

    /// The newest that is committed.
    pub(crate) fn newest(&self) -> &Configuration {
        &self.newest
    }

    /// An entry is committed; entries come in order, each once.
    pub(crate) fn on_committed(&mut self, id: EntryId, payload: &Payload) -> Verdict {
        let Payload::Configuration(next) = payload else { return Ok(()) };
        let voters_before = &self.newest.voters;
        let follows = match (&self.newest.old_voters, &next.old_voters) {
            // A change begins, from the voters there are.
            (None, Some(old_voters)) => old_voters == voters_before,
            // Only learners come and go, or a change ends with the voters that it was for.
            (None | Some(_), None) => next.voters == *voters_before,
            (Some(_), Some(_)) => false,
        };
        require(JUDGE, follows, || format!("{} is followed by {next} at {id}", self.newest))?;
        let meets = next.halves().all(quorums_meet);
        require(QUORUMS, meets, || format!("two quorums of {next} at {id} can decide apart"))?;
        let is_back = |id: NodeId| !self.newest.is_member(id) && self.was_member(id);
        let back = next.members().find(|&id| self.ids_are_used_once && is_back(id));
        require(ONCE, back.is_none(), || {
            format!("{back:?} has been a member before, and is one again at {id}")
        })?;
        self.newest = next.clone();
        self.history.push((id.index, next.clone()));
        Ok(())
    }

    /// A snapshot says what the members were at its last entry.
    pub(crate) fn on_snapshot(&self, member: NodeId, snapshot: &Snapshot) -> Verdict {
        let at = snapshot.last_included.index;
        let Some((since, then)) = self.history.iter().rfind(|(index, _)| *index <= at) else { return Ok(()) };
        // The first configuration is no entry: who joins later knows no members until it has heard of a change.
        let has_not_heard = *since == Index(0) && snapshot.configuration.voters.is_empty();
        require(SNAPSHOT, has_not_heard || *then == snapshot.configuration, || {
            format!("{member} has a snapshot at {at} with {}, not {then}", snapshot.configuration)
        })
    }

    /// Whether any of them has named this member.
    pub(crate) fn was_member(&self, id: NodeId) -> bool {
        self.history.iter().any(|(_, configuration)| configuration.is_member(id))
    }

    /// A member that has applied the log up to `applied` says that what somebody asked for, when it was committed up
    /// to `asked`, is done: it must have held at some time in between.
    pub(crate) fn on_changed(
        &self,
        member: NodeId,
        asked: Index,
        applied: Index,
        holds: &dyn Fn(&Configuration) -> bool,
    ) -> Verdict {
        let in_force_then = self.history.iter().rposition(|(index, _)| *index <= asked).unwrap_or(0);
        let mut since = self.history[in_force_then..].iter().take_while(|(index, _)| *index <= applied);
        let was_so = since.any(|(_, configuration)| holds(configuration));
        require(DONE, was_so, || {
            format!(
                "{member} says that a change is done, and since it was asked for it was not: {}",
                self.newest
            )
        })
    }

    /// A member goes by `configuration`: it must be the newest in its log. Answers whether that could be seen:
    /// what a leader has just made, nobody knows before it is sent or written.
    pub(crate) fn on_in_force(
        node: &Node,
        configuration: &Configuration,
        entries: &LogMatching,
    ) -> Verdict<bool> {
        let log = node.log();
        let mut expected = &log.snapshot().configuration;
        for index in (log.snapshot().last_included.index.0 + 1..=log.last_index().0).rev().map(Index) {
            let term = log.term_at(index).unwrap_or_default();
            match entries.payload_of(EntryId::new(index, term)) {
                None => return Ok(false),
                Some(Payload::Empty | Payload::Command(_)) => {}
                Some(Payload::Configuration(found)) => {
                    expected = found;
                    break;
                }
            }
        }
        require(IN_FORCE, configuration == expected, || {
            format!("{} goes by {configuration}, and in its log is {expected}", node.id())
        })?;
        Ok(true)
    }
}

/// Whether any two quorums that elect have a voter in common, and so has each with any that commits (SOURCES Q5).
fn quorums_meet(voters: &Voters) -> bool {
    let all: u64 = voters.iter().map(|(_, votes)| u64::from(votes)).sum();
    let apart = |one: u64, other: u64| one + other <= all;
    voters.quorums().is_none_or(|quorums| {
        !apart(quorums.election_votes, quorums.election_votes)
            && !apart(quorums.election_votes, quorums.commit_votes)
    })
}

#[cfg(test)]
mod tests {
    use tenure_raft::{LogSlice, Term};

    use super::*;

    fn voters(ids: &[u64]) -> Voters {
        Voters::of(ids.iter().filter_map(|&id| NodeId::new(id)))
    }

    fn joint(new: &[u64], old: &[u64]) -> Configuration {
        Configuration { old_voters: Some(voters(old)), ..plain(new) }
    }

    fn plain(ids: &[u64]) -> Configuration {
        Configuration { voters: voters(ids), ..Configuration::default() }
    }

    fn committed(configurations: &[Configuration]) -> Verdict {
        let mut membership = Membership::new(plain(&[1, 2, 3]), true);
        configurations.iter().zip(1..).try_for_each(|(configuration, index)| {
            let payload = Payload::Configuration(configuration.clone());
            membership.on_committed(EntryId::new(Index(index), Term(1)), &payload)
        })
    }

    #[test]
    fn a_change_that_is_called_done_and_was_not_made_is_seen() {
        let mut membership = Membership::new(plain(&[1, 2, 3]), true);
        let steps = [joint(&[1, 2], &[1, 2, 3]), plain(&[1, 2])];
        for (configuration, index) in steps.into_iter().zip([4, 5]) {
            let payload = Payload::Configuration(configuration);
            membership.on_committed(EntryId::new(Index(index), Term(1)), &payload).unwrap();
        }
        let [member, gone] = [1, 3].map(|id| NodeId::new(id).unwrap());
        let done = |asked, id: NodeId| {
            membership
                .on_changed(member, Index(asked), Index(9), &|configuration| !configuration.is_member(id))
        };
        done(3, gone).unwrap();
        done(9, gone).unwrap();
        let too_early = membership.on_changed(member, Index(3), Index(4), &|it| !it.is_member(gone));
        assert_eq!(too_early.unwrap_err().judge, DONE);
        assert_eq!(done(3, member).unwrap_err().judge, DONE);
        assert!(membership.was_member(gone) && !membership.was_member(NodeId::new(4).unwrap()));
    }

    #[test]
    fn a_change_without_its_joint_configuration_is_seen() {
        committed(&[joint(&[1, 4], &[1, 2, 3]), plain(&[1, 4]), joint(&[4], &[1, 4]), plain(&[4])]).unwrap();
        for wrong in [
            vec![plain(&[1, 4])],
            vec![joint(&[1, 4], &[1, 2])],
            vec![joint(&[1, 4], &[1, 2, 3]), plain(&[1, 2, 3])],
            vec![joint(&[1, 4], &[1, 2, 3]), joint(&[4], &[1, 4])],
        ] {
            assert_eq!(committed(&wrong).unwrap_err().judge, JUDGE);
        }
        let back = [joint(&[1], &[1, 2, 3]), plain(&[1]), joint(&[1, 2], &[1])];
        assert_eq!(committed(&back).unwrap_err().judge, ONCE);
    }

    #[test]
    fn a_change_before_its_time_is_seen() {
        let [leader, follower] = [1, 2].map(|id| NodeId::new(id).unwrap());
        let sent = |configuration: Configuration, committed: u64| {
            let id = EntryId::new(Index(7), Term(3));
            let entry = Entry { id, payload: Payload::Configuration(configuration) };
            let slice = LogSlice::parse(EntryId::new(Index(6), Term(3)), vec![entry]).unwrap();
            let message = Message::AppendEntries { slice, leader_commit: Index(committed) };
            let envelope = Envelope { from: leader, to: follower, term: Term(3), message };
            Membership::on_send(&envelope, Some(Index(5)), Index(committed))
        };
        sent(joint(&[1], &[1, 2]), 5).unwrap();
        assert_eq!(sent(joint(&[1], &[1, 2]), 4).unwrap_err().judge, JUDGE);
        sent(plain(&[1]), 4).unwrap();
    }
}

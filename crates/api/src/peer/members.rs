//! Members, and changes of them, as frames have them.

use tenure_raft::Learner;
use tenure_replica::{ChangeAnswer, ChangeMembers, ChangeRefusal, MemberChange, MembersChanged, RequestId};

use super::decode::{index, node_id};
use super::{DecodeError, MemberAddress, Members};
use crate::pb::peer as pb;

pub(super) fn members(members: &Members) -> pb::Members {
    let address = |member: &MemberAddress| pb::MemberAddress {
        id: member.id.as_u64(),
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
    };
    pb::Members { cluster_id: members.cluster_id, members: members.members.iter().map(address).collect() }
}

pub(super) fn parse_members(members: pb::Members) -> Result<Members, DecodeError> {
    let pb::Members { cluster_id, members } = members;
    let address = |member: pb::MemberAddress| {
        Ok(MemberAddress { id: node_id(member.id)?, name: member.name, peer_urls: member.peer_urls })
    };
    let members = members.into_iter().map(address).collect::<Result<_, DecodeError>>()?;
    Ok(Members { cluster_id, members })
}

pub(super) fn change_members(asked: &ChangeMembers) -> pb::ChangeMembers {
    use pb::change_members::Change;
    let change = match &asked.change {
        MemberChange::Add { id, peer_urls, learner } => {
            let votes = match *learner {
                Learner::Waits => 0,
                Learner::Joins { votes } => votes,
            };
            Change::Add(pb::AddMember { id: id.as_u64(), peer_urls: peer_urls.clone(), votes })
        }
        MemberChange::Remove { id } => Change::Remove(pb::RemoveMember { id: id.as_u64() }),
        MemberChange::Update { id, peer_urls } => {
            Change::Update(pb::UpdateMember { id: id.as_u64(), peer_urls: peer_urls.clone() })
        }
        MemberChange::Promote { id, votes, replaces } => Change::Promote(pb::PromoteMember {
            id: id.as_u64(),
            votes: *votes,
            replaces: replaces.map(tenure_raft::NodeId::as_u64),
        }),
    };
    let (boot, number, force) = (asked.boot, asked.number.0, asked.force);
    pb::ChangeMembers { boot, number, force, change: Some(change) }
}

pub(super) fn parse_change_members(asked: pb::ChangeMembers) -> Result<ChangeMembers, DecodeError> {
    use pb::change_members::Change;
    let change = match asked.change.ok_or(DecodeError::Missing("a change of the members"))? {
        Change::Add(add) => {
            let learner = if add.votes == 0 { Learner::Waits } else { Learner::Joins { votes: add.votes } };
            MemberChange::Add { id: node_id(add.id)?, peer_urls: add.peer_urls, learner }
        }
        Change::Remove(remove) => MemberChange::Remove { id: node_id(remove.id)? },
        Change::Update(update) => {
            MemberChange::Update { id: node_id(update.id)?, peer_urls: update.peer_urls }
        }
        Change::Promote(promote) => {
            let pb::PromoteMember { id, votes, replaces } = promote;
            // Without a vote it would be no member at all.
            if votes == Some(0) {
                return Err(DecodeError::OutOfRange("a number of votes"));
            }
            MemberChange::Promote { id: node_id(id)?, votes, replaces: replaces.map(node_id).transpose()? }
        }
    };
    Ok(ChangeMembers { boot: asked.boot, number: RequestId(asked.number), change, force: asked.force })
}

pub(super) fn members_changed(changed: &MembersChanged) -> pb::MembersChanged {
    use pb::members_changed::Answer;
    let answer = match &changed.answer {
        ChangeAnswer::Done(index) => Answer::Done(index.0),
        ChangeAnswer::Refused(why) => Answer::Refused(refusal(why)),
    };
    pb::MembersChanged { boot: changed.boot, number: changed.number.0, answer: Some(answer) }
}

fn refusal(why: &ChangeRefusal) -> pb::ChangeRefused {
    use pb::change_refused::Reason;
    let only = |reason: Reason| pb::ChangeRefused { reason: reason.into(), ..pb::ChangeRefused::default() };
    match why {
        ChangeRefusal::MemberNotFound => only(Reason::MemberNotFound),
        ChangeRefusal::PeerUrlExists => only(Reason::PeerUrlExists),
        ChangeRefusal::NotALearner => only(Reason::NotALearner),
        ChangeRefusal::NotCaughtUp => only(Reason::NotCaughtUp),
        ChangeRefusal::TooManyLearners => only(Reason::TooManyLearners),
        ChangeRefusal::NoVoters => only(Reason::NoVoters),
        &ChangeRefusal::WouldLoseQuorum { needed, of, reachable } => {
            pb::ChangeRefused { needed, of, reachable, ..only(Reason::WouldLoseQuorum) }
        }
        ChangeRefusal::Unsafe { why } => pb::ChangeRefused { why: why.clone(), ..only(Reason::Unsafe) },
    }
}

pub(super) fn parse_members_changed(changed: pb::MembersChanged) -> Result<MembersChanged, DecodeError> {
    use pb::members_changed::Answer;
    let answer = match changed.answer.ok_or(DecodeError::Missing("the answer to a change"))? {
        Answer::Done(at) => ChangeAnswer::Done(index(at)?),
        Answer::Refused(refused) => ChangeAnswer::Refused(parse_refusal(refused)?),
    };
    Ok(MembersChanged { boot: changed.boot, number: RequestId(changed.number), answer })
}

fn parse_refusal(refused: pb::ChangeRefused) -> Result<ChangeRefusal, DecodeError> {
    use pb::change_refused::Reason;
    let reason = refused.reason();
    let pb::ChangeRefused { reason: _, needed, of, reachable, why } = refused;
    Ok(match reason {
        Reason::Unspecified => return Err(DecodeError::Missing("the reason of a refusal")),
        Reason::MemberNotFound => ChangeRefusal::MemberNotFound,
        Reason::PeerUrlExists => ChangeRefusal::PeerUrlExists,
        Reason::NotALearner => ChangeRefusal::NotALearner,
        Reason::NotCaughtUp => ChangeRefusal::NotCaughtUp,
        Reason::TooManyLearners => ChangeRefusal::TooManyLearners,
        Reason::NoVoters => ChangeRefusal::NoVoters,
        Reason::WouldLoseQuorum => ChangeRefusal::WouldLoseQuorum { needed, of, reachable },
        Reason::Unsafe => ChangeRefusal::Unsafe { why },
    })
}

//! Members that come and go, as clients ask for it at any member.

use tenure_raft::{AppendReply, Configuration, Envelope, Learner, Message, RoleKind};
use tenure_replica::{ChangeRefusal, MemberChange, Options, PeerMessage, Reply};
use tenure_store::Member;

use crate::harness::{Cluster, Disks, id};

fn url(number: u64) -> Vec<String> {
    vec![format!("http://{number}")]
}

fn add(number: u64, learner: Learner) -> MemberChange {
    MemberChange::Add { id: id(number), peer_urls: url(number), learner }
}

fn remove(number: u64) -> MemberChange {
    MemberChange::Remove { id: id(number) }
}

fn promote(number: u64, replaces: Option<u64>) -> MemberChange {
    MemberChange::Promote { id: id(number), votes: None, replaces: replaces.map(id) }
}

const JOINS: Learner = Learner::Joins { votes: 1 };

/// Asks for a change, and waits for the answer.
fn change(cluster: &mut Cluster, at: u64, change: MemberChange, force: bool) -> Result<(), ChangeRefusal> {
    let request = cluster.change_members(at, change, force);
    match cluster.await_reply(at, request) {
        Reply::Changed { .. } => Ok(()),
        Reply::Refused(why) => Err(why),
        other => panic!("{other:?}"),
    }
}

fn shows(cluster: &Cluster, at: u64) -> String {
    cluster.members[&at].replica.applied_configuration().to_string()
}

fn await_configuration(cluster: &mut Cluster, wanted: &str) {
    cluster.run_until(wanted, |cluster| cluster.members.keys().all(|&at| shows(cluster, at) == wanted));
}

fn put(cluster: &mut Cluster, at: u64, key: &str) {
    let request = cluster.put(at, key, "value");
    assert!(matches!(cluster.await_reply(at, request), Reply::Applied { result: Ok(_), .. }), "{key}");
}

fn follower_of(leader: u64) -> u64 {
    leader % 3 + 1
}

/// A cluster of three that knows itself by addresses.
fn cluster() -> (Cluster, u64) {
    let mut cluster = Cluster::new(Options::default());
    introduce(&mut cluster);
    let leader = cluster.await_leader();
    (cluster, leader)
}

/// Each says what its flags say.
fn introduce(cluster: &mut Cluster) {
    for (&number, member) in &mut cluster.members {
        let known = |number| Member { id: number, peer_urls: url(number), ..Member::default() };
        member.replica.introduce((1..=3).map(known).collect());
        member.replica.publish(Member {
            name: format!("m{number}"),
            directory_id: Some(number),
            ..known(number)
        });
    }
}

#[test]
fn where_all_first_members_are_reached_is_known_before_anybody_is_added() {
    // One address at a time may wait to be committed.
    let raft = tenure_raft::Options { max_uncommitted_bytes: 1, ..tenure_raft::Options::default() };
    let mut cluster = Cluster::new(Options { raft, ..Options::default() });
    for member in cluster.members.values_mut() {
        let known = |number| Member { id: number, peer_urls: url(number), ..Member::default() };
        member.replica.introduce((1..=3).map(known).collect());
    }
    let leader = cluster.await_leader();
    let taken = MemberChange::Add { id: id(4), peer_urls: url(3), learner: JOINS };
    assert_eq!(change(&mut cluster, leader, taken, false), Err(ChangeRefusal::PeerUrlExists));
    assert_eq!(change(&mut cluster, leader, add(4, JOINS), false), Ok(()));
}

#[test]
fn a_member_that_is_added_joins_and_votes_when_it_has_caught_up() {
    let (mut cluster, leader) = cluster();
    put(&mut cluster, leader, "before");
    let at = follower_of(leader);
    assert_eq!(change(&mut cluster, at, add(4, JOINS), false), Ok(()));
    assert_eq!(shows(&cluster, at), "{n1 n2 n3 + n4!}", "the one that was asked has applied it");
    let known = cluster.members[&at].replica.store().member(4).cloned();
    assert_eq!(known.map(|member| member.peer_urls), Some(url(4)));
    // It does not run yet: nobody waits for its vote.
    put(&mut cluster, at, "during");
    cluster.boot(4, Disks::default()).unwrap();
    await_configuration(&mut cluster, "{n1 n2 n3 n4}");
    assert_eq!(cluster.get(4, "before").as_deref(), Some("value"));
    put(&mut cluster, 4, "after");
    cluster.assert_equal_states();
}

#[test]
fn a_member_joins_by_a_snapshot_where_the_log_is_gone() {
    let options = Options { checkpoint_entries: 10, catch_up_entries: 2, ..Options::default() };
    let mut cluster = Cluster::new(options);
    let leader = cluster.await_leader();
    for number in 0..40 {
        put(&mut cluster, leader, &format!("key {number}"));
    }
    assert_eq!(change(&mut cluster, leader, add(4, JOINS), false), Ok(()));
    cluster.boot(4, Disks::default()).unwrap();
    await_configuration(&mut cluster, "{n1 n2 n3 n4}");
    cluster.restart(4);
    cluster.await_leader();
    cluster.assert_equal_states();
}

#[test]
fn a_learner_waits_to_be_promoted_and_is_refused_before_it_has_caught_up() {
    let (mut cluster, leader) = cluster();
    let at = follower_of(leader);
    assert_eq!(change(&mut cluster, at, add(4, Learner::Waits), false), Ok(()));
    assert_eq!(change(&mut cluster, at, add(5, Learner::Waits), false), Err(ChangeRefusal::TooManyLearners));
    assert_eq!(change(&mut cluster, at, promote(4, None), false), Err(ChangeRefusal::NotCaughtUp));
    assert_eq!(change(&mut cluster, at, promote(9, None), false), Err(ChangeRefusal::MemberNotFound));
    assert_eq!(change(&mut cluster, at, promote(leader, None), false), Err(ChangeRefusal::NotALearner));
    cluster.boot(4, Disks::default()).unwrap();
    cluster.run_until("the learner has caught up", |cluster| {
        cluster.members[&leader].replica.node().is_caught_up(id(4))
    });
    assert_eq!(shows(&cluster, leader), "{n1 n2 n3 + n4}", "it stays a learner");
    assert_eq!(change(&mut cluster, at, promote(4, None), false), Ok(()));
    await_configuration(&mut cluster, "{n1 n2 n3 n4}");
}

#[test]
fn a_removed_member_is_known_no_more_and_its_id_is_never_used_again() {
    let (mut cluster, leader) = cluster();
    let (at, gone) = (leader, follower_of(leader));
    assert_eq!(change(&mut cluster, at, remove(gone), false), Ok(()));
    let store = cluster.members[&at].replica.store();
    assert_eq!((store.member(gone), store.is_removed(gone)), (None, true));
    assert_eq!(change(&mut cluster, at, remove(gone), false), Err(ChangeRefusal::MemberNotFound));
    assert_eq!(change(&mut cluster, at, add(gone, JOINS), false), Err(ChangeRefusal::MemberNotFound));
    cluster.members.remove(&gone);
    put(&mut cluster, at, "after");
    cluster.assert_equal_states();
}

#[test]
fn c4_a_leader_that_is_asked_to_remove_itself_answers_and_another_one_leads() {
    for ask_the_leader in [true, false] {
        let (mut cluster, leader) = cluster();
        let at = if ask_the_leader { leader } else { follower_of(leader) };
        assert_eq!(change(&mut cluster, at, remove(leader), false), Ok(()));
        cluster.run_until("the removed one knows", |cluster| cluster.members[&leader].replica.is_removed());
        cluster.members.remove(&leader);
        let next = cluster.await_leader();
        assert_ne!(next, leader);
        put(&mut cluster, next, "after");
        cluster.assert_equal_states();
    }
}

#[test]
fn one_member_takes_the_place_of_another_in_one_step() {
    let (mut cluster, leader) = cluster();
    let (at, old) = (follower_of(leader), follower_of(follower_of(leader)));
    assert_eq!(change(&mut cluster, at, add(4, Learner::Waits), false), Ok(()));
    cluster.boot(4, Disks::default()).unwrap();
    cluster.run_until("the learner has caught up", |cluster| {
        cluster.members[&leader].replica.node().is_caught_up(id(4))
    });
    assert_eq!(change(&mut cluster, at, promote(4, Some(old)), false), Ok(()));
    cluster.members.remove(&old);
    let others = [at, leader, 4];
    await_configuration(&mut cluster, &Configuration::of_voters(others.map(id)).to_string());
    put(&mut cluster, 4, "after");
    cluster.assert_equal_states();
}

/// The old leader may have begun the change or not: its successor is asked, and there the change is done or begun
/// anew. It is answered once, and done once.
#[test]
fn a_change_outlives_the_leader_that_was_asked_for_it() {
    for ticks_before in 0..4 {
        let (mut cluster, leader) = cluster();
        let at = follower_of(leader);
        let request = cluster.change_members(at, add(4, JOINS), false);
        for _ in 0..ticks_before {
            cluster.tick();
        }
        cluster.cut_off = Some(leader);
        assert!(matches!(cluster.await_reply(at, request), Reply::Changed { .. }), "after {ticks_before}");
        cluster.cut_off = None;
        cluster.boot(4, Disks::default()).unwrap();
        await_configuration(&mut cluster, "{n1 n2 n3 n4}");
        cluster.assert_equal_states();
    }
}

#[test]
fn a_request_that_is_lost_on_the_way_is_made_again() {
    let (mut cluster, leader) = cluster();
    let mut left_to_lose = 4;
    cluster.network = Box::new(move |_, _, message| match message {
        PeerMessage::ChangeMembers(_) | PeerMessage::MembersChanged(_) if left_to_lose > 0 => {
            left_to_lose -= 1;
            0
        }
        // Doubled, too.
        PeerMessage::ChangeMembers(_) | PeerMessage::MembersChanged(_) => 2,
        PeerMessage::Raft(_)
        | PeerMessage::Forward(_)
        | PeerMessage::ForwardRefused(_)
        | PeerMessage::Room { .. }
        | PeerMessage::Acknowledged(_)
        | PeerMessage::ForwardQuestion(_)
        | PeerMessage::ForwardLacked(_) => 1,
    });
    let gone = follower_of(leader);
    let at = follower_of(gone);
    assert_eq!(change(&mut cluster, at, remove(gone), false), Ok(()));
}

/// A cluster of three of which the third is dead, and its leader knows it.
fn cluster_with_a_dead_member() -> (Cluster, [u64; 3]) {
    let (mut cluster, leader) = cluster();
    let dead = follower_of(leader);
    let alive = follower_of(dead);
    cluster.cut_off = Some(dead);
    cluster.run_until("the dead one is noticed", |cluster| {
        let target = Configuration::of_voters([id(leader), id(dead)]);
        let mut probe = cluster.members[&leader].replica.node().clone();
        probe.change_membership(cluster.now, &target, false).is_err()
    });
    (cluster, [leader, alive, dead])
}

#[test]
fn a_change_that_leaves_too_few_who_answer_is_refused_with_the_numbers_unless_it_is_forced() {
    let (mut cluster, [leader, alive, _]) = cluster_with_a_dead_member();
    let refused = ChangeRefusal::WouldLoseQuorum { needed: 2, of: 2, reachable: 1 };
    assert_eq!(change(&mut cluster, leader, remove(alive), false), Err(refused));
    let request = cluster.change_members(leader, remove(alive), true);
    cluster.tick();
    assert!(cluster.members[&leader].replica.node().configuration().is_joint(), "forced");
    assert!(!cluster.members[&leader].replies.contains_key(&request), "but not done");
    cluster.cut_off = None;
    assert!(matches!(cluster.await_reply(leader, request), Reply::Changed { .. }), "somebody came back");
}

#[test]
fn a_dead_member_can_go_so_that_two_are_left_who_decide() {
    let (mut cluster, [leader, alive, dead]) = cluster_with_a_dead_member();
    assert_eq!(change(&mut cluster, leader, remove(dead), false), Ok(()));
    put(&mut cluster, alive, "decided");
}

#[test]
fn a_learner_that_goes_while_voters_change_is_remembered_as_removed() {
    let (mut cluster, leader) = cluster();
    assert_eq!(change(&mut cluster, leader, add(4, Learner::Waits), false), Ok(()));
    let gone = follower_of(leader);
    let target = Configuration::of_voters((1..=3).filter(|&number| number != gone).map(id));
    let now = cluster.now;
    let member = cluster.members.get_mut(&leader).unwrap();
    member.replica.change_membership(now, &target, false).unwrap();
    cluster.run_until("both are gone", |cluster| {
        let store = cluster.members[&leader].replica.store();
        store.is_removed(gone) && store.is_removed(4)
    });
}

#[test]
fn where_a_member_is_reached_can_change_and_no_two_share_an_address() {
    let (mut cluster, leader) = cluster();
    let (at, other) = (follower_of(leader), leader);
    let update = |to: u64| MemberChange::Update { id: id(at), peer_urls: url(to) };
    assert_eq!(change(&mut cluster, at, update(9), false), Ok(()));
    let known = cluster.members[&at].replica.store().member(at).cloned();
    assert_eq!(known.map(|member| member.peer_urls), Some(url(9)), "and what is published does not undo it");
    assert_eq!(change(&mut cluster, at, update(other), false), Err(ChangeRefusal::PeerUrlExists));
    cluster.assert_equal_states();
}

#[test]
fn of_two_that_are_to_be_reached_at_one_address_one_is() {
    let (mut cluster, leader) = cluster();
    let update = |number| MemberChange::Update { id: id(number), peer_urls: url(9) };
    let asked = [1, 2].map(|number| cluster.change_members(leader, update(number), false));
    let replies = asked.map(|request| cluster.await_reply(leader, request));
    let made = replies.iter().filter(|reply| matches!(reply, Reply::Changed { .. })).count();
    let is_refused = |reply: &&Reply| matches!(reply, Reply::Refused(ChangeRefusal::PeerUrlExists));
    let refused = replies.iter().filter(is_refused).count();
    assert_eq!((made, refused), (1, 1), "{replies:?}");
}

/// A leader that does not know yet that another one leads knows how things were, and not how they are.
#[test]
fn a_deposed_leader_does_not_say_that_what_was_so_once_is_done() {
    let (mut cluster, old) = cluster();
    let new = follower_of(old);
    put(&mut cluster, old, "all are equal");
    cluster.tick();
    cluster.network = Box::new(move |_, to, _| usize::from(to != old));
    let now = cluster.now;
    cluster.members.get_mut(&old).unwrap().replica.transfer_leadership(now, Some(id(new))).unwrap();
    cluster.run_until("another leads", |cluster| {
        cluster.members[&new].replica.node().role() == RoleKind::Leader
    });
    let update = |to: u64| MemberChange::Update { id: id(old), peer_urls: url(to) };
    assert_eq!(change(&mut cluster, new, update(9), false), Ok(()));
    let request = cluster.change_members(old, update(old), false);
    cluster.tick();
    assert_eq!(cluster.members[&old].replica.node().role(), RoleKind::Leader, "it does not know");
    assert!(!cluster.members[&old].replies.contains_key(&request), "it was moved to another address");
    cluster.network = Box::new(|_, _, _| 1);
    assert!(matches!(cluster.await_reply(old, request), Reply::Changed { .. }));
    let known = cluster.members[&new].replica.store().member(old).cloned();
    assert_eq!(known.map(|member| member.peer_urls), Some(url(old)));
}

/// Its own removal is the last that it hears of, however much the leader has applied when it says that it is done.
#[test]
fn a_follower_that_is_asked_to_remove_itself_answers_under_load() {
    let (mut cluster, leader) = cluster();
    let gone = follower_of(leader);
    put(&mut cluster, leader, "all are equal");
    let other = follower_of(gone);
    // Without answers C-new, the second entry from here, is not committed: what comes meanwhile is committed, and
    // applied, together with it.
    let joint = cluster.members[&leader].replica.node().log().last_index().next();
    cluster.network = Box::new(move |_, to, message| {
        let is_late = matches!(message, PeerMessage::Raft(Envelope {
            message: Message::AppendEntriesReply(AppendReply::Accepted { match_index }), ..
        }) if *match_index > joint);
        usize::from(to != leader || !is_late)
    });
    let request = cluster.change_members(gone, MemberChange::Remove { id: id(gone) }, false);
    let wanted = Configuration::of_voters([id(leader), id(other)]);
    cluster.run_until("C-new is appended", |cluster| {
        cluster.members[&leader].replica.node().configuration() == &wanted
    });
    let last = (0..5).map(|number| {
        let put = cluster.put(leader, &format!("k{number}"), "value");
        cluster.tick();
        put
    });
    let last = last.last().unwrap();
    cluster.network = Box::new(move |from, to, _| usize::from((from, to) != (gone, leader)));
    cluster.await_reply(leader, last);
    cluster.run_until("it answers", |cluster| cluster.members[&gone].replies.contains_key(&request));
    assert!(matches!(cluster.members[&gone].replies[&request], Reply::Changed { .. }));
}

/// A leader that starts again leads before it has applied its log: what its flags say must not undo what stands
/// there.
#[test]
fn where_a_member_is_reached_is_not_undone_by_the_flags_of_a_later_start() {
    let (mut cluster, leader) = cluster();
    let at = follower_of(leader);
    let update = MemberChange::Update { id: id(at), peer_urls: url(9) };
    assert_eq!(change(&mut cluster, at, update, false), Ok(()));
    (1..=3).for_each(|number| cluster.restart(number));
    introduce(&mut cluster);
    let leader = cluster.await_leader();
    put(&mut cluster, leader, "k");
    let known = cluster.members[&leader].replica.store().member(at).cloned();
    assert_eq!(known.map(|member| member.peer_urls), Some(url(9)));
}

/// Nor what was asked for before there was a leader, which hears of it before it has said where the first members are
/// reached.
#[test]
fn where_a_member_is_reached_is_not_undone_by_the_flags_of_a_first_leader() {
    let mut cluster = Cluster::new(Options::default());
    introduce(&mut cluster);
    let update = |number| MemberChange::Update { id: id(number), peer_urls: url(10 + number) };
    let asked = [1, 2, 3].map(|at| (at, cluster.change_members(at, update(follower_of(at)), false)));
    let leader = cluster.await_leader();
    for (at, request) in asked {
        assert!(matches!(cluster.await_reply(at, request), Reply::Changed { .. }));
    }
    put(&mut cluster, leader, "k");
    for number in 1..=3 {
        let known = cluster.members[&leader].replica.store().member(number).cloned();
        assert_eq!(known.map(|member| member.peer_urls), Some(url(10 + number)));
    }
}

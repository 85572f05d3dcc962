//! Who is let in, and who is told what.

use std::thread::JoinHandle;

use tempfile::TempDir;
use tenure_replica::peers::PinnedPeers;
use tenure_store::Member;
use tenure_wal::RealDisk;

use super::*;

const STANDING: Standing = Standing { boot: 2, start_id: 22, began: EntryId::ZERO };
const OWN_STANDING: Standing = Standing { boot: 1, start_id: 11, began: EntryId::ZERO };

fn member(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

/// The gate of member 1 of cluster 7 with the members 2 and 3.
fn gate(folder: &TempDir) -> Gate {
    gate_and_keeper(folder).0
}

fn gate_and_keeper(folder: &TempDir) -> (Gate, JoinHandle<Result<(), String>>) {
    let identity = Identity { cluster_id: 7, member_id: member(1), directory_id: 10, boot: 1 };
    let disk = RealDisk::open(folder.path()).unwrap();
    let pins = PinnedPeers::load(&disk).unwrap();
    let (pins, keeper) = crate::pins::keep(disk, identity, pins);
    // It ends with the gate.
    let keeper = std::thread::spawn(move || keeper.run());
    let gate = Gate::new(identity, OWN_STANDING, vec!["http://own".into()], Roster::default(), pins);
    gate.update(roster(&[1, 2, 3], &[]));
    (gate, keeper)
}

fn roster(members: &[u64], removed: &[u64]) -> Roster {
    let known = |id: u64| Member { id, ..Member::default() };
    Roster {
        members: members.iter().map(|&id| (member(id), known(id))).collect(),
        removed: removed.iter().map(|&id| member(id)).collect(),
    }
}

fn handshake() -> Handshake {
    Handshake {
        protocol_version: PROTOCOL_VERSION,
        cluster_id: 7,
        from: member(2),
        to: member(1),
        directory_id: 20,
        lane: Lane::Urgent,
        peer_urls: Vec::new(),
        standing: STANDING,
    }
}

async fn refusal(gate: &Gate, handshake: &Handshake) -> HandshakeRefusal {
    match gate.answer(handshake).await.unwrap() {
        HandshakeReply::Refused { reason, .. } => reason,
        HandshakeReply::Accepted { .. } => panic!("{handshake:?} was accepted"),
    }
}

#[tokio::test]
async fn a_member_is_let_in_and_a_stranger_is_told_why_not() {
    let folder = TempDir::new().unwrap();
    let gate = gate(&folder);
    let accepted = HandshakeReply::Accepted { directory_id: 10, standing: OWN_STANDING };
    assert_eq!(gate.answer(&handshake()).await.unwrap(), accepted);
    for (wrong, reason) in [
        (Handshake { protocol_version: 2, ..handshake() }, HandshakeRefusal::ProtocolVersion),
        (Handshake { cluster_id: 8, ..handshake() }, HandshakeRefusal::Cluster),
        (Handshake { to: member(3), ..handshake() }, HandshakeRefusal::Member),
        (Handshake { directory_id: 21, ..handshake() }, HandshakeRefusal::Directory),
    ] {
        assert_eq!(refusal(&gate, &wrong).await, reason);
    }
    assert_eq!(gate.answer(&handshake()).await.unwrap(), accepted, "nothing of that was remembered");
}

#[tokio::test]
async fn a_peer_is_known_again_after_a_restart_and_in_both_directions() {
    let folder = TempDir::new().unwrap();
    gate(&folder).answer(&handshake()).await.unwrap();
    let gate = gate(&folder);
    assert!(matches!(gate.meet(member(2), 21, STANDING).await, Err(PinError::Changed(_))));
    assert!(gate.meet(member(2), 20, STANDING).await.is_ok());
    assert_eq!(
        refusal(&gate, &Handshake { directory_id: 21, ..handshake() }).await,
        HandshakeRefusal::Directory
    );
}

#[tokio::test]
async fn who_is_disowned_by_most_of_the_others_stops() {
    let folder = TempDir::new().unwrap();
    let gate = gate(&folder);
    let disown = |peer, reason| gate.on_refused(member(peer), reason, "its disk was emptied");
    assert_eq!(disown(2, HandshakeRefusal::Cluster), None);
    assert_eq!(disown(3, HandshakeRefusal::Cluster), None);
    assert_eq!(disown(2, HandshakeRefusal::Directory), None);
    assert_eq!(disown(2, HandshakeRefusal::Directory), None, "one peer counts once");
    assert!(disown(3, HandshakeRefusal::Directory).is_some());
}

/// This member may be behind: whom it does not know can be the one that has what it lacks.
#[tokio::test]
async fn only_who_was_removed_is_turned_away() {
    let folder = TempDir::new().unwrap();
    let gate = gate(&folder);
    let stranger = Handshake { from: member(4), directory_id: 40, ..handshake() };
    let accepted = HandshakeReply::Accepted { directory_id: 10, standing: OWN_STANDING };
    assert_eq!(gate.answer(&stranger).await.unwrap(), accepted);
    // A stranger is not pinned: anybody could fill the file.
    assert_eq!(gate.answer(&Handshake { directory_id: 41, ..stranger.clone() }).await.unwrap(), accepted);
    gate.update(roster(&[1, 2, 3, 4], &[]));
    assert_eq!(gate.answer(&stranger).await.unwrap(), accepted);
    assert_eq!(
        refusal(&gate, &Handshake { directory_id: 41, ..stranger.clone() }).await,
        HandshakeRefusal::Directory
    );
    gate.update(roster(&[1, 2, 3], &[4]));
    assert_eq!(refusal(&gate, &stranger).await, HandshakeRefusal::Removed);
    assert_eq!(gate.on_refused(member(2), HandshakeRefusal::Removed, "removed"), Some(Stop::Removed));
}

#[tokio::test]
async fn the_pins_of_the_removed_are_dropped() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("peers");
    let (gate, keeper) = gate_and_keeper(&folder);
    gate.answer(&handshake()).await.unwrap();
    let pinned = std::fs::metadata(&file).unwrap().len();
    gate.update(roster(&[1, 3], &[2]));
    // What is pinned next is written down behind it.
    gate.answer(&Handshake { from: member(3), directory_id: 30, ..handshake() }).await.unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().len(), pinned);
    drop(gate);
    keeper.join().unwrap().unwrap();
    let pins = PinnedPeers::load(&RealDisk::open(folder.path()).unwrap()).unwrap();
    assert_eq!([2, 3].map(|number| pins.is_pinned(member(number))), [false, true]);
}

#[tokio::test]
async fn the_directory_in_the_log_counts_like_a_pin() {
    let folder = TempDir::new().unwrap();
    let gate = gate(&folder);
    let mut roster = roster(&[1, 2, 3], &[]);
    roster.members.get_mut(&member(2)).unwrap().directory_id = Some(22);
    gate.update(roster);
    assert_eq!(refusal(&gate, &handshake()).await, HandshakeRefusal::Directory);
}

#[tokio::test]
async fn peers_are_told_where_this_member_is_reached() {
    let folder = TempDir::new().unwrap();
    let gate = gate(&folder);
    assert_eq!(gate.handshake(member(2), Lane::Bulk).peer_urls, ["http://own"]);
    let mut roster = roster(&[1, 2], &[]);
    roster.members.get_mut(&member(1)).unwrap().peer_urls = vec!["http://moved".into()];
    gate.update(roster);
    assert_eq!(gate.handshake(member(2), Lane::Bulk).peer_urls, ["http://moved"]);
}

#[tokio::test]
async fn a_directory_that_was_put_back_to_an_older_copy_is_turned_away_and_its_member_stops() {
    use tenure_raft::{Index, Term};
    let folder = TempDir::new().unwrap();
    let at = |term, index| EntryId { term: Term(term), index: Index(index) };
    let (first, keeper) = gate_and_keeper(&folder);
    first.answer(&handshake()).await.unwrap();
    first.note(vec![(member(2), at(3, 70))]);
    drop(first);
    keeper.join().unwrap().unwrap();
    // It is known again after a restart of the member that has seen it.
    let gate = gate(&folder);
    let start = |boot, began| Standing { boot, start_id: 11 * boot, began };
    let comes = |boot, began| Handshake { standing: start(boot, began), ..handshake() };
    let twice = Handshake { standing: Standing { start_id: 23, ..STANDING }, ..handshake() };
    for older in [twice, comes(1, at(3, 70)), comes(3, at(3, 69)), comes(3, at(2, 100))] {
        assert_eq!(refusal(&gate, &older).await, HandshakeRefusal::PutBack);
    }
    assert!(matches!(gate.answer(&comes(3, at(3, 70))).await.unwrap(), HandshakeReply::Accepted { .. }));
    let stop = gate.on_refused(member(3), HandshakeRefusal::PutBack, "put back").expect("one is enough");
    assert!(matches!(stop, Stop::Failed(why) if why.contains("put back")));
}

#[tokio::test]
async fn a_start_that_was_met_is_remembered() {
    let folder = TempDir::new().unwrap();
    let (first, keeper) = gate_and_keeper(&folder);
    let comes = |boot| Handshake { standing: Standing { boot, ..STANDING }, ..handshake() };
    first.answer(&comes(2)).await.unwrap();
    first.answer(&comes(5)).await.unwrap();
    drop(first);
    keeper.join().unwrap().unwrap();
    let gate = gate(&folder);
    assert_eq!(refusal(&gate, &comes(4)).await, HandshakeRefusal::PutBack);
    assert!(matches!(gate.answer(&comes(5)).await.unwrap(), HandshakeReply::Accepted { .. }));
}

//! Who is let in, and who is told what.

use tempfile::TempDir;
use tenure_replica::peers::PinnedPeers;
use tenure_store::Member;
use tenure_wal::RealDisk;

use super::*;

fn member(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

/// The gate of member 1 of cluster 7 with the members 2 and 3.
fn gate(folder: &TempDir) -> Gate {
    let identity = Identity { cluster_id: 7, member_id: member(1), directory_id: 10, boot: 1 };
    let disk = RealDisk::open(folder.path()).unwrap();
    let pins = PinnedPeers::load(&disk).unwrap();
    let (pins, keeper) = crate::pins::keep(disk, pins);
    // It ends with the gate.
    std::thread::spawn(move || keeper.run());
    let gate = Gate::new(identity, vec!["http://own".into()], Roster::default(), pins);
    gate.update(roster(&[1, 2, 3], &[]));
    gate
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
    let accepted = HandshakeReply::Accepted { directory_id: 10 };
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
    assert!(matches!(gate.meet(member(2), 21).await, Err(PinError::Changed(_))));
    assert!(gate.meet(member(2), 20).await.is_ok());
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
    let accepted = HandshakeReply::Accepted { directory_id: 10 };
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
    let gate = gate(&folder);
    gate.answer(&handshake()).await.unwrap();
    let pinned = std::fs::metadata(&file).unwrap().len();
    gate.update(roster(&[1, 3], &[2]));
    // What is pinned next is written down behind it.
    gate.answer(&Handshake { from: member(3), directory_id: 30, ..handshake() }).await.unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().len(), pinned);
    let ids = |bytes: &[u8]| -> Vec<u8> { bytes.chunks_exact(16).map(|pin| pin[0]).collect() };
    assert_eq!(ids(&std::fs::read(&file).unwrap()), [3]);
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

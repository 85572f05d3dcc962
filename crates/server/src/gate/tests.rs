//! Who is let in, and who is told what.

use tempfile::TempDir;
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
    Gate::new(identity, BTreeSet::from([member(2), member(3)]), disk, pins)
}

fn handshake() -> Handshake {
    Handshake {
        protocol_version: PROTOCOL_VERSION,
        cluster_id: 7,
        from: member(2),
        to: member(1),
        directory_id: 20,
        lane: Lane::Urgent,
    }
}

fn refusal(gate: &Gate, handshake: Handshake) -> HandshakeRefusal {
    match gate.answer(&handshake).unwrap() {
        HandshakeReply::Refused { reason, .. } => reason,
        HandshakeReply::Accepted { .. } => panic!("{handshake:?} was accepted"),
    }
}

#[test]
fn a_member_is_let_in_and_a_stranger_is_told_why_not() {
    let folder = TempDir::new().unwrap();
    let gate = gate(&folder);
    let accepted = HandshakeReply::Accepted { directory_id: 10 };
    assert_eq!(gate.answer(&handshake()).unwrap(), accepted);
    for (wrong, reason) in [
        (Handshake { protocol_version: 2, ..handshake() }, HandshakeRefusal::ProtocolVersion),
        (Handshake { cluster_id: 8, ..handshake() }, HandshakeRefusal::Cluster),
        (Handshake { to: member(3), ..handshake() }, HandshakeRefusal::Member),
        (Handshake { from: member(4), ..handshake() }, HandshakeRefusal::UnknownSender),
        (Handshake { from: member(1), ..handshake() }, HandshakeRefusal::UnknownSender),
        (Handshake { directory_id: 21, ..handshake() }, HandshakeRefusal::Directory),
    ] {
        assert_eq!(refusal(&gate, wrong), reason);
    }
    assert_eq!(gate.answer(&handshake()).unwrap(), accepted, "nothing of that was remembered");
}

#[test]
fn a_peer_is_known_again_after_a_restart_and_in_both_directions() {
    let folder = TempDir::new().unwrap();
    gate(&folder).answer(&handshake()).unwrap();
    let gate = gate(&folder);
    assert!(matches!(gate.meet(member(2), 21), Err(MeetError::Changed(_))));
    assert!(gate.meet(member(2), 20).is_ok());
    assert_eq!(refusal(&gate, Handshake { directory_id: 21, ..handshake() }), HandshakeRefusal::Directory);
}

#[test]
fn who_is_disowned_by_most_of_the_others_stops() {
    let folder = TempDir::new().unwrap();
    let gate = gate(&folder);
    let disown = |peer, reason| gate.on_refused(member(peer), reason, "its disk was emptied");
    assert_eq!(disown(2, HandshakeRefusal::Cluster), None);
    assert_eq!(disown(3, HandshakeRefusal::Cluster), None);
    assert_eq!(disown(2, HandshakeRefusal::Directory), None);
    assert_eq!(disown(2, HandshakeRefusal::Directory), None, "one peer counts once");
    assert!(disown(3, HandshakeRefusal::Directory).is_some());
}

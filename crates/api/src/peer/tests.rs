//! Round trips, and bytes of strangers.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::Index as Choice;
use prost::Message as _;
use tenure_raft::{
    AppendReply, Configuration, Entry, EntryId, Envelope, Index, Learner, LogSlice, Message, Payload, ReadId,
    Round, Snapshot, SnapshotChunk, SnapshotReply, Term, Voters,
};
use tenure_replica::peers::Standing;
use tenure_replica::{
    Acknowledged, ChangeAnswer, ChangeMembers, ChangeRefusal, Forward, ForwardRefusal, ForwardRefused,
    MemberChange, MembersChanged, RequestId,
};

use super::*;
use crate::pb::peer as pb;

fn node(id: u64) -> NodeId {
    NodeId::new(id).expect("not zero")
}

fn envelope(message: Message) -> PeerMessage {
    PeerMessage::Raft(Envelope { from: node(1), to: node(2), term: Term(7), message })
}

fn encoded(message: &PeerMessage) -> BytesMut {
    let mut out = BytesMut::new();
    encode_frame(message, &mut out).expect("it is short");
    out
}

/// The only frame in `bytes`.
fn only_frame(bytes: &[u8]) -> Bytes {
    let mut decoder = FrameDecoder::new();
    decoder.accept_messages();
    decoder.push(bytes);
    let frame = decoder.next_frame().expect("it is short").expect("it is whole");
    assert_eq!(decoder.next_frame(), Ok(None));
    frame
}

fn decoded(body: pb::frame::Body) -> Result<Frame, DecodeError> {
    decode_frame(pb::Frame { body: Some(body) }.encode_to_vec().into())
}

fn decoded_raft(message: pb::raft::Message) -> Result<Frame, DecodeError> {
    decoded(pb::frame::Body::Raft(pb::Raft { from: 1, to: 2, term: 3, message: Some(message) }))
}

// ---- any message

fn any_node() -> impl Strategy<Value = NodeId> {
    (1..=u64::MAX).prop_map(node)
}

fn any_term() -> impl Strategy<Value = Term> {
    (0..=Term::LIMIT.0).prop_map(Term)
}

fn any_index() -> impl Strategy<Value = Index> {
    (0_u64..1 << 62).prop_map(Index)
}

fn any_entry_id() -> impl Strategy<Value = EntryId> {
    let place = (1_u64..1 << 40, 1_u64..1 << 40);
    prop_oneof![Just(EntryId::ZERO), place.prop_map(|(term, index)| EntryId::new(Index(index), Term(term)))]
}

fn any_bytes(max: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn any_voters() -> impl Strategy<Value = Voters> {
    vec((any_node(), 1_u32..5), 0..6).prop_map(Voters::weighted)
}

fn any_configuration() -> impl Strategy<Value = Configuration> {
    let learner = prop_oneof![Just(Learner::Waits), (1_u32..4).prop_map(|votes| Learner::Joins { votes })];
    let learners = btree_map(any_node(), learner, 0..3);
    (any_voters(), proptest::option::of(any_voters()), learners)
        .prop_map(|(voters, old_voters, learners)| Configuration { voters, old_voters, learners })
}

fn any_payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::Empty),
        any_bytes(200).prop_map(Payload::Command),
        any_configuration().prop_map(Payload::Configuration),
    ]
}

fn any_slice() -> impl Strategy<Value = LogSlice> {
    (any_entry_id(), vec((0_u64..3, any_payload()), 0..8)).prop_map(|(prev, steps)| {
        let mut last = EntryId::new(prev.index, prev.term.max(Term(1)));
        let entries = steps.into_iter().map(|(later, payload)| {
            last = EntryId::new(last.index.next(), Term(last.term.0 + later));
            Entry { id: last, payload }
        });
        LogSlice::parse(prev, entries.collect()).expect("contiguous by construction")
    })
}

fn any_raft_message() -> impl Strategy<Value = Message> {
    let snapshot = (any_entry_id(), any_configuration())
        .prop_map(|(last_included, configuration)| Snapshot { last_included, configuration });
    prop_oneof![
        (any_term(), any_entry_id())
            .prop_map(|(proposed_term, last)| Message::PreVote { proposed_term, last }),
        (any_term(), any::<bool>())
            .prop_map(|(proposed_term, granted)| Message::PreVoteReply { proposed_term, granted }),
        (any_entry_id(), any::<bool>())
            .prop_map(|(last, leadership_transfer)| Message::RequestVote { last, leadership_transfer }),
        any::<bool>().prop_map(|granted| Message::RequestVoteReply { granted }),
        (any_slice(), any_index())
            .prop_map(|(slice, leader_commit)| Message::AppendEntries { slice, leader_commit }),
        any_index()
            .prop_map(|match_index| Message::AppendEntriesReply(AppendReply::Accepted { match_index })),
        (any_entry_id(), any_entry_id())
            .prop_map(|(prev, hint)| Message::AppendEntriesReply(AppendReply::Rejected { prev, hint })),
        (any_index(), any::<u64>())
            .prop_map(|(commit_index, round)| Message::Heartbeat { commit_index, round: Round(round) }),
        any::<u64>().prop_map(|round| Message::HeartbeatReply { round: Round(round) }),
        any_index().prop_map(|commit_index| Message::CommitNotice { commit_index }),
        (snapshot, any_index(), 0_u64..1 << 50, any_bytes(300), any::<bool>()).prop_map(
            |(snapshot, above, offset, data, done)| {
                let chunk = SnapshotChunk { above, offset, data, done };
                Message::InstallSnapshot { snapshot, chunk }
            }
        ),
        (any_entry_id(), 0_u64..1 << 50, any_index()).prop_map(|(last_included, next_offset, above)| {
            let reply = SnapshotReply::Received { next_offset, above };
            Message::InstallSnapshotReply { last_included, reply }
        }),
        (any_entry_id(), 0_u64..1 << 50, any_index()).prop_map(|(last_included, next_offset, above)| {
            let reply = SnapshotReply::Missing { next_offset, above };
            Message::InstallSnapshotReply { last_included, reply }
        }),
        (any_entry_id(), any_index()).prop_map(|(last_included, match_index)| {
            Message::InstallSnapshotReply { last_included, reply: SnapshotReply::Installed { match_index } }
        }),
        Just(Message::TimeoutNow),
        any::<u64>().prop_map(|read| Message::ReadIndex { read: ReadId(read) }),
        (any::<u64>(), proptest::option::of(any_index()))
            .prop_map(|(read, index)| Message::ReadIndexReply { read: ReadId(read), index }),
    ]
}

fn any_message() -> impl Strategy<Value = PeerMessage> {
    let raft = (any_node(), any_node(), any_term(), any_raft_message())
        .prop_map(|(from, to, term, message)| PeerMessage::Raft(Envelope { from, to, term, message }));
    let forward = (any_term(), any::<u64>(), any::<u64>(), vec(any_bytes(100), 0..5)).prop_map(
        |(term, boot, oldest_attempt, commands)| {
            PeerMessage::Forward(Forward { term, boot, oldest_attempt, commands })
        },
    );
    let why = prop_oneof![
        Just(ForwardRefusal::NotLeader),
        Just(ForwardRefusal::Overloaded),
        Just(ForwardRefusal::NoSpace),
        Just(ForwardRefusal::Unsupported)
    ];
    let refused =
        (any_term(), any::<u64>(), vec(any::<u64>(), 0..5), why).prop_map(|(term, boot, attempts, why)| {
            PeerMessage::ForwardRefused(ForwardRefused { term, boot, attempts, why })
        });
    let room = any::<bool>().prop_map(|is_short| PeerMessage::Room { is_short });
    let acknowledged = (any_term(), vec((any_node(), any_index()), 0..5))
        .prop_map(|(term, members)| PeerMessage::Acknowledged(Acknowledged { term, members }));
    let members = prop_oneof![any_change_members(), any_members_changed()];
    prop_oneof![6 => raft, 1 => forward, 1 => refused, 1 => room, 1 => acknowledged, 2 => members]
}

fn any_urls() -> impl Strategy<Value = Vec<String>> {
    vec(".{0,20}", 0..4)
}

fn any_change_members() -> impl Strategy<Value = PeerMessage> {
    let learner = prop_oneof![Just(Learner::Waits), (1_u32..4).prop_map(|votes| Learner::Joins { votes })];
    let votes = proptest::option::of(1_u32..9);
    let change = prop_oneof![
        (any_node(), any_urls(), learner).prop_map(|(id, peer_urls, learner)| MemberChange::Add {
            id,
            peer_urls,
            learner
        }),
        any_node().prop_map(|id| MemberChange::Remove { id }),
        (any_node(), any_urls()).prop_map(|(id, peer_urls)| MemberChange::Update { id, peer_urls }),
        (any_node(), votes, proptest::option::of(any_node()))
            .prop_map(|(id, votes, replaces)| MemberChange::Promote { id, votes, replaces }),
    ];
    (any::<(u64, u64, bool)>(), change).prop_map(|((boot, number, force), change)| {
        PeerMessage::ChangeMembers(ChangeMembers { boot, number: RequestId(number), change, force })
    })
}

fn any_members_changed() -> impl Strategy<Value = PeerMessage> {
    let numbers = any::<(u64, u64, u64)>();
    let refusal = prop_oneof![
        Just(ChangeRefusal::MemberNotFound),
        Just(ChangeRefusal::PeerUrlExists),
        Just(ChangeRefusal::NotALearner),
        Just(ChangeRefusal::NotCaughtUp),
        Just(ChangeRefusal::TooManyLearners),
        Just(ChangeRefusal::NoVoters),
        numbers.prop_map(|(needed, of, reachable)| ChangeRefusal::WouldLoseQuorum { needed, of, reachable }),
        ".{0,30}".prop_map(|why| ChangeRefusal::Unsafe { why }),
    ];
    let answer =
        prop_oneof![any_index().prop_map(ChangeAnswer::Done), refusal.prop_map(ChangeAnswer::Refused)];
    (any::<(u64, u64)>(), answer).prop_map(|((boot, number), answer)| {
        PeerMessage::MembersChanged(MembersChanged { boot, number: RequestId(number), answer })
    })
}

fn any_members() -> impl Strategy<Value = Members> {
    let member = (any_node(), ".{0,9}", any_urls()).prop_map(|(id, name, peer_urls)| MemberAddress {
        id,
        name,
        peer_urls,
    });
    (any::<u64>(), vec(member, 0..5)).prop_map(|(cluster_id, members)| Members { cluster_id, members })
}

fn any_standing() -> impl Strategy<Value = Standing> {
    (any::<u64>(), any::<u64>(), any_term(), any_index()).prop_map(|(boot, start_id, term, index)| Standing {
        boot,
        start_id,
        began: EntryId { term, index },
    })
}

fn any_handshake() -> impl Strategy<Value = Handshake> {
    let lane = prop_oneof![Just(Lane::Urgent), Just(Lane::Bulk)];
    (any::<(u32, u64, u64)>(), any_node(), any_node(), lane, any_urls(), any_standing()).prop_map(
        |((protocol_version, cluster_id, directory_id), from, to, lane, peer_urls, standing)| Handshake {
            protocol_version,
            cluster_id,
            from,
            to,
            directory_id,
            lane,
            peer_urls,
            standing,
        },
    )
}

fn any_handshake_reply() -> impl Strategy<Value = HandshakeReply> {
    let reason = prop_oneof![
        Just(HandshakeRefusal::ProtocolVersion),
        Just(HandshakeRefusal::Cluster),
        Just(HandshakeRefusal::Member),
        Just(HandshakeRefusal::Directory),
        Just(HandshakeRefusal::PutBack),
        Just(HandshakeRefusal::Removed),
    ];
    prop_oneof![
        (any::<u64>(), any_standing())
            .prop_map(|(directory_id, standing)| HandshakeReply::Accepted { directory_id, standing }),
        (reason, ".{0,100}").prop_map(|(reason, detail)| HandshakeReply::Refused { reason, detail }),
    ]
}

proptest! {
    #[test]
    fn messages_come_back_as_they_went(message in any_message()) {
        let frame = only_frame(&encoded(&message));
        prop_assert_eq!(decode_frame(frame), Ok(Frame::Message(message)));
    }

    #[test]
    fn lists_of_members_come_back_as_they_went(members in any_members(), protocol_version in any::<u32>()) {
        let mut out = BytesMut::new();
        encode_members(&members, &mut out).expect("it is short");
        prop_assert_eq!(decode_frame(only_frame(&out)), Ok(Frame::Members(members)));
        out.clear();
        encode_members_request(protocol_version, &mut out);
        prop_assert_eq!(decode_frame(only_frame(&out)), Ok(Frame::MembersRequest { protocol_version }));
    }

    #[test]
    fn handshakes_come_back_as_they_went(handshake in any_handshake(), reply in any_handshake_reply()) {
        let mut out = BytesMut::new();
        encode_handshake(&handshake, &mut out);
        encode_handshake_reply(&reply, &mut out);
        // Both are short enough for a connection that has not been accepted yet.
        let mut decoder = FrameDecoder::new();
        decoder.push(&out);
        let first = decoder.next_frame().expect("short").expect("whole");
        let second = decoder.next_frame().expect("short").expect("whole");
        prop_assert_eq!(decode_frame(first), Ok(Frame::Handshake(handshake)));
        prop_assert_eq!(decode_frame(second), Ok(Frame::HandshakeReply(reply)));
    }

    #[test]
    fn frames_may_arrive_in_any_pieces(
        messages in vec(any_message(), 1..5),
        cuts in vec(any::<Choice>(), 0..10),
    ) {
        let mut out = BytesMut::new();
        for message in &messages {
            encode_frame(message, &mut out).expect("short");
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(out.len())).collect();
        cuts.sort_unstable();
        cuts.push(out.len());
        let mut decoder = FrameDecoder::new();
        decoder.accept_messages();
        let (mut start, mut received) = (0, Vec::new());
        for end in cuts {
            decoder.push(&out[start..end]);
            start = end;
            while let Some(frame) = decoder.next_frame().expect("short") {
                received.push(decode_frame(frame));
            }
        }
        let sent: Vec<_> = messages.into_iter().map(|message| Ok(Frame::Message(message))).collect();
        prop_assert_eq!(received, sent);
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in vec(any::<u8>(), 0..300)) {
        // Not to panic is the whole claim.
        let _ = decode_frame(bytes.clone().into());
        let mut decoder = FrameDecoder::new();
        decoder.push(&bytes);
        while let Ok(Some(frame)) = decoder.next_frame() {
            let _ = decode_frame(frame);
        }
    }

    #[test]
    fn a_damaged_message_is_a_message_or_an_error(
        message in any_message(),
        damage in vec((any::<Choice>(), any::<u8>()), 1..4),
        cut in any::<Choice>(),
    ) {
        let mut bytes = only_frame(&encoded(&message)).to_vec();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        // What is still a message can be sent on.
        if let Ok(Frame::Message(message)) = decode_frame(bytes.into()) {
            let _ = encoded(&message);
        }
    }
}

#[test]
fn a_frame_that_claims_four_gibibytes_is_refused_before_anything_is_set_aside() {
    let mut decoder = FrameDecoder::new();
    decoder.accept_messages();
    decoder.push(&u32::MAX.to_be_bytes());
    let refused = FrameTooLarge { found_bytes: u32::MAX as usize, limit_bytes: MAX_FRAME_BYTES };
    assert_eq!(decoder.next_frame(), Err(refused));
    assert!(decoder.buffer().capacity() < 4096);
}

#[test]
fn a_stranger_may_send_a_handshake_but_nothing_longer() {
    let mut decoder = FrameDecoder::new();
    decoder.push(&(MAX_HANDSHAKE_BYTES as u32).to_be_bytes());
    assert_eq!(decoder.next_frame(), Ok(None));
    for stranger in
        [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"PRI * HTTP/2.0\r\n"]
    {
        let mut decoder = FrameDecoder::new();
        decoder.push(stranger);
        assert!(decoder.next_frame().is_err(), "{stranger:?}");
    }
}

#[test]
fn commands_arrive_as_slices_of_the_frame() {
    let id = EntryId::new(Index(1), Term(1));
    let entry = Entry { id, payload: Payload::Command(vec![7; 1000].into()) };
    let slice = LogSlice::parse(EntryId::ZERO, vec![entry]).expect("a slice");
    let frame = only_frame(&encoded(&envelope(Message::AppendEntries { slice, leader_commit: Index(0) })));
    let within = frame.as_ptr_range();
    let Ok(Frame::Message(PeerMessage::Raft(Envelope { message, .. }))) = decode_frame(frame) else {
        panic!("not what was sent");
    };
    let Message::AppendEntries { slice, .. } = message else { panic!("not what was sent") };
    let Payload::Command(command) = &slice.entries()[0].payload else { panic!("not what was sent") };
    assert_eq!(command.len(), 1000);
    assert!(within.contains(&command.as_ptr()));
}

#[test]
fn a_message_that_is_too_long_is_not_sent() {
    let data = Bytes::from(vec![0; MAX_FRAME_BYTES]);
    let snapshot = Snapshot::default();
    let chunk = SnapshotChunk { data, done: true, ..SnapshotChunk::default() };
    let message = envelope(Message::InstallSnapshot { snapshot, chunk });
    let mut out = BytesMut::new();
    let refused = encode_frame(&message, &mut out).expect_err("too long");
    assert!(refused.found_bytes > MAX_FRAME_BYTES);
    assert!(out.is_empty());
}

#[test]
fn addresses_that_are_too_long_are_left_out() {
    let (from, to) = (node(1), node(2));
    let short = "http://h:1".to_owned();
    let peer_urls = vec![short.clone(), "h".repeat(MAX_HANDSHAKE_BYTES), short.clone()];
    let (protocol_version, cluster_id, directory_id, lane) = (1, 7, 9, Lane::Bulk);
    let standing = Standing::default();
    let handshake =
        Handshake { protocol_version, cluster_id, from, to, directory_id, lane, peer_urls, standing };
    let mut out = BytesMut::new();
    encode_handshake(&handshake, &mut out);
    let mut decoder = FrameDecoder::new();
    decoder.push(&out);
    let frame = decoder.next_frame().expect("short").expect("whole");
    let cut = Handshake { peer_urls: vec![short], ..handshake };
    assert_eq!(decode_frame(frame), Ok(Frame::Handshake(cut)));
}

#[test]
fn a_promotion_to_no_vote_is_refused() {
    let promote = pb::PromoteMember { id: 1, votes: Some(0), replaces: None };
    let change = Some(pb::change_members::Change::Promote(promote));
    let asked = pb::ChangeMembers { boot: 1, number: 1, force: false, change };
    let refused = decoded(pb::frame::Body::ChangeMembers(asked));
    assert_eq!(refused, Err(DecodeError::OutOfRange("a number of votes")));
}

#[test]
fn a_detail_that_is_too_long_is_cut() {
    let detail = "é".repeat(MAX_HANDSHAKE_BYTES);
    let mut out = BytesMut::new();
    encode_handshake_reply(&HandshakeReply::Refused { reason: HandshakeRefusal::Cluster, detail }, &mut out);
    let mut decoder = FrameDecoder::new();
    decoder.push(&out);
    let frame = decoder.next_frame().expect("short").expect("whole");
    assert!(matches!(decode_frame(frame), Ok(Frame::HandshakeReply(HandshakeReply::Refused { .. }))));
}

#[test]
fn lists_are_counted_before_they_are_decoded() {
    // `field` of each message on the way, and at the end a list of empty items.
    fn nested(path: &[u8], items: usize) -> Vec<u8> {
        let (field, rest) = path.split_first().expect("a path");
        let key = field << 3 | 2;
        if rest.is_empty() {
            return [key, 0].repeat(items);
        }
        let inside = nested(rest, items);
        let mut message = vec![key];
        prost::encode_length_delimiter(inside.len(), &mut message).expect("room");
        message.extend_from_slice(&inside);
        message
    }
    for (what, path) in [
        ("entries", &[3, 8, 2][..]),
        ("commands", &[4, 4]),
        ("addresses", &[1, 7]),
        ("members", &[7, 2]),
        ("addresses", &[7, 2, 3]),
        ("addresses", &[8, 4, 2]),
        ("addresses", &[8, 6, 2]),
    ] {
        let long = nested(path, MAX_ITEMS + 1);
        assert_eq!(decode_frame(long.into()), Err(DecodeError::TooMany(what)));
        // Protobuf puts the parts of a field together, so parts count together too.
        let half = nested(path, MAX_ITEMS / 2 + 1);
        assert_eq!(decode_frame([half.clone(), half].concat().into()), Err(DecodeError::TooMany(what)));
        let short = nested(path, MAX_ITEMS);
        assert_ne!(decode_frame(short.into()), Err(DecodeError::TooMany(what)));
    }
    let attempts = vec![0; MAX_ITEMS + 1];
    let refused = pb::ForwardRefused { attempts, reason: 1, ..Default::default() };
    let body = pb::frame::Body::ForwardRefused(refused);
    assert_eq!(decoded(body), Err(DecodeError::TooMany("attempts")));
}

#[test]
fn what_could_break_the_core_is_refused() {
    use pb::raft::Message as Pb;

    let missing = |what| Err(DecodeError::Missing(what));
    assert_eq!(decode_frame(Bytes::new()), missing("the body"));
    let nameless = pb::Raft { from: 0, to: 2, term: 3, message: Some(Pb::TimeoutNow(pb::TimeoutNow {})) };
    assert_eq!(decoded(pb::frame::Body::Raft(nameless.clone())), Err(DecodeError::ZeroId));
    let late = pb::Raft { from: 1, term: Term::LIMIT.0 + 1, ..nameless.clone() };
    assert_eq!(decoded(pb::frame::Body::Raft(late)), Err(DecodeError::OutOfRange("a term")));
    let empty = pb::Raft { from: 1, message: None, ..nameless };
    assert_eq!(decoded(pb::frame::Body::Raft(empty)), missing("a Raft message"));

    let far = Pb::Heartbeat(pb::Heartbeat { commit_index: u64::MAX, round: 0 });
    assert_eq!(decoded_raft(far), Err(DecodeError::OutOfRange("an index")));
    let far = Pb::CommitNotice(pb::CommitNotice { commit_index: u64::MAX });
    assert_eq!(decoded_raft(far), Err(DecodeError::OutOfRange("an index")));
    let no_place = Some(pb::EntryId { term: 3, index: 0 });
    let vote = Pb::RequestVote(pb::RequestVote { last: no_place, leadership_transfer: false });
    assert_eq!(decoded_raft(vote), Err(DecodeError::OutOfRange("the place of an entry")));
    let reply = Pb::AppendEntriesReply(pb::AppendEntriesReply { outcome: None });
    assert_eq!(decoded_raft(reply), missing("the outcome of an append"));
    let beyond = Pb::ReadIndexReply(pb::ReadIndexReply { read: 1, index: Some(u64::MAX) });
    assert_eq!(decoded_raft(beyond), Err(DecodeError::OutOfRange("an index")));
}

#[test]
fn entries_that_make_no_log_are_refused() {
    let append = |prev, entries: &[(u64, u32)]| {
        let entry = |&(term, kind)| pb::Entry { term, kind, data: Bytes::new() };
        let entries = entries.iter().map(entry).collect();
        decoded_raft(pb::raft::Message::AppendEntries(pb::AppendEntries { prev, entries, leader_commit: 0 }))
    };
    let prev = Some(pb::EntryId { term: 5, index: 9 });
    assert!(append(prev, &[(5, 0), (6, 1)]).is_ok());
    assert!(matches!(append(prev, &[(4, 0)]), Err(DecodeError::Slice(_))));
    assert!(matches!(append(None, &[(2, 0), (1, 0)]), Err(DecodeError::Slice(_))));
    assert!(matches!(append(None, &[(0, 0)]), Err(DecodeError::Entry(_))));
    assert!(matches!(append(prev, &[(5, 77)]), Err(DecodeError::Entry(_))));
    assert_eq!(append(prev, &[(5, 256)]), Err(DecodeError::OutOfRange("the kind of an entry")));
    let last = Some(pb::EntryId { term: 5, index: u64::MAX });
    assert_eq!(append(last, &[(5, 0)]), Err(DecodeError::OutOfRange("an index")));
}

#[test]
fn groups_cannot_hide_a_long_list_from_the_count() {
    // A group (wire types 3 and 4) that this protocol does not know.
    let mut bytes = BytesMut::new();
    bytes.put_slice(&[15 << 3 | 3, 15 << 3 | 4]);
    assert_eq!(decode_frame(bytes.freeze()), Err(DecodeError::Malformed));
}

#[test]
fn a_heartbeat_is_small() {
    let message = Message::Heartbeat { commit_index: Index(1 << 30), round: Round(1 << 20) };
    assert!(encoded(&envelope(message)).len() <= 48);
}

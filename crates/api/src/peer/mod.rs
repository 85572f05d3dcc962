//! The protocol between the members: frames on a TCP connection.
//!
//! A member opens one long-lived connection a lane to each peer, says who it is (a [`Handshake`]), waits for
//! the [`HandshakeReply`], and then sends [`PeerMessage`]s; the peer's own messages come on connections that
//! the peer opened. A frame is a length (32 bits, big endian) and a protobuf message (`proto/peer.proto`).
//!
//! What comes from a socket is parsed, never trusted: [`FrameDecoder`] refuses a frame that claims too much
//! before anything is allocated, [`decode_frame`] answers anything that is not a message with a
//! [`DecodeError`]. Entries leave with one copy (into the socket's buffer) and arrive with none (they are
//! slices of it).
//!
//! Not known here: sockets, which peers there are, when to connect again.
//!
//! ```
//! use bytes::BytesMut;
//! use tenure_api::peer::{Frame, FrameDecoder, decode_frame, encode_frame};
//! use tenure_raft::{Envelope, Message, NodeId, Round, Term};
//! use tenure_replica::PeerMessage;
//!
//! let (from, to) = (NodeId::new(1).unwrap(), NodeId::new(2).unwrap());
//! let message = Message::HeartbeatReply { round: Round(7) };
//! let message = PeerMessage::Raft(Envelope { from, to, term: Term(3), message });
//! let mut socket = BytesMut::new();
//! encode_frame(&message, &mut socket)?;
//!
//! let mut decoder = FrameDecoder::new();
//! decoder.accept_messages();
//! decoder.push(&socket);
//! let frame = decoder.next_frame()?.expect("it is whole");
//! assert_eq!(decode_frame(frame)?, Frame::Message(message));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod decode;
mod encode;
mod frame;
mod members;

pub use decode::{DecodeError, decode_frame};
pub use encode::{
    encode_frame, encode_handshake, encode_handshake_reply, encode_members, encode_members_request,
};
pub use frame::{FrameDecoder, FrameTooLarge};
pub use tenure_replica::peers::Standing;

use tenure_raft::NodeId;
use tenure_replica::PeerMessage;

/// The version of this protocol. Members refuse each other when it differs.
pub const PROTOCOL_VERSION: u32 = 1;

/// The largest message. The largest command that a server is told to accept must leave room for its frame.
pub const MAX_FRAME_BYTES: usize = 64 << 20;

/// The largest handshake, or answer to one: nobody who has not said who he is makes us keep more.
pub const MAX_HANDSHAKE_BYTES: usize = 4 << 10;

/// The most entries, or commands, in one message. Empty entries are two bytes on the wire but far more in
/// memory, so their number is bounded apart from the frame.
pub const MAX_ITEMS: usize = 1 << 18;

const _: () = assert!(MAX_HANDSHAKE_BYTES < MAX_FRAME_BYTES && MAX_FRAME_BYTES <= u32::MAX as usize);

/// What a frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The first one on a connection.
    Handshake(Handshake),
    /// The answer to it.
    HandshakeReply(HandshakeReply),
    /// Everything after.
    Message(PeerMessage),
    /// Instead of a handshake: a server that is about to join asks who the members are.
    MembersRequest {
        /// [`PROTOCOL_VERSION`] of the sender.
        protocol_version: u32,
    },
    /// The answer to it.
    Members(Members),
}

/// The members of a cluster, to a server that is about to join it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// The cluster.
    pub cluster_id: u64,
    /// Its members.
    pub members: Vec<MemberAddress>,
}

/// Where a member is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberAddress {
    /// Its id.
    pub id: NodeId,
    /// Its name, once it has started.
    pub name: String,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
}

/// Who opens a connection, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// [`PROTOCOL_VERSION`] of the sender.
    pub protocol_version: u32,
    /// The cluster that the sender belongs to.
    pub cluster_id: u64,
    /// The sender.
    pub from: NodeId,
    /// Whom it believes to have reached.
    pub to: NodeId,
    /// The random id of the sender's data directory.
    pub directory_id: u64,
    /// What the connection is for.
    pub lane: Lane,
    /// Where the sender is reached, should the receiver not know it yet, or not any more.
    pub peer_urls: Vec<String>,
    /// The start that the sender is in.
    pub standing: Standing,
}

/// What a connection is for, so that large messages cannot hold up the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Heartbeats, votes and all else that must not wait.
    Urgent,
    /// Entries, snapshots, forwarded writes.
    Bulk,
}

impl Lane {
    /// The lane of a message.
    pub fn of(message: &PeerMessage) -> Self {
        if message.is_bulk() { Self::Bulk } else { Self::Urgent }
    }
}

/// The answer to a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeReply {
    /// Go on.
    Accepted {
        /// The random id of the answering member's data directory.
        directory_id: u64,
        /// The start that it is in.
        standing: Standing,
    },
    /// The connection is closed after this.
    Refused {
        /// Why, for the program.
        reason: HandshakeRefusal,
        /// Why, for the log of the side that was refused.
        detail: String,
    },
}

/// Why a member does not listen to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HandshakeRefusal {
    /// The versions of the protocol differ.
    ProtocolVersion,
    /// The sender belongs to another cluster.
    Cluster,
    /// The sender wanted to reach another member.
    Member,
    /// The sender's data directory is not the one that this member id was met with.
    Directory,
    /// The sender was removed from the cluster.
    Removed,
    /// The sender's data directory was put back to an older copy.
    PutBack,
}

#[cfg(test)]
mod tests;

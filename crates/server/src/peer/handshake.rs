//! Who speaks: what both ends of a new connection say first.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tenure_api::peer::{
    Frame, FrameDecoder, Handshake, HandshakeReply, Lane, PROTOCOL_VERSION, decode_frame, encode_handshake,
    encode_handshake_reply, encode_members,
};
use tenure_raft::NodeId;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::connection::{invalid, prepare, read_frame};
use crate::gate::Gate;
use crate::input::{Input, Stop};
use crate::pins::PinError;
use crate::url::Url;

/// Who connects must have said who he is within this time, and who is connected to have answered.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to a peer and says who we are; the connection is one that it has accepted.
pub(crate) async fn introduce(
    peer: NodeId,
    lane: Lane,
    url: &Url,
    gate: &Gate,
    inputs: &mpsc::Sender<Input>,
) -> io::Result<TcpStream> {
    let connect = async {
        let mut stream = TcpStream::connect(url.authority()).await?;
        prepare(&stream)?;
        let mut out = BytesMut::new();
        encode_handshake(&gate.handshake(peer, lane), &mut out);
        stream.write_all(&out).await?;
        let mut decoder = FrameDecoder::new();
        let frame = read_frame(&mut stream, &mut decoder).await?;
        match decode_frame(frame).map_err(invalid)? {
            Frame::HandshakeReply(HandshakeReply::Accepted { directory_id, standing }) => {
                match gate.meet(peer, directory_id, standing).await {
                    Ok(()) => Ok(stream),
                    Err(error) => Err(not_let_in(error, inputs).await),
                }
            }
            Frame::HandshakeReply(HandshakeReply::Refused { reason, detail }) => {
                if let Some(stop) = gate.on_refused(peer, reason, &detail) {
                    // Nobody reads the answer of a member that is about to stop.
                    let _ = inputs.send(Input::Fatal(stop)).await;
                }
                Err(io::Error::new(io::ErrorKind::PermissionDenied, detail))
            }
            Frame::Handshake(_) | Frame::Message(_) | Frame::MembersRequest { .. } | Frame::Members(_) => {
                Err(invalid("no answer to the handshake"))
            }
        }
    };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, connect).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Who has connected, and where it says it is reached.
pub(crate) struct Guest {
    pub(crate) from: NodeId,
    pub(crate) lane: Lane,
    pub(crate) urls: Arc<[Url]>,
}

/// Lets the other side say who it is, and answers. None if it only wanted to know who the members are.
pub(crate) async fn shake_hands(
    stream: &mut TcpStream,
    decoder: &mut FrameDecoder,
    gate: &Gate,
    inputs: &mpsc::Sender<Input>,
) -> io::Result<Option<Guest>> {
    prepare(stream)?;
    let handshake = match decode_frame(read_frame(stream, decoder).await?).map_err(invalid)? {
        Frame::Handshake(handshake) => handshake,
        Frame::MembersRequest { protocol_version: PROTOCOL_VERSION } => {
            let mut out = BytesMut::new();
            encode_members(&gate.members(), &mut out).map_err(invalid)?;
            stream.write_all(&out).await?;
            return Ok(None);
        }
        Frame::MembersRequest { protocol_version } => {
            return Err(invalid(format!("peer protocol version {protocol_version}")));
        }
        Frame::HandshakeReply(_) | Frame::Message(_) | Frame::Members(_) => {
            return Err(invalid("no handshake"));
        }
    };
    let reply = match gate.answer(&handshake).await {
        Ok(reply) => reply,
        Err(error) => return Err(not_let_in(error, inputs).await),
    };
    let mut out = BytesMut::new();
    encode_handshake_reply(&reply, &mut out);
    stream.write_all(&out).await?;
    match reply {
        HandshakeReply::Accepted { .. } => {
            let urls: Arc<[Url]> = handshake.peer_urls.iter().filter_map(|url| url.parse().ok()).collect();
            let Handshake { from, lane, .. } = handshake;
            if gate.is_member(from) {
                // A member that stops needs to know it no more.
                let _ = inputs.send(Input::Heard { peer: from, urls: urls.clone() }).await;
            }
            Ok(Some(Guest { from, lane, urls }))
        }
        HandshakeReply::Refused { detail, .. } => {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, detail))
        }
    }
}

/// Closes the connection; if it is our own disk that failed, stops the member.
async fn not_let_in(error: PinError, inputs: &mpsc::Sender<Input>) -> io::Error {
    if let PinError::Disk(_) = error {
        // A member that stops already needs no other reason.
        let _ = inputs.send(Input::Fatal(Stop::Failed(error.to_string()))).await;
    }
    io::Error::new(io::ErrorKind::PermissionDenied, error)
}

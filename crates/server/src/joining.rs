//! How a server that joins a cluster learns which member it is: it asks those that it was told of, as etcd does.
//!
//! Who was added with `member add` has an id that only the cluster knows. The server finds it by its own peer URLs
//! in the list of members, and the cluster's id with it.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tenure_api::peer::{
    Frame, FrameDecoder, MemberAddress, Members, PROTOCOL_VERSION, decode_frame, encode_members_request,
};
use tenure_raft::NodeId;
use tenure_store::Member;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::founders::Founders;
use crate::peer::{invalid, read_frame};
use crate::url::Url;

/// How long the members are asked. One that has not heard of this server yet will, if it was added.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one of them may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait before they are asked again.
const RETRY: Duration = Duration::from_millis(200);

/// Which member of which cluster a server is, and who the others are.
pub(crate) struct Place {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: NodeId,
    pub(crate) members: BTreeMap<u64, Member>,
}

/// Asks the members that the flags name until one knows this server; an error says what to do.
pub(crate) async fn find_place(founders: &Founders, advertised: &[Url]) -> Result<Place, String> {
    let urls: Vec<&Url> = founders.others_urls().collect();
    if urls.is_empty() {
        return Err(
            "--initial-cluster-state existing needs the members of the cluster in --initial-cluster, to ask \
                    them which one this is"
                .to_owned(),
        );
    }
    let give_up = Instant::now() + ASK_TIMEOUT;
    let mut why = String::new();
    while Instant::now() < give_up {
        for url in &urls {
            match tokio::time::timeout(ANSWER_TIMEOUT, ask(url)).await {
                Ok(Ok(answer)) => match place_in(answer, founders.own_urls(), advertised) {
                    Ok(place) => return Ok(place),
                    Err(unknown) => why = format!("{url}: {unknown}"),
                },
                Ok(Err(error)) => why = format!("{url}: {error}"),
                Err(_) => why = format!("{url}: no answer within {ANSWER_TIMEOUT:?}"),
            }
        }
        tokio::time::sleep(RETRY).await;
    }
    Err(format!("cannot join the cluster: {why}"))
}

async fn ask(url: &Url) -> io::Result<Members> {
    let mut stream = TcpStream::connect(url.authority()).await?;
    let mut out = BytesMut::new();
    encode_members_request(PROTOCOL_VERSION, &mut out);
    stream.write_all(&out).await?;
    let mut decoder = FrameDecoder::new();
    // It was named by the operator, and asked: its answer may be long.
    decoder.accept_messages();
    match decode_frame(read_frame(&mut stream, &mut decoder).await?).map_err(invalid)? {
        Frame::Members(members) => Ok(members),
        Frame::Handshake(_) | Frame::HandshakeReply(_) | Frame::Message(_) | Frame::MembersRequest { .. } => {
            Err(invalid("no list of members"))
        }
    }
}

/// The member whose peer URLs are those that `--initial-cluster` has for this server, as in etcd, or those that it
/// advertises.
fn place_in(answer: Members, own: &[Url], advertised: &[Url]) -> Result<Place, String> {
    let [own, advertised] = [own, advertised].map(|urls| sorted(urls.iter().map(Url::to_string)));
    let has = |urls: &[String]| {
        answer.members.iter().find(|member| sorted(member.peer_urls.iter().cloned()) == urls)
    };
    let Some(found) = has(&own).or_else(|| has(&advertised)) else {
        return Err(format!(
            "no member of cluster {:x} has the peer URLs {}: add it with `member add`, or check \
             --initial-advertise-peer-urls",
            answer.cluster_id,
            own.join(",")
        ));
    };
    let member_id = found.id;
    let member = |member: MemberAddress| {
        let MemberAddress { id, name, peer_urls } = member;
        (id.as_u64(), Member { id: id.as_u64(), name, peer_urls, ..Member::default() })
    };
    let members = answer.members.into_iter().map(member).collect();
    Ok(Place { cluster_id: answer.cluster_id, member_id, members })
}

fn sorted(urls: impl Iterator<Item = String>) -> Vec<String> {
    let mut urls: Vec<String> = urls.collect();
    urls.sort();
    urls
}

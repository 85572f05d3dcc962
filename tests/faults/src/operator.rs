//! What an operator asks of the cluster: to remove a member, and to add it again.

use std::time::Duration;

use tenure_api::ApiError;
use tokio::time::Instant;
use tonic::Status;

use crate::client::Client;
use crate::cluster::LOOK;

/// How long one question may take. A change waits for a leader and for its quorum.
const TIMEOUT: Duration = Duration::from_secs(5);
/// For how long it is asked again.
const PATIENCE: Duration = Duration::from_secs(20);

/// The id that a member has now.
pub(crate) async fn id_of(port: u16) -> Result<u64, String> {
    let client = Client::connect(port, TIMEOUT).await.ok_or("it does not listen")?;
    let status = client.status().await.map_err(|status| status.to_string())?;
    status.header.map(|header| header.member_id).ok_or("a status without a header".to_owned())
}

/// Removes a member.
pub(crate) async fn remove(ports: &[u16], id: u64) -> Result<(), String> {
    // A request that was lost may have been done.
    ask_until_done(ports, ApiError::MemberNotFound, async |client| client.remove_member(id).await).await
}

/// Adds a member that the others will reach there.
pub(crate) async fn add(ports: &[u16], peer_url: &str) -> Result<(), String> {
    ask_until_done(ports, ApiError::PeerUrlExist, async |client| client.add_member(peer_url).await).await
}

/// Asks one member after the other, until one has done it, or says that it was done.
async fn ask_until_done(
    ports: &[u16],
    done_already: ApiError,
    ask: impl AsyncFn(Client) -> Result<(), Status>,
) -> Result<(), String> {
    let give_up = Instant::now() + PATIENCE;
    let mut why = "nobody listens".to_owned();
    while Instant::now() < give_up {
        for &port in ports {
            let Some(client) = Client::connect(port, TIMEOUT).await else { continue };
            match ask(client).await {
                Ok(()) => return Ok(()),
                Err(status) if status.message() == done_already.message() => return Ok(()),
                Err(status) => why = status.to_string(),
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(why)
}

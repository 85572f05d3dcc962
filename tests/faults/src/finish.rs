//! The end of a run, when nothing is wrong any more: what every member has, and that all have the same.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::Client;
use crate::cluster::LOOK;
use crate::history::{Ask, Asker, Recorder, Scope};
use crate::judges::Violation;
use crate::load::{generation_at, groups_of};

const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the members may take to come to the same.
const PATIENCE: Duration = Duration::from_secs(30);
const JUDGE: &str = "all members become the same";

/// Reads every group that was ever used at every member: what was acknowledged must be there, or what took its place.
pub(crate) async fn read_everything(recorder: &Arc<Recorder>, ports: &[u16]) -> Result<(), Violation> {
    let groups = 0..groups_of(generation_at(recorder.now_us())).end;
    let mut readers = JoinSet::new();
    for (member, &port) in ports.iter().enumerate() {
        let (recorder, groups) = (recorder.clone(), groups.clone());
        readers.spawn(async move {
            let client = Client::connect(port, TIMEOUT).await.ok_or("it does not listen".to_owned())?;
            // Unlike those of the clients.
            let number = u64::MAX - member as u64;
            let asker = Asker { client: number, member, connection: number };
            for group in groups {
                let ask = Ask::Get(Scope::All);
                let id = recorder.invoke(asker, group, ask, true);
                let answer =
                    client.ask(group, ask, id, true).await.map_err(|failure| format!("{failure:?}"))?;
                recorder.complete(id, answer);
            }
            Ok::<(), String>(())
        });
    }
    while let Some(end) = readers.join_next().await {
        let end = end.unwrap_or_else(|error| Err(error.to_string()));
        end.map_err(|why| {
            Violation::new("the service goes on", format!("a last read is not answered: {why}"))
        })?;
    }
    Ok(())
}

/// Where a member stands: its applied index, the hash of its keys with how far they are compacted, and that of all.
type State = (u64, (u32, i64), u32);

/// Waits until all members have applied the same, and asks whether they have become the same by it.
pub(crate) async fn compare(ports: &[u16]) -> Result<(), Violation> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let mut states = Vec::new();
        for &port in ports {
            states.extend(state(port).await);
        }
        let is_same_index = states.windows(2).all(|pair| pair[0].0 == pair[1].0);
        if states.len() == ports.len() && is_same_index {
            let is_same = states.windows(2).all(|pair| pair[0] == pair[1]);
            let what = format!("index, hash of the keys, hash of everything: {states:x?}");
            return if is_same { Ok(()) } else { Err(Violation::new(JUDGE, what)) };
        }
        if Instant::now() > give_up {
            let what = format!("after {PATIENCE:?} they have not applied the same: {states:x?}");
            return Err(Violation::new(JUDGE, what));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Of a member that stood still while it was looked at.
async fn state(port: u16) -> Option<State> {
    let client = Client::connect(port, TIMEOUT).await?;
    let before = client.status().await.ok()?.raft_applied_index;
    let (keys, all) = (client.hash_kv(0).await.ok()?, client.hash().await.ok()?);
    let status = client.status().await.ok()?;
    (status.raft_applied_index == before && status.raft_index == before).then_some((before, keys, all))
}

//! Takes a member's data directory into use: whose it is, what is in it, and the settings by which it is run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tenure_raft::Configuration;
use tenure_replica::first_configuration;
use tenure_replica::identity::{self, Identity};
use tenure_replica::peers::PinnedPeers;
use tenure_replica::{
    CheckpointWorker, Options, RecoveryError, Start, Started, clear_leftovers, keep_room, prepare_log,
};
use tenure_store::Member;
use tenure_wal::{RealDisk, Wal, is_full};

use crate::clock::Clock;
use crate::config::{COMMAND_SLACK_BYTES, Config};
use crate::gate::Gate;
use crate::joining::{self, Place};
use crate::pins::{self, PinKeeper};
use crate::roster::Roster;
use crate::serve::ServeError;
use crate::url::Url;

/// A member that is ready to run.
pub(crate) struct Opened {
    pub(crate) started: Started<RealDisk>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) pins: PinKeeper,
    pub(crate) member_disk_id: u64,
}

/// Which member of an existing cluster this is, if it has no data that says so yet.
pub(crate) async fn find_place(config: &Config) -> Result<Option<Place>, String> {
    let has_identity = config.data_dir.join("member").join("identity").exists();
    if !config.is_cluster_existing || has_identity {
        return Ok(None);
    }
    joining::find_place(config).await.map(Some)
}

/// Takes the data directory into use and recovers what is in it.
pub(crate) fn open(
    config: &Config,
    place: Option<&Place>,
    first_members: &BTreeMap<u64, Member>,
    clock: Clock,
) -> Result<Opened, ServeError> {
    let random = |what| getrandom::u64().map_err(|error| ServeError::Io { what, source: error.into() });
    let folder = config.data_dir.join("member");
    refuse_etcds(&folder)?;
    let folders = Folders { log: folder.join("wal"), checkpoints: folder.join("snap") };
    let log_options =
        tenure_wal::Options { salt: random("cannot draw a salt")?, ..tenure_wal::Options::default() };
    let member_disk = RealDisk::open(&folder)?;
    let io = |what| move |source| ServeError::Io { what, source };
    clear_leftovers(&member_disk)
        .map_err(io("cannot clear what an earlier start left in the data directory"))?;
    CheckpointWorker::clear_leftovers(&RealDisk::open(&folders.checkpoints)?).map_err(RecoveryError::from)?;
    folders
        .with_room(|| Ok(prepare_log(&member_disk, RealDisk::open_for_log(&folders.log)?, log_options)?))?;
    let (identity, first_configuration) = folders.with_room(|| claim(config, place, &member_disk))?;
    keep_room(&member_disk).map_err(io("cannot keep room in the data directory"))?;
    let pins = PinnedPeers::load(&member_disk)
        .map_err(|source| ServeError::Io { what: "cannot read the file of pinned peers", source })?;
    let start = Start {
        identity,
        first_configuration,
        options: options(config),
        log_options,
        seed: random("cannot draw a seed")?,
    };
    let started = folders.with_room(|| {
        let log_disk = RealDisk::open_for_log(&folders.log)?;
        let checkpoint_disk = RealDisk::open(&folders.checkpoints)?;
        Ok(tenure_replica::start(start.clone(), log_disk, checkpoint_disk, clock.now())?)
    })?;
    let roster = Roster::of(&started.replica, first_members);
    let began = started.replica.durable();
    let member_disk_id = identity.directory_id;
    let own_peer_urls = config.initial_advertise_peer_urls.iter().map(Url::to_string).collect();
    let (known_pins, pins) = pins::keep(member_disk, pins);
    let gate = Arc::new(Gate::new(identity, began, own_peer_urls, roster, known_pins));
    if let Some(torn) = &started.torn_tail {
        tracing::warn!(segment = %torn.segment.display(), offset = torn.offset, "cut an unfinished write off the log");
    }
    Ok(Opened { started, gate, pins, member_disk_id })
}

/// Where the log is, and where the checkpoints are.
struct Folders {
    log: PathBuf,
    checkpoints: PathBuf,
}

impl Folders {
    /// Does a step of a start; on a full disk it gives up what was kept for times like this, and tries again: first the
    /// room for a checkpoint, then that for a segment of the log. Nobody has the two folders open meanwhile.
    fn with_room<T>(&self, mut step: impl FnMut() -> Result<T, ServeError>) -> Result<T, ServeError> {
        let gives_up: [&dyn Fn() -> Result<bool, ServeError>; 2] = [
            &|| {
                Ok(CheckpointWorker::give_up_reserve(&RealDisk::open(&self.checkpoints)?)
                    .map_err(RecoveryError::from)?)
            },
            &|| Ok(Wal::remove_spares(&RealDisk::open(&self.log)?)?),
        ];
        let mut result = step();
        for give_up in gives_up {
            match result {
                Err(error) if is_for_room(&error) => {
                    result = if give_up()? { step() } else { Err(error) };
                }
                done => return done,
            }
        }
        result.map_err(|error| {
            if is_for_room(&error) { ServeError::NoRoom { why: error.to_string() } } else { error }
        })
    }
}

/// Whether a start fails for want of room alone.
fn is_for_room(error: &ServeError) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<std::io::Error>().is_some_and(is_full) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Whose the data directory is, or is to be, and the configuration that this member began with.
fn claim(
    config: &Config,
    place: Option<&Place>,
    disk: &RealDisk,
) -> Result<(Identity, Configuration), ServeError> {
    let io = |what| move |source| ServeError::Io { what, source };
    let cannot_read = io("cannot read the configuration that this member began with");
    let kept = first_configuration::load(disk).map_err(cannot_read)?;
    let of_flags = || Configuration::of_voters(config.first_members().into_keys());
    // What was written when the directory was made is truer than what the flags say by now.
    let has_joined = kept.as_ref().is_some_and(|first| first.voters.is_empty());
    let (cluster_id, member_id) = match place {
        Some(place) => (place.cluster_id, place.member_id),
        None if has_joined || (config.is_cluster_existing && kept.is_some()) => {
            let found = identity::read(disk)?;
            (found.cluster_id, found.member_id)
        }
        None => (config.cluster_id(), config.member_id()),
    };
    let first = match (kept, place) {
        // A start that did not come to its identity may have left another.
        (_, Some(_)) => Configuration::default(),
        (Some(kept), None) => kept,
        (None, None) => of_flags(),
    };
    first_configuration::keep(disk, &first)
        .map_err(io("cannot write down the configuration that this member begins with"))?;
    let directory_id = getrandom::u64()
        .map_err(|error| ServeError::Io { what: "cannot draw a directory id", source: error.into() })?;
    Ok((identity::claim(disk, cluster_id, member_id, directory_id)?, first))
}

/// etcd has its log and its store in the same folders, under other names: one would never see the other's.
fn refuse_etcds(folder: &Path) -> Result<(), ServeError> {
    // What cannot be listed is reported by whoever opens it next.
    let files = |name| std::fs::read_dir(folder.join(name)).into_iter().flatten().flatten();
    let is_etcds = |path: &PathBuf| {
        path.ends_with("snap/db") || path.extension().is_some_and(|extension| extension == "wal")
    };
    match files("wal").chain(files("snap")).map(|entry| entry.path()).find(is_etcds) {
        Some(path) => Err(ServeError::EtcdData { path }),
        None => Ok(()),
    }
}

/// The settings of the layers below. Timeouts follow etcd's: a request waits five seconds and two election
/// timeouts.
fn options(config: &Config) -> Options {
    let mut options = Options::default();
    let election_us = config.election_timeout_ms * 1000;
    // The timeout that the operator names is the longest that a follower waits, not the shortest.
    options.raft.election_timeout_us = election_us / 4 * 3;
    options.raft.election_spread_us = election_us / 4;
    options.raft.heartbeat_interval_us = config.heartbeat_interval_ms * 1000;
    options.raft.disk_stall_timeout_us = election_us * 2;
    options.raft.max_command_bytes = config.max_request_bytes + COMMAND_SLACK_BYTES;
    options.request_timeout_us = 5_000_000 + 2 * election_us;
    options.max_learners = config.max_learners;
    options.checkpoint_entries = config.snapshot_count;
    options.catch_up_entries = config.snapshot_catchup_entries;
    options
}

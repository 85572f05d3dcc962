//! Takes a member's data directory into use: whose it is, what is in it, and the settings by which it is run.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tenure_raft::Configuration;
use tenure_replica::first_configuration;
use tenure_replica::identity::{self, Identity, IdentityError};
use tenure_replica::peers::{PinnedPeers, Standing};
use tenure_replica::{
    Beginning, CheckpointWorker, Options, RecoveryError, Start, Started, clear_leftovers, keep_room,
    prepare_log,
};
use tenure_store::Member;
use tenure_wal::{Disk, RealDisk, Wal, WalError, is_full};

use crate::clock::Clock;
use crate::config::{COMMAND_SLACK_BYTES, Config, ConfigError};
use crate::founders::Founders;
use crate::gate::Gate;
use crate::joining::{self, Place};
use crate::pins::{self, PinKeeper};
use crate::roster::Roster;
use crate::serve::ServeError;
use crate::url::Url;

/// How a member comes to know who it is.
pub(crate) enum Origin {
    /// It has begun before: its data directory says it.
    Disk,
    /// It is one of the first of a new cluster, as its flags say.
    Founds(Founders),
    /// It was added to a cluster that exists, which says it.
    Joins(Place),
}

/// A member that is ready to run.
pub(crate) struct Opened {
    pub(crate) started: Started<RealDisk>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) pins: PinKeeper,
    pub(crate) member_disk_id: u64,
    /// The members that it was told of when it began.
    pub(crate) first_members: BTreeMap<u64, Member>,
    /// Where it said then that it is reached.
    pub(crate) own_peer_urls: Vec<String>,
}

/// What the flags say of the cluster, if it is for them to say: of a member that has begun they say nothing any more, and
/// may be as wrong as they like, as at etcd.
pub(crate) fn read_flags(config: &Config) -> Result<Option<Founders>, ConfigError> {
    let has_begun = config.data_dir.join("member").join("identity").exists();
    if has_begun { Ok(None) } else { Founders::of(config).map(Some) }
}

/// Finds out who this member is.
pub(crate) async fn find_origin(config: &Config, founders: Option<Founders>) -> Result<Origin, ServeError> {
    let Some(founders) = founders else { return Ok(Origin::Disk) };
    let advertised = config.advertised_peer_urls();
    if config.is_cluster_existing {
        let place = joining::find_place(&founders, &advertised).await.map_err(ServeError::Join)?;
        return Ok(Origin::Joins(place));
    }
    founders.check_advertised(&advertised).await?;
    Ok(Origin::Founds(founders))
}

/// Takes the data directory into use and recovers what is in it.
pub(crate) fn open(config: &Config, origin: &Origin, clock: Clock) -> Result<Opened, ServeError> {
    let random = |what| getrandom::u64().map_err(|error| ServeError::Io { what, source: error.into() });
    let folder = config.data_dir.join("member");
    refuse_etcds(&folder)?;
    let folders = Folders { log: folder.join("wal"), checkpoints: folder.join("snap") };
    let log_options =
        tenure_wal::Options { salt: random("cannot draw a salt")?, ..tenure_wal::Options::default() };
    let member_disk = RealDisk::open(&folder)?;
    let file = |op, path: PathBuf| move |source| ServeError::File { op, path, source };
    clear_leftovers(&member_disk).map_err(file("clear what an earlier start left in", folder.clone()))?;
    CheckpointWorker::clear_leftovers(&RealDisk::open(&folders.checkpoints)?).map_err(RecoveryError::from)?;
    // Before it has an identity, so that no start after this one needs more than there is.
    keep_room(&member_disk).map_err(file("keep room in", folder.clone()))?;
    folders
        .with_room(|| Ok(prepare_log(&member_disk, RealDisk::open_for_log(&folders.log)?, log_options)?))?;
    let Claimed { identity, first_configuration, first_members, own_peer_urls } =
        folders.with_room(|| claim(config, origin, &member_disk))?;
    keep_room(&member_disk).map_err(file("keep room in", folder.clone()))?;
    let pins = PinnedPeers::load(&member_disk).map_err(file("read", folder.join("peers")))?;
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
    let roster = Roster::of(&started.replica, &first_members);
    let standing = Standing {
        boot: identity.boot,
        start_id: random("cannot draw a number for this start")?,
        began: started.replica.durable(),
    };
    let member_disk_id = identity.directory_id;
    let (known_pins, pins) = pins::keep(member_disk, identity, pins);
    let gate = Arc::new(Gate::new(identity, standing, own_peer_urls.clone(), roster, known_pins));
    if let Some(torn) = &started.torn_tail {
        tracing::warn!(segment = %torn.segment.display(), offset = torn.offset, "cut an unfinished write off the log");
    }
    Ok(Opened { started, gate, pins, member_disk_id, first_members, own_peer_urls })
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
    let cause = match error {
        ServeError::File { source, .. }
        | ServeError::Identity(IdentityError::Io { source, .. })
        | ServeError::Disk(WalError::Io { source, .. } | WalError::NoSpace { source, .. }) => Some(source),
        ServeError::Recovery(error) => error.io_error(),
        _ => None,
    };
    cause.is_some_and(is_full)
}

/// Whose a data directory is, and how it began.
struct Claimed {
    identity: Identity,
    first_configuration: Configuration,
    first_members: BTreeMap<u64, Member>,
    own_peer_urls: Vec<String>,
}

/// Whose the data directory is, or is to be, and with what this member began.
fn claim(config: &Config, origin: &Origin, disk: &RealDisk) -> Result<Claimed, ServeError> {
    let file = |op, name| move |source| ServeError::File { op, path: disk.path_of(name), source };
    let (cluster_id, member_id, members, first_configuration) = match origin {
        Origin::Disk => return claim_again(config, disk),
        Origin::Founds(founders) => {
            let voters = Configuration::of_voters(founders.ids().into_keys());
            (founders.cluster_id(), founders.own_id(), founders.members(), voters)
        }
        // Who the members are it learns from the log.
        Origin::Joins(place) => {
            (place.cluster_id, place.member_id, place.members.clone(), Configuration::default())
        }
    };
    // Both before the identity. A start that did not come to it may have left others.
    first_configuration::keep(disk, &first_configuration)
        .map_err(file("write", first_configuration::FILE))?;
    let beginning = Beginning {
        token: config.token().to_owned(),
        cluster: config.initial_cluster.clone().unwrap_or_default(),
        peer_urls: joined(&config.advertised_peer_urls()),
        members: members.values().cloned().collect(),
    };
    beginning.keep(disk).map_err(file("write", Beginning::FILE))?;
    let directory_id = getrandom::u64()
        .map_err(|error| ServeError::Io { what: "cannot draw a directory id", source: error.into() })?;
    let identity = identity::claim(disk, cluster_id, member_id, directory_id)?;
    let own_peer_urls = members.get(&member_id.as_u64()).map(|own| own.peer_urls.clone()).unwrap_or_default();
    Ok(Claimed { identity, first_configuration, first_members: members, own_peer_urls })
}

/// Whose the data directory is: it counts, whatever the flags say by now. What differs is worth a line in the log.
fn claim_again(config: &Config, disk: &RealDisk) -> Result<Claimed, ServeError> {
    let file = |name| move |source| ServeError::File { op: "read", path: disk.path_of(name), source };
    let Identity { cluster_id, member_id, directory_id, .. } = identity::read(disk)?;
    let first_configuration = first_configuration::load(disk)
        .and_then(|kept| kept.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .map_err(file(first_configuration::FILE))?;
    let first_members = if let Some(beginning) = Beginning::load(disk).map_err(file(Beginning::FILE))? {
        warn_of_differences(config, &beginning, &config.data_dir);
        beginning.members.into_iter().map(|member| (member.id, member)).collect()
    } else {
        // Made by a version that did not write it down: the flags are all there is, and nothing to compare them with.
        Founders::of(config).map(|founders| founders.members()).unwrap_or_default()
    };
    let own_peer_urls = first_members.get(&member_id.as_u64()).map(|own| own.peer_urls.clone());
    let advertised = || config.advertised_peer_urls().iter().map(Url::to_string).collect();
    let own_peer_urls = own_peer_urls.unwrap_or_else(advertised);
    let identity = identity::claim(disk, cluster_id, member_id, directory_id)?;
    Ok(Claimed { identity, first_configuration, first_members, own_peer_urls })
}

fn joined(urls: &[Url]) -> String {
    let mut texts: Vec<String> = urls.iter().map(Url::to_string).collect();
    texts.sort();
    texts.join(",")
}

/// Flags that are not given say nothing, and so nothing else.
fn warn_of_differences(config: &Config, then: &Beginning, folder: &Path) {
    for (flag, was, is) in [
        ("initial-cluster", &then.cluster, config.initial_cluster.clone()),
        ("initial-cluster-token", &then.token, config.initial_cluster_token.clone()),
        (
            "initial-advertise-peer-urls",
            &then.peer_urls,
            config.initial_advertise_peer_urls.as_deref().map(joined),
        ),
    ] {
        if let Some(is) = is.filter(|is| is != was) {
            tracing::warn!(
                now = is,
                then = was,
                data_dir = %folder.display(),
                "--{flag} is ignored: this member began with another value, and its data directory counts"
            );
        }
    }
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

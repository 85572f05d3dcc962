//! What a run consists of: how many members and clients, how good the network and the disks are, which
//! faults happen how often. Plain numbers, so that a run can be described, changed and made smaller.
//!
//! [`swarm`](crate::swarm) draws one from a seed.

/// Everything that is decided before a run begins. All further chance comes from `seed`.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where all chance comes from.
    pub seed: u64,
    /// How many members the cluster has at first.
    pub members: usize,
    /// So many votes commit at first, if it is no majority. Elections need as many as follows from that.
    pub first_commit_votes: Option<u64>,
    /// How many more machines there are, for who may become a member later.
    pub spares: usize,
    /// How long faults happen.
    pub faults_us: u64,
    /// After the faults: how long a healed majority may go on without getting anywhere, until it has answered
    /// a write.
    pub progress_within_us: u64,
    /// And the whole healed cluster, without load, until all members are equal.
    pub convergence_within_us: u64,
    /// The clients.
    pub clients: ClientPlan,
    /// The network.
    pub network: NetworkPlan,
    /// The disks.
    pub disks: DiskPlan,
    /// What breaks.
    pub faults: FaultPlan,
    /// The mean time of executing what touches many keys.
    pub mean_apply_us: u64,
    /// A member handles what arrived within this time together, as a busy thread does.
    pub max_batching_us: u64,
    /// The most that a clock runs fast or slow.
    pub max_clock_drift_ppm: u64,
    /// The settings of the members.
    pub replica: tenure_replica::Options,
    /// On every second machine, how many entries before a checkpoint stay in the log: a leader may still have what
    /// another one has compacted.
    pub other_catch_up_entries: u64,
    /// The settings of their logs.
    pub log: tenure_wal::Options,
}

impl Plan {
    /// How many machines there are, with members on them or not.
    pub fn machines(&self) -> usize {
        self.members + self.spares
    }

    /// The plan in a line, as far as a line goes.
    pub fn summary(&self) -> String {
        let Plan { members, spares, clients, network, faults, .. } = self;
        let often = |interval_us: Option<u64>, what: &str| {
            interval_us.map(|us| format!("{what} every {} ms", us / 1_000))
        };
        let kinds = [
            often(faults.process_crash_us, "crashes"),
            often(faults.power_loss_us, "power losses"),
            often(faults.total_outage_us, "outages of all"),
            often(faults.partition_us, "partitions"),
            often(faults.pause_us, "pauses"),
            often(faults.disk_stall_us, "stalled disks"),
            often(faults.disk_error_us, "disk errors"),
            often(faults.transfer_us, "transfers"),
            often(faults.connection_loss_us, "broken connections"),
            often(faults.clock_change_us, "changes of clocks"),
            often(faults.member_change_us, "changes of members"),
            often(faults.disk_loss_us, "lost disks"),
            often(faults.rot_us, "rotten disks"),
            often(faults.full_disk_us, "full disks"),
            often(faults.stranger_us, "strangers"),
        ];
        let mut kinds: Vec<String> = kinds.into_iter().flatten().collect();
        if faults.ambush_ppm > 0 {
            kinds.push(format!("{} ppm of ambushes", faults.ambush_ppm));
        }
        format!(
            "{members} members and {spares} spares, {} clients, {} s, {} ppm lost, {} ppm doubled; {}",
            clients.count,
            self.faults_us / 1_000_000,
            network.loss_ppm,
            network.duplication_ppm,
            if kinds.is_empty() { "no faults".to_owned() } else { kinds.join(", ") }
        )
    }
}

/// Who asks what how often.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// How many clients; each has one operation under way at a time.
    pub count: usize,
    /// The mean time between an answer and the next operation.
    pub think_us: u64,
    /// After this a client gives an operation up: it does not know what became of it.
    pub timeout_us: u64,
    /// How many keys there are. Few, so that clients meet.
    pub keys: u8,
    /// How long values are.
    pub value_bytes: usize,
    /// How much of everything there is, in parts of whatever sum they have.
    pub weights: Weights,
    /// How likely a client stays with the member that answered it, in millionths.
    pub loyalty_ppm: u32,
}

/// How often each kind of operation is chosen, relative to the others.
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    /// Write one key.
    pub put: u64,
    /// Write two keys in a transaction.
    pub put_two: u64,
    /// Write a key if it was not changed since the client last saw it.
    pub compare_and_swap: u64,
    /// Write two keys if both were not.
    pub compare_two: u64,
    /// Write a key if all that there are of some are as expected, otherwise read them.
    pub compare_some: u64,
    /// Write a key and, in a transaction within, another that keeps its value.
    pub touch: u64,
    /// Delete a key.
    pub delete: u64,
    /// Read a key.
    pub get: u64,
    /// Read all keys.
    pub get_all: u64,
    /// Read all keys as they were at an earlier revision.
    pub get_old: u64,
    /// Read a key from whatever state the member has.
    pub get_stale: u64,
    /// Forget history.
    pub compact: u64,
}

/// How messages travel.
#[derive(Clone, Debug)]
pub struct NetworkPlan {
    /// No message is faster.
    pub min_delay_us: u64,
    /// On top of that, on average.
    pub mean_extra_delay_us: u64,
    /// How many messages take much longer, in millionths.
    pub tail_ppm: u32,
    /// How much longer, on average.
    pub mean_tail_us: u64,
    /// How many are lost.
    pub loss_ppm: u32,
    /// How many arrive twice.
    pub duplication_ppm: u32,
    /// Whether messages of one lane between two members stay in order, as those of a connection do.
    pub in_order: bool,
    /// What the lane for large messages carries, in bytes a second.
    pub bandwidth_bytes_per_s: u64,
    /// How much may wait for that lane; what comes then is given back.
    pub lane_bytes: usize,
    /// How likely the peers of a process that dies notice that the connection broke.
    pub notice_ppm: u32,
}

/// How disks behave.
#[derive(Clone, Debug)]
pub struct DiskPlan {
    /// The mean time of a sync.
    pub mean_sync_us: u64,
    /// How many syncs stall, in millionths.
    pub stall_ppm: u32,
    /// For how long, on average.
    pub mean_stall_us: u64,
    /// How many pieces of a checkpoint are read with a bit turned over, in millionths.
    pub misread_ppm: u32,
}

/// What breaks, and how often: mean times between two of a kind in the whole cluster; none means never.
#[derive(Clone, Default, Debug)]
pub struct FaultPlan {
    /// A process dies; what it wrote stays readable.
    pub process_crash_us: Option<u64>,
    /// A machine loses power; of what was not synced, anything may be left.
    pub power_loss_us: Option<u64>,
    /// Of the crashes above, how many hit in the midst of a job of a disk, in millionths.
    pub mid_job_ppm: u32,
    /// How many recoveries are interrupted by another crash, in millionths.
    pub recovery_crash_ppm: u32,
    /// How long a member stays down on average.
    pub mean_down_us: u64,
    /// All processes die at once.
    pub total_outage_us: Option<u64>,
    /// The network splits.
    pub partition_us: Option<u64>,
    /// How long a split lasts on average.
    pub mean_partition_us: u64,
    /// A process stops, and goes on later as if nothing had happened.
    pub pause_us: Option<u64>,
    /// How long it stops on average.
    pub mean_pause_us: u64,
    /// One disk of a member stands still.
    pub disk_stall_us: Option<u64>,
    /// For how long on average.
    pub mean_disk_stall_us: u64,
    /// A write or a sync fails.
    pub disk_error_us: Option<u64>,
    /// An operator moves leadership.
    pub transfer_us: Option<u64>,
    /// A connection breaks, and a member is told so though its peer lives.
    pub connection_loss_us: Option<u64>,
    /// A clock changes its rate, or jumps ahead.
    pub clock_change_us: Option<u64>,
    /// An operator asks for other members.
    pub member_change_us: Option<u64>,
    /// Operators ask any member for one change at a time, as clients of the service do; otherwise they have the
    /// leader's core go from any members to any others.
    pub asks_any_member: bool,
    /// A disk is gone for good, and with it a member.
    pub disk_loss_us: Option<u64>,
    /// A bit turns over on a disk, or a file is gone, while its member is down.
    pub rot_us: Option<u64>,
    /// Others fill a member's disk…
    pub full_disk_us: Option<u64>,
    /// …for so long, on average.
    pub mean_full_disk_us: u64,
    /// Who is no member and knows the cluster says something to a member that would do harm if it were believed.
    pub stranger_us: Option<u64>,
    /// How many of the faults seek out the leader, in millionths.
    pub at_leader_ppm: u32,
    /// How many leaders are hit shortly after they were elected or began to change the members, and how many
    /// members that install a snapshot or send it, in millionths: what has only begun is where the paper's figure
    /// 8 lies.
    pub ambush_ppm: u32,
}

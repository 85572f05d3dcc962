//! Swarm testing: each seed draws its own mix (Groce et al., "Swarm Testing", ISSTA 2012).
//!
//! A run in which everything goes wrong at once reaches few of the states that a run does in which some
//! things never happen: faults hide each other. So each kind of fault, each size and each rate is drawn
//! for a run as a whole, and is often off.

use tenure_replica::LaneBounds;

use crate::plan::{ClientPlan, DiskPlan, FaultPlan, NetworkPlan, Plan, Weights};
use crate::random::{CERTAIN_PPM, Random};

const MILLISECOND_US: u64 = 1_000;
const SECOND_US: u64 = 1_000_000;
/// What comes no more often than this leaves time for the one before to be over.
const RARE_US: u64 = 5 * SECOND_US;
/// Of so many seeds one is calm.
const CALM_EVERY: u64 = 25;
/// Most checkpoints of a run fit into a chunk of this size.
const LARGE_CHUNK_BYTES: usize = 256 << 10;
/// About the most operations of a run, whose checkpoints hold more with each.
const MAX_OPERATIONS: u64 = 6_000;

impl Plan {
    /// The run that a seed stands for. Now and then nothing goes wrong in it: some faults of members only show when
    /// there is nobody else to blame.
    pub fn of_seed(seed: u64) -> Plan {
        if Random::new(!seed).below(CALM_EVERY) == 0 { Plan::calm(seed) } else { Plan::swarm(seed) }
    }

    fn swarm(seed: u64) -> Plan {
        let mut random = Random::new(seed);
        // Seeds that follow each other should not begin alike.
        let mut random = random.split();
        let members = random.pick(&[1, 2, 3, 3, 3, 3, 3, 4, 5, 5, 5, 7]);
        let (election_timeout_us, heartbeat_interval_us) =
            random.pick(&[(1_000, 100), (1_000, 100), (300, 50), (150, 25), (2_000, 500)]);
        let election_timeout_us = election_timeout_us * MILLISECOND_US;
        let heartbeat_interval_us = heartbeat_interval_us * MILLISECOND_US;
        let mut replica = replica_options(&mut random, election_timeout_us, heartbeat_interval_us);
        let network = network_plan(&mut random, heartbeat_interval_us);
        let disks = disk_plan(&mut random, election_timeout_us);
        let mut faults = fault_plan(&mut random, election_timeout_us);
        faults.stranger_us = stranger_rate(seed, election_timeout_us);
        let faults_us = random.between(10, 60) * SECOND_US;
        let spares = if faults.member_change_us.is_some() { random.between(0, 3) as usize } else { 0 };
        let clients = client_plan(&mut random, replica.request_timeout_us, faults_us);
        if replica.raft.max_append_bytes <= clients.value_bytes {
            // Whoever replicates one entry at a time must not accept more of them than clients wait for: it would
            // do nothing but commit what has been given up.
            replica.raft.max_uncommitted_bytes = 1_000;
        }
        // Operators who ask for one change at a time set no quorums, but may find some set.
        let sets_quorums = random.chance(CERTAIN_PPM / 3) && faults.asks_any_member;
        let first_commit_votes = sets_quorums.then(|| random.between(1, members as u64));
        let mut plan = Plan {
            seed,
            members,
            first_commit_votes,
            spares,
            faults_us,
            progress_within_us: 30 * election_timeout_us
                + 3 * clients.timeout_us
                + 100 * network.round_trip_us(),
            convergence_within_us: 100 * SECOND_US + 3_000 * network.round_trip_us(),
            clients,
            network,
            disks,
            faults,
            mean_apply_us: random.pick(&[0, 1_000, election_timeout_us / 4, 2 * election_timeout_us]),
            max_batching_us: random.pick(&[0, 0, 0, 50, 500]),
            max_clock_drift_ppm: random.pick(&[0, 200, 50_000]),
            other_catch_up_entries: random.pick(&[replica.catch_up_entries, 1_000]),
            replica,
            log: tenure_wal::Options {
                segment_bytes: random.pick(&[8, 16, 64]) << 10,
                max_spares: random.pick(&[0, 1, 2]),
                salt: random.next_u64(),
            },
        };
        fill_disks(&mut plan);
        plan
    }

    /// The mix whose speed is measured: three members, some of every fault, and at least twenty operations
    /// a second.
    pub fn typical(seed: u64) -> Plan {
        let mut plan = Plan::swarm(seed);
        (plan.members, plan.spares, plan.first_commit_votes) = (3, 0, None);
        plan.replica = tenure_replica::Options {
            checkpoint_entries: 500,
            catch_up_entries: 100,
            request_timeout_us: 3 * SECOND_US,
            ..tenure_replica::Options::default()
        };
        plan.other_catch_up_entries = plan.replica.catch_up_entries;
        plan.clients = ClientPlan {
            count: 5,
            think_us: 150 * MILLISECOND_US,
            timeout_us: 2 * SECOND_US,
            keys: 8,
            value_bytes: 32,
            weights: TYPICAL_WEIGHTS,
            loyalty_ppm: 900_000,
        };
        plan.network = quiet_network();
        plan.network.loss_ppm = 1_000;
        plan.network.duplication_ppm = 1_000;
        plan.disks = DiskPlan { mean_sync_us: 300, stall_ppm: 0, mean_stall_us: 0, misread_ppm: 0 };
        plan.faults = FaultPlan {
            process_crash_us: Some(20 * SECOND_US),
            power_loss_us: Some(20 * SECOND_US),
            mean_down_us: 2 * SECOND_US,
            partition_us: Some(20 * SECOND_US),
            mean_partition_us: 3 * SECOND_US,
            at_leader_ppm: 500_000,
            ..FaultPlan::default()
        };
        plan.max_batching_us = 0;
        plan.mean_apply_us = 1_000;
        plan.log.segment_bytes = 64 << 10;
        plan
    }

    /// Nothing ever goes wrong: then nothing may happen either, but what operators ask for.
    pub fn calm(seed: u64) -> Plan {
        let mut plan = Plan::typical(seed);
        let mut random = Random::new(seed);
        plan.members = random.pick(&[1, 2, 3, 5]);
        plan.network = quiet_network();
        plan.network.bandwidth_bytes_per_s = random.pick(&[100_000, 100_000_000]);
        // Three heartbeats at the longest. Clients wait for two executions.
        plan.mean_apply_us = random.pick(&[0, plan.replica.raft.election_timeout_us / 10]);
        plan.replica.max_inline_keys = random.pick(&[0, 256]);
        plan.faults = FaultPlan { transfer_us: random.pick(&[None, Some(RARE_US)]), ..FaultPlan::default() };
        plan.max_clock_drift_ppm = 0;
        plan
    }

    /// Whether everything works: then an election that nobody has asked for is a fault of the members, and so is an
    /// operation that fails.
    pub fn is_calm(&self) -> bool {
        let is_quick = self.disks.stall_ppm == 0 && self.disks.mean_sync_us <= MILLISECOND_US;
        // The first election takes its time.
        let is_patient = self.clients.timeout_us >= 2 * self.replica.raft.election_timeout_us;
        self.faults.is_none() && self.network.is_quiet() && is_quick && is_patient
    }
}

impl NetworkPlan {
    /// How long a question and its answer take, most of the time.
    pub(crate) fn round_trip_us(&self) -> u64 {
        2 * (self.min_delay_us + 2 * self.mean_extra_delay_us)
    }

    fn is_quiet(&self) -> bool {
        let is_faithful = self.loss_ppm == 0 && self.duplication_ppm == 0 && self.in_order;
        is_faithful && self.tail_ppm == 0 && self.mean_extra_delay_us <= MILLISECOND_US
    }
}

impl FaultPlan {
    /// Whether nothing breaks. (To hand over leadership now and then breaks nothing.)
    fn is_none(&self) -> bool {
        let kinds = [
            self.process_crash_us,
            self.power_loss_us,
            self.total_outage_us,
            self.partition_us,
            self.pause_us,
            self.disk_stall_us,
            self.disk_error_us,
            self.connection_loss_us,
            self.clock_change_us,
            self.member_change_us,
            self.disk_loss_us,
            self.rot_us,
            self.full_disk_us,
            self.stranger_us,
        ];
        let is_rare = self.transfer_us.is_none_or(|interval_us| interval_us >= RARE_US);
        kinds.iter().all(Option::is_none) && is_rare && self.ambush_ppm == 0
    }
}

const TYPICAL_WEIGHTS: Weights = Weights {
    put: 30,
    put_two: 5,
    compare_and_swap: 12,
    compare_two: 3,
    compare_some: 3,
    touch: 3,
    delete: 5,
    get: 30,
    get_all: 5,
    get_old: 4,
    get_stale: 5,
    compact: 1,
};

fn quiet_network() -> NetworkPlan {
    NetworkPlan {
        min_delay_us: 100,
        mean_extra_delay_us: 200,
        tail_ppm: 0,
        mean_tail_us: 0,
        loss_ppm: 0,
        duplication_ppm: 0,
        in_order: true,
        bandwidth_bytes_per_s: 100_000_000,
        lane_bytes: LaneBounds::BULK.max_bytes,
        notice_ppm: 900_000,
    }
}

/// Room on the disks, drawn apart from all else: the runs of earlier seeds stay what they were.
fn fill_disks(plan: &mut Plan) {
    let mut random = Random::new(plan.seed).split();
    let random = &mut random.split();
    plan.replica.reserve_bytes = random.pick(&[500, 4_000, 16 << 20]);
    plan.replica.room_retry_us = random.pick(&[100 * MILLISECOND_US, SECOND_US]);
    let timeout_us = plan.replica.raft.election_timeout_us;
    plan.faults.full_disk_us = rate(random, 700_000, 2 * timeout_us, 30 * timeout_us);
    plan.faults.mean_full_disk_us = random.pick(&[timeout_us / 2, 4 * timeout_us, 20 * timeout_us]);
}

fn network_plan(random: &mut Random, heartbeat_interval_us: u64) -> NetworkPlan {
    NetworkPlan {
        min_delay_us: random.pick(&[10, 100, 100, 1_000]),
        mean_extra_delay_us: random.pick(&[20, 200, 200, 1_000, heartbeat_interval_us / 8]),
        tail_ppm: random.pick(&[0, 0, 1_000, 20_000, 100_000]),
        mean_tail_us: random.pick(&[heartbeat_interval_us, 10 * heartbeat_interval_us]),
        loss_ppm: random.pick(&[0, 0, 1_000, 10_000, 50_000, 200_000]),
        duplication_ppm: random.pick(&[0, 0, 1_000, 50_000, 200_000]),
        in_order: random.chance(500_000),
        bandwidth_bytes_per_s: random.pick(&[100_000, 2_000_000, 10_000_000, 100_000_000]),
        lane_bytes: random.pick(&[2_000, 30_000, LaneBounds::BULK.max_bytes, LaneBounds::BULK.max_bytes]),
        notice_ppm: random.pick(&[0, 500_000, 1_000_000]),
    }
}

fn disk_plan(random: &mut Random, election_timeout_us: u64) -> DiskPlan {
    DiskPlan {
        mean_sync_us: random.pick(&[20, 300, 300, 2_000, 10_000]),
        stall_ppm: random.pick(&[0, 0, 1_000, 20_000]),
        mean_stall_us: random.pick(&[election_timeout_us / 4, 2 * election_timeout_us]),
        misread_ppm: random.pick(&[0, 0, 0, 20_000, 200_000]),
    }
}

/// A mean time between two faults, or never. Each doubling is as likely as the next.
fn rate(random: &mut Random, never_ppm: u32, at_least_us: u64, at_most_us: u64) -> Option<u64> {
    let doublings = random.below(u64::from((at_most_us / at_least_us).ilog2()) + 1);
    let shortest_us = at_least_us << doublings;
    let interval_us = random.between(shortest_us, 2 * shortest_us);
    (!random.chance(never_ppm)).then_some(interval_us)
}

fn fault_plan(random: &mut Random, election_timeout_us: u64) -> FaultPlan {
    let timeout_us = election_timeout_us;
    let asks_any_member = random.chance(400_000);
    // Who asks for a change cannot know what will be lost before it is made.
    let never_lost_ppm = if asks_any_member { CERTAIN_PPM } else { 700_000 };
    FaultPlan {
        process_crash_us: rate(random, 400_000, timeout_us, 30 * timeout_us),
        power_loss_us: rate(random, 400_000, timeout_us, 30 * timeout_us),
        mid_job_ppm: random.pick(&[0, 300_000, 700_000]),
        recovery_crash_ppm: random.pick(&[0, 100_000, 400_000]),
        mean_down_us: random.pick(&[timeout_us / 10, timeout_us, 4 * timeout_us, 15 * timeout_us]),
        total_outage_us: rate(random, 850_000, 10 * timeout_us, 40 * timeout_us),
        partition_us: rate(random, 400_000, timeout_us, 30 * timeout_us),
        mean_partition_us: random.pick(&[timeout_us / 2, 3 * timeout_us, 10 * timeout_us]),
        pause_us: rate(random, 600_000, 2 * timeout_us, 30 * timeout_us),
        mean_pause_us: random.pick(&[timeout_us / 4, 2 * timeout_us, 6 * timeout_us]),
        disk_stall_us: rate(random, 700_000, timeout_us, 20 * timeout_us),
        mean_disk_stall_us: random.pick(&[timeout_us / 10, timeout_us, 4 * timeout_us]),
        disk_error_us: rate(random, 700_000, 4 * timeout_us, 30 * timeout_us),
        transfer_us: rate(random, 600_000, timeout_us / 2, 20 * timeout_us),
        connection_loss_us: rate(random, 600_000, timeout_us / 2, 20 * timeout_us),
        clock_change_us: rate(random, 800_000, 4 * timeout_us, 20 * timeout_us),
        member_change_us: rate(random, 600_000, timeout_us, 30 * timeout_us),
        asks_any_member,
        disk_loss_us: rate(random, never_lost_ppm, 10 * timeout_us, 60 * timeout_us),
        rot_us: rate(random, never_lost_ppm, 4 * timeout_us, 60 * timeout_us),
        // See `fill_disks`.
        full_disk_us: None,
        mean_full_disk_us: 0,
        stranger_us: None,
        at_leader_ppm: random.pick(&[0, 500_000, 900_000]),
        ambush_ppm: random.pick(&[0, 0, 0, 200_000, 600_000]),
    }
}

/// Drawn apart, so that the seeds of before are what they were where no stranger comes.
fn stranger_rate(seed: u64, election_timeout_us: u64) -> Option<u64> {
    let mut random = Random::new(!seed).split();
    rate(&mut random, 700_000, election_timeout_us / 8, 4 * election_timeout_us)
}

fn client_plan(random: &mut Random, request_timeout_us: u64, faults_us: u64) -> ClientPlan {
    let some =
        |random: &mut Random, most: u64| if random.chance(300_000) { 0 } else { random.between(1, most) };
    let count = random.between(1, 12);
    let think_us = random.pick(&[1_000, 20_000, 100_000, 400_000, 2_000_000]);
    ClientPlan {
        count: count as usize,
        think_us: think_us.max(faults_us * count / MAX_OPERATIONS),
        timeout_us: random.pick(&[request_timeout_us / 2, 2 * request_timeout_us]),
        keys: random.between(1, 12) as u8,
        value_bytes: random.pick(&[8, 8, 64, 700]),
        weights: Weights {
            put: random.between(1, 30),
            put_two: some(random, 10),
            compare_and_swap: some(random, 30),
            compare_two: some(random, 10),
            compare_some: some(random, 10),
            touch: some(random, 10),
            delete: some(random, 15),
            get: some(random, 40),
            get_all: some(random, 10),
            get_old: some(random, 10),
            get_stale: some(random, 10),
            compact: some(random, 3),
        },
        loyalty_ppm: random.pick(&[0, 500_000, 950_000]),
    }
}

fn replica_options(
    random: &mut Random,
    election_timeout_us: u64,
    heartbeat_interval_us: u64,
) -> tenure_replica::Options {
    let raft = raft_options(random, election_timeout_us, heartbeat_interval_us);
    tenure_replica::Options {
        raft,
        request_timeout_us: random.pick(&[2, 3, 7]) * election_timeout_us,
        read_retry_us: election_timeout_us / 2,
        forward_repeat_us: election_timeout_us / 2,
        max_forwarded_bytes: random.pick(&[1, 500, 16 << 20]),
        forward_retry_us: 10 * MILLISECOND_US,
        max_learners: 1,
        max_requests: random.pick(&[4, 1 << 16]),
        max_forward_bytes: random.pick(&[1, 200, 1 << 20]),
        max_inline_keys: random.pick(&[0, 1, 256]),
        max_write_bytes: random.pick(&[1, 300, 8 << 20]),
        checkpoint_entries: random.pick(&[10, 50, 300, 100_000]),
        checkpoint_bytes: random.pick(&[2_000, 64 << 20]),
        max_dead_checkpoint_bytes: random.pick(&[0, 2_000, 1 << 20]),
        max_checkpoint_delay: random.pick(&[1, 8, 100]),
        // See `fill_disks`.
        reserve_bytes: 16 << 20,
        room_retry_us: SECOND_US,
        acknowledged_us: SECOND_US,
        catch_up_entries: random.pick(&[0, 5, 100]),
        catch_up_bytes: random.pick(&[0, 2_000, 64 << 20]),
        max_held_log_bytes: random.pick(&[10_000, 1 << 30]),
    }
}

fn raft_options(
    random: &mut Random,
    election_timeout_us: u64,
    heartbeat_interval_us: u64,
) -> tenure_raft::Options {
    tenure_raft::Options {
        election_timeout_us,
        election_spread_us: random.pick(&[
            election_timeout_us / 50,
            election_timeout_us / 5,
            election_timeout_us,
            election_timeout_us,
        ]),
        heartbeat_interval_us,
        broken_connection_spread_us: random.pick(&[0, election_timeout_us / 50, election_timeout_us / 10]),
        disk_stall_timeout_us: 2 * election_timeout_us,
        max_append_bytes: random.pick(&[1, 500, 1 << 20]),
        max_inflight_messages: random.pick(&[1, 3, 256]),
        max_inflight_bytes: random.pick(&[100, 2_000, 16 << 20]),
        max_uncommitted_bytes: random.pick(&[1_000, 64 << 20]),
        max_apply_bytes: random.pick(&[1, 1_000, 4 << 20]),
        max_recent_bytes: random.pick(&[0, 2_000, 32 << 20]),
        max_early_bytes: random.pick(&[0, 2_000, 4 << 20]),
        snapshot_chunk_bytes: random.pick(&[1_000, 10_000, LARGE_CHUNK_BYTES]),
        max_waiting_reads: random.pick(&[1, 1 << 16]),
        ..tenure_raft::Options::default()
    }
}

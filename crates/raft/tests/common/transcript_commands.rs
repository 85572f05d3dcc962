//! The commands of the transcripts: what a script can say.

/// What a script can say. Servers are named by their numbers, times are in milliseconds.
#[derive(goldenscript::Command)]
pub(crate) enum Command {
    /// `cluster nodes=3`, `cluster configuration="{n1 n2 & n3}" max_append_bytes=1`: a new cluster. `also="4 5"`:
    /// and servers that are no members yet.
    Cluster(#[arg(key, many, optional)] Vec<(String, String)>),
    /// `server 2 terms="1 1 4" term=7 voted=3`, `server 2 entries="1@1 2@1=x"`: what is on its disk; starts.
    Server(u64, #[arg(key, many, optional)] Vec<(String, String)>),

    /// `campaign 1`: its election timeout passes.
    Campaign(u64),
    /// `elect 1`: it campaigns, all messages are delivered, and it must have won.
    Elect(u64),
    /// `win 1`: as `elect`, but only what votes take is delivered: its first appends are still on the wire.
    Win(u64),
    /// `heartbeat 1`: the leader's next deadline passes.
    Heartbeat(u64),
    /// `time 250`: the clock goes on and every deadline on the way passes. Nothing is delivered.
    Time(u64),
    /// `run 250`: as `time`, but every message is delivered at once.
    Run(u64),
    /// `pause 250`: the clock goes on and nobody notices.
    Pause(u64),

    /// `propose 1 a b=2`: proposed together.
    Propose(u64, #[arg(optional)] Vec<String>, #[arg(key, many, optional)] Vec<(String, String)>),
    /// `read 2`: asks for a read index.
    Read(u64),
    /// `transfer 1 2`: the first hands leadership to the second.
    Transfer(u64, u64),
    /// `change 1 "{n1 n2 + n3!}"`, `change 1 "{n1}" force=true`: asks a leader to change the members.
    Change(u64, String, #[arg(key, many, optional)] Vec<(String, String)>),
    /// `unreachable 2 1`: the first's connection to the second broke.
    Unreachable(u64, u64),

    /// `wire`: what lies on it.
    Wire,
    /// `deliver`, `deliver 1 2`, `deliver to=2 kind=Heartbeat first=1`: what is on the wire now, in order.
    Deliver(#[arg(optional)] Vec<u64>, #[arg(key, many, optional)] Vec<(String, String)>),
    /// As `deliver`, but the messages are lost.
    Drop(#[arg(optional)] Vec<u64>, #[arg(key, many, optional)] Vec<(String, String)>),
    /// As `deliver`, but the messages are doubled: the copies go to the end of the wire.
    Duplicate(#[arg(optional)] Vec<u64>, #[arg(key, many, optional)] Vec<(String, String)>),
    /// As `deliver`, but the messages go to the end of the wire, last first.
    Reorder(#[arg(optional)] Vec<u64>, #[arg(key, many, optional)] Vec<(String, String)>),
    /// `receive "n1@1 → n2 AppendEntries 0@0 [1@1] commit 0"`: a message that the script invents.
    Receive(String),
    /// `stabilize`: delivers until nothing is left.
    Stabilize,
    /// `partition 1 2`: these against all others.
    Partition(Vec<u64>),
    /// `cut 1 2`: what the first sends to the second is lost from now on.
    Cut(u64, u64),
    /// `heal`: all links work again.
    Heal,

    /// `crash 1`: power is lost.
    Crash(u64),
    /// `restart 1`.
    Restart(u64),
    /// `hold-disk 1`: its writes wait for `persist`, and reads of its log for `release-disk`.
    #[command(name = "hold-disk")]
    HoldDisk(u64),
    /// `slow-disk 1 300`: its writes take so long, as far as `time` and `run` go.
    #[command(name = "slow-disk")]
    SlowDisk(u64, u64),
    /// `flush 1`: a held write is done and its messages leave, but the server hears of it only by `persist`.
    Flush(u64),
    /// `persist 1`, `persist 1 2`: so many held writes are done, reported by the last one's token.
    Persist(u64, Option<usize>),
    /// `release-disk 1`: all held writes are done, one by one, and later ones at once.
    #[command(name = "release-disk")]
    ReleaseDisk(u64),
    /// `snapshot 1`: takes one of what is applied.
    Snapshot(u64),
    /// `compact 1`, `compact 1 5`: drops the log up to there.
    Compact(u64, Option<u64>),
    /// `hold-chunks 1`: the chunks of a snapshot that it is to send wait for `load`.
    #[command(name = "hold-chunks")]
    HoldChunks(u64),
    /// `load 1`: reads the next chunk, and it is sent.
    Load(u64),
    /// `hold-snapshots 3`: the parts of a snapshot that arrive wait for `store`.
    #[command(name = "hold-snapshots")]
    HoldSnapshots(u64),
    /// `store 3`: keeps the next part, or installs the snapshot.
    Store(u64),
    /// `damage 3`: what arrived of the snapshot turns out to be damaged.
    Damage(u64),

    /// `status`, `status 1`.
    Status(Option<u64>),
    /// `log`, `log 1`: the entries.
    Log(Option<u64>),
    /// `terms`: the terms of the entries, as the paper draws logs.
    Terms,
    /// `state 1`: the commands that its machine has executed.
    State(u64),
    /// `configuration 1`: the one in force.
    Configuration(u64),
}

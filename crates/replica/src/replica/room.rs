//! A disk that is short of room: what is kept before it is needed, what is given up, and which writes are refused.

use tenure_raft::quorum::quorum_value;
use tenure_raft::{NodeId, Quorum};

use super::Replica;
use crate::job::{CheckpointJob, Job, LogJob};
use crate::message::PeerMessage;

impl Replica {
    /// Sees to it that there is room for the next checkpoint, and tells the others if there is not.
    pub(super) fn look_after_room(&mut self) {
        let needed_bytes = self.needed_bytes();
        if let Some(bytes) = self.room.ask(self.now, needed_bytes, &self.options) {
            self.jobs.push_back(Job::Checkpoint(CheckpointJob::Reserve { bytes }));
        }
        let is_news = self.room.judge(needed_bytes);
        if is_news && self.room.is_short() {
            // What followers that are a little behind would like to have is too much now.
            self.compact_log(self.node.log().snapshot().last_included.index.0);
        }
        if let Some(is_short) = self.room.tell(self.now, is_news, &self.options) {
            let own_id = self.node.id();
            for to in self.node.configuration().members().filter(|&id| id != own_id) {
                self.jobs.push_back(Job::Send { to, message: PeerMessage::Room { is_short } });
            }
        }
    }

    /// How much room the next checkpoint needs at the most, and what is written before it besides clients' puts.
    fn needed_bytes(&self) -> u64 {
        self.store.checkpoint_bytes() + self.options.reserve_bytes
    }

    /// The checkpoints' worker keeps so much room.
    pub(super) fn on_reserved(&mut self, bytes: u64) {
        let needed_bytes = self.needed_bytes();
        let is_too_little = self.room.on_reserved(self.now, bytes, needed_bytes, &self.options);
        if is_too_little && self.room.begin_giving_up() {
            self.jobs.push_back(Job::Log(LogJob::GiveUpSpares));
        }
        if bytes >= needed_bytes {
            self.checkpoint.on_room();
        }
    }

    /// Whether clients' puts are refused: those that have room for them are no quorum. (One member whose disk is full is
    /// borne like one that is down; as long as it can, it goes on.)
    pub(super) fn refuses_puts(&self) -> bool {
        let own_id = self.node.id();
        let has_room = |id: NodeId| {
            if id == own_id { !self.room.is_short() } else { !self.room.is_other_short(id) }
        };
        self.room.is_anybody_short() && !quorum_value(self.node.configuration(), Quorum::Commit, has_room)
    }

    /// The members whose disks are short of room, as far as is known here.
    pub(super) fn short_members(&self) -> Vec<NodeId> {
        let own = self.room.is_short().then(|| self.node.id());
        let mut short: Vec<NodeId> = own.into_iter().chain(self.room.others()).collect();
        short.sort_unstable();
        short
    }
}

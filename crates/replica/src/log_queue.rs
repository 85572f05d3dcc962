//! Group commit without a timer: while one write of the log runs, what is to be written gathers; the next
//! write takes it all.

use tenure_raft::{Entry, Envelope, HardState, WriteToken};

use crate::job::LogJob;

/// What one write will hold.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Batch {
    hard_state: Option<HardState>,
    entries: Vec<Entry>,
    token: WriteToken,
    then_send: Vec<Envelope>,
}

/// The write that runs, and the one that gathers behind it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct LogQueue {
    gathering: Vec<Batch>,
    running: Option<(WriteToken, Vec<Envelope>)>,
}

impl LogQueue {
    /// Takes an [`Effect::Persist`](tenure_raft::Effect::Persist).
    pub(crate) fn push(
        &mut self,
        hard_state: Option<HardState>,
        entries: Vec<Entry>,
        token: WriteToken,
        then_send: Vec<Envelope>,
    ) {
        self.gathering.push(Batch { hard_state, entries, token, then_send });
    }

    /// Whether nothing runs and nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_none() && self.gathering.is_empty()
    }

    /// The next write, if none runs: everything that gathered, up to about `max_bytes`.
    pub(crate) fn next_write(&mut self, max_bytes: usize) -> Option<LogJob> {
        if self.running.is_some() || self.gathering.is_empty() {
            return None;
        }
        let mut bytes = 0;
        let count = self
            .gathering
            .iter()
            .take_while(|batch| {
                let fits = bytes == 0 || bytes < max_bytes;
                bytes += batch.entries.iter().map(Entry::size_bytes).sum::<usize>();
                fits
            })
            .count();
        let mut batches = self.gathering.drain(..count);
        let mut merged = batches.next()?;
        for batch in batches {
            merged.absorb(batch);
        }
        let Batch { hard_state, entries, token, then_send } = merged;
        self.running = Some((token, then_send));
        Some(LogJob::Write { hard_state, entries, token })
    }

    /// The write is durable: the messages that waited for it.
    pub(crate) fn complete(&mut self, token: WriteToken) -> Vec<Envelope> {
        let (running, then_send) = self.running.take().expect("only the write that runs completes");
        assert_eq!(running, token, "the write that runs completes");
        then_send
    }
}

impl Batch {
    /// Takes in the write that follows. Its entries replace those of the same indexes and all after them.
    fn absorb(&mut self, next: Batch) {
        if let Some(HardState { current_term, .. }) = next.hard_state {
            // An answer of an earlier term may speak for entries that the later one is about to replace, and
            // that are then never written. Nobody waits for it any more.
            self.then_send.retain(|envelope| envelope.term >= current_term);
        }
        self.hard_state = next.hard_state.or(self.hard_state);
        if let Some(first) = next.entries.first() {
            self.entries.retain(|entry| entry.id.index < first.id.index);
        }
        self.entries.extend(next.entries);
        self.token = next.token;
        self.then_send.extend(next.then_send);
    }
}

#[cfg(test)]
mod tests;

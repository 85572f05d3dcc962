//! Reads that take long: a few at a time, on threads of their own, and behind them a queue with an end.
//!
//! A list of a million keys or a hash of everything keeps a core busy for a second. So many of them as clients like to
//! ask for would leave nothing for heartbeats, and each that waits with its snapshot keeps memory from being freed. Here
//! whoever waits holds nothing, and the threads give way to all others (`nice`), so that on few cores a list becomes
//! slower, and not the cluster.
//!
//! Hashes of everything have a lane of their own: a list never waits for them.

use std::io;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use tenure_api::ApiError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Large answers that are on their way at the same time; each keeps what it has still to show.
const MAX_ANSWERS: usize = 64;
/// How many may wait for each of the turns below; who comes then is told that there are too many.
const MAX_WAITING: usize = 1024;
const MAX_WAITING_HASHES: usize = 256;
/// How much the threads give way.
const NICENESS: i32 = 10;

type Work = Box<dyn FnOnce() + Send>;

/// The threads, and whose turn it is.
pub(crate) struct Heavy {
    work: mpsc::Sender<Work>,
    reads: Turns,
    hashes: Turns,
    answers: Turns,
}

/// Someone's turn, until it is dropped.
pub(crate) type Turn = OwnedSemaphorePermit;

struct Turns {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_waiting: usize,
}

impl Turns {
    fn new(at_once: usize, max_waiting: usize) -> Turns {
        Turns { free: Arc::new(Semaphore::new(at_once)), waiting: AtomicUsize::new(0), max_waiting }
    }

    fn take_if_free(&self) -> Option<Turn> {
        self.free.clone().try_acquire_owned().ok()
    }

    /// Waits for its turn, unless too many do already.
    async fn take(&self) -> Result<Turn, ApiError> {
        if let Some(turn) = self.take_if_free() {
            return Ok(turn);
        }
        let _waiting = Waiting::join(self).ok_or(ApiError::TooManyRequests)?;
        self.take_whatever_comes().await
    }

    /// Waits for its turn, however many do already.
    async fn take_whatever_comes(&self) -> Result<Turn, ApiError> {
        // Nobody closes it.
        self.free.clone().acquire_owned().await.map_err(|_| ApiError::Stopped)
    }
}

/// A place in the queue, which is free again however the waiting ends.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn join(turns: &'a Turns) -> Option<Waiting<'a>> {
        let place = Waiting(&turns.waiting);
        let before = turns.waiting.fetch_add(1, Ordering::Relaxed);
        (before < turns.max_waiting).then_some(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Heavy {
    /// Starts the threads: one less than there are cores, and one for hashes. They end when this is dropped.
    pub(crate) fn start() -> io::Result<Arc<Heavy>> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let readers = (cores - 1).max(1);
        let (work, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..=readers {
            let queue = queue.clone();
            thread::Builder::new().name(format!("heavy-{number}")).spawn(move || serve(&queue))?;
        }
        Ok(Arc::new(Heavy {
            work,
            reads: Turns::new(readers, MAX_WAITING),
            hashes: Turns::new(1, MAX_WAITING_HASHES),
            answers: Turns::new(MAX_ANSWERS, MAX_WAITING),
        }))
    }

    /// Waits for a turn to read much.
    pub(crate) async fn turn_to_read(&self) -> Result<Turn, ApiError> {
        self.reads.take().await
    }

    /// The same, if nobody has to be waited for.
    pub(crate) fn free_turn_to_read(&self) -> Option<Turn> {
        self.reads.take_if_free()
    }

    /// Waits for a turn to hash everything.
    pub(crate) async fn turn_to_hash(&self) -> Result<Turn, ApiError> {
        self.hashes.take().await
    }

    /// Waits for a turn to send a large answer.
    pub(crate) async fn turn_to_answer(&self) -> Result<Turn, ApiError> {
        self.answers.take().await
    }

    /// The same, if nobody has to be waited for.
    pub(crate) fn free_turn_to_answer(&self) -> Option<Turn> {
        self.answers.take_if_free()
    }

    #[cfg(test)]
    pub(crate) fn free_turns_to_answer(&self) -> usize {
        self.answers.free.available_permits()
    }

    /// Waits for the turns to read and to send the answer to what has been done already, which cannot be refused any
    /// more.
    pub(crate) async fn turns_for_a_write(&self) -> Result<(Turn, Turn), ApiError> {
        let answer = self.answers.take_whatever_comes().await?;
        Ok((self.reads.take_whatever_comes().await?, answer))
    }

    /// Does it on one of the threads, unless nobody waits for it any more. What `work` owns of turns it has until then:
    /// so there is never more to be done than there are turns, however many clients give up.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (done, result) = oneshot::channel();
        self.give(Box::new(move || {
            if !done.is_closed() {
                // Who has asked may be gone by now; then what was found is dropped here.
                let _ = done.send(work());
            }
        }));
        result
    }

    /// Drops something large on one of the threads.
    pub(crate) fn discard(&self, garbage: impl Send + 'static) {
        self.give(Box::new(move || drop(garbage)));
    }

    fn give(&self, work: Work) {
        // Without threads, at the end, nobody waits for anything any more.
        let _ = self.work.send(work);
    }
}

fn serve(queue: &Mutex<mpsc::Receiver<Work>>) {
    // It is a wish: where it is not granted, reads have the same right as everybody.
    let _ = rustix::process::nice(NICENESS);
    loop {
        let work = match queue.lock() {
            Ok(queue) => queue.recv(),
            // Another one has panicked while it took its work, which it does not.
            Err(_) => return,
        };
        let Ok(work) = work else { return };
        work();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[tokio::test]
    async fn who_comes_when_the_queue_is_full_is_told_so_and_the_others_have_their_turns() {
        let turns = Arc::new(Turns::new(1, 2));
        let first = turns.take().await.expect("it is free");
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let turns = turns.clone();
                tokio::spawn(async move { turns.take().await.map(drop) })
            })
            .collect();
        while turns.waiting.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(turns.take().await.map(drop), Err(ApiError::TooManyRequests));
        assert_eq!(turns.waiting.load(Ordering::Relaxed), 2, "who is refused does not wait");
        drop(first);
        for task in waiting {
            assert_eq!(task.await.expect("no panic"), Ok(()));
        }
        assert_eq!(turns.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_queue() {
        let turns = Turns::new(1, 1);
        let first = turns.take().await.expect("it is free");
        let mut second = Box::pin(turns.take());
        assert!(futures_poll(second.as_mut()).await.is_none());
        assert_eq!(turns.waiting.load(Ordering::Relaxed), 1);
        drop(second);
        assert_eq!(turns.waiting.load(Ordering::Relaxed), 0);
        drop(first);
        assert!(turns.take_if_free().is_some());
    }

    /// What a future says when it is asked once.
    async fn futures_poll<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match future.as_mut().poll(context) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }

    /// Both wait for each other: with one thread neither would go on.
    #[tokio::test]
    async fn a_read_does_not_wait_for_a_hash() {
        let heavy = Heavy::start().expect("threads");
        let (read, hash) = (heavy.turn_to_read().await, heavy.turn_to_hash().await);
        assert!(read.is_ok() && hash.is_ok());
        let barrier = Arc::new(Barrier::new(2));
        let both = [barrier.clone(), barrier].map(|barrier| heavy.run(move || barrier.wait().is_leader()));
        let [read, hash] = both;
        assert!(read.await.expect("done") != hash.await.expect("done"));
    }
}

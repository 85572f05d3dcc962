//! The lines of the log on their way to standard error: a bounded queue, and a thread that empties it.
//!
//! Whoever reads standard error may sleep, and a write into its full pipe waits until it wakes up; no task of a member
//! may wait for that. A line that finds the queue full is dropped and counted, and a later line says how many were.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How many lines may wait.
const MAX_WAITING_LINES: usize = 4096;
/// How long the end of the process waits for the lines before it. Nobody may be reading them.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// What is to be written.
enum Item {
    Line(Vec<u8>),
    /// Everything before this has been written: to be told.
    Flush(SyncSender<()>),
}

/// The way into the queue.
#[derive(Clone)]
pub(super) struct LogQueue {
    items: SyncSender<Item>,
    dropped: Arc<AtomicU64>,
}

impl LogQueue {
    /// Starts the thread that writes to `out`, and tells `on_dropped` how many lines it could not.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        on_dropped: impl Fn(u64) + Send + 'static,
    ) -> io::Result<LogQueue> {
        let (items, queue) = sync_channel(MAX_WAITING_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let of_thread = dropped.clone();
        thread::Builder::new().name("stderr".into()).spawn(move || {
            write_all(&queue, out, &of_thread, on_dropped);
        })?;
        Ok(LogQueue { items, dropped })
    }

    /// Waits until what has been said so far is written, but not for long.
    pub(super) fn flush(&self) {
        let (written, on_written) = sync_channel(1);
        // A full queue has a thread that stands still: it would be waited for in vain.
        if self.items.try_send(Item::Flush(written)).is_ok() {
            let _ = on_written.recv_timeout(FLUSH_TIMEOUT);
        }
    }

    fn push(&self, line: Vec<u8>) {
        if self.items.try_send(Item::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes until nobody is left who could say anything.
fn write_all(queue: &Receiver<Item>, mut out: impl Write, dropped: &AtomicU64, on_dropped: impl Fn(u64)) {
    loop {
        let item = match queue.try_recv() {
            Ok(item) => item,
            Err(TryRecvError::Empty) => {
                // Now there is room for the line that says it.
                let lines = dropped.swap(0, Ordering::Relaxed);
                if lines > 0 {
                    on_dropped(lines);
                }
                let Ok(item) = queue.recv() else { return };
                item
            }
            Err(TryRecvError::Disconnected) => return,
        };
        match item {
            // There is no other place to complain at.
            Item::Line(line) => drop(out.write_all(&line)),
            // Who asked may have gone on.
            Item::Flush(written) => drop(written.try_send(())),
        }
    }
}

/// Collects one line, and queues it when it is complete.
pub(super) struct Line<'a> {
    queue: &'a LogQueue,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.queue.push(std::mem::take(&mut self.bytes));
        }
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { queue: self, bytes: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    use super::*;

    /// Standard error, whose reader sleeps as long as the other end of `wakes` is there.
    struct Pipe {
        wakes: Receiver<()>,
        written: Arc<Mutex<String>>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.wakes.recv();
            self.written.lock().expect("a lock").push_str(std::str::from_utf8(bytes).expect("text"));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_speaks_never_waits_for_who_reads_and_what_was_dropped_is_counted() {
        let (wake, wakes) = channel();
        let written = Arc::new(Mutex::new(String::new()));
        let (dropped, on_dropped) = channel();
        let report = move |lines| dropped.send(lines).expect("the test is there");
        let queue = LogQueue::start(Pipe { wakes, written: written.clone() }, report).expect("a thread");
        for _ in 0..MAX_WAITING_LINES + 10 {
            queue.make_writer().write_all(b"line\n").expect("it is queued or dropped");
        }
        queue.flush();
        drop(wake);
        let dropped = on_dropped.recv().expect("the thread lives");
        // One may have been at the pipe already.
        assert!((9..=10).contains(&dropped), "{dropped}");
        let lines = written.lock().expect("a lock").matches("line\n").count();
        assert_eq!(
            lines as u64 + dropped,
            MAX_WAITING_LINES as u64 + 10,
            "it is said when all else is written"
        );
    }

    #[test]
    fn the_end_of_the_process_waits_for_the_last_line() {
        let (wake, wakes) = channel();
        drop(wake);
        let written = Arc::new(Mutex::new(String::new()));
        let queue = LogQueue::start(Pipe { wakes, written: written.clone() }, drop).expect("a thread");
        queue.make_writer().write_all(b"stopped\n").expect("it is queued");
        queue.flush();
        assert_eq!(*written.lock().expect("a lock"), "stopped\n");
    }
}

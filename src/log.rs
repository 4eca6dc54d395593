//! What is logged goes to standard error by a thread of its own: who reads it may stand still, and nobody waits for that.
//! What was signed and refused, and why, stands in the audit chain.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;
use tracing::field;
use tracing_subscriber::EnvFilter;

/// How many lines wait to be written at most, and how many bytes of them; those after them are lost, and counted.
const LINES: usize = 8192;
const BYTES: usize = 8 << 20;

/// How long the last lines may take, before the process ends.
const LAST: Duration = Duration::from_millis(500);

/// What this module says itself is told whatever the filter: that lines were lost, and why the process broke down.
pub const ALWAYS: &str = "chancery::log";

/// Once in a process.
static LOG: OnceLock<Arc<Queue>> = OnceLock::new();

/// Writes what is left when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Log(());

#[derive(Debug)]
struct Queue {
    to_write: SyncSender<Work>,
    bytes: AtomicUsize,
    /// Lines that were not written, since the start.
    lost: AtomicU64,
}

#[derive(Debug)]
enum Work {
    Line(Vec<u8>),
    /// All before it is written.
    Flush(SyncSender<()>),
}

/// What an event is written into, in one piece.
#[derive(Debug)]
struct Line(Arc<Queue>);

/// Begins to log, also panics. The thread is confined as whoever calls this is.
pub fn start(filter: EnvFilter, json: bool) -> io::Result<Log> {
    let (queue, work) = Queue::new();
    LOG.set(Arc::clone(&queue)).map_err(|_| io::Error::other("the log has begun already"))?;
    let of_writer = Arc::clone(&queue);
    let run = move || write(&work, io::stderr(), &of_writer);
    thread::Builder::new().name("log".to_owned()).spawn(run)?;
    let always = format!("{ALWAYS}=warn").parse().map_err(io::Error::other)?;
    let filter = filter.add_directive(always);
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || Line(Arc::clone(&queue)));
    if json {
        log.json().init();
    } else {
        log.init();
    }
    panic::set_hook(Box::new(tell_of_panic));
    Ok(Log(()))
}

/// The process may end right behind it, so it is waited for.
fn tell_of_panic(panic: &PanicHookInfo<'_>) {
    flush();
    let why = panic.payload_as_str().unwrap_or_default();
    let (thread, at) = (thread::current(), panic.location().map(ToString::to_string).unwrap_or_default());
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| field::display(&backtrace));
    tracing::error!(target: ALWAYS, thread = thread.name(), at, why, backtrace, "a panic");
    flush();
}

/// Waits until what was logged so far is written, half a second at most.
pub fn flush() {
    if let Some(queue) = LOG.get() {
        queue.flush(LAST);
    }
}

/// Tells of lines that were lost, where there are more.
pub async fn tell_of_losses() {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    let counter = metrics::counter!("chancery_log_lines_lost_total");
    let mut told = 0;
    loop {
        every.tick().await;
        let lost = LOG.get().map_or(0, |queue| queue.lost.load(Ordering::Relaxed));
        counter.absolute(lost);
        if lost > told {
            tracing::warn!(
                target: ALWAYS,
                lost,
                "lines of this log were lost since the start: whoever reads it does not keep up"
            );
            told = lost;
        }
    }
}

impl Queue {
    fn new() -> (Arc<Self>, Receiver<Work>) {
        let (to_write, work) = sync_channel(LINES);
        (Arc::new(Self { to_write, bytes: AtomicUsize::new(0), lost: AtomicU64::new(0) }), work)
    }

    fn put(&self, line: &[u8]) {
        let before = self.bytes.fetch_add(line.len(), Ordering::Relaxed);
        let has_room = before.saturating_add(line.len()) <= BYTES;
        if !has_room || self.to_write.try_send(Work::Line(line.to_vec())).is_err() {
            self.bytes.fetch_sub(line.len(), Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the process ends, and a runtime may have ended before it")]
    fn flush(&self, patience: Duration) {
        let began = Instant::now();
        let (done, is_done) = sync_channel(1);
        let mut work = Work::Flush(done);
        while let Err(TrySendError::Full(back)) = self.to_write.try_send(work) {
            if began.elapsed() >= patience {
                return;
            }
            work = back;
            thread::sleep(Duration::from_millis(1));
        }
        let _ = is_done.recv_timeout(patience.saturating_sub(began.elapsed()));
    }
}

fn write(work: &Receiver<Work>, mut to: impl Write, queue: &Queue) {
    for work in work {
        match work {
            Work::Line(line) => {
                if to.write_all(&line).is_err() {
                    queue.lost.fetch_add(1, Ordering::Relaxed);
                }
                queue.bytes.fetch_sub(line.len(), Ordering::Relaxed);
            }
            Work::Flush(done) => drop(done.send(())),
        }
    }
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        flush();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Sender;

    use super::*;

    /// Writes into a channel, and fails at what begins with a `!`.
    struct Page(Sender<Vec<u8>>);

    impl Write for Page {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            if line.starts_with(b"!") {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.send(line.to_vec()).unwrap();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn inv_12_lines_that_nobody_takes_are_lost_and_counted_and_nobody_waits() {
        let (queue, work) = Queue::new();
        for _ in 0..LINES + 3 {
            queue.put(b"a");
        }
        assert_eq!(queue.lost.load(Ordering::Relaxed), 3);
        let began = Instant::now();
        queue.flush(Duration::from_millis(20));
        assert!(began.elapsed() < Duration::from_secs(5));
        let (large, _work) = Queue::new();
        for _ in 0..3 {
            large.put(&vec![b'a'; BYTES / 2]);
        }
        assert_eq!(large.lost.load(Ordering::Relaxed), 1);
        drop(work);
        queue.put(b"nobody is there at all");
        queue.flush(Duration::from_secs(600));
        assert_eq!(queue.lost.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn what_was_logged_is_written_in_order_and_what_cannot_be_is_counted() {
        let (queue, work) = Queue::new();
        let (page, written) = std::sync::mpsc::channel();
        let lost = Arc::clone(&queue);
        let writer = thread::spawn(move || write(&work, Page(page), &lost));
        for line in ["one", "!two", "three"] {
            queue.put(line.as_bytes());
        }
        queue.flush(Duration::from_secs(600));
        assert_eq!(written.try_iter().collect::<Vec<_>>(), [b"one".to_vec(), b"three".to_vec()]);
        assert_eq!(queue.lost.load(Ordering::Relaxed), 1);
        assert_eq!(queue.bytes.load(Ordering::Relaxed), 0);
        assert!(!writer.is_finished());
    }
}

//! Threads that each own one session, a bounded queue before them, and a watchdog that gives up on those that
//! hang.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy_primitives::B256;
use tokio::time::Instant;

use crate::signer::protocol::{Class, Frame};
use crate::signer::worker::end;

/// How often the watchdog looks.
const WATCH: Duration = Duration::from_millis(50);

/// Requests that may wait; the gateway bounds what it sends, this is the second belt.
const QUEUE: usize = 4096;

/// Something that opens sessions: a token, or files of keys.
pub(super) trait Source: Send + Sync + 'static {
    type Session: Session;

    fn open(&self) -> Result<Self::Session, Failure>;
}

/// What one thread signs with.
pub(super) trait Session {
    fn sign(&mut self, key: u16, digest: &B256) -> Result<[u8; 64], Failure>;
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub class: Class,
    pub why: String,
}

/// A request, with the moment after which nobody wants its signature.
#[derive(Clone, Debug)]
pub(super) struct Job {
    id: u64,
    key: u16,
    digest: B256,
    by: Instant,
}

/// The threads. Lives as long as the process.
pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<VecDeque<Job>>,
    filled: Condvar,
    seats: Mutex<Vec<Seat>>,
    answers: SyncSender<Frame>,
    /// Threads that were given up on and have not come back.
    stuck: AtomicUsize,
}

/// What the watchdog sees of a thread.
struct Seat {
    thread: u64,
    busy: Option<(u64, Instant)>,
}

impl Job {
    pub(super) fn new(id: u64, key: u16, digest: B256, within: Duration) -> Self {
        let now = Instant::now();
        Self { id, key, digest, by: now.checked_add(within).unwrap_or(now) }
    }
}

impl Pool {
    /// Opens `sessions` sessions, all of them before the first request, and starts a thread for each.
    pub(super) fn start<S: Source>(
        source: S,
        sessions: usize,
        hang: Duration,
        max_stuck: usize,
        answers: SyncSender<Frame>,
    ) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            seats: Mutex::default(),
            answers,
            stuck: AtomicUsize::new(0),
        });
        let source = Arc::new(source);
        let mut next = 0_u64;
        let mut seat = {
            let (shared, source) = (Arc::clone(&shared), Arc::clone(&source));
            move || {
                next = next.wrapping_add(1);
                lock(&shared.seats).push(Seat { thread: next, busy: None });
                let (shared, source, thread) = (Arc::clone(&shared), Arc::clone(&source), next);
                std::thread::spawn(move || work(&shared, &*source, thread));
            }
        };
        for _ in 0..sessions {
            seat();
        }
        let watched = Arc::clone(&shared);
        std::thread::spawn(move || watch(&watched, hang, max_stuck, seat));
        Self { shared }
    }

    pub(super) fn submit(&self, job: Job) {
        let mut queue = lock(&self.shared.queue);
        if queue.len() >= QUEUE {
            drop(queue);
            self.shared.fail(&job, Class::Busy, "the worker's queue is full");
            return;
        }
        queue.push_back(job);
        drop(queue);
        self.shared.filled.notify_one();
    }
}

impl Shared {
    fn next(&self) -> Job {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(job) = queue.pop_front() {
                return job;
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn fail(&self, job: &Job, class: Class, why: &str) {
        drop(self.answers.send(Frame::Failed { id: job.id, class, why: why.to_owned() }));
    }

    /// Says that this thread is in the module from now on; false where it was given up on.
    fn enter(&self, thread: u64, job: u64) -> bool {
        let mut seats = lock(&self.seats);
        let seat = seats.iter_mut().find(|seat| seat.thread == thread);
        seat.map(|seat| seat.busy = Some((job, Instant::now()))).is_some()
    }

    /// The call came back; false where the thread was given up on meanwhile, and its answer with it.
    fn leave(&self, thread: u64) -> bool {
        let mut seats = lock(&self.seats);
        let seat = seats.iter_mut().find(|seat| seat.thread == thread);
        seat.map(|seat| seat.busy = None).is_some()
    }
}

/// One thread: takes requests, signs them with its own session, and ends when it was given up on.
fn work<S: Source>(shared: &Shared, source: &S, thread: u64) {
    let mut session = None;
    loop {
        let job = shared.next();
        if job.by <= Instant::now() {
            // Never signed for nobody.
            shared.fail(&job, Class::Late, "its deadline passed before the token was asked");
            continue;
        }
        if !shared.enter(thread, job.id) {
            return;
        }
        let result = sign(source, &mut session, &job);
        if !shared.leave(thread) {
            // Answered for by the watchdog long ago. Closing the session could hang as well.
            shared.stuck.fetch_sub(1, Ordering::Relaxed);
            std::mem::forget(session);
            return;
        }
        match result {
            Ok(raw) => drop(shared.answers.send(Frame::Signed { id: job.id, raw })),
            Err(failure) => {
                shared.fail(&job, failure.class, &failure.why);
                if failure.class == Class::Down {
                    tracing::error!(
                        why = failure.why,
                        "the token is down; the worker ends and is started anew"
                    );
                    // The answer is on its way out before the process ends.
                    std::thread::yield_now();
                    pause(Duration::from_millis(20));
                    end(1);
                }
            }
        }
    }
}

/// Signs; where the session turned out to be dead, once more with a fresh one.
fn sign<S: Source>(source: &S, session: &mut Option<S::Session>, job: &Job) -> Result<[u8; 64], Failure> {
    for last in [false, true] {
        let open = match session.take() {
            Some(open) => open,
            None => source.open()?,
        };
        let open = session.insert(open);
        match open.sign(job.key, &job.digest) {
            Err(failure) if failure.class == Class::Session => {
                *session = None;
                if last {
                    return Err(failure);
                }
            }
            Err(failure) if failure.class == Class::Busy && !last => pause(Duration::from_millis(20)),
            result => return result,
        }
    }
    Err(Failure { class: Class::Session, why: "two sessions in a row were dead".to_owned() })
}

/// Gives up on calls that hang: their requests are answered, and other threads take their seats. Above
/// `max_stuck` the module is beyond hope, and the process ends.
fn watch(shared: &Shared, hang: Duration, max_stuck: usize, mut seat: impl FnMut()) {
    loop {
        pause(WATCH);
        let now = Instant::now();
        let mut lost = Vec::new();
        lock(&shared.seats).retain(|seat| match seat.busy {
            Some((job, since)) if now.saturating_duration_since(since) > hang => {
                lost.push(job);
                false
            }
            _ => true,
        });
        for id in lost {
            let stuck = shared.stuck.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            tracing::error!(stuck, "a call into the token's module hangs; its thread is given up");
            let why = "the token did not answer; the call was given up".to_owned();
            drop(shared.answers.send(Frame::Failed { id, class: Class::Late, why }));
            if stuck > max_stuck {
                tracing::error!("too many calls hang; the worker ends and is started anew");
                pause(Duration::from_millis(20));
                end(1);
            }
            seat();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, and no runtime in this process")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

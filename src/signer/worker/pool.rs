//! Threads that each own one session, a bounded queue before them, and a watchdog that gives up on those that
//! hang.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::signer::latch;
use crate::signer::protocol::{Class, Frame, Status};
use crate::signer::worker::session::{Failure, Job, Session, Source};
use crate::signer::worker::tally::Tally;

/// How often the watchdog looks, and how often it reports.
const WATCH: Duration = Duration::from_millis(50);
const REPORT: Duration = Duration::from_secs(1);

/// How often a thread whose session was idle looks whether it is its turn to keep it alive.
const ANOTHER_KEEPS: Duration = Duration::from_millis(50);

/// Requests that may wait; the gateway bounds what it sends, this is the second belt.
const QUEUE: usize = 4096;

/// Errors of the token without a success between them, over all threads, after which only a new process helps.
const STRIKES: usize = 4;

/// Fresh sessions that one request may have.
const FRESH: usize = 3;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The same for a thread that has no session: others may have all that the token allows.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// How long a call may take, and how long a session is idle before it is used for nobody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub hang: Duration,
    pub idle: Duration,
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
    tally: Arc<Tally>,
    strikes: AtomicUsize,
    /// The thread that keeps its session alive just now; 0 where none does.
    keeping: AtomicU64,
    times: Times,
}

/// What the watchdog sees of a thread: since when it is in the module, and for which request.
struct Seat {
    thread: u64,
    busy: Option<(Option<u64>, Instant)>,
}

impl Pool {
    /// Starts a thread for each session. Each opens its session first, and takes requests only while it has one.
    pub(super) fn start<S: Source>(
        source: S,
        sessions: usize,
        times: Times,
        max_stuck: usize,
        answers: SyncSender<Frame>,
        tally: Arc<Tally>,
    ) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            seats: Mutex::default(),
            answers,
            tally,
            strikes: AtomicUsize::new(0),
            keeping: AtomicU64::new(0),
            times,
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
        std::thread::spawn(move || watch(&watched, max_stuck, seat));
        Self { shared }
    }

    pub(super) fn submit(&self, job: Job) {
        let mut queue = lock(&self.shared.queue);
        if queue.len() >= QUEUE {
            drop(queue);
            self.shared.fail(job.id, Class::Busy, "the worker's queue is full");
            return;
        }
        queue.push_back(job);
        drop(queue);
        self.shared.filled.notify_one();
    }
}

impl Shared {
    /// Nothing where none came within this time.
    fn next(&self, within: Duration) -> Option<Job> {
        let queue = lock(&self.queue);
        let waited = self.filled.wait_timeout_while(queue, within, |queue| queue.is_empty());
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.pop_front()
    }

    /// One after the other: sessions that are all busy with being kept alive would sign for nobody else.
    fn may_keep(&self, thread: u64) -> bool {
        self.keeping.compare_exchange(0, thread, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn has_kept(&self, thread: u64) {
        let _ = self.keeping.compare_exchange(thread, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn fail(&self, id: u64, class: Class, why: &str) {
        drop(self.answers.send(Frame::Failed { id, class, why: why.to_owned() }));
    }

    /// Says that this thread is in the module from now on; false where it was given up on.
    fn enter(&self, thread: u64, job: Option<u64>) -> bool {
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

    /// What every failure has in common. Gives up where only a new process helps.
    fn note<S: Source>(&self, source: &S, job: Option<&Job>, failure: &Failure) {
        self.tally.error(&failure.label);
        let hopeless = match failure.class {
            Class::Gone => true,
            Class::Credentials => {
                source.refused(&failure.why);
                true
            }
            Class::Down => self.strikes.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= STRIKES,
            Class::Request | Class::Session | Class::Busy | Class::Late => false,
        };
        if hopeless {
            // What fails as the process ends (a session finds no login any more) is nobody's trouble.
            if !latch::ends() {
                tracing::error!(why = failure.why, "the token is down; the worker ends and is started anew");
            }
            if let Some(job) = job {
                self.fail(job.id, failure.class, &failure.why);
            }
            self.give_up(&failure.why);
        }
    }

    /// Only a new process helps. The gateway is told, and leaves this one, which ends with that: there is one end, and it knows
    /// of logins.
    fn give_up(&self, why: &str) -> ! {
        latch::ends();
        drop(self.answers.send(Frame::Report(self.tally.report(0, 0))));
        drop(self.answers.send(Frame::Status(Status::Down(why.to_owned()))));
        loop {
            std::thread::park();
        }
    }
}

/// One thread: takes requests, signs them with its own session, and ends when it was given up on.
fn work<S: Source>(shared: &Shared, source: &S, thread: u64) {
    let (mut session, mut wait, mut idle) = (None, FIRST_PAUSE, shared.times.idle);
    loop {
        if session.is_none() {
            // Without a session no request is taken: another thread may have one.
            if !shared.enter(thread, None) {
                return;
            }
            let opened = open(shared, source);
            if !shared.leave(thread) {
                return come_back(shared, opened.ok());
            }
            match opened {
                Ok(opened) => (session, wait) = (Some(opened), FIRST_PAUSE),
                Err(failure) => {
                    shared.note(source, None, &failure);
                    pause(jittered(wait));
                    wait = wait.saturating_mul(2).min(LONGEST_WAIT);
                    continue;
                }
            }
        }
        let Some(job) = shared.next(idle) else {
            idle = ANOTHER_KEEPS;
            if shared.may_keep(thread) {
                if !keep_alive(shared, source, &mut session, thread) {
                    return;
                }
                idle = shared.times.idle;
            }
            continue;
        };
        idle = shared.times.idle;
        if job.by <= Instant::now() {
            // Never signed for nobody.
            shared.fail(job.id, Class::Late, "its deadline passed before the token was asked");
            continue;
        }
        if !shared.enter(thread, Some(job.id)) {
            return;
        }
        let began = Instant::now();
        let result = sign(shared, source, &mut session, &job);
        if !shared.leave(thread) {
            return come_back(shared, session);
        }
        match result {
            Ok(raw) => {
                let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
                let waited_us = micros(began.saturating_duration_since(job.since));
                let took_us = micros(began.elapsed());
                drop(shared.answers.send(Frame::Signed { id: job.id, raw, waited_us, took_us }));
            }
            Err(failure) => shared.fail(job.id, failure.class, &failure.why),
        }
    }
}

/// Uses a session that was idle, and lets go of one that is of no use any more; false where the thread was given up on.
fn keep_alive<S: Source>(shared: &Shared, source: &S, session: &mut Option<S::Session>, thread: u64) -> bool {
    let Some(open) = session else { return true };
    if !shared.enter(thread, None) {
        return false;
    }
    let kept = open.keep_alive();
    shared.has_kept(thread);
    if !shared.leave(thread) {
        come_back(shared, session.take());
        return false;
    }
    match kept {
        Ok(true) => shared.tally.proof(),
        Ok(false) => {}
        Err(failure) => {
            shared.note(source, None, &failure);
            close(shared, session.take(), &failure);
        }
    }
    true
}

/// A thread that was given up on came back. Its request was answered by the watchdog long ago, and another has its
/// seat; closing its session could hang as well.
fn come_back<S: Session>(shared: &Shared, session: Option<S>) {
    shared.tally.stuck.fetch_sub(1, Ordering::Relaxed);
    if let Some(session) = session {
        session.forget();
    }
}

fn open<S: Source>(shared: &Shared, source: &S) -> Result<S::Session, Failure> {
    let session = source.open()?;
    shared.tally.sessions.fetch_add(1, Ordering::Relaxed);
    Ok(session)
}

fn close<S: Session>(shared: &Shared, session: Option<S>, failure: &Failure) {
    let Some(session) = session else { return };
    shared.tally.sessions.fetch_sub(1, Ordering::Relaxed);
    if failure.closed { session.forget() } else { drop(session) }
}

/// Signs. What a fresh session or a little patience mends is mended within the request's deadline; signing the same
/// digest again is harmless, as only one signature is ever answered.
fn sign<S: Source>(
    shared: &Shared,
    source: &S,
    session: &mut Option<S::Session>,
    job: &Job,
) -> Result<[u8; 64], Failure> {
    let (mut fresh, mut wait) = (0_usize, FIRST_PAUSE);
    loop {
        let attempt = match session.take() {
            Some(open) => Ok(open),
            None => open(shared, source),
        };
        if attempt.is_ok() {
            shared.tally.calls.fetch_add(1, Ordering::Relaxed);
        }
        let failure = match attempt.and_then(|open| session.insert(open).sign(job.key, &job.digest)) {
            Ok(raw) => {
                shared.tally.made.fetch_add(1, Ordering::Relaxed);
                shared.strikes.store(0, Ordering::Relaxed);
                return Ok(raw);
            }
            Err(failure) => failure,
        };
        shared.note(source, Some(job), &failure);
        match failure.class {
            Class::Session | Class::Down => close(shared, session.take(), &failure),
            Class::Busy => {}
            _ => return Err(failure),
        }
        fresh = fresh.saturating_add(usize::from(failure.class != Class::Busy));
        let pausing = jittered(wait);
        let in_time = Instant::now().checked_add(pausing).is_some_and(|then| then < job.by);
        if fresh > FRESH || !in_time {
            return Err(failure);
        }
        // A lost session is replaced at once; a token in trouble gets a little time.
        if failure.class != Class::Session {
            pause(pausing);
            wait = wait.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }
}

/// Gives up on calls that hang: their requests are answered, and other threads take their seats. Above
/// `max_stuck` the module is beyond hope.
fn watch(shared: &Shared, max_stuck: usize, mut seat: impl FnMut()) {
    let mut reported = Instant::now();
    loop {
        pause(WATCH);
        let now = Instant::now();
        let (mut lost, mut busy) = (Vec::new(), 0_usize);
        lock(&shared.seats).retain(|seat| match seat.busy {
            Some((job, since)) if now.saturating_duration_since(since) > shared.times.hang => {
                shared.has_kept(seat.thread);
                lost.push(job);
                false
            }
            other => {
                busy = busy.saturating_add(usize::from(other.is_some()));
                true
            }
        });
        for job in lost {
            let stuck = shared.tally.give_up();
            tracing::error!(stuck, "a call into the token's module hangs; its thread is given up");
            if let Some(id) = job {
                shared.fail(id, Class::Late, "the token did not answer; the call was given up");
            }
            if stuck > max_stuck {
                tracing::error!("too many calls hang; the worker ends and is started anew");
                shared.give_up("too many calls into its module hang");
            }
            seat();
        }
        if now.saturating_duration_since(reported) >= REPORT {
            let report = shared.tally.report(busy, lock(&shared.queue).len());
            drop(shared.answers.send(Frame::Report(report)));
            reported = now;
        }
    }
}

/// Between a half and the whole, so that threads do not come back all at once.
fn jittered(time: Duration) -> Duration {
    let half = time.checked_div(2).unwrap_or(time);
    let random = getrandom::u32().unwrap_or_default();
    let part = u64::try_from(half.as_micros()).unwrap_or_default().saturating_mul(u64::from(random));
    half.saturating_add(Duration::from_micros(part.checked_shr(32).unwrap_or_default()))
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, and no runtime in this process")]
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use std::sync::mpsc::sync_channel;

    /// Sessions that say when they are kept alive, which takes a while.
    #[derive(Default)]
    struct Watched {
        opened: AtomicUsize,
        seen: Arc<Mutex<Seen>>,
    }

    #[derive(Default)]
    struct Seen {
        now: usize,
        most: usize,
        kept: Vec<usize>,
    }

    struct Numbered(usize, Arc<Mutex<Seen>>);

    impl Source for Watched {
        type Session = Numbered;

        fn open(&self) -> Result<Numbered, Failure> {
            Ok(Numbered(self.opened.fetch_add(1, Ordering::Relaxed), Arc::clone(&self.seen)))
        }
    }

    impl Session for Numbered {
        fn sign(&mut self, _: u16, _: &B256) -> Result<[u8; 64], Failure> {
            Ok([7; 64])
        }

        fn keep_alive(&mut self) -> Result<bool, Failure> {
            let mut seen = lock(&self.1);
            seen.now = seen.now.saturating_add(1);
            seen.most = seen.most.max(seen.now);
            drop(seen);
            pause(Duration::from_millis(30));
            let mut seen = lock(&self.1);
            seen.now = seen.now.saturating_sub(1);
            seen.kept.push(self.0);
            Ok(true)
        }
    }

    #[test]
    fn idle_sessions_are_kept_alive_one_by_one() {
        let source = Watched::default();
        let (seen, tally) = (Arc::clone(&source.seen), Arc::<Tally>::default());
        let (answers, answered) = sync_channel(64);
        let times = Times { hang: Duration::from_secs(60), idle: Duration::from_millis(200) };
        let pool = Pool::start(source, 6, times, 1, answers, Arc::clone(&tally));
        let began = Instant::now();
        let all = |seen: &Seen| (0..6).all(|session| seen.kept.contains(&session));
        while !all(&lock(&seen)) {
            assert!(began.elapsed() < Duration::from_secs(60), "{:?} were kept", lock(&seen).kept);
            // A request finds a session that is free, meanwhile.
            pool.submit(Job::new(1, 0, B256::ZERO, Duration::from_secs(60)));
            let signed = |frame: Frame| matches!(frame, Frame::Signed { .. });
            assert!(std::iter::from_fn(|| answered.recv().ok()).any(signed));
            pause(Duration::from_millis(100));
        }
        assert_eq!(lock(&seen).most, 1, "so many at once");
        assert!(tally.report(0, 0).proofs >= 5, "they are counted");
    }
}

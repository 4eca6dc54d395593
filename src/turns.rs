//! Whose turn it is on a thread that serves many clients: of each, so many tasks are polled in a round, and the others wait
//! for the next. Whoever has one task that is ready waits for a few of another's, and not for all of them. A client that
//! was alone on the thread lately has more in a round: who is not there has nothing of short rounds, and they cost.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::task::yield_now;

/// All clients' turns on one thread.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    rounds: Arc<Rounds>,
    /// Clients come from the configuration, so it is small.
    lines: Arc<Mutex<HashMap<String, Line>>>,
}

/// One client's tasks on one thread.
#[derive(Clone, Debug)]
pub struct Line(Option<Arc<Queue>>);

/// One task's: all that it is asked for must be polled by that one task.
#[derive(Debug)]
pub struct Turn {
    line: Line,
    is_next: Arc<AtomicBool>,
    waits: bool,
}

#[derive(Debug, Default)]
struct Rounds {
    now: AtomicU64,
    /// Whose task was polled last.
    last: AtomicUsize,
    /// The round up to which clients are taken to be several.
    several: AtomicU64,
    /// Somebody waits for the next.
    wanted: Notify,
    /// Where somebody waits.
    queues: Mutex<Vec<Arc<Queue>>>,
}

#[derive(Debug)]
struct Queue {
    rounds: Arc<Rounds>,
    /// The client's number on this thread, from 1 on.
    number: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    round: u64,
    /// How many were polled in it, or will be.
    polled: usize,
    /// No more than there are tasks.
    waiting: VecDeque<(Arc<AtomicBool>, Waker)>,
}

/// Of each client in a round. A poll takes some ten microseconds; with 2 one caller beside 128 of another waits half as long in the
/// middle as with 4, and a twentieth of what it waited without.
const EACH: usize = 2;

/// Of a client that is alone: a quarter of a millisecond or so until a thread looks around, and a tenth of the looks into
/// the system that rounds of two would take.
const ALONE: usize = 16;

/// For so many rounds after two clients were seen they are taken to be there.
const COMPANY: u64 = 256;

impl Turns {
    /// A client's line.
    pub fn of(&self, client: &str) -> Line {
        let mut lines = lock(&self.lines);
        if let Some(line) = lines.get(client) {
            return line.clone();
        }
        let number = lines.len().saturating_add(1);
        let queue = Queue { rounds: Arc::clone(&self.rounds), number, state: Mutex::default() };
        let line = Line(Some(Arc::new(queue)));
        lines.insert(client.to_owned(), line.clone());
        line
    }

    /// Begins round after round, while somebody waits; must run on their thread, behind those that are ready there.
    pub async fn run(self) {
        loop {
            self.rounds.wanted.notified().await;
            while self.rounds.next() {
                // What has come meanwhile is seen in between.
                yield_now().await;
            }
        }
    }
}

impl Line {
    /// Of a thread that serves nobody else.
    pub const FREE: Self = Self(None);

    pub fn turn(&self) -> Turn {
        Turn { line: self.clone(), is_next: Arc::default(), waits: false }
    }

    /// Polled when it is its turn.
    pub fn fair<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        let (mut turn, mut future) = (self.turn(), Box::pin(future));
        poll_fn(move |context| turn.poll(context, |context| future.as_mut().poll(context)))
    }
}

impl Turn {
    /// Polls when it is its turn, and else is woken when it is.
    pub fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let Line(queue) = &self.line;
        if let Some(queue) = queue {
            let is_next = queue.admits(&self.is_next, self.waits, context);
            self.waits = !is_next;
            if !is_next {
                return Poll::Pending;
            }
        }
        poll(context)
    }
}

impl Queue {
    fn admits(self: &Arc<Self>, is_next: &Arc<AtomicBool>, waits: bool, context: &Context<'_>) -> bool {
        let mut state = lock(&self.state);
        if waits {
            // Something else has woken it, where it is not its turn yet.
            return is_next.swap(false, Ordering::Relaxed);
        }
        let now = self.rounds.now.load(Ordering::Relaxed);
        if state.round != now {
            (state.round, state.polled) = (now, 0);
        }
        self.rounds.sees(self.number, now);
        if state.polled < self.rounds.each(now) && state.waiting.is_empty() {
            state.polled = state.polled.saturating_add(1);
            return true;
        }
        if state.waiting.is_empty() {
            lock(&self.rounds.queues).push(Arc::clone(self));
            self.rounds.wanted.notify_one();
        }
        state.waiting.push_back((Arc::clone(is_next), context.waker().clone()));
        false
    }

    /// In a new round. Whether still somebody waits.
    fn go_on(&self, round: u64) -> bool {
        let mut state = lock(&self.state);
        let next = state.waiting.len().min(self.rounds.each(round));
        (state.round, state.polled) = (round, next);
        for (is_next, waker) in state.waiting.drain(..next) {
            is_next.store(true, Ordering::Relaxed);
            waker.wake();
        }
        !state.waiting.is_empty()
    }
}

impl Rounds {
    fn sees(&self, client: usize, now: u64) {
        let last = self.last.swap(client, Ordering::Relaxed);
        if last != client && last != 0 {
            self.several.store(now.saturating_add(COMPANY), Ordering::Relaxed);
        }
    }

    /// How many tasks of each client are polled in this round.
    fn each(&self, now: u64) -> usize {
        if now < self.several.load(Ordering::Relaxed) { EACH } else { ALONE }
    }

    /// Whether there must be another.
    fn next(&self) -> bool {
        let round = self.now.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mut queues = std::mem::take(&mut *lock(&self.queues));
        queues.retain(|queue| queue.go_on(round));
        let is_wanted = !queues.is_empty();
        lock(&self.queues).append(&mut queues);
        is_wanted
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Ready again at once, so many times; counts.
    fn busy(times: usize, polls: Arc<AtomicUsize>) -> impl Future<Output = ()> {
        let mut left = 0..times;
        poll_fn(move |context| {
            if left.next().is_none() {
                return Poll::Ready(());
            }
            polls.fetch_add(1, Ordering::Relaxed);
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }

    #[tokio::test]
    async fn inv_12_who_has_one_task_waits_for_a_few_of_anothers() {
        let turns = Turns::default();
        tokio::spawn(turns.clone().run());
        let noise = Arc::new(AtomicUsize::new(0));
        let many = turns.of("noisy");
        let tasks: Vec<_> =
            (0..100).map(|_| tokio::spawn(many.fair(busy(100, Arc::clone(&noise))))).collect();
        let (mut before, mut waits, beside) = (0, Vec::new(), Arc::clone(&noise));
        let quiet = poll_fn(move |context| {
            let now = beside.load(Ordering::Relaxed);
            waits.push(now - before);
            before = now;
            if now > 5000 {
                return Poll::Ready(std::mem::take(&mut waits));
            }
            context.waker().wake_by_ref();
            Poll::Pending
        });
        let waits = tokio::spawn(turns.of("quiet").fair(quiet)).await.unwrap();
        // Who was alone until now is found in a long round.
        let (first, later) = waits.split_first().unwrap();
        assert!(*first <= ALONE, "{first} were polled before it");
        let most = later.iter().max().unwrap();
        assert!(*most <= 8, "{most} were polled in between");
        for task in tasks {
            timeout(Duration::from_secs(10), task).await.expect("nobody is forgotten").unwrap();
        }
        assert_eq!(noise.load(Ordering::Relaxed), 100 * 100);
    }

    #[tokio::test]
    async fn who_is_alone_has_long_rounds_and_is_found_to_be_after_a_while() {
        let rounds = Rounds::default();
        rounds.sees(1, 0);
        assert_eq!(rounds.each(0), ALONE, "the first");
        rounds.sees(2, 5);
        rounds.sees(2, 6);
        assert_eq!([5, 4 + COMPANY, 5 + COMPANY].map(|now| rounds.each(now)), [EACH, EACH, ALONE]);
        rounds.sees(1, 1000);
        assert_eq!(rounds.each(1000), EACH);
    }

    #[tokio::test]
    async fn who_waits_and_goes_away_keeps_nobody_waiting() {
        let turns = Turns::default();
        tokio::spawn(turns.clone().run());
        let (line, polls) = (turns.of("one"), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> =
            (0..50).map(|_| tokio::spawn(line.fair(busy(1000, Arc::clone(&polls))))).collect();
        yield_now().await;
        for task in tasks.iter().skip(1) {
            task.abort();
        }
        let last = tasks.into_iter().next().unwrap();
        timeout(Duration::from_secs(10), last).await.expect("it goes on").unwrap();
        assert!(lock(&turns.rounds.queues).is_empty());
    }
}

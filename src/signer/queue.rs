//! Requests that wait for a token, fair between clients: each client has a line of its own, and the lines are served
//! in turn. A client that sends a thousand at once waits for itself, not the others for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy_primitives::B256;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::signer::SignError;

/// What came of a request: the signature, and in which of its worker's lives it was made.
pub(super) type Answer = Result<([u8; 64], u64), SignError>;

/// A request for a signature.
#[derive(Debug)]
pub(super) struct Job {
    pub client: Arc<str>,
    pub key: u16,
    pub digest: B256,
    /// After this moment nobody wants it.
    pub by: Instant,
    /// How many workers have had it.
    pub tries: u8,
    pub reply: oneshot::Sender<Answer>,
}

/// Bounded in all.
#[derive(Debug)]
pub(super) struct Queue {
    room: usize,
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// One for each client that waits, in the order in which they are served; none is empty.
    lines: VecDeque<VecDeque<Job>>,
    total: usize,
}

impl Job {
    /// Whoever gave up is not signed for.
    pub(super) fn is_wanted(&self, now: Instant) -> bool {
        self.by > now && !self.reply.is_closed()
    }
}

impl Queue {
    pub(super) fn new(room: usize) -> Self {
        Self { room, waiting: Mutex::default(), filled: Notify::new() }
    }

    /// Takes a request in. Where there is no room, the longest line gives up its last one, be it another's or this
    /// very request, which comes back to be refused.
    pub(super) fn push(&self, job: Job) -> Result<(), Job> {
        let mut waiting = self.lock();
        let mut given_up: Option<Job> = None;
        if waiting.total >= self.room {
            let ours = waiting.line_of(&job.client).map_or(0, |line| line.len());
            let longest = waiting.lines.iter_mut().max_by_key(|line| line.len());
            match longest {
                Some(longest) if longest.len() > ours.saturating_add(1) => given_up = longest.pop_back(),
                _ => return Err(job),
            }
            waiting.total = waiting.total.saturating_sub(1);
        }
        waiting.total = waiting.total.saturating_add(1);
        match waiting.line_of(&job.client) {
            Some(line) => line.push_back(job),
            None => waiting.lines.push_back(VecDeque::from([job])),
        }
        drop(waiting);
        self.filled.notify_one();
        given_up.map_or(Ok(()), Err)
    }

    /// Puts back what a worker had when it died, before what waits; it was let in once, and is not counted against
    /// the room again.
    pub(super) fn put_back(&self, jobs: Vec<Job>) {
        let mut waiting = self.lock();
        for job in jobs.into_iter().rev() {
            waiting.total = waiting.total.saturating_add(1);
            match waiting.line_of(&job.client) {
                Some(line) => line.push_front(job),
                None => waiting.lines.push_front(VecDeque::from([job])),
            }
        }
        drop(waiting);
        self.filled.notify_one();
    }

    /// The next one, of the client whose turn it is.
    pub(super) async fn next(&self) -> Job {
        loop {
            let filled = self.filled.notified();
            if let Some(job) = self.try_next() {
                return job;
            }
            filled.await;
        }
    }

    pub(super) fn try_next(&self) -> Option<Job> {
        let mut waiting = self.lock();
        let mut line = waiting.lines.pop_front()?;
        let job = line.pop_front();
        if !line.is_empty() {
            waiting.lines.push_back(line);
        }
        waiting.total = waiting.total.saturating_sub(1);
        job
    }

    pub(super) const fn room(&self) -> usize {
        self.room
    }

    pub(super) fn len(&self) -> usize {
        self.lock().total
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn line_of(&mut self, client: &str) -> Option<&mut VecDeque<Job>> {
        self.lines.iter_mut().find(|line| line.front().is_some_and(|job| *job.client == *client))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn job(client: &str, key: u16) -> (Job, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        let by = Instant::now().checked_add(Duration::from_secs(5)).unwrap();
        (Job { client: client.into(), key, digest: B256::ZERO, by, tries: 0, reply }, answer)
    }

    fn order(queue: &Queue) -> Vec<(String, u16)> {
        std::iter::from_fn(|| queue.try_next()).map(|job| (job.client.to_string(), job.key)).collect()
    }

    fn named(order: &[(&str, u16)]) -> Vec<(String, u16)> {
        order.iter().map(|(client, key)| ((*client).to_owned(), *key)).collect()
    }

    #[test]
    fn clients_are_served_in_turn() {
        let queue = Queue::new(16);
        for (client, key) in [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("c", 1), ("b", 2)] {
            queue.push(job(client, key).0).unwrap();
        }
        assert_eq!(order(&queue), named(&[("a", 1), ("b", 1), ("c", 1), ("a", 2), ("b", 2), ("a", 3)]));
    }

    #[test]
    fn inv_12_a_full_queue_makes_the_greediest_client_wait_for_itself() {
        let queue = Queue::new(4);
        for key in 1..=4 {
            queue.push(job("greedy", key).0).unwrap();
        }
        let refused = queue.push(job("greedy", 5).0).unwrap_err();
        assert_eq!(refused.key, 5);
        let refused = queue.push(job("modest", 1).0).unwrap_err();
        assert_eq!((&*refused.client, refused.key), ("greedy", 4));
        queue.push(job("modest", 2).0).unwrap_err();
        assert_eq!(queue.len(), 4);
        let refused = queue.push(job("modest", 3).0).unwrap_err();
        assert_eq!((&*refused.client, refused.key), ("modest", 3), "each has its half");
        let expected = named(&[("greedy", 1), ("modest", 1), ("greedy", 2), ("modest", 2)]);
        assert_eq!(order(&queue), expected);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn what_a_dead_worker_had_comes_first() {
        let queue = Queue::new(2);
        queue.push(job("a", 3).0).unwrap();
        queue.push(job("b", 2).0).unwrap();
        queue.put_back(vec![job("a", 1).0, job("b", 1).0, job("a", 2).0]);
        let order = order(&queue);
        assert_eq!(order.len(), 5);
        assert_eq!(order[..2].iter().map(|(_, key)| *key).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn nobody_is_signed_for_who_gave_up() {
        let now = Instant::now();
        let (wanted, answer) = job("a", 1);
        assert!(wanted.is_wanted(now));
        assert!(!wanted.is_wanted(wanted.by));
        drop(answer);
        assert!(!wanted.is_wanted(now));
    }
}

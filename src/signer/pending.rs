//! What a worker was given and has not answered.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::signer::queue::Job;

/// Requests that are with the worker, by id.
#[derive(Default)]
pub(super) struct Pending {
    jobs: Mutex<HashMap<u64, Job>>,
    answered: Notify,
}

impl Pending {
    pub(super) fn add(&self, id: u64, job: Job) {
        self.lock().insert(id, job);
    }

    /// All of them, the first to be handed over first.
    pub(super) fn in_order(self) -> impl Iterator<Item = Job> {
        let jobs = self.jobs.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut jobs: Vec<(u64, Job)> = jobs.into_iter().collect();
        jobs.sort_unstable_by_key(|(id, _)| *id);
        jobs.into_iter().map(|(_, job)| job)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self, id: u64) -> Option<Job> {
        let job = self.lock().remove(&id);
        self.answered.notify_one();
        job
    }

    /// Waits until the worker has room. What it never answered is not waited for longer than anybody wants it.
    pub(super) async fn room(&self, window: usize) -> usize {
        loop {
            let answered = self.answered.notified();
            {
                let mut jobs = self.lock();
                if jobs.len() >= window {
                    let now = Instant::now();
                    jobs.retain(|_, job| job.is_wanted(now));
                }
                if jobs.len() < window {
                    return window.saturating_sub(jobs.len());
                }
            }
            drop(timeout(Duration::from_millis(100), answered).await);
        }
    }
}

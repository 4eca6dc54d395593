//! How often tokens were asked and how often they signed, by the gateway's own count and by the workers': the ledger is
//! held against both.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::signer::protocol::Report;

/// One token, over all lives of its worker in this run of the gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    pub lives: u64,
    /// Requests that were written to a worker, and how often one was written again, to the next worker.
    pub handed: u64,
    pub again: u64,
    /// Signatures that came back.
    pub answered: u64,
    /// By the worker: signatures begun (`C_SignInit`), and made. What a worker that was killed had not told yet is
    /// missing, except for what came back.
    pub calls: u64,
    pub made: u64,
    /// Signatures that proved keys when a worker started.
    pub proofs: u64,
}

/// Counts one token. In memory only; the audit writes down what it says.
#[derive(Debug, Default)]
pub(super) struct Counter(Mutex<Lives>);

#[derive(Debug, Default)]
struct Lives {
    past: Count,
    now: Count,
}

impl Counter {
    pub(super) fn life_begins(&self) {
        let mut lives = self.lock();
        lives.past = lives.sum();
        lives.now = Count { lives: 1, ..Count::default() };
    }

    pub(super) fn handed(&self, again: bool) {
        let now = &mut self.lock().now;
        let count = if again { &mut now.again } else { &mut now.handed };
        *count = count.saturating_add(1);
    }

    pub(super) fn answered(&self) {
        let now = &mut self.lock().now;
        now.answered = now.answered.saturating_add(1);
    }

    pub(super) fn reported(&self, report: &Report) {
        let now = &mut self.lock().now;
        (now.calls, now.made, now.proofs) = (report.calls, report.made, report.proofs);
    }

    pub(super) fn count(&self) -> Count {
        self.lock().sum()
    }

    fn lock(&self) -> MutexGuard<'_, Lives> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lives {
    fn sum(&self) -> Count {
        let (past, now) = (&self.past, &self.now);
        Count {
            lives: past.lives.saturating_add(now.lives),
            handed: past.handed.saturating_add(now.handed),
            again: past.again.saturating_add(now.again),
            answered: past.answered.saturating_add(now.answered),
            calls: past.calls.saturating_add(now.calls.max(now.answered)),
            made: past.made.saturating_add(now.made.max(now.answered)),
            proofs: past.proofs.saturating_add(now.proofs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_worker_had_not_told_is_known_by_its_answers() {
        let counter = Counter::default();
        counter.life_begins();
        counter.reported(&Report { calls: 3, made: 2, proofs: 1, ..Report::default() });
        for _ in 0..4 {
            counter.handed(false);
            counter.answered();
        }
        counter.life_begins();
        counter.handed(true);
        counter.reported(&Report { calls: 1, made: 1, proofs: 1, ..Report::default() });
        let count = Count { lives: 2, handed: 4, again: 1, answered: 4, calls: 5, made: 5, proofs: 2 };
        assert_eq!(counter.count(), count);
    }
}

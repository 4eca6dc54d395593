//! What the worker counts, for the gateway's metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::signer::protocol::Report;

/// Error codes that are told apart. A module has a few dozen; a broken one may invent more.
const CODES: usize = 64;

/// Shared by the token, its threads and the watchdog.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Threads that were given up on and have not come back.
    pub stuck: AtomicUsize,
    pub sessions: AtomicUsize,
    pub calls: AtomicU64,
    pub made: AtomicU64,
    pub proofs: AtomicU64,
    replaced: AtomicU64,
    logins: AtomicU64,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Tally {
    pub(super) fn login(&self) {
        self.logins.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn proof(&self) {
        self.proofs.fetch_add(1, Ordering::Relaxed);
    }

    /// How many are stuck now.
    pub(super) fn give_up(&self) -> usize {
        self.replaced.fetch_add(1, Ordering::Relaxed);
        self.stuck.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    pub(super) fn error(&self, code: &str) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let code = if errors.len() < CODES || errors.contains_key(code) { code } else { "other" };
        let count = errors.entry(code.to_owned()).or_default();
        *count = count.saturating_add(1);
    }

    /// What was counted since the last report, with what is so now.
    pub(super) fn report(&self, busy: usize, waiting: usize) -> Report {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        Report {
            sessions: self.sessions.load(Ordering::Relaxed),
            busy,
            waiting,
            stuck: self.stuck.load(Ordering::Relaxed),
            replaced: self.replaced.swap(0, Ordering::Relaxed),
            logins: self.logins.swap(0, Ordering::Relaxed),
            errors: std::mem::take(&mut errors),
            calls: self.calls.load(Ordering::Relaxed),
            made: self.made.load(Ordering::Relaxed),
            proofs: self.proofs.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_what_happened_since_the_last_one() {
        let tally = Tally::default();
        tally.error("C_Sign CKR_DEVICE_ERROR");
        tally.error("C_Sign CKR_DEVICE_ERROR");
        assert_eq!(tally.give_up(), 1);
        let report = tally.report(1, 2);
        assert_eq!((report.stuck, report.replaced, report.busy, report.waiting), (1, 1, 1, 2));
        assert_eq!(report.errors, [("C_Sign CKR_DEVICE_ERROR".to_owned(), 2)].into());
        let next = tally.report(0, 0);
        assert_eq!((next.stuck, next.replaced, next.errors.len()), (1, 0, 0));
    }

    #[test]
    fn inv_12_a_module_that_invents_codes_does_not_make_the_metrics_grow() {
        let tally = Tally::default();
        for code in 0..1000 {
            tally.error(&code.to_string());
        }
        assert_eq!(tally.report(0, 0).errors.len(), CODES + 1);
    }
}

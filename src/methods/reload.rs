//! A policy that is edited while the gateway runs: read again as a whole, agreed with the ledger, then in force.
//!
//! The files are looked at four times a second. Notifications of the kernel would come sooner, but not from network file
//! systems, and they watch a folder, not what is exchanged behind a symbolic link, as Kubernetes does it.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::ledger::Ledger;
use crate::policy::{ActivePolicy, Stamp};

const LOOK: Duration = Duration::from_millis(250);

/// After how long a policy that the ledger could not take is offered to it again.
const OFFER_AGAIN: Duration = Duration::from_secs(30);

/// Follows the files of the policy.
#[derive(Debug)]
pub struct PolicyReload {
    policy: Arc<ActivePolicy>,
    ledger: Ledger,
    /// What was read last, whatever came of it.
    tried: Option<Stamp>,
    /// When that is to be tried again all the same.
    again: Option<Instant>,
    /// The ledger was offered a policy and did not say that it took it.
    is_owed: bool,
}

impl PolicyReload {
    pub fn new(policy: Arc<ActivePolicy>, ledger: Ledger) -> Self {
        Self { policy, ledger, tried: None, again: None, is_owed: false }
    }

    /// Goes on until the gateway stops. A SIGHUP means "now", whether or not a change was seen.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut hangup = signal(SignalKind::hangup())
            .inspect_err(
                |error| tracing::error!(%error, "SIGHUP cannot be received; changed files are still seen"),
            )
            .ok();
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Read once more: the files may have changed between the start's look at them and this one.
        let mut seen = self.stamp().await;
        metrics::gauge!("chancery_policy_reload_failed").set(0.0);
        loop {
            let is_told = tokio::select! {
                () = stop.cancelled() => return,
                () = hung_up(&mut hangup) => true,
                _ = ticks.tick() => false,
            };
            let now = self.stamp().await;
            // Twice the same: whoever writes several files, or a long one, is done.
            let is_new = seen == now && self.tried.as_ref() != Some(&now);
            if is_told || is_new || self.again.is_some_and(|at| Instant::now() >= at) {
                self.tried = Some(now.clone());
                self.again = None;
                self.take().await;
            }
            seen = now;
        }
    }

    /// All or nothing: what is in force stays so until every file is read and the ledger counts by the new budgets.
    async fn take(&mut self) {
        let policy = Arc::clone(&self.policy);
        let outcome = match spawn_blocking(move || policy.read_again()).await {
            // The ledger may have taken what it did not say that it took, and goes by that then.
            Ok(Ok(None)) if self.is_owed => match self.ledger.activate(self.policy.now()).await {
                Ok(()) => {
                    self.is_owed = false;
                    "unchanged"
                }
                Err(error) => {
                    tracing::error!(%error, "the ledger does not say that it goes by the policy in force");
                    self.again = Instant::now().checked_add(OFFER_AGAIN);
                    "refused"
                }
            },
            Ok(Ok(None)) => "unchanged",
            Ok(Ok(Some(next))) => match self.ledger.activate(Arc::clone(&next)).await {
                Ok(()) => {
                    self.is_owed = false;
                    self.policy.replace(Arc::clone(&next));
                    tracing::info!(policy = %next.hash(), "the policy is read again, and in force");
                    "taken"
                }
                Err(error) => {
                    tracing::error!(%error, policy = %next.hash(), "the policy before stays in force: the ledger does not take the new one");
                    self.again = Instant::now().checked_add(OFFER_AGAIN);
                    self.is_owed = true;
                    "refused"
                }
            },
            Ok(Err(mistakes)) => {
                // What is mended may be a file that only the new policy names.
                self.again = Instant::now().checked_add(OFFER_AGAIN);
                for mistake in mistakes.to_string().lines() {
                    tracing::error!(%mistake, "the policy before stays in force: the files have a mistake");
                }
                "mistaken"
            }
            Err(error) => {
                tracing::error!(%error, "the policy could not be read");
                "mistaken"
            }
        };
        self.try_again().await;
        let failed = matches!(outcome, "refused" | "mistaken");
        metrics::gauge!("chancery_policy_reload_failed").set(if failed { 1.0 } else { 0.0 });
        metrics::counter!("chancery_policy_reloads_total", "outcome" => outcome).increment(1);
    }

    /// Reads the policy that is tried, where there is one; what is in force does not depend on it.
    async fn try_again(&self) {
        let policy = Arc::clone(&self.policy);
        let read = spawn_blocking(move || policy.read_tried()).await;
        let failed = match read {
            Ok(Ok(())) => false,
            Ok(Err(mistakes)) => {
                for mistake in mistakes.to_string().lines() {
                    tracing::error!(%mistake, "the policy that is tried has a mistake, and is not looked at anew");
                }
                true
            }
            Err(error) => {
                tracing::error!(%error, "the policy that is tried could not be read");
                true
            }
        };
        metrics::gauge!("chancery_policy_shadow_failed").set(if failed { 1.0 } else { 0.0 });
    }

    async fn stamp(&self) -> Stamp {
        let policy = Arc::clone(&self.policy);
        // It does not fail: the closure does not panic, and nobody aborts it.
        spawn_blocking(move || policy.stamp()).await.unwrap_or_default()
    }
}

async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => _ = hangup.recv().await,
        None => pending().await,
    }
}

//! Reads the files again when they change, and when the operator says so (SIGHUP).
//!
//! The files are looked at four times a second. Notifications of the kernel would come sooner, but not from network file
//! systems, and they watch a folder, not what is exchanged behind a symbolic link, as Kubernetes does it.

use std::future::pending;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use crate::listener::sources::Stamp;
use crate::listener::trust::Trust;

const LOOK: Duration = Duration::from_millis(250);

impl Trust {
    /// Goes on as long as the process does: also while it drains, nobody stays who is revoked.
    pub async fn follow(self) {
        let mut hangup = signal(SignalKind::hangup())
            .inspect_err(
                |error| tracing::error!(%error, "SIGHUP cannot be received; changed files are still seen"),
            )
            .ok();
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            let is_told = tokio::select! {
                () = hung_up(&mut hangup) => true,
                _ = ticks.tick() => false,
            };
            let now = self.stamp().await;
            // Twice the same: whoever writes several files, or a long one, is done.
            if is_told || (seen.as_ref() == Some(&now) && !self.has_tried(&now)) {
                self.try_again().await;
            }
            seen = Some(now);
            self.current().lifetimes.show(self.0.clock.now());
        }
    }

    async fn try_again(&self) {
        let trust = self.clone();
        match spawn_blocking(move || trust.reload()).await {
            Ok(Ok(())) => tracing::info!(
                generation = self.generation(),
                "certificates, CAs and revocation lists are read again"
            ),
            Ok(Err(why)) => {
                tracing::error!(%why, "what was read before stays in use: the files cannot be taken");
            }
            Err(why) => tracing::error!(%why, "the files could not be read"),
        }
    }

    async fn stamp(&self) -> Stamp {
        let trust = self.clone();
        // It does not fail: the closure does not panic, and nobody aborts it.
        spawn_blocking(move || trust.0.sources.stamp()).await.unwrap_or_default()
    }
}

async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => _ = hangup.recv().await,
        None => pending().await,
    }
}

//! What an auditor needs beyond the requests themselves: who came, which keys were used and how often, and proof that
//! the record is whole. Watches the other stages, and writes into the ledger what it sees.

mod access;
mod checkpoints;
mod drills;
mod keys;
mod push;
mod reconcile;
mod trust;
mod webhook;

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::ledger::{Ledger, LedgerError};

pub use access::Doors;
pub use checkpoints::{Checkpoints, Late};
pub use drills::{Backup, Drills};
pub use keys::Keys;
pub use reconcile::Reconciler;
pub use trust::TrustWatch;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);

/// How often refusals that were only counted are told, in looks.
const TELL_REFUSALS: u32 = 60;

/// Writes the audit rows that no request writes.
#[derive(Debug)]
pub struct Auditor {
    pub ledger: Ledger,
    pub doors: Doors,
    pub keys: Keys,
    pub trust: TrustWatch,
    pub reconciler: Reconciler,
    /// Where the configuration names a key for them.
    pub checkpoints: Option<Checkpoints>,
}

impl Auditor {
    /// Runs until `stop`, then writes down what is still to be said.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut since_told = 0_u32;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = looks.tick() => {}
            }
            since_told = since_told.saturating_add(1);
            if since_told >= TELL_REFUSALS {
                since_told = 0;
                said("refusals", self.ledger.tell_refusals().await);
            }
            self.doors.tell(&self.ledger, false).await;
            self.keys.look(&self.ledger).await;
            self.trust.look(&self.ledger).await;
            self.reconciler.look(&self.ledger, false).await;
            if let Some(checkpoints) = &mut self.checkpoints {
                checkpoints.look(&self.ledger, false).await;
            }
        }
        said("refusals", self.ledger.tell_refusals().await);
        self.doors.tell(&self.ledger, true).await;
        self.trust.look(&self.ledger).await;
        self.reconciler.look(&self.ledger, true).await;
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.look(&self.ledger, true).await;
        }
    }
}

fn said(what: &str, written: Result<(), LedgerError>) {
    if let Err(error) = written {
        tracing::warn!(%error, what, "audit rows could not be written; they are tried again");
    }
}

//! Accounts for which nothing is signed just now because a node's mined count jumped: for health to tell.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alloy_primitives::Address;
use tokio::time::Instant;

use crate::ledger::ReserveError;

/// How long a refusal is told: a node that came to its senses is asked again only by the next claim.
const TOLD: Duration = Duration::from_secs(60);

/// A mined count that is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    pub chain: u64,
    pub account: Address,
    /// As the node says.
    pub mined: u64,
    /// As the ledger knows.
    pub known: u64,
}

/// Lives as long as the process; no row depends on it. Bounded by the number of accounts.
#[derive(Clone, Debug, Default)]
pub(in crate::ledger) struct Doubts(Arc<Mutex<Told>>);

/// By chain and account; and when each was told.
type Told = BTreeMap<(u64, Address), (Doubt, Instant)>;

impl Doubts {
    /// A claim of this account was answered so.
    pub(in crate::ledger) fn hear<T>(
        &self,
        (chain, account): (u64, Address),
        answer: &Result<T, ReserveError>,
    ) {
        match answer {
            Err(ReserveError::MinedJump { mined, known }) => {
                let doubt = Doubt { chain, account, mined: *mined, known: *known };
                self.lock().insert((chain, account), (doubt, Instant::now()));
            }
            Ok(_) => self.end((chain, account)),
            Err(_) => {}
        }
    }

    pub(in crate::ledger) fn end(&self, account: (u64, Address)) {
        self.lock().remove(&account);
    }

    pub(in crate::ledger) fn all(&self) -> Vec<Doubt> {
        let mut doubts = self.lock();
        doubts.retain(|_, (_, since)| since.elapsed() < TOLD);
        doubts.values().map(|(doubt, _)| *doubt).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

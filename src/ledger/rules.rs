//! What claims are held against.

use std::time::Duration;

use alloy_primitives::B256;

use crate::clock::Timestamp;

/// How much longer than its own process another leaves a reservation alone.
const GRACE: Duration = Duration::from_secs(2);

/// What a claim is held against inside its commit.
#[derive(Clone, Debug)]
pub(in crate::ledger) struct Rules {
    /// The policy in force; a claim that was judged by another is judged again.
    pub policy: Option<B256>,
    pub max_open: u32,
    /// Whether a client is told why it is paused.
    pub show_pause_reason: bool,
    pub keys_kept: Duration,
    /// From a reservation to its record; past it the reservation is void.
    pub deadline: Duration,
}

impl Rules {
    /// From when on others may void what is reserved now.
    pub(in crate::ledger) fn void_at(&self, now: Timestamp) -> Timestamp {
        let wait = self.deadline.saturating_add(GRACE).as_millis();
        Timestamp::from_millis(now.millis().saturating_add(u64::try_from(wait).unwrap_or(u64::MAX)))
    }
}

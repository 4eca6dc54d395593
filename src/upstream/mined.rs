//! What the chain has mined of each account, as a round of following found it.

use std::collections::HashMap;

use alloy_primitives::Address;

use crate::ledger::Recorded;
use crate::transaction::Kind;

/// How many transactions of each account are mined; those are missing of which the node did not say it this time.
pub(super) struct Counts(pub HashMap<Address, u64>);

/// By which block transactions are counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Latest,
    Finalized,
}

impl Counts {
    /// Whether a transaction of its account is known to be mined at its nonce.
    pub(super) fn are_past<K: Kind>(&self, recorded: &Recorded<K>) -> bool {
        self.get(recorded).is_some_and(|(nonce, count)| nonce < count)
    }

    /// Whether none is known to be.
    pub(super) fn await_it<K: Kind>(&self, recorded: &Recorded<K>) -> bool {
        self.get(recorded).is_some_and(|(nonce, count)| nonce >= count)
    }

    fn get<K: Kind>(&self, recorded: &Recorded<K>) -> Option<(u64, u64)> {
        recorded.nonce().zip(self.0.get(&recorded.from()).copied())
    }
}

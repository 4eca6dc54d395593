//! A payload of the model, and what follows from it alone.

use alloy_primitives::B256;

use crate::ledger::life::State;
use crate::ledger::tests::taken::Taken;
use crate::transaction::Fees;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Payload {
    pub nonce: u64,
    pub state: State,
    pub client: u8,
    pub bid: u64,
    /// Whether the client named the nonce.
    pub wanted: bool,
    /// When it was reserved, then when it was recorded.
    pub at: u64,
    /// The widest limit of all that was in force while it was on its way.
    pub limit: u64,
    pub taken: Taken,
    /// When it was reserved, it did not outbid what a node may have had.
    pub is_too_cheap: bool,
}

pub fn fees(bid: u64) -> Fees {
    let fee = if bid == 0 { 1000 } else { 1120 };
    Fees::Dynamic { max_fee_per_gas: fee, max_priority_fee_per_gas: fee }
}

pub fn id(at: usize) -> i64 {
    i64::try_from(at).unwrap()
}

impl Payload {
    pub fn amount(&self) -> u64 {
        1 + self.bid
    }

    pub fn intent(&self) -> B256 {
        intent(self.client, self.wanted.then_some(self.nonce), self.bid)
    }
}

/// The same client's same transfer; at a nonce that it named, with the fees that it named.
pub fn intent(client: u8, wanted: Option<u64>, bid: u64) -> B256 {
    let wanted = wanted.map_or(0xff, |nonce| u8::try_from(nonce).unwrap());
    let mut intent = B256::ZERO;
    intent[..3].copy_from_slice(&[client, wanted, u8::try_from(bid).unwrap()]);
    intent
}

/// Both budgets of a payload: whose payloads it counts with, and how much it takes.
pub fn charges(client: u8, bid: u64) -> [(Option<u8>, u64); 2] {
    [(None, 1), (Some(client), 1 + bid)]
}

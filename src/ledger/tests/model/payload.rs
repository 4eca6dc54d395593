//! A payload of the model, and what follows from it alone.

use alloy_primitives::B256;

use crate::ledger::life::State;
use crate::ledger::tests::taken::Taken;
use crate::transaction::Fees;

/// A row of the database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Payload {
    pub nonce: u64,
    pub state: State,
    pub client: u8,
    /// Whether the client named the nonce.
    pub wanted: bool,
    pub bid: u128,
    pub taken: Taken,
    /// When it was reserved, it did not outbid what a node may have had.
    pub is_too_cheap: bool,
}

pub fn fees(bid: u128) -> Fees {
    // Each bid is more than a tenth above the one before.
    let fee = (0..bid).fold(1000, |fee, _| fee * 112 / 100);
    Fees::Dynamic { max_fee_per_gas: fee, max_priority_fee_per_gas: fee }
}

impl Payload {
    /// The same client's same transfer, at the same nonce where it named one.
    pub fn intent(&self) -> B256 {
        intent(self.client, self.wanted.then_some(self.nonce), self.bid)
    }
}

pub fn intent(client: u8, wanted: Option<u64>, bid: u128) -> B256 {
    let wanted = wanted.map_or(0xff, |nonce| u8::try_from(nonce).unwrap());
    // Fees that the client set belong to the intent; those that we filled in do not.
    let bid = if wanted == 0xff { 0 } else { u8::try_from(bid).unwrap() };
    let mut intent = B256::ZERO;
    intent[..3].copy_from_slice(&[client, wanted, bid]);
    intent
}

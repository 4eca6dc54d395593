//! What a transaction did when a node tried it out: balances before and after, and what its contracts said.

use alloy_primitives::{Address, B256, Bytes, U256};

/// A transaction that was tried out on the chain as it is now. What a node said, and no proof of anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Simulation {
    /// The account's nonce on the chain that it was tried out on: what is signed at another was not tried out.
    pub nonce: u64,
    /// Why it would revert, if it would.
    pub reverts: Option<String>,
    /// The account's balance before and after, in wei; fees are not taken from it.
    pub ether: (U256, U256),
    /// The account's balance of each token that was asked for, before and after.
    pub tokens: Vec<(Address, (U256, U256))>,
    /// Every event, in order.
    pub logs: Vec<Event>,
}

/// What a contract said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub address: Address,
    pub topics: Vec<B256>,
    pub data: Bytes,
}

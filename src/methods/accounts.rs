//! `eth_accounts` and its relatives: this client's accounts, in configured order, and nobody else's.

use alloy_primitives::Address;

use crate::identity::Caller;
use crate::methods::{Cause, Refusal};

pub(super) fn accounts(caller: &Caller) -> &[Address] {
    caller.accounts()
}

/// `eth_coinbase`: the first of them.
pub(super) fn coinbase(caller: &Caller) -> Result<Address, Refusal> {
    let first = caller.accounts().first().copied();
    first.ok_or_else(|| Refusal::new(Cause::AccountNotAvailable, "this client has no account"))
}

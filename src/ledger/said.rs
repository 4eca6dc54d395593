//! What the rows of the audit chain say, as far as replaying them needs it.

use alloy_primitives::{Address, B256, Bytes, U128};
use serde::Deserialize;

use crate::ledger::audit::Entry;
use crate::transaction::Fees;

#[derive(Debug, Deserialize)]
pub(in crate::ledger) struct Intent {
    pub reservation: i64,
    pub client: String,
    pub kind: String,
    pub account: Address,
    pub chain: Option<u64>,
    pub nonce: Option<u64>,
    pub max_fee: Option<U128>,
    pub max_tip: Option<U128>,
    pub max_blob_fee: Option<U128>,
    pub replaces: Option<i64>,
    pub rule: String,
    pub policy: B256,
}

#[derive(Deserialize)]
pub(in crate::ledger) struct Signature {
    pub reservation: i64,
    pub hash: B256,
    pub raw: Bytes,
}

#[derive(Deserialize)]
pub(in crate::ledger) struct Started {
    #[serde(default)]
    pub shared: bool,
}

#[derive(Deserialize)]
pub(in crate::ledger) struct Outcome {
    pub reservation: i64,
    pub outcome: String,
}

#[derive(Deserialize)]
pub(in crate::ledger) struct Final {
    pub reservation: i64,
    pub block: Option<u64>,
}

#[derive(Deserialize)]
pub(in crate::ledger) struct External {
    pub chain: u64,
    pub account: Address,
    pub first: u64,
    pub last: u64,
}

#[derive(Deserialize)]
pub(in crate::ledger) struct About {
    pub reservation: i64,
}

/// Fields that other actions have are theirs.
#[derive(Deserialize)]
pub(in crate::ledger) struct Administration {
    pub action: String,
    pub scope: Option<String>,
    pub name: Option<String>,
}

#[derive(Deserialize)]
pub(in crate::ledger) struct Agrees {
    pub agrees: bool,
}

#[derive(Deserialize)]
pub(in crate::ledger) struct Policy {
    pub policy: B256,
}

impl Intent {
    pub fn fees(&self) -> Fees {
        let fee = |fee: Option<U128>| fee.unwrap_or_default().to();
        Fees::of(fee(self.max_fee), fee(self.max_tip), self.max_blob_fee.map(|fee| fee.to()))
    }
}

pub(in crate::ledger) fn read<'a, T: Deserialize<'a>>(entry: &'a Entry) -> Result<T, String> {
    serde_json::from_str(&entry.body).map_err(|error| format!("it is no row of kind {}: {error}", entry.kind))
}

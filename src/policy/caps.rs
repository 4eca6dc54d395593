//! `[caps]`: what no transaction may go beyond, whatever the rules say. A node's quote is not trusted.

use std::collections::BTreeMap;

use alloy_primitives::U256;

use crate::policy::amount::show_wei;
use crate::policy::call::TransactionFacts;
use crate::policy::denied::{DenialCause, Denied};
use crate::policy::facts::Facts;
use crate::transaction::Blobs;

/// The caps of every chain. Coins of different chains are not worth the same, so each may have its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::policy) struct Caps {
    /// Of chains that have none of their own.
    pub others: ChainCaps,
    pub of_chain: BTreeMap<u64, ChainCaps>,
}

/// What the least that can be done uses, in gas. Nodes refuse a transaction with less, but one that is signed has to be outbid
/// to be rid of it: so its fee per gas is held against the cap as if it had this.
const TRANSFER: u64 = 21_000;

/// A missing cap is none, but for one: what nobody bounds, a node or a client could spend whole on fees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) struct ChainCaps {
    /// In wei for a unit of gas.
    pub fee_per_gas: Option<U256>,
    pub gas: Option<u64>,
    /// In wei for a unit of blob gas.
    pub fee_per_blob_gas: Option<U256>,
    /// In wei: gas limit times fee, and blobs. `None` only where the policy says "any".
    pub execution_fee: Option<U256>,
    /// In bytes.
    pub calldata: Option<u64>,
}

/// 1 ether, far above what any transaction costs.
pub(in crate::policy) const EXECUTION_FEE: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);

impl Default for ChainCaps {
    fn default() -> Self {
        Self {
            fee_per_gas: None,
            fee_per_blob_gas: None,
            gas: None,
            execution_fee: Some(EXECUTION_FEE),
            calldata: None,
        }
    }
}

impl Caps {
    pub fn of(&self, chain: u64) -> &ChainCaps {
        self.of_chain.get(&chain).unwrap_or(&self.others)
    }

    pub fn check(&self, transaction: &TransactionFacts<'_>, facts: &Facts<'_>) -> Result<(), Denied> {
        self.of(transaction.chain).check(transaction, facts)
    }
}

impl ChainCaps {
    /// All of them in a sentence.
    pub fn describe(&self, chain: u64) -> String {
        let wei = |what: &str, cap: Option<U256>| cap.map(|cap| format!("{what} {}", show_wei(cap)));
        let count = |what: &str, cap: Option<u64>, unit: &str| cap.map(|cap| format!("{what}{cap}{unit}"));
        let caps = [
            wei("a fee per gas of", self.fee_per_gas),
            wei("a fee per blob gas of", self.fee_per_blob_gas),
            wei("an execution fee of", self.execution_fee),
            count("a gas limit of ", self.gas, ""),
            count("", self.calldata, " bytes of calldata"),
        ];
        let caps: Vec<_> = caps.into_iter().flatten().collect();
        let most = if caps.is_empty() { "no cap".to_owned() } else { format!("at most {}", caps.join(", ")) };
        format!("every transaction on chain {chain}: {most}")
    }

    fn check(self, transaction: &TransactionFacts<'_>, facts: &Facts<'_>) -> Result<(), Denied> {
        let Some(asked) = transaction.asked else { return Ok(()) };
        let hold = |key: &str, what: &str, is: U256, cap: Option<U256>, show: fn(U256) -> String| match cap {
            Some(cap) if is > cap => {
                let sentence = format!(
                    "client `{}` may not {}: it has {what} {}, and the policy's cap `{key}` is {}",
                    facts.client,
                    facts.describe(),
                    show(is),
                    show(cap),
                );
                Err(Denied {
                    condition: Some(format!("caps.{key}")),
                    ..Denied::new(DenialCause::Cap, sentence)
                })
            }
            _ => Ok(()),
        };
        let count = |number: U256| number.to_string();
        let per_gas = U256::from(asked.fees().max_per_gas());
        let fee = asked.max_execution_fee().max(U256::from(TRANSFER).saturating_mul(per_gas));
        let bytes = U256::from(asked.data().len());
        let (max_gas, max_bytes) = (self.gas.map(U256::from), self.calldata.map(U256::from));
        hold("max_fee_per_gas", "a fee per gas of", per_gas, self.fee_per_gas, show_wei)?;
        let per_blob_gas = U256::from(asked.blobs().map_or(0, Blobs::max_fee_per_gas));
        hold("max_fee_per_blob_gas", "a fee per blob gas of", per_blob_gas, self.fee_per_blob_gas, show_wei)?;
        hold("max_gas", "a gas allowance of", U256::from(asked.gas()), max_gas, count)?;
        hold("max_execution_fee", "an execution fee of up to", fee, self.execution_fee, show_wei)?;
        hold("max_calldata", "as bytes of calldata", bytes, max_bytes, count)
    }
}

//! `[caps]`: what no transaction may go beyond, whatever the rules say. A node's quote is not trusted.

use alloy_primitives::U256;

use crate::policy::amount::show_wei;
use crate::policy::denied::{DenialCause, Denied};
use crate::policy::facts::{Facts, TransactionFacts};

/// A missing cap is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::policy) struct Caps {
    /// In wei for a unit of gas.
    pub max_fee_per_gas: Option<U256>,
    pub max_gas: Option<u64>,
    /// In wei: gas limit times fee.
    pub max_execution_fee: Option<U256>,
    /// In bytes.
    pub max_calldata: Option<u64>,
}

impl Caps {
    pub fn check(&self, transaction: &TransactionFacts<'_>, facts: &Facts<'_>) -> Result<(), Denied> {
        let asked = transaction.asked;
        let count = |number: U256| number.to_string();
        let gas = U256::from(asked.gas());
        let per_gas = U256::from(asked.fees().max_per_gas());
        let bytes = U256::from(asked.data().len());
        let caps: [(_, _, _, Option<U256>, &dyn Fn(U256) -> String); 4] = [
            ("max_fee_per_gas", "a fee per gas of", per_gas, self.max_fee_per_gas, &show_wei),
            ("max_gas", "a gas allowance of", gas, self.max_gas.map(U256::from), &count),
            (
                "max_execution_fee",
                "an execution fee (gas times fee per gas) of up to",
                asked.max_execution_fee(),
                self.max_execution_fee,
                &show_wei,
            ),
            ("max_calldata", "calldata in bytes of", bytes, self.max_calldata.map(U256::from), &count),
        ];
        for (key, what, is, cap, show) in caps {
            if let Some(cap) = cap
                && is > cap
            {
                let sentence = format!(
                    "client `{}` may not {}: it has {what} {}, and the policy's cap `{key}` is {}",
                    facts.client,
                    facts.describe(),
                    show(is),
                    show(cap),
                );
                let mut denied = Denied::new(DenialCause::Cap, sentence);
                denied.condition = Some(format!("caps.{key}"));
                return Err(denied);
            }
        }
        Ok(())
    }
}

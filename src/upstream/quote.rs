//! What a request needs to know before it can be filled: the mined count, and gas and fees where it left them
//! open.

use std::sync::Arc;

use alloy_primitives::U256;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::transaction::{Quote, QuotedFees, Request};
use crate::upstream::answer::read_number;
use crate::upstream::classify::{Verdict, classify, shortened};
use crate::upstream::error::METHOD_NOT_FOUND;
use crate::upstream::node::Node;
use crate::upstream::{Answer, Inner, NodeError, Upstream, UpstreamError};

/// What a transfer of ether to an account without code costs, always.
const TRANSFER: u64 = 21_000;
/// The most that a transaction may ask for where EIP-7825 holds.
const MAX_GAS: u64 = 1 << 24;

/// geth's code and words for a call that reverts.
const REVERTED: i32 = 3;
const GETHS_REVERT: &str = "execution reverted";

/// How nodes say that a call fails in the EVM without reverting.
const WOULD_FAIL: &[&str] = &[
    "gas required exceeds",
    "out of gas",
    "invalid opcode",
    "invalid jump",
    "stack underflow",
    "stack limit",
    "code size exceeded",
    "always fail",
    "evm error",
    "vm execution error",
    "cannot estimate gas",
];

/// `eth_feeHistory`, as far as we read it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FeeHistory {
    /// One more than the blocks asked for: the last is the next block's.
    #[serde(default)]
    base_fee_per_gas: Vec<String>,
}

impl Upstream {
    /// Asks side by side for everything that this request leaves open, and for nothing else; all of it one node.
    pub async fn quote(&self, request: &Request) -> Result<Quote, UpstreamError> {
        let Inner { chain_id, gas_margin, .. } = *self.0;
        let quote = |node: Arc<Node>| {
            // Boxed: five calls at once are much to carry around.
            Box::pin(async move {
                // Once, before the questions that would each ask for it.
                node.pinned().await?;
                let (mined, gas, fees) = tokio::try_join!(
                    node.mined_at_latest(request.from()),
                    node.gas(request),
                    node.fees(request.needs_fees())
                )?;
                let gas = gas.map(|estimate| with_margin(estimate, gas_margin));
                Ok(Quote { chain_id, mined, gas, fees })
            })
        };
        self.0.nodes.first(quote).await
    }
}

impl Node {
    async fn gas(&self, request: &Request) -> Result<Option<u64>, UpstreamError> {
        if request.gas().is_some() {
            return Ok(None);
        }
        match self.ask("eth_estimateGas", Some(json!([call_of(request)]))).await? {
            Answer::Error(error) => Err(not_estimated(error)),
            estimate @ Answer::Result(_) => estimate.number().map(Some),
        }
    }

    async fn fees(&self, needed: bool) -> Result<Option<QuotedFees>, UpstreamError> {
        if !needed {
            return Ok(None);
        }
        self.fees_of_all().ask(|| Box::pin(self.fees_now())).await.map(Some)
    }

    async fn fees_now(&self) -> Result<QuotedFees, UpstreamError> {
        let (history, tip, price) = tokio::try_join!(
            self.ask("eth_feeHistory", Some(json!(["0x1", "latest", []]))),
            self.ask("eth_maxPriorityFeePerGas", None),
            self.ask("eth_gasPrice", None),
        )?;
        let gas_price = price.number()?;
        // A chain without EIP-1559 knows neither of the two; that is an answer, not a failure. A node that is too
        // busy to say does not make it such a chain.
        let base_fee = match history.shape::<FeeHistory>() {
            Ok(history) => history.base_fee_per_gas.last().map(|fee| read_number(fee)).transpose()?,
            Err(UpstreamError::Node { code: METHOD_NOT_FOUND, .. }) => None,
            Err(error) => return Err(error),
        };
        let max_priority_fee = match tip.number() {
            Ok(tip) => tip,
            Err(UpstreamError::Node { .. }) => {
                base_fee.map_or(0, |base: u128| u128::saturating_sub(gas_price, base))
            }
            Err(error) => return Err(error),
        };
        Ok(QuotedFees { base_fee, max_priority_fee, gas_price })
    }
}

/// An estimate holds for the block that it was made for. What a later block does beside (a pool that brings its interest
/// up to date in each block's first call) is not in it, and a call without that gas fails and is paid for.
fn with_margin(estimate: u64, percent: u64) -> u64 {
    if estimate == TRANSFER {
        return estimate;
    }
    let margin = (estimate / 100).saturating_mul(percent);
    // No further than any transaction may go, for else the margin alone would make it one that no block takes.
    estimate.saturating_add(margin).min(estimate.max(MAX_GAS))
}

/// Why there is no estimate: because the transaction would fail, or because the node does not answer just now.
fn not_estimated(NodeError { code, message, data, held, .. }: NodeError) -> UpstreamError {
    let lower = message.to_ascii_lowercase();
    if code == REVERTED || lower.contains("revert") {
        let message = match message.split_at_checked(GETHS_REVERT.len()) {
            Some((said, why)) if said.eq_ignore_ascii_case(GETHS_REVERT) => format!("{GETHS_REVERT}{why}"),
            _ => format!("{GETHS_REVERT}: {message}"),
        };
        return UpstreamError::Reverted { message: shortened(&message), data };
    }
    match classify(&message) {
        Verdict::Refused(_, message) => UpstreamError::Reverted { message, data },
        _ if WOULD_FAIL.iter().any(|text| lower.contains(text)) => {
            UpstreamError::Reverted { message: shortened(&message), data }
        }
        _ => UpstreamError::Node { code, message, data, held },
    }
}

/// The request as an argument of `eth_estimateGas` and `eth_simulateV1`: written anew from what was understood.
pub(super) fn call_of(request: &Request) -> Value {
    let mut call = Map::new();
    call.insert("from".to_owned(), json!(request.from()));
    if let Some(to) = request.to() {
        call.insert("to".to_owned(), json!(to));
    }
    if request.value() != U256::ZERO {
        call.insert("value".to_owned(), json!(request.value()));
    }
    if !request.data().is_empty() {
        // `input` is the name in the specification; some nodes know only `data`, and equal ones are taken by all.
        call.insert("input".to_owned(), json!(request.data()));
        call.insert("data".to_owned(), json!(request.data()));
    }
    if !request.access_list().0.is_empty() {
        let items = request.access_list().0.iter();
        let items = items.map(|item| json!({ "address": item.address, "storageKeys": item.storage_keys }));
        call.insert("accessList".to_owned(), items.collect());
    }
    if let Some(blobs) = request.blobs() {
        call.insert("blobVersionedHashes".to_owned(), json!(blobs.hashes()));
        call.insert("maxFeePerBlobGas".to_owned(), json!(format!("{:#x}", blobs.max_fee_per_gas())));
    }
    if let Some(authorizations) = request.authorizations() {
        let items = authorizations.signed().iter().map(|one| {
            json!({
                "chainId": one.chain_id(), "address": one.address(), "nonce": format!("{:#x}", one.nonce()),
                "yParity": format!("{:#x}", one.y_parity()), "r": one.r(), "s": one.s(),
            })
        });
        call.insert("authorizationList".to_owned(), items.collect());
    }
    Value::Object(call)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: i32, said: &str) -> NodeError {
        NodeError { code, message: said.to_owned(), data: None, names_its_call: true, held: None }
    }

    #[test]
    fn an_estimate_gets_its_margin_and_no_more_than_a_transaction_may_have() {
        for (estimate, percent, gas) in [
            (100_000, 20, 120_000),
            (100_000, 0, 100_000),
            (21_100, 100, 42_200),
            (21_000, 20, 21_000),
            (15_000_000, 20, 1 << 24),
            (1 << 24, 20, 1 << 24),
            (30_000_000, 20, 30_000_000),
            (u64::MAX, 100, u64::MAX),
        ] {
            assert_eq!(with_margin(estimate, percent), gas, "{estimate} and {percent} %");
        }
    }

    #[test]
    fn what_would_fail_is_told_from_a_node_that_does_not_answer() {
        for (code, said, words) in [
            (3, "execution reverted: paused", "execution reverted: paused"),
            (-32000, "Execution reverted", "execution reverted"),
            (-32015, "VM execution error: revert", "execution reverted: VM execution error: revert"),
            (-32000, "gas required exceeds allowance (0)", "gas required exceeds allowance (0)"),
            (-32004, "Upfront cost exceeds account balance", "insufficient funds for gas * price + value"),
            (-32000, "invalid opcode: INVALID", "invalid opcode: INVALID"),
        ] {
            let error = not_estimated(told(code, said));
            assert!(
                matches!(&error, UpstreamError::Reverted { message, .. } if message == words),
                "{error:?}"
            );
        }
        for (code, said) in
            [(-32005, "daily request count exceeded"), (-32603, "internal error"), (-32601, "not found")]
        {
            let error = not_estimated(told(code, said));
            assert!(matches!(error, UpstreamError::Node { .. }), "{said}");
        }
    }
}

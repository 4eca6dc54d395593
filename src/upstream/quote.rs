//! What a request needs to know before it can be filled: the mined count, and gas and fees where it left them
//! open.

use alloy_primitives::U256;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::transaction::{Quote, QuotedFees, Request};
use crate::upstream::answer::read_number;
use crate::upstream::{Upstream, UpstreamError};

/// `eth_feeHistory`, as far as we read it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FeeHistory {
    /// One more than the blocks asked for: the last is the next block's.
    #[serde(default)]
    base_fee_per_gas: Vec<String>,
}

impl Upstream {
    /// Asks side by side for everything that this request leaves open, and for nothing else.
    pub async fn quote(&self, request: &Request) -> Result<Quote, UpstreamError> {
        self.pinned().await?;
        let (mined, gas, fees) =
            tokio::try_join!(self.mined(request), self.gas(request), self.fees(request.needs_fees()))?;
        Ok(Quote { chain_id: self.0.chain_id, mined, gas, fees })
    }

    async fn mined(&self, request: &Request) -> Result<u64, UpstreamError> {
        let params = json!([request.from(), "latest"]);
        self.0.client.ask("eth_getTransactionCount", Some(params)).await?.number()
    }

    async fn gas(&self, request: &Request) -> Result<Option<u64>, UpstreamError> {
        if request.gas().is_some() {
            return Ok(None);
        }
        let answer = self.0.client.ask("eth_estimateGas", Some(json!([call_of(request)]))).await?;
        answer.number().map(Some)
    }

    async fn fees(&self, needed: bool) -> Result<Option<QuotedFees>, UpstreamError> {
        if !needed {
            return Ok(None);
        }
        let client = &self.0.client;
        let (history, tip, price) = tokio::try_join!(
            client.ask("eth_feeHistory", Some(json!(["0x1", "latest", []]))),
            client.ask("eth_maxPriorityFeePerGas", None),
            client.ask("eth_gasPrice", None),
        )?;
        let gas_price = price.number()?;
        // A chain without EIP-1559 knows neither of the two; that is an answer, not a failure.
        let base_fee = match history.shape::<FeeHistory>() {
            Ok(history) => history.base_fee_per_gas.last().map(|fee| read_number(fee)).transpose()?,
            Err(UpstreamError::Node { .. }) => None,
            Err(error) => return Err(error),
        };
        let max_priority_fee = match tip.number() {
            Ok(tip) => tip,
            Err(UpstreamError::Node { .. }) => {
                base_fee.map_or(0, |base: u128| u128::saturating_sub(gas_price, base))
            }
            Err(error) => return Err(error),
        };
        Ok(Some(QuotedFees { base_fee, max_priority_fee, gas_price }))
    }
}

/// The request as an argument of `eth_estimateGas`: written anew from what was understood.
fn call_of(request: &Request) -> Value {
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
    Value::Object(call)
}

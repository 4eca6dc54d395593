//! `eth_getTransactionCount`: for our own accounts, `pending` also counts what we have reserved and signed.

use alloy_primitives::{Address, U64};
use serde_json::value::{RawValue, to_raw_value};

use crate::identity::Caller;
use crate::methods::{App, Refusal};
use crate::transaction::{address, quantity};
use crate::upstream::Answer;

pub(super) async fn transaction_count(
    app: &App,
    caller: &Caller,
    params: Option<&RawValue>,
) -> Result<Answer, Refusal> {
    let answer = app.upstream.forward(caller.room(), "eth_getTransactionCount", params).await?;
    let Some(account) = params.and_then(pending_of) else { return Ok(answer) };
    if caller.for_account(account).is_err() {
        return Ok(answer);
    }
    let Answer::Result(count) = &answer else { return Ok(answer) };
    let text = serde_json::from_slice::<String>(count.bytes()).ok();
    let Some(node) = text.and_then(|text| quantity(&text).ok()).and_then(|count| u64::try_from(count).ok())
    else {
        return Ok(answer);
    };
    // A ledger in trouble does not stop a read.
    match app.ledger.next_nonce(app.chain_id, account, node).await {
        Ok(ours) if ours > node => to_raw_value(&U64::from(ours))
            .map(|count| Answer::Result(count.into()))
            .map_err(|_| Refusal::internal()),
        _ => Ok(answer),
    }
}

/// The account, where the block asked for is `pending`.
fn pending_of(params: &RawValue) -> Option<Address> {
    let (account, block): (String, String) = serde_json::from_str(params.get()).ok()?;
    (block == "pending").then(|| address(&account).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pending_is_ours_to_answer() {
        let who = "0xd8da6bf26964af9d7eed9e03e53415d37aa96045";
        let asked = |block: &str| {
            let params = RawValue::from_string(format!(r#"["{who}","{block}"]"#)).unwrap();
            pending_of(&params)
        };
        assert_eq!(asked("pending"), Some(who.parse().unwrap()));
        assert_eq!(asked("latest"), None);
        assert_eq!(asked("0x10"), None);
    }
}

//! The methods that answer a receipt (EIP-7966): `eth_sendTransactionSync` and `eth_sendRawTransactionSync` wait until the
//! transaction is in a block, for as long as a client may wait for anything.

use std::time::Duration;

use alloy_primitives::B256;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use crate::methods::{App, Cause, Refusal, road};
use crate::transaction::quantity;
use crate::upstream::Answer;

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Until when the client wants to wait, in milliseconds as a number or a QUANTITY; never longer than it may.
pub(super) fn patience(more: &[Value]) -> Result<Instant, Refusal> {
    let latest = road::answer_by();
    let wanted = match more {
        [] | [Value::Null] => return Ok(latest),
        [Value::Number(number)] => number.as_u64(),
        [Value::String(text)] => quantity(text).ok().and_then(|wait| u64::try_from(wait).ok()),
        _ => None,
    };
    let wanted = wanted.ok_or_else(|| {
        Refusal::new(
            Cause::InvalidParams,
            "the second parameter is how many milliseconds to wait for the receipt",
        )
    })?;
    let until = Instant::now().checked_add(Duration::from_millis(wanted)).unwrap_or(latest);
    Ok(until.min(latest))
}

/// Waits for the receipt; past `until`, says that the transaction was sent and is not in a block yet.
pub(super) async fn receipt(app: &App, hash: B256, until: Instant) -> Result<Answer, Refusal> {
    let look = async {
        let params = to_raw_value(&json!([hash])).map_err(|_| Refusal::internal())?;
        loop {
            // A node that cannot be asked right now is asked again: the transaction is out.
            if let Ok(Answer::Result(found)) =
                app.upstream.forward(None, "eth_getTransactionReceipt", Some(&params)).await
                && found.bytes() != b"null"
            {
                return Ok(Answer::Result(found));
            }
            sleep(LOOK_AGAIN).await;
        }
    };
    if let Ok(found) = timeout_at(until, look).await {
        return found;
    }
    let what = format!("the transaction was sent and is not in a block yet: {hash}");
    Err(Refusal::new(Cause::NotMinedYet, what).about(hash))
}

//! `eth_sendTransaction`: the whole product, a stage a line.

use std::sync::Arc;

use alloy_primitives::B256;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use crate::identity::Caller;
use crate::ledger::{Outcome, Purpose, Recorded};
use crate::methods::receipt;
use crate::methods::road::{self, Round, Stop};
use crate::methods::{App, Cause, Refusal};
use crate::policy::Permitted;
use crate::transaction::{Draft, RequestError, Tx};

/// Answers the transaction's hash.
pub(super) async fn send_transaction(
    app: &Arc<App>,
    caller: &Caller,
    params: Option<&str>,
) -> Result<B256, Refusal> {
    let answer_by = road::answer_by();
    // Strict: what is not understood is refused.
    let request = Draft::parse(params)?;
    // May this client use this account at all?
    let caller = caller.for_account(request.from())?;
    let request = request.recovered()?.to_be_sent()?;
    let known = road::signed_here(app, request.authorizations()).await?;
    let request = request.recognising(&known)?;
    let fresh = Box::pin(async {
        // Mined count, gas and fees: asked of the node, not trusted; the policy's caps stand above them.
        let quote = road::quote(app, &request, answer_by).await?;
        // Pure, and never a field that the caller set.
        let fill = |round: Round| Ok(request.clone().fill(&quote, round.floor.as_ref())?);
        // Permitted, or the rule that said no; then everything else.
        let by = (&caller, Cause::TransactionDenied);
        road::travel(app, by, fill, |app, permitted| send(app, permitted, answer_by)).await
    });
    // A repeat that says so gets the hash of its first. What is recorded is sent until it is mined, by itself.
    let intent = (Some(app.chain_id), request.intent());
    let known = |recorded: Recorded<Tx>| recorded.hash();
    road::once(app, &caller, intent, (Purpose::Send, answer_by), known, fresh).await
}

/// The parameters of `eth_sendTransactionSync`: those of `eth_sendTransaction`, and until when to wait for the receipt.
pub(super) fn and_wait(params: Option<&str>) -> Result<(String, Instant), Refusal> {
    let params: Vec<&RawValue> =
        serde_json::from_str(params.unwrap_or("[]")).map_err(|_| RequestError::Parameters)?;
    let (transaction, more) = params.split_first().ok_or(RequestError::Parameters)?;
    let more: Result<Vec<_>, _> = more.iter().map(|one| serde_json::from_str(one.get())).collect();
    let until = receipt::patience(&more.map_err(|_| RequestError::Parameters)?)?;
    Ok((format!("[{}]", transaction.get()), until))
}

/// From here on the work goes on whether or not the client still waits.
async fn send(app: Arc<App>, permitted: Permitted<Tx>, answer_by: Instant) -> Result<B256, Stop> {
    // Nonce and audit intent in one commit; the token; the raw bytes in another: now it may leave.
    let recorded = road::record(&app, permitted, Purpose::Send, answer_by).await?;
    let hash = recorded.hash();
    let broadcast = app.tasks.spawn(broadcast(Arc::clone(&app), recorded));
    // After the record the answer is the hash, or a node's definite refusal, never "try again".
    match timeout_at(answer_by, broadcast).await.ok().and_then(Result::ok).and_then(road::refusal_of) {
        Some(refusal) => Err(Stop::Refused(refusal)),
        None => Ok(hash),
    }
}

pub(super) async fn broadcast(app: Arc<App>, recorded: Recorded<Tx>) -> Outcome {
    if !recorded.is_in_hand() {
        // A repeat of what another task hands over just now, or of what is looked after until the chain has decided.
        return recorded.overhear().await;
    }
    let outcome = app.upstream.broadcast(&recorded).await;
    let written = app.ledger.outcome(&recorded, outcome.clone()).await;
    road::told(&recorded, outcome, written)
}
